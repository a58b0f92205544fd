"""Queue -> pool -> records: one thread that claims scans, hands them to worker processes, and keeps what comes back."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Row, select, update

from detectors.record import Record
from detectors.scan import Fingerprint, Scanned, Settings, fingerprint
from detectors.scan.single import renamed
from detectors.service import scans
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.database import scans as table

#: Evidence pictures of each file.
PICTURES = 8
#: Containers and codecs that browsers play; of others the page shows pictures only.
_PLAYABLE = ({"mp4", "mov", "webm"}, {"h264", "vp8", "vp9", "av1"})
_TICK_S = 0.5
_HOUSEKEEPING_S = 60.0
_ORPHAN_S = 24 * 3600.0
_log = logging.getLogger("genwm.serve")


class Scanner(Protocol):
    """What scans files: ``detectors.scan.Pool``, or what a test puts in its place."""

    workers: int

    def submit(self, path: str | os.PathLike[str], known: Fingerprint | None = None) -> Future[Scanned]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Running:
    row: Row[Any]
    known: Fingerprint


class Runner:
    """Scans what is queued until it is closed. ``finished`` is told of each record and the seconds that it took."""

    def __init__(self, database: Database, config: Config, settings: Settings, scanner: Scanner,
                 finished: Callable[[Record, float], None]) -> None:
        self._database, self._config, self._scanner = database, config, scanner
        self._finished = finished
        self._owner, self._digest = config.instance(), settings.digest
        self._results: queue.SimpleQueue[tuple[str, Future[Scanned]] | None] = queue.SimpleQueue()
        self._running: dict[str, _Running] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="genwm-runner", daemon=True)
        self._renewed = self._kept = 0.0
        self._fault: str | None = None

    def start(self) -> None:
        """Takes back what an earlier run of this server left unfinished, and begins."""
        if lost := scans.requeue(self._database, self._owner):
            _log.info("took back %d unfinished scans", lost)
        sweep(self._database, self._config)
        self._thread.start()

    @property
    def fault(self) -> str | None:
        """Why the runner makes no progress, in one sentence; None while all is well."""
        return self._fault if self._thread.is_alive() else "the thread that runs scans has ended"

    def wake(self) -> None:
        """Looks at the queue now."""
        self._results.put(None)

    def close(self) -> None:
        """Claims nothing more, waits for what runs, and hands back what does not finish in time."""
        self._stopping.set()
        self.wake()
        self._thread.join()

    def _run(self) -> None:
        deadline = float("inf")
        while True:
            if self._stopping.is_set():
                deadline = min(deadline, time.monotonic() + self._config.grace_s)
                if not self._running or time.monotonic() >= deadline:
                    break
            try:
                self._step()
                self._fault = None
            except Exception as error:  # the database is away or the disk is full: say so, and try again
                self._fault = f"{type(error).__name__}: {error}"
                _log.exception("cannot go on with the queue; trying again")
                self._stopping.wait(2.0)
        with suppress(Exception):
            scans.hand_back(self._database, self._owner, list(self._running))

    def _step(self) -> None:
        self._keep_leases()
        # As many again as there are workers wait in the pool, so that none of them is ever idle.
        room = 2 * self._scanner.workers - len(self._running)
        if room > 0 and not self._stopping.is_set():
            for row in scans.claim(self._database, self._owner, room, self._config.lease_s):
                self._begin(row)
        with suppress(queue.Empty):
            item = self._results.get(timeout=_TICK_S)
            while True:
                if item is not None:
                    self._end(*item)
                item = self._results.get_nowait()

    def _begin(self, row: Row[Any]) -> None:
        known = fingerprint(row.path)
        self._running[row.id] = _Running(row, known)
        twin = scans.twin(self._database, known.sha256, self._digest)
        if twin is not None:
            self._repeat(row, twin)
            return
        future = self._scanner.submit(row.path, known)
        future.add_done_callback(lambda done: self._results.put((row.id, done)))

    def _repeat(self, row: Row[Any], twin: Row[Any]) -> None:
        """Gives a file whose bytes were scanned before the record of then, with its pictures if they are kept."""
        record = Record.from_json(twin.record)
        # What somebody else handed in, and how it was called, is not told.
        name = twin.name if twin.token_id == row.token_id else None
        record = record.model_copy(update={"duplicate_of": name, "input": record.input.model_copy(
            update={"path": row.name})})
        times = _linked(self._config.evidence / twin.id, self._config.evidence / row.id, twin.pictures)
        del self._running[row.id]
        if scans.finish(self._database, self._owner, row.id, record, times, playable(record)):
            self._finished(record, 0.0)

    def _end(self, scan_id: str, future: Future[Scanned]) -> None:
        running = self._running.get(scan_id)
        if running is None:
            return
        if future.cancelled() or (error := future.exception()) is not None:
            why = "the pool was closed" if future.cancelled() else str(error)
            _log.warning("scan %s could not be run: %s", scan_id, why)
            scans.retry_later(self._database, self._owner, scan_id, getattr(error, "code", "internal"), why)
        else:
            self._keep(running.row, future.result())
        self._running.pop(scan_id, None)

    def _keep(self, row: Row[Any], scanned: Scanned) -> None:
        # Where it lies on the server is nobody's business: the sender knows it by another name.
        record = renamed(scanned.record, row.path, row.name)
        folder = self._config.evidence / row.id
        times = []
        if scanned.pictures:
            folder.mkdir(mode=0o700, exist_ok=True)
        for number, picture in enumerate(scanned.pictures):
            (folder / f"{number}.jpg").write_bytes(picture.jpeg)
            times.append(picture.time_s)
        if scans.finish(self._database, self._owner, row.id, record, times, playable(record)):
            self._finished(record, record.timing.get("total", 0.0))

    def _keep_leases(self) -> None:
        now = time.monotonic()
        if now - self._renewed > self._config.lease_s / 3:
            self._renewed = now
            if self._running:
                scans.renew(self._database, self._owner, list(self._running), self._config.lease_s)
            scans.requeue(self._database)  # what another server left when it died
        if now - self._kept > _HOUSEKEEPING_S:
            self._kept = now
            forget(self._database, self._config)


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
        folder = config.evidence / row.id
        for picture in folder.glob("*.jpg"):
            picture.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
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
    except OSError:
        return []
    return found
