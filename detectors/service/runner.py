"""Queue -> pool -> records: one thread that claims scans, hands them to worker processes, and keeps what comes back."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Row, select, update
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, SQLAlchemyError

from detectors.heat import document
from detectors.record import Record
from detectors.scan import Fingerprint, Scanned, Settings, fingerprint
from detectors.scan.single import renamed
from detectors.service import scans
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.database import scans as table
from detectors.service.errors import StorageFullError, brief

#: Evidence pictures of each file.
PICTURES = 8
#: Containers and codecs that browsers play; of others the page shows pictures only.
_PLAYABLE = ({"mp4", "mov", "webm"}, {"h264", "vp8", "vp9", "av1"})
_TICK_S, _PAUSE_S = 0.5, 1.0
_HOUSEKEEPING_S = 60.0
_LATE_S = 3.0
_ORPHAN_S = 24 * 3600.0
_log = logging.getLogger("genwm.serve")


class Scanner(Protocol):
    """What scans files: ``detectors.scan.Pool``, or what a test puts in its place."""

    workers: int

    def submit(self, path: str | os.PathLike[str], known: Fingerprint | None = None) -> Future[Scanned]: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Job:
    """A claimed scan, until its record is kept or it is given back. After trouble it is tried ``again`` then (by
    `time.monotonic`)."""

    row: Row[Any]
    known: Fingerprint | None = None
    future: Future[Scanned] | None = None
    trouble: str | None = None
    again: float = 0.0


class Runner:
    """Scans what is queued until it is closed. ``finished`` is told of each record and the seconds that it took."""

    def __init__(self, database: Database, config: Config, settings: Settings, scanner: Scanner,
                 finished: Callable[[Record, float], None]) -> None:
        self._database, self._config, self._scanner = database, config, scanner
        self._finished = finished
        self._owner, self._digest = config.instance(), settings.digest
        self._jobs: dict[str, _Job] = {}
        self._news, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="genwm-runner", daemon=True)
        self._renewed = self._kept = 0.0
        self._fault: str | None = None
        self._deadline = float("inf")

    def start(self) -> None:
        """Takes back what an earlier run of this server left unfinished, and begins."""
        if lost := scans.requeue(self._database, self._owner):
            _log.info("took back %d unfinished scans", lost)
        sweep(self._database, self._config)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Why the runner makes no progress, or not with every scan, in words; None while all is well."""
        if not self._thread.is_alive():
            return "the thread that runs scans has ended"
        troubles = [job.trouble for job in list(self._jobs.values()) if job.trouble is not None]
        if self._fault is None and troubles:
            return f"{len(troubles)} of its scans can be neither begun nor kept: {troubles[0]}"
        return self._fault

    def wake(self) -> None:
        """Looks at the queue now."""
        self._news.set()

    def stop(self, deadline: float) -> None:
        """Claims nothing more; what does not finish until ``deadline`` (by `time.monotonic`) is handed back."""
        self._deadline = deadline
        self._stopping.set()
        self.wake()

    def close(self) -> None:
        """Waits for the end that `stop` has set, and a little for what is being written then."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()) + _LATE_S)

    def _run(self) -> None:
        while not self._stopping.is_set() or (
                time.monotonic() < self._deadline and any(job.future is not None for job in self._jobs.values())):
            try:
                self._step()
                self._fault = None
            except Exception as error:  # the database is away or the disk is full: say so, and try again
                self._fault = brief(error)
                _log.exception("cannot go on with the queue; trying again")
                time.sleep(_PAUSE_S)
        with suppress(Exception):
            scans.hand_back(self._database, self._owner, list(self._jobs))

    def _step(self) -> None:
        self._keep_leases()
        # As many again as there are workers wait in the pool, so that none of them is ever idle.
        room = 2 * self._scanner.workers - len(self._jobs)
        if room > 0 and not self._stopping.is_set():
            for row in scans.claim(self._database, self._owner, room, self._config.lease_s):
                self._jobs.setdefault(row.id, _Job(row))  # one whose lease had ended may be in the pool still
        for job in list(self._jobs.values()):
            ready = not self._stopping.is_set() if job.future is None else job.future.done()
            if ready and job.again <= time.monotonic():
                self._advance(job)
        self._news.wait(min(_TICK_S, max(0.0, self._deadline - time.monotonic())))
        self._news.clear()

    def _advance(self, job: _Job) -> None:
        """Begins or ends one scan. Where that fails, it stays in hand and is tried again: a result is dropped only once
        it is kept, or once the database has the scan back."""
        try:
            self._begin(job) if job.future is None else self._end(job)
            job.trouble = None
        except Exception as error:
            words = brief(error)
            if words != job.trouble:
                _log.exception("scan %s can be neither begun nor kept; trying again", job.row.id)
            job.trouble, job.again = words, time.monotonic() + _PAUSE_S
            if not _passes(error):
                with suppress(Exception):
                    self._retry_later(job, "internal", words)

    def _begin(self, job: _Job) -> None:
        row = job.row
        if job.known is None:
            job.known = fingerprint(row.path)
        twin = scans.twin(self._database, job.known.sha256, self._digest)
        if twin is not None:
            self._repeat(row, twin)
            return
        job.future = self._scanner.submit(row.path, job.known)
        job.future.add_done_callback(lambda _: self.wake())

    def _repeat(self, row: Row[Any], twin: Row[Any]) -> None:
        """Gives a file whose bytes were scanned before the record of then, with its pictures if they are kept."""
        record = Record.from_json(twin.record)
        # What somebody else handed in, and how it was called, is not told.
        name = twin.name if twin.token_id == row.token_id else None
        record = record.model_copy(update={"duplicate_of": name, "input": record.input.model_copy(
            update={"path": row.name})})
        times = _linked(self._config.evidence / twin.id, self._config.evidence / row.id, twin.pictures)
        if scans.finish(self._database, self._owner, row.id, record, times, playable(record)):
            self._finished(record, 0.0)
        self._leave(row)

    def _end(self, job: _Job) -> None:
        assert job.future is not None
        if job.future.cancelled() or (error := job.future.exception()) is not None:
            why = "the pool was closed" if job.future.cancelled() else str(error)
            _log.warning("scan %s could not be run: %s", job.row.id, why)
            self._retry_later(job, getattr(error, "code", "internal"), why)
        else:
            self._keep(job.row, job.future.result())

    def _retry_later(self, job: _Job, code: str, why: str) -> None:
        scans.retry_later(self._database, self._owner, job.row.id, code, why)
        self._leave(job.row)

    def _leave(self, row: Row[Any]) -> None:
        del self._jobs[row.id]
        self.wake()  # there is room for another

    def _keep(self, row: Row[Any], scanned: Scanned) -> None:
        # Where it lies on the server is nobody's business: the sender knows it by another name.
        record = renamed(scanned.record, row.path, row.name)
        folder = self._config.evidence / row.id
        times = []
        if scanned.pictures:
            folder.mkdir(mode=0o700, exist_ok=True)
        for number, picture in enumerate(scanned.pictures):
            (folder / f"{number}.jpg").write_bytes(picture.jpeg)
            heat = folder / f"{number}.svg"
            heat.unlink(missing_ok=True)  # a try that did not end may have left that of another moment
            if picture.heat:
                heat.write_text(document(picture.heat), encoding="utf-8")
            times.append(picture.time_s)
        if scans.finish(self._database, self._owner, row.id, record, times, playable(record)):
            self._finished(record, record.timing.get("total", 0.0))
        self._leave(row)

    def _keep_leases(self) -> None:
        now = time.monotonic()
        if now - self._renewed > self._config.lease_s / 3:
            if self._jobs:
                scans.renew(self._database, self._owner, list(self._jobs), self._config.lease_s)
            scans.requeue(self._database)  # what another server left when it died
            self._renewed = now
        if now - self._kept > _HOUSEKEEPING_S:
            self._kept = now
            forget(self._database, self._config)


def _passes(error: Exception) -> bool:
    """Whether an error is about the disk or the database, which come back, rather than about what was to be kept."""
    if isinstance(error, SQLAlchemyError):
        return not isinstance(error, (DataError, IntegrityError, ProgrammingError))
    return isinstance(error, (OSError, StorageFullError))


def playable(record: Record) -> bool:
    """Whether browsers play such files."""
    return record.input.container in _PLAYABLE[0] and record.input.codec in _PLAYABLE[1]


def forget(database: Database, config: Config) -> None:
    """Deletes uploads and pictures of scans that finished more than ``keep_days`` ago and are not under review."""
    old = time.time() - config.keep_days * 86_400
    query = select(table).where(table.c.finished < old, table.c.review.in_(("none", "decided")),
                                      table.c.kept).limit(500)
    with database.read() as connection:
        rows = connection.execute(query).all()
    for row in rows:
        if row.uploaded:
            Path(row.path).unlink(missing_ok=True)
        shutil.rmtree(config.evidence / row.id, ignore_errors=True)
    if rows:
        with database.write() as connection:
            connection.execute(update(table).where(table.c.id.in_([row.id for row in rows]))
                               .values(kept=False, media=False, pictures="[]"))


def sweep(database: Database, config: Config) -> None:
    """Deletes uploads that no scan knows, which were coming in when a server died. Where servers share the folder,
    young ones may be coming in to another one."""
    young = time.time() - (0.0 if config.files is None else _ORPHAN_S)
    found = []
    for path in config.uploads.iterdir():
        with suppress(FileNotFoundError):  # another server's, done by now
            if path.stat().st_mtime <= young:
                found.append(path)
    with database.read() as connection:
        known = set(connection.execute(select(table.c.path).where(table.c.uploaded, table.c.kept)).scalars())
    for path in found:
        if str(path) not in known:
            path.unlink(missing_ok=True)


def _linked(source: Path, target: Path, times: str) -> list[float]:
    found: list[float] = json.loads(times)
    try:
        if found:
            target.mkdir(mode=0o700, exist_ok=True)
        for number in range(len(found)):
            with suppress(FileExistsError):
                os.link(source / f"{number}.jpg", target / f"{number}.jpg")
            with suppress(FileExistsError, FileNotFoundError):  # most have no heat map
                os.link(source / f"{number}.svg", target / f"{number}.svg")
    except OSError:
        return []
    return found
