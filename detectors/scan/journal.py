"""The journal of a scan: JSONL that only grows, a durable line a record, so that a run may be killed and goes on.

A line is written at once and on the disk before the next file's counts. A last line that a kill has torn counts as
absent: its file is scanned again. So is a file whose record says more about the moment than about its bytes. Of the
records of one path under the same settings the newest counts. One run at a time writes to a journal.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from detectors.record import SCHEMA, Record
from genwm.errors import DiskFullError, GenwmError, JournalError, OutputError, OutputExistsError, is_disk_full

#: Bytes of a line that no record reaches: a foreign file of one endless line must not fill the memory.
_LONGEST_LINE = 64 * 1024 * 1024
#: Codes of errors that the machine's state brought about, not the file's content.
TRANSIENT = {"worker-killed", "worker-failed", "changed-while-read", "fetch-failed", "internal"}


class Journal:
    """An open journal. ``path`` None: a temporary one, which goes when it is closed.

    Without ``resume`` the file must not hold anything; with it, what is there is kept and indexed.

    Errors: OutputExistsError, JournalError (another kind of file, or another run is writing to it), OutputError,
    DiskFullError.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, resume: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self.torn = False
        #: Where the first record of these bytes under these settings starts, by (sha256, settings).
        self._places: dict[tuple[bytes, str], int] = {}
        #: The newest record of each file, by its name without its bytes, which may have changed: where it starts, its
        #: `name_in_journal` (none where another try may end otherwise) and outcome.
        self._newest: dict[bytes, tuple[int, bytes, str]] = {}
        #: Where the records start that a newer one has replaced.
        self._replaced: set[int] = set()
        self._file = _opened(self.path)
        try:
            if self.path is not None:
                _lock(self._file, self.path)
            self._end = self._indexed(resume)
        except BaseException:
            self._file.close()
            raise

    def append(self, record: Record) -> None:
        """Adds a record and waits until it is on the disk; nothing of it stays where that fails."""
        line = record.to_json().encode() + b"\n"
        try:
            self._write(line)
            if self.path is not None:
                os.fsync(self._file.fileno())
                if not os.fstat(self._file.fileno()).st_nlink:  # nobody would ever read what is written to it
                    raise JournalError(f"Expected the journal {self.path} to stay on the disk, got one that somebody "
                                       "has deleted; its records are lost: scan again")
        except OSError as error:
            with suppress(OSError):
                self._file.raw.truncate(self._end)
            raise _explained(error, self.path) from None
        self._enter(record, self._end)
        self._end += len(line)

    def _write(self, line: bytes) -> None:
        """Writes behind the last record, past the buffer: that would keep what a full disk refused, write some of it
        when it is closed, and fail anew."""
        rest = memoryview(line)
        self._file.raw.seek(self._end)
        while rest:
            rest = rest[self._file.raw.write(rest) :]
        self._file.seek(0, os.SEEK_END)  # from here on the buffer knows where the file is

    def outcome(self, path: str, sha256: str | None, settings: str) -> str | None:
        """`outcome_of` the newest record of this file under these settings; None without one, where its bytes were
        others, and where another try may end otherwise."""
        _, name, outcome = self._newest.get(name_in_journal(path, None, settings), (0, b"", ""))
        return outcome if name == name_in_journal(path, sha256, settings) else None

    def forget(self, paths: Iterable[str], settings: str) -> None:
        """Leaves out the records of these paths under these settings: folders that could not be listed then, and now
        stand for files."""
        for path in paths:
            entry = self._newest.pop(name_in_journal(path, None, settings), None)
            if entry is not None:
                self._replaced.add(entry[0])

    def of_content(self, sha256: str, settings: str) -> Record | None:
        """The record of a file with these bytes under these settings."""
        place = self._places.get((bytes.fromhex(sha256), settings))
        if place is None:
            return None
        self._file.seek(place)
        return Record.from_json(self._file.readline())

    def __iter__(self) -> Iterator[Record]:
        """The newest record of each file, in their order; the journal may grow meanwhile."""
        place = 0
        while place < self._end:
            self._file.seek(place)
            line = self._file.readline()
            if place not in self._replaced:
                yield Record.from_json(line)
            place += len(line)

    def __len__(self) -> int:
        return len(self._newest)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enter(self, record: Record, place: int) -> None:
        source, settings = record.input, record.settings or ""
        file = name_in_journal(source.path, None, settings)
        if (earlier := self._newest.get(file)) is not None:
            self._replaced.add(earlier[0])
        if is_transient(record):
            self._newest[file] = place, b"", ""
            return
        name = file if source.sha256 is None else name_in_journal(source.path, source.sha256, settings)
        self._newest[file] = place, name, sys.intern(outcome_of(record))
        if source.sha256 is not None:
            self._places.setdefault((bytes.fromhex(source.sha256), settings), place)

    def _indexed(self, resume: bool) -> int:
        """Takes in the records that are there; the end of the last whole line, behind which nothing is left."""
        if not resume and os.fstat(self._file.fileno()).st_size:
            raise OutputExistsError(f"Expected a new file for the records, got {self.path}, which has some; go on with "
                                    "--resume, or choose another name")
        place = 0
        for number, line in enumerate(iter(lambda: self._file.readline(_LONGEST_LINE), b""), 1):
            whole, too_long = line.endswith(b"\n"), len(line) == _LONGEST_LINE
            record = None if too_long else _record_in(line)
            # Torn, it starts as a record does; a file of another kind must not be cut.
            if record is None and (whole or too_long or not (number > 1 or _starts_as_record(line))):
                raise JournalError(f"Expected records of {SCHEMA} in {self.path}, got something else in line {number}; "
                                   "choose another file, or take that line out")
            if record is None or not whole:  # complete but for its end: as good as torn, and simpler to trust
                self.torn = True
                break
            self._enter(record, place)
            place += len(line)
        if self.torn:
            self._file.truncate(place)
        return place


def outcome_of(record: Record) -> str:
    """What to count a record as: its error's code, after 'error:', or its verdict."""
    return record.verdict if record.error is None else f"error:{record.error.code}"


def is_transient(record: Record) -> bool:
    """Whether the record says more about the moment than about the file's bytes: another try may end otherwise."""
    return record.error is not None and record.error.code in TRANSIENT


def name_in_journal(path: str, sha256: str | None, settings: str) -> bytes:
    """A short name for a file with these bytes under these settings."""
    return hashlib.blake2b(f"{path}\0{sha256}\0{settings}".encode(), digest_size=16).digest()


def _record_in(line: bytes) -> Record | None:
    try:
        return Record.from_json(line)
    except ValidationError:
        return None


def _starts_as_record(line: bytes) -> bool:
    start = f'{{"schema":"{SCHEMA}"'.encode()
    return start.startswith(line[: len(start)])


def _opened(path: Path | None) -> BufferedRandom:
    if path is None:
        return tempfile.TemporaryFile("w+b")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # which may have no end, and forgets what is written
            os.close(descriptor)
            raise OutputError(f"Expected a regular file for the records, got the device or pipe {path}; choose another "
                              "name, or leave --output out for standard output")
        file = os.fdopen(descriptor, "r+b")
        _keep_name(path)
        return file
    except OSError as error:
        raise _explained(error, path) from None


def _keep_name(path: Path) -> None:
    """A new file's name is the folder's content, and has to reach the disk as well."""
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _explained(error: OSError, path: Path | None) -> GenwmError:
    where = "the temporary folder" if path is None else str(path)
    if is_disk_full(error):
        return DiskFullError(f"Expected room on the disk for the records in {where}, got none left; free some space "
                             "and run again with --resume")
    return OutputError(f"Expected to write records to {where}, got '{error.strerror or error}'; choose another name or "
                       "folder")


if sys.platform == "win32":

    def _lock(file: BufferedRandom, path: Path) -> None:
        pass

else:
    import fcntl

    def _lock(file: BufferedRandom, path: Path) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"Expected a file for the records that no other run writes to, got {path}; wait for the "
                               "other run, or choose another name") from None
        except OSError as error:
            raise _explained(error, path) from None
