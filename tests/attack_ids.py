"""What the checks of attack ids share: a clip, and a register of checks by the ids that they are for."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any, get_args

import numpy as np

from eval.attacks import ATTACKS, Attack, Clip, Maker
from eval.attacks.color import rgb_of
from eval.attacks.model import Kind
from genwm.video import Planes, read_planes, write_video
from tests.clips import scene

FPS = Fraction(24)
HEIGHT, WIDTH, COUNT = 160, 192, 24
#: The kinds of each of the two files of checks.
FIRST: tuple[Kind, ...] = ("codec", "geometry", "chain")
OTHERS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in FIRST)
Check = Callable[[Clip, Attack, re.Match[str]], None]


class Checks:
    """Checks of attacks of some kinds, by patterns of whole ids."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds: Collection[Kind] = kinds
        self._checks: list[tuple[str, Check]] = []

    def ids(self, pattern: str) -> Callable[[Check], Check]:
        """Keeps a check for the ids that the pattern matches."""

        def kept(check: Check) -> Check:
            self._checks.append((pattern, check))
            return check

        return kept

    @property
    def names(self) -> list[str]:
        """The ids of the registry that are to be checked."""
        return [name for name, attack in ATTACKS.items() if attack.kind in self.kinds]

    def of(self, name: str) -> list[tuple[Check, re.Match[str]]]:
        """The checks of an id, with what their patterns found."""
        return [(check, said) for pattern, check in self._checks if (said := re.fullmatch(pattern, name))]


def small_clip() -> Clip:
    """24 frames of 192 x 160 that clip nowhere."""
    file = BytesIO()
    tame = [(60 + one * 0.4).astype(np.uint8) for one in scene(WIDTH, HEIGHT, COUNT)]
    write_video(file, tame, fps=FPS, crf=6, preset="ultrafast", threads=1)
    file.seek(0)
    frames = [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(file, threads=1)]
    other = [replace(one, y=255 - one.y) for one in frames]
    return Clip(frames, FPS, Maker(same=iter, other=lambda _: iter(other), original=lambda: other))


def shown(clip: Clip, attack: Attack, count: int = 2, seed: int = 1) -> list[Planes]:
    """The first frames after the edit, before the encode."""
    frames, _ = attack.edit(clip.frames[:count], FPS, np.random.default_rng(seed))
    return list(frames)


def written(clip: Clip, attack: Attack, count: int = 3) -> BytesIO:
    """The first frames as the attacked file."""
    return attack.apply(Clip(clip.frames[:count], FPS, clip.maker), np.random.default_rng(1))


def even(side: float) -> int:
    return round(side / 2) * 2


def levels(planes: Planes) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rgb_of(planes).astype(float)


def x26x(file: BytesIO) -> dict[str, str]:
    """The settings that x264 and x265 write into a stream for people to read."""
    text = re.search(rb"options: ([ -~]+)", file.getvalue())
    assert text
    words = (word.partition("=") for word in text[1].decode().split())
    return {name: value for name, _, value in words}
