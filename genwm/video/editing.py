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
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from av.video.stream import VideoStream

from genwm.errors import DecodeError, UnsupportedFormatError
from genwm.output import atomic_output
from genwm.video.containers import (
    CONTAINERS,
    COPIES_IN_MPEGTS,
    FAMILIES,
    LOUDSPEAKERS,
    MAC_LANGUAGES,
    NO_ROTATION,
    NOT_IN_MOV,
    SQUARE_ONLY,
    STALE_TAGS,
)
from genwm.video.encoding import (
    SQUARE,
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
from genwm.video.opening import MAX_PIXELS, Opened, is_cover, lacks_data, open_input, stops_early
from genwm.video.pixels import (
    FULL,
    SWS_SPACE,
    bit_depth_of,
    color_space_of,
    color_tags,
    display_matrix,
    fill_plane,
    hdr10_metadata,
    is_full_range,
    is_rgb,
    is_transparent,
    orientation_of,
    plane_view,
)
from genwm.video.reading import approved

log = logging.getLogger("genwm.video")

Edit = Callable[[YUVFrame], YUVFrame]

# FFmpeg's numbers of the orders of fields, as x264 takes them: which field is shown first.
_FIELDS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
_NEARLY = Fraction(1, 100)


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
    warn: Callable[[str], None] = log.warning,
    approve: Callable[[VideoInfo], None] | None = None,
    threads: int = 2,
) -> VideoInfo:
    """Streams every frame through ``edit`` and encodes the result; one frame is in memory at a time.

    ``edit`` gets a :class:`YUVFrame` whose arrays it may change in place, and returns it or one of the same shapes.
    The container follows the suffix of ``target`` (.mp4 .m4v .mov .mkv .webm .avi .ts). ``codec`` defaults to the
    input's family where the container takes it (instead of VP9 of more than 8 bits it is AV1: the encoder at hand has
    only 8).
    ``crf`` defaults to one at which the copy looks like the source: h264 16, hevc 18 (of 0 to 51), vp9 20, av1 22 (of 0
    to 63); ProRes and FFV1 have none. Carried over: every audio stream (copied, not encoded again), subtitles that the
    container takes, times of frames, rotation, sample aspect, colour tags, chapters, metadata, bit depth and chroma
    resolution as far as the codec can, but no transparency. Odd sizes lose their last row or column where the codec
    needs even ones (all but vp9 and ffv1).
    ``progress`` is called with the fraction done, ``warn`` with a sentence for each thing that is lost. ``approve`` is
    called with what :func:`probe` says about the complete file while that still has a temporary name; what it raises
    keeps the output from appearing. Returns that description, under the name of ``target``.

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
        if opened.pictures:
            raise UnsupportedFormatError(f"Expected a video that can be edited in {opened.name}, got "
                                         f"{opened.pictures.title}, which is only read; convert it to GIF or MP4")
        metadata = _kept(opened.container.metadata)
        with open_output(part, container, name, options=muxer_options(container, metadata, is_path=True)) as output:
            output.metadata.update(metadata)
            copier = _Copier(output, opened, name, edit, codec, crf, preset, warn, threads)
            for fraction in copier.run():
                if progress:
                    progress(fraction)
        info = approved(part, name, approve)
        if lost := copier.lost(part):
            warn(f"{name} cannot hold the {' and the '.join(lost)} of {opened.name}; left out")
    if progress:
        progress(1.0)
    return info


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower().split("-")[0] not in STALE_TAGS}


def _plain_names(metadata: dict[str, str]) -> set[str]:
    """The names of what is said as Matroska writes them, without the language that it is said in."""
    return {name.lower().replace(" ", "_").split("-")[0] for name, text in metadata.items() if text}


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
        warn: Callable[[str], None],
        threads: int,
    ) -> None:
        self.output, self.opened, self.name, self.edit = output, opened, name, edit
        self.codec, self.crf, self.preset, self.warn, self.threads = codec, crf, preset, warn, threads
        self.container = container_for(name)
        # From AVI to AVI there are no times to lose: those of its B-frames are FFmpeg's guesses.
        self.counts_frames = self.container == "avi" and opened.container.format.name != "avi"
        self.encoder: VideoStream | None = None
        self.orientation = UPRIGHT
        self.copies: dict[int, Stream] = {}
        self.copied_dts: dict[int, int] = {}  # of the last packet of each copy that has got one
        self.waiting: list[Packet[Any]] = []
        self.scaler = VideoReformatter()
        self.last_pts: int | None = None
        self.size: tuple[int, int] | None = None  # of the first frame, until another was told of
        self.count = 0

    def run(self) -> Iterator[float]:
        """Copies and edits to the end, yielding the fraction done after each frame."""
        duration_s, end_s = self.opened.duration_s, 0.0
        for packet in self._packets():
            # Not its own stream_index: the packet that ends a stream has none, and says 0.
            if packet.stream.index != self.opened.stream.index:
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
            self.warn(f"{self.opened.name}: {lost}; what came before was kept")
        with encoding_errors(self.name):
            self.output.mux(last_packets(self.encoder, self.count))

    def lost(self, path: str) -> list[str]:
        """What the finished output at ``path`` does not say again, in words: muxers leave it out without one."""
        with open_input(path, threads=1) as written:
            container = written.container
            chapters, names = len(container.chapters()), _plain_names(container.metadata)
            languages = [stream.metadata.get("language", "und") for stream in container.streams
                         if stream.type in ("audio", "subtitle")]  # fmt: skip
        if self.container == "mpegts":
            names.add("title")  # there as the name of the service
        missing = sorted(_plain_names(_kept(self.opened.container.metadata)) - names)
        copies = sorted(self.copies.values(), key=lambda copy: copy.index)
        if len(copies) > len(languages):  # MP4 has no track for what never came
            copies = [copy for copy in copies if copy.index in self.copied_dts]
        spoken = {copy.metadata.get("language", "und") for copy, language in zip(copies, languages, strict=False)
                  if language == "und"} - {"und"}  # fmt: skip
        return [
            *(["chapters"] if chapters < len(self.opened.container.chapters()) else []),
            *([f"metadata ({', '.join(missing)})"] if missing else []),
            *([f"languages ({', '.join(sorted(spoken))})"] if spoken else []),
        ]

    def _packets(self) -> Iterator[Packet[Any]]:
        source = self.opened.container
        copied = [*source.streams.audio, *source.streams.subtitles]
        packets = source.demux([self.opened.stream, *copied])
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # at the end PyAV trips over a stream that showed up midway
                return
            except av.FFmpegError:
                self.warn(f"{self.opened.name} ends in damaged data; what came before it was kept")
                end: Packet[Any] = Packet()
                end.stream = self.opened.stream
                yield end  # the decoder still holds frames
                return
            yield packet

    def _decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        try:
            return packet.decode()
        except av.FFmpegError:
            self.warn(f"{self.opened.name}: a damaged piece of the video was skipped")
            return []

    def _copy(self, packet: Packet[Any]) -> None:
        if packet.dts is None:
            return
        if self.encoder is None:
            self.waiting.append(packet)
            return
        copy = self.copies.get(packet.stream_index)
        if copy is not None:
            if copy.type == "audio" and self.container in ("mp4", "mov"):
                # Where packets do not say how long they are (ALAC in Matroska), the file would end before the last one.
                packet.duration = packet.duration or packet.dts - self.copied_dts.get(copy.index, packet.dts)
            self.copied_dts[copy.index] = packet.dts
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
        if self.counts_frames and frame.pts is not None and not self._keeps_time(pts, frame.pts * base):
            raise UnsupportedFormatError(
                f"Expected a container that keeps the times of frames, got {self.name}; write an .mp4 or .mkv file"
            )
        time_s = float(pts * time_base) - self.opened.start_s
        length = round(frame.duration * base / time_base)
        if self.size and self.size != (frame.width, frame.height):
            sizes = " to ".join(f"{across}x{down}" for across, down in (self.size, (frame.width, frame.height)))
            self.warn(f"{self.opened.name} goes from {sizes} at {time_s:.1f} s; {self.name} keeps its first size")
            self.size = None
        frame = self._writable(frame)
        self._apply(frame, time_s)
        frame.pts, frame.time_base, frame.duration = pts, time_base, length
        frame.pict_type = 0  # let the encoder choose
        with encoding_errors(self.name):
            self.output.mux(encoder.encode(frame))
        self.last_pts, self.count = pts, self.count + 1
        return time_s

    def _keeps_time(self, count: int, time: Fraction) -> bool:
        """Whether AVI, which counts frames, has one at its time: to half a step, and as the next one, for behind a gap
        FFmpeg reads H.264 late."""
        assert self.encoder is not None
        step = self.encoder.codec_context.time_base
        follows = self.last_pts is None or count == self.last_pts + 1
        return follows and abs(count * step - time) <= step / 2

    def _start(self, frame: VideoFrame) -> VideoStream:
        """Sets up every stream of the output."""
        opened, output, container = self.opened, self.output, self.container
        codec = self.codec or _default_codec(opened, frame, container)
        width, height = self.size = frame.width, frame.height
        if not encoder_for(codec).odd_sizes:
            width, height = width // 2 * 2, height // 2 * 2
        if min(width, height) < 1:
            raise UnsupportedFormatError(
                f"Expected a video of at least 2 x 2 for {codec}, got {frame.width} x {frame.height}; use ffv1 in .mkv"
            )
        sample_aspect = opened.sample_aspect
        if (container, codec) in SQUARE_ONLY:
            if abs(sample_aspect - 1) > _NEARLY:
                raise UnsupportedFormatError(
                    f"Expected square pixels for {codec} in {self.name}, got {sample_aspect}; write an .mp4 file"
                )
            sample_aspect = SQUARE
        rate, time_base = opened.fps or Fraction(25), opened.time_base
        if container == "avi":
            # It counts frames instead of keeping times: a fine time base would be a file of empty frames.
            rate = _nominal(rate, opened.stream.guessed_rate)
            time_base = 1 / rate
        encoder = encoder_for(codec)
        pixel_format = working_format(frame.format.name, codec)
        depth = bit_depth_of(frame)
        if VideoFormat(pixel_format).components[0].bits == 8 < depth:  # 10 of 12 cannot be seen
            self.warn(f"{self.name} has 8 bits a channel of the {depth} of {opened.name}")
        stream = add_video_stream(
            output,
            codec,
            width=width,
            height=height,
            pixel_format=pixel_format,
            rate=rate,
            time_base=time_base,
            options=encoder_options(
                codec,
                crf=encoder.faithful if self.crf is None else self.crf,
                preset=self.preset,
                gop=None,
                threads=self.threads,
                extra=self._extra_options(frame, codec, width, height),
            ),
            colors=color_tags(frame),
            full_range=is_full_range(frame) and not is_rgb(frame),
            threads=self.threads,
            sample_aspect=sample_aspect,
        )
        stream.metadata.update(_kept(opened.stream.metadata))
        stream.disposition = opened.stream.disposition
        self.orientation = orientation_of(frame)
        matrix = display_matrix(frame)
        if matrix and self.orientation != UPRIGHT:
            if container in NO_ROTATION:
                raise UnsupportedFormatError(
                    f"Expected a container that keeps rotation, got {self.name}; write an .mp4, .mov or .mkv file"
                )
            stream.set_display_matrix(matrix)
        for audio in opened.container.streams.audio:
            if audio.codec_context.layout.nb_channels:
                self._add_copy(audio)
            else:
                self.warn(f"{opened.name} announces sound that never came; left out")
        for subtitle in opened.container.streams.subtitles:
            try:
                self._add_copy(subtitle)
            except (av.FFmpegError, ValueError, UnsupportedFormatError):
                self.warn(f"{self.name} cannot hold the subtitles of {opened.name}; they were left out")
        if opened.stream.metadata.get("alpha_mode") == "1" or is_transparent(frame):
            self.warn(f"{self.name} does not keep the transparency of {opened.name}")
        if left := _left_out(opened):
            self.warn(f"{opened.name}: left out: {left}")
        chapters = opened.container.chapters()
        if chapters:
            output.set_chapters(chapters)
        return stream

    def _extra_options(self, frame: VideoFrame, codec: VideoCodec, width: int, height: int) -> dict[str, str]:
        options = lean_options(codec, width, height)
        if self.container == "avi":
            options["bf"] = "0"  # AVI cannot say that frames are out of order
        if frame.interlaced_frame:
            first = _FIELDS.get(self.opened.stream.codec_context.field_order)
            kind = frame.width, frame.height, frame.format.name  # only frames that stay as they are say which is first
            if codec == "h264" and first and kind == (width, height, working_format(frame.format.name, codec)):
                options["x264-params"] = f"{first}=1"
            else:
                self.warn(f"{self.opened.name} is interlaced; {self.name} keeps the lines but not that they are fields")
        if hdr := hdr10_metadata(frame):
            if codec == "hevc":
                options["x265-params"] = ":".join(filter(None, (options.get("x265-params"), hdr)))
            else:
                self.warn(f"{self.name}: {codec} cannot hold the HDR10 metadata here; it was left out; hevc keeps it")
        return options

    def _add_copy(self, template: Any) -> None:
        codec, container = _codec_name(template), self.container
        if (container == "mpegts" and codec not in COPIES_IN_MPEGTS) or (container == "mov" and codec in NOT_IN_MOV):
            raise UnsupportedFormatError(
                f"Expected sound that {self.name} can hold, got {codec}; write an .mkv file instead"
            )
        copy = self.output.add_stream_from_template(template)
        if template.type == "audio":
            layout = copy.codec_context.layout
            if layout.name == f"{layout.nb_channels} channels":
                copy.codec_context.layout = LOUDSPEAKERS.get(layout.nb_channels, layout.name)
        copy.metadata.update(_kept(template.metadata))
        if container == "mov" and (language := copy.metadata.get("language")) in MAC_LANGUAGES:
            copy.metadata["language"] = MAC_LANGUAGES[language]
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


def _nominal(mean: Fraction, guessed: Fraction | None) -> Fraction:
    """Frames per second: FFmpeg's guess where the mean is near it, bent only by what is cut at either end."""
    return guessed if guessed and abs(mean / guessed - 1) <= Fraction(1, 50) else mean


def _codec_name(stream: Any) -> str:
    context = stream.codec_context
    return "an unknown codec" if context is None else str(context.codec.canonical_name)


def _left_out(opened: Opened) -> str:
    """What an edited copy lacks beside the video, its sound and its subtitles, in words."""
    container = opened.container
    pictures = container.streams.video
    covers = sum(map(is_cover, pictures))
    # QuickTime keeps chapters in a data stream, and chapters are carried over.
    data = len(container.streams.data) - bool("mp4" in container.format.name and container.chapters())
    counts = {
        "further video stream": len(pictures) - covers - 1,
        "cover picture": covers,
        "attachment": len(container.streams.attachments),
        "data stream": data,
    }
    return ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items() if count > 0)


def _default_codec(opened: Opened, frame: VideoFrame, container: str) -> VideoCodec:
    codec = FAMILIES.get(opened.stream.codec_context.codec.canonical_name, "h264")
    taken = CONTAINERS.get(container, ())
    codec = codec if not taken or codec in taken else taken[0]
    return "av1" if codec == "vp9" and bit_depth_of(frame) > 8 else codec  # the encoder at hand has only 8
