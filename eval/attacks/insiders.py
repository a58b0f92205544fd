"""Attacks of people who see many marked clips, or can mark: estimate and subtract, mark again, paste elsewhere.

The estimate is what stays when pictures change: the mean over frames of each plane without its slow part (a Gaussian
blur of 12 luma samples). It needs neither the key nor the detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.attacks.color import planes_of, replaced
from eval.attacks.model import Edit, Maker
from eval.attacks.photometry import bytes_of
from genwm.scenes import scene
from genwm.video import Planes

Pattern = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
SLOW = 12.0  # luma samples
#: The id of the control in which nothing is to be found.
UNMARKED = "unmarked+h264.crf23"


def estimated(frames: Iterable[Planes]) -> Pattern:
    """The mean over frames of Y, U and V without their slow part, float32, in 8-bit levels."""
    totals: list[NDArray[np.float32]] = []
    count = 0
    for frame in frames:
        fast = []
        for plane, sigma in ((frame.y, SLOW), (frame.u, SLOW / 2), (frame.v, SLOW / 2)):
            values = plane.astype(np.float32)
            fast.append(values - ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=2.5))
        totals = fast if not count else [total + one for total, one in zip(totals, fast, strict=True)]
        count += 1
    y, u, v = (np.divide(total, count, dtype=np.float32) for total in totals)
    return y, u, v


def added(planes: Planes, *, pattern: Pattern, gain: float) -> Planes:
    """The frame plus ``gain`` times a pattern, rounded and clipped."""
    y, u, v = (
        bytes_of(plane + gain * part) for plane, part in zip((planes.y, planes.u, planes.v), pattern, strict=True)
    )
    return replaced(planes, y, u, v)


def subtract_own(gain: float = 1.0) -> Callable[[Maker], Edit]:
    """Estimates the mark from the clip's own frames and subtracts it ``gain`` times. On a clip that stands still the
    estimate is the picture's own detail."""

    def with_maker(_: Maker) -> Edit:
        def edit(
            frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator
        ) -> tuple[Iterable[Planes], Fraction]:
            return map(partial(added, pattern=estimated(frames), gain=-gain), frames), fps

        return edit

    return with_maker


def subtract_collected(clips: int, gain: float = 1.0) -> Callable[[Maker], Edit]:
    """Estimates the mark from ``clips`` other pictures of the clip's size under the same key and payload (stills of
    scenes of genwm.scenes) and subtracts it ``gain`` times."""

    def with_maker(maker: Maker) -> Edit:
        def edit(
            frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator
        ) -> tuple[Iterable[Planes], Fraction]:
            pattern = estimated(maker.same(_stills(frames[0], clips, rng)))
            return map(partial(added, pattern=pattern, gain=-gain), frames), fps

        return edit

    return with_maker


def transplant(clips: int, gain: float = 1.0) -> Callable[[Maker], Edit]:
    """Adds the mark that is estimated as in `subtract_collected` to the clip without a mark: a forgery, made without
    the key."""

    def with_maker(maker: Maker) -> Edit:
        def edit(
            frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator
        ) -> tuple[Iterable[Planes], Fraction]:
            pattern = estimated(maker.same(_stills(frames[0], clips, rng)))
            return map(partial(added, pattern=pattern, gain=gain), maker.original()), fps

        return edit

    return with_maker


def overwrite() -> Callable[[Maker], Edit]:
    """Marks the marked clip a second time, with another key and payload."""

    def with_maker(maker: Maker) -> Edit:
        def edit(
            frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator
        ) -> tuple[Iterable[Planes], Fraction]:
            return maker.other(frames), fps

        return edit

    return with_maker


def unmarked() -> Callable[[Maker], Edit]:
    """The clip without a mark. No attack, but the control of the reader: whatever it finds is not there."""

    def with_maker(maker: Maker) -> Edit:
        def edit(
            frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator
        ) -> tuple[Iterable[Planes], Fraction]:
            return maker.original(), fps

        return edit

    return with_maker


def _stills(like: Planes, count: int, rng: np.random.Generator) -> Iterable[Planes]:
    height, width = like.y.shape
    for seed in rng.integers(1 << 31, size=count).tolist():
        yield planes_of(scene(width, height, 1, seed=seed)[0], like)
