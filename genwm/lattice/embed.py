"""Adding the pattern to pixels: a perceptual mask times a static pattern, one multiply-add a sample.

Written in operators that NumPy arrays and torch tensors share: decoded frames are marked without torch, a decoder's
output on its own device. Levels are 8-bit levels of limited-range Y'CbCr throughout, the unit of ``tile.BANDS``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
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
LUMA_FLOOR, LUMA_CAP = 0.22, 2.0
CHROMA_FLOOR, CHROMA_CAP = 0.12, 1.2
DARK_GAIN, DARK_LEVEL = 0.5, 60.0
#: Gain of the colour planes at luma ``SHADE_LEVEL`` (of 1), where they show most, and its rise to both sides.
SHADE_GAIN, SHADE_LEVEL, BRIGHT_SLOPE, BLACK_SLOPE = 0.41, 0.17, 0.94, 2.6
COLOUR_FLOOR, COLOUR_CAP = 0.25, 1.2
#: How much of the red-green signal's change is the red channel's; the rest is the green's.
RED_SHARE = 0.5


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


def chroma_masks(mask: Array, red: Array, green: Array, blue: Array) -> tuple[Array, Array]:
    """Masks of the blue and the red difference plane: two float32 ``(h, w)``.

    Args:
        mask: the luma's, of ``visibility``.
        red, green, blue: float32 ``(h, w)``, gamma-coded pixels in [0, 1] on the mask's grid; they are clipped.

    What the eye sees of a colour difference is the change of its opponent signal over the luminance. In linear light a
    step of a coded channel x is worth x^1.5, so the same step of Cb shows more on a deep blue, and of Cr on a deep
    red, than on a grey of the same luma: there the mask is lowered by that ratio.
    """
    coloured = mask.clip(CHROMA_FLOOR, CHROMA_CAP)
    red, green, blue = (channel.clip(0.04, 1.0) for channel in (red, green, blue))
    slopes = red * red**0.5, green * green**0.5, blue * blue**0.5
    luminance = sum(weight * (slope * channel) for weight, slope, channel
                    in zip(LUMA_FROM_RGB, slopes, (red, green, blue), strict=True))
    grey = LUMA_FROM_RGB[0] * red + LUMA_FROM_RGB[1] * green + LUMA_FROM_RGB[2] * blue
    forgiven = luminance / grey
    # A colour contrast is relative to the luminance, so it shows more in the dark, but not where all is nearly black.
    above = grey - SHADE_LEVEL
    coloured = coloured * (SHADE_GAIN + above.clip(0.0, 1.0) * BRIGHT_SLOPE - above.clip(-1.0, 0.0) * BLACK_SLOPE).clip(
        0.0, 1.0)
    first = coloured * (forgiven / slopes[2]).clip(COLOUR_FLOOR, COLOUR_CAP)
    reddish = RED_SHARE * slopes[0] + (1 - RED_SHARE) * slopes[1]
    return first, coloured * (forgiven / reddish).clip(COLOUR_FLOOR, COLOUR_CAP)


def colours(luma: Array, blue_difference: Array, red_difference: Array) -> tuple[Array, Array, Array]:
    """Gamma-coded R, G, B, nominally in [0, 1], of limited-range Y, Cb and Cr in 8-bit levels."""
    y = (luma - 16) * (1 / LUMA_RANGE)
    cb, cr = ((difference - 128) * (1 / CHROMA_RANGE) for difference in (blue_difference, red_difference))
    (_, _, red), (_, green_cb, green_cr), (_, blue, _) = RGB_FROM_YCBCR
    return y + red * cr, y + green_cb * cb + green_cr * cr, y + blue * cb


def enlarged(mask: Array, rows: int, columns: int, block: tuple[float, float]) -> Array:
    """A mask at a plane's resolution: ``(rows, columns)``, linear between the middles of blocks of (rows, columns)
    samples."""
    parts = [values for _, values in strips(mask, rows, columns, block, height=_strip_height(mask, rows))]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def strips(mask: Array, rows: int, columns: int, block: tuple[float, float], *, height: int
           ) -> Iterator[tuple[slice, Array]]:
    """``enlarged``, a few rows after the other: slices of rows and the values there, new arrays."""

    x0, x1, fx = _taps(columns, mask.shape[1], block[1])
    wide, rise = mask[:, x0], mask[:, x1]  # along x first, on the few rows of the mask
    rise -= wide
    rise *= _like(mask, fx)
    wide += rise
    for part, cells, weights in _bands(rows, mask.shape[0], block[0], height):
        yield part, _like(mask, weights) @ wide[cells]


@lru_cache(maxsize=16)
def _bands(rows: int, cells: int, factor: float, height: int) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """Slices of ``height`` rows, the cells that each lies between, and the matrix that interpolates it from them: a
    small matrix product is several times faster than gathering rows."""
    low, high, share = _taps(rows, cells, factor)
    bands = []
    for start in range(0, rows, height):
        part = slice(start, min(start + height, rows))
        first, last = int(low[part][0]), int(high[part][-1]) + 1
        row = np.arange(part.stop - start)
        weights = np.zeros((len(row), last - first), np.float32)
        weights[row, low[part] - first] = 1 - share[part]
        weights[row, high[part] - first] += share[part]
        bands.append((part, slice(first, last), weights))
    return bands


@lru_cache(maxsize=16)
def _taps(count: int, cells: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of ``count`` samples the cells before and after it, and the share of the second."""
    place = np.clip((np.arange(count) + 0.5) / factor - 0.5, 0, cells - 1)
    low = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return low, np.minimum(low + 1, cells - 1), (place - low).astype(np.float32)


def _strip_height(image: Array, rows: int) -> int:
    """Rows that stay in a processor's cache through several steps; all at once for a tensor."""
    return 16 if isinstance(image, np.ndarray) else rows


def onto(mask: Array, plane: Array, factor: int, size: tuple[int, int]) -> Array:
    """A chroma plane on the grid of the mask, whose cells are ``factor`` x ``factor`` pixels of a picture of ``size``
    (rows, columns): means of blocks, linear between their middles."""
    rows, columns = int(plane.shape[0]), int(plane.shape[1])
    block = max(1, factor * rows // size[0])
    small = pooled(plane, block)
    cells = rows / size[0] * factor / block, columns / size[1] * factor / block
    return enlarged(small, int(mask.shape[0]), int(mask.shape[1]), (1 / cells[0], 1 / cells[1]))


def _like(reference: Array, values: NDArray[np.float32]) -> Array:
    """A small array of the kind and on the device of ``reference``."""
    return values if isinstance(reference, np.ndarray) else reference.new_tensor(values)


def _clip(values: Array) -> None:
    """Clips to [0, 1], in place."""
    if isinstance(values, np.ndarray):
        np.clip(values, 0.0, 1.0, out=values)
    else:
        values.clamp_(0.0, 1.0)


def add_to_samples(
    plane: NDArray[Any], pattern: NDArray[np.float32], mask: NDArray[np.float32], block: tuple[float, float],
    highest: int,
) -> NDArray[Any]:
    """plane + mask x pattern, rounded and clipped to [0, highest]: all ``(H, W)`` but the mask, one value a ``block``
    of samples; the same integers come out that came in."""
    marked = np.empty_like(plane)
    rows, columns = plane.shape
    for part, change in strips(mask, rows, columns, block, height=_strip_height(plane, rows)):
        change *= pattern[part]
        change += plane[part]
        np.rint(change, out=change)
        np.clip(change, 0, highest, out=change)
        marked[part] = change
    return marked


def add_to_rgb(frame: Array, luma: Array, blue: Array, red: Array, gain: float) -> None:
    """Adds the patterns of Y, U, V, ``(H, W)`` in 8-bit limited-range levels, to one frame, in place: float32
    ``(3, H, W)`` RGB, clamped to [0, 1]."""
    rows, columns = int(frame.shape[1]), int(frame.shape[2])
    factor = pool_factor(rows, columns)
    small = [pooled(channel, factor) for channel in frame]
    levels = sum(channel * (weight * LUMA_RANGE) for channel, weight in zip(small, LUMA_FROM_RGB, strict=True)) + 16
    mask = visibility(levels)
    first, second = chroma_masks(mask, *small)
    # The strips of the colours are what red and blue gain by them; green loses a share of each.
    (_, _, red_gain), (_, green_blue, green_red), (_, blue_gain, _) = RGB_FROM_YCBCR
    unit = gain / CHROMA_RANGE
    scaled = mask * (gain / LUMA_RANGE), first * (blue_gain * unit), second * (red_gain * unit)
    height = _strip_height(frame, rows)
    for parts in zip(*(strips(part, rows, columns, (factor, factor), height=height) for part in scaled), strict=True):
        (part, brighter), (_, bluer), (_, redder) = parts
        brighter *= luma[part]
        bluer *= blue[part]
        redder *= red[part]
        for channel, own in ((frame[0, part], redder), (frame[2, part], bluer)):
            channel += brighter
            channel += own
        bluer *= green_blue / blue_gain
        redder *= green_red / red_gain
        brighter += bluer
        brighter += redder
        green = frame[1, part]
        green += brighter
        _clip(frame[:, part])
