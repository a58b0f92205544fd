"""Files of results, none ever half written: texts and tables that take a file's place as a whole (`put`, `rewrite`),
and tables, CSV files, that grow by a durable line at a time, so a run may be killed and goes on.

A row is one line, whatever its cells hold. A line that a kill has torn, or that has another number of cells, counts as
absent: what it stood for is measured again.
"""

from __future__ import annotations

import ast
import csv
import errno
import hashlib
import io
import os
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path

import genwm
from genwm import __version__
from genwm.errors import DiskFullError, GenwmError, InputError, OutputError, is_disk_full
from genwm.output import atomic_output


def read(
    path: Path, columns: Sequence[str], *, refusal: GenwmError, added: Collection[str] = ()
) -> Iterator[dict[str, str]] | None:
    """The whole rows of a table, by column; None where nothing is there yet, neither rows nor a header. Columns that
    were ``added`` to the format later may be missing from the file, and are empty then.

    Errors: ``refusal``, where the file is another table; InputError (not readable). Both are raised at once.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"Expected a readable CSV file at {path}, got '{error.strerror}'; choose another") from None
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines and _line(columns).decode().startswith(text):
        return None
    there = _cells(lines[0]) if lines else []
    if not there or there != [name for name in columns if name in there or name not in added]:
        raise refusal
    blank = dict.fromkeys(columns, "")
    rows = map(_cells, lines[1:])
    return (blank | dict(zip(there, cells, strict=True)) for cells in rows if len(cells) == len(there))


def prepare(path: Path, columns: Sequence[str]) -> None:
    """Makes the file with its header, or cuts off a torn last line. Errors: those of `writing`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)
            if not whole:
                file.write(_line(columns))
            file.flush()
            os.fsync(file.fileno())


def has_columns(path: Path, columns: Sequence[str]) -> bool:
    """Whether the file's header is just these columns."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return _cells(file.readline().rstrip("\n")) == list(columns)
    return False


def append(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Adds rows, cells in the order of the columns, to a file that is there, and waits until they are on the disk.

    They are one write, so several processes may do so at once. None is an empty cell. Errors: those of `writing`.
    """
    lines = b"".join(map(_line, rows))
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(descriptor, lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rewrite(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Puts a table in the place of a file, at once and as a whole. Errors: those of `writing`."""
    with replacing(path) as part, open(part, "wb") as file:
        file.write(_line(columns))
        file.writelines(map(_line, rows))


def put(path: Path, text: str) -> None:
    """Puts a text in the place of a file, at once and as a whole. Errors: those of `writing`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Makes the folder of a file and yields a name in it: what is written there takes the file's place when all went
    well, and vanishes otherwise. Errors: those of `writing`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(path, overwrite=True) as part:
            yield Path(part)
            with open(part, "rb+") as file:
                os.fsync(file.fileno())


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong inside into DiskFullError or OutputError."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(
                f"Expected room on the disk for {path}, got none left; free some space and run again"
            ) from None
        raise OutputError(f"Expected to write {path}, got '{error.strerror}'; choose another name or folder") from None


def one_line(text: object) -> str:
    return " ".join(str(text).split())


def failure(error: Exception, *, limit: int | None = None) -> tuple[str, str]:
    """What a row says of an error: its code, 'internal' if it has none, and its message as one line, cut at ``limit``
    characters."""
    if isinstance(error, GenwmError):
        return error.code, one_line(error)[:limit]
    return "internal", one_line(f"{type(error).__name__}: {error}")[:limit]


#: What decides how a clip is marked, and how a mark is read: modules and folders of them. Both decode frames and draw
#: patterns from keys.
_BOTH = ("genwm/payload.py", "genwm/gaussian.py", "genwm/keys.py", "genwm/video")
_MARK = (*_BOTH, "genwm/marking.py", "genwm/lattice/embed.py", "genwm/lattice/tile.py")
_READER = (*_BOTH, "genwm/lattice", "detectors/search.py", "detectors/watermark.py")


@cache
def versions(*packages: str) -> str:
    """The versions of genwm and of those packages that are installed; ``python`` is the interpreter's.

    Beside genwm's stand digests of the code that marks and of the code that reads: rows of one table may be years, or
    an afternoon, of changes apart. Rows whose digests were of less of the code count as of an earlier version.
    """
    found = [f"genwm {__version__} (mark {_digest(_MARK)}, reader {_digest(_READER)})"]
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {platform.python_version() if name == 'python' else metadata.version(name)}")
    return "; ".join(found)


def versions_said(versions: Iterable[str]) -> str:
    """What summaries and pages say where rows come from several versions of genwm, '' where they come from one: a table
    that grew over changes is no measurement of the code as it is. ``versions``: that cell of each row."""
    counted = Counter(cell.partition(";")[0] or "unknown" for cell in versions)
    if len(counted) < 2:
        return ""
    listed = ", ".join(f"{version}: {count}" for version, count in counted.most_common())
    return f"Rows by {len(counted)} versions of the code: {listed}."


@cache
def _digest(parts: tuple[str, ...]) -> str:
    """Of modules and folders: 8 hex digits that comments and layout do not change."""
    root = Path(genwm.__file__).parents[1]
    files = sorted({path for part in parts for path in [root / part, *(root / part).glob("*.py")] if path.is_file()})
    code = "\n".join(ast.dump(ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    return hashlib.sha256(code.encode()).hexdigest()[:8]


def _line(cells: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_unbroken, cells))
    return text.getvalue().encode()


def _unbroken(cell: object) -> object:
    return one_line(cell) if isinstance(cell, str) and cell.splitlines() != [cell] else cell


def _cells(line: str) -> list[str]:
    # Line by line: an open quote in a damaged line must not swallow the next.
    return next(csv.reader([line]), [])
