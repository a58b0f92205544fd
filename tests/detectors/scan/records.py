"""Records made up for tests of what is done with records."""

from __future__ import annotations

import hashlib
from typing import Any

from detectors.record import ErrorRecord, InputRecord, Record

DIGEST = "0123456789abcdef"


def record_of(path: str, content: str | None = None, *, code: str | None = None, **fields: Any) -> Record:
    """A record of a file that holds ``content`` (default: its own name); ``code`` makes it an error."""
    sha256 = hashlib.sha256((path if content is None else content).encode()).hexdigest()
    return Record.model_validate({
        "schema": "genwm.record/1", "input": InputRecord(path=path, sha256=sha256, bytes=1),
        "verdict": "error" if code else "no_evidence",
        "error": ErrorRecord(code=code, message="Expected this, got that") if code else None,
        "settings": DIGEST, "timing": {"total": 0.5}, "versions": {"genwm": "0"}, **fields,
    })  # fmt: skip
