"""The project's own test clips: scenes of genwm.scenes in files, with sound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from genwm.keys import Key
from genwm.scenes import Frames, scene
from genwm.video import write_video

__all__ = ["KEY", "PAYLOAD", "Frames", "add_audio", "audio_only", "make_clip", "marked", "projected", "psnr", "scene"]

KEY = Key("studio", bytes(range(32)), "2026-01-31T12:00:00+00:00")
PAYLOAD = 0x0123456789ABCDEF


def make_clip(
    path: str | os.PathLike[str],
    *,
    width: int = 320,
    height: int = 256,
    frames: int = 24,
    seed: int = 0,
    audio: bool = False,
    chapters: bool = False,
    **options: Any,
) -> Frames:
    """Writes a scene to ``path`` (``options`` go to write_video) and returns the RGB frames that it was made of.
    ``audio`` adds a stereo sine as AAC (Opus in WebM); ``chapters`` adds two chapters."""
    pictures = scene(width, height, frames, seed)
    write_video(path, pictures, **{"fps": 25, "crf": 18, "preset": "veryfast", **options})
    if audio or chapters:
        add_audio(path, duration_s=frames / 25, rotation=options.get("rotation", 0), chapters=chapters)
    return pictures


def marked(frames: Frames, payload: int = PAYLOAD, *, key: Key = KEY, **options: Any) -> Frames:
    """RGB frames uint8 ``(frames, height, width, 3)`` with a mark; ``options`` go to Mark."""
    import torch

    from genwm.marking import Mark, mark_frames

    torch.set_num_threads(1)  # threads only wait for each other on small frames

    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    result = mark_frames(tensor, Mark(key, payload, **options))
    return (result * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def projected(frames: Frames, corners: Sequence[tuple[float, float]], ground: int = 0) -> Frames:
    """Each frame with its corners moved to other places of it, by Pillow; the ground is of one grey."""
    from PIL import Image

    from genwm.lattice.perspective import homography

    height, width = frames.shape[1:3]
    back = homography(corners, [(0, 0), (width, 0), (width, height), (0, height)])
    return np.stack([
        np.asarray(Image.fromarray(frame).transform(
            (width, height), Image.Transform.PERSPECTIVE, back, Image.Resampling.BICUBIC, fillcolor=(ground,) * 3))
        for frame in frames
    ])  # fmt: skip


def add_audio(
    path: str | os.PathLike[str], *, duration_s: float, rotation: int = 0, chapters: bool = False, hertz: float = 440.0
) -> None:
    """Puts a sine beside the video of ``path``."""
    path = Path(path)
    part = path.with_name("part-" + path.name)
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path)) as source, av.open(str(part), "w", container_options=options) as output:
        picture = source.streams.video[0]
        video = output.add_stream_from_template(picture, opaque=True)
        if rotation:
            video.set_display_rotation(-rotation)
        sound = output.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000, layout="stereo")
        sound.metadata["language"] = "nld"
        output.metadata.update(source.metadata)
        if chapters:
            half = round(duration_s * 500)
            base = Fraction(1, 1000)
            output.set_chapters(
                [
                    {"id": 1, "start": 0, "end": half, "time_base": base, "metadata": {"title": "one"}},
                    {"id": 2, "start": half, "end": 2 * half, "time_base": base, "metadata": {"title": "two"}},
                ]
            )
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
        for frame in _sine(duration_s, hertz):
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    part.replace(path)


def audio_only(path: str | os.PathLike[str]) -> None:
    """Writes one second of a sine."""
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=48_000, layout="stereo")
        for frame in _sine(1.0, 440.0):
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))


def _sine(duration_s: float, hertz: float) -> Sequence[av.AudioFrame]:
    count = 1024 * round(duration_s * 48_000 / 1024)
    wave = 0.3 * np.sin(2 * np.pi * hertz * np.arange(count) / 48_000).astype(np.float32)
    frames = []
    for start in range(0, count, 1024):
        frame = av.AudioFrame.from_ndarray(np.stack([wave[start : start + 1024]] * 2), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        frames.append(frame)
    return frames


def psnr(one: NDArray[Any], other: NDArray[Any], *, peak: float = 255.0) -> float:
    """``10 log10(peak^2 / mean squared difference)`` in decibels; infinite for equal arrays."""
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(peak**2 / error))
