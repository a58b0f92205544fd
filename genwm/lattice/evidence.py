"""From frames to evidence: the sum of whitened frames, in which content averages out and the mark adds up.

Frames are summed in short groups first and each group's mean is whitened once: what moves is blurred away before it is
measured, and the cost a frame is one integer multiply-add. Frames count by picture type, because an encoder spends
its bits on key frames and hardly any on bidirectional ones (weights fitted at CRF 30-40: docs/watermark.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from genwm.video import Planes, resized

#: Short side that larger frames are scaled down to before they are summed.
WORKING_LINES = 720
FRAME_WEIGHTS = {"I": 16, "P": 3, "B": 1, "?": 3}
#: Of a key frame that follows another. Where all frames are key frames their types say nothing; but what begins such a
#: file likely began an earlier encode as well, which gave it most of its bits.
REPEATED_WEIGHT = 2
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
#: Samples of a strip that stays in the processor's cache through all steps of whitening it.
_STRIP_SAMPLES = 49_152
_MAX_WEIGHT = 65535 // 255  # more could overflow the sums
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
    """Collects frames of one size into groups, whitens each on other threads while the next frames are decoded, and
    hands them over as evidence. ``picked``: frames are not neighbours but were picked for their type, and count by it
    whatever came before."""

    group_frames: int = GROUP_FRAMES
    picked: bool = False
    _last_type: str = ""
    _open: Group | None = None
    _whitened: list[tuple[Callable[..., Evidence], list[Future[NDArray[np.float32]]]]] = field(default_factory=list)
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
            self.close_group()
            current = None
        if current is None:
            y, u, v = (np.zeros(plane.shape, np.uint16) for plane in (frame.y, frame.u, frame.v))
            current = self._open = Group((y, u, v), 0, 0, frame.time_s, frame.time_s, frame.pixel_aspect)
        current.add(frame, weight)

    def close_group(self) -> None:
        """Ends the current group: the next frame opens a new one."""
        if self._open is not None:
            group, self._open = self._open, None
            group.settle()
            # The three planes apart: one group alone is then whitened on two cores.
            planes = [self._pool.submit(whiten_plane, group, number) for number in range(3)]
            self._whitened.append((_described(group), planes))

    def take(self) -> list[Evidence]:
        """All groups collected so far, one evidence each; they are not kept."""
        self.close_group()
        whitened, self._whitened = self._whitened, []
        return [evidence(tuple(plane.result() for plane in planes)) for evidence, planes in whitened]


def of_one_size(evidence: Sequence[Evidence]) -> Sequence[Evidence]:
    """The evidence of the commonest frame size: a stream may change it midway."""
    sizes = [item.planes[0].shape for item in evidence]
    if not sizes:
        return evidence
    common = max(set(sizes), key=sizes.count)
    return [item for item, size in zip(evidence, sizes, strict=True) if size == common]


def whiten_plane(group: Group, number: int) -> NDArray[np.float32]:
    """The evidence of one plane of a group: its mean frame, reduced to ``EVIDENCE_LINES``, whitened, times its
    weight."""
    reduction = min(1.0, EVIDENCE_LINES / min(group.sums[0].shape))
    mean, levels = group.sums[number], 1.0
    if reduction < 1:
        # Few frames make small sums: what the scaler rounds away must stay below the frames' own rounding.
        lines, columns = (max(1, round(length * reduction)) for length in mean.shape)
        levels = _MAX_WEIGHT // group.weight
        mean = resized(np.multiply(mean, levels, dtype=np.uint16), lines, columns)
    white = whiten(mean.astype(np.float32) * np.float32(1 / (group.weight * levels)),
                   variance_floor=VARIANCE_FLOOR[number] / np.sqrt(group.frames), window=WINDOWS[number],
                   calm_power=CALM_POWER[number])
    white *= np.float32(group.weight)
    return white


def _described(group: Group) -> Callable[..., Evidence]:
    """Evidence of the group but for its planes."""
    height, width = group.sums[0].shape
    return partial(Evidence, width=width * group.pixel_aspect, height=float(height), frames=group.frames,
                   start_s=group.start_s, stop_s=group.stop_s)


def whiten(plane: NDArray[np.float32], *, variance_floor: float, window: int = 5, calm_power: float = 0.0
           ) -> NDArray[np.float32]:
    """High-pass over local deviation: float32 ``(H, W)`` in, the same out.

    The residual of a box of ``window`` x ``window`` samples is divided by its own root mean square over the same box
    and clipped to [-CLIP, CLIP], so that no edge or texture outweighs the rest of the picture; then it is divided by
    that root mean square to the power of ``calm_power``. Edges are replicated.
    """
    rows, columns = plane.shape
    pad = window // 2
    padded = _padded(plane, 2 * pad)
    stride = padded.shape[1]
    corner = pad * stride + pad
    white = np.empty_like(plane)
    count = window**2
    height = max(8, _STRIP_SAMPLES // columns)
    for start in range(0, rows, height):
        # Rows end to end: sums of runs of memory are twice as fast. What runs over the end of a row is left out last.
        target = white[start : start + height]
        part = padded[start : start + len(target) + 4 * pad].ravel()
        residual = part[corner:-corner] * np.float32(count)  # times the count: exactly 0 where all is the same
        residual -= _box_sums(part, window, stride)
        values = np.empty(len(target) * stride, np.float32)
        used = slice(0, len(values) - 4 * pad)
        deviation = _box_sums(residual * residual, window, stride)
        deviation *= np.float32(1 / count)
        deviation += np.float32(variance_floor * count**2)
        np.sqrt(deviation, out=deviation)
        np.divide(residual[corner:-corner], deviation, out=values[used])
        np.clip(values[used], -CLIP, CLIP, out=values[used])
        if calm_power:
            values[used] *= (deviation * np.float32(1 / count)) ** np.float32(-calm_power)
        target[:] = values.reshape(-1, stride)[:, :columns]
    return white


def _padded(plane: NDArray[np.float32], pad: int) -> NDArray[np.float32]:
    """The plane with ``pad`` replicated samples on each side."""
    rows, columns = plane.shape
    wide = np.empty((rows + 2 * pad, columns + 2 * pad), np.float32)
    inner = wide[pad : pad + rows]
    inner[:, pad : pad + columns] = plane
    inner[:, :pad] = plane[:, :1]
    inner[:, pad + columns :] = plane[:, -1:]
    wide[:pad] = inner[0]
    wide[pad + rows :] = inner[-1]
    return wide


def _box_sums(samples: NDArray[np.float32], window: int, stride: int) -> NDArray[np.float32]:
    """Sums of ``window`` x ``window`` samples from each on, of rows of ``stride`` end to end."""
    return _sums(_sums(samples, window, 1), window, stride)


def _sums(samples: NDArray[np.float32], window: int, stride: int) -> NDArray[np.float32]:
    """Sums of ``window`` samples ``stride`` apart, from each on, doubled up: 5 are 1 and 4, 4 are 2 and 2."""
    count = len(samples) - (window - 1) * stride
    total, done = None, 0
    for bit in range(window.bit_length()):
        span = 1 << bit
        if window & span:
            piece = samples[done * stride :][:count]
            total = piece if total is None else total + piece
            done += span
        if done < window:
            samples = samples[: -span * stride] + samples[span * stride :]
    assert total is not None  # a window is not empty
    return total


