"""Adding the pattern to pixels: a perceptual mask times a static pattern, one multiply-add a sample.

Written in operators that NumPy arrays and torch tensors share: decoded frames are marked without torch, a decoder's
output on its own device. Levels are 8-bit levels of limited-range Y'CbCr throughout, the unit of ``tile.BANDS``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A float32 NumPy array or torch tensor; functions return what they were given.
Array = Any

LUMA_RANGE = 219.0
CHROMA_RANGE = 224.0
#: R, G, B over (Y', Cb, Cr) with Y' in [0, 1] and Cb, Cr in [-0.5, 0.5]: ITU-R BT.709-6, 3.2 and 3.3 inverted.
RGB_FROM_YCBCR = ((1.0, 0.0, 1.5748), (1.0, -0.187324, -0.468124), (1.0, 1.8556, 0.0))
LUMA_FROM_RGB = (0.2126, 0.7152, 0.0722)

MASK_LINES = 256
ACTIVITY_WINDOW, RESIDUAL_WINDOW = 5, 7
ACTIVITY_UNIT = 4.0
ACTIVITY_POWER = 0.7
LUMA_FLOOR, LUMA_CAP = 0.3, 2.0
CHROMA_FLOOR, CHROMA_CAP = 0.25, 1.0
DARK_GAIN, DARK_LEVEL = 0.5, 60.0


def pool_factor(rows: int, columns: int) -> int:
    """Side of the square blocks whose means form the grid of about ``MASK_LINES`` lines that the mask is made on."""
    return max(1, round(min(rows, columns) / MASK_LINES))


def pooled(image: Array, factor: int) -> Array:
    """Means of ``factor`` x ``factor`` blocks of ``(H, W)``; a remainder at the lower and right edge is dropped."""
    if factor == 1:
        return image
    rows, columns = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    down = image[0:rows:factor] + image[1:rows:factor]
    for shift in range(2, factor):
        down += image[shift:rows:factor]
    across = down[:, 0:columns:factor] + down[:, 1:columns:factor]
    for shift in range(2, factor):
        across += down[:, shift:columns:factor]
    across *= 1 / factor**2
    return across


def box(image: Array, size: int) -> Array:
    """Box mean of ``(H, W)``, edges replicated: sums of shifted views, several times faster than pooling on a CPU."""
    rows, columns = image.shape
    pad = size // 2
    wide = image[:, np.clip(np.arange(-pad, columns + pad), 0, columns - 1)]
    across = wide[:, :columns] + wide[:, 1 : columns + 1]
    for shift in range(2, size):
        across += wide[:, shift : shift + columns]
    tall = across[np.clip(np.arange(-pad, rows + pad), 0, rows - 1)]
    down = tall[:rows] + tall[1 : rows + 1]
    for shift in range(2, size):
        down += tall[shift : shift + rows]
    down *= 1 / size**2
    return down


def visibility(luma: Array) -> Array:
    """How much change the eye forgives: float32 ``(h, w)``.

    Args:
        luma: float32 ``(h, w)`` in 8-bit limited-range levels, already ``pooled``.

    The mask grows with local activity, (rms of a high-pass / ``ACTIVITY_UNIT``)^``ACTIVITY_POWER``, and shrinks in the
    dark: contrast masking and the luminance threshold of just-noticeable-difference models (Watson 1993; Chou and Li
    1995), with constants fitted by ColorVideoVDP (docs/watermark.md).
    """
    mean = box(luma, RESIDUAL_WINDOW)
    activity = box((luma - mean) ** 2, ACTIVITY_WINDOW)
    mask = ((activity + 0.01) * (1 / ACTIVITY_UNIT**2)) ** (ACTIVITY_POWER / 2)
    mask = (mask + LUMA_FLOOR).clip(LUMA_FLOOR, LUMA_CAP)
    return mask * (DARK_GAIN + (1 - DARK_GAIN) / DARK_LEVEL * mean).clip(0.0, 1.0)


def chroma_mask(mask: Array) -> Array:
    """The mask of both colour planes, from the luma's."""
    return mask.clip(CHROMA_FLOOR, CHROMA_CAP)


def enlarged(mask: Array, rows: int, columns: int, block: tuple[float, float]) -> Array:
    """A mask at a plane's resolution: ``(rows, columns)``, linear between the middles of blocks of (rows, columns)
    samples."""

    def taps(count: int, cells: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        place = np.clip((np.arange(count) + 0.5) / factor - 0.5, 0, cells - 1)
        low = np.minimum(place.astype(np.int64), max(cells - 2, 0))
        return low, np.minimum(low + 1, cells - 1), (place - low).astype(np.float32)

    if max(block) == 1 and tuple(mask.shape) == (rows, columns):
        return mask
    y0, y1, fy = taps(rows, mask.shape[0], block[0])
    x0, x1, fx = taps(columns, mask.shape[1], block[1])
    fx, fy = _like(mask, fx), _like(mask, fy[:, None])
    left = mask[:, x0]
    wide = left + (mask[:, x1] - left) * fx  # along x first, on the few rows of the mask
    upper, lower = wide[y0], wide[y1]
    lower -= upper
    lower *= fy
    lower += upper
    return lower


def _like(reference: Array, values: NDArray[np.float32]) -> Array:
    """A small array of the kind and on the device of ``reference``."""
    return values if isinstance(reference, np.ndarray) else reference.new_tensor(values)


def add_to_plane(plane: Array, pattern: Array, mask: Array, gain: float, block: tuple[float, float]) -> Array:
    """plane + gain x mask x pattern: all ``(H, W)`` but the mask, one value a ``block`` of samples."""
    change = enlarged(mask, int(plane.shape[0]), int(plane.shape[1]), block) * pattern
    change *= gain
    change += plane
    return change


def rgb_patterns(luma: Array, blue: Array, red: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """Patterns Y, U, V ``(H, W)`` in 8-bit limited-range levels -> in RGB units: luma's, and each channel's."""
    first, second, third = (blue * (cb / CHROMA_RANGE) + red * (cr / CHROMA_RANGE) for _, cb, cr in RGB_FROM_YCBCR)
    return luma * (1 / LUMA_RANGE), (first, second, third)


def add_to_rgb(frame: Array, luma: Array, colour: tuple[Array, Array, Array], gain: float) -> None:
    """Adds patterns of ``rgb_patterns`` to one frame, in place: float32 ``(3, H, W)`` RGB, clamped to [0, 1]."""
    rows, columns = int(frame.shape[1]), int(frame.shape[2])
    factor = pool_factor(rows, columns)
    channels = zip(frame, LUMA_FROM_RGB, strict=True)
    small = sum(pooled(channel, factor) * (weight * LUMA_RANGE) for channel, weight in channels)
    mask = enlarged(visibility(small + 16), rows, columns, (factor, factor))
    coloured = chroma_mask(mask) * gain
    brighter = mask * luma
    brighter *= gain
    for number, pattern in enumerate(colour):
        channel = frame[number]
        channel += coloured * pattern
        channel += brighter
        frame[number] = channel.clip(0.0, 1.0)
