"""Crops, resizes, rotations and all that moves pixels.

Each plane is resampled by itself, bicubic with a filter that widens when it shrinks (Pillow); the chroma planes are
treated as centred on the luma samples, as FFmpeg's scaler does unless told otherwise. Sizes come out even.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.attacks.color import replaced
from eval.attacks.model import Edit, each
from genwm.video import Planes

Plane = NDArray[np.uint8]
_BICUBIC = Image.Resampling.BICUBIC


def even(size: float) -> int:
    """The nearest even number, at least 2."""
    return max(2, 2 * round(size / 2))


def cut(planes: Planes, *, left: int, top: int, width: int, height: int) -> Planes:
    """The rectangle of that place and size, all even: exactly the samples that are there."""
    y = planes.y[top : top + height, left : left + width]
    half = np.s_[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
    return replaced(planes, y, planes.u[half], planes.v[half])


def cut_even(planes: Planes) -> Planes:
    """The frame without its last row or column where their number is odd."""
    height, width = planes.y.shape
    if height % 2 == width % 2 == 0:
        return planes
    return cut(planes, left=0, top=0, width=width - width % 2, height=height - height % 2)


def resized(planes: Planes, *, width: int, height: int, box: tuple[float, float, float, float] | None = None) -> Planes:
    """The frame at an even ``width`` x ``height``. ``box`` (left, top, right, bottom in luma samples, any fractions)
    is the part of the frame that is shown."""

    def plane(samples: Plane, scale: int) -> Plane:
        part = None if box is None else cast(tuple[float, float, float, float], tuple(side / scale for side in box))
        return np.asarray(_image(samples).resize((width // scale, height // scale), _BICUBIC, part))

    return replaced(planes, plane(planes.y, 1), plane(planes.u, 2), plane(planes.v, 2))


def scaled(planes: Planes, *, x: float, y: float) -> Planes:
    """The frame with its width multiplied by ``x`` and its height by ``y``."""
    height, width = planes.y.shape
    return resized(planes, width=even(width * x), height=even(height * y))


def rotated(planes: Planes, *, degrees: float) -> Planes:
    """The frame turned counter-clockwise about its centre at its own size, then cut to the largest centred rectangle of
    its shape that holds no black corner, as editors do."""
    height, width = planes.y.shape
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    share = min(width / (width * c + height * abs(s)), height / (height * c + width * abs(s)))
    # Rounded down, so that no corner comes back in.
    out_width, out_height = max(2, int(width * share / 2) * 2), max(2, int(height * share / 2) * 2)

    def plane(samples: Plane, scale: int) -> Plane:
        w, h = out_width // scale, out_height // scale
        # Pillow maps a place in the output to one in the input: about the centres of both.
        offset_x = samples.shape[1] / 2 - c * w / 2 + s * h / 2
        offset_y = samples.shape[0] / 2 - s * w / 2 - c * h / 2
        matrix = (c, -s, offset_x, s, c, offset_y)
        return np.asarray(_image(samples).transform((w, h), Image.Transform.AFFINE, matrix, _BICUBIC))

    return replaced(planes, plane(planes.y, 1), plane(planes.u, 2), plane(planes.v, 2))


def mirrored(planes: Planes) -> Planes:
    """The frame with left and right exchanged."""
    return replaced(planes, planes.y[:, ::-1], planes.u[:, ::-1], planes.v[:, ::-1])


def upside_down(planes: Planes) -> Planes:
    """The frame with top and bottom exchanged."""
    return replaced(planes, planes.y[::-1], planes.u[::-1], planes.v[::-1])


def letterboxed(planes: Planes, *, share: float) -> Planes:
    """The frame at its own size with a black bar of ``share`` of its height added above and as much below."""
    bar = even(planes.y.shape[0] * share)
    black = 0 if planes.full_range else 16

    def plane(samples: Plane, scale: int, value: int) -> Plane:
        return np.pad(samples, ((bar // scale, bar // scale), (0, 0)), constant_values=value)

    return replaced(planes, plane(planes.y, 1, black), plane(planes.u, 2, 128), plane(planes.v, 2, 128))


def crop(
    side: float,
    then: Callable[[Planes], Planes] | None = None,
    *,
    place: Literal["random", "centre", "corner"] = "random",
) -> Edit:
    """Keeps ``side`` of the width and of the height, at one even place for the whole clip (``corner``: the left upper
    one); ``then`` is done to what is left."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        height, width = frames[0].y.shape
        cut_width, cut_height = even(width * side), even(height * side)
        left, top = (
            {"random": 2 * int(rng.integers(room // 2 + 1)), "centre": room // 4 * 2, "corner": 0}[place]
            for room in (width - cut_width, height - cut_height)
        )
        cropped = map(partial(cut, left=left, top=top, width=cut_width, height=cut_height), frames)
        return (map(then, cropped) if then else cropped), fps

    return edit


def resize(x: float, y: float) -> Edit:
    return each(partial(scaled, x=x, y=y))


def rotate(degrees: float) -> Edit:
    return each(partial(rotated, degrees=degrees))


def letterbox(share: float) -> Edit:
    return each(partial(letterboxed, share=share))


def zoom(end: float) -> Edit:
    """Zooms in about the centre, from 1 in the first frame to ``end`` in the last, by equal steps."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        last = max(1, len(frames) - 1)
        return (zoomed(frame, by=1 + (end - 1) * index / last) for index, frame in enumerate(frames)), fps

    return edit


def zoomed(planes: Planes, *, by: float) -> Planes:
    """The middle of the frame, ``1 / by`` of each side, at the frame's size."""
    height, width = planes.y.shape
    x, y = width * (1 - 1 / by) / 2, height * (1 - 1 / by) / 2
    return resized(planes, width=width, height=height, box=(x, y, width - x, height - y))


def _image(samples: Plane) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(samples))
