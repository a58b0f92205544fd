"""Signed notices of finished scans: where they may go, how they are signed, and how they are sent again.

A delivery is a POST of JSON with the headers ``X-Genwm-Delivery`` (an id, the same at each attempt),
``X-Genwm-Timestamp`` (seconds since 1970) and ``X-Genwm-Signature``: ``v1=`` and the hex digits of
``HMAC-SHA256(secret, timestamp + "." + body)``. `verify` is the receiver's side.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import Row, Select, func, select, update

from detectors.record import printable
from detectors.service.config import Config
from detectors.service.database import Database, deliveries
from detectors.service.errors import WebhookRefusedError, brief
from genwm import __version__
from genwm.text import shown

TIMESTAMP, SIGNATURE, DELIVERY = "X-Genwm-Timestamp", "X-Genwm-Signature", "X-Genwm-Delivery"
#: What becomes of an attempt: 'failed' is the last one.
RESULTS = ("delivered", "retried", "failed")
_THREADS = 4
_URL_LENGTH = 2000
_PAUSE_S = 1.0
#: What Python takes for public, and yet may lead to an address inside: translators to IPv4, IPv4 in IPv6, site-local.
_INWARD = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10", "192.0.0.0/24")))
_log = logging.getLogger("genwm.serve")


def secret_of(master: bytes, token_id: str) -> str:
    """The signing secret of a token's webhooks, 64 hex digits: HMAC-SHA256 of its id under the server's secret."""
    return hmac.new(master, f"webhook/{token_id}".encode(), hashlib.sha256).hexdigest()


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the signature header."""
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = 300.0) -> bool:
    """Whether a delivery was signed with ``secret`` within ``tolerance_s`` of now; older ones may be replayed."""
    given = {name.lower(): value for name, value in headers.items()}
    stamp, signature = given.get(TIMESTAMP.lower(), ""), given.get(SIGNATURE.lower(), "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp)) > tolerance_s:
        return False
    return hmac.compare_digest(sign(secret, int(stamp), body).encode(), signature.encode("utf-8", "replace"))


def check_url(url: str, config: Config) -> SplitResult:
    """The parts of a URL that a webhook may go to, by scheme and host name. Errors: WebhookRefusedError.

    Addresses are looked at when it is sent, by `address_of`: a name can point elsewhere by then.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= _URL_LENGTH
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.password or not plain:
        raise WebhookRefusedError("Expected an http or https URL without a password as webhook, got something else; "
                                  "give one such as https://hooks.example.com/genwm")
    if not any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in config.webhook_hosts):
        raise WebhookRefusedError(f"Expected a webhook host that this server allows, got {host!r}; ask its operator "
                                  "for --webhook-host")
    if not config.webhook_private:
        with suppress(ValueError):
            _check_address(ipaddress.ip_address(host), host)
    return parts


def address_of(host: str, port: int, *, private: bool) -> str:
    """One address of a host, none of whose addresses may be private. Errors: WebhookRefusedError, OSError."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not private:
        for address in found:
            _check_address(ipaddress.ip_address(address.partition("%")[0]), host)
    return found[0]


def _check_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address, host: str) -> None:
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    if not (inner.is_global and address.is_global) or address.is_multicast or _leads_inside(address):
        raise WebhookRefusedError(f"Expected a webhook host with a public address, got {host!r}; the server's operator "
                                  "can allow private ones with --webhook-private")


def _leads_inside(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address.version == network.version and address in network for network in _INWARD)


def post(url: str, body: bytes, headers: Mapping[str, str], config: Config) -> int:
    """Sends one delivery and returns the HTTP status. Goes to the very address that was checked, follows no redirect,
    reads no body, and takes ``config.webhook_timeout_s`` at most, however slowly the other side answers.

    Errors: WebhookRefusedError, OSError, http.client.HTTPException.
    """
    parts = check_url(url, config)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    deadline = time.monotonic() + config.webhook_timeout_s
    address = address_of(host, port, private=config.webhook_private)
    connection = http.client.HTTPConnection(host, port)
    connection.sock = socket.create_connection((address, port), timeout=config.webhook_timeout_s)
    end = threading.Timer(max(0.0, deadline - time.monotonic()), _hang_up, (connection,))
    end.start()
    try:
        if parts.scheme == "https":
            secured = ssl.create_default_context().wrap_socket(
                connection.sock, server_hostname=host, do_handshake_on_connect=False)
            connection.sock = secured
            secured.do_handshake()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Host": parts.netloc, **headers})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"no answer within {config.webhook_timeout_s:g} s") from None
        raise
    finally:
        end.cancel()
        connection.close()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    """Makes whatever waits on the connection fail at once."""
    with suppress(OSError):
        if (line := connection.sock) is not None:
            socket.socket.shutdown(line, socket.SHUT_RDWR)


def _due() -> Select[Any]:
    return (select(deliveries).where(deliveries.c.status == "pending", deliveries.c.due <= time.time())
            .order_by(deliveries.c.due).limit(1))


def lag_s(database: Database) -> float:
    """Seconds by which the delivery that has been due longest is overdue."""
    with database.read() as connection:
        due = connection.execute(select(func.min(deliveries.c.due)).where(deliveries.c.status == "pending")).scalar()
    return 0.0 if due is None else max(0.0, time.time() - due)


class Courier:
    """Threads that deliver what is due, so that one receiver that never answers does not hold up the others."""

    def __init__(self, database: Database, config: Config, secret: bytes, done: Callable[[str], None]) -> None:
        self._database, self._config, self._secret, self._done = database, config, secret, done
        self._closed, self._news = threading.Event(), threading.Condition()
        self._threads = [threading.Thread(target=self._run, name="genwm-webhooks", daemon=True)
                         for _ in range(_THREADS)]
        self._troubles: dict[threading.Thread, str] = {}

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def fault(self) -> str | None:
        """Why webhooks are not sent, in words; None while all is well. What receivers answer is no fault."""
        if dead := sum(not thread.is_alive() for thread in self._threads):
            return f"{dead} of the {_THREADS} threads that send them have ended"
        return next(iter(list(self._troubles.values())), None)

    def wake(self) -> None:
        """Looks for due deliveries now rather than in a second."""
        with self._news:
            self._news.notify_all()

    def stop(self) -> None:
        """Begins no more deliveries; what is left is sent by the next server."""
        self._closed.set()
        self.wake()

    def close(self, deadline: float) -> None:
        """Waits for the deliveries under way, until ``deadline`` (by `time.monotonic`) at most."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        this = threading.current_thread()
        while not self._closed.is_set():
            try:
                row = self._claim()
                if row is not None:
                    self._deliver(row)
                self._troubles.pop(this, None)
            except Exception as error:  # the database is away: a claim that was not noted is due again by itself
                words = brief(error)
                if self._troubles.get(this) != words:
                    _log.exception("cannot go on with webhooks; trying again")
                self._troubles[this] = words
                self._closed.wait(_PAUSE_S)
                continue
            if row is None:
                with self._news:
                    self._news.wait(1.0)

    def _claim(self) -> Row[Any] | None:
        """Takes a delivery by putting off when it is due, past the end of this attempt: no two threads or servers send
        it at once, and one whose server dies is due again."""
        with self._database.read() as connection:
            if connection.execute(_due()).one_or_none() is None:
                return None  # without taking the write lock
        with self._database.write() as connection:
            row = connection.execute(_due().with_for_update(skip_locked=True)).one_or_none()
            if row is not None:
                connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(
                    attempts=row.attempts + 1, due=time.time() + 3 * self._config.webhook_timeout_s))
        return row

    def _deliver(self, row: Row[Any]) -> None:
        body, timestamp = row.body.encode(), int(time.time())
        headers = {"Content-Type": "application/json", "User-Agent": f"genwm/{__version__}", DELIVERY: row.id,
                   TIMESTAMP: str(timestamp),
                   SIGNATURE: sign(secret_of(self._secret, row.token_id), timestamp, body)}
        error: str | None
        final = False
        try:
            status = post(row.url, body, headers, self._config)
            error = None if 200 <= status < 300 else f"HTTP status {status}"
        except WebhookRefusedError as refused:
            error, final = str(refused), True
        except Exception as failure:  # whatever a receiver does counts as an attempt
            error = printable(str(failure)).replace("\0", "?") or type(failure).__name__  # PostgreSQL keeps no NUL
        self._note(row, error, final)

    def _note(self, row: Row[Any], error: str | None, final: bool) -> None:
        delays = self._config.webhook_delays_s
        if error is None:
            values: dict[str, Any] = {"status": "delivered", "delivered": time.time(), "error": None}
        elif final or row.attempts >= len(delays):
            values = {"status": "failed", "error": error[:500]}
        else:
            values = {"due": time.time() + delays[row.attempts], "error": error[:500]}
        with self._database.write() as connection:
            connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(**values))
        if values.get("status") == "failed":
            _log.warning("the webhook of scan %s to %s is given up: %s", row.scan_id, urlsplit(row.url).hostname,
                         shown(error or ""))
        self._done(values.get("status", "retried"))
