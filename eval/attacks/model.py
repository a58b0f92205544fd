"""What an attack is made of: the clip, the edit of its frames, and how the result is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO

import numpy as np

from eval.attacks.color import rgb_of
from genwm.errors import EncodeError
from genwm.video import Planes, VideoCodec, read_planes, write_image, write_video

# Frames and their rate -> frames and their rate; the frames that come out may be made one by one as they are asked for.
Edit = Callable[[Sequence[Planes], Fraction, np.random.Generator], tuple[Iterable[Planes], Fraction]]


@dataclass(frozen=True, kw_only=True)
class Encode:
    """A real encode with one thread. ``preset`` None is that of :func:`genwm.video.write_video` (x264 and x265 medium,
    SVT-AV1 8); ``gop_s`` is the longest distance of key frames in seconds, None the encoder's own."""

    codec: VideoCodec
    crf: float | None = None
    preset: str | None = None
    gop_s: float | None = None

    def write(self, frames: Iterable[Planes], fps: Fraction) -> BytesIO:
        """The bytes of a file at ``fps`` frames a second, in the codec's usual container."""
        file = BytesIO()
        gop = None if self.gop_s is None else max(1, round(self.gop_s * fps))
        write_video(file, frames, fps=fps, codec=self.codec, crf=self.crf, preset=self.preset, gop=gop, threads=1)
        file.seek(0)
        return file


@dataclass(frozen=True, kw_only=True)
class Still:
    """The middle frame as a JPEG image of this quality (4:2:0, as sites store it)."""

    quality: int

    def write(self, frames: Iterable[Planes], fps: Fraction) -> BytesIO:
        frames = list(frames)
        if not frames:
            raise EncodeError("Expected at least one frame for a still image, got none; pass some frames")
        file = BytesIO()
        write_image(file, rgb_of(frames[len(frames) // 2]), format="jpeg", quality=self.quality)
        file.seek(0)
        return file


@dataclass(eq=False)
class Clip:
    """Frames of one even size at a constant rate, with what was encoded from them so far (attacks share encodes)."""

    frames: Sequence[Planes]
    fps: Fraction
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
    ``before`` and decoded again, if that is given; then it is edited; then it is stored as ``after``."""

    id: str
    description: str
    source: str
    after: Encode | Still
    edit: Edit = unchanged
    before: Encode | None = None

    def apply(self, clip: Clip, rng: np.random.Generator) -> BytesIO:
        """The attacked clip as the bytes of a file, positioned at its start. Errors: those of write_video."""
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
