"""From frames to evidence: the sum of whitened frames, in which content averages out and the mark adds up.

Frames are summed in short groups first and each group's mean is whitened once: what moves is blurred away before it is
measured, and the cost a frame is one integer multiply-add. Frames count by picture type, because an encoder spends
its bits on key frames and hardly any on bidirectional ones (weights fitted at CRF 30-40: docs/watermark.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genwm.video import Planes, resized

#: Short side that larger frames are scaled down to before they are summed.
WORKING_LINES = 720
FRAME_WEIGHTS = {"I": 16, "P": 3, "B": 1, "?": 3}
GROUP_FRAMES = 16
#: Side of the box of the high-pass, a plane: the colours' mark has longer waves.
WINDOWS = (5, 9, 9)
#: Besides being whitened, a neighbourhood counts by its deviation to the minus this power: where the picture is calm,
#: the mark is surer.
CALM_POWER = (0.0, 0.2, 0.2)
#: Variance, in squared 8-bit levels, below which a neighbourhood counts as flat: codec noise must not be amplified.
VARIANCE_FLOOR = (9.0, 2.0, 2.0)
CLIP = 2.5
#: Short side that sums are reduced to: the highest frequency of the mark is then .32 cycles a pixel.
EVIDENCE_LINES = 576
_STRIP_ROWS = 48
_MAX_WEIGHT = 65535 // 255  # more could overflow the sums


@dataclass(slots=True)
class Group:
    """Weighted sum of neighbouring frames: uint16 planes (Y, U, V), the weights' sum, frames and time span."""

    sums: tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]
    weight: int
    frames: int
    start_s: float
    stop_s: float
    pixel_aspect: float


@dataclass(slots=True)
class Evidence:
    """Whitened evidence of one stretch of video.

    Attributes:
        planes: float32 arrays Y ``(H, W)`` and U, V ``(ceil(H / 2), ceil(W / 2))``, no unit.
        width, height: displayed size in square pixels of the working resolution.
        frames: frames that went in.
        start_s, stop_s: span of time.
    """

    planes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    width: float
    height: float
    frames: int
    start_s: float
    stop_s: float

    def __add__(self, other: Evidence) -> Evidence:
        first, second = self.planes, other.planes
        return Evidence(
            (first[0] + second[0], first[1] + second[1], first[2] + second[2]),
            self.width, self.height, self.frames + other.frames,
            min(self.start_s, other.start_s), max(self.stop_s, other.stop_s),
        )


@dataclass(slots=True)
class Accumulator:
    """Collects frames of one size into groups, whitens each on another thread while the next frames are decoded, and
    hands them over as evidence."""

    group_frames: int = GROUP_FRAMES
    _open: Group | None = None
    _whitened: list[Future[Evidence]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def add(self, frame: Planes) -> None:
        """Adds one frame; its arrays are not kept."""
        weight = FRAME_WEIGHTS.get(frame.picture_type, FRAME_WEIGHTS["?"])
        current = self._open
        if current is not None and (
            current.frames >= self.group_frames
            or current.weight + weight > _MAX_WEIGHT
            or current.sums[0].shape != frame.y.shape
        ):
            self.close_group()
            current = None
        if current is None:
            sums = tuple(np.multiply(plane, weight, dtype=np.uint16) for plane in (frame.y, frame.u, frame.v))
            self._open = Group((sums[0], sums[1], sums[2]), weight, 1, frame.time_s, frame.time_s, frame.pixel_aspect)
            return
        for total, plane in zip(current.sums, (frame.y, frame.u, frame.v), strict=True):
            np.add(total, plane if weight == 1 else np.multiply(plane, weight, dtype=np.uint16), out=total)
        current.weight += weight
        current.frames += 1
        current.stop_s = frame.time_s

    def close_group(self) -> None:
        """Ends the current group: the next frame opens a new one."""
        if self._open is not None:
            self._whitened.append(self._pool.submit(whiten_group, self._open))
            self._open = None

    def take(self) -> list[Evidence]:
        """All groups collected so far, one evidence each; they are not kept."""
        self.close_group()
        whitened, self._whitened = self._whitened, []
        return [future.result() for future in whitened]


def of_one_size(evidence: Sequence[Evidence]) -> Sequence[Evidence]:
    """The evidence of the commonest frame size: a stream may change it midway."""
    sizes = [item.planes[0].shape for item in evidence]
    if not sizes:
        return evidence
    common = max(set(sizes), key=sizes.count)
    return [item for item, size in zip(evidence, sizes, strict=True) if size == common]


def whiten_group(group: Group) -> Evidence:
    """The evidence of one group: its mean frame, reduced to ``EVIDENCE_LINES``, whitened, times its weight."""
    planes = []
    height, width = group.sums[0].shape
    reduction = min(1.0, EVIDENCE_LINES / min(height, width))
    for total, floor, window, power in zip(group.sums, VARIANCE_FLOOR, WINDOWS, CALM_POWER, strict=True):
        lines, columns = (max(1, round(length * reduction)) for length in total.shape)
        mean, levels = total, 1.0
        if reduction < 1:
            # Few frames make small sums: what the scaler rounds away must stay below the frames' own rounding.
            levels = _MAX_WEIGHT // group.weight
            mean = resized(np.multiply(total, levels, dtype=np.uint16), lines, columns)
        white = whiten(mean.astype(np.float32) * np.float32(1 / (group.weight * levels)),
                       variance_floor=floor / np.sqrt(group.frames), window=window, calm_power=power)
        white *= np.float32(group.weight)
        planes.append(white)
    return Evidence((planes[0], planes[1], planes[2]), width * group.pixel_aspect, float(height), group.frames,
                    group.start_s, group.stop_s)


def whiten(plane: NDArray[np.float32], *, variance_floor: float, window: int = 5, calm_power: float = 0.0
           ) -> NDArray[np.float32]:
    """High-pass over local deviation: float32 ``(H, W)`` in, the same out.

    The residual of a box of ``window`` x ``window`` samples is divided by its own root mean square over the same box
    and clipped to [-CLIP, CLIP], so that no edge or texture outweighs the rest of the picture; then it is divided by
    that root mean square to the power of ``calm_power``. Edges are replicated.
    """
    rows = plane.shape[0]
    pad = window // 2
    wide = np.pad(plane, 2 * pad, mode="edge")
    white = np.empty_like(plane)
    for start in range(0, rows, _STRIP_ROWS):  # few enough to stay in the processor's cache through all steps
        part = wide[start : min(start + _STRIP_ROWS, rows) + 4 * pad]
        residual = part[pad:-pad, pad:-pad] - _box_sums(part, window) / np.float32(window**2)
        deviation = _box_sums(residual * residual, window)
        deviation *= np.float32(1 / window**2)
        deviation += np.float32(variance_floor)
        np.sqrt(deviation, out=deviation)
        values = np.divide(residual[pad:-pad, pad:-pad], deviation, out=white[start : start + _STRIP_ROWS])
        np.clip(values, -CLIP, CLIP, out=values)
        if calm_power:
            values *= deviation ** np.float32(-calm_power)
    return white


def _box_sums(plane: NDArray[np.float32], window: int) -> NDArray[np.float32]:
    """Sums of ``window`` x ``window`` samples, where the box lies inside: smaller by ``window`` - 1 either way."""
    rows, columns = (length - window + 1 for length in plane.shape)
    across = plane[:, :columns] + plane[:, 1 : columns + 1]
    for shift in range(2, window):
        across += plane[:, shift : shift + columns]
    down = across[:rows] + across[1 : rows + 1]
    for shift in range(2, window):
        down += across[shift : shift + rows]
    return down
