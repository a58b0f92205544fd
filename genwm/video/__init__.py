"""Video and still images: probing, streaming frames, editing in place and writing. The only package that touches a
container (PyAV; Pillow for writing still images). Import it lazily: it loads FFmpeg. What writes is imported when it is
first used: a detector starts without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genwm.lazy import lazily
from genwm.video.model import Orientation, Planes, Select, Source, Span, VideoInfo, YUVFrame
from genwm.video.opening import MAX_PIXELS, MAX_SIDE
from genwm.video.pixels import resized
from genwm.video.reading import FrameReader, probe, read_planes, read_rgb

if TYPE_CHECKING:
    from genwm.video.editing import edit_video
    from genwm.video.encoding import VideoCodec, write_video
    from genwm.video.images import edit_image, write_image

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "FrameReader",
    "Orientation",
    "Planes",
    "Select",
    "Source",
    "Span",
    "VideoCodec",
    "VideoInfo",
    "YUVFrame",
    "edit_image",
    "edit_video",
    "probe",
    "read_planes",
    "read_rgb",
    "resized",
    "write_image",
    "write_video",
]

__getattr__, __dir__ = lazily(__name__, {
    "VideoCodec": "genwm.video.encoding",
    "edit_image": "genwm.video.images",
    "edit_video": "genwm.video.editing",
    "write_image": "genwm.video.images",
    "write_video": "genwm.video.encoding",
})
