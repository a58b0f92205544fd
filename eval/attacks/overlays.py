"""What is laid over the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eval.attacks.color import planes_of, replaced
from eval.attacks.geometry import cut, even
from eval.attacks.model import Edit
from eval.attacks.photometry import blurred
from eval.attacks.warps import laid
from genwm.video import Planes

_WORDS = ["this", "is", "what", "really", "happened", "last", "night", "when", "nobody", "was", "looking", "wait"]


def caption(*, top: float = 0.78, bottom: float = 0.92, width: float = 0.8, opacity: float = 0.6) -> Edit:
    """A caption that stands still for the whole clip: white text of two lines on a black box of that opacity, between
    ``top`` and ``bottom`` of the height, ``width`` of the width wide and in the middle; the words are random."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        rows, columns = frames[0].y.shape
        left, right = round(columns * (1 - width) / 2), round(columns * (1 + width) / 2)
        upper, lower = round(rows * top), round(rows * bottom)
        mask = Image.new("L", (columns, rows), 0)
        mask.paste(round(255 * opacity), (left, upper, right, lower))
        text = Image.new("L", (columns, rows), 0)
        size = max(4.0, (lower - upper) / 2.8)
        font = ImageFont.load_default(size)
        draw = ImageDraw.Draw(text)
        for line in range(2):
            words = " ".join(rng.permutation(_WORDS).tolist())
            draw.text((left + size / 3, upper + size * (0.2 + 1.2 * line)), words, fill=255, font=font)
        letters = np.asarray(text).copy()
        letters[:, max(0, round(right - size / 3)) :] = 0
        return map(partial(_covered, box=_share(np.asarray(mask)), letters=_share(letters)), frames), fps

    return edit


def logo(side: float = 0.12, opacity: float = 0.7) -> Edit:
    """A white disc with a letter cut out, ``side`` of the short side wide, in the right upper corner."""

    def draw(columns: int, rows: int, rng: np.random.Generator) -> Image.Image:
        size = round(side * min(columns, rows))
        left, top = columns - 2 * size + size // 2, size // 2
        layer = Image.new("L", (columns, rows), 0)
        pen = ImageDraw.Draw(layer)
        pen.ellipse((left, top, left + size, top + size), fill=round(255 * opacity))
        letter = chr(ord("A") + int(rng.integers(26)))
        font = ImageFont.load_default(max(4.0, 0.7 * size))
        pen.text((left + size / 2, top + size / 2), letter, fill=0, font=font, anchor="mm")
        return layer

    return _painted(draw, rgb=(255, 255, 255))


def emoji(side: float = 0.25, count: int = 3) -> Edit:
    """``count`` yellow faces, ``side`` of the short side wide, opaque, at random places, eyes and mouth cut out."""

    def draw(columns: int, rows: int, rng: np.random.Generator) -> Image.Image:
        size = round(side * min(columns, rows))
        layer = Image.new("L", (columns, rows), 0)
        pen = ImageDraw.Draw(layer)
        for _ in range(count):
            x, y = int(rng.integers(max(1, columns - size))), int(rng.integers(max(1, rows - size)))
            pen.ellipse((x, y, x + size, y + size), fill=255)
            for eye in (0.3, 0.58):
                pen.ellipse((x + eye * size, y + 0.28 * size, x + (eye + 0.12) * size, y + 0.44 * size), fill=0)
            pen.arc((x + 0.22 * size, y + 0.3 * size, x + 0.78 * size, y + 0.8 * size), 20, 160, fill=0, width=4)
        return layer

    return _painted(draw, rgb=(255, 214, 64))


def border(share: float) -> Edit:
    """A frame of one random colour over the outer ``share`` of the short side, all around."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        rgb = tuple(int(level) for level in rng.integers(0, 256, 3))
        rows, columns = frames[0].y.shape
        width = round(share * min(rows, columns))
        opacity = np.ones((rows, columns), np.float32)
        opacity[width : rows - width, width : columns - width] = 0
        return map(partial(_coloured, opacity=opacity, rgb=rgb), frames), fps

    return edit


def blur_box(side: float, sigma: float = 12.0) -> Edit:
    """A box of ``side`` of the width and of the height, at a random even place, blurred as faces and plates are: a
    standard deviation of ``sigma`` luma samples."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        rows, columns = frames[0].y.shape
        width, height = even(columns * side), even(rows * side)
        left = 2 * int(rng.integers((columns - width) // 2 + 1))
        top = 2 * int(rng.integers((rows - height) // 2 + 1))

        def covered(frame: Planes) -> Planes:
            soft = blurred(cut(frame, left=left, top=top, width=width, height=height), sigma=sigma)
            return laid(soft, frame, left=left, top=top)

        return map(covered, frames), fps

    return edit


def _painted(draw: Callable[[int, int, np.random.Generator], Image.Image], *, rgb: tuple[int, int, int]) -> Edit:
    """Lays one colour over the clip by a still layer of opacity, drawn at the clip's size (columns, rows)."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        rows, columns = frames[0].y.shape
        opacity = _share(np.asarray(draw(columns, rows, rng)))
        return map(partial(_coloured, opacity=opacity, rgb=rgb), frames), fps

    return edit


def _coloured(planes: Planes, *, opacity: NDArray[np.float32], rgb: tuple[int, ...]) -> Planes:
    """A layer of one colour over the picture; opacity float32 ``(height, width)`` in [0, 1]."""
    flat = planes_of(np.full((2, 2, 3), rgb, np.uint8), planes)
    rows, columns = planes.u.shape
    coarse = opacity.reshape(rows, 2, columns, 2).mean(axis=(1, 3))

    def mixed(samples: NDArray[np.uint8], share: NDArray[np.float32], level: int) -> NDArray[np.uint8]:
        values = samples.astype(np.float32)
        return _rounded(values + share * (level - values))

    return replaced(
        planes,
        mixed(planes.y, opacity, int(flat.y[0, 0])),
        mixed(planes.u, coarse, int(flat.u[0, 0])),
        mixed(planes.v, coarse, int(flat.v[0, 0])),
    )


def _covered(planes: Planes, *, box: NDArray[np.float32], letters: NDArray[np.float32]) -> Planes:
    """A black layer of opacity ``box`` over the picture, and over it a white one of opacity ``letters``; both
    float32 ``(height, width)`` in [0, 1]."""
    black, white = (0, 255) if planes.full_range else (16, 235)
    keep = (1 - box) * (1 - letters)
    luma = keep * planes.y + (1 - letters) * box * black + letters * white
    rows, columns = planes.u.shape
    coarse = keep.reshape(rows, 2, columns, 2).mean(axis=(1, 3))

    def chroma(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _rounded(coarse * (samples.astype(np.float32) - 128) + 128)

    return replaced(planes, _rounded(luma), chroma(planes.u), chroma(planes.v))


def _share(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.divide(levels, 255, dtype=np.float32)


def _rounded(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.rint(values).astype(np.uint8)
