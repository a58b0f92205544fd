"""Frames left out, sped up, cut off: what changes when pictures are shown and not the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from eval.attacks.model import Edit
from genwm.video import Planes

_Result = tuple[Iterable[Planes], Fraction]


def halve_rate() -> Edit:
    """Every second frame, at half the rate: the same duration."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        return [frames[index] for index in range(0, len(frames), 2)], fps / 2

    return edit


def drop(share: float) -> Edit:
    """Leaves out ``share`` of the frames at random places; the others follow each other at the old rate."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        kept = max(1, len(frames) - round(share * len(frames)))
        return [frames[index] for index in np.sort(rng.permutation(len(frames))[:kept]).tolist()], fps

    return edit


def speed(factor: float) -> Edit:
    """Plays ``factor`` times as fast at the old rate: the frame nearest in time is shown, without blending."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        count = max(1, int(len(frames) / factor))
        return [frames[min(len(frames) - 1, int(index * factor + 0.5))] for index in range(count)], fps

    return edit


def trim_start(seconds: float) -> Edit:
    """Cuts ``seconds`` off the start; of a clip that is shorter, the last frame is left."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        start = min(len(frames) - 1, round(seconds * fps))
        return [frames[index] for index in range(start, len(frames))], fps

    return edit
