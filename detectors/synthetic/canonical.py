"""What the classifier looks at: short runs of frames at one rate, length and size, encoded once in one way.

Uploads differ by class in length, frame rate, size and codec, so a classifier that saw them as they are would learn
those. Every clip is therefore brought to the same form before anything is measured on it: segments of `FRAMES` frames
at about `RATE` a second (a whole number of source frames apart, so that nothing is repeated or blended), of each a crop
at native scale and the whole picture made small, both encoded with x264 at rate factor 23, 4:2:0, closed groups of 16.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from genwm.video import Planes, Span, VideoCodec, VideoInfo, probe, read_planes, resized, write_video
from genwm.video.model import Source

#: Frames a second, frames of a segment, lines and columns of the native crop, and of the small picture.
RATE, FRAMES, SIDE, SMALL = 8.0, 12, 240, 224
CRF, GOP = 23, 16
#: x264's own C code and SSE2 agree to the bit; with AVX the lookahead rounds otherwise, and with AVX-512 each time.
_SAME_EVERYWHERE = {"x264-params": "asm=SSE2"} if platform.machine() in ("x86_64", "AMD64") else None
#: Smaller pictures than this, or fewer different frames, are not judged.
LEAST_SIDE, LEAST_FRAMES = 96, 8
#: Two frames whose luma differs by less than this on average are one frame shown twice.
SAME = 0.15
# Times as `genwm.video.read_planes` compares them with the ends of a stretch.
_SAME_TIME_S = 1e-6

# Where a segment's crop lies, as shares of the room there is: in the middle first, never in a corner, where logos are.
_PLACES = ((0.5, 0.5), (0.35, 0.25), (0.65, 0.75), (0.35, 0.75), (0.65, 0.25))
_TO_YUV = np.array(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32
) / 255
_TO_LIMITED = np.rint(16 + np.arange(256) * 219 / 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Stack:
    """Frames as 8-bit 4:2:0 planes of limited range: ``y`` uint8 ``(frames, height, width)``, ``u`` and ``v`` uint8
    ``(frames, height / 2, width / 2)``; height and width are even."""

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def of(cls, frames: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]) -> Self:
        y, u, v = (np.stack(planes) for planes in zip(*frames, strict=True))
        return cls(y, u, v)

    def planes(self) -> Iterator[Planes]:
        for index, (y, u, v) in enumerate(zip(self.y, self.u, self.v, strict=True)):
            yield Planes(y=y, u=u, v=v, time_s=index / RATE, index=index, color_space="bt601")

    def cut(self, top: int, left: int, height: int, width: int) -> Stack:
        """A part of every frame; all four numbers even."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        half_rows = slice(top // 2, (top + height) // 2)
        half_columns = slice(left // 2, (left + width) // 2)
        return Stack(self.y[:, rows, columns], self.u[:, half_rows, half_columns], self.v[:, half_rows, half_columns])

    def scaled(self, height: int, width: int) -> Stack:
        """Every frame at another size (both numbers even)."""
        return Stack.of([
            (scaled(y, height, width), scaled(u, height // 2, width // 2), scaled(v, height // 2, width // 2))
            for y, u, v in zip(self.y, self.u, self.v, strict=True)
        ])


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of frames between two times of a clip: ``crop`` is a part at native scale whose top left corner is
    ``origin`` (row, column) of a picture of ``size`` (height, width); ``small`` is the whole picture, `SMALL` lines and
    columns. ``encoded_bytes`` counts what the canonical encode of both took (0: not encoded yet)."""

    start_s: float
    stop_s: float
    crop: Stack
    small: Stack
    origin: tuple[int, int]
    size: tuple[int, int]
    encoded_bytes: int = 0


def scaled(plane: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """One plane at another size: bicubic, low-passed where it gets smaller."""
    wide = resized(plane.astype(np.uint16) * np.uint16(256), height, width)
    return np.asarray(np.minimum((wide.astype(np.uint32) + 128) >> 8, 255), np.uint8)


def reencoded(stack: Stack, *, codec: VideoCodec = "h264", crf: float = CRF, gop: int = GOP) -> tuple[Stack, int]:
    """Frames through one codec and back, and the bytes that they took."""
    data = encoded(stack, codec=codec, crf=crf, gop=gop)
    return decoded(data), len(data)


def encoded(stack: Stack, *, codec: VideoCodec = "h264", crf: float = CRF, gop: int = GOP) -> bytes:
    """The frames as a Matroska file without sound; of x264, the same stream on every machine."""
    file = io.BytesIO()
    write_video(file, stack.planes(), fps=RATE, codec=codec, crf=crf, gop=gop, container="matroska", threads=1,
                options=_SAME_EVERYWHERE if codec == "h264" else None)
    return file.getvalue()


def decoded(data: bytes) -> Stack:
    with read_planes(io.BytesIO(data), threads=1) as reader:
        return Stack.of([(frame.y.copy(), frame.u.copy(), frame.v.copy()) for frame in reader])


def canonical(segment: Segment) -> Segment:
    """The segment with both stacks re-encoded: x264, rate factor 23, 4:2:0, closed groups of 16, no sound."""
    crop, crop_bytes = reencoded(segment.crop)
    small, small_bytes = reencoded(segment.small)
    return replace(segment, crop=crop, small=small, encoded_bytes=crop_bytes + small_bytes)


def read_segments(source: Source, *, count: int, threads: int = 2, info: VideoInfo | None = None) -> list[Segment]:
    """At most ``count`` segments spread evenly over a file, not re-encoded yet; none where it has too few frames.

    Errors: those of ``genwm.video.probe``.
    """
    info = probe(source) if info is None else info
    collector = Collector(info.fps, info.duration_s, count=count)
    if not info.is_still:
        collect(source, collector, threads=threads)
    return collector.segments()


def collect(source: Source, collector: Collector, *, threads: int = 2) -> list[str]:
    """Feeds a collector the stretches of a file that it wants. Returns the reader's warnings; errors as of
    ``genwm.video.read_planes``."""
    with read_planes(source, span=collector.wanted(), threads=threads) as reader:
        for frame in reader:
            collector.add(frame)
            if collector.full:
                break
    return reader.warnings


class Collector:
    """Takes frames in order of time and keeps what the classifier looks at, so that a scan decodes a file once.

    ``fps`` and ``duration_s`` are the container's claims (None: unknown); ``count`` is how many segments are wanted.
    Feed it every frame, at native size, or those of `wanted` at least: what it keeps is the same. Of a file of unknown
    length it keeps evenly spread segments all the same.
    """

    def __init__(self, fps: float | None, duration_s: float | None, *, count: int) -> None:
        fps = fps if fps and fps > 0.5 else None
        stride = max(1, round(fps / RATE)) if fps else 1
        if fps and duration_s:  # a short clip is sampled more densely rather than not at all
            stride = max(1, min(stride, int(fps * duration_s + 0.5) // FRAMES))
        self._step_s = stride / fps if fps else 1 / RATE
        self._slack_s = 0.5 / fps if fps else 0.01
        self._longest_gap_s = 1.25 / (fps or RATE) + 0.002  # times are often whole milliseconds
        self._length_s = self._step_s * FRAMES
        self._count = count
        self._starts = None if duration_s is None else _starts(duration_s, self._length_s, count)
        self._spacing = 1
        self._number = 0
        self._due_s = 0.0
        self._spans = self.wanted()
        self._span = 0
        self._last_s, self._varies = self._spans[0].start_s, False
        self._frames: list[_Taken] = []
        self._cut_short: list[_Taken] = []
        self._done: list[Segment] = []
        self.largest_side = 0

    def wanted(self) -> list[Span]:
        """The stretches of time that matter, for a reader that can seek."""
        if self._starts is None:
            return [Span()]
        spans: list[tuple[float, float]] = []
        for start_s in self._starts:
            stop_s = start_s + self._length_s + self._step_s
            if spans and start_s <= spans[-1][1] + 1.0:  # seeking costs more than a second of frames
                spans[-1] = (spans[-1][0], stop_s)
            else:
                spans.append((start_s, stop_s))
        # Headers lie about the length, so the last stretch is read to the end of the file where that is near.
        return [*(Span(*each) for each in spans[:-1]), Span(spans[-1][0])]

    def extend(self, frames: Iterable[Planes]) -> None:
        for frame in frames:
            self.add(frame)

    @property
    def full(self) -> bool:
        """Whether more frames would change nothing."""
        return self._starts is not None and self._number >= len(self._starts)

    def add(self, frame: Planes) -> None:
        """One more frame; what is kept of its arrays is copied."""
        self.largest_side = max(self.largest_side, min(frame.y.shape))
        if self.full or not self._matters(frame.time_s) or min(frame.y.shape) < LEAST_SIDE:
            return
        taken = _Taken.of(frame, _PLACES[self._number % len(_PLACES)])
        if self._frames and (taken.size != self._frames[-1].size or taken.repeats(self._frames[-1])):
            return
        self._frames.append(taken)
        self._due_s = frame.time_s + self._step_s
        if len(self._frames) == FRAMES:
            self._close()

    def add_rgb(self, time_s: float, rgb: NDArray[np.uint8]) -> None:
        """One more frame as RGB uint8 ``(height, width, 3)``; an odd last row or column is left out."""
        if self._matters(time_s):
            y, u, v = planes_of(rgb)
            self.add(Planes(y=y, u=u, v=v, time_s=time_s, index=0, color_space="bt601"))

    def segments(self) -> list[Segment]:
        """What there is at the end of the file, in order of time, at most ``count``. The longest run that the end of a
        stretch cut short is played there and back again where there is no other."""
        self._set_aside()
        if not self._done and len(self._cut_short) >= LEAST_FRAMES:
            self._frames = [*self._cut_short, *self._cut_short[-2::-1]][:FRAMES]
            self._close()
        if len(self._done) <= self._count:
            return list(self._done)
        chosen = np.linspace(0, len(self._done) - 1, self._count).round().astype(int)
        return [self._done[index] for index in chosen]

    def _matters(self, time_s: float) -> bool:
        """Whether a frame of this time is due, and one that a reader of `wanted` alone comes by."""
        while self._span + 1 < len(self._spans) and time_s >= self._spans[self._span + 1].start_s - _SAME_TIME_S:
            # A run goes on behind a seam where a clip of constant rate shows pictures repeatedly: the shipped model was
            # calibrated on such runs. Where frames come at another rate than the claimed one, it would be torn apart.
            self._note(self._spans[self._span].stop_s)
            if self._varies:
                self._set_aside()
            self._span += 1
            self._last_s, self._varies = self._spans[self._span].start_s, False
        span = self._spans[self._span]
        if time_s < span.start_s - _SAME_TIME_S or (span.stop_s is not None and time_s >= span.stop_s - _SAME_TIME_S):
            return False
        self._note(time_s)
        return time_s >= self._due_s - self._slack_s

    def _note(self, time_s: float | None) -> None:
        """Takes down whether the rate varies, from when the next frame of a stretch comes, or the stretch ends."""
        if time_s is not None:
            self._varies |= time_s - self._last_s > self._longest_gap_s
            self._last_s = time_s

    def _set_aside(self) -> None:
        self._cut_short = max(self._cut_short, self._frames, key=len)
        self._frames = []

    def _close(self) -> None:
        self._done.append(_segment(self._frames, self._step_s))
        self._frames = []
        self._number += 1
        if self._starts is None and len(self._done) == 2 * self._count:
            self._done = self._done[::2]
            self._spacing *= 2
            self._number = len(self._done)
        if self._starts is None:
            self._due_s = self._number * self._spacing * self._length_s
        elif not self.full:
            self._due_s = self._starts[self._number]


def _starts(duration_s: float, length_s: float, count: int) -> list[float]:
    """Evenly spread starts of runs, apart by their length where there is room for so many, else fewer."""
    room = max(0.0, duration_s - length_s)
    fitting = max(1, min(count, int(duration_s / length_s + 1e-6)))
    return [room / 2] if fitting == 1 else [room * index / (fitting - 1) for index in range(fitting)]


_ThreePlanes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What is kept of a frame: copies, so that a run of 8K frames takes no more memory than one of 240 lines."""

    time_s: float
    crop: _ThreePlanes
    small: _ThreePlanes
    sample: NDArray[np.int16]
    origin: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def of(cls, frame: Planes, place: tuple[float, float]) -> _Taken:
        height, width = frame.y.shape
        rows, columns = min(SIDE, height) // 2 * 2, min(SIDE, width) // 2 * 2
        top, left = int((height - rows) * place[0]) // 2 * 2, int((width - columns) * place[1]) // 2 * 2
        half = (slice(top // 2, (top + rows) // 2), slice(left // 2, (left + columns) // 2))
        limited = _limited if frame.full_range else np.array
        side = SMALL // 2
        return cls(
            time_s=frame.time_s,
            crop=(limited(frame.y[top : top + rows, left : left + columns]), limited(frame.u[half]),
                  limited(frame.v[half])),
            small=(limited(scaled(frame.y, SMALL, SMALL)), limited(scaled(frame.u, side, side)),
                   limited(scaled(frame.v, side, side))),
            sample=frame.y[::4, ::4].astype(np.int16),
            origin=(top, left),
            size=(height, width),
        )  # fmt: skip

    def repeats(self, other: _Taken) -> bool:
        return float(np.abs(self.sample - other.sample).mean()) < SAME


def _segment(frames: Sequence[_Taken], step_s: float) -> Segment:
    return Segment(
        start_s=frames[0].time_s, stop_s=frames[-1].time_s + step_s,
        crop=Stack.of([frame.crop for frame in frames]), small=Stack.of([frame.small for frame in frames]),
        origin=frames[0].origin, size=frames[0].size,
    )  # fmt: skip


def planes_of(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB uint8 ``(height, width, 3)`` as planes of BT.601, limited range; chroma is the mean of two by two pixels, an
    odd last row or column is left out."""
    colors = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2].astype(np.float32)
    y, u, v = np.moveaxis(colors @ _TO_YUV.T, -1, 0) + np.array([16, 128, 128], np.float32)[:, None, None]
    halves = (plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean(axis=(1, 3)) for plane in (u, v))
    y, u, v = (np.rint(plane).astype(np.uint8) for plane in (y, *halves))
    return y, u, v


def _limited(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return _TO_LIMITED[plane]
