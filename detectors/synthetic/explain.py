"""What a person can look at: where in a frame, and when in a clip, the classifier sees traces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import SIDE, Stack, scaled
from detectors.synthetic.inference import SyntheticReading
from detectors.synthetic.model import Model
from detectors.synthetic.networks import rgb_of
from genwm.video import Planes

#: Windows across the shorter side of a heat map.
WINDOWS = 5

_COLOURS = np.array([[35, 60, 120], [240, 230, 200], [190, 30, 20]], np.float64)


def heat_map(frame: Planes, model: Model) -> NDArray[np.float64]:
    """How a frame's parts compare, float ``(rows, columns)`` in [0, 1], from the native texture of overlapping windows.

    It ranks the parts of this frame under the model's texture channel: .5 is the frame's own average, and nothing here
    is a probability.
    """
    height, width = frame.y.shape
    side = min(SIDE, height, width) // 2 * 2
    head = model.fusion.heads.get("texture")
    if head is None or side < 32:
        return np.full((1, 1), 0.5)
    step = max(2, min(height, width) // WINDOWS)
    tops = _places(height - side, step)
    lefts = _places(width - side, step)
    logits = np.zeros((len(tops), len(lefts)))
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            half = (slice(top // 2, (top + side) // 2), slice(left // 2, (left + side) // 2))
            part = Stack.of([(frame.y[top : top + side, left : left + side], frame.u[half], frame.v[half])])
            logits[row, column] = head.logits(model.networks.embedding(rgb_of(part, np.arange(1)))[0][0])
    return np.asarray(1 / (1 + np.exp(-(logits - logits.mean()))))


def _places(room: int, step: int) -> list[int]:
    count = 1 + -(-room // step)
    return [int(place) // 2 * 2 for place in np.linspace(0, room, count)]


def overlay(picture: NDArray[np.uint8], heat: NDArray[np.float64], *, strength: float = 0.45) -> NDArray[np.uint8]:
    """A heat map over a picture, RGB uint8 ``(height, width, 3)`` both in and out: blue low, red high."""
    height, width = picture.shape[:2]
    grey = scaled(np.rint(np.clip(heat, 0, 1) * 255).astype(np.uint8), height, width)
    return _mixed(picture, _coloured(grey / 255.0), strength)


def strip(reading: SyntheticReading, duration_s: float, *, width: int = 600, height: int = 24) -> NDArray[np.uint8]:
    """The clip from left to right, RGB uint8 ``(height, width, 3)``: each segment in the colour of its probability,
    grey where nothing was looked at."""
    bar = np.full((height, width, 3), 225, np.uint8)
    scale = width / max(duration_s, 1e-6)
    for segment in reading.segments:
        left = min(width - 1, int(segment.start_s * scale))
        right = max(left + 1, int(segment.stop_s * scale))
        bar[:, left:right] = np.rint(_coloured(np.array([segment.probability]))[0])
    return bar


def _coloured(values: NDArray[np.float64]) -> NDArray[np.float64]:
    place = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(values, place, _COLOURS[:, channel]) for channel in range(3)], axis=-1)


def _mixed(picture: NDArray[np.uint8], colours: NDArray[np.float64], strength: float) -> NDArray[np.uint8]:
    return np.rint((1 - strength) * picture + strength * colours).astype(np.uint8)

