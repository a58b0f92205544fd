"""Reads a file in a worker that cannot import torch: the blocker is imported before the reader is."""

from __future__ import annotations

import blocker  # type: ignore[import-not-found]  # noqa: F401  the test puts it on the path

from detectors.scan.single import examine

__all__ = ["examine"]
