"""Webhooks: where they may go, how they are signed, and how they are sent again."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from detectors.service import webhooks
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.database import Database, deliveries
from detectors.service.errors import WebhookRefusedError
from detectors.service.tokens import find_token, new_token
from detectors.service.webhooks import Courier, address_of, check_url, lag_s, post, secret_of, sign, verify
from tests.detectors.service.stub import StubScanner, settings

CONFIG = Config(folder=Path("unused"), webhook_hosts=("hooks.example.com", "*.example.org"))


class _Receiver(BaseHTTPRequestHandler):
    """Answers with the statuses of ``answers``, then 204; keeps what it got."""

    answers: ClassVar[list[int]] = []
    got: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((dict(self.headers), body))
        status = self.answers.pop(0) if self.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    _Receiver.answers.clear()
    _Receiver.got.clear()
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?a=1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(folder=tmp_path / "data", webhook_hosts=("127.0.0.1",), webhook_private=True, min_free_bytes=0,
                  webhook_timeout_s=2.0, webhook_delays_s=(0.05, 0.05))


def _delivery(config: Config, url: str, content: bytes = b"mark") -> Any:
    """Submits a file with a webhook and waits for what becomes of the delivery."""
    with TestClient(create_app(config, settings(), StubScanner)) as client:
        database = client.app.state.database  # type: ignore[attr-defined]
        token = new_token(database, "bot", "submit")
        answer = client.post("/v1/scans", files={"file": ("clip", content)}, data={"webhook": url, "reference": "r"},
                             headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 202
        secret = secret_of(config.secret(), find_token(database, "bot").id)
        for _ in range(500):
            with database.read() as connection:
                row = connection.execute(select(deliveries)).one_or_none()
            if row is not None and row.status != "pending":
                return row, secret, answer.json()["id"]
            time.sleep(0.02)
    raise AssertionError(row)


def test_a_finished_scan_is_told_and_signed(config: Config, receiver: str) -> None:
    row, secret, scan_id = _delivery(config, receiver)
    assert (row.status, row.attempts) == ("delivered", 1)
    (headers, body), = _Receiver.got
    assert verify(secret, headers, body)
    assert not verify("0" * 64, headers, body)
    assert not verify(secret, headers, body + b" ")
    assert not verify(secret, {**headers, webhooks.TIMESTAMP: "1"}, body)
    told = json.loads(body)
    assert (told["id"], told["verdict"], told["reference"]) == (scan_id, "watermark_detected", "r")


def test_a_signature_is_plain_hmac() -> None:
    import hashlib
    import hmac

    expected = hmac.new(b"key", b"1700000000.{}", hashlib.sha256).hexdigest()
    assert sign("key", 1_700_000_000, b"{}") == f"v1={expected}"
    headers = {"x-genwm-timestamp": "1700000000", "X-GENWM-SIGNATURE": f"v1={expected}"}
    assert verify("key", headers, b"{}", tolerance_s=1e12)
    assert not verify("key", headers, b"{}")
    for bad in ("", "²", "-1", "1e9"):
        assert not verify("key", {**headers, "x-genwm-timestamp": bad}, b"{}", tolerance_s=1e12)


def test_a_receiver_that_fails_is_asked_again(config: Config, receiver: str) -> None:
    _Receiver.answers[:] = [500, 302]
    row, secret, _ = _delivery(config, receiver)
    assert (row.status, row.attempts) == ("delivered", 3)
    assert len({headers[webhooks.DELIVERY] for headers, _ in _Receiver.got}) == 1
    assert all(verify(secret, headers, body) for headers, body in _Receiver.got)


def test_after_the_last_attempt_it_has_failed(
    config: Config, receiver: str, caplog: pytest.LogCaptureFixture
) -> None:
    _Receiver.answers[:] = [500] * 5
    row, _, _ = _delivery(config, receiver)
    assert (row.status, row.attempts, row.error) == ("failed", 3, "HTTP status 500")
    assert caplog.messages == [f"the webhook of scan {row.scan_id} to 127.0.0.1 is given up: HTTP status 500"]


def test_a_receiver_that_never_answers_is_given_up(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        short = replace(config, webhook_timeout_s=0.3, webhook_delays_s=())
        row, _, _ = _delivery(short, f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert (row.status, row.error) == ("failed", "no answer within 0.3 s")


def test_one_that_answers_a_byte_at_a_time_is_given_up_too(config: Config) -> None:
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while not stop.is_set():
                try:
                    connection.send(b"H")
                except OSError:
                    return
                stop.wait(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(TimeoutError, match="no answer within"):
            post(url, b"{}", {}, replace(config, webhook_timeout_s=0.5))
        stop.set()
        thread.join()


def test_one_that_does_not_listen_is_an_error_in_words(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    row, _, _ = _delivery(replace(config, webhook_delays_s=()), f"http://127.0.0.1:{port}/")
    assert row.status == "failed"
    assert "refused" in row.error.lower()


@pytest.mark.parametrize("kind", ["read", "write"])
def test_the_threads_outlive_a_database_that_is_away(
    config: Config, receiver: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(webhooks, "_PAUSE_S", 0.02)
    with TestClient(create_app(config, settings(), StubScanner)) as client:
        state = client.app.state.genwm  # type: ignore[attr-defined]
        token = new_token(state.database, "bot", "submit")
        client.headers["Authorization"] = f"Bearer {token}"
        inner, away = getattr(Database, kind), threading.Event()
        away.set()

        def failing(self: Database) -> Any:
            if away.is_set() and threading.current_thread().name == "genwm-webhooks":
                raise OperationalError("SELECT secret", {}, Exception("server closed the connection"))
            return inner(self)

        monkeypatch.setattr(Database, kind, failing)
        assert client.post("/v1/scans", files={"file": b"mark"}, data={"webhook": receiver}).status_code == 202
        for _ in range(500):
            if state.courier.fault is not None:
                break
            time.sleep(0.02)
        problems = client.get("/health/ready").json()["problems"]
        assert problems == ["Webhooks are in trouble: OperationalError: server closed the connection."]
        for _ in range(500):
            if lag_s(state.database) > 0.05:
                break
            time.sleep(0.02)
        lag = re.search(r"^genwm_webhook_lag_seconds (.+)$", client.get("/metrics").text, re.MULTILINE)
        assert lag is not None
        assert float(lag[1]) > 0
        away.clear()
        for _ in range(500):
            if _Receiver.got and state.courier.fault is None and lag_s(state.database) == 0:
                break
            time.sleep(0.02)
        assert len(_Receiver.got) == 1
        assert client.get("/health/ready").status_code == 200
        assert sum(thread.name == "genwm-webhooks" for thread in threading.enumerate()) == 4
    assert not any(thread.name == "genwm-webhooks" for thread in threading.enumerate())


def test_a_thread_that_has_ended_is_told(config: Config) -> None:
    config.prepare()
    database = Database(config.url)
    courier = Courier(database, config, b"0" * 32, lambda result: None)
    courier.start()
    assert courier.fault is None
    courier.stop()
    courier.close(time.monotonic() + 5)
    assert courier.fault == "4 of the 4 threads that send them have ended"
    database.close()


def test_whatever_a_receiver_does_is_an_attempt(
    config: Config, receiver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(*_: Any) -> int:
        raise RuntimeError("a fault\0that nobody thought of")

    monkeypatch.setattr(webhooks, "post", odd)
    row, _, _ = _delivery(config, receiver)
    assert (row.status, row.attempts, row.error) == ("failed", 3, "a fault?that nobody thought of")


@pytest.mark.parametrize("url", ["https://hooks.example.com/x", "http://a.example.org:8080", "https://HOOKS.example.com"])
def test_allowed_hosts(url: str) -> None:
    assert check_url(url, CONFIG).hostname


@pytest.mark.parametrize("url", [
    "https://example.com/", "https://hooks.example.com.evil.net/", "https://hooks.example.com@evil.net/",
    "https://user:word@hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com/", "//hooks.example.com/",
    "https://hooks.example.com:99999/", "https://hooks.example.com/\r\nX: y", "https://[::1/", "", "https:///x",
    "https://hooks.example.com/" + "x" * 3000, "https://hooks.example.com/ü",
])  # fmt: skip
def test_refused_urls(url: str) -> None:
    with pytest.raises(WebhookRefusedError, match="Expected"):
        check_url(url, CONFIG)


@pytest.mark.parametrize("host", [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
    "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:10.0.0.1]", "[2002:7f00:1::]", "[64:ff9b::a00:1]",
    "[64:ff9b:1::a00:1]", "[::127.0.0.1]", "[fec0::1]", "192.0.0.8",
])  # fmt: skip
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(WebhookRefusedError, match="public address"):
        check_url(f"http://{host}/", replace(CONFIG, webhook_hosts=("*",)))
    assert check_url(f"http://{host}/", replace(CONFIG, webhook_hosts=("*",), webhook_private=True))


@pytest.mark.parametrize("answer", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::1"], ["fe80::1%eth0"]])
def test_a_name_that_leads_to_a_private_address_is_refused(answer: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in answer]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(WebhookRefusedError, match="public address"):
        address_of("hooks.example.com", 443, private=False)
    assert address_of("hooks.example.com", 443, private=True) == answer[0]


def test_webhooks_are_off_unless_a_host_is_allowed(tmp_path: Path) -> None:
    with TestClient(create_app(Config(folder=tmp_path, min_free_bytes=0), settings(), StubScanner)) as client:
        token = new_token(client.app.state.database, "bot", "submit")  # type: ignore[attr-defined]
        answer = client.post("/v1/scans", files={"file": b"x"}, data={"webhook": "https://hooks.example.com/"},
                             headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "webhook-refused")
    assert list((tmp_path / "uploads").iterdir()) == []
