"""What the measures compare: stacks of frames, checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genwm.errors import InputError

Luma = NDArray[np.uint8]
RGB = NDArray[np.uint8]


def check_frames(reference: NDArray[np.uint8], test: NDArray[np.uint8], dimensions: int | None = None) -> None:
    """Raises InputError unless both are uint8, of one shape, not empty, and Luma (3 dimensions) or RGB (4) if asked."""
    wrong = dimensions is not None and (reference.ndim != dimensions or (dimensions == 4 and reference.shape[3] != 3))
    if reference.shape != test.shape or reference.dtype != np.uint8 or test.dtype != np.uint8 or wrong:
        wanted = {3: " (N, H, W)", 4: " (N, H, W, 3)"}.get(dimensions or 0, "")
        raise InputError(
            f"Expected two uint8 arrays{wanted} of one shape, got {reference.dtype} {reference.shape} and "
            f"{test.dtype} {test.shape}; compare frames with the frames that they were made from"
        )
    if not reference.size:
        raise InputError("Expected at least one frame to compare, got none; check the clip")


def _size(frames: NDArray[np.uint8]) -> str:
    return f"{frames.shape[2]} x {frames.shape[1]}"
