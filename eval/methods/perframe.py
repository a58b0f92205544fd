"""Watermarks of still images on video, as their users run them: every frame marked alike, some read, a vote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eval.attacks.color import planes_of, rgb_of
from eval.baselines import MIN_PIXELS, baseline, vote
from eval.methods.model import Outcome
from genwm.keys import Key
from genwm.video import Planes, read_rgb

BITS = 32


@dataclass(frozen=True, kw_only=True)
class PerFrame:
    """A method of :mod:`eval.baselines` with 32 bits (the lowest of the payload). It has no key and no decision.

    ``reads`` frames, evenly spread, are read. The vote over them (``profile``) is ``soft``, the mean of the method's
    own score of each bit, or ``majority``, that of the bits.
    """

    name: str
    profile: Literal["soft", "majority"] = "soft"
    strength: str = "default"
    reads: int = 8
    bits: ClassVar[int] = BITS
    keyed: ClassVar[bool] = False

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        method, message = baseline(self.name), bits_of(payload, BITS)
        for planes in frames:
            (rgb,) = method.embed(rgb_of(planes)[None], message)
            yield replace(planes_of(rgb, planes))

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        with read_rgb(file, threads=1) as reader:
            frames = spread((frame for _, frame in reader), self.reads)
        if frames[0].shape[0] * frames[0].shape[1] < MIN_PIXELS:
            return Outcome(False, frames_read=len(frames))  # smaller than it takes: nothing is read
        method = baseline(self.name)
        if self.profile == "soft":
            scores = np.mean([method.score(frame, BITS) for frame in frames], axis=0)
            message = (scores >= 0.5).astype(int)
        else:
            message = vote(np.concatenate([method.extract(frame[None], BITS) for frame in frames])).astype(int)
        return Outcome(None, frames_read=len(frames), message=tuple(message.tolist()))


def spread(frames: Iterable[NDArray[np.uint8]], count: int) -> list[NDArray[np.uint8]]:
    """At most ``count`` of the frames, evenly spread, without keeping them all."""
    kept: list[NDArray[np.uint8]] = []
    step = 1
    for index, frame in enumerate(frames):
        if index % step == 0:
            kept.append(frame)
            if len(kept) > 2 * count:
                kept, step = kept[::2], 2 * step
    return [kept[index * len(kept) // count] for index in range(count)] if len(kept) > count else kept


def bits_of(payload: int, count: int) -> tuple[int, ...]:
    """The lowest ``count`` bits of a payload, most significant first."""
    return tuple(payload >> shift & 1 for shift in range(count - 1, -1, -1))
