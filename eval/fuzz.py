"""Damaged files of every container and codec, scanned as uploads are: does every file get a record, in time?

``python -m eval.fuzz --count 5000 --out docs/results/scan-fuzz.csv`` makes a tiny marked clip in each format, damages
copies of it at random (seeded: the same files on every run with the same versions), and scans them in a pool of
workers under the limits of ``genwm scan``. The summary says what the records were; a missing record, a worker that did
not answer in time, or the end of this process would be a fault of the scanner. The classifier needs ``--frames 12`` or
more to judge what survives.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detectors.scan import Pool, Settings
from eval.tables import rewrite, versions
from genwm.commands.embed import mark_file
from genwm.commands.telling import say
from genwm.keys import Key
from genwm.marking import Mark
from genwm.scenes import scene
from genwm.video import read_rgb, write_video
from genwm.video.encoding import same_priority

#: Muxer, suffix, encoder, pixel format. Stills are muxers of single pictures; what FFmpeg cannot read, animated WebP
#: and JPEG in TIFF, is Pillow's.
FORMATS: tuple[tuple[str, str, str, str], ...] = (
    ("mp4", "mp4", "libx264", "yuv420p"), ("mp4", "mp4", "libx265", "yuv420p"), ("mp4", "mp4", "libsvtav1", "yuv420p"),
    ("mp4", "mp4", "mpeg4", "yuv420p"), ("mov", "mov", "prores_ks", "yuv422p10le"),
    ("mov", "mov", "libx264", "yuv444p"), ("mov", "mov", "mjpeg", "yuvj420p"), ("mov", "mov", "png", "rgb24"),
    ("ipod", "m4v", "libx264", "yuv420p"), ("matroska", "mkv", "ffv1", "yuv420p"),
    ("matroska", "mkv", "libx264", "yuv420p10le"), ("matroska", "mkv", "mpeg2video", "yuv420p"),
    ("webm", "webm", "libvpx-vp9", "yuv420p"), ("webm", "webm", "libvpx", "yuv420p"),
    ("webm", "webm", "libsvtav1", "yuv420p10le"), ("avi", "avi", "mpeg4", "yuv420p"),
    ("avi", "avi", "mjpeg", "yuvj420p"), ("avi", "avi", "ffv1", "yuv444p"), ("mpegts", "ts", "libx264", "yuv420p"),
    ("mpegts", "ts", "libx265", "yuv420p"), ("mpegts", "ts", "mpeg2video", "yuv420p"),
    ("mpeg", "mpg", "mpeg2video", "yuv420p"), ("flv", "flv", "flv", "yuv420p"), ("flv", "flv", "libx264", "yuv420p"),
    ("asf", "wmv", "wmv2", "yuv420p"), ("mxf", "mxf", "mpeg2video", "yuv422p"), ("nut", "nut", "ffv1", "yuv420p"),
    ("ivf", "ivf", "libvpx-vp9", "yuv420p"), ("obu", "obu", "libsvtav1", "yuv420p"),
    ("h264", "h264", "libx264", "yuv420p"), ("hevc", "hevc", "libx265", "yuv420p"), ("rm", "rm", "rv20", "yuv420p"),
    ("dv", "dv", "dvvideo", "yuv420p"), ("gif", "gif", "gif", "rgb8"), ("apng", "apng", "apng", "rgb24"),
    ("yuv4mpegpipe", "y4m", "wrapped_avframe", "yuv420p"), ("image2", "png", "png", "rgb24"),
    ("image2", "jpg", "mjpeg", "yuvj420p"), ("image2", "webp", "libwebp", "yuv420p"),
    ("image2", "bmp", "bmp", "bgr24"), ("image2", "tiff", "tiff", "rgb24"),
    ("webp", "webp", "pillow", "rgb24"), ("tiff", "tiff", "pillow", "rgb24"),
)  # fmt: skip
COLUMNS = ("container", "codec", "outcome", "files", "classified", "slowest_s")
_KEY = Key("fuzz", bytes(range(32)), "2026-01-31T12:00:00+00:00")
_WIDTH, _HEIGHT = 320, 256


@dataclass(frozen=True, slots=True)
class Sample:
    """A whole file in one format."""

    container: str
    codec: str
    suffix: str
    content: bytes


@dataclass(slots=True)
class Outcomes:
    """What became of the files, by (container, codec, outcome): how many, how many of them the classifier judged, and
    seconds of the slowest."""

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    classified: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    slowest_s: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def add(self, sample: Sample, outcome: str, seconds: float, *, classified: bool = False) -> None:
        name = (sample.container, sample.codec, outcome)
        self.counts[name] += 1
        self.classified[name] += classified
        self.slowest_s[name] = max(seconds, self.slowest_s.get(name, 0.0))

    def rows(self) -> Iterator[tuple[object, ...]]:
        for name, count in sorted(self.counts.items()):
            yield *name, count, self.classified[name], round(self.slowest_s[name], 2)


def samples(frame_count: int = 6) -> tuple[list[Sample], list[str]]:
    """A tiny marked clip in every format that this build can write, and the formats that it cannot."""
    frames = _marked_frames(frame_count)
    made, missing = [], []
    with tempfile.TemporaryDirectory() as folder:
        for container, suffix, codec, layout in FORMATS:
            path = Path(folder) / f"sample.{suffix}"
            try:
                _encode(path, frames, container, codec, layout)
                made.append(Sample(container, codec, suffix, path.read_bytes()))
            except (av.FFmpegError, ValueError) as error:
                missing.append(f"{container}/{codec}: {error}")
    return made, missing


def damaged(content: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """One to four random wounds."""
    wounded = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
        if not wounded:
            break
        dice.choice(_WOUNDS)(wounded, others, dice)
    return bytes(wounded)


def fuzz(
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    frame_count: int = 6,
    folder: Path | None = None,
    tell: Callable[[int], None] | None = None,
) -> Outcomes:
    """Scans ``count`` damaged files, spread evenly over the formats. Every file is made, scanned and deleted.

    ``folder`` keeps files whose record is a crash or a limit, for a closer look. Errors: those of `Pool`; TimeoutError
    where no record comes; AssertionError where it is one of another file.
    """
    whole, _ = samples(frame_count)
    others = [sample.content for sample in whole]
    outcomes = Outcomes()
    settings = Settings(keys=(_KEY,), timeline=True, pictures=2)
    with tempfile.TemporaryDirectory() as scratch, Pool(settings, workers) as pool:
        for number in range(count):
            sample = whole[number % len(whole)]
            dice = random.Random(f"{seed}/{number}")  # a file can be made again by its number alone
            path = Path(scratch) / f"{number}.{sample.suffix}"
            path.write_bytes(damaged(sample.content, others, dice))
            started = time.monotonic()
            record = pool.submit(path).result(timeout=2 * settings.limits.time_s + 60).record
            seconds = time.monotonic() - started
            assert record.input.path == str(path), f"expected a record of {path}, got one of {record.input.path}"
            outcome = record.verdict if record.error is None else record.error.code
            score = record.synthetic
            outcomes.add(sample, outcome, seconds,
                         classified=score is not None and score.false_positive_rate is not None)
            if folder is not None and outcome in _STRIKING:
                folder.mkdir(parents=True, exist_ok=True)
                path.rename(folder / f"{outcome}-{path.name}")
            else:
                path.unlink()
            if tell is not None:
                tell(number + 1)
    return outcomes


_STRIKING = {"internal", "decoder-crashed", "worker-killed", "worker-failed", "time-limit", "memory-limit"}


def _span(wounded: bytearray, dice: random.Random) -> tuple[int, int]:
    # Headers decide more than pictures: half of all wounds are near the start or the end, where they are.
    near = min(len(wounded), 600)
    start = dice.choice((dice.randrange(len(wounded)), dice.randrange(near), len(wounded) - 1 - dice.randrange(near)))
    return start, min(len(wounded), start + dice.choice((1, 2, 4, 16, 256, 4096)))


def _cut(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    del wounded[dice.randrange(len(wounded)) :]


def _flip(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    for _ in range(dice.choice((1, 4, 32))):
        wounded[_span(wounded, dice)[0]] ^= 1 << dice.randrange(8)


def _overwrite(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    start, stop = _span(wounded, dice)
    filler = dice.choice((bytes(stop - start), b"\xff" * (stop - start), dice.randbytes(stop - start)))
    wounded[start:stop] = filler


def _remove(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    start, stop = _span(wounded, dice)
    del wounded[start:stop]


def _repeat(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    start, stop = _span(wounded, dice)
    wounded[start:start] = wounded[start:stop] * dice.choice((1, 2, 16))


def _number(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    """A length, count or size that lies."""
    start = _span(wounded, dice)[0]
    size = dice.choice((1, 2, 4, 8))
    value = dice.choice((0, 1, (1 << (8 * size)) - 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1))
    wounded[start : start + size] = value.to_bytes(size, dice.choice(("big", "little")))


def _graft(wounded: bytearray, others: Sequence[bytes], dice: random.Random) -> None:
    """A piece of another format."""
    other = dice.choice(others)
    start = dice.randrange(len(other))
    wounded[_span(wounded, dice)[0] :] = other[start : start + 8192]


_WOUNDS: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    _cut, _flip, _flip, _overwrite, _remove, _repeat, _number, _number, _graft,
)  # fmt: skip


def _marked_frames(count: int) -> list[NDArray[np.uint8]]:
    """RGB frames uint8 ``(height, width, 3)`` with a strong mark: a scan of what survives has something to find."""
    with tempfile.TemporaryDirectory() as folder:
        plain, marked = Path(folder) / "plain.mkv", Path(folder) / "marked.mkv"
        write_video(plain, scene(_WIDTH, _HEIGHT, count), fps=25, codec="ffv1")
        mark_file(plain, marked, Mark(_KEY, 0x0123456789ABCDEF, strength="strong"), verify=False)
        return [frame for _, frame in read_rgb(marked)]


def _encode(path: Path, frames: Sequence[NDArray[np.uint8]], container: str, codec: str, layout: str) -> None:
    """Writes the frames in a format, two key frames among them."""
    if codec == "pillow":
        first, *others = map(Image.fromarray, frames)
        if container == "tiff":
            first.save(path, compression="jpeg")
        else:
            first.save(path, save_all=True, append_images=others)
        return
    still = container == "image2"
    options = {"update": "1"} if still else {}
    with av.open(str(path), "w", format=container, container_options=options) as output:
        size = (720, 576) if codec == "dvvideo" else (_WIDTH, _HEIGHT)
        stream = output.add_stream(codec, rate=Fraction(25), options={"threads": "1", **_FAST.get(codec, {})})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, layout, 4
        for number, pixels in enumerate(frames[:1] if still else frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(*size, format=layout)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            with same_priority():  # the first frame opens the encoder
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


_FAST = {"libx264": {"preset": "veryfast"}, "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
         "libsvtav1": {"preset": "10", "svtav1-params": "lp=1"}, "libvpx-vp9": {"deadline": "realtime"}}


@click.command()
@click.option("--count", type=click.IntRange(1), default=5000, show_default=True, help="Damaged files to scan.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other files.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Reading processes.")
@click.option("--frames", type=click.IntRange(1), default=6, show_default=True,
              help="Frames of each clip; the classifier judges 12 and more.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file of the summary.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for files that crashed a worker or hit a limit.")
def main(count: int, seed: int, workers: int, frames: int, out: Path, keep: Path | None) -> None:
    """Scan damaged files of every container and codec, and count what became of them."""
    started = time.monotonic()
    whole, missing = samples(frames)
    for line in missing:
        say(f"not written by this build: {line}")

    def tell(done: int) -> None:
        if done % 100 == 0:
            say(f"{done} of {count} after {time.monotonic() - started:.0f} s")

    outcomes = fuzz(count, seed=seed, workers=workers, frame_count=frames, folder=keep, tell=tell)
    rewrite(out, COLUMNS, outcomes.rows())
    click.echo(f"{outcomes.counts.total()} files in {len(whole)} formats, "
               f"{outcomes.classified.total()} judged by the classifier, {time.monotonic() - started:.0f} s, "
               f"slowest {max(outcomes.slowest_s.values()):.1f} s; {versions('av', 'python')}")


if __name__ == "__main__":
    main()
