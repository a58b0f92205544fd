"""What the video package speaks in: descriptions of a file, frames as planes, and how a frame is turned for display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Source = str | os.PathLike[str] | BinaryIO
Select = Literal["all", "key", "reference"]
ColorSpace = Literal["bt601", "bt709", "bt2020"]
ColorRange = Literal["limited", "full"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file: frames with ``start_s <= time_s < stop_s`` (None: to the end), at most ``max_frames``."""

    start_s: float = 0.0
    stop_s: float | None = None
    max_frames: int | None = None


WHOLE = Span()


class Orientation(NamedTuple):
    """One of the eight ways to turn a picture: transpose first, then reverse columns and rows."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: Sequence[int]) -> Orientation:
        """The nearest of the eight orientations to a display matrix: nine numbers ``a b u c d v x y w`` that map
        ``x' = a x + c y``, ``y' = b x + d y``."""
        a, b, _, c, d = matrix[:5]
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, flip_x=c < 0, flip_y=b < 0)
        return cls(flip_x=a < 0, flip_y=d < 0)

    @property
    def mirrored(self) -> bool:
        return self.transpose ^ self.flip_x ^ self.flip_y

    @property
    def rotation(self) -> int:
        """Degrees clockwise, a multiple of 90; for a mirrored picture, the rotation that follows a left-right flip."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_y else 0

    def apply(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """``(height, width, ...)`` as stored -> the view of it that is displayed."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        if self.flip_y:
            array = array[::-1]
        if self.flip_x:
            array = array[:, ::-1]
        return array


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a file says about its video (the default stream, else the largest), with what its first frame tells.

    ``width`` and ``height`` are the displayed size in square pixels: after rotation and sample aspect. Frames are read
    at ``coded_width`` x ``coded_height`` (turned for display), without resampling to square pixels.
    ``rotation`` is the clockwise turn in degrees (a multiple of 90) that display needs; ``mirrored`` says that a
    left-right flip comes before it. ``sample_aspect`` is width / height of one stored sample.
    ``fps``, ``duration_s`` and ``frame_count`` are the container's claims, None where it makes none.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    mirrored: bool
    sample_aspect: float
    fps: float | None
    duration_s: float | None
    frame_count: int | None
    pixel_format: str
    bit_depth: int
    color_range: ColorRange
    color_space: ColorSpace
    has_audio: bool
    is_still: bool

    @property
    def display_scale(self) -> tuple[float, float]:
        """What a line and a column of frames, as they are read, measure in displayed pixels; (1, 1) where samples are
        square."""
        width, height = (self.coded_width, self.coded_height)[:: -1 if self.rotation % 180 else 1]
        return self.height / height, self.width / width


@dataclass(slots=True)
class Planes:
    """One frame as 8-bit 4:2:0 planes in display orientation, for detection.

    ``y`` is uint8 ``(height, width)``; ``u`` and ``v`` are uint8 ``(ceil(height / 2), ceil(width / 2))``. The arrays
    are views into the decoder's memory, kept alive by the arrays themselves: copy before writing to them. Values are
    16..235 / 16..240, or 0..255 where ``full_range``. ``time_s`` counts from the start of the stream; ``index``
    counts the frames that this read has yielded; ``picture_type`` is 'I', 'P', 'B' or '?'; ``pixel_aspect`` is
    width / height of one sample.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    time_s: float
    index: int
    picture_type: str = "?"
    key: bool = False
    pixel_aspect: float = 1.0
    full_range: bool = False
    color_space: ColorSpace = "bt709"


@dataclass(slots=True)
class YUVFrame:
    """One frame as it is about to be encoded, in coded (not display) orientation.

    ``y`` is ``(height, width)``; ``u`` and ``v`` have the stored chroma resolution (4:2:0, 4:2:2 or 4:4:4). uint8 where
    ``bit_depth`` is 8, else uint16 holding ``bit_depth`` bits. ``time_s`` counts from the start of the stream.
    ``orientation`` turns the planes for display.
    """

    y: NDArray[np.uint8] | NDArray[np.uint16]
    u: NDArray[np.uint8] | NDArray[np.uint16]
    v: NDArray[np.uint8] | NDArray[np.uint16]
    bit_depth: int
    full_range: bool
    time_s: float
    color_space: ColorSpace = "bt709"
    orientation: Orientation = UPRIGHT
    pixel_aspect: float = 1.0
    index: int = 0
    key: bool = False
