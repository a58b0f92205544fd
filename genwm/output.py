"""Files that are never half written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genwm.errors import OutputError, OutputExistsError, SameFileError


@contextmanager
def atomic_output(target: str | os.PathLike[str], *, source: object = None, overwrite: bool = False) -> Iterator[str]:
    """Yields a temporary path beside ``target`` that becomes ``target`` on success and vanishes on any failure."""
    path = Path(target)
    origin = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    if isinstance(origin, str | os.PathLike) and _same(Path(origin), path):
        raise SameFileError(f"Expected an output other than the input, got {path} for both; choose another name")
    if path.is_dir():
        raise OutputError(f"Expected the name of an output file, got the folder {path}; add a file name")
    if path.exists() and not overwrite:
        raise OutputExistsError(f"Expected no file at {path}, got one; choose another name or allow overwriting")
    if not path.parent.is_dir():
        raise OutputError(f"Expected a folder at {path.parent}, got none; create it first")
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield str(part)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return one.absolute() == other.absolute()
