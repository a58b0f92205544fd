"""The rows of results and their table."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from eval import tables
from genwm.errors import NotFoundError, OutputError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the results. Truth values are 0 or 1; what is unknown is empty (None).

    ``span`` says how much of the clip was marked: ``72f`` frames or ``10s`` seconds at most, and ``@480`` that it was
    scaled down to so many lines before. ``present``: the reader said detected; ``right_key``: and named the key that
    was used, or none where keys play no part; ``exact``: and gave all bits of the payload; ``wrong_payload``: it gave a
    payload that was not embedded. ``error`` is a stable code, ``internal`` where something failed that has none.
    ``bits`` is the length of the message; a method without a decision of its own (see eval/methods) counts as present
    where its bits are right beyond a chance of 10^-6, ``log10_p`` being that of the binomial tail, and gives a payload
    whatever it reads. ``command`` measures the row again; it is empty where no id names the method. ``sha256`` is the
    beginning (16 hex digits) of the clip's, empty where unknown.
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
    bits: int | None = None
    command: str = ""
    sha256: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What no two rows share. The seed has no part in it: a table is of one seed."""
        return (self.clip, self.attack, self.watermark, self.strength, self.profile, self.span)


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Row))
ADDED = frozenset({"bits", "command", "sha256"})  # since the first tables
_TYPES: dict[str, Callable[[str], Any]] = {
    field.name: {"int": int, "int | None": int, "float | None": float}.get(str(field.type), str)
    for field in fields(Row)
}


def append_row(out: Path, row: Row) -> None:
    tables.append(out, [asdict(row).values()])


def prepare(out: Path) -> list[Row]:
    """Makes the file, or cuts off the line that a kill has torn; returns the rows that are there. An older table gets
    the columns that it lacks."""
    rows = _read(out)
    if rows is not None and not tables.has_columns(out, COLUMNS):
        tables.rewrite(out, COLUMNS, (asdict(row).values() for row in rows))
    tables.prepare(out, COLUMNS)
    return rows or []


def rows_so_far(out: Path) -> list[Row]:
    """The rows that are there, none where there is no table yet; the file stays as it is. Errors: OutputError."""
    return _read(out) or []


def read_rows(path: str | os.PathLike[str]) -> list[Row]:
    """The rows of a results file, the last of those that share a key. Damaged lines are left out (and so are measured
    again by the next run). Errors: NotFoundError; OutputError where the file is another table."""
    rows = _read(Path(path))
    if rows is None:
        raise NotFoundError(f"Expected a table of robustness results at {path}, got none; run it first")
    return rows


def _read(path: Path) -> list[Row] | None:
    other = OutputError(f"Expected a table of robustness results in {path}, got another; choose another name")
    lines = tables.read(path, COLUMNS, refusal=other, added=ADDED)
    if lines is None:
        return None
    return list({row.key: row for row in map(_row, lines) if row}.values())


def _row(texts: dict[str, str]) -> Row | None:
    try:
        known: dict[str, Any] = {
            name: kind(texts[name]) if texts[name] or kind is str else None for name, kind in _TYPES.items()
        }
    except ValueError:
        return None
    return Row(**known)


def drop_errors(out: Path) -> None:
    if out.exists():
        tables.rewrite(out, COLUMNS, (asdict(row).values() for row in prepare(out) if not row.error))
