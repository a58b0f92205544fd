"""The project's own test clips: deterministic, made of NumPy alone, and moving as real footage does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from genwm.video import write_video

Frames = NDArray[np.uint8]


def scene(width: int = 320, height: int = 256, frames: int = 24, seed: int = 0, *, speed: float = 1.0) -> Frames:
    """A camera pans over soft ground with fine texture, discs and a striped box cross it, and a caption stands still.

    Returns uint8 ``(frames, height, width, 3)`` RGB; the same for the same arguments. ``speed`` 0 stands still.
    """
    rng = np.random.default_rng(seed)
    margin = 64
    ground = _ground(rng, width + 2 * margin, height + 2 * margin)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    discs = [
        (rng.uniform(0.08, 0.2) * height, rng.uniform(0, 1, 2), rng.uniform(-2, 2, 2), rng.uniform(30, 225, 3))
        for _ in range(3)
    ]
    caption = rng.integers(0, 2, (3, max(4, width // 12))).repeat(4, axis=0).repeat(3, axis=1)[:, : width // 2]
    result = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        moved = speed * index
        picture = _shifted(ground, margin + 20 * np.sin(moved / 9), margin + 1.3 * (moved % 40), height, width)
        for radius, place, velocity, colour in discs:
            y = (place[0] * height + velocity[0] * moved) % height
            x = (place[1] * width + velocity[1] * moved) % width
            edge = np.clip(radius - np.hypot(rows - y, columns - x), 0, 1)[..., None]
            picture = picture * (1 - edge) + (colour + 12 * np.sin(rows / 3)[..., None]) * edge
        top, left = height // 4, int(width * 0.6 + 2 * moved) % (width - width // 6)
        box = picture[top : top + height // 6, left : left + width // 6]
        box[:] = 70 + 110 * ((columns[: box.shape[0], : box.shape[1], None] // 4) % 2)
        under = picture[-20 : -20 + caption.shape[0], 8 : 8 + caption.shape[1]]
        under[caption[: under.shape[0], : under.shape[1]] > 0] = 235
        grain = np.random.default_rng((seed, index)).normal(0, 1.0, (height, width, 1))
        result[index] = np.clip(picture + grain, 0, 255)
    return result


def _ground(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Noise at several scales, coarse in colour and fine in brightness."""
    total = np.full((height, width, 3), (118, 112, 104), np.float32)
    for cell, brightness, colour in ((96, 30, 14), (32, 16, 8), (10, 9, 3), (4, 6, 0), (2, 4, 0)):
        shape = (height // cell + 2, width // cell + 2)
        layer = rng.normal(0, 1, (*shape, 1)) * brightness + rng.normal(0, 1, (*shape, 3)) * colour
        total += _enlarged(layer.astype(np.float32), cell)[:height, :width]
    return total


def _enlarged(grid: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Bilinear enlargement by a whole factor."""
    for axis in (0, 1):
        grid = np.moveaxis(grid, axis, 0)
        share = (np.arange(cell, dtype=np.float32) / cell)[None, :, None, None]
        blend = grid[:-1, None] * (1 - share) + grid[1:, None] * share
        grid = np.moveaxis(blend.reshape(-1, *grid.shape[1:]), 0, axis)
    return grid


def _shifted(ground: NDArray[np.float32], top: float, left: float, height: int, width: int) -> NDArray[np.float32]:
    """A window of the ground at a fractional place, bilinear."""
    row, column = int(top), int(left)
    down, right = top - row, left - column
    window = ground[row : row + height + 1, column : column + width + 1]
    window = window[:-1] * (1 - down) + window[1:] * down
    return window[:, :-1] * (1 - right) + window[:, 1:] * right


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
