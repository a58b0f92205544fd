"""Worker processes that read files of strangers, each watched by a thread of this process.

Workers import once and live for many files. One that takes too long or says too much is killed, one that crashes is
replaced: either costs the file at hand an error record, and no other file anything.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from detectors.heat import checked
from detectors.record import Record
from detectors.scan.settings import MIB, Settings
from detectors.scan.single import Fingerprint, Picture, Scanned, failed, fingerprint, name_of, out_of_memory
from detectors.scan.worker import LENGTH, OUT_OF_MEMORY, READY
from genwm.errors import WorkerError, debugging

#: Files after which a worker is replaced, so that no leak of a decoder can add up.
FILES_A_WORKER = 200
#: Seconds in which a worker must have imported what it needs.
START_S = 120.0
_STARTS = 3
#: Module and function that a worker reads a file with.
_READER = ("detectors.scan.single", "examine")
_LIBRARY_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class _Job:
    path: str | os.PathLike[str]
    known: Fingerprint
    future: Future[Scanned]


class Pool:
    """Scans files in ``workers`` child processes (default: one a core) under the limits of ``settings``.

    Use it as a context manager, or `close` it. `submit` may be called from any thread.
    """

    def __init__(self, settings: Settings, workers: int | None = None) -> None:
        settings.check()
        self.settings = settings
        self.workers = workers or cores()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._watchers = [_Watcher(self.settings, self._jobs, self._closed) for _ in range(self.workers)]
        for watcher in self._watchers:
            watcher.start()

    def submit(self, path: str | os.PathLike[str], known: Fingerprint | None = None) -> Future[Scanned]:
        """Queues one file. The future's result is its record, whatever the file is, with its evidence pictures;
        WorkerError where workers cannot be started at all."""
        if self._closed.is_set():
            raise RuntimeError("the pool is closed")
        future: Future[Scanned] = Future()
        self._jobs.put(_Job(path, fingerprint(path) if known is None else known, future))
        return future

    def scan(self, path: str | os.PathLike[str]) -> Record:
        """The record of one file: `submit`, and wait."""
        return self.submit(path).result().record

    def processes(self) -> list[int]:
        """Process ids of the workers that are alive."""
        return [watcher.worker.pid for watcher in self._watchers if watcher.worker is not None]

    def close(self) -> None:
        """Kills the workers: futures of queued files are cancelled, those of files being read raise WorkerError."""
        self._closed.set()
        for watcher in self._watchers:
            self._jobs.put(None)
            watcher.interrupt()
        for watcher in self._watchers:
            watcher.join()
        with suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job.future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Watcher(threading.Thread):
    """Feeds one worker, one file at a time, and replaces it when it dies."""

    def __init__(self, settings: Settings, jobs: queue.SimpleQueue[_Job | None], closed: threading.Event) -> None:
        super().__init__(daemon=True, name="genwm-scan")
        self.worker: _Worker | None = None
        self._settings, self._jobs, self._closed = settings, jobs, closed

    def run(self) -> None:
        try:
            while not self._closed.is_set() and (job := self._jobs.get()) is not None:
                if not job.future.set_running_or_notify_cancel():
                    continue
                try:
                    scanned = self._scanned(job)
                except BaseException as error:
                    job.future.set_exception(error)
                else:
                    job.future.set_result(scanned)
        finally:
            self._end_worker()

    def interrupt(self) -> None:
        if (worker := self.worker) is not None:
            worker.kill()

    def _scanned(self, job: _Job) -> Scanned:
        # Killed from outside (by the system for want of memory, say), a worker says nothing about the file: once more.
        failure = _Failure("worker-killed", "", 0.0)
        for _ in range(2):
            worker = self._living_worker()
            reply = worker.ask(job, self._settings)
            if isinstance(reply, Scanned):
                failure_code = reply.record.error.code if reply.record.error else None
                if worker.files >= FILES_A_WORKER or failure_code == "memory-limit":
                    self._end_worker()
                return reply
            failure = reply
            self._end_worker()
            if self._closed.is_set():
                raise WorkerError(f"Expected to finish {name_of(job.path)}, got the pool closed; scan it again.")
            if failure.code != "worker-killed":
                break
        return Scanned(failed(name_of(job.path), failure.code, failure.message, self._settings, job.known,
                              seconds=failure.seconds))

    def _living_worker(self) -> _Worker:
        if self.worker is not None and self.worker.alive:
            return self.worker
        self._end_worker()
        for _ in range(_STARTS):
            self.worker = _Worker(self._settings)
            if self._closed.is_set():
                break
            if self.worker.ready():
                return self.worker
            self._end_worker()
        raise WorkerError("Expected a worker process to start, got none that did; free some memory, or set "
                          "GENWM_DEBUG=1 to see what it says.")

    def _end_worker(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a worker gave no record."""

    code: str
    message: str
    seconds: float


class _Worker:
    """One child process and the three pipes to it."""

    def __init__(self, settings: Settings) -> None:
        inward, self._requests = os.pipe()
        self._replies, outward = os.pipe()
        alive, self._lifeline = os.pipe()
        self.files = 0
        code = (f"import sys; sys.path[:] = {sys.path!r}; from detectors.scan.worker import main; "
                f"main({inward}, {outward}, {alive})")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=(inward, outward, alive), stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=None if debugging() else subprocess.DEVNULL,
                env=_environment(os.environ), start_new_session=True,
            )
        finally:
            for descriptor in (inward, outward, alive):
                os.close(descriptor)
        os.set_blocking(self._requests, False)
        self._settings = settings

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> bool:
        """Hands the settings over and waits until the worker has imported what it needs."""
        deadline = time.monotonic() + START_S
        threads = 1 if cores() < 4 else 2
        return self._send(pickle.dumps((self._settings, threads, _READER)), deadline) and (
            self._receive(deadline, len(READY)) == READY
        )

    def ask(self, job: _Job, settings: Settings) -> Scanned | _Failure:
        """Has one file scanned; a failure where the worker broke a limit or died, after which it is of no use."""
        started = time.monotonic()
        deadline = started + settings.limits.time_s
        name, limits = name_of(job.path), settings.limits
        self.files += 1
        reply: bytes | None = None
        if self._send(pickle.dumps((job.path, job.known)), deadline):
            reply = self._receive(deadline, limits.output_bytes)
        seconds = time.monotonic() - started
        if reply == b"":
            return _Failure("output-limit", f"Expected a record of at most {limits.output_bytes / MIB:g} MiB of "
                            f"{name}, got a larger one; raise the limit", seconds)
        if reply is not None:
            try:
                return _parsed(reply, name, job.known)
            except (ValueError, KeyError, TypeError, ValidationError):
                return _Failure("worker-failed", f"Expected a record of {name}, got something else from the process "
                                "that reads it; report this file", seconds)
        if time.monotonic() >= deadline and self.alive:
            return _Failure("time-limit", f"Expected {name} to be read within {limits.time_s:g} s, got one that takes "
                            "longer; raise the limit, or cut the file", seconds)
        status = self.end()
        if status == -signal.SIGKILL:
            return _Failure("worker-killed", f"Expected to finish {name}, got the process that reads it killed from "
                            "outside, for want of memory perhaps; scan it again with fewer workers", seconds)
        if status == OUT_OF_MEMORY:
            return _Failure("memory-limit", out_of_memory(name), seconds)
        how = f"with signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return _Failure("decoder-crashed", f"Expected a file that can be decoded in {name}, got one that ends the "
                        f"process that reads it ({how}); keep it away from other tools", seconds)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def end(self) -> int:
        """Kills what is left of the process and closes the pipes; its exit status, negative for a signal."""
        if self._lifeline >= 0:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0 if self._hung_up() else 0)
            self.kill()
            self._process.wait()
            for descriptor in (self._requests, self._replies, self._lifeline):
                os.close(descriptor)
            self._lifeline = -1
        return self._process.returncode

    def _hung_up(self) -> bool:
        poller = select.poll()
        poller.register(self._replies, select.POLLHUP)
        return bool(poller.poll(0))

    def _send(self, message: bytes, deadline: float) -> bool:
        rest = memoryview(LENGTH.pack(len(message)) + message)
        while rest:
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:
                if not _waited(self._requests, select.POLLOUT, deadline):
                    return False
            except OSError:
                return False
        return True

    def _receive(self, deadline: float, limit: int) -> bytes | None:
        """One message; empty where it is longer than ``limit``, None where time ran out or the worker went away."""
        head = self._read(LENGTH.size, deadline)
        if head is None:
            return None
        length = LENGTH.unpack(head)[0]
        return b"" if length > limit else self._read(length, deadline)

    def _read(self, count: int, deadline: float) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            if not _waited(self._replies, select.POLLIN, deadline):
                return None
            part = os.read(self._replies, min(count - len(parts), MIB))
            if not part:
                return None
            parts += part
        return bytes(parts)


def _waited(descriptor: int, event: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _environment(parent: Mapping[str, str]) -> dict[str, str]:
    # Files are what runs in parallel: more threads in the linear algebra would only wait for each other.
    return {**parent, **dict.fromkeys(_LIBRARY_THREADS, "1")}


def _parsed(reply: bytes, name: str, known: Fingerprint) -> Scanned:
    document = json.loads(reply)
    record = Record.model_validate_json(json.dumps(document["record"]))
    if (record.input.path, record.input.sha256) != (name, known.sha256):
        raise ValueError("a record of another file")
    pictures = tuple(
        Picture(float(picture["time_s"]), base64.b64decode(picture["jpeg"], validate=True), checked(picture["heat"]))
        for picture in document["pictures"]
    )
    return Scanned(record, pictures)


__all__ = ["Pool", "cores"]
