"""From frames to evidence: the sum of whitened frames, in which content averages out and the mark adds up.

Frames are summed in short groups first and each group's mean is whitened once (`whitening`): what moves is blurred away
before it is measured, and the cost a frame is one integer multiply-add. Frames count by picture type, because an
encoder spends its bits on key frames and hardly any on bidirectional ones (weights fitted at CRF 30-40:
docs/watermark.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from genwm.blas import one_blas_thread
from genwm.lattice.whitening import (
    COLOUR_NOISE,
    COLOUR_WINDOW,
    LUMA_NOISE,
    SMALL_COLOUR_WINDOW,
    whiten_colours,
    whiten_luma,
)
from genwm.video import Planes, resized

#: Short side that larger frames are scaled down to before they are summed.
WORKING_LINES = 720
FRAME_WEIGHTS = {"I": 16, "P": 3, "B": 1, "?": 3}
#: Of a key frame that follows another. Where all frames are key frames their types say nothing; but what begins such a
#: file likely began an earlier encode as well, which gave it most of its bits.
REPEATED_WEIGHT = 2
GROUP_FRAMES = 16
#: Short side that sums are reduced to: the highest frequency of the mark is then .38 cycles a pixel.
EVIDENCE_LINES = 480
_MAX_WEIGHT = 65535 // 255  # more could overflow the sums
#: Fewer frames than a group's by this factor are no group of their own: whitening them would cost as much as a group.
_SCRAP = 4
#: Frames that are summed at once, and rows at a time: few enough to stay in the processor's cache meanwhile.
_AT_ONCE, _SUM_ROWS = 4, 72


@dataclass(slots=True)
class Group:
    """Weighted sum of neighbouring frames: uint16 planes (Y, U, V), the weights' sum, frames and time span.
    ``waiting`` are frames, with their weights, that are not in the sums yet."""

    sums: tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]
    weight: int
    frames: int
    start_s: float
    stop_s: float
    pixel_aspect: float
    waiting: list[tuple[Planes, int]] = field(default_factory=list)

    def add(self, frame: Planes, weight: int) -> None:
        """Adds one frame; its arrays are kept until a few have come."""
        self.waiting.append((frame, weight))
        self.weight += weight
        self.frames += 1
        self.stop_s = frame.time_s
        if len(self.waiting) >= _AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Adds the waiting frames to the sums: together, so that these are fetched and stored once for all."""
        for number, total in enumerate(self.sums):
            for start in range(0, total.shape[0], _SUM_ROWS):
                rows = slice(start, start + _SUM_ROWS)
                part = total[rows]
                for frame, weight in self.waiting:
                    plane = (frame.y, frame.u, frame.v)[number][rows]
                    np.add(part, plane if weight == 1 else np.multiply(plane, weight, dtype=np.uint16), out=part)
        self.waiting.clear()

    def takes(self, other: Group) -> bool:
        """Whether the sums have room for those of another group of the same size."""
        return self.sums[0].shape == other.sums[0].shape and self.weight + other.weight <= _MAX_WEIGHT

    def extend(self, later: Group) -> None:
        """Adds a group that follows; neither has frames that wait."""
        for total, more in zip(self.sums, later.sums, strict=True):
            total += more
        self.weight += later.weight
        self.frames += later.frames
        self.stop_s = later.stop_s


@dataclass(slots=True)
class Evidence:
    """Whitened evidence of one stretch of video.

    Attributes:
        planes: float32 arrays Y ``(H, W)`` and U, V ``(ceil(H / 2), ceil(W / 2))``, no unit.
        width, height: displayed size in square pixels of the working resolution.
        frames: frames that went in.
        start_s, stop_s: span of time.
        plain: luma as `whitening.whiten_luma` gives it second, which shows where a picture ends.
    """

    planes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    width: float
    height: float
    frames: int
    start_s: float
    stop_s: float
    plain: NDArray[np.float32]

    def __add__(self, other: Evidence) -> Evidence:
        first, second = self.planes, other.planes
        return Evidence(
            (first[0] + second[0], first[1] + second[1], first[2] + second[2]),
            self.width, self.height, self.frames + other.frames,
            min(self.start_s, other.start_s), max(self.stop_s, other.stop_s), self.plain + other.plain,
        )


_Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
#: Evidence but for its planes, and the pairs of these that are being whitened.
_Whitened = tuple[Callable[..., Evidence], list[Future[_Pair]]]


@dataclass(slots=True)
class Accumulator:
    """Collects frames of one size into groups, whitens each on other threads while the next frames are decoded, and
    hands them over as evidence. ``picked``: frames are not neighbours but were picked for their type, and count by it
    whatever came before."""

    group_frames: int = GROUP_FRAMES
    picked: bool = False
    _last_type: str = ""
    _open: Group | None = None
    _full: Group | None = None  # until what follows proves to be more than a scrap
    _whitened: list[_Whitened] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def add(self, frame: Planes) -> None:
        """Adds one frame; its arrays are not kept for longer than the next few frames."""
        weight = FRAME_WEIGHTS.get(frame.picture_type, FRAME_WEIGHTS["?"])
        if frame.picture_type == self._last_type == "I" and not self.picked:
            weight = REPEATED_WEIGHT
        self._last_type = frame.picture_type
        current = self._open
        if current is not None and (
            current.frames >= self.group_frames
            or current.weight + weight > _MAX_WEIGHT
            or current.sums[0].shape != frame.y.shape
        ):
            self._close()
            current = None
        if current is None:
            y, u, v = (np.zeros(plane.shape, np.uint16) for plane in (frame.y, frame.u, frame.v))
            current = self._open = Group((y, u, v), 0, 0, frame.time_s, frame.time_s, frame.pixel_aspect)
        current.add(frame, weight)
        if not self._is_scrap(current):
            self._whiten()

    def _is_scrap(self, group: Group) -> bool:
        return group.frames * _SCRAP < self.group_frames

    def _close(self) -> None:
        """Ends the current group: the next frame opens a new one. A scrap goes with the full one before it."""
        group, self._open = self._open, None
        if group is None:
            return
        group.settle()
        if self._full is not None and self._is_scrap(group) and self._full.takes(group):
            self._full.extend(group)
        else:
            self._whiten()
            self._full = group

    def _whiten(self) -> None:
        """Has the full group, if there is one, whitened."""
        group, self._full = self._full, None
        if group is not None:
            # Luma and the colours apart: one group alone is then whitened on two cores.
            parts = [self._pool.submit(part, group) for part in (_white_luma, _white_colours)]
            self._whitened.append((_described(group), parts))

    def take(self) -> list[Evidence]:
        """All groups collected so far, one evidence each; they are not kept."""
        self._close()
        self._whiten()
        whitened, self._whitened = self._whitened, []
        finished = []
        for evidence, parts in whitened:
            (luma, plain), colours = (part.result() for part in parts)
            finished.append(evidence((luma, *colours), plain=plain))
        return finished


def of_one_size(evidence: Sequence[Evidence]) -> Sequence[Evidence]:
    """The evidence of the commonest frame size: a stream may change it midway."""
    sizes = [item.planes[0].shape for item in evidence]
    if not sizes:
        return evidence
    common = max(set(sizes), key=sizes.count)
    return [item for item, size in zip(evidence, sizes, strict=True) if size == common]


def _white_luma(group: Group) -> _Pair:
    """The evidence of a group's luma and its plain one, times its weight."""
    luma = _mean(group, 0, _evidence_size(group, 0))
    with one_blas_thread():
        return _weighted(whiten_luma(luma, noise=_noise(LUMA_NOISE, group)), group)


def _white_colours(group: Group) -> _Pair:
    """The evidence of both of a group's colours, times its weight."""
    size = _evidence_size(group, 1)
    planes = (_mean(group, number, size) for number in range(3))
    window = COLOUR_WINDOW if min(group.sums[0].shape) >= EVIDENCE_LINES else SMALL_COLOUR_WINDOW
    return _weighted(whiten_colours(*planes, noise=_noise(COLOUR_NOISE, group), window=window), group)


def _weighted(planes: _Pair, group: Group) -> _Pair:
    for plane in planes:
        plane *= np.float32(group.weight)
    return planes


def _noise(of_a_frame: float, group: Group) -> float:
    """Variance of the noise of a mean of frames, which are not quite independent."""
    return of_a_frame / float(np.sqrt(group.frames))


def _evidence_size(group: Group, number: int) -> tuple[int, int]:
    """Rows and columns to which a plane of the group is reduced."""
    reduction = min(1.0, EVIDENCE_LINES / min(group.sums[0].shape))
    rows, columns = (max(1, round(length * reduction)) for length in group.sums[number].shape)
    return rows, columns


def _mean(group: Group, number: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """The mean of a plane of the group's frames, of a ``size`` of rows and columns: float32 in 8-bit levels."""
    total, levels = group.sums[number], 1
    if total.shape != size:
        # Few frames make small sums: what the scaler rounds away must stay below the frames' own rounding.
        levels = _MAX_WEIGHT // group.weight
        total = resized(np.multiply(total, levels, dtype=np.uint16), *size)
    mean = total.astype(np.float32)
    mean *= np.float32(1 / (group.weight * levels))
    return mean


def _described(group: Group) -> Callable[..., Evidence]:
    """Evidence of the group but for its planes."""
    height, width = group.sums[0].shape
    return partial(Evidence, width=width * group.pixel_aspect, height=float(height), frames=group.frames,
                   start_s=group.start_s, stop_s=group.stop_s)
