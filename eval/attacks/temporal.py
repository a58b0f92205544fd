"""Frames left out, sped up, cut off: what changes when pictures are shown and not the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eval.attacks.color import planes_of, replaced
from eval.attacks.model import Edit
from genwm.scenes import scene
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


def reverse() -> Edit:
    """Plays backwards."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        return frames[::-1], fps

    return edit


def repeat(share: float) -> Edit:
    """Shows ``share`` of the frames, at random places, twice, as a stuttering copy does."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        twice = set(rng.permutation(len(frames))[: round(share * len(frames))].tolist())
        return [frame for index, frame in enumerate(frames) for _ in range(1 + (index in twice))], fps

    return edit


def reorder(seconds: float) -> Edit:
    """Cuts the clip into parts of ``seconds`` and shows them in a random order."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        length = max(1, round(seconds * fps))
        parts = [frames[start : start + length] for start in range(0, len(frames), length)]
        return [frame for index in rng.permutation(len(parts)) for frame in parts[index]], fps

    return edit


def to_rate(rate: Fraction) -> Edit:
    """Shows the clip at ``rate`` frames a second: the frame nearest in time, the same duration."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        count = max(1, round(len(frames) * rate / fps))
        return [frames[min(len(frames) - 1, int(index * fps / rate))] for index in range(count)], rate

    return edit


def double_rate() -> Edit:
    """Puts the mean of its neighbours between any two frames, at twice the rate: the same duration."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        def doubled() -> Iterable[Planes]:
            for one, other in pairwise([*frames, frames[-1]]):
                yield one
                yield averaged([one, other])

        return doubled(), 2 * fps

    return edit


def window_average(length: int) -> Edit:
    """Each frame becomes the mean of the ``length`` frames about it (of those there are, at both ends)."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        half = length // 2
        return (averaged(frames[max(0, at - half) : at + half + 1]) for at in range(len(frames))), fps

    return edit


def splice(share: float) -> Edit:
    """Replaces ``share`` of the clip's length, in the middle, by unmarked footage (a scene of genwm.scenes)."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> _Result:
        count = min(len(frames) - 1, round(share * len(frames)))
        start = (len(frames) - count) // 2
        height, width = frames[0].y.shape
        footage = scene(width, height, count, seed=int(rng.integers(1 << 31))) if count else ()
        inserted = [planes_of(rgb, like) for rgb, like in zip(footage, frames[start:], strict=False)]
        return [*frames[:start], *inserted, *frames[start + count :]], fps

    return edit


def averaged(frames: Sequence[Planes]) -> Planes:
    """The mean of frames of one size, rounded."""

    def plane(name: str) -> NDArray[np.uint8]:
        total = np.zeros(getattr(frames[0], name).shape, np.uint32)
        for frame in frames:
            total += getattr(frame, name)
        return ((total + len(frames) // 2) // len(frames)).astype(np.uint8)

    return replaced(frames[0], plane("y"), plane("u"), plane("v"))
