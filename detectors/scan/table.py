"""Records as CSV, one row each, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from detectors.record import Record
from detectors.scan.files import replaced
from genwm.errors import OutputError, OutputExistsError

COLUMNS = (
    "path", "sha256", "bytes", "verdict", "watermark", "key", "payload", "log10_p", "synthetic", "probability", "model",
    "c2pa", "registry", "container", "codec", "width", "height", "fps", "duration_s", "error", "duplicate_of",
    "contradictions", "warnings", "reasons", "total_s", "settings",
)  # fmt: skip


def check_table(path: Path) -> None:
    """Makes the folder of ``path`` if need be, so that a scan that takes hours does not end without its table.

    Errors: OutputExistsError (a file that no scan wrote: only tables of scans are replaced), OutputError (a folder that
    cannot be made or written to).
    """
    head = (",".join(COLUMNS) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if not path.exists():
            return
        if path.is_file():  # opening a pipe would wait for its writer
            with path.open("rb") as file:
                if file.read(len(head)) == head:
                    return
    except OSError as error:
        raise OutputError(f"Expected to write a table to {path}, got '{error.strerror or error}'; choose another name "
                          "or folder for --csv") from None
    raise OutputExistsError(f"Expected no file at {path} but a table of an earlier scan, got something else; choose "
                            "another name for --csv")


def write_table(path: Path, records: Iterable[Record]) -> None:
    """Puts a CSV file at ``path``, at once and as a whole. Errors: OutputError, DiskFullError."""
    with replaced(path) as file:
        file.write(_line(COLUMNS))
        for record in records:
            file.write(_line([cell(value) for value in row(record)]))


def row(record: Record) -> tuple[object, ...]:
    """The cells of one record, in the order of ``COLUMNS``; None is empty, as is the probability of a file that the
    classifier could not judge."""
    source, mark, score = record.input, record.watermark, record.synthetic
    return (
        source.path, source.sha256, source.bytes, record.verdict,
        mark and mark.status, mark and mark.key, mark and mark.payload, mark and mark.log10_p,
        score and score.status, score.probability if score and score.judged else None, score and score.model,
        record.provenance.c2pa, record.provenance.registry,
        source.container, source.codec, source.width, source.height, source.fps, source.duration,
        record.error and record.error.code, record.duplicate_of,
        " ".join(record.contradictions), " ".join(record.warnings),
        record.error.message if record.error else " ".join(record.reasons),
        record.timing.get("total"), record.settings,
    )  # fmt: skip


def _line(cells: Sequence[object]) -> str:
    # A lone carriage return is quoted only where lines end with one.
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def cell(value: object) -> object:
    """A value that is no formula in a spreadsheet, whatever a stranger called a file, nor behind white space that
    spreadsheets pass over."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value
