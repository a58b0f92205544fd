"""The rows of results, and the CSV file that survives being killed."""

from __future__ import annotations

import csv
import errno
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from genwm.errors import DiskFullError, NotFoundError, OutputError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results. Truth values are 0 or 1; what is unknown is empty (None).

    ``span`` says how much of the clip was marked: ``72f`` frames or ``10s`` seconds at most. ``present``: the reader
    said detected; ``right_key``: and named the key that was used; ``exact``: and gave all 64 bits of the payload;
    ``wrong_payload``: it gave a payload that was not embedded. ``error`` is a stable code, ``internal`` where something
    failed that has none.
    """

    clip: str
    label: str
    group: str
    family: str
    short_side: int
    frames: int
    span: str
    attack: str
    watermark: str
    strength: str
    profile: str
    present: int = 0
    right_key: int = 0
    exact: int = 0
    wrong_payload: int = 0
    bit_accuracy: float | None = None
    log10_p: float | None = None
    scale: float | None = None
    rotation: float | None = None
    flip: int | None = None
    aspect: float | None = None
    frames_read: int | None = None
    bytes: int | None = None
    mark_ms_per_frame: float | None = None
    attack_s: float | None = None
    read_s: float | None = None
    seed: int = 0
    versions: str = ""
    error: str = ""
    message: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What no two rows share."""
        return (self.clip, self.attack, self.watermark, self.strength, self.profile, self.span)


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Row))
_TYPES: dict[str, Callable[[str], Any]] = {
    field.name: {"int": int, "int | None": int, "float | None": float}.get(str(field.type), str)
    for field in fields(Row)
}


def _line(values: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(["" if value is None else value for value in values])
    return text.getvalue().encode()


def append_row(out: Path, row: Row) -> None:
    """Adds a line in one write and waits until it is on the disk. Several processes may do so at once."""
    with writing(out):
        descriptor = os.open(out, os.O_WRONLY | os.O_APPEND)
        try:
            line = _line(asdict(row).values())
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"Expected room on the disk for {out}, got none left; free some and run again"
            ) from None
        raise OutputError(f"Expected to write {out}, got '{error.strerror}'; choose another name or folder") from None


def prepare(out: Path) -> list[Row]:
    """Makes the file, or cuts off the line that a kill has torn; returns the rows that are there."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(out, "ab+") as file:
            file.seek(0)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            file.truncate(whole)
            if not whole:
                file.write(_line(COLUMNS))
            file.flush()
            os.fsync(file.fileno())
    return read_rows(out)


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a results file, the last of those that share a key. Damaged lines are left out (and so are measured
    again by the next run). Errors: OutputError where the file is another table."""
    rows: dict[tuple[str, ...], Row] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise NotFoundError(f"Expected a table of robustness results at {path}, got no file; run it first") from None
    if not lines or tuple(_values(lines[0])) != COLUMNS:
        raise OutputError(f"Expected a table of robustness results in {path}, got another; choose another name")
    for line in lines[1:]:
        row = _row(_values(line))
        if row is not None:
            rows[row.key] = row
    return list(rows.values())


def _values(line: str) -> list[str]:
    # Line by line: an open quote in a damaged line must not swallow the next.
    return next(csv.reader([line]), [])


def _row(values: Sequence[str]) -> Row | None:
    if len(values) != len(COLUMNS):
        return None
    texts = {name: (value, _TYPES[name]) for name, value in zip(COLUMNS, values, strict=True)}
    try:
        known: dict[str, Any] = {
            name: kind(text) if text or kind is str else None for name, (text, kind) in texts.items()
        }
    except ValueError:
        return None
    return Row(**known)


def drop_errors(out: Path) -> None:
    if not out.exists():
        return
    rows = [row for row in prepare(out) if not row.error]
    with writing(out):
        part = out.with_name(f".{out.name}.part")
        part.write_bytes(b"".join([_line(COLUMNS), *(_line(asdict(row).values()) for row in rows)]))
        os.replace(part, out)
