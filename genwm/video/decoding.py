"""From an open file to decoded frames: stretch by stretch, with what went wrong on the way."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from typing import Literal

import av
from av.video.frame import VideoFrame

from genwm.errors import DecodeError, GenwmError, InputError, TruncatedError
from genwm.video.model import WHOLE, Select, Source, Span
from genwm.video.opening import Opened, lacks_data, open_input, stops_early, unread

_SKIP: dict[Select, Literal["DEFAULT", "NONREF", "NONKEY"]] = {"all": "DEFAULT", "reference": "NONREF", "key": "NONKEY"}
#: How the warning of a file whose end cannot be read begins.
UNREAD = "nothing could be read from"
# Times are compared with the ends of a stretch to this many seconds.
_SAME_TIME_S = 1e-6
# How much before a stretch its key frame is sought, where it was not found before.
_EARLIER_S = (0.0, 2.0, 12.0)


def decoded(
    opened: Opened, *, source: Source | None = None, select: Select = "all", span: Span | Sequence[Span] = WHOLE
) -> Generator[tuple[float, VideoFrame]]:
    """Yields ``(time_s, frame)`` of one stretch, or of several in order of time, in display order.

    ``source`` is what was opened: of a path, what two stretches need is decoded once. Raises when not one frame of the
    file decodes; what is wrong with a later stretch is a warning, since a header may promise too much.
    """
    with _Tape(opened, source, select) as tape:
        for number, each in enumerate([span] if isinstance(span, Span) else span):
            try:
                yield from tape.frames(each)
            except InputError:
                if number == 0:
                    raise
                opened.warnings.append(unread_from(each.start_s))
                return  # nor of what comes later


def unread_from(start_s: float) -> str:
    """A warning: of a file and of copies with its bytes, so it does not name the file."""
    return f"{UNREAD} {start_s:.1f} s on"


class _Tape(ExitStack):
    """The frames of an open file, wound from stretch to stretch.

    Where the next stretch begins before the next key frame, decoding goes on: to seek would decode all frames from the
    last key frame on once more. Where key frames are is asked of the path, which is opened a second time for that; of
    another source, every stretch is sought.
    """

    def __init__(self, opened: Opened, source: Source | None, select: Select) -> None:
        super().__init__()
        self._opened = opened
        self._select = select
        self._path = source if isinstance(source, str | os.PathLike) else None
        self._scout: Opened | None = None
        self._frames: Iterator[VideoFrame | None] | None = None
        self._step_s = float(1 / opened.fps) if opened.fps else 0.04
        self._time_s = -self._step_s
        self._passed_s = 0.0  # frames before this time are gone
        self._ahead: VideoFrame | None = None  # decoded already, at ``_time_s``: behind the end of the last stretch
        self._any_frame = False
        self._seeks = opened.pictures is None
        opened.stream.codec_context.skip_frame = _SKIP[select]

    def frames(self, span: Span) -> Generator[tuple[float, VideoFrame]]:
        """Yields ``(time_s, frame)`` of a stretch in display order; raises when not one frame of the file decodes."""
        opened, name = self._opened, self._opened.name
        if span.max_frames is not None and span.max_frames <= 0:
            return
        self._tell(unread(opened), lacks_data(opened))
        count, failures, shown_s = 0, 0, self._step_s
        for frame in self._from(span.start_s):
            if frame is None:
                failures += 1
                continue
            self._any_frame = True
            shown_s = max(self._step_s, float(frame.duration or 0) * float(opened.time_base))
            if self._time_s < span.start_s - _SAME_TIME_S:
                self._passed_s = self._time_s + 2 * _SAME_TIME_S
                continue
            if span.stop_s is not None and self._time_s >= span.stop_s - _SAME_TIME_S:
                self._ahead, self._passed_s = frame, span.stop_s
                return
            yield self._time_s, frame
            self._passed_s = self._time_s + 2 * _SAME_TIME_S
            count += 1
            if count == span.max_frames:
                return
        if not self._any_frame and self._select != "all":  # an edit list may hide the only key frame
            with suppress(av.FFmpegError):
                opened.container.seek(0)
            yield from decoded(opened, span=span)
            return
        if not self._any_frame:
            if failures:
                raise DecodeError(f"Expected frames in {name}, got damaged data only; copy or download the file again")
            raise TruncatedError(f"Expected frames in {name}, got a header without any; copy or download the file "
                                 "again")
        if failures:
            self._tell(f"{failures} damaged piece(s) of the video were skipped")
        if self._select == "all":
            self._tell(stops_early(opened, self._time_s + shown_s))

    def _tell(self, *texts: str | None) -> None:
        """Adds warnings, each once: several stretches may meet with the same."""
        self._opened.warnings.extend(text for text in texts if text and text not in self._opened.warnings)

    def _from(self, start_s: float) -> Iterator[VideoFrame | None]:
        """Frames from the last key frame before ``start_s`` on, or from where the tape is if that is nearer; sets the
        time of each."""
        if self._frames is None and start_s <= 0:
            self._frames = self._all_frames()
        elif self._frames is None or not self._goes_on(start_s):
            self._frames, self._ahead = self._sought(start_s), None
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            yield ahead
        for frame in self._frames:
            if frame is not None:
                time = frame.pts
                self._time_s = self._time_s + self._step_s if time is None else self._since_start(time)
            yield frame

    def _goes_on(self, start_s: float) -> bool:
        """Whether decoding on is the shortest way to ``start_s``."""
        if start_s < self._passed_s - _SAME_TIME_S:
            return False
        if not self._seeks or (self._ahead is not None and start_s <= self._time_s + _SAME_TIME_S):
            return True
        landing_s = self._landing(start_s)
        return landing_s is not None and landing_s <= self._time_s + _SAME_TIME_S

    def _landing(self, start_s: float) -> float | None:
        """Time of the key frame at which seeking would begin to decode; None: unknown."""
        if self._path is None:
            return None
        try:
            if self._scout is None:
                self._scout = self.enter_context(open_input(self._path, threads=1))
            for early_s in _EARLIER_S:
                _seek(self._scout, start_s - early_s)
                key = next((each for each in self._scout.container.demux(self._scout.stream) if each.is_keyframe), None)
                time = None if key is None else key.dts if key.pts is None else key.pts
                if time is not None and self._since_start(time) <= start_s + _SAME_TIME_S:
                    return self._since_start(time)
        except (av.FFmpegError, IndexError, GenwmError):
            pass
        return None

    def _sought(self, start_s: float) -> Iterator[VideoFrame | None]:
        """Frames from the last key frame before ``start_s`` on. A format without an index (a transport stream) may land
        behind the key frame; then from an earlier one on."""
        if not self._seeks:
            return self._from_the_start()
        frames: Iterator[VideoFrame | None] = iter(())
        first: list[VideoFrame | None] = []
        for early_s in _EARLIER_S:
            try:
                _seek(self._opened, start_s - early_s)
            except av.FFmpegError:  # not every format can, and the place is lost
                self._seeks = False
                return self._from_the_start()
            frames = self._all_frames()
            first = _up_to_a_frame(frames)
            time = first[-1].pts if first and first[-1] is not None else None
            if time is not None and self._since_start(time) <= start_s + _SAME_TIME_S:
                break
        return chain(first, frames)

    def _from_the_start(self) -> Iterator[VideoFrame | None]:
        with suppress(av.FFmpegError):
            self._opened.container.seek(0, stream=None, unsupported_byte_offset=True)
        self._time_s = -self._step_s
        return self._all_frames()

    def _all_frames(self) -> Iterator[VideoFrame | None]:
        """Decoded frames from where the container stands; those of Pillow always from the first on."""
        pictures = self._opened.pictures
        return pictures.frames() if pictures else _frames(self._opened, self._select == "key")

    def _since_start(self, time: int) -> float:
        return time * float(self._opened.time_base) - self._opened.start_s


def _up_to_a_frame(frames: Iterator[VideoFrame | None]) -> list[VideoFrame | None]:
    """The next frame with all that failed before it."""
    taken: list[VideoFrame | None] = []
    for frame in frames:
        taken.append(frame)
        if frame is not None:
            break
    return taken


def _seek(opened: Opened, time_s: float) -> None:
    """Goes to the last key frame that is not behind a time: ticks are coarse in some formats, and are rounded down."""
    ticks = math.floor((time_s + _SAME_TIME_S + opened.start_s) / float(opened.time_base))
    try:
        opened.container.seek(ticks, stream=opened.stream)
    except av.FFmpegError:
        if time_s >= 0:
            raise
        _seek(opened, 0.0)  # AVI has no place before its first frame; others begin a little before the time 0


def _frames(opened: Opened, keys_only: bool) -> Iterator[VideoFrame | None]:
    """Decoded frames, and None for each piece that could not be decoded."""
    stream = opened.stream
    packets = opened.container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except IndexError:  # PyAV trips over a stream that shows up midway: go on behind its packet
            packets = opened.container.demux(stream)
            continue
        except av.FFmpegError:
            yield None
            with suppress(av.FFmpegError):
                yield from stream.decode(None)
            return
        if keys_only and packet.size and not packet.is_keyframe:
            continue
        try:
            yield from packet.decode()
        except av.FFmpegError:
            yield None
