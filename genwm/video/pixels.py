"""What a decoded frame says about its samples, and its memory as NumPy arrays."""

from __future__ import annotations

import struct
from fractions import Fraction
from math import cos, radians, sin
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from genwm.video.model import UPRIGHT, ColorSpace, Orientation

# Numbers of ITU-T H.273: matrix coefficients on the left; on the right what is written into streams made here,
# (matrix, primaries, transfer).
_SPACES: dict[int, ColorSpace] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}
TAGS: dict[ColorSpace, tuple[int, int, int]] = {"bt709": (1, 1, 1), "bt601": (6, 6, 6), "bt2020": (9, 9, 14)}
FULL, LIMITED = 2, 1
_EXIF = 31  # FFmpeg's number of this kind of side data

# swscale's constants for the matrices; a frame's own tag is not always there, so one is always passed.
SWS_SPACE: dict[ColorSpace, Colorspace] = {
    "bt601": Colorspace.ITU601,
    "bt709": Colorspace.ITU709,
    "bt2020": Colorspace.BT2020,
}


def is_rgb(frame: VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name == "pal8"


def is_full_range(frame: VideoFrame) -> bool:
    """Whether samples span 0..255: tagged so, or RGB, or untagged grey."""
    name = frame.format.name
    return (
        frame.color_range == FULL
        or name.startswith("yuvj")
        or is_rgb(frame)
        or (name.startswith("gray") and frame.color_range != LIMITED)
    )


def is_transparent(frame: VideoFrame) -> bool:
    """Whether anything shows through the picture."""
    if not any(part.is_alpha for part in frame.format.components):
        return False
    shown = VideoReformatter().reformat(frame, format="rgba", threads=1)
    return bool(_rows(shown.planes[0], np.uint8)[:, 3 : 4 * frame.width : 4].min() < 255)


def color_space_of(frame: VideoFrame) -> ColorSpace:
    """The matrix of the frame; where it is not tagged, JPEG's for RGB and JPEG's YUV, else as players guess by size."""
    if is_rgb(frame):
        return "bt601"
    space = _SPACES.get(frame.colorspace)
    if space:
        return space
    return "bt601" if frame.format.name.startswith("yuvj") else default_color_space(frame.width, frame.height)


def default_color_space(width: int, height: int) -> ColorSpace:
    """BT.709 from 1280 columns or 577 lines, BT.601 below: the usual guess for untagged video."""
    return "bt709" if width >= 1280 or height > 576 else "bt601"


def color_tags(frame: VideoFrame) -> tuple[int, int, int]:
    """The frame's own H.273 numbers of (matrix, primaries, transfer); RGB becomes BT.601."""
    if is_rgb(frame):
        return TAGS["bt601"]
    return frame.colorspace, frame.color_primaries, frame.color_trc


def bit_depth_of(frame: VideoFrame) -> int:
    return 8 if frame.format.name == "pal8" else max((part.bits for part in frame.format.components), default=8)


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers of the frame's display matrix, or None."""
    try:
        side_data = safe_side_data(frame)
    except (ValueError, av.FFmpegError):
        return _turned(frame.rotation)
    try:
        return struct.unpack("=9i", bytes(side_data[Type.DISPLAYMATRIX]))
    except KeyError:
        return None


def _turned(degrees: float) -> tuple[int, ...] | None:
    """The display matrix of a turn, all that is left where the frame's own is hidden; None without one."""
    angle = radians(degrees)
    turn = [round(part * 65_536) for part in (cos(angle), -sin(angle), 0, sin(angle), cos(angle), 0)]
    return (*turn, 0, 0, 1 << 30) if angle else None


def safe_side_data(frame: VideoFrame) -> Any:
    """What comes with the picture, but for two kinds. PyAV frees the name that PNG gives an ICC profile a second time,
    which ends the process; and it has no name for EXIF data, which hides the rest. Errors: ValueError (another kind
    without a name), av.FFmpegError."""
    graph = Graph()
    graph.threads = 1
    last: Any = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    for kind in (Type.ICC_PROFILE.value, _EXIF):
        delete = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(delete)
        last = delete
    last.link_to(graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    left: Any = graph.vpull()
    return left.side_data


def orientation_of(frame: VideoFrame) -> Orientation:
    matrix = display_matrix(frame)
    return Orientation.from_matrix(matrix) if matrix else UPRIGHT


def hdr10_metadata(frame: VideoFrame) -> str:
    """The static HDR10 metadata on a frame (SMPTE ST 2086, CTA 861.3) as x265 takes it; '' where there is none."""
    found = []
    if (display := _side_data(frame, Type.MASTERING_DISPLAY_METADATA)) is not None:
        numbers = struct.unpack("=22i", display)
        values = [over / under if under else 0.0 for over, under in zip(numbers[:20:2], numbers[1:20:2], strict=True)]
        if all(numbers[20:]):
            red, green, blue, white = (_point(values[start : start + 2]) for start in range(0, 8, 2))
            darkest, brightest = (round(value * 10_000) for value in values[8:])
            found.append(f"master-display=G{green}B{blue}R{red}WP{white}L({brightest},{darkest})")
    if (light := _side_data(frame, Type.CONTENT_LIGHT_LEVEL)) is not None:
        found.append("max-cll={},{}".format(*struct.unpack("=2I", light)))
    return ":".join(found)


def _point(xy: list[float]) -> str:
    """Chromaticity in steps of 0.00002."""
    return f"({round(xy[0] * 50_000)},{round(xy[1] * 50_000)})"


def _side_data(frame: VideoFrame, kind: Type) -> bytes | None:
    try:
        return bytes(safe_side_data(frame)[kind])
    except (KeyError, ValueError, av.FFmpegError):  # ValueError: side data that PyAV has no name for hides the rest
        return None


def _rows(plane: VideoPlane, dtype: Any) -> NDArray[Any]:
    """The plane's memory as ``(height, stride)``, bottom-up planes turned round; a view that keeps the frame alive."""
    buffer: Any = plane
    rows: NDArray[Any] = np.frombuffer(buffer, dtype).reshape(plane.height, -1)
    return rows[::-1] if plane.line_size < 0 else rows


def plane_view(frame: VideoFrame, index: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """The samples of a plane ``(height, width)`` without a copy."""
    plane = frame.planes[index]
    return _rows(plane, dtype)[:, : plane.width]


def rgb_view(frame: VideoFrame) -> NDArray[np.uint8]:
    """The pixels of an rgb24 frame ``(height, width, 3)`` without a copy."""
    rows = _rows(frame.planes[0], np.uint8)
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)


def fill_plane(frame: VideoFrame, index: int, samples: NDArray[Any]) -> None:
    """Copies ``samples`` (at least as large as the plane) into a plane of a writable frame."""
    view = plane_view(frame, index, samples.dtype)
    view[:] = samples[: view.shape[0], : view.shape[1]]


def rgb_frame(rgb: NDArray[np.uint8], width: int, height: int) -> VideoFrame:
    """An rgb24 frame of the top left ``(height, width)`` of ``rgb``."""
    frame = VideoFrame(width, height, "rgb24")
    rows = _rows(frame.planes[0], np.uint8)
    rows[:, : width * 3] = rgb[:height, :width].reshape(height, width * 3)
    return frame


def resized(plane: NDArray[np.uint16], rows: int, columns: int) -> NDArray[np.uint16]:
    """A plane of 16-bit samples at another size, low-passed where it gets smaller: uint16 ``(rows, columns)``."""
    frame = VideoFrame(plane.shape[1], plane.shape[0], "gray16le")
    fill_plane(frame, 0, plane)
    scaled = frame.reformat(width=columns, height=rows, interpolation=Interpolation.BICUBIC, threads=1)
    return plane_view(scaled, 0, np.uint16)
