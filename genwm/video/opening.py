"""Opening a container safely, and saying what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import av.logging
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from genwm.errors import (
    DecodeError,
    EmptyFileError,
    GenwmError,
    InputError,
    NotFoundError,
    NotMediaError,
    NoVideoError,
    TooLargeError,
    TruncatedError,
)
from genwm.video.model import Source, VideoInfo
from genwm.video.pictures import Pictures, pictures_of
from genwm.video.pixels import bit_depth_of, color_space_of, is_full_range, orientation_of

MAX_SIDE = 16_384
MAX_PIXELS = 100_000_000
MAX_THREADS = 4

# Only demuxers of self-contained files: playlists and image sequences could point at other files of this machine.
_DEMUXERS = (
    "mov,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,live_flv,ogg,asf,mxf,nut,ivf,obu,h264,hevc,vvc,m4v,dv,rm,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,apng,webp,mjpeg,"
    "wav,mp3,aac,flac,w64,aiff,amr,ac3,eac3,caf,opus"
)
_STILLS = {b"\x89PNG\r\n\x1a\n": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe", b"BM": "bmp_pipe"}
_HEAD = 4096  # bytes that tell what a file is
_STILL_CODECS = {"png", "mjpeg", "webp", "bmp", "tiff"}
# Still images in the container of MP4, by its major brand.
_STILL_BRANDS = {"avif": "avif", "heic": "heif", "heix": "heif", "mif1": "heif"}


@dataclass(slots=True)
class Opened:
    """An open input with its video stream, and what went wrong without stopping it; ``pictures`` where Pillow decodes
    it in FFmpeg's place; ``claimed_bytes``: how long the file says that it is."""

    container: InputContainer
    stream: VideoStream
    name: str
    warnings: list[str] = field(default_factory=list)
    pictures: Pictures | None = None
    claimed_bytes: int | None = None

    @property
    def time_base(self) -> Fraction:
        return Fraction(1, 1000) if self.pictures else self.stream.time_base or Fraction(1, 1000)

    @property
    def start_s(self) -> float:
        return 0.0 if self.pictures else float((self.stream.start_time or 0) * self.time_base)

    @property
    def sample_aspect(self) -> Fraction:
        aspect = self.stream.sample_aspect_ratio
        return aspect if aspect and aspect > 0 else Fraction(1)

    @property
    def fps(self) -> Fraction | None:
        if self.pictures:
            return self.pictures.fps
        return self.stream.average_rate or self.stream.guessed_rate or self.stream.base_rate

    @property
    def frame_count(self) -> int | None:
        return (len(self.pictures.durations_ms) if self.pictures else self.stream.frames) or None

    @property
    def duration_s(self) -> float | None:
        if self.pictures:
            return self.pictures.duration_s
        if self.stream.duration:
            return float(self.stream.duration * self.time_base)
        return self.container.duration / 1_000_000 if self.container.duration else None


def stops_early(opened: Opened, end_s: float) -> str | None:
    """A sentence, if the last frame of a file that was read to its end ends well before what its header claims."""
    claimed = opened.duration_s if opened.stream.duration or not opened.container.streams.audio else None
    step_s = float(1 / opened.fps) if opened.fps else 0.04
    if not claimed or end_s >= 0.95 * claimed - 3 * step_s:
        return None
    return f"the video stops at {end_s:.1f} s of the {claimed:.1f} s that its header claims"


def lacks_data(opened: Opened) -> str | None:
    """A sentence, if the header or the index of a file names data beyond its end. Costs nothing; not every container
    has either."""
    entries, size = opened.stream.index_entries, opened.container.size
    if size <= 0:
        return None
    if len(entries) and (last := entries[len(entries) - 1]).pos + last.size > size:
        return f"the file ends after {size:,} bytes, before the data of its last frames"
    if (claimed := opened.claimed_bytes or 0) > size:
        return f"the file ends after {size:,} of the {claimed:,} bytes that its header claims"
    return None


def name_of(source: Source) -> str:
    """A name for messages and records: the path, or '<stream>'."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<stream>"


@contextmanager
def open_input(source: Source, *, threads: int = 2, max_pixels: int = MAX_PIXELS) -> Iterator[Opened]:
    """Opens a path or a binary stream for reading its video: the default stream, else the one of the largest picture.

    Raises NotFoundError, EmptyFileError, NotMediaError, TruncatedError, NoVideoError, TooLargeError or DecodeError.
    """
    name = name_of(source)
    head = _peek(source, name)
    pictures = pictures_of(source, name, head)
    if pictures:
        check_size(name, *pictures.size, max_pixels)
    container = _open(source, name, head, max_pixels)
    try:
        stream = _video_stream(container, name)
        context = stream.codec_context
        if context.width == 0 and _refused_for_size(source, head, max_pixels):
            raise TooLargeError(_too_large(name, None, max_pixels))
        check_size(name, context.width, context.height, max_pixels)
        context.thread_count = max(1, min(threads, MAX_THREADS))
        context.thread_type = "AUTO"
        context.options = {"max_pixels": str(max_pixels)}
        yield Opened(container, stream, name, pictures=pictures, claimed_bytes=_matroska_bytes(head))
    finally:
        container.close()


def check_size(name: str, width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raises TooLargeError for a frame past the limits."""
    if max(width, height) > MAX_SIDE or width * height > max_pixels:
        raise TooLargeError(_too_large(name, (width, height), max_pixels))


def _too_large(name: str, size: tuple[int, int] | None, max_pixels: int) -> str:
    got = f"{size[0]} x {size[1]}" if size else "a larger one"
    return (
        f"Expected a picture of at most {MAX_SIDE} pixels a side and {max_pixels / 1e6:.0f} megapixels in {name}, "
        f"got {got}; scale it down first"
    )


def _peek(source: Source, name: str) -> bytes:
    """The first bytes of the source, which stays where it was."""
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise NotFoundError("Expected the path of a file, got an empty one; give the path of a video or image")
        try:
            mode = os.stat(source).st_mode
            if not stat.S_ISREG(mode):
                kind, remedy = ("a folder", "give the path of a file") if stat.S_ISDIR(mode) else (
                    "a device or pipe", "write what it gives to a file first")
                raise NotMediaError(f"Expected a video or image file, got {kind} at {name}; {remedy}")
            with open(source, "rb") as file:
                head = file.read(_HEAD)
        except FileNotFoundError:
            remedy = "write what the pipe gives to a file first" if name == "-" else "check the path"
            raise NotFoundError(f"Expected a file at {name}, got nothing; {remedy}") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"Expected a readable file at {name}, got '{reason}'; check its permissions") from None
    else:
        if not source.seekable():
            return b"?"
        position = source.tell()
        head = source.read(_HEAD)
        source.seek(position)
    if not head:
        raise EmptyFileError(f"Expected a video or image in {name}, got an empty file; copy or download it again")
    return head


def _open(source: Source, name: str, head: bytes, max_pixels: int) -> InputContainer:
    still = next((demuxer for magic, demuxer in _STILLS.items() if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        still = "webp_pipe"
    if still == "png_pipe" and _is_animated_png(head):
        still = "apng"
    # 'file:' keeps FFmpeg from reading a path such as 'concat:a|b' as a protocol.
    target: Any = f"file:{os.fspath(source)}" if isinstance(source, str | os.PathLike) else source
    options = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(max_pixels)}
    try:
        container = av.open(target, "r", format=still, options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        if _looks_like_media(head):
            raise TruncatedError(
                f"Expected a complete video or image in {name}, got a file without its index or header; copy it again"
            ) from None
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            raise
        raise NotMediaError(f"Expected a video or image in {name}, got something else; check the file") from None
    assert isinstance(container, InputContainer)
    return container


def _is_animated_png(head: bytes) -> bool:
    """Whether the chunks of a PNG before its picture, as far as they are there, announce an animation."""
    place = 8
    while place + 8 <= len(head):
        length, kind = int.from_bytes(head[place : place + 4]), head[place + 4 : place + 8]
        if kind in (b"acTL", b"IDAT"):
            return kind == b"acTL"
        place += 12 + length
    return False


def _matroska_bytes(head: bytes) -> int | None:
    """How long a Matroska file says that it is; None of other files, and of a stream that does not know its end."""
    header, segment = b"\x1aE\xdf\xa3", b"\x18S\x80g"
    if not head.startswith(header):
        return None
    length, start = _matroska_number(head, len(header))
    if length is None or head[start + length : start + length + len(segment)] != segment:
        return None
    length, start = _matroska_number(head, start + length + len(segment))
    return None if length is None else start + length


def _matroska_number(head: bytes, place: int) -> tuple[int | None, int]:
    """A length and the place behind it: as many zero bits as further bytes, a one, the number; all ones: unknown."""
    width = 9 - (head[place] if place < len(head) else 0).bit_length()
    bits = 7 * width
    number = int.from_bytes(head[place : place + width], "big") & ((1 << bits) - 1)
    return (number if width < 9 and number != (1 << bits) - 1 else None), place + width


def _looks_like_media(head: bytes) -> bool:
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
        or head.startswith((b"\x1aE\xdf\xa3", b"GIF8", b"OggS", b"FLV\x01", b"RIFF", b"\x00\x00\x01\xba", b"DKIF"))
        or any(head.startswith(magic) for magic in _STILLS)
    )


def is_cover(stream: Stream) -> bool:
    """Whether a video stream is a picture to show beside the sound, and no video."""
    return bool(stream.disposition & Disposition.attached_pic)


def unread(opened: Opened) -> str | None:
    """A sentence, if the file has video streams beside the one that is read."""
    count = sum(not is_cover(stream) for stream in opened.container.streams.video) - 1
    if count < 1:
        return None
    return f"{count} further video stream{'s were' if count > 1 else ' was'} not read"


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    """The stream that players show: the default one, else the largest, else the first."""
    streams = [stream for stream in container.streams.video if not is_cover(stream)]
    if not streams:
        raise NoVideoError(
            f"Expected a video stream in {name}, got {len(container.streams.audio)} audio stream(s) and no picture; "
            "give a file with video"
        )
    stream = max(streams, key=_rank)
    if stream.codec_context is None:
        raise DecodeError(f"Expected a codec that can be read in {name}, got an unknown one; convert it to H.264")
    return stream


def _rank(stream: VideoStream) -> tuple[bool, bool, int]:
    context: Any = stream.codec_context  # None where the codec is unknown
    area = context.width * context.height if context else 0
    return context is not None, bool(stream.disposition & Disposition.default), area


def _refused_for_size(source: Source, head: bytes, max_pixels: int) -> bool:
    """Whether the decoder refused the header for its size: it says so only in its log, so open once more and listen."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs, suppress(GenwmError), _open(source, "", head, max_pixels):
            pass
    finally:
        av.logging.set_level(level)
    return any("Picture size" in message or "max pixel" in message for _, _, message in logs)


def describe(opened: Opened, frame: VideoFrame) -> VideoInfo:
    """What the container claims, with what its first decoded frame shows."""
    stream, container = opened.stream, opened.container
    orientation = orientation_of(frame)
    width, height = max(1, round(frame.width * opened.sample_aspect)), frame.height
    if orientation.transpose:
        width, height = height, width
    codec = stream.codec_context.codec.canonical_name
    is_animation = opened.pictures is not None and bool(opened.pictures.durations_ms)
    is_still = _still_brand(container) is not None or (
        container.format.name.endswith("_pipe") and codec in _STILL_CODECS and not is_animation
    )
    return VideoInfo(
        path=opened.name,
        container=_container_name(opened),
        codec={"mjpeg": "jpeg"}.get(codec, codec) if is_still else codec,
        width=width,
        height=height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        sample_aspect=float(opened.sample_aspect),
        fps=None if is_still or not opened.fps else float(opened.fps),
        duration_s=None if is_still else opened.duration_s,
        frame_count=1 if is_still else opened.frame_count,
        pixel_format=frame.format.name,
        bit_depth=bit_depth_of(frame),
        color_range="full" if is_full_range(frame) else "limited",
        color_space=color_space_of(frame),
        has_audio=bool(container.streams.audio),
        is_still=is_still,
    )


def _still_brand(container: InputContainer) -> str | None:
    """'avif' or 'heif' where a file of MP4's form holds a still image."""
    return _STILL_BRANDS.get(container.metadata.get("major_brand", "")) if "mp4" in container.format.name else None


def _container_name(opened: Opened) -> str:
    if brand := _still_brand(opened.container):
        return brand
    names = opened.container.format.name.removesuffix("_pipe").split(",")
    suffix = os.path.splitext(opened.name)[1][1:].lower()
    if suffix in names:
        return suffix
    if "mp4" in names:
        return "mov" if opened.container.metadata.get("major_brand", "").startswith("qt") else "mp4"
    return names[0]
