"""The benchmarks, each a function of clips and settings that yields results; and the clips."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from detectors import watermark as reader
from detectors.search import Search
from eval.speed.measuring import DECODE_RATIO, KEYS, LIMITS, Cost, Result, median, once, result, run_child, timed
from genwm.errors import GenwmError
from genwm.keys import Key, Keyring
from genwm.scenes import Frames, scene
from genwm.video import YUVFrame, edit_video, read_planes, write_video

FPS = 25
#: What verify ends with where all went well: found, not found, inconclusive.
VERIFIED = (0, 1, 3)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured: size of the clips in pixels, their lengths in seconds (``long_s`` 0: none), how often each
    time is taken (the median counts), and the frames of footage that the clips repeat."""

    width: int = 1280
    height: int = 720
    short_s: float = 10.0
    long_s: float = 60.0
    repeats: int = 5
    footage: int = 48


@dataclass(frozen=True)
class Clips:
    """What is measured on: the footage, unmarked and marked files, and the keyring with the key of the mark."""

    footage: Frames
    short: Path
    short_marked: Path
    long: Path | None
    key: Key
    env: dict[str, str]
    encode: Cost


def make_clips(folder: Path, settings: Settings) -> Clips:
    """Writes H.264 files of a moving scene, repeated to and fro, and marks the short one."""
    from genwm.marking import Mark, Marker

    footage = scene(settings.width, settings.height, settings.footage, seed=3)
    ring = Keyring(folder / "keyring.json")
    key = ring.new("speed")

    def write(name: str, seconds: float) -> Path:
        there_and_back = cycle(chain(range(len(footage)), range(len(footage) - 2, 0, -1)))
        frames = (footage[index] for index in islice(there_and_back, round(seconds * FPS)))
        write_video(folder / name, frames, fps=FPS, crf=23, preset="veryfast", gop=2 * FPS)
        return folder / name

    encode = once(lambda: write("short.mp4", settings.short_s))
    marker = Marker(Mark(key, 0x0123456789ABCDEF), settings.width, settings.height)
    edit_video(folder / "short.mp4", folder / "marked.mp4", marker.yuv, crf=23, preset="veryfast")
    return Clips(
        footage=footage,
        short=folder / "short.mp4",
        short_marked=folder / "marked.mp4",
        long=write("long.mp4", settings.long_s) if settings.long_s else None,
        key=key,
        env={"GENWM_KEYRING": str(ring.path)},
        encode=encode / round(settings.short_s * FPS),
    )


def embedding(clips: Clips, settings: Settings) -> Iterator[Result]:
    """Milliseconds a frame on one core, beside decoding and encoding the same frame."""
    import torch

    from genwm.marking import Mark, Marker, mark_frames

    mark = Mark(clips.key, 1)
    planes = list(read_planes(clips.short, max_frames=8, threads=1))
    stored = [
        YUVFrame(y=one.y, u=one.u, v=one.v, bit_depth=8, full_range=one.full_range, time_s=one.time_s) for one in planes
    ]
    rgb = torch.from_numpy(clips.footage[:8].transpose(0, 3, 1, 2).copy()).float() / 255
    marker = Marker(mark, settings.width, settings.height)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        decode = timed(lambda: list(read_planes(clips.short, max_frames=50, threads=1)), repeats=settings.repeats) / 50
        costs = {
            "embed.yuv": timed(lambda: [marker.yuv(one) for one in stored], repeats=settings.repeats) / len(stored),
            "embed.planes": timed(lambda: [marker.planes(one) for one in planes], repeats=settings.repeats)
            / len(planes),
            "embed.rgb": timed(lambda: marker.rgb(rgb), repeats=settings.repeats) / len(rgb),
            "embed.mark-frames": timed(lambda: mark_frames(rgb, mark), repeats=settings.repeats) / len(rgb),
        }
    finally:
        torch.set_num_threads(before)
    yield _milliseconds("decode", decode, "one thread, planes as the detector takes them")
    yield _milliseconds("encode", clips.encode, "x264 veryfast, two threads, conversion from RGB included")
    notes = {
        "embed.yuv": "a stored frame, as genwm embed does",
        "embed.planes": "8-bit 4:2:0 planes",
        "embed.rgb": f"float32 {tuple(rgb.shape)}",
        "embed.mark-frames": f"the same, with the making of tile and pattern shared by {len(rgb)} frames",
    }
    for name, cost in costs.items():
        yield _milliseconds(name, cost, notes[name])
        ratio = cost.cpu_s / decode.cpu_s, cost.cpu_s / (decode.cpu_s + clips.encode.cpu_s)
        yield result(f"{name}.over-decode", "x", cost.wall_s / decode.wall_s, ratio[0])
        yield result(f"{name}.over-transcode", "x", cost.wall_s / (decode.wall_s + clips.encode.wall_s), ratio[1])


def _milliseconds(name: str, cost: Cost, note: str) -> Result:
    return result(name, "ms a frame", 1000 * cost.wall_s, 1000 * cost.cpu_s, note)


class _Meter:
    """What the searches inside read_watermark cost."""

    def __init__(self) -> None:
        self.cost = Cost(0.0, 0.0)
        self.looks = 0


@contextmanager
def _metered() -> Iterator[_Meter]:
    meter, look = _Meter(), Search.look

    def counted(self: Any, *args: Any, **options: Any) -> bool:
        found = False

        def examine() -> None:
            nonlocal found
            found = look(self, *args, **options)

        cost = once(examine)
        meter.cost = Cost(meter.cost.wall_s + cost.wall_s, meter.cost.cpu_s + cost.cpu_s)
        meter.looks += 1
        return found

    with patch.object(Search, "look", counted):
        yield meter


def verification(clips: Clips, settings: Settings) -> Iterator[Result]:
    """read_watermark: what it costs beside its searches, over decoding alone the same frames; the searches; and the
    whole of it, less what decoding may take."""
    searches: dict[tuple[str, int], Cost] = {}
    for name, path in (("unmarked", clips.short), ("marked", clips.short_marked)):
        for count in (1, KEYS):
            # The right key comes last, and unmarked clips have none.
            keys = [*(Key.generate(f"other-{number}") for number in range(count - 1)), clips.key]
            beyond: list[Cost] = []
            rest: list[Cost] = []
            search: list[Cost] = []
            decode: list[Cost] = []
            for repeat in range(settings.repeats + 1):
                whole, meter, frames = _read(path, keys)
                looks = meter.looks
                alone = _decode(path, looks, frames)
                if repeat:  # the first warms up
                    beyond.append(whole - DECODE_RATIO * alone)
                    rest.append(whole - meter.cost)
                    search.append(meter.cost)
                    decode.append(alone)
            searches[name, count] = median(search)
            yield result(f"verification.{name}" + (".keys" if count > 1 else ""), "s", *median(beyond),
                         f"reading and search with {count} keys, less {DECODE_RATIO} x decoding alone")
            if count == 1:
                one, other = median(rest), median(decode)
                note = f"{frames} frames, {looks} looks, without the search"
                yield result(f"read.{name}", "s", one.wall_s, one.cpu_s, note)
                yield result(f"decode-alone.{name}", "s", other.wall_s, other.cpu_s, "the same frames")
                yield result(f"read.{name}.over-decode", "x", one.wall_s / other.wall_s, one.cpu_s / other.cpu_s)
    one, many = searches["unmarked", 1], searches["unmarked", KEYS]
    further = (many - one) / (KEYS - 1)
    yield result("search.one-key", "s", one.wall_s, one.cpu_s, "unmarked: every look, the whole search")
    yield result("search.further-key", "s", further.wall_s, further.cpu_s, f"from {KEYS} keys")
    yield result("search.marked", "s", *searches["marked", 1], "one key")
    yield result("search.marked.keys", "s", *searches["marked", KEYS], f"{KEYS} keys, the last one right")


def _read(path: Path, keys: Sequence[Key]) -> tuple[Cost, _Meter, int]:
    """The whole cost of one read, that of its searches, and the frames that it used."""
    frames = 0

    def read() -> None:
        nonlocal frames
        frames = reader.read_watermark(path, keys=keys).frames_read

    with _metered() as meter:
        return once(read), meter, frames


def _decode(path: Path, looks: int, frames: int) -> Cost:
    """The cost of decoding what a read with so many looks has read, and doing nothing with it."""

    def decode() -> None:
        info, keys = reader.opened(path, 2, reader.KEY_FRAMES, [])
        for _ in keys:
            pass
        if looks > 1:
            for _ in islice(reader.stretches(path, info, 2, reader.FRAME_BUDGET, []), frames):
                pass

    return once(decode)


def cold_starts(clips: Clips, settings: Settings) -> Iterator[Result]:
    """Seconds of whole processes, and their memory."""
    genwm = [sys.executable, "-m", "genwm"]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "help": [*genwm, "--help"],
        "verify.unmarked": [*genwm, "verify", "--json", str(clips.short)],
        "verify.marked": [*genwm, "verify", "--json", str(clips.short_marked)],
    }
    for name, command in commands.items():
        try:
            statuses = VERIFIED if "verify" in command else (0,)
            children = [run_child(command, env=clips.env, statuses=statuses) for _ in range(settings.repeats)]
        except GenwmError as error:
            yield Result(name=name, unit="s", limit=LIMITS.get(name), error=str(error))
            continue
        yield result(name, "s", *median(child.cost for child in children), f"exit status {children[0].status}")
        yield result(f"memory.{name}", "MB", max(child.memory_mb for child in children))


def memory(clips: Clips, settings: Settings) -> Iterator[Result]:
    """Largest resident memory of verify and embed on the short and the long clip; and the seconds that they took."""
    for length, seconds, path in (("short", settings.short_s, clips.short), ("long", settings.long_s, clips.long)):
        if path is None:
            continue
        target = path.with_name(f"embedded-{length}.mp4")
        for command, rest in (("verify", ["--json", str(path)]), ("embed", [str(path), str(target), "--json"])):
            name = f"memory.{command}.{length}"
            try:
                statuses = VERIFIED if command == "verify" else (0,)
                child = run_child([sys.executable, "-m", "genwm", command, *rest], env=clips.env, statuses=statuses)
            except GenwmError as error:
                yield Result(name=name, unit="MB", limit=LIMITS[name], error=str(error))
                continue
            yield result(name, "MB", child.memory_mb, note=f"{seconds:g} s of {settings.width}x{settings.height}")
            yield result(f"time.{command}.{length}", "s", *child.cost, "once, cold")
        target.unlink(missing_ok=True)


BENCHMARKS: dict[str, Callable[[Clips, Settings], Iterator[Result]]] = {
    "embedding": embedding,
    "verification": verification,
    "cold": cold_starts,
    "memory": memory,
}
