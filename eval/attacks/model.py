"""What an attack is made of: the clip, the edit of its frames, and how the result is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from typing import Literal

import numpy as np

from eval.attacks.color import rgb_of
from genwm.errors import EncodeError, InputError
from genwm.video import Planes, VideoCodec, read_planes, write_image, write_video

# Frames and their rate -> frames and their rate; the frames that come out may be made one by one as they are asked for.
Edit = Callable[[Sequence[Planes], Fraction, np.random.Generator], tuple[Iterable[Planes], Fraction]]


Kind = Literal["codec", "geometry", "photometry", "time", "overlay", "chain", "regeneration", "estimation"]


@dataclass(frozen=True, kw_only=True)
class Encode:
    """A real encode with one thread. ``preset`` None is that of :func:`genwm.video.write_video` (x264 and x265 medium,
    SVT-AV1 8); ``gop_s`` is the longest distance of key frames in seconds, None the encoder's own. ``bitrate_kbps``
    takes the place of ``crf``: a mean rate in 1000 bits a second, in one pass, with a buffer of two seconds."""

    codec: VideoCodec
    crf: float | None = None
    preset: str | None = None
    gop_s: float | None = None
    bitrate_kbps: int | None = None
    bit_depth: Literal[8, 10] = 8
    chroma: Literal["4:2:0", "4:4:4"] = "4:2:0"

    def write(self, frames: Iterable[Planes], fps: Fraction) -> BytesIO:
        """The bytes of a file at ``fps`` frames a second, in the codec's usual container."""
        file = BytesIO()
        write_video(
            file,
            frames,
            fps=fps,
            codec=self.codec,
            crf=self.crf,
            preset=self.preset,
            gop=None if self.gop_s is None else max(1, round(self.gop_s * fps)),
            bit_depth=self.bit_depth,
            chroma=self.chroma,
            options=self._rate(),
            threads=1,
        )
        file.seek(0)
        return file

    def _rate(self) -> dict[str, str]:
        if self.bitrate_kbps is None:
            return {}
        rate = f"{self.bitrate_kbps}k"
        # FFmpeg's encoders take a CRF of -1 for "none given".
        return {"crf": "-1", "b": rate, "maxrate": rate, "bufsize": f"{2 * self.bitrate_kbps}k"}


@dataclass(frozen=True, kw_only=True)
class Still:
    """The middle frame as a JPEG (4:2:0, as sites store it) or WebP image of this quality."""

    quality: int
    format: Literal["jpeg", "webp"] = "jpeg"

    def write(self, frames: Iterable[Planes], fps: Fraction) -> BytesIO:
        frames = list(frames)
        if not frames:
            raise EncodeError("Expected at least one frame for a still image, got none; pass some frames")
        file = BytesIO()
        write_image(file, rgb_of(frames[len(frames) // 2]), format=self.format, quality=self.quality)
        file.seek(0)
        return file


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What an attacker has who can mark: ``same`` marks frames as the clip is marked (its key and payload), ``other``
    with a key and payload of his own; ``original`` gives the clip's frames without a mark."""

    same: Callable[[Iterable[Planes]], Iterator[Planes]]
    other: Callable[[Iterable[Planes]], Iterator[Planes]]
    original: Callable[[], Iterable[Planes]]


@dataclass(eq=False)
class Clip:
    """Frames of one even size at a constant rate, with what was encoded from them so far (attacks share encodes).
    ``maker`` is needed by attacks that mark by themselves."""

    frames: Sequence[Planes]
    fps: Fraction
    maker: Maker | None = None
    _encoded: dict[Encode, bytes] = field(default_factory=dict, repr=False)

    def encoded(self, encode: Encode) -> BytesIO:
        """The whole clip in that encoding; made once."""
        if encode not in self._encoded:
            self._encoded[encode] = encode.write(self.frames, self.fps).getvalue()
        return BytesIO(self._encoded[encode])


def unchanged(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
    """The edit that does nothing."""
    return frames, fps


@dataclass(frozen=True, kw_only=True)
class Attack:
    """``id``: its name in results. ``source``: whose attack or whose definition it is. The clip is encoded as
    ``before`` and decoded again, if that is given; then it is edited; then it is stored as ``after``. ``insider``
    is the edit of an attacker who can mark. ``truth`` is what a reader should say of the geometry (``scale``,
    ``rotation`` in degrees clockwise, ``flip``, ``aspect``), as far as it does not depend on the clip. ``forges``: a
    mark that is found in the result is a false one."""

    id: str
    kind: Kind
    description: str
    source: str
    after: Encode | Still
    edit: Edit = unchanged
    before: Encode | None = None
    insider: Callable[[Maker], Edit] | None = None
    truth: Mapping[str, float] = field(default_factory=dict)
    forges: bool = False

    def apply(self, clip: Clip, rng: np.random.Generator) -> BytesIO:
        """The attacked clip as the bytes of a file, positioned at its start. Errors: those of write_video; InputError
        (the clip's ``maker`` is needed and missing)."""
        if self.insider is not None:
            if clip.maker is None:
                raise InputError(f"Expected a clip with its maker for {self.id}, got none; pass Clip(..., maker=...)")
            edited, fps = self.insider(clip.maker)(clip.frames, clip.fps, rng)
            return self.after.write(edited, fps)
        if self.edit is unchanged and self.before is None and isinstance(self.after, Encode):
            return clip.encoded(self.after)
        frames = clip.frames
        if self.before is not None:
            frames = list(read_planes(clip.encoded(self.before), threads=1))
        edited, fps = self.edit(frames, clip.fps, rng)
        return self.after.write(edited, fps)


def each(change: Callable[[Planes], Planes]) -> Edit:
    """The edit that changes every frame alike."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        return map(change, frames), fps

    return edit


def chained(*edits: Edit) -> Edit:
    """One edit after the other."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        for step in edits:
            made, fps = step(frames, fps, rng)
            frames = list(made)
        return frames, fps

    return edit


def recoded(encode: Encode) -> Edit:
    """Encodes the frames and decodes them again."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        return list(read_planes(encode.write(frames, fps), threads=1)), fps

    return edit
