"""Brightness, colour, blur and noise.

Brightness and contrast are torchvision's ``adjust_*`` in RGB (as Video Seal applies them), saturation and hue are
FFmpeg's ``hue`` filter on the colour planes, gamma is FFmpeg's ``lutrgb``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.attacks.color import planes_of, replaced, rgb_of
from eval.attacks.model import Edit, each
from genwm.video import Planes

Plane = NDArray[np.uint8]
_LEVELS = np.arange(256, dtype=np.float64)
# ITU-R BT.601 luma, which torchvision takes for grey whatever the video's matrix.
_GREY = (0.2989, 0.587, 0.114)


def dimmed(planes: Planes, *, factor: float) -> Planes:
    """Brightness times ``factor`` <= 1 on the planes themselves: nothing clips, so it is the RGB product exactly, with
    one rounding less."""
    black = 0 if planes.full_range else 16
    luma, chroma = _table((_LEVELS - black) * factor + black), _table((_LEVELS - 128) * factor + 128)
    return replaced(planes, np.take(luma, planes.y), np.take(chroma, planes.u), np.take(chroma, planes.v))


def brightened(planes: Planes, *, factor: float) -> Planes:
    """RGB times ``factor``, clipped."""
    return planes_of(np.take(_table(_LEVELS * factor), rgb_of(planes)), planes)


def inverted(planes: Planes) -> Planes:
    """A negative: 255 - RGB."""
    return planes_of(255 - rgb_of(planes), planes)


def contrasted(planes: Planes, *, factor: float) -> Planes:
    """RGB's distance from the frame's mean grey times ``factor``, clipped."""
    rgb = rgb_of(planes)
    # Channel by channel: NumPy is ten times slower over the first two axes of three.
    sums = (weight * float(rgb[..., channel].sum(dtype=np.int64)) for channel, weight in enumerate(_GREY))
    mean = sum(sums) / planes.y.size
    return planes_of(np.take(_table((_LEVELS - mean) * factor + mean), rgb), planes)


def gamma_changed(planes: Planes, *, gamma: float) -> Planes:
    """RGB to the power of ``gamma``, on a scale of 0 to 1: below 1 is lighter."""
    return planes_of(np.take(_table(255 * (_LEVELS / 255) ** gamma), rgb_of(planes)), planes)


def saturated(planes: Planes, *, factor: float) -> Planes:
    """Both colour differences times ``factor``, clipped to 8 bits; 0 is grey. Luma stays."""
    table = _table((_LEVELS - 128) * factor + 128)
    return replaced(planes, planes.y, np.take(table, planes.u), np.take(table, planes.v))


def hue_turned(planes: Planes, *, degrees: float) -> Planes:
    """The colour plane (U, V) turned by ``degrees``; luma stays."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = planes.u.astype(np.float32) - 128, planes.v.astype(np.float32) - 128
    return replaced(planes, planes.y, bytes_of(c * u - s * v + 128), bytes_of(s * u + c * v + 128))


def blurred(planes: Planes, *, sigma: float) -> Planes:
    """Gaussian blur with a standard deviation of ``sigma`` luma samples (half of it on the halved colour planes)."""

    def plane(samples: Plane, width: float) -> Plane:
        return bytes_of(ndimage.gaussian_filter(samples.astype(np.float32), width, mode="nearest", truncate=3.5))

    return replaced(planes, plane(planes.y, sigma), plane(planes.u, sigma / 2), plane(planes.v, sigma / 2))


def brightness(factor: float) -> Edit:
    return each(partial(dimmed if factor <= 1 else brightened, factor=factor))


def contrast(factor: float) -> Edit:
    return each(partial(contrasted, factor=factor))


def saturation(factor: float) -> Edit:
    return each(partial(saturated, factor=factor))


def hue(degrees: float) -> Edit:
    return each(partial(hue_turned, degrees=degrees))


def gamma(value: float) -> Edit:
    return each(partial(gamma_changed, gamma=value))


def blur(sigma: float) -> Edit:
    return each(partial(blurred, sigma=sigma))


def noise(sigma: float) -> Edit:
    """Gaussian noise of ``sigma`` 8-bit levels on every RGB sample, clipped.

    The noise of a frame starts at a random place of one table of four frames: drawing each frame afresh would take
    longer than everything else."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        size = 3 * frames[0].y.size
        table = np.rint(rng.standard_normal(4 * size, dtype=np.float32) * sigma).astype(np.int16)
        starts = rng.integers(0, 3 * size + 1, len(frames))

        def noisy(frame: Planes, start: int) -> Planes:
            rgb = rgb_of(frame)
            sample = table[start : start + size].reshape(rgb.shape)
            return planes_of(np.clip(rgb + sample, 0, 255).astype(np.uint8), frame)

        return (noisy(frame, int(start)) for frame, start in zip(frames, starts, strict=True)), fps

    return edit


def bytes_of(values: NDArray[np.floating]) -> Plane:
    """Levels as samples: rounded and clipped to 0..255."""
    result: Plane = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return result


def _table(values: NDArray[np.floating]) -> Plane:
    """A table of 256 levels, to be indexed by samples."""
    return bytes_of(values)
