"""Between the planes that codecs keep and the RGB in which most photometric attacks are defined."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from genwm.video import Planes
from genwm.video.filters import Filter, to_rgb, to_yuv
from genwm.video.model import ColorSpace
from genwm.video.pixels import fill_plane, plane_view, rgb_frame, rgb_view

_TICK = Fraction(1, 1000)


def replaced(planes: Planes, y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8]) -> Planes:
    """The frame with other samples."""
    return Planes(
        y=y,
        u=u,
        v=v,
        time_s=planes.time_s,
        index=planes.index,
        picture_type=planes.picture_type,
        key=planes.key,
        pixel_aspect=planes.pixel_aspect,
        full_range=planes.full_range,
        color_space=planes.color_space,
    )


def rgb_of(planes: Planes) -> NDArray[np.uint8]:
    """RGB uint8 ``(height, width, 3)`` of a frame by its own matrix and range, chroma sited left and bicubic."""
    height, width = planes.y.shape
    frame = VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate((planes.y, planes.u, planes.v)):
        fill_plane(frame, index, plane)
    frame.pts, frame.time_base = 0, _TICK
    (result,) = _to_rgb(width, height, planes.color_space, planes.full_range)(frame)
    return rgb_view(result)


def planes_of(rgb: NDArray[np.uint8], like: Planes) -> Planes:
    """The frame of RGB uint8 ``(height, width, 3)`` with the matrix, range and times of ``like``."""
    height, width = rgb.shape[:2]
    frame = rgb_frame(rgb, width, height)
    frame.pts, frame.time_base = 0, _TICK
    (result,) = _to_yuv(width, height, like.color_space, like.full_range)(frame)
    y, u, v = (plane_view(result, index) for index in range(3))
    return replaced(like, y, u, v)


@lru_cache(maxsize=4)
def _to_rgb(width: int, height: int, space: ColorSpace, full_range: bool) -> Filter:
    return to_rgb(VideoFrame(width, height, "yuv420p"), (width, height), space, full_range, "")


@lru_cache(maxsize=4)
def _to_yuv(width: int, height: int, space: ColorSpace, full_range: bool) -> Filter:
    return to_yuv(width, height, "yuv420p", space, full_range, _TICK)
