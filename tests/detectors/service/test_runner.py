"""The thread that scans, while the disk or the database fails: nothing is lost, room is freed, and health says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the service is not tested: it needs the extra 'serve'")

from sqlalchemy.exc import OperationalError

from detectors.heat import document
from detectors.service import runner, scans
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.errors import StorageFullError, brief
from detectors.service.runner import Runner
from detectors.service.scans import Submission
from detectors.service.tokens import Token, check_token, new_token
from tests.detectors.service.stub import HEAT, StubScanner, settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name in ("_TICK_S", "_PAUSE_S"):
        monkeypatch.setattr(runner, name, 0.05)
    made = Config(folder=tmp_path / "data", grace_s=2.0)
    made.prepare()
    return made


@pytest.fixture
def database(config: Config) -> Iterator[Database]:
    opened = Database(config.url)
    yield opened
    opened.close()


@pytest.fixture
def token(database: Database) -> Token:
    return check_token(database, new_token(database, "bot", "submit"))


class _Failing:
    """Stands before a function, and raises ``error`` instead until it is told to ``stop``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
        self._inner, self._error, self.calls, self.failing = getattr(owner, name), error, 0, True
        monkeypatch.setattr(owner, name, lambda *given, **named: self(*given, **named))

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        if self.failing:
            raise self._error
        return self._inner(*given, **named)


def _away() -> OperationalError:
    return OperationalError("SELECT secret", {"path": "/srv/secret"}, Exception("server closed the connection\nDETAIL"))


def _submitted(database: Database, token: Token, config: Config, count: int, content: bytes = b"mark") -> list[str]:
    found = []
    for number in range(count):
        path = config.uploads / f"{number}"
        path.write_bytes(content + b" %d" % number)
        given = Submission(name=path.name, path=str(path), uploaded=True)
        found.append(scans.submit(database, token, given, max_queue=100)[0].id)
    return found


def _until(what: Callable[[], bool]) -> None:
    for _ in range(500):
        if what():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def _runner(database: Database, config: Config) -> Runner:
    made = Runner(database, config, settings(), StubScanner(settings(), 1), lambda record, seconds: None)
    made.start()
    return made


@pytest.mark.parametrize(("owner", "name", "error", "words"), [
    (scans, "finish", StorageFullError("Expected room, got none; wait"), "StorageFullError: Expected room, got none"),
    (scans, "twin", _away(), "OperationalError: server closed the connection"),
    (Path, "write_bytes", OSError(28, "No space left on device", "/srv/secret"), "OSError: No space left on device"),
])  # fmt: skip
def test_what_cannot_be_begun_or_kept_stays_in_hand_and_is_tried_again(
    database: Database, config: Config, token: Token, monkeypatch: pytest.MonkeyPatch,
    owner: Any, name: str, error: Exception, words: str,
) -> None:
    ids = _submitted(database, token, config, 5)
    failing = _Failing(monkeypatch, owner, name, error)
    running = _runner(database, config)
    _until(lambda: failing.calls >= 5)
    fault = running.fault
    assert fault is not None
    assert fault.startswith(f"2 of its scans can be neither begun nor kept: {words}")  # no more than it can hold
    assert "secret" not in fault
    failing.failing = False
    _until(lambda: all(scans.get(database, scan_id).status == "done" for scan_id in ids))
    _until(lambda: running.fault is None)
    running.stop(time.monotonic() + 1)
    running.close()
    assert [(row.attempts, row.faults) for row in (scans.get(database, scan_id) for scan_id in ids)] == [(1, 0)] * 5
    assert all((config.evidence / scan_id / "1.jpg").is_file() for scan_id in ids)


def test_a_try_that_did_not_end_leaves_no_heat_map_on_another_moment(
    database: Database, config: Config, token: Token
) -> None:
    (scan_id,) = _submitted(database, token, config, 1)
    folder = config.evidence / scan_id
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.svg").write_text("of a server that died")
    running = _runner(database, config)
    _until(lambda: scans.get(database, scan_id).status == "done")
    running.stop(time.monotonic() + 1)
    running.close()
    assert (folder / "0.svg").read_text() == document(HEAT)
    assert not (folder / "1.svg").exists()


def test_a_scan_that_fails_by_itself_does_not_hold_up_the_others(
    database: Database, config: Config, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = _submitted(database, token, config, 5)
    finish = scans.finish

    def picky(database: Database, owner: str, scan_id: str, *rest: Any) -> bool:
        if scan_id in ids[:2]:
            raise ValueError("a record that cannot be kept")
        return finish(database, owner, scan_id, *rest)

    monkeypatch.setattr(scans, "finish", picky)
    monkeypatch.setattr(scans, "_RETRY_S", 0.01)
    running = _runner(database, config)
    _until(lambda: all(scans.get(database, scan_id).status in ("done", "failed") for scan_id in ids))
    running.stop(time.monotonic() + 1)
    running.close()
    rows = [scans.get(database, scan_id) for scan_id in ids]
    assert [row.status for row in rows] == ["failed"] * 2 + ["done"] * 3
    assert {row.error_message for row in rows[:2]} == {"ValueError: a record that cannot be kept"}


def test_what_cannot_be_kept_before_the_end_is_handed_back(
    database: Database, config: Config, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = _submitted(database, token, config, 3)
    failing = _Failing(monkeypatch, scans, "finish", _away())
    running = _runner(database, config)
    _until(lambda: failing.calls >= 2)
    running.stop(time.monotonic() + 1)
    running.close()
    assert {scans.get(database, scan_id).status for scan_id in ids} == {"queued"}


@pytest.mark.parametrize(("error", "words"), [
    (_away(), "OperationalError: server closed the connection"),
    (OSError(2, "No such file or directory", "/srv/secret"), "FileNotFoundError: No such file or directory"),
    (ValueError(), "ValueError"),
])  # fmt: skip
def test_an_error_is_one_line_without_paths_and_values(error: Exception, words: str) -> None:
    assert brief(error) == words
