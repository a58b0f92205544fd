"""What the tests of attacks beyond the table share: a clip, frames of one plane, and edits in a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np

from eval.attacks import Clip
from eval.attacks.model import Edit
from genwm.video import Planes, read_planes, write_video
from tests.clips import scene

FPS = Fraction(24)
HEIGHT, WIDTH = 160, 192


def short_clip() -> Clip:
    """24 frames of 192 x 160, as a decoder gives them."""
    file = BytesIO()
    write_video(file, scene(WIDTH, HEIGHT, 24), fps=FPS, crf=6, preset="ultrafast", threads=1)
    file.seek(0)
    return Clip(decoded(file), FPS)


def decoded(file: BytesIO) -> list[Planes]:
    return [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(file, threads=1)]


def edited(edit: Edit, frames: Sequence[Planes], seed: int = 5) -> tuple[list[Planes], Fraction]:
    result, fps = edit(frames, FPS, np.random.default_rng(seed))
    return list(result), fps


def same(one: Planes, other: Planes) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "yuv")


def planes(y: Any) -> Planes:
    y = np.rint(np.asarray(y)).astype(np.uint8)
    grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
    return Planes(y=y, u=grey, v=grey, time_s=0.0, index=0)
