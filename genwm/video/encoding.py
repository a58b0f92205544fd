"""Writing video: the table of codecs, frames from arrays."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from importlib import import_module
from typing import BinaryIO, Literal

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from genwm.errors import (
    DiskFullError,
    EncodeError,
    InputError,
    OutputError,
    UnsupportedFormatError,
    is_disk_full,
)
from genwm.output import atomic_output
from genwm.video.filters import Filter, to_palettes, to_yuv
from genwm.video.model import ColorSpace, Planes
from genwm.video.opening import MAX_THREADS
from genwm.video.pixels import FULL, LIMITED, SWS_SPACE, TAGS, default_color_space, fill_plane, rgb_frame

VideoCodec = Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1", "mpeg4", "gif"]

# SVT-AV1 and x265 write banners straight to stderr; only these two switches silence them.
os.environ.setdefault("SVT_LOG", "0")
_QUIET_X265 = "log-level=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """One codec's encoder. ``rates`` are the least and the largest rate factor that it takes (None: it has none),
    ``faithful`` is the one at which an edited copy looks like its source, ``usual`` the encoder's own default;
    ``preset_option`` is the name of its speed option and ``preset`` its default here."""

    name: str
    rates: tuple[int, int] | None = None
    faithful: float | None = None
    usual: float | None = None
    preset_option: str | None = None
    preset: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    container: str = "mp4"
    odd_sizes: bool = False


ENCODERS: dict[str, Encoder] = {
    "h264": Encoder(name="libx264", rates=(0, 51), faithful=16, usual=23, preset_option="preset", preset="medium"),
    "hevc": Encoder(name="libx265", rates=(0, 51), faithful=18, usual=28, preset_option="preset", preset="medium"),
    "vp9": Encoder(
        name="libvpx-vp9",
        rates=(0, 63),
        faithful=20,
        usual=31,
        preset_option="cpu-used",
        preset="3",
        options={"b": "0", "row-mt": "1"},
        container="webm",
        odd_sizes=True,
    ),
    "av1": Encoder(name="libsvtav1", rates=(0, 63), faithful=22, usual=35, preset_option="preset", preset="8"),
    "prores": Encoder(name="prores_ks", container="mov"),
    "ffv1": Encoder(name="ffv1", options={"level": "3", "slices": "4"}, container="matroska", odd_sizes=True),
    "mpeg4": Encoder(name="mpeg4", rates=(1, 31), faithful=2, usual=4),  # of its quantiser
    "gif": Encoder(name="gif", container="gif", odd_sizes=True),
}

_SUFFIXES = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".gif": "gif",
}
_IN_MPEGTS = ("h264", "hevc", "mpeg4")  # FFmpeg writes others as nameless data
SQUARE = Fraction(1)
_YUV = re.compile(r"yuv[aj]?4(\d)(\d)p(\d*)(?:le)?$")


def encoder_for(codec: str) -> Encoder:
    try:
        return ENCODERS[codec]
    except KeyError:
        raise UnsupportedFormatError(f"Expected a codec of {', '.join(ENCODERS)}, got {codec!r}; choose one") from None


def container_for(target: str | os.PathLike[str], *, palettes: bool = False) -> str:
    """FFmpeg's name of the container that the suffix of ``target`` asks for; ``palettes``: .gif is one too."""
    name = os.fspath(target)
    suffix = os.path.splitext(name)[1].lower()
    known = {ending: container for ending, container in _SUFFIXES.items() if palettes or container != "gif"}
    if suffix not in known:
        raise UnsupportedFormatError(
            f"Expected an output name ending in {', '.join(known)}, got {name or 'an empty one'}; rename it"
        )
    return known[suffix]


def check_crf(codec: str, crf: float | None) -> None:
    """InputError where the codec's encoder does not take that rate factor; None is the encoder's own."""
    if crf is None:
        return
    rates = encoder_for(codec).rates
    if rates is None:
        raise InputError(f"Expected no rate factor (CRF) for {codec}, which has none, got {crf:g}; leave it out")
    if not rates[0] <= crf <= rates[1]:
        raise InputError(
            f"Expected a rate factor (CRF) of {rates[0]} to {rates[1]} for {codec}, got {crf:g}; choose one in between"
        )


def encoder_options(
    codec: str,
    *,
    crf: float | None,
    preset: str | None,
    gop: int | None,
    threads: int,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The options to open the encoder with; ``extra`` wins, and joins what it may not replace. Errors: those of
    `check_crf`."""
    encoder = encoder_for(codec)
    check_crf(codec, crf)
    options = dict(encoder.options)
    if crf is not None:
        rate = f"{crf:g}" if codec in ("h264", "hevc") else str(round(crf))
        # The quantiser of MPEG-4 is each frame's own, which PyAV cannot set, or else the least that is allowed.
        options |= {"flags": "+qscale", "qmin": rate, "qmax": rate} if codec == "mpeg4" else {"crf": rate}
    speed = preset or encoder.preset
    if encoder.preset_option and speed is not None:
        options[encoder.preset_option] = speed
    if gop is not None:
        options["g"] = str(gop)
    own = {"hevc": ("x265-params", f"{_QUIET_X265}:pools={threads}"), "av1": ("svtav1-params", f"lp={threads}")}
    if _has_avx512():
        own["h264"] = "x264-params", "asm=AVX2"
    options.update(extra or {})
    if codec in own:
        key, value = own[codec]
        options[key] = f"{value}:{options[key]}" if options.get(key) else value
    return options


@lru_cache(maxsize=1)
def _has_avx512() -> bool:
    """Whether x264 would use AVX-512, with which it makes a slightly different stream each time: its lookahead (mbtree
    with B-frames) then depends on more than the frames."""
    try:
        found = import_module("numpy._core._multiarray_umath")
    except ImportError:
        return False
    return bool(getattr(found, "__cpu_features__", {}).get("AVX512F"))


def working_format(source_format: str, codec: str) -> str:
    """The encoder's planar YUV format nearest to ``source_format``: no chroma or depth lost where it can be helped."""
    if codec == "gif":
        return "rgb24"
    match = _YUV.match(source_format)
    if match:
        chroma, depth = _chroma(match), int(match[3] or 8)
    else:
        components = VideoFormat(source_format, 16, 16).components
        is_yuv = len(components) >= 3 and components[1].is_chroma
        chroma = (16 // components[1].width, 16 // components[1].height) if is_yuv else (2, 2)
        depth = min(16, max((component.bits for component in components), default=8))
        if codec == "ffv1" and not is_yuv and len(components) >= 3:
            chroma = (1, 1)

    def cost(name: str) -> tuple[float, ...]:
        found = _YUV.match(name)
        assert found is not None
        (across, down), bits = _chroma(found), int(found[3] or 8)
        lost = max(0, across - chroma[0]) + max(0, down - chroma[1])
        spare = max(0, chroma[0] - across) + max(0, chroma[1] - down)
        return lost, max(0, depth - bits), spare, max(0, bits - depth)

    formats = av.Codec(encoder_for(codec).name, "w").video_formats or []
    names = {fmt.name for fmt in formats if _YUV.match(fmt.name) and not fmt.name.startswith(("yuva", "yuvj"))}
    return min(sorted(names - {"yuv410p", "yuv411p", "yuv440p"}) or ["yuv420p"], key=cost)


def _chroma(match: re.Match[str]) -> tuple[int, int]:
    """Luma samples per chroma sample, across and down."""
    return (1 if match[1] == "4" else 2, 2 if match[2] == "0" else 1)


def lean_options(codec: str, width: int, height: int) -> dict[str, str]:
    """Options that bound the encoder's memory: fewer frames of look-ahead for frames larger than 720p."""
    frames = max(5, min(40, round(40 * 1280 * 720 / (width * height))))
    if frames == 40 or codec not in ("h264", "hevc", "av1"):
        return {}
    if codec == "h264":
        return {"rc-lookahead": str(frames)}
    return {"x265-params": f"rc-lookahead={frames}"} if codec == "hevc" else {"svtav1-params": f"lookahead={frames}"}


@contextmanager
def encoding_errors(name: str) -> Iterator[None]:
    """Turns what the encoder, the muxer or the disk raise into this project's errors."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        code = getattr(error, "errno", None)
        if is_disk_full(error):
            raise DiskFullError(f"Expected room on the disk for {name}, got none left; free some space") from None
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise OutputError(f"Expected permission to write {name}, got none; choose another folder") from None
        if isinstance(error, ValueError) and "format does not support" in str(error):
            raise UnsupportedFormatError(
                f"Expected a container that takes every stream of {name}, got another ({error}); write an .mkv file"
            ) from None
        reason = getattr(error, "strerror", None) or str(error)
        raise EncodeError(f"Expected to encode {name}, got '{reason}'; try another codec or container") from None


@contextmanager
def open_output(
    path: str | BinaryIO, container: str, name: str, *, options: Mapping[str, str]
) -> Iterator[OutputContainer]:
    """Opens an output container and finishes it; on failure it is closed without a word."""
    # 'file:' keeps FFmpeg from reading a path such as 'run:1/a.mp4' as a protocol.
    place = f"file:{path}" if isinstance(path, str) else path
    with encoding_errors(name):
        output = av.open(place, "w", format=container, container_options=dict(options))
    try:
        yield output
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    with encoding_errors(name):
        output.close()


def add_video_stream(
    output: OutputContainer,
    codec: str,
    *,
    width: int,
    height: int,
    pixel_format: str,
    rate: Fraction,
    time_base: Fraction,
    options: Mapping[str, str],
    colors: tuple[int, int, int],
    full_range: bool,
    threads: int,
    sample_aspect: Fraction = SQUARE,
) -> VideoStream:
    """Adds an encoder; ``colors`` are the H.273 numbers of (matrix, primaries, transfer)."""
    if output.format.name == "mpegts" and codec not in _IN_MPEGTS:
        raise UnsupportedFormatError(
            f"Expected a codec of {', '.join(_IN_MPEGTS)} for MPEG-TS, got {codec}; choose one or write an .mkv file"
        )
    if codec == "ffv1" and not _can_be_sliced(width, height, pixel_format):
        options = {**options, "level": "1", "slices": "0"}  # the version of the format that knows no slices
    stream = output.add_stream(encoder_for(codec).name, rate=rate, options=dict(options))
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = width, height, pixel_format
    context.time_base = time_base
    stream.time_base = time_base
    context.sample_aspect_ratio = sample_aspect
    context.thread_count = max(1, min(threads, MAX_THREADS))
    if codec != "gif":
        context.color_range = FULL if full_range else LIMITED
        context.colorspace, context.color_primaries, context.color_trc = colors
    context.flags |= Flags.frame_duration
    if codec == "hevc" and output.format.name in ("mp4", "mov"):
        context.codec_tag = "hvc1"  # what Apple's players ask for
    if codec == "av1":
        with same_priority():
            context.open()
    return stream


def _can_be_sliced(width: int, height: int, pixel_format: str) -> bool:
    """Whether FFV1 can cut a picture in four: not a tiny one, nor one whose chroma planes end amid a chroma sample."""
    across, down = _chroma(match) if (match := _YUV.match(pixel_format)) else (1, 1)
    return min(width, height) >= 4 and width % across == 0 and height % down == 0


@contextmanager
def same_priority() -> Iterator[None]:
    """Keeps the scheduling of this thread: run by root, SVT-AV1 makes the thread that opens it a real-time one of the
    highest priority, for good, and everything else on the machine waits."""
    if not hasattr(os, "sched_getscheduler"):  # only where the system has such a thing
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, parameters)


def last_packets(stream: VideoStream, count: int) -> list[Packet[VideoStream]]:
    """What the encoder still holds after ``count`` frames."""
    packets = stream.encode(None)
    if count <= 2:  # x265 leaves decoding times unset where B-frames never came; two frames are never reordered
        for packet in packets:
            packet.dts = packet.pts
    return packets


def write_video(
    target: str | os.PathLike[str] | BinaryIO,
    frames: Iterable[NDArray[np.uint8] | Planes],
    *,
    fps: float | Fraction,
    codec: VideoCodec = "h264",
    crf: float | None = None,
    preset: str | None = None,
    gop: int | None = None,
    container: str | None = None,
    bit_depth: Literal[8, 10] = 8,
    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0",
    options: Mapping[str, str] | None = None,
    metadata: Mapping[str, str] | None = None,
    times_s: Iterable[float] | None = None,
    color_space: ColorSpace | None = None,
    full_range: bool = False,
    sample_aspect: Fraction = SQUARE,
    rotation: int = 0,
    threads: int = 2,
) -> None:
    """Encodes frames: RGB uint8 ``(height, width, 3)``, or :class:`Planes`, which reach the encoder untouched.

    A path is replaced if it exists, and only once the whole video is written; a binary stream must be seekable and
    needs ``container`` where the codec's usual one (mp4; webm for VP9, mov for ProRes, matroska for FFV1) will not do.
    Sizes are cropped to even numbers at the right and bottom, except for vp9, ffv1 and gif. ``crf`` defaults to the
    encoder's own (x264 23 and x265 28 of 0 to 51, vp9 31 and av1 35 of 0 to 63; for mpeg4 it is the quantiser, 4 of 1
    to 31); prores, ffv1 and gif have none. ``preset`` is the encoder's speed: a name for h264 and hevc, a number for
    vp9 (cpu-used) and av1. ``gop`` is the longest distance of key frames.
    ``chroma`` is the resolution of colour that is stored, where the codec has it (Planes are enlarged for it).
    ``times_s`` gives each frame its own time (variable frame rate). RGB is converted with the matrix ``color_space``
    (default: BT.709 from 1280 columns or 577 lines, BT.601 below), and the stream is tagged with it; for Planes,
    ``color_space`` and ``full_range`` are those of the first frame. ``sample_aspect`` (width / height of one sample)
    and ``rotation`` (degrees clockwise, a multiple of 90) are written as tags for players.

    Errors: InputError (a ``crf`` that the codec does not take), UnsupportedFormatError, EncodeError, DiskFullError,
    OutputError.
    """
    is_path = isinstance(target, str | os.PathLike)
    name = os.fspath(target) if isinstance(target, str | os.PathLike) else "<stream>"
    kind = container or (container_for(name, palettes=codec == "gif") if is_path else encoder_for(codec).container)
    job = _Job(
        name=name,
        rate=Fraction(fps).limit_denominator(1_000_000),
        codec=codec,
        settings=encoder_options(
            codec,
            crf=encoder_for(codec).usual if crf is None else crf,
            preset=preset,
            gop=gop,
            threads=threads,
            extra=options,
        ),
        bit_depth=bit_depth,
        chroma=chroma,
        times_s=times_s,
        color_space=color_space,
        full_range=full_range,
        sample_aspect=sample_aspect,
        rotation=rotation,
        threads=threads,
    )

    def write(path: str | BinaryIO) -> None:
        with open_output(path, kind, name, options=muxer_options(kind, metadata or {}, is_path=is_path)) as output:
            output.metadata.update(metadata or {})
            _encode_arrays(output, frames, job)

    if is_path:
        with atomic_output(name, overwrite=True) as part:
            write(part)
    else:
        write(target)  # type: ignore[arg-type]  # not a path, so a stream


def muxer_options(container: str, metadata: Mapping[str, str], *, is_path: bool) -> dict[str, str]:
    """Index first in a file of MP4 or MOV (moving it there needs a path), and every key of the metadata kept."""
    if container not in ("mp4", "mov"):
        return {}
    # MP4 keeps only iTunes' keys unless told otherwise, and telling it moves these to a place fewer players read.
    known = {
        "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
        "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "creation_time", "location",
    }  # fmt: skip
    flags = ("+faststart" if is_path else "") + ("" if set(metadata) <= known else "+use_metadata_tags")
    return {"movflags": flags} if flags else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The arguments of one write_video."""

    name: str
    rate: Fraction
    codec: VideoCodec
    settings: Mapping[str, str]
    bit_depth: int
    chroma: Literal["4:2:0", "4:4:4"]
    times_s: Iterable[float] | None
    color_space: ColorSpace | None
    full_range: bool
    sample_aspect: Fraction
    rotation: int
    threads: int


def _encode_arrays(output: OutputContainer, frames: Iterable[NDArray[np.uint8] | Planes], job: _Job) -> None:
    codec, name, full_range = job.codec, job.name, job.full_range
    times = None if job.times_s is None else iter(job.times_s)
    time_base = 1 / job.rate if times is None else Fraction(1, 90_000)
    source_format = f"yuv{job.chroma.replace(':', '')}p{'10le' if job.bit_depth == 10 else ''}"
    pixel_format = working_format(source_format, codec)
    if job.bit_depth == 10 and "10" not in pixel_format:
        raise UnsupportedFormatError(f"Expected a codec that takes 10 bits, got {codec}; use h264, hevc, av1 or prores")
    stream: VideoStream | None = None
    finish: Filter | None = None
    for index, item in enumerate(frames):
        if stream is None:
            height, width = (item.y if isinstance(item, Planes) else item).shape[:2]
            if not encoder_for(codec).odd_sizes:
                height, width = height // 2 * 2, width // 2 * 2
            if min(height, width) < 1:
                raise UnsupportedFormatError(f"Expected frames of at least 2 x 2 for {codec}, got less; enlarge them")
            space = job.color_space or default_color_space(width, height)
            if isinstance(item, Planes):
                space, full_range = item.color_space, item.full_range
            with encoding_errors(name):
                stream = add_video_stream(
                    output,
                    codec,
                    width=width,
                    height=height,
                    pixel_format="pal8" if codec == "gif" else pixel_format,
                    rate=job.rate,
                    time_base=time_base,
                    options=job.settings,
                    colors=TAGS[space],
                    full_range=full_range,
                    threads=job.threads,
                    sample_aspect=job.sample_aspect,
                )
                if job.rotation:
                    stream.set_display_rotation(-job.rotation)
            from_rgb = to_yuv(width, height, pixel_format, space, full_range, time_base)
            finish = to_palettes(width, height, time_base) if codec == "gif" else None
        if isinstance(item, Planes):
            frame = _from_planes(item, width, height, pixel_format, space, full_range)
        else:
            frame = rgb_frame(item, width, height)
        frame.pts = index if times is None else round(next(times) * 90_000)
        frame.time_base = time_base
        frame.duration = 1 if times is None else round(90_000 / job.rate)
        if pixel_format != "rgb24" and not isinstance(item, Planes):
            (frame,) = from_rgb(frame)
        frame.colorspace, frame.color_primaries, frame.color_trc = TAGS[space]
        with encoding_errors(name):
            for ready in finish(frame) if finish else (frame,):
                output.mux(stream.encode(ready))
    if stream is None:
        raise EncodeError(f"Expected at least one frame for {name}, got none; pass some frames")
    with encoding_errors(name):
        for ready in finish(None) if finish else ():
            output.mux(stream.encode(ready))
        output.mux(last_packets(stream, index + 1))


def _from_planes(
    planes: Planes, width: int, height: int, pixel_format: str, space: ColorSpace, full_range: bool
) -> VideoFrame:
    frame = VideoFrame(width, height, "yuv420p")
    for index, plane in enumerate((planes.y, planes.u, planes.v)):
        fill_plane(frame, index, plane)
    bounds = ColorRange.JPEG if full_range else ColorRange.MPEG
    frame = VideoReformatter().reformat(
        frame,
        format=pixel_format,
        src_colorspace=SWS_SPACE[space],
        dst_colorspace=SWS_SPACE[space],
        src_color_range=bounds,
        dst_color_range=ColorRange.JPEG if pixel_format == "rgb24" else bounds,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
        threads=1,
    )
    frame.color_range = bounds
    return frame
