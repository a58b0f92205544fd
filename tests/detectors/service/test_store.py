"""The queue, tokens and decision log, on a database in a file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the service is not tested: it needs the extra 'serve'")

from sqlalchemy import delete, text, update
from sqlalchemy.exc import IntegrityError

from detectors.service import decisions, scans
from detectors.service.database import Database, log, meta
from detectors.service.database import scans as table
from detectors.service.errors import BusyError, ConflictError, QuotaError, ServiceError, UnauthorisedError
from detectors.service.scans import Filter, Submission
from detectors.service.tokens import (
    Token,
    check_token,
    list_tokens,
    log_in,
    new_token,
    revoke_token,
    session_of,
)
from tests.detectors.service.stub import record_of, settings


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """SQLite; or, with GENWM_TEST_DATABASE set to the URL of an empty PostgreSQL database, that one."""
    url = os.environ.get("GENWM_TEST_DATABASE", f"sqlite:///{tmp_path / 'service.sqlite'}")
    opened = Database(url)
    if not opened.is_sqlite:
        with opened.write() as connection:
            connection.execute(text("TRUNCATE decision_log, deliveries, scans, sessions, tokens"))
    yield opened
    opened.close()


@pytest.fixture
def token(database: Database) -> Token:
    return check_token(database, new_token(database, "bot", "submit"))


def _submit(database: Database, token: Token, path: str = "a", **options: Any) -> str:
    row, _ = scans.submit(database, token, Submission(name=path, path=path, uploaded=False, **options), max_queue=1000)
    return str(row.id)


def _finished(database: Database, token: Token, content: bytes = b"mark", **options: Any) -> str:
    scan_id = _submit(database, token, **options)
    scans.claim(database, "one", 10, 30)
    assert scans.finish(database, "one", scan_id, record_of(Path("a"), content, settings()), [0.5], True)
    return scan_id


def test_a_scan_is_claimed_once_and_oldest_first(database: Database, token: Token) -> None:
    ids = [_submit(database, token, str(number)) for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda owner: scans.claim(database, f"owner {owner}", 5, 30), range(8)))
    assert sorted(row.id for rows in taken for row in rows) == ids
    assert scans.claim(database, "late", 5, 30) == []


def test_what_a_dead_server_ran_is_queued_again(database: Database, token: Token) -> None:
    lost, kept = _submit(database, token, "lost"), _submit(database, token, "kept")
    scans.claim(database, "dead", 1, 30)
    scans.claim(database, "alive", 1, 30)
    assert scans.requeue(database) == 0
    assert scans.requeue(database, "dead") == 1
    assert scans.get(database, lost).status == "queued"
    assert scans.get(database, kept).status == "running"


def test_an_ended_lease_is_queued_again_and_its_late_result_dropped(database: Database, token: Token) -> None:
    scan_id = _submit(database, token)
    scans.claim(database, "slow", 1, -1)
    assert scans.requeue(database) == 1
    scans.claim(database, "quick", 1, 30)
    record = record_of(Path("a"), b"mark", settings())
    assert not scans.finish(database, "slow", scan_id, record, [], False)
    assert scans.finish(database, "quick", scan_id, record, [], False)
    assert not scans.finish(database, "quick", scan_id, record, [], False)


def test_a_scan_that_always_faults_ends_as_failed(database: Database, token: Token) -> None:
    scan_id = _submit(database, token)
    for _ in range(scans.MAX_FAULTS):
        with database.write() as connection:
            connection.execute(update(table).values(due=0.0))
        assert scans.claim(database, "one", 1, 30)
        scans.retry_later(database, "one", scan_id, "worker-failed", "no worker starts")
    row = scans.get(database, scan_id)
    assert (row.status, row.error_code) == ("failed", "worker-failed")


def test_one_that_takes_the_server_down_each_time_is_given_up(database: Database, token: Token) -> None:
    scan_id = _submit(database, token)
    for _ in range(scans.MAX_LOSSES):
        assert scans.claim(database, "one", 1, 30)
        scans.requeue(database, "one")
    assert scans.get(database, scan_id).error_code == "gave-up"


def test_handing_back_counts_no_attempt(database: Database, token: Token) -> None:
    scan_id = _submit(database, token)
    scans.claim(database, "one", 1, 30)
    scans.hand_back(database, "one", [scan_id])
    row = scans.get(database, scan_id)
    assert (row.status, row.attempts) == ("queued", 0)


def test_an_idempotency_key_gives_one_scan(database: Database, token: Token) -> None:
    given = Submission(name="a", path="a", uploaded=False, idempotency_key="k")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: scans.submit(database, token, given, max_queue=10), range(16)))
    assert len({row.id for row, _ in found}) == 1
    assert sum(created for _, created in found) == 1
    other = Submission(name="b", path="b", uploaded=False, idempotency_key="k")
    with pytest.raises(ConflictError, match="another one than that of scan"):
        scans.submit(database, token, other, max_queue=10)


def test_queue_and_quota_have_an_end(database: Database) -> None:
    limited = check_token(database, new_token(database, "limited", "submit", hourly=2))
    _submit(database, limited)
    _submit(database, limited)
    with pytest.raises(QuotaError):
        _submit(database, limited)
    other = check_token(database, new_token(database, "other", "submit"))
    with pytest.raises(BusyError):
        scans.submit(database, other, Submission(name="a", path="a", uploaded=False), max_queue=2)


def test_pages_follow_on_each_other(database: Database, token: Token) -> None:
    ids = [_submit(database, token, str(number), reference=str(number % 2)) for number in range(7)]
    found, before = [], None
    while True:
        rows, before = scans.page(database, Filter(reference="0", before=before), 2)
        found += [row.id for row in rows]
        if before is None:
            break
    assert found == ids[::2][::-1]


def test_tokens_are_kept_as_hashes_and_stop_at_once(database: Database, tmp_path: Path) -> None:
    secret = new_token(database, "alice", "review")
    with database.engine.connect() as connection:
        kept = str(connection.execute(text("SELECT * FROM tokens")).all())
    assert secret not in kept
    assert secret.rsplit("_", 1)[1] not in kept
    cookie = log_in(database, secret, 60)
    assert check_token(database, secret).name == "alice"
    session = session_of(database, cookie)
    assert session is not None
    assert session.token.name == "alice"
    revoke_token(database, "alice")
    for bad in (secret, secret[:-1] + "!", "", "genwm_"):
        with pytest.raises(UnauthorisedError):
            check_token(database, bad)
    assert session_of(database, cookie) is None
    assert [found.revoked is not None for found in list_tokens(database)] == [True]
    with pytest.raises(ServiceError, match="taken"):
        new_token(database, "alice", "review")


def test_an_ended_session_is_none(database: Database) -> None:
    secret = new_token(database, "alice", "review")
    assert session_of(database, log_in(database, secret, -1)) is None
    assert session_of(database, "made up") is None


def test_an_overturned_appeal_counts(database: Database, token: Token) -> None:
    first, second = _finished(database, token), _finished(database, token)
    for scan_id in (first, second):
        decisions.decide(database, scan_id, "alice", "uphold", "mark", "")
        decisions.appeal(database, scan_id, "alice", "I filmed this")
    decisions.decide(database, first, "bob", "escalate", "second-opinion", "")
    assert scans.get(database, first).review == "appealed"
    assert decisions.decide(database, first, "carol", "reject", "original-shown", "").overturns is True
    assert decisions.decide(database, second, "bob", "uphold", "mark", "").overturns is False
    rates = decisions.rates(database)
    assert (rates.appeals, rates.appeals_decided, rates.overturned, rates.overturn_rate) == (2, 2, 1, 0.5)
    assert rates.decisions == {"uphold": 3, "reject": 1, "escalate": 1}
    assert [entry.kind for entry in decisions.history(database, second)] == ["decision", "appeal", "decision"]


@pytest.mark.parametrize(("action", "reason", "note"), [
    ("delete", "mark", ""), ("uphold", "false-alarm", ""), ("uphold", "other", "  "),
    ("reject", "false-alarm", "x" * 2001),
])  # fmt: skip
def test_a_decision_that_does_not_hold_is_refused(
    database: Database, token: Token, action: str, reason: str, note: str
) -> None:
    scan_id = _finished(database, token)
    with pytest.raises(ServiceError):
        decisions.decide(database, scan_id, "alice", action, reason, note)
    assert decisions.audit(database).entries == 0


def test_only_what_is_finished_and_undecided_is_decided(database: Database, token: Token) -> None:
    waiting = _submit(database, token, "w")
    with pytest.raises(ConflictError, match="finished"):
        decisions.decide(database, waiting, "alice", "uphold", "mark", "")
    done = _finished(database, token)
    with pytest.raises(ConflictError, match="not decided"):
        decisions.appeal(database, done, "alice", "why")
    decisions.decide(database, done, "alice", "uphold", "mark", "")
    with pytest.raises(ConflictError, match="appeal it first"):
        decisions.decide(database, done, "bob", "reject", "false-alarm", "")


def test_concurrent_decisions_make_one_chain(database: Database, token: Token) -> None:
    ids = [_finished(database, token) for _ in range(12)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda scan_id: decisions.decide(database, scan_id, "a", "uphold", "mark", ""), ids))
    checked = decisions.audit(database)
    assert (checked.entries, checked.broken_at) == (12, None)
    assert checked.head == decisions.entries(database)[-1].hash


@pytest.mark.skipif("GENWM_TEST_DATABASE" in os.environ, reason="SQLite's triggers")
def test_the_log_can_only_grow(database: Database, token: Token) -> None:
    decisions.decide(database, _finished(database, token), "alice", "uphold", "mark", "")
    for change in (update(log).values(entry="{}"), delete(log)):
        with pytest.raises(IntegrityError, match="append-only"), database.write() as connection:
            connection.execute(change)


@pytest.mark.skipif("GENWM_TEST_DATABASE" in os.environ, reason="SQLite's triggers")
@pytest.mark.parametrize("change", [
    "UPDATE decision_log SET entry = 'x'", "UPDATE OR REPLACE decision_log SET number = 1", "DELETE FROM decision_log",
    "INSERT OR REPLACE INTO decision_log SELECT number, scan_id, 'x', hash FROM decision_log",
    "REPLACE INTO decision_log (rowid, scan_id, entry, hash) SELECT rowid, scan_id, 'x', hash FROM decision_log",
    "INSERT INTO decision_log SELECT number, scan_id, 'x', hash FROM decision_log WHERE true "
    "ON CONFLICT (number) DO UPDATE SET entry = 'x'",
    "INSERT INTO decision_log SELECT number + 7, scan_id, 'x', hash FROM decision_log",
    "INSERT INTO decision_log SELECT -number, scan_id, 'x', hash FROM decision_log",
])  # fmt: skip
def test_any_client_of_the_file_can_only_append_to_the_log(database: Database, token: Token, change: str) -> None:
    for _ in range(2):
        decisions.decide(database, _finished(database, token), "alice", "uphold", "mark", "")
    kept = decisions.entries(database)
    with closing(sqlite3.connect(str(database.engine.url.database))) as other:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            other.execute(change)
        other.commit()
    assert decisions.entries(database) == kept
    decisions.decide(database, _finished(database, token), "alice", "uphold", "mark", "")
    assert decisions.audit(database).entries == 3


@pytest.mark.parametrize("how", ["changed", "dropped", "moved"])
def test_tampering_breaks_the_chain(database: Database, token: Token, how: str) -> None:
    ids = [_finished(database, token) for _ in range(3)]
    for scan_id in ids:
        decisions.decide(database, scan_id, "alice", "uphold", "mark", "")
    second = decisions.entries(database)[1]
    with database.write() as connection:
        for what in ("UPDATE", "DELETE") if database.is_sqlite else ():
            connection.execute(text(f"DROP TRIGGER decision_log_no_{what}"))
        row = log.c.number == 2
        if how == "changed":
            entry = json.loads(connection.execute(text("SELECT entry FROM decision_log WHERE number = 2")).scalar_one())
            connection.execute(update(log).where(row).values(entry=json.dumps({**entry, "by": "bob"}, sort_keys=True)))
        elif how == "dropped":
            connection.execute(delete(log).where(row))
        else:
            connection.execute(update(log).where(row).values(scan_id=ids[0]))
    assert second.number == 2
    assert decisions.audit(database).broken_at == (3 if how == "dropped" else 2)


def test_a_database_of_another_schema_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    first = Database(url)
    with first.write() as connection:
        connection.execute(update(meta).values(value="99"))
    first.close()
    with pytest.raises(ServiceError, match="schema 99"):
        Database(url)


@pytest.mark.parametrize("url", ["nonsense", "nosuchdb://x/y", "sqlite:////nowhere/at/all.sqlite"])
def test_a_database_that_cannot_be_opened_is_one_sentence(url: str) -> None:
    with pytest.raises(ServiceError, match="Expected"):
        Database(url)
