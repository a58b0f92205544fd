"""What reviewers decide: an append-only log in which every entry carries the hash of the one before.

An entry's hash is ``SHA-256(previous hash + entry)``, the entry being JSON with sorted keys and the first "previous
hash" 64 zeros. Changing, dropping or inserting an entry breaks the chain; cutting off its end does not, so note the
last hash elsewhere from time to time (`genwm serve log` prints it).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, insert, select, text, update

from detectors.service.database import Database, log, scans
from detectors.service.errors import ConflictError, ServiceError

Action = Literal["uphold", "reject", "escalate"]
ACTIONS: tuple[Action, ...] = get_args(Action)
#: Reason codes, with the words for them and the actions that they can explain.
REASONS: dict[str, tuple[str, frozenset[str]]] = {
    "mark": ("The mark proves its origin", frozenset({"uphold"})),
    "manifest": ("A signed manifest declares it", frozenset({"uphold", "reject"})),
    "visible-traces": ("Traces of generation are visible", frozenset({"uphold"})),
    "uploader-disclosed": ("The uploader says that it is generated", frozenset({"uphold"})),
    "original-shown": ("The uploader has shown the camera original", frozenset({"reject"})),
    "false-alarm": ("The evidence does not convince", frozenset({"reject"})),
    "mark-copied": ("The mark was copied from another clip", frozenset({"reject"})),
    "permitted": ("Generated, and permitted where it was posted", frozenset({"reject", "uphold"})),
    "unclear": ("It cannot be told", frozenset({"escalate"})),
    "second-opinion": ("Someone else should look", frozenset({"escalate"})),
    "other": ("Another reason, given in words", frozenset({"uphold", "reject", "escalate"})),
}
GENESIS = "0" * 64
_NOTE_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log. ``kind`` is 'decision' or 'appeal'; ``overturns`` is None except for a decision after an
    appeal, where it says whether the decision before it fell."""

    number: int
    at: float
    scan_id: str
    by: str
    kind: Literal["decision", "appeal"]
    action: Action | None
    reason: str | None
    note: str
    verdict: str | None
    settings: str | None
    overturns: bool | None
    hash: str


def decide(
    database: Database, scan_id: str, by: str, action: str, reason: str, note: str, *, seen: int | None = None
) -> Entry:
    """Logs a decision. ``seen`` is the number of the scan's last entry that whoever decides has seen, 0 for none; None
    asks nothing. Errors: ServiceError (what was given does not hold), ConflictError (not up for review, or something
    happened since)."""
    if action not in ACTIONS:
        raise ServiceError(f"Expected an action of {', '.join(ACTIONS)}, got {action!r}; choose one")
    if reason not in REASONS or action not in REASONS[reason][1]:
        fitting = ", ".join(code for code, (_, actions) in REASONS.items() if action in actions)
        raise ServiceError(f"Expected a reason for '{action}' ({fitting}), got {reason!r}; choose one")
    note = _checked_note(note, required=reason == "other")
    with database.write() as connection:
        row = _locked_scan(connection, scan_id)
        _check_seen(connection, scan_id, seen)
        if row.review not in ("open", "appealed", "none"):
            raise ConflictError("Expected a scan that is up for review, got one that is decided; appeal it first")
        overturns = None if row.review != "appealed" or action == "escalate" else action != row.action
        entry = _append(connection, database, row, by, "decision", action, reason, note, overturns)
        # Passed on, it stays in the queue, and under appeal if it was: only a decision settles it.
        values = {} if action == "escalate" else {"review": "decided", "action": action}
        if action == "escalate" and row.review == "none":
            values = {"review": "open"}
        if values:
            connection.execute(update(scans).where(scans.c.id == scan_id).values(**values))
    return entry


def appeal(database: Database, scan_id: str, by: str, note: str, *, seen: int | None = None) -> Entry:
    """Reopens a decided scan; ``seen`` as in `decide`. Errors: ServiceError (no words), ConflictError (not decided, or
    something happened since)."""
    note = _checked_note(note, required=True)
    with database.write() as connection:
        row = _locked_scan(connection, scan_id)
        _check_seen(connection, scan_id, seen)
        if row.review != "decided":
            raise ConflictError("Expected a decided scan to appeal, got one that is not decided; wait for the decision")
        entry = _append(connection, database, row, by, "appeal", None, None, note, None)
        connection.execute(update(scans).where(scans.c.id == scan_id).values(review="appealed"))
    return entry


def history(database: Database, scan_id: str) -> list[Entry]:
    """The entries of one scan, oldest first."""
    with database.read() as connection:
        rows = connection.execute(select(log).where(log.c.scan_id == scan_id).order_by(log.c.number))
        return [_entry(row) for row in rows]


def entries(database: Database, after: int = 0, limit: int = 1000) -> list[Entry]:
    """Up to ``limit`` entries of the log with numbers above ``after``, oldest first."""
    with database.read() as connection:
        return [_entry(row) for row in _rows(connection, after, limit)]


@dataclass(frozen=True, slots=True)
class Rates:
    """Decisions by action, appeals, appeals that were decided, and those of them whose first decision fell."""

    decisions: dict[str, int]
    appeals: int
    appeals_decided: int
    overturned: int

    @property
    def overturn_rate(self) -> float | None:
        """Share of decided appeals whose decision fell; None where none was decided."""
        return self.overturned / self.appeals_decided if self.appeals_decided else None


def rates(database: Database) -> Rates:
    """Counts over the whole log. It only grows, so what this process has counted before is not read again."""
    after, counts = database.counted
    counts = counts.copy()
    for row in _all(database, after):
        entry, after = _entry(row), row.number
        counts[entry.action or entry.kind] += 1
        counts["decided"] += entry.overturns is not None
        counts["overturned"] += entry.overturns is True
    database.counted = after, counts
    return Rates({action: counts[action] for action in ACTIONS}, counts["appeal"], counts["decided"],
                 counts["overturned"])


@dataclass(frozen=True, slots=True)
class Audit:
    """The state of the chain: how many entries hold, the last hash, and the number of the first that does not."""

    entries: int
    head: str
    broken_at: int | None


def audit(database: Database) -> Audit:
    """Computes the whole chain again."""
    head, count = GENESIS, 0
    for row in _all(database):
        follows = row.number == count + 1 and row.hash == _hash(head, row.entry)
        if not follows or json.loads(row.entry)["scan_id"] != row.scan_id:
            return Audit(count, head, row.number)
        head, count = row.hash, count + 1
    return Audit(count, head, None)


def _all(database: Database, after: int = 0) -> Iterator[Row[Any]]:
    with database.read() as connection:
        while rows := _rows(connection, after, 1000):
            yield from rows
            after = rows[-1].number


def _rows(connection: Connection, after: int, limit: int) -> list[Row[Any]]:
    return list(connection.execute(select(log).where(log.c.number > after).order_by(log.c.number).limit(limit)))


def _locked_scan(connection: Connection, scan_id: str) -> Row[Any]:
    row = connection.execute(select(scans).where(scans.c.id == scan_id).with_for_update()).one()
    if row.status not in ("done", "failed"):
        raise ConflictError("Expected a finished scan, got one that still waits or runs; come back later")
    return row


def _check_seen(connection: Connection, scan_id: str, seen: int | None) -> None:
    """Two people may look at one scan: what one sends must not settle what the other did meanwhile, unseen."""
    if seen is None:
        return
    found = [_entry(row) for row in connection.execute(
        select(log).where(log.c.scan_id == scan_id).order_by(log.c.number))]
    if newer := [entry for entry in found if entry.number > seen]:
        raise ConflictError(f"Expected a look at all that was done with this scan, got one from before {_told(newer)}; "
                            "read its history, and send it again if it still holds")
    if seen not in (0, *(entry.number for entry in found[-1:])):
        raise ServiceError(f"Expected the number of this scan's last entry as 'seen', got {seen}; ask for its "
                           "decisions")


def _told(found: list[Entry]) -> str:
    return ", ".join(f"{entry.by} reopened it on appeal" if entry.kind == "appeal" else
                     f"{entry.by} decided '{entry.action}'" for entry in found[-3:])


def _append(
    connection: Connection, database: Database, scan: Row[Any], by: str, kind: Literal["decision", "appeal"],
    action: str | None, reason: str | None, note: str, overturns: bool | None,
) -> Entry:
    if not database.is_sqlite:  # SQLite's write lock is held already
        connection.execute(text("LOCK TABLE decision_log IN EXCLUSIVE MODE"))
    last = connection.execute(select(log).order_by(log.c.number.desc()).limit(1)).one_or_none()
    number, previous = (1, GENESIS) if last is None else (last.number + 1, last.hash)
    body = json.dumps({"number": number, "at": time.time(), "scan_id": scan.id, "by": by, "kind": kind,
                       "action": action, "reason": reason, "note": note, "verdict": scan.verdict,
                       "settings": scan.settings, "overturns": overturns}, sort_keys=True)
    connection.execute(insert(log).values(number=number, scan_id=scan.id, entry=body, hash=_hash(previous, body)))
    return _entry(connection.execute(select(log).where(log.c.number == number)).one())


def _hash(previous: str, entry: str) -> str:
    return hashlib.sha256((previous + entry).encode()).hexdigest()


def _entry(row: Row[Any]) -> Entry:
    return Entry(**json.loads(row.entry), hash=row.hash)


def _checked_note(note: str, *, required: bool) -> str:
    note = note.strip()
    if len(note) > _NOTE_LENGTH or (required and not note):
        raise ServiceError(f"Expected {'some words, and ' if required else ''}at most {_NOTE_LENGTH} characters, got "
                           f"{len(note)}; write why")
    return note
