"""How steady a clip is: flicker, warping error and unsteadiness of motion, from the frames alone.

Motion is found by matching windows, so no network is needed. All measures are 0 for a clip that stands still.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter

from genwm.errors import InputError

Floats = NDArray[np.float32]

_LINES = 160  # motion is measured in pictures of about this short side
_WINDOW = 9
_REACH = 7, 4  # pixels of the reduced picture that anything may move from frame to frame, across and down
_PREFERENCE = 2e-6  # what one pixel of motion must gain in mean squared error over none, so that flat areas stand still
_BLOCK = 8


@dataclass(frozen=True)
class Steadiness:
    """Temporal measures of a clip; lower is steadier.

    Attributes:
        flicker: mean absolute second difference over time of local means (of about 5 % of the short side) along their
            motion, in 8-bit levels. Constant motion and linear fades count nothing.
        warping_error: mean squared difference between a frame and the one before it warped along the motion, over what
            is to be seen in both; values in [0, 1]; the measure of Lai et al. (ECCV 2018), with motion from matching.
        unsteadiness: mean change of the motion vectors from one frame to the next along the motion, in per mille of the
            picture's short side.
    """

    flicker: float
    warping_error: float
    unsteadiness: float


def steadiness(frames: NDArray[np.uint8]) -> Steadiness:
    """Measures a clip: uint8 ``(N, H, W, 3)`` RGB, at least 3 frames of 64 x 64 pixels.

    Raises:
        InputError: another shape or type.
    """
    grey = reduced_luma(frames, _LINES)
    if len(grey) < 3:
        raise InputError(f"Expected at least 3 frames to measure steadiness, got {len(grey)}; use a longer clip.")
    forward = [flow(a, b) for a, b in pairwise(grey)]
    backward = [flow(b, a) for a, b in pairwise(grey)]
    seen = [both_ways(f, b) for f, b in zip(backward, forward, strict=True)]
    return Steadiness(flicker(grey, forward, backward), warping_error(grey, backward, seen),
                      unsteadiness(forward, backward))


def reduced_luma(frames: NDArray[np.uint8], lines: int) -> Floats:
    """BT.601 luma in [0, 1] of uint8 ``(N, H, W, 3)`` RGB, averaged over squares to a short side of about ``lines``."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or min(frames.shape[1:3]) < 64:
        raise InputError(f"Expected uint8 frames of shape (N, H, W, 3), at least 64 x 64, got {frames.shape} of "
                         f"{frames.dtype}; convert them.")
    factor = max(1, round(min(frames.shape[1:3]) / lines))
    rows, columns = frames.shape[1] // factor, frames.shape[2] // factor
    weights = np.asarray((0.299, 0.587, 0.114), np.float32) / 255
    grey = np.stack([frame[: rows * factor, : columns * factor] @ weights for frame in frames])
    reduced: Floats = grey.reshape(len(grey), rows, factor, columns, factor).mean((2, 4), dtype=np.float32)
    return reduced


def match_costs(first: Floats, second: Floats, reach: tuple[int, int], window: int) -> Floats:
    """Mean squared differences of windows for every shift: float32 ``(2 * reach_y + 1, 2 * reach_x + 1, H, W)``.

    Entry ``[dy, dx, y, x]`` compares the window around (x, y) of ``first`` with the one around (x + dx - reach_x,
    y + dy - reach_y) of ``second``; both ``(H, W)``.
    """
    across, down = reach
    height, width = first.shape
    padded = np.pad(second, ((down, down), (across, across)), mode="edge")
    costs = np.empty((2 * down + 1, 2 * across + 1, height, width), np.float32)
    for dy in range(2 * down + 1):
        for dx in range(2 * across + 1):
            difference = first - padded[dy : dy + height, dx : dx + width]
            uniform_filter(difference * difference, window, output=costs[dy, dx], mode="nearest")
    return costs


def best_match(costs: Floats, preference: float = _PREFERENCE) -> Floats:
    """Motion ``(H, W, 2)`` (x, y) in pixels that costs least, refined below a pixel by a parabola.

    ``preference`` is added to the cost for each pixel of motion.
    """
    count_y, count_x, height, width = costs.shape
    down, across = count_y // 2, count_x // 2
    shift_y, shift_x = np.mgrid[-down : down + 1, -across : across + 1]
    penalty = (preference * np.hypot(shift_x, shift_y)).astype(np.float32)[..., None, None]
    flat = (costs + penalty).reshape(count_y * count_x, -1)
    lowest = flat.argmin(0)
    y, x = np.divmod(lowest, count_x)
    place = np.arange(height * width)

    def fraction(before: NDArray[np.int64], after: NDArray[np.int64], inside: NDArray[np.bool_]) -> Floats:
        low, mid, high = flat[before, place], flat[lowest, place], flat[after, place]
        bend = low - 2 * mid + high
        part: Floats = np.where(inside & (bend > 1e-9), np.clip((low - high) / (2 * bend + 1e-12), -0.5, 0.5), 0)
        return part

    inside_x, inside_y = (x > 0) & (x < count_x - 1), (y > 0) & (y < count_y - 1)
    dx = fraction(np.where(inside_x, lowest - 1, lowest), np.where(inside_x, lowest + 1, lowest), inside_x)
    dy = fraction(np.where(inside_y, lowest - count_x, lowest), np.where(inside_y, lowest + count_x, lowest), inside_y)
    motion = np.stack([x - across + dx, y - down + dy], axis=-1).reshape(height, width, 2)
    return motion.astype(np.float32)


def flow(first: Floats, second: Floats) -> Floats:
    """Where each pixel of ``first`` is in ``second``, relative to where it was: ``(H, W, 2)`` (x, y) in pixels."""
    return best_match(match_costs(first, second, _REACH, _WINDOW))


def sampled(picture: Floats, motion: Floats) -> Floats:
    """``picture`` ``(H, W)`` or ``(H, W, C)`` at each pixel's place after ``motion``; linear between pixels."""
    rows, columns = np.mgrid[: motion.shape[0], : motion.shape[1]]
    where = rows + motion[..., 1], columns + motion[..., 0]
    if picture.ndim == 2:
        return np.asarray(map_coordinates(picture, where, order=1, mode="nearest"), np.float32)
    return np.stack([sampled(picture[..., channel], motion) for channel in range(picture.shape[2])], axis=-1)


def both_ways(there: Floats, back: Floats) -> NDArray[np.bool_]:
    """Where the motion there and the motion back agree, ``(H, W)``: what is hidden in one frame fails (the criterion of
    Sundaram et al., ECCV 2010)."""
    returned = sampled(back, there)
    gap = ((there + returned) ** 2).sum(-1)
    agrees: NDArray[np.bool_] = gap < 0.01 * ((there**2).sum(-1) + (returned**2).sum(-1)) + 0.5
    return agrees


def flicker(grey: Floats, forward: list[Floats], backward: list[Floats]) -> float:
    """See `Steadiness`. ``forward[t]`` leads from frame t to t + 1, ``backward[t]`` back."""
    means = np.stack([uniform_filter(picture, _BLOCK, mode="nearest") for picture in grey])
    values = []
    for t in range(1, len(grey) - 1):
        ahead, behind = forward[t], backward[t - 1]
        bend = sampled(means[t - 1], behind) - 2 * means[t] + sampled(means[t + 1], ahead)
        # Where the two motions are not opposite, something appears, vanishes or was matched wrongly.
        kept = np.hypot(*np.moveaxis(ahead + behind, -1, 0)) < 1
        values.append(np.abs(bend[kept]).mean() if kept.any() else 0.0)
    return float(255 * np.mean(values))


def warping_error(grey: Floats, backward: list[Floats], seen: list[NDArray[np.bool_]]) -> float:
    """See `Steadiness`. ``seen[t]`` marks the pixels of frame t + 1 that frame t shows too."""
    errors = []
    for t, (motion, kept) in enumerate(zip(backward, seen, strict=True)):
        gap = (grey[t + 1] - sampled(grey[t], motion)) ** 2
        errors.append(gap[kept].mean() if kept.any() else 0.0)
    return float(np.mean(errors))


def unsteadiness(forward: list[Floats], backward: list[Floats]) -> float:
    """See `Steadiness`."""
    changes = []
    for t in range(1, len(forward)):
        change = np.hypot(*np.moveaxis(forward[t] + backward[t - 1], -1, 0))
        kept = both_ways(backward[t - 1], forward[t - 1])
        changes.append(change[kept].mean() if kept.any() else 0.0)
    return float(1000 * np.mean(changes) / min(forward[0].shape[:2]))
