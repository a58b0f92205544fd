"""Records as CSV, one row each, for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from detectors.record import Record
from detectors.scan.files import replaced
from genwm.errors import OutputExistsError

COLUMNS = (
    "path", "sha256", "bytes", "verdict", "watermark", "key", "payload", "log10_p", "synthetic", "probability", "model",
    "c2pa", "registry", "container", "codec", "width", "height", "fps", "duration_s", "error", "duplicate_of",
    "contradictions", "warnings", "reasons", "total_s", "settings",
)  # fmt: skip


def check_table(path: Path) -> None:
    """Raises OutputExistsError if there is a file at ``path`` that no scan wrote: only such tables are replaced."""
    head = (",".join(COLUMNS) + "\n").encode()
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(len(head)) != head:
            raise OutputExistsError(f"Expected no file at {path} but a table of an earlier scan, got something else; "
                                    "choose another name for --csv")


def write_table(path: Path, records: Iterable[Record]) -> None:
    """Puts a CSV file at ``path``, at once and as a whole. Errors: OutputError, DiskFullError."""
    with replaced(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for record in records:
            writer.writerow([_cell(value) for value in row(record)])


def row(record: Record) -> tuple[object, ...]:
    """The cells of one record, in the order of ``COLUMNS``; None is empty."""
    source, mark, score = record.input, record.watermark, record.synthetic
    return (
        source.path, source.sha256, source.bytes, record.verdict,
        mark and mark.status, mark and mark.key, mark and mark.payload, mark and mark.log10_p,
        score and score.status, score and score.probability, score and score.model,
        record.provenance.c2pa, record.provenance.registry,
        source.container, source.codec, source.width, source.height, source.fps, source.duration,
        record.error and record.error.code, record.duplicate_of,
        " ".join(record.contradictions), " ".join(record.warnings),
        record.error.message if record.error else " ".join(record.reasons),
        record.timing.get("total"), record.settings,
    )  # fmt: skip


def _cell(value: object) -> object:
    # A stranger's file name must not become a formula.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
