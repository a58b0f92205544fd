"""The queue of scans: submitted, claimed under a lease, finished or handed back. Every change is one transaction."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, Select, and_, func, insert, or_, select, update

from detectors.record import Record
from detectors.service.database import Database, IntegrityError, deliveries, scans
from detectors.service.errors import BusyError, ConflictError, QuotaError, UnknownScanError
from detectors.service.tokens import Token, check_valid

Status = Literal["queued", "running", "done", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
Review = Literal["none", "open", "appealed", "decided"]
REVIEWS: tuple[Review, ...] = get_args(Review)
#: Verdicts that a reviewer should look at.
QUEUED_FOR_REVIEW = ("watermark_detected", "likely_synthetic", "inconclusive")
#: Faults of the server's workers, and ends of the server itself, that one scan may meet before it is given up.
MAX_FAULTS, MAX_LOSSES = 5, 25
_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was handed in. ``path`` is where the file lies, ``name`` what its sender calls it."""

    name: str
    path: str
    uploaded: bool
    sha256: str | None = None
    bytes: int | None = None
    reference: str | None = None
    webhook: str | None = None
    idempotency_key: str | None = None

    @property
    def request(self) -> str:
        """Digest of what was asked for; the same key must always ask for the same."""
        content = self.sha256 if self.uploaded else self.path
        return hashlib.sha256(json.dumps([self.uploaded, content, self.reference, self.webhook]).encode()).hexdigest()


def new_id() -> str:
    """32 hex digits: nanoseconds since 1970, so that ids sort by age, then 64 random bits."""
    return f"{time.time_ns():016x}{secrets.token_hex(8)}"


def submit(database: Database, token: Token, given: Submission, *, max_queue: int) -> tuple[Row[Any], bool]:
    """Queues a scan; returns its row and whether it is new (False: the idempotency key was seen before).

    Errors: UnauthorisedError (the token was revoked meanwhile), ConflictError (the key came with another request),
    QuotaError, BusyError.
    """
    for _ in range(2):
        try:
            with database.write() as connection:
                check_valid(connection, token)  # an upload takes its time
                if (row := _seen(connection, token, given)) is not None:
                    return row, False
                _check_room(connection, token, max_queue)
                scan_id = new_id()
                connection.execute(insert(scans).values(
                    id=scan_id, token_id=token.id, name=given.name, path=given.path, uploaded=given.uploaded,
                    reference=given.reference, webhook=given.webhook, idempotency_key=given.idempotency_key,
                    request=given.request, sha256=given.sha256, bytes=given.bytes, status="queued",
                    created=round(time.time(), 6)))  # as exact as a datetime, so that it filters exactly
                return connection.execute(select(scans).where(scans.c.id == scan_id)).one(), True
        except IntegrityError:  # the same key at the same moment, on another server: the second look finds it
            continue
    raise ConflictError("Expected one submission with this idempotency key at a time, got several; send it again")


def check_room(database: Database, token: Token, idempotency_key: str | None, *, max_queue: int) -> None:
    """What `submit` refuses whatever the file is, to be asked before it is taken in: no room in the queue, a quota that
    is used up. A key that was seen before needs neither. Errors: QuotaError, BusyError."""
    with database.read() as connection:
        if _under_key(connection, token, idempotency_key) is None:
            _check_room(connection, token, max_queue)


def _under_key(connection: Connection, token: Token, key: str | None) -> Row[Any] | None:
    if key is None:
        return None
    return connection.execute(select(scans).where(
        scans.c.token_id == token.id, scans.c.idempotency_key == key)).one_or_none()


def _seen(connection: Connection, token: Token, given: Submission) -> Row[Any] | None:
    row = _under_key(connection, token, given.idempotency_key)
    if row is not None and row.request != given.request:
        raise ConflictError(f"Expected the same request as before under the idempotency key {given.idempotency_key!r}, "
                            f"got another one than that of scan {row.id}; use a new key")
    return row


def _check_room(connection: Connection, token: Token, max_queue: int) -> None:
    waiting = connection.execute(select(func.count()).select_from(scans).where(scans.c.status == "queued")).scalar_one()
    if waiting >= max_queue:
        raise BusyError(f"Expected room in the queue, got {waiting} scans that wait already; try again later")
    if token.hourly is not None:
        recent = connection.execute(select(func.count()).select_from(scans).where(
            scans.c.token_id == token.id, scans.c.created > time.time() - 3600)).scalar_one()
        if recent >= token.hourly:
            raise QuotaError(f"Expected at most {token.hourly} submissions an hour with this token, got more; wait, or "
                             "ask for a higher quota")


def claim(database: Database, owner: str, count: int, lease_s: float) -> list[Row[Any]]:
    """Takes up to ``count`` of the oldest scans that are due; they are this owner's until the lease ends."""
    now = time.time()
    with database.write() as connection:
        found = connection.execute(
            select(scans.c.id).where(scans.c.status == "queued", scans.c.due <= now).order_by(scans.c.due, scans.c.id)
            .limit(count).with_for_update(skip_locked=True)
        ).scalars().all()
        if not found:
            return []
        connection.execute(update(scans).where(scans.c.id.in_(found)).values(
            status="running", owner=owner, lease=now + lease_s, started=now, attempts=scans.c.attempts + 1))
        return list(connection.execute(select(scans).where(scans.c.id.in_(found)).order_by(scans.c.id)))


def renew(database: Database, owner: str, ids: Sequence[str], lease_s: float) -> None:
    """Puts off the end of this owner's leases."""
    with database.write() as connection:
        connection.execute(update(scans).where(scans.c.owner == owner, scans.c.id.in_(ids))
                           .values(lease=time.time() + lease_s))


def requeue(database: Database, owner: str | None = None) -> int:
    """Hands back what runs under a lease that has ended, and whatever ``owner`` left running when it died."""
    lost = scans.c.lease < time.time()
    if owner is not None:
        lost = or_(lost, scans.c.owner == owner)
    with database.write() as connection:
        running = and_(scans.c.status == "running", lost)
        # A file that takes the whole server down each time must not do so for ever.
        spent = connection.execute(select(scans).where(running, scans.c.attempts >= MAX_LOSSES)).all()
        for row in spent:
            _fail(connection, row, "gave-up", f"Expected to finish this scan, got {row.attempts} attempts that ended "
                  "with the server; look at its log, and submit the file again")
        return connection.execute(update(scans).where(running).values(
            status="queued", owner=None, lease=None, started=None)).rowcount


def hand_back(database: Database, owner: str, ids: Sequence[str]) -> None:
    """Queues scans again that a server which stops did not get to; they count no attempt."""
    with database.write() as connection:
        connection.execute(update(scans).where(scans.c.owner == owner, scans.c.id.in_(ids), scans.c.status == "running")
                           .values(status="queued", owner=None, lease=None, started=None,
                                   attempts=scans.c.attempts - 1))


def finish(database: Database, owner: str, scan_id: str, record: Record, times_s: Sequence[float], media: bool) -> bool:
    """Keeps a record, and queues its webhook in the same transaction. False where the lease was lost meanwhile: another
    server has, or will have, the result. ``times_s`` are those of the evidence pictures; ``media`` says that a browser
    may be able to play the file."""
    with database.write() as connection:
        changed = connection.execute(
            update(scans).where(scans.c.id == scan_id, scans.c.owner == owner, scans.c.status == "running").values(
                status="done", verdict=record.verdict, record=record.to_json(), settings=record.settings,
                sha256=record.input.sha256, bytes=record.input.bytes, finished=time.time(), owner=None, lease=None,
                pictures=json.dumps(list(times_s)), media=media,
                review="open" if record.verdict in QUEUED_FOR_REVIEW else "none")
        ).rowcount
        if changed:
            _notify(connection, connection.execute(select(scans).where(scans.c.id == scan_id)).one())
        return bool(changed)


def retry_later(database: Database, owner: str, scan_id: str, code: str, message: str) -> None:
    """After a fault of the server: once more a little later, or 'failed' after `MAX_FAULTS`."""
    with database.write() as connection:
        row = connection.execute(select(scans).where(
            scans.c.id == scan_id, scans.c.owner == owner, scans.c.status == "running")).one_or_none()
        if row is None:
            return
        faults = row.faults + 1
        if faults >= MAX_FAULTS:
            _fail(connection, row, code, message)
        else:
            connection.execute(update(scans).where(scans.c.id == scan_id).values(
                status="queued", owner=None, lease=None, started=None, faults=faults,
                due=time.time() + _RETRY_S * 2**row.faults))


def _fail(connection: Connection, row: Row[Any], code: str, message: str) -> None:
    connection.execute(update(scans).where(scans.c.id == row.id).values(
        status="failed", error_code=code, error_message=message, finished=time.time(), owner=None, lease=None))
    _notify(connection, connection.execute(select(scans).where(scans.c.id == row.id)).one())


def _notify(connection: Connection, row: Row[Any]) -> None:
    if row.webhook is None:
        return
    body = {"event": "scan.finished", "id": row.id, "status": row.status, "verdict": row.verdict,
            "reference": row.reference, "name": row.name, "sha256": row.sha256,
            "error": None if row.error_code is None else {"code": row.error_code, "message": row.error_message}}
    connection.execute(insert(deliveries).values(
        id=new_id(), scan_id=row.id, token_id=row.token_id, url=row.webhook, body=json.dumps(body), status="pending",
        due=time.time()))


def twin(database: Database, sha256: str | None, settings: str) -> Row[Any] | None:
    """A finished scan of the same bytes under the same settings."""
    if sha256 is None:
        return None
    with database.read() as connection:
        return connection.execute(select(scans).where(
            scans.c.sha256 == sha256, scans.c.settings == settings, scans.c.status == "done",
            scans.c.verdict != "error", scans.c.kept).order_by(scans.c.id).limit(1)).one_or_none()


def get(database: Database, scan_id: str, owner_token: str | None = None) -> Row[Any]:
    """One scan; with ``owner_token`` only if that token submitted it. Errors: UnknownScanError."""
    query = select(scans).where(scans.c.id == scan_id)
    if owner_token is not None:
        query = query.where(scans.c.token_id == owner_token)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise UnknownScanError("Expected the id of a scan that this token may see, got another; check the id")
    return row


def names(database: Database, ids: Collection[str]) -> dict[str, str]:
    """The names of the clips of these scans, by id."""
    with database.read() as connection:
        rows = connection.execute(select(scans.c.id, scans.c.name).where(scans.c.id.in_(ids)))
        return {row.id: row.name for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which scans to list; None does not filter. ``named`` is the id, name, reference or SHA-256 of those wanted,
    ``before`` the id that the page starts below."""

    token_id: str | None = None
    status: str | None = None
    verdict: str | None = None
    review: Sequence[str] | None = None
    sha256: str | None = None
    reference: str | None = None
    since: float | None = None
    until: float | None = None
    named: str | None = None
    before: str | None = None

    def apply(self, query: Select[Any]) -> Select[Any]:
        equal = {"token_id": self.token_id, "status": self.status, "verdict": self.verdict, "sha256": self.sha256,
                 "reference": self.reference}
        query = query.where(*(scans.c[name] == value for name, value in equal.items() if value is not None))
        if self.named is not None:
            query = query.where(or_(scans.c.id == self.named, scans.c.name == self.named,
                                    scans.c.reference == self.named, scans.c.sha256 == self.named.lower()))
        if self.review is not None:
            query = query.where(scans.c.review.in_(self.review))
        if self.since is not None:
            query = query.where(scans.c.created >= self.since)
        if self.until is not None:
            query = query.where(scans.c.created < self.until)
        return query if self.before is None else query.where(scans.c.id < self.before)


def page(database: Database, wanted: Filter, limit: int) -> tuple[list[Row[Any]], str | None]:
    """The newest scans that pass, and what to give as ``before`` for the next page (None: there is none)."""
    with database.read() as connection:
        query = wanted.apply(select(scans)).order_by(scans.c.id.desc()).limit(limit + 1)
        rows = list(connection.execute(query))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def counts(database: Database) -> dict[str, dict[str, int]]:
    """How many scans there are by status and by state of review: of the columns that have an index."""
    found = {}
    with database.read() as connection:
        for name in ("status", "review"):
            rows = connection.execute(select(scans.c[name], func.count()).group_by(scans.c[name]))
            found[name] = {str(value): int(count) for value, count in rows}
    return found


def oldest_waiting(database: Database) -> float | None:
    """When the scan that has waited longest was submitted."""
    with database.read() as connection:
        return connection.execute(select(func.min(scans.c.created)).where(scans.c.status == "queued")).scalar()
