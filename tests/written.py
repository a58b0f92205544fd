"""What the tests of ``genwm.video`` share: clips written in a line, read back in a line, and edits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from genwm import video
from genwm.video import YUVFrame

FAST = {"h264": "ultrafast", "hevc": "ultrafast", "vp9": "8", "av1": "12"}
GOOD = {"h264": 12, "hevc": 12, "vp9": 12, "av1": 12, "mpeg4": 2}


def written(path: Path, pictures: np.ndarray, codec: Any = "h264", **options: Any) -> Path:
    settings = {"fps": 25, "crf": GOOD.get(codec), "preset": FAST.get(codec), **options}
    video.write_video(path, pictures, codec=codec, **settings)
    return path


def rgb_of(source: Any, **options: Any) -> np.ndarray:
    return np.stack([frame for _, frame in video.read_rgb(source, **options)])


def times_of(source: Any, **options: Any) -> list[float]:
    return [frame.time_s for frame in video.read_planes(source, **options)]


def brighter(frame: YUVFrame) -> YUVFrame:
    frame.y += 4 << (frame.bit_depth - 8)
    return frame


def unchanged(frame: YUVFrame) -> YUVFrame:
    return frame


def png(width: int, height: int) -> bytes:
    """A PNG file whose header claims a size, and whose data is 100 bytes."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
