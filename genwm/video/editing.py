"""Changing the pixels of a video and nothing else: decode, edit, encode, with sound, times and tags carried over."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from genwm.errors import DecodeError, UnsupportedFormatError
from genwm.output import atomic_output
from genwm.video.encoding import (
    VideoCodec,
    add_video_stream,
    container_for,
    encoder_for,
    encoder_options,
    encoding_errors,
    last_packets,
    lean_options,
    muxer_options,
    open_output,
    working_format,
)
from genwm.video.model import UPRIGHT, Source, VideoInfo, YUVFrame
from genwm.video.opening import MAX_PIXELS, Opened, lacks_data, open_input, stops_early
from genwm.video.pixels import (
    FULL,
    SWS_SPACE,
    bit_depth_of,
    color_space_of,
    color_tags,
    display_matrix,
    fill_plane,
    is_full_range,
    is_rgb,
    orientation_of,
    plane_view,
)
from genwm.video.reading import probe

log = logging.getLogger("genwm.video")

Edit = Callable[[YUVFrame], YUVFrame]

# The codec that an edited copy gets when none is asked for; everything else becomes H.264.
_FAMILIES: dict[str, VideoCodec] = {
    "h264": "h264",
    "hevc": "hevc",
    "vp8": "vp9",
    "vp9": "vp9",
    "av1": "av1",
    "prores": "prores",
    "dnxhd": "prores",
    "ffv1": "ffv1",
    "huffyuv": "ffv1",
    "ffvhuff": "ffv1",
    "utvideo": "ffv1",
}
# What each container takes, best first; a family that is not in the list gives way to the first.
_CONTAINERS: dict[str, tuple[VideoCodec, ...]] = {
    "webm": ("vp9", "av1"),
    "mp4": ("h264", "hevc", "vp9", "av1"),
    "mov": ("h264", "hevc", "prores"),
    "mpegts": ("h264", "hevc"),
    "avi": ("h264", "ffv1"),
    "matroska": ("h264", "hevc", "vp9", "av1", "prores", "ffv1"),
}
_NO_ROTATION = {"avi", "mpegts"}
# Written by the muxer itself, or true of the old stream only.
_STALE_TAGS = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "duration", "vendor_id", "number_of_frames",
    "number_of_bytes", "bps", "_statistics_writing_app", "_statistics_writing_date_utc", "_statistics_tags", "software",
}  # fmt: skip


def edit_video(
    source: Source,
    target: str | os.PathLike[str],
    edit: Edit,
    *,
    codec: VideoCodec | None = None,
    crf: float | None = None,
    preset: str | None = None,
    overwrite: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[float], None] | None = None,
    threads: int = 2,
) -> VideoInfo:
    """Streams every frame through ``edit`` and encodes the result; one frame is in memory at a time.

    ``edit`` gets a :class:`YUVFrame` whose arrays it may change in place, and returns it or one of the same shapes.
    The container follows the suffix of ``target`` (.mp4 .m4v .mov .mkv .webm .avi .ts). ``codec`` defaults to the
    input's family where the container takes it (VP9 of more than 8 bits becomes AV1: the encoder at hand has only 8).
    ``crf`` defaults to one at which the copy looks like the source: h264 16, hevc 18 (of 0 to 51), vp9 20, av1 22 (of 0
    to 63); ProRes and FFV1 have none. Carried over: every audio stream (copied, not encoded again), subtitles that the
    container takes, times of frames, rotation, sample aspect, colour tags, chapters, metadata, bit depth and chroma
    resolution as far as the codec can. Odd sizes lose their last row or column where the codec needs even ones (all but
    vp9 and ffv1).
    ``progress`` is called with the fraction done. Returns what :func:`probe` says about the result.

    The output appears under its name only when complete. Errors: those of :func:`probe`, InputError (a ``crf`` that the
    codec does not take), OutputExistsError, SameFileError, UnsupportedFormatError, EncodeError, DiskFullError,
    OutputError.
    """
    name = os.fspath(target)
    container = container_for(target)
    with (
        open_input(source, threads=threads, max_pixels=max_pixels) as opened,
        atomic_output(target, source=source, overwrite=overwrite) as part,
    ):
        metadata = _kept(opened.container.metadata)
        with open_output(part, container, name, options=muxer_options(container, metadata, is_path=True)) as output:
            output.metadata.update(metadata)
            copier = _Copier(output, opened, name, edit, codec, crf, preset, threads)
            for fraction in copier.run():
                if progress:
                    progress(fraction)
    if progress:
        progress(1.0)
    return probe(name)


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower().split("-")[0] not in _STALE_TAGS}


class _Copier:
    """One run of edit_video; the first decoded frame sets up the output, for it alone knows everything."""

    def __init__(
        self,
        output: OutputContainer,
        opened: Opened,
        name: str,
        edit: Edit,
        codec: VideoCodec | None,
        crf: float | None,
        preset: str | None,
        threads: int,
    ) -> None:
        self.output, self.opened, self.name, self.edit = output, opened, name, edit
        self.codec, self.crf, self.preset, self.threads = codec, crf, preset, threads
        self.encoder: VideoStream | None = None
        self.orientation = UPRIGHT
        self.copies: dict[int, Stream] = {}
        self.waiting: list[Packet[Any]] = []
        self.scaler = VideoReformatter()
        self.last_pts: int | None = None
        self.count = 0

    def run(self) -> Iterator[float]:
        """Copies and edits to the end, yielding the fraction done after each frame."""
        duration_s, end_s = self.opened.duration_s, 0.0
        for packet in self._packets():
            if packet.stream_index != self.opened.stream.index:
                self._copy(packet)
                continue
            for frame in self._decode(packet):
                shown_s = float(frame.duration * self.opened.time_base)
                time_s = self._encode(frame)
                end_s = max(end_s, time_s + shown_s)
                if duration_s:
                    yield min(1.0, max(0.0, time_s / duration_s))
        if self.encoder is None:
            raise DecodeError(f"Expected frames in {self.opened.name}, got none that decodes; download the file again")
        lost = lacks_data(self.opened) or stops_early(self.opened, end_s)
        if lost:
            log.warning("%s: %s; what came before was kept", self.opened.name, lost)
        with encoding_errors(self.name):
            self.output.mux(last_packets(self.encoder, self.count))

    def _packets(self) -> Iterator[Packet[Any]]:
        source = self.opened.container
        copied = [*source.streams.audio, *source.streams.subtitles]
        packets = source.demux([self.opened.stream, *copied])
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                log.warning("%s ends in damaged data; what came before it was kept", self.opened.name)
                return
            yield packet

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        try:
            return packet.decode()
        except av.FFmpegError:
            log.warning("%s: a damaged piece of the video was skipped", self.opened.name)
            return []

    def _copy(self, packet: Packet[Any]) -> None:
        if packet.dts is None:
            return
        if self.encoder is None:
            self.waiting.append(packet)
            return
        copy = self.copies.get(packet.stream_index)
        if copy is not None:
            packet.stream = copy
            with encoding_errors(self.name):
                self.output.mux(packet)

    def _encode(self, frame: VideoFrame) -> float:
        if self.encoder is None:
            with encoding_errors(self.name):
                self.encoder = self._start(frame)
            waiting, self.waiting = self.waiting, []
            for packet in waiting:
                self._copy(packet)
        encoder, base = self.encoder, self.opened.time_base
        time_base = encoder.codec_context.time_base
        step = round(1 / (self.opened.fps or 25) / time_base) or 1
        pts = self.last_pts + step if frame.pts is None and self.last_pts is not None else frame.pts or 0
        if frame.pts is not None and time_base != base:
            pts = round(frame.pts * base / time_base)
        if self.last_pts is not None and pts <= self.last_pts:
            pts = self.last_pts + 1
        time_s = float(pts * time_base) - self.opened.start_s
        length = round(frame.duration * base / time_base)
        frame = self._writable(frame)
        self._apply(frame, time_s)
        frame.pts, frame.time_base, frame.duration = pts, time_base, length
        frame.pict_type = 0  # let the encoder choose
        with encoding_errors(self.name):
            self.output.mux(encoder.encode(frame))
        self.last_pts, self.count = pts, self.count + 1
        return time_s

    def _start(self, frame: VideoFrame) -> VideoStream:
        """Sets up every stream of the output."""
        opened, output = self.opened, self.output
        container = container_for(self.name)
        codec = self.codec or _default_codec(opened, frame, container)
        width, height = frame.width, frame.height
        if not encoder_for(codec).odd_sizes:
            width, height = width // 2 * 2, height // 2 * 2
        if min(width, height) < 1:
            raise UnsupportedFormatError(
                f"Expected a video of at least 2 x 2 for {codec}, got {frame.width} x {frame.height}; use ffv1 in .mkv"
            )
        if opened.sample_aspect != 1 and container in ("matroska", "webm") and codec in ("vp9", "av1", "ffv1"):
            raise UnsupportedFormatError(
                f"Expected square pixels for {codec} in {self.name}, got {opened.sample_aspect}; write an .mp4 file"
            )
        rate = opened.fps or Fraction(25)
        # AVI counts frames instead of keeping times: a fine time base would be a file of empty frames.
        time_base = 1 / rate if container == "avi" else opened.time_base
        encoder = encoder_for(codec)
        stream = add_video_stream(
            output,
            codec,
            width=width,
            height=height,
            pixel_format=working_format(frame.format.name, codec),
            rate=rate,
            time_base=time_base,
            options=encoder_options(
                codec,
                crf=encoder.faithful if self.crf is None else self.crf,
                preset=self.preset,
                gop=None,
                threads=self.threads,
                # AVI cannot say that frames are out of order.
                extra=lean_options(codec, width, height) | ({"bf": "0"} if container == "avi" else {}),
            ),
            colors=color_tags(frame),
            full_range=is_full_range(frame) and not is_rgb(frame),
            threads=self.threads,
            sample_aspect=opened.sample_aspect,
        )
        stream.metadata.update(_kept(opened.stream.metadata))
        self.orientation = orientation_of(frame)
        matrix = display_matrix(frame)
        if matrix and self.orientation != UPRIGHT:
            if container in _NO_ROTATION:
                raise UnsupportedFormatError(
                    f"Expected a container that keeps rotation, got {self.name}; write an .mp4, .mov or .mkv file"
                )
            stream.set_display_matrix(matrix)
        for audio in opened.container.streams.audio:
            self._add_copy(audio)
        for subtitle in opened.container.streams.subtitles:
            try:
                self._add_copy(subtitle)
            except (av.FFmpegError, ValueError):
                log.warning("%s cannot hold the subtitles of %s; they were left out", self.name, opened.name)
        chapters = opened.container.chapters()
        if chapters:
            output.set_chapters(chapters)
        return stream

    def _add_copy(self, template: Any) -> None:
        copy = self.output.add_stream_from_template(template)
        copy.metadata.update(_kept(template.metadata))
        copy.disposition = template.disposition
        self.copies[template.index] = copy

    def _writable(self, frame: VideoFrame) -> VideoFrame:
        """The frame in the encoder's format and size, its memory ours alone; side data such as captions stay on it."""
        assert self.encoder is not None
        context = self.encoder.codec_context
        same_format = frame.format.name.replace("yuvj", "yuv") == context.pix_fmt
        if (frame.width, frame.height) == (context.width, context.height) and frame.format.name == context.pix_fmt:
            frame.make_writable()
            return frame
        cropped = frame.width - context.width in (0, 1) and frame.height - context.height in (0, 1)
        if same_format and cropped:
            result = VideoFrame(context.width, context.height, context.pix_fmt or "yuv420p")
            dtype = np.uint8 if bit_depth_of(frame) == 8 else np.uint16
            for index in range(3):
                fill_plane(result, index, plane_view(frame, index, dtype))
        else:
            space = SWS_SPACE[color_space_of(frame)]
            full = is_full_range(frame)
            result = self.scaler.reformat(
                frame,
                width=context.width,
                height=context.height,
                format=context.pix_fmt,
                src_colorspace=space,
                dst_colorspace=space,
                src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG if full and not is_rgb(frame) else ColorRange.MPEG,
                interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
                threads=1,
            )
        result.colorspace, result.color_primaries, result.color_trc = color_tags(frame)
        result.color_range = context.color_range
        return result

    def _apply(self, frame: VideoFrame, time_s: float) -> None:
        depth = bit_depth_of(frame)
        dtype = np.uint8 if depth == 8 else np.uint16
        planes = [plane_view(frame, index, dtype) for index in range(3)]
        before = YUVFrame(
            y=planes[0],
            u=planes[1],
            v=planes[2],
            bit_depth=depth,
            full_range=frame.color_range == FULL,
            time_s=time_s,
            color_space=color_space_of(frame),
            orientation=self.orientation,
            pixel_aspect=float(self.opened.sample_aspect),
            index=self.count,
            key=frame.key_frame,
        )
        after = self.edit(before)
        for plane, edited in zip(planes, (after.y, after.u, after.v), strict=True):
            if edited is not plane:
                np.copyto(plane, edited)


def _default_codec(opened: Opened, frame: VideoFrame, container: str) -> VideoCodec:
    codec = _FAMILIES.get(opened.stream.codec_context.codec.canonical_name, "h264")
    if codec == "vp9" and bit_depth_of(frame) > 8:
        codec = "av1"
    taken = _CONTAINERS.get(container, ())
    return codec if not taken or codec in taken else taken[0]
