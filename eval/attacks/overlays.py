"""What is laid over the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eval.attacks.color import replaced
from eval.attacks.model import Edit
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
