"""Pictures that FFmpeg has no decoder for, through Pillow: animated WebP, and TIFF of some compressions."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any, BinaryIO, Literal

import numpy as np
from av.video.frame import VideoFrame

from genwm.errors import TooLargeError, TruncatedError
from genwm.video.model import Source
from genwm.video.pixels import rgb_frame

# Pillow holds a whole WebP file in memory, beside two of its pictures.
MAX_WEBP_BYTES = 256 << 20
MAX_WEBP_CHUNKS = 100_000
_WEBP_ANIMATION = 0x02  # a flag of the header
_UNTIMED_MS = 100  # what browsers give a picture without a duration
_TIFF_HEADS = (b"II*\0", b"MM\0*")
_COMPRESSION_TAG, _DNG_TAG = 259, 50_706
# Both kinds of JPEG, which FFmpeg shows as black without an error; LZMA, Zstandard and WebP, which it refuses.
_TIFF_COMPRESSIONS = {6, 7, 34_925, 50_000, 50_001}


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a file that Pillow decodes. ``size``: width and height, pixels, as the header claims;
    ``durations_ms``: how long each picture of an animation is shown, empty for a still."""

    source: Source
    kind: Literal["WEBP", "TIFF"]
    size: tuple[int, int]
    durations_ms: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        return "an animated WebP" if self.durations_ms else "a TIFF"

    @property
    def duration_s(self) -> float | None:
        return sum(self.durations_ms) / 1000 if self.durations_ms else None

    @property
    def fps(self) -> Fraction | None:
        """Pictures a second on average."""
        return Fraction(1000 * len(self.durations_ms), sum(self.durations_ms)) if self.durations_ms else None

    def frames(self) -> Iterator[VideoFrame | None]:
        """Frames rgb24 from the first on, times in ms, transparency dropped; None, and an end, for one that fails."""
        durations_ms = self.durations_ms or (0,)
        try:
            with _opened(self.source, self.kind) as image:
                for index, start_ms in enumerate(accumulate(durations_ms[:-1], initial=0)):
                    if index:
                        image.seek(index)
                    with _quietly():
                        rgb = np.asarray(image.convert("RGB"))
                    frame = rgb_frame(rgb, rgb.shape[1], rgb.shape[0])
                    frame.pts, frame.duration = start_ms, durations_ms[index]
                    frame.time_base = Fraction(1, 1000)
                    yield frame
        except MemoryError:
            raise
        except Exception:  # a damaged file brings about any kind in Pillow
            yield None


def pictures_of(source: Source, name: str, head: bytes) -> Pictures | None:
    """The pictures of a file that starts with ``head``, where FFmpeg has no decoder for them; else None.

    Raises TooLargeError or TruncatedError for an animated WebP that is past the limits or breaks off.
    """
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) >= 30 and head[20] & _WEBP_ANIMATION:
        size = 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
        return Pictures(source, "WEBP", size, _durations_ms(source, name))
    if head.startswith(_TIFF_HEADS):
        try:
            with _binary(source) as file, _opened(file, "TIFF") as image:
                tags = image.tag_v2
                if tags.get(_COMPRESSION_TAG) in _TIFF_COMPRESSIONS and _DNG_TAG not in tags:
                    return Pictures(source, "TIFF", image.size)
        except MemoryError:
            raise
        except Exception:
            return None  # FFmpeg may know more
    return None


@contextmanager
def _opened(source: Source, kind: str) -> Iterator[Any]:
    from PIL import Image

    with _quietly():
        image = Image.open(source, formats=(kind,))
    with image:
        yield image


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Pillow's warnings of sizes, which are checked already, and of damaged tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _binary(source: Source) -> Iterator[BinaryIO]:
    """The source from its start on; an open stream is left where it was."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield file
        return
    position = source.tell()
    source.seek(0)
    try:
        yield source
    finally:
        source.seek(position)


def _durations_ms(source: Source, name: str) -> tuple[int, ...]:
    """How long each picture of an animated WebP is shown: from its chunks, not a picture is decoded."""
    found: list[int] = []
    with _binary(source) as file:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_WEBP_BYTES:
            raise TooLargeError(f"Expected an animated WebP of at most {MAX_WEBP_BYTES >> 20} MiB in {name}, got "
                                f"{size >> 20} MiB; convert it to MP4")
        file.seek(4)
        end, place, chunks = 8 + int.from_bytes(file.read(4), "little"), 12, 0
        while place < min(end, size):
            file.seek(place)
            chunk = file.read(24)
            place += 8 + (length := int.from_bytes(chunk[4:8], "little")) + length % 2
            if chunk[:4] == b"ANMF":
                found.append(int.from_bytes(chunk[20:23], "little") or _UNTIMED_MS)
            if (chunks := chunks + 1) > MAX_WEBP_CHUNKS:
                raise TooLargeError(f"Expected an animated WebP of at most {MAX_WEBP_CHUNKS:,} pieces in {name}, got "
                                    "more; convert it to MP4")
    if not found or end > size:
        raise TruncatedError(f"Expected a complete animated WebP in {name}, got one that breaks off; copy or download "
                             "it again")
    return tuple(found)
