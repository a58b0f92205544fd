"""Worker processes that end with the process that waits for them."""

from __future__ import annotations

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Ends this process once its parent has ended: a killed run must not go on unseen. The initializer of a worker."""
    threading.Thread(target=_outlive_no_one, daemon=True).start()


def _outlive_no_one() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
