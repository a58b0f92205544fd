"""Matrix products on one thread: where threads of our own share the cores already, BLAS's only get in their way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_users = 0
_limit: AbstractContextManager[Any] | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread until the last of those who asked for it, in any thread of this process, is done."""
    global _users, _limit
    with _lock:
        if not _users:
            _limit = _controller().limit(limits=1, user_api="blas")
            _limit.__enter__()
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _limit is not None:
                _limit.__exit__(None, None, None)
                _limit = None


@cache
def _controller() -> Any:
    import numpy.linalg  # noqa: F401  (only what is loaded is found; SciPy has a BLAS of its own, which readers do not use)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
