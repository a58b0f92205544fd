"""What a person can look at: which parts of a frame have more of the classifier's traces than the rest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detectors.heat import Part
from detectors.synthetic.canonical import SIDE, Stack, planes_of
from detectors.synthetic.model import Model
from detectors.synthetic.networks import BATCH, rgb_of

#: Windows across the shorter side of a frame, about the most across the longer, and lines of the smallest window that
#: tells anything.
WINDOWS, MOST_WINDOWS, LEAST_WINDOW = 5, 24, 32


def heat_map(frame: NDArray[np.uint8], model: Model) -> tuple[Part, ...]:
    """How the parts of a frame (RGB uint8 ``(height, width, 3)``) compare, row by row: they cover it, and the heat of
    each, in [0, 1], comes from the native texture of the window about its middle. Windows may overlap.

    It ranks the parts of this frame under the model's texture channel: .5 is the frame's own average, and nothing here
    is a probability. Empty where the frame is too small, or the model has no such channel.
    """
    height, width = frame.shape[:2]
    side = min(SIDE, height, width) // 2 * 2
    head = model.fusion.heads.get("texture")
    if head is None or side < LEAST_WINDOW:
        return ()
    step = max(2, min(height, width) // WINDOWS, max(height, width) // MOST_WINDOWS)
    tops, lefts = _places(height - side, step), _places(width - side, step)
    windows = Stack.of([planes_of(frame[top : top + side, left : left + side]) for top in tops for left in lefts])
    batches = (np.arange(len(windows))[start : start + BATCH] for start in range(0, len(windows), BATCH))
    logits = np.concatenate([head.logits(model.networks.embedding(rgb_of(windows, batch))[0]) for batch in batches])
    heats = (1 / (1 + np.exp(-(logits - logits.mean())))).reshape(len(tops), len(lefts))
    rows, columns = _edges(tops, side, height), _edges(lefts, side, width)
    return tuple(
        (top, left, bottom - top, right - left, float(heats[row, column]))
        for row, (top, bottom) in enumerate(pairwise(rows))
        for column, (left, right) in enumerate(pairwise(columns))
    )


def _places(room: int, step: int) -> list[int]:
    """Where windows begin, evenly from one edge to the other."""
    return [int(place) for place in np.linspace(0, room, 1 + -(-room // step))]


def _edges(places: Sequence[int], side: int, length: int) -> list[float]:
    """Where the parts about the middles of windows end, as shares of the ``length``: half-way to the next middle."""
    middles = np.array(places) + side / 2
    return [0.0, *((middles[:-1] + middles[1:]) / 2 / length).tolist(), 1.0]
