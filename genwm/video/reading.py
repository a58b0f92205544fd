"""Streaming frames out of a file: 4:2:0 planes for detection, RGB for people and networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from genwm.errors import DecodeError
from genwm.output import told_as
from genwm.video.decoding import decoded
from genwm.video.filters import to_rgb
from genwm.video.model import WHOLE, Orientation, Planes, Select, Source, Span, VideoInfo
from genwm.video.opening import describe, open_input
from genwm.video.pixels import SWS_SPACE, color_space_of, is_full_range, orientation_of, plane_view, rgb_view

_T = TypeVar("_T")
_PICTURES = {1: "I", 2: "P", 3: "B"}


class FrameReader(Generic[_T], Iterator[_T]):
    """Iterates over frames; ``warnings`` tells in plain sentences what was lost on the way (a truncated file ends
    quietly once at least one frame came). ``info`` is filled in with the first frame. Close it, or use it as a context
    manager, to let go of the file early."""

    def __init__(self, frames: Callable[[FrameReader[_T]], Generator[_T]]) -> None:
        self.warnings: list[str] = []
        self.info: VideoInfo | None = None
        self._frames = frames(self)

    def __next__(self) -> _T:
        return next(self._frames)

    def close(self) -> None:
        self._frames.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def probe(source: Source) -> VideoInfo:
    """Describes the video of a file; decodes one frame, so that what it says can be read.

    Errors: NotFoundError, EmptyFileError, NotMediaError, TruncatedError, NoVideoError, TooLargeError, DecodeError.
    """
    stream = None if isinstance(source, str | os.PathLike) or not source.seekable() else source
    position = stream.tell() if stream else 0
    with open_input(source, threads=1) as opened:
        first = next(decoded(opened, span=Span(max_frames=1)), None)
        if first is None:
            raise DecodeError(f"Expected frames from 0 s on in {opened.name}, got earlier ones only; copy or download "
                              "the file again")
        info = describe(opened, first[1])
    if stream:
        stream.seek(position)
    return info


def approved(part: str, name: str, approve: Callable[[VideoInfo], None] | None) -> VideoInfo:
    """What `probe` says about a complete output that still has the temporary name ``part``, under the ``name`` that it
    will have. ``approve``, if given, sees it first; errors, what that raises too, speak of ``name``."""
    with told_as(part, name):
        info = probe(part)
        if approve:
            approve(info)
    return replace(info, path=name)


def read_planes(
    source: Source,
    *,
    max_short_side: int | None = None,
    select: Select = "all",
    span: Span | Sequence[Span] = WHOLE,
    max_frames: int | None = None,
    threads: int = 2,
    tap: Callable[[Planes], None] | None = None,
) -> FrameReader[Planes]:
    """Streams frames as 8-bit 4:2:0 planes in display orientation.

    ``max_short_side`` scales larger frames down, keeping their shape. ``select``: every frame, 'key' frames only, or
    the frames that others refer to ('reference'); every frame again where a file shows none of that kind. ``span`` is a
    stretch of the file, or several in order of time: of a path, what two of them need is decoded once. ``max_frames``
    counts over all. ``tap`` is called with each frame at full size before it is yielded, so that two readers of one
    file share its decoding. Errors as of :func:`probe`, raised on the first frame; a later stretch that cannot be read
    is a warning.
    """

    def frames(reader: FrameReader[Planes]) -> Generator[Planes]:
        with (
            open_input(source, threads=threads) as opened,
            closing(decoded(opened, source=source, select=select, span=span)) as found,
        ):
            opened.warnings = reader.warnings
            scaler, full_scaler = VideoReformatter(), VideoReformatter()
            for index, (time_s, frame) in enumerate(islice(found, max_frames)):
                if index == 0:
                    reader.info = describe(opened, frame)
                    orientation = orientation_of(frame)
                    aspect = float(opened.sample_aspect)
                if tap is not None:
                    tap(_planes(frame, full_scaler, None, orientation, aspect, time_s, index))
                yield _planes(frame, scaler, max_short_side, orientation, aspect, time_s, index)

    return FrameReader(frames)


def read_rgb(
    source: Source,
    *,
    max_short_side: int | None = None,
    span: Span | Sequence[Span] = WHOLE,
    max_frames: int | None = None,
    threads: int = 2,
) -> FrameReader[tuple[float, NDArray[np.uint8]]]:
    """Streams ``(time_s, frame)`` with frames uint8 ``(height, width, 3)`` RGB in display orientation, converted by the
    stream's own matrix and range. Options and errors as of :func:`read_planes`."""

    def frames(reader: FrameReader[tuple[float, NDArray[np.uint8]]]) -> Generator[tuple[float, NDArray[np.uint8]]]:
        with (
            open_input(source, threads=threads) as opened,
            closing(decoded(opened, source=source, span=span)) as found,
        ):
            opened.warnings = reader.warnings
            shape: tuple[int, int, str] | None = None
            for time_s, frame in islice(found, max_frames):
                if reader.info is None:
                    reader.info = describe(opened, frame)
                    orientation = orientation_of(frame)
                if shape != (frame.width, frame.height, frame.format.name):
                    shape = (frame.width, frame.height, frame.format.name)
                    size = _fitted(frame, max_short_side)
                    convert = to_rgb(frame, size, color_space_of(frame), is_full_range(frame), reader.info.codec)
                for rgb in convert(frame):
                    yield time_s, np.ascontiguousarray(orientation.apply(rgb_view(rgb)))

    return FrameReader(frames)


def _fitted(frame: VideoFrame, max_short_side: int | None) -> tuple[int, int]:
    """Width and height to read at: even after scaling, so that chroma samples keep their place."""
    width, height = frame.width, frame.height
    short = min(width, height)
    if not max_short_side or short <= max_short_side:
        return width, height
    scale = max_short_side / short
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _planes(
    frame: VideoFrame,
    scaler: VideoReformatter,
    max_short_side: int | None,
    orientation: Orientation,
    aspect: float,
    time_s: float,
    index: int,
) -> Planes:
    full, space = is_full_range(frame), color_space_of(frame)
    name = frame.format.name
    source_width, source_height, picture, key = frame.width, frame.height, frame.pict_type, frame.key_frame
    width, height = _fitted(frame, max_short_side)
    if (name not in ("yuv420p", "yuvj420p")) or width != source_width or height != source_height:
        bounds = ColorRange.JPEG if full else ColorRange.MPEG
        frame = scaler.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            src_colorspace=SWS_SPACE[space],
            dst_colorspace=SWS_SPACE[space],
            src_color_range=bounds,
            dst_color_range=bounds,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
    turn = orientation.apply
    aspect *= (source_width / width) / (source_height / height)
    return Planes(
        y=turn(plane_view(frame, 0)),
        u=turn(plane_view(frame, 1)),
        v=turn(plane_view(frame, 2)),
        time_s=time_s,
        index=index,
        picture_type=_PICTURES.get(picture, "?"),
        key=key,
        pixel_aspect=1 / aspect if orientation.transpose else aspect,
        full_range=full,
        color_space=space,
    )
