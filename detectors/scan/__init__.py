"""Scanning: one file -> one record, folders by the thousand, on one machine or many.

``detectors.scan`` is the package and, called, its function `scan`: ``from detectors import scan; scan("upload.mp4")``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from detectors.record import Record
from detectors.scan.pool import Pool
from detectors.scan.settings import Limits, Settings
from detectors.scan.single import Fingerprint, Scanned, fingerprint, scan

__all__ = ["Fingerprint", "Limits", "Pool", "Record", "Scanned", "Settings", "fingerprint", "scan"]


class _Callable(ModuleType):
    """Importing the package binds its name in ``detectors`` to the module, which must do what the function does."""

    def __call__(self, *args: Any, **kwargs: Any) -> Record:
        return scan(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
