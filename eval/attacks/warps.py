"""Perspective, turns that leave corners, windows that move, and the picture inside another shape or picture.

Planes are resampled as in :mod:`eval.attacks.geometry`. What shows nothing of the picture is black.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.attacks.color import replaced
from eval.attacks.geometry import cut, even, resized
from eval.attacks.model import Edit, each
from eval.attacks.photometry import blurred
from genwm.lattice.perspective import Corners, homography
from genwm.video import Planes

Plane = NDArray[np.uint8]
_BICUBIC = Image.Resampling.BICUBIC


def in_perspective(planes: Planes, *, corners: Corners) -> Planes:
    """The frame at its own size, its corners (top left, top right, bottom right, bottom left) moved to ``corners``,
    in luma samples."""
    height, width = planes.y.shape
    black = 0 if planes.full_range else 16

    def plane(samples: Plane, scale: int, fill: int) -> Plane:
        h, w = height // scale, width // scale
        target = [(x / scale, y / scale) for x, y in corners]
        # Pillow asks where in the input each place of the output comes from.
        back = homography(target, [(0, 0), (w, 0), (w, h), (0, h)])
        method = Image.Transform.PERSPECTIVE
        return np.asarray(_image(samples).transform((w, h), method, back, _BICUBIC, fillcolor=fill))

    return replaced(planes, plane(planes.y, 1, black), plane(planes.u, 2, 128), plane(planes.v, 2, 128))


def perspective(scale: float) -> Edit:
    """Moves each corner inwards by a random part, up to ``scale``, of half the width and half the height: torchvision's
    ``RandomPerspective``, one draw for the clip."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        height, width = frames[0].y.shape
        inwards = rng.uniform(0, scale / 2, (4, 2)) * (width, height)
        signs = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
        places = np.array([(0, 0), (width, 0), (width, height), (0, height)]) + signs * inwards
        corners = [(float(x), float(y)) for x, y in places]
        return map(partial(in_perspective, corners=corners), frames), fps

    return edit


def spun(planes: Planes, *, degrees: float) -> Planes:
    """The frame turned counter-clockwise about its centre at its own size: corners are lost and come in black."""
    height, width = planes.y.shape
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    turned = []
    for x, y in ((0, 0), (width, 0), (width, height), (0, height)):
        dx, dy = x - width / 2, y - height / 2
        turned.append((width / 2 + c * dx + s * dy, height / 2 - s * dx + c * dy))
    return in_perspective(planes, corners=turned)


def spin(degrees: float) -> Edit:
    return each(partial(spun, degrees=degrees))


def quarter_turned(planes: Planes) -> Planes:
    """The frame lying on its right side, as a phone held upright shows it; nothing is lost."""
    y, u, v = (np.rot90(plane, -1) for plane in (planes.y, planes.u, planes.v))
    return replaced(planes, y, u, v)


def pan(by: float) -> Edit:
    """A window of ``1 / by`` of each side wanders from the left top to the right bottom, enlarged to the frame."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        height, width = frames[0].y.shape
        room_x, room_y = width * (1 - 1 / by), height * (1 - 1 / by)
        last = max(1, len(frames) - 1)

        def window(frame: Planes, index: int) -> Planes:
            x, y = room_x * index / last, room_y * index / last
            return resized(frame, width=width, height=height, box=(x, y, x + width / by, y + height / by))

        return (window(frame, index) for index, frame in enumerate(frames)), fps

    return edit


def portrait_window(height: int, width: int) -> tuple[int, int, int, int]:
    """The largest centred rectangle of 9:16 in a frame: left, top, width, height, all even."""
    wide = min(even(height * 9 / 16), even(width - 1))
    tall = min(even(wide * 16 / 9), height // 2 * 2)
    return (width - wide) // 4 * 2, (height - tall) // 4 * 2, wide, tall


def upright(planes: Planes) -> Planes:
    """The largest centred 9:16 part of the frame."""
    left, top, width, height = portrait_window(*planes.y.shape)
    return cut(planes, left=left, top=top, width=width, height=height)


def on_blur(planes: Planes) -> Planes:
    """The whole frame in the middle of a 9:16 one of its own width, over a blurred enlargement of itself."""
    height, width = planes.y.shape
    tall = max(even(width * 16 / 9), height)
    left, top, wide, part = portrait_window(height, width)
    window = (left, top, left + wide, top + part)
    ground = blurred(resized(planes, width=width, height=tall, box=window), sigma=width / 40)
    return laid(planes, ground, left=0, top=(tall - height) // 4 * 2)


def laid(planes: Planes, ground: Planes, *, left: int, top: int) -> Planes:
    """``planes`` over ``ground`` at an even place."""
    height, width = planes.y.shape

    def plane(over: Plane, under: Plane, scale: int) -> Plane:
        result = under.copy()
        result[top // scale : (top + height) // scale, left // scale : (left + width) // scale] = over
        return result

    y, u, v = plane(planes.y, ground.y, 1), plane(planes.u, ground.u, 2), plane(planes.v, ground.v, 2)
    return replaced(planes, y, u, v)


def picture_in_picture(side: float) -> Edit:
    """The frame at ``side`` of its size, at a random even place over a soft, still ground of random colours, as
    reaction videos show it."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        height, width = frames[0].y.shape
        wide, tall = even(width * side), even(height * side)
        left = 2 * int(rng.integers((width - wide) // 2 + 1))
        top = 2 * int(rng.integers((height - tall) // 2 + 1))
        coarse = rng.integers(50, 200, (3, 6, 8), dtype=np.uint8)
        sizes = ((width, height), (width // 2, height // 2), (width // 2, height // 2))
        parts = [np.asarray(_image(part).resize(size, _BICUBIC)) for part, size in zip(coarse, sizes, strict=True)]
        ground = replaced(frames[0], *parts)
        small = map(partial(resized, width=wide, height=tall), frames)
        return map(partial(laid, ground=ground, left=left, top=top), small), fps

    return edit


def _image(samples: Plane) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(samples))
