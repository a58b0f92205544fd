"""One error tree with stable codes.

Every message is one sentence of the form "Expected X, got Y; do Z". The code of a class never changes once released:
records, exit statuses and scripts rely on it.

    GenwmError
    ├── InputError             a file or argument that cannot be read as what it should be
    │   ├── NotFoundError, EmptyFileError, NotMediaError, NoVideoError, TruncatedError, TooLargeError, DecodeError,
    │   ├── ChangedError, SizeError
    ├── OutputError            a result that cannot be written
    │   ├── OutputExistsError, SameFileError, DiskFullError, EncodeError, UnsupportedFormatError, NotVerifiedError
    ├── KeyringError           keys that cannot be read or written
    │   ├── KeyMissingError, KeyExistsError
    ├── PayloadError, MissingExtraError, BudgetError, FetchError, PolicyError, JournalError, WorkerError
"""

from __future__ import annotations

import errno
import os


class GenwmError(Exception):
    """Base of everything that genwm raises on purpose; ``code`` is stable, the message is for people."""

    code = "error"


class InputError(GenwmError):
    code = "bad-input"


class NotFoundError(InputError):
    code = "not-found"


class EmptyFileError(InputError):
    code = "empty-file"


class NotMediaError(InputError):
    code = "not-media"


class NoVideoError(InputError):
    code = "no-video-stream"


class TruncatedError(InputError):
    code = "truncated"


class TooLargeError(InputError):
    code = "too-large"


class DecodeError(InputError):
    code = "decode-failed"


class ChangedError(InputError):
    code = "changed-while-read"


class SizeError(InputError):
    code = "bad-size"


class OutputError(GenwmError):
    code = "bad-output"


class OutputExistsError(OutputError):
    code = "output-exists"


class SameFileError(OutputError):
    code = "output-is-input"


class DiskFullError(OutputError):
    code = "disk-full"


class EncodeError(OutputError):
    code = "encode-failed"


class UnsupportedFormatError(OutputError):
    code = "unsupported-format"


class NotVerifiedError(OutputError):
    code = "not-verified"


class KeyringError(GenwmError):
    code = "bad-keyring"


class KeyMissingError(KeyringError):
    code = "key-missing"


class KeyExistsError(KeyringError):
    code = "key-exists"


class PayloadError(GenwmError):
    code = "bad-payload"


class MissingExtraError(GenwmError):
    code = "missing-extra"


class BudgetError(GenwmError):
    code = "over-budget"


class FetchError(GenwmError):
    code = "fetch-failed"


class PolicyError(GenwmError):
    code = "bad-policy"


class JournalError(GenwmError):
    code = "bad-journal"


class WorkerError(GenwmError):
    code = "worker-failed"


def debugging() -> bool:
    """Whether ``GENWM_DEBUG`` asks for tracebacks and for what workers say; empty and 0 do not."""
    return os.environ.get("GENWM_DEBUG", "") not in ("", "0")


def is_disk_full(error: BaseException) -> bool:
    """Whether the system refused to write for want of room: the disk's, a quota's, or the largest file's."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
