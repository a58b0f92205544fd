"""How steady a clip is: flicker, warping error and unsteadiness of motion, from the frames alone.

Motion is found by matching windows, so no network is needed, and it is looked for in what is left of each picture when
its local mean is taken away, so that a change of brightness is no motion. Where the picture is not found again in the
next frame (it is hidden, cut, or moves faster than is looked for) nothing is measured, and ``followed`` says how much
that leaves. All other measures are 0 for a clip that stands still.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter

from genwm.errors import InputError

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_LINES = 160  # motion is measured in pictures of about this short side
_WINDOW = 9
_REACH = 7, 4  # pixels of the reduced picture that anything may move from frame to frame, across and down
_PREFERENCE = 2e-6  # what one pixel of motion must gain in mean squared error over none, so that flat areas stand still
_BLOCK = 8
_LOCAL = 17  # pixels, of the mean that is taken away before matching
_REFINEMENTS = 2
_FLAT = 1e-6  # mean squared slope, per pixel, below which a window says nothing of its motion
#: Of two frames that have less in common, nothing is measured: chance alone matches a tenth of noise.
_LEAST_FOLLOWED = 0.3


@dataclass(frozen=True)
class Steadiness:
    """Temporal measures of a clip; nan where no two frames show enough of the same.

    Measured on luma, averaged to about 160 lines; the lower, the steadier. Times are frames, so clips are compared at
    one frame rate only.

    Attributes:
        flicker: how far local brightness (means over about 5 % of the short side) is from halfway between those of the
            frames before and after, along the motion; mean absolute value, 8-bit levels. Constant motion and linear
            fades count nothing; brightness that goes up and down by ``a`` every frame counts 2a.
        warping_error: mean squared difference between a frame and the one before it warped along the motion, of values
            in [0, 1]; the measure of Lai et al. (ECCV 2018), but of luma, and with motion from matching: not comparable
            with figures from another flow. Fades count.
        unsteadiness: mean change of the motion vectors from one frame to the next along the motion, per mille of the
            picture's short side. Constant motion counts nothing; a jump of ``p`` per mille to and fro counts 2p.
        followed: share of the picture, 0 to 1, that is found again in the next frame; here lower is worse. Motion of
            up to 4 % of the short side a frame across and 2 % down is looked for.
    """

    flicker: float
    warping_error: float
    unsteadiness: float
    followed: float


#: What the fields of `Steadiness` are in.
UNITS = {
    "flicker": "8-bit levels",
    "warping_error": "squared difference of values in [0, 1]",
    "unsteadiness": "per mille of the short side",
    "followed": "share of the picture",
}


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
    ahead = [found_again(f, b) for f, b in zip(forward, backward, strict=True)]
    behind = [found_again(b, f) for f, b in zip(forward, backward, strict=True)]
    followed = float(np.mean([seen.mean() for seen in behind]))
    ahead, behind = ([seen & (seen.mean() >= _LEAST_FOLLOWED) for seen in side] for side in (ahead, behind))
    return Steadiness(flicker(grey, forward, backward, ahead, behind), warping_error(grey, backward, behind),
                      unsteadiness(forward, backward, ahead, behind), followed)


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
    """Where each pixel of ``first`` is in ``second``, relative to where it was: ``(H, W, 2)`` (x, y) in pixels.

    Whole pixels by matching, then the rest by the method of Lucas and Kanade (IJCAI 1981), which, unlike a parabola
    through the costs, finds none where the two are equal.
    """
    first, second = (picture - uniform_filter(picture, _LOCAL, mode="nearest") for picture in (first, second))
    whole = np.rint(best_match(match_costs(first, second, _REACH, _WINDOW)))
    down, across = (np.asarray(np.gradient(first, axis=axis), np.float32) for axis in (0, 1))
    xx, xy, yy = (_local(product) for product in (across * across, across * down, down * down))
    xx, yy = xx + _FLAT, yy + _FLAT
    determinant = xx * yy - xy * xy
    motion = whole
    for _ in range(_REFINEMENTS):
        gap = first - sampled(second, motion)
        x, y = _local(across * gap), _local(down * gap)
        step = np.stack([yy * x - xy * y, xx * y - xy * x], axis=-1) / determinant[..., None]
        motion = np.clip(motion + step, whole - 1, whole + 1).astype(np.float32)
    return motion


def _local(values: NDArray[Any]) -> Floats:
    return np.asarray(uniform_filter(values, _WINDOW, mode="nearest"), np.float32)


def sampled(picture: Floats, motion: Floats) -> Floats:
    """``picture`` ``(H, W)`` or ``(H, W, C)`` at each pixel's place after ``motion``; linear between pixels."""
    rows, columns = np.mgrid[: motion.shape[0], : motion.shape[1]]
    where = rows + motion[..., 1], columns + motion[..., 0]
    if picture.ndim == 2:
        return np.asarray(map_coordinates(picture, where, order=1, mode="nearest"), np.float32)
    return np.stack([sampled(picture[..., channel], motion) for channel in range(picture.shape[2])], axis=-1)


def found_again(there: Floats, back: Floats) -> Mask:
    """Where the motion there and the motion back agree, ``(H, W)``: what is hidden in one frame fails (the criterion of
    Sundaram et al., ECCV 2010). So does motion as fast as any that was looked for, which may be faster."""
    returned = sampled(back, there)
    gap = ((there + returned) ** 2).sum(-1)
    agrees = gap < 0.01 * ((there**2).sum(-1) + (returned**2).sum(-1)) + 0.5
    inside: Mask = agrees & (np.abs(there) < np.asarray(_REACH) - 0.5).all(-1)
    return inside


def flicker(
    grey: Floats, forward: list[Floats], backward: list[Floats], ahead: list[Mask], behind: list[Mask]
) -> float:
    """See `Steadiness`. ``forward[t]`` leads from frame t to t + 1, ``backward[t]`` back; ``ahead[t]`` marks the pixels
    of frame t that are found in t + 1, ``behind[t]`` those of t + 1 that are found in t."""
    means = np.stack([uniform_filter(picture, _BLOCK, mode="nearest") for picture in grey])
    values = []
    for t in range(1, len(grey) - 1):
        between = (sampled(means[t - 1], backward[t - 1]) + sampled(means[t + 1], forward[t])) / 2
        values.append(_mean(np.abs(means[t] - between), behind[t - 1] & ahead[t]))
    return 255 * _mean_of(values)


def warping_error(grey: Floats, backward: list[Floats], behind: list[Mask]) -> float:
    """See `Steadiness` and `flicker`."""
    return _mean_of(_mean((grey[t + 1] - sampled(grey[t], motion)) ** 2, seen)
                    for t, (motion, seen) in enumerate(zip(backward, behind, strict=True)))


def unsteadiness(forward: list[Floats], backward: list[Floats], ahead: list[Mask], behind: list[Mask]) -> float:
    """See `Steadiness` and `flicker`."""
    changes = [_mean(np.hypot(*np.moveaxis(forward[t] + backward[t - 1], -1, 0)), behind[t - 1] & ahead[t])
               for t in range(1, len(forward))]
    return 1000 * _mean_of(changes) / float(min(forward[0].shape[:2]))


def _mean(values: Floats, kept: Mask) -> float:
    """Over the pixels that are kept; nan where there are none."""
    return float(values[kept].mean()) if kept.any() else math.nan


def _mean_of(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
