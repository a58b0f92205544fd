"""Which of the server's own files may be scanned by path: those under the configured roots, links resolved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectors.service.errors import OutsideRootsError, UnknownScanError


def resolve(text: str, roots: Sequence[Path]) -> Path:
    """The real path of a regular file under one of ``roots``; a relative path is looked for in each.

    Errors: OutsideRootsError (whether or not something lies there: nothing is told of it), UnknownScanError (no such
    file in a root).
    """
    if not roots:
        raise OutsideRootsError("Expected an upload, got a path, which this server does not take; start it with --root "
                                "FOLDER to allow paths below that folder")
    inside = False
    for root in roots:
        base = root.resolve()
        try:
            path = (base / text).resolve()
            if not path.is_relative_to(base):
                continue
            inside = True
            if path.is_file():
                return path
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, links in a circle
            continue
    if inside:
        raise UnknownScanError(f"Expected a file at {text!r} under the server's roots, got none; check the path")
    raise OutsideRootsError(f"Expected a path under the server's roots, got {text!r}; move the file there or upload it")
