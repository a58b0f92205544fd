"""Text files that are replaced at once and as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from genwm.errors import DiskFullError, OutputError, is_disk_full
from genwm.output import atomic_output


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """A text file (UTF-8) that takes the place of ``path`` when the block ends well. Errors: OutputError,
    DiskFullError."""
    try:
        with atomic_output(path, overwrite=True) as part, open(part, "w", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"Expected room on the disk for {path}, got none left; free some space") from None
        raise OutputError(f"Expected to write {path}, got '{error.strerror}'; choose another folder") from None
