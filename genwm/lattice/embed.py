"""Adding the pattern to pixels: a perceptual mask times a static pattern, one multiply-add a sample.

Written in operators that NumPy arrays and torch tensors share: decoded frames are marked without torch, a decoder's
output on its own device. Levels are 8-bit levels of limited-range Y'CbCr throughout, the unit of ``tile.BANDS``.
"""

from __future__ import annotations

import math
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

#: Multiply-adds of a matrix product up to which OpenBLAS keeps to one thread: with more, products as small as these
#: cost many times the processor's time and end no sooner.
PRODUCT = 1 << 18


def pool_factor(rows: int, columns: int) -> int:
    """Side of the square blocks whose means form the grid of about ``MASK_LINES`` lines that the mask is made on."""
    return max(1, round(min(rows, columns) / MASK_LINES))


def pooled(image: Array, factor: int) -> Array:
    """Means of ``factor`` x ``factor`` blocks of ``(H, W)``; a remainder at the lower and right edge is dropped."""
    if factor == 1:
        return image
    rows, columns = int(image.shape[0]) // factor, int(image.shape[1]) // factor
    means = _empty(image, (rows, columns))
    weights = _like(image, np.full((factor, 1), 1 / factor**2, np.float32))
    for part in _parts(rows, _strip_height(image, columns * factor)):
        lines = image[part.start * factor : part.stop * factor, : columns * factor]
        down = lines[0::factor] + lines[1::factor]
        for shift in range(2, factor):
            down += lines[shift::factor]
        # A product with a thin matrix is several times faster than adding every factor-th sample.
        _multiply(down.reshape(-1, factor), weights, means[part].reshape(-1, 1))
    return means


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


def masks(luma: Array, red: Array, green: Array, blue: Array, *, most: int = 96) -> Array:
    """The masks of the three planes: float32 ``(3, h, w)``, of ``visibility`` and ``chroma_masks``, whose arguments
    these are; made ``most`` rows at a time."""
    rows, columns = luma.shape
    found = _empty(luma, (3, rows, columns))
    reach = ACTIVITY_WINDOW // 2 + RESIDUAL_WINDOW // 2
    for part in _parts(rows, _strip_height(luma, columns, most)):
        first = max(part.start - reach, 0)
        seen = visibility(luma[first : part.stop + reach])
        found[0, part] = seen[part.start - first : part.stop - first]
        found[1, part], found[2, part] = chroma_masks(found[0, part], red[part], green[part], blue[part])
    return found


def enlarged(mask: Array, rows: int, columns: int, block: tuple[float, float]) -> Array:
    """A mask at a plane's resolution: ``(rows, columns)``, linear between the middles of blocks of (rows, columns)
    samples."""
    whole = _empty(mask, (rows, columns))
    for part, values in strips(mask, rows, columns, block, height=_strip_height(mask, columns)):
        whole[part] = values
    return whole


def strips(mask: Array, rows: int, columns: int, block: tuple[float, float], *, height: int, buffer: Array | None = None
           ) -> Iterator[tuple[slice, Array]]:
    """``enlarged``, a few rows after the other: slices of rows and the values there.

    Args:
        mask: float32 ``(h, w)``, or ``(n, h, w)`` for n masks at once.
        height: rows of a strip, at most.
        buffer: float32 ``(height, columns)`` or ``(n, height, columns)``, in which the values come, each strip's until
            the next; without it they are new arrays, which cost more than filling them.
    """
    tall, broad = int(mask.shape[-2]), int(mask.shape[-1])

    def empty(part: slice) -> Array:
        values = _empty(mask, (*mask.shape[:-2], height, columns)) if buffer is None else buffer
        return values[..., : part.stop - part.start, :]

    if (tall, broad, *block) == (rows, columns, 1, 1):
        for part in _parts(rows, height):
            values = empty(part)
            values[:] = mask[..., part, :]
            yield part, values
        return
    # Along x first, on the few rows of the mask; small matrix products are several times faster than gathering.
    wide = _empty(mask, (*mask.shape[:-1], columns))
    width = min(48, _band_height(tall, block[1])) if isinstance(mask, np.ndarray) else 256
    for part, cells, weights in _bands(columns, broad, block[1], width):
        _multiply(mask[..., cells], _like(mask, weights.T), wide[..., part])
    highest = min(height, _band_height(columns, block[0])) if isinstance(mask, np.ndarray) else height
    for part, cells, weights in _bands(rows, tall, block[0], highest):
        values = empty(part)
        _multiply(_like(mask, weights), wide[..., cells, :], values)
        yield part, values


def _band_height(samples: int, factor: float) -> int:
    """Rows, each between cells of ``factor`` rows, whose matrix times ``samples`` columns is no more than ``PRODUCT``:
    of h rows it has at most h / factor + 3 columns."""
    return max(1, int(factor / 2 * (math.sqrt(9 + 4 * PRODUCT / (samples * factor)) - 3)))


@lru_cache(maxsize=32)
def _bands(rows: int, cells: int, factor: float, height: int) -> list[tuple[slice, slice, NDArray[np.float32]]]:
    """Slices of ``height`` rows, the cells that each lies between, and the matrix that interpolates it from them."""
    low, high, share = _taps(rows, cells, factor)
    bands = []
    for part in _parts(rows, height):
        first, last = int(low[part][0]), int(high[part][-1]) + 1
        row = np.arange(part.stop - part.start)
        weights = np.zeros((len(row), last - first), np.float32)
        weights[row, low[part] - first] = 1 - share[part]
        weights[row, high[part] - first] += share[part]
        bands.append((part, slice(first, last), weights))
    return bands


def _taps(count: int, cells: int, factor: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of ``count`` samples the cells before and after it, and the share of the second."""
    place = np.clip((np.arange(count) + 0.5) / factor - 0.5, 0, cells - 1)
    low = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return low, np.minimum(low + 1, cells - 1), (place - low).astype(np.float32)


def _strip_height(image: Array, columns: int, most: int = 96) -> int:
    """Rows whose arrays stay in a processor's cache through several steps, below the 128 KB from which new memory is
    the system's and costs more than its use, and within ``PRODUCT`` for a 3 x 3 matrix times them; many for a tensor,
    whose steps cost by number."""
    return min(most, max(1, PRODUCT // 9 // columns)) if isinstance(image, np.ndarray) else 256


def _parts(rows: int, height: int) -> Iterator[slice]:
    """Rows in strips of ``height``."""
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


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


def _empty(reference: Array, shape: tuple[int, ...]) -> Array:
    """A new array of the kind and on the device of ``reference``."""
    return np.empty(shape, np.float32) if isinstance(reference, np.ndarray) else reference.new_empty(shape)


def _multiply(first: Array, second: Array, product: Array) -> None:
    """Matrix product into ``product``, in its own precision also where a caller's pipeline runs in ``torch.autocast``:
    half of it would take rounding for activity, and the mark would be a quarter stronger."""
    if isinstance(product, np.ndarray):
        np.matmul(first, second, out=product)
        return
    import torch

    with torch.autocast(product.device.type, enabled=False):
        product.copy_(first @ second)


def _clip(values: Array, clipped: Array) -> None:
    """Clips to [0, 1], into ``clipped``."""
    if isinstance(values, np.ndarray):
        np.clip(values, 0.0, 1.0, out=clipped)
    else:
        clipped.copy_(values.clamp_(0.0, 1.0))


def add_to_samples(
    plane: NDArray[Any], pattern: NDArray[np.float32], mask: NDArray[np.float32], block: tuple[float, float],
    highest: int,
) -> NDArray[Any]:
    """plane + mask x pattern, rounded and clipped to [0, highest]: all ``(H, W)`` but the mask, one value a ``block``
    of samples; the same integers come out that came in."""
    marked = np.empty_like(plane)
    rows, columns = plane.shape
    height = _strip_height(plane, columns)
    buffer = np.empty((height, columns), np.float32)
    for part, change in strips(mask, rows, columns, block, height=height, buffer=buffer):
        change *= pattern[part]
        change += plane[part]
        np.rint(change, out=change)
        np.clip(change, 0, highest, out=change)
        marked[part] = change
    return marked


def _masks_of_rgb(frame: Array, factor: int) -> Array:
    small = [pooled(channel, factor) for channel in frame]
    levels = small[0] * (LUMA_FROM_RGB[0] * LUMA_RANGE)
    for channel, weight in zip(small[1:], LUMA_FROM_RGB[1:], strict=True):
        levels += channel * (weight * LUMA_RANGE)
    levels += 16
    # Of a picture as small as its mask, a few rows at a time: what they take counts as frames.
    return masks(levels, *small, most=24 if factor == 1 else 96)


def add_to_rgb(frame: Array, marked: Array, patterns: Array, gain: float) -> None:
    """Writes one frame with the patterns of Y, U and V, clamped to [0, 1], to ``marked``, which may be the frame.

    Args:
        frame, marked: float32 ``(3, H, W)``, RGB in [0, 1].
        patterns: float32 ``(3, H, W)`` in 8-bit limited-range levels.
        gain: factor of the patterns.
    """
    rows, columns = int(frame.shape[1]), int(frame.shape[2])
    factor = pool_factor(rows, columns)
    scaled = _masks_of_rgb(frame, factor)
    scaled[0] *= gain / LUMA_RANGE
    scaled[1:] *= gain / CHROMA_RANGE
    height = min(rows, _strip_height(frame, columns, most=24))
    buffer, change = (_empty(frame, (3, height, columns)) for _ in range(2))
    matrix = _like(frame, np.array(RGB_FROM_YCBCR, np.float32))
    for part, values in strips(scaled, rows, columns, (factor, factor), height=height, buffer=buffer):
        values *= patterns[:, part]
        colour = change[:, : values.shape[1]]
        _multiply(matrix, values.reshape(3, -1), colour.reshape(3, -1))
        colour += frame[:, part]
        _clip(colour, marked[:, part])
