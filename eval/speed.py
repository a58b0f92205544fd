"""Speed and memory against their limits: marking, verifying over decoding alone, the search, cold starts.

    python -m eval.speed --out speed.json

The clips are made on the spot. Machines are shared, so every time is given twice, by the wall clock and in seconds of
processor time over all threads, and every comparison (a ratio) is measured in this one run. "Cold" is a fresh process
whose files are in the page cache.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import click

from detectors import watermark as reader
from eval.commands.telling import say, show_json, told, write_html
from eval.tables import put, versions
from genwm.errors import GenwmError
from genwm.keys import Key, Keyring
from genwm.scenes import Frames, scene
from genwm.video import YUVFrame, edit_video, read_planes, write_video

SCHEMA = "genwm.speed/1"
FPS = 25
KEYS = 5
#: What must be kept to, by the result's name.
LIMITS = {
    "embed.yuv": 10.0,
    "embed.planes": 10.0,
    "embed.rgb": 10.0,
    "read.unmarked.over-decode": 1.3,
    "read.marked.over-decode": 1.3,
    "search.one-key": 0.5,
    "search.further-key": 0.05,
    "verify.unmarked": 1.5,
    "verify.marked": 1.5,
    "help": 0.3,
    "memory.verify.short": 500.0,
    "memory.verify.long": 500.0,
    "memory.embed.short": 500.0,
    "memory.embed.long": 500.0,
}


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


class Cost(NamedTuple):
    """Seconds by the wall clock and of processor time."""

    wall_s: float
    cpu_s: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

    def __truediv__(self, count: float) -> Cost:
        return Cost(self.wall_s / count, self.cpu_s / count)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure. ``wall`` and ``cpu`` are in ``unit`` ('x' for a ratio; memory has no ``cpu``); ``met`` compares
    ``wall`` with ``limit``, ``met_cpu`` the other. ``error`` says why there is no figure."""

    name: str
    unit: str
    wall: float | None = None
    cpu: float | None = None
    limit: float | None = None
    met: bool | None = None
    met_cpu: bool | None = None
    note: str = ""
    error: str = ""


def result(name: str, unit: str, wall: float, cpu: float | None = None, note: str = "") -> Result:
    """A figure beside its limit."""
    limit = LIMITS.get(name)
    return Result(
        name=name,
        unit=unit,
        wall=round(wall, 4),
        cpu=None if cpu is None else round(cpu, 4),
        limit=limit,
        met=None if limit is None else wall <= limit,
        met_cpu=None if limit is None or cpu is None else cpu <= limit,
        note=note,
    )


# Measuring.


def timed(action: Callable[[], Any], *, repeats: int) -> Cost:
    """Median cost of ``action`` in this process, after one run that is not counted."""
    action()
    return median(_once(action) for _ in range(repeats))


def _once(action: Callable[[], Any]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(costs: Iterable[Cost]) -> Cost:
    walls, cpus = zip(*costs, strict=True)
    return Cost(statistics.median(walls), statistics.median(cpus))


class Child(NamedTuple):
    """A finished process: exit status, cost, and its largest resident memory in MB (10^6 bytes)."""

    status: int
    cost: Cost
    memory_mb: float


# A process inherits the memory mark of the one that starts it, so a small one stands between.
_LAUNCHER = """
import json, os, sys, time
null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, use = os.wait4(pid, 0)
wall = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), wall, use.ru_utime + use.ru_stime, use.ru_maxrss]))
"""


def run_child(command: Sequence[str], *, env: dict[str, str] | None = None) -> Child:
    """Runs a command to its end, its output discarded. ``command[0]`` is a path; ``env`` adds to this environment."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GenwmError(f"Expected to start {command[0]}, got '{done.stderr.strip()[-200:]}'; check the installation")
    status, wall, cpu, resident = json.loads(done.stdout.splitlines()[-1])
    if status not in (0, 1, 3):  # what verify uses besides errors
        words = " ".join(done.stderr.split())[-200:]
        raise GenwmError(f"Expected '{' '.join(command[1:5])} ...' to work, got status {status}: {words}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Child(status, Cost(wall, cpu), resident * unit / 1e6)


# Clips.


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

    encode = _once(lambda: write("short.mp4", settings.short_s))
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


# The benchmarks. Each is a function of clips and settings that yields results.


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
    meter, look = _Meter(), reader.Search.look

    def counted(self: Any, *args: Any, **options: Any) -> bool:
        found = False

        def examine() -> None:
            nonlocal found
            found = look(self, *args, **options)

        cost = _once(examine)
        meter.cost = Cost(meter.cost.wall_s + cost.wall_s, meter.cost.cpu_s + cost.cpu_s)
        meter.looks += 1
        return found

    with patch.object(reader.Search, "look", counted):
        yield meter


def verification(clips: Clips, settings: Settings) -> Iterator[Result]:
    """read_watermark: what it costs beside its searches, over decoding alone the same frames; and the searches."""
    searches: dict[tuple[str, int], Cost] = {}
    for name, path in (("unmarked", clips.short), ("marked", clips.short_marked)):
        for count in (1, KEYS):
            # The right key comes last, and unmarked clips have none.
            keys = [*(Key.generate(f"other-{number}") for number in range(count - 1)), clips.key]
            rest: list[Cost] = []
            search: list[Cost] = []
            decode: list[Cost] = []
            for repeat in range(settings.repeats + 1):
                whole, meter, frames = _read(path, keys)
                looks = meter.looks
                alone = _decode(path, looks, frames)
                if repeat:  # the first warms up
                    rest.append(whole - meter.cost)
                    search.append(meter.cost)
                    decode.append(alone)
            searches[name, count] = median(search)
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
        return _once(read), meter, frames


def _decode(path: Path, looks: int, frames: int) -> Cost:
    """The cost of decoding what a read with so many looks has read, and doing nothing with it."""

    def decode() -> None:
        info, keys = reader.opened(path, 2, reader.KEY_FRAMES, [])
        for _ in keys:
            pass
        if looks > 1:
            for _ in islice(reader.stretches(path, info, 2, reader.FRAME_BUDGET, []), frames):
                pass

    return _once(decode)


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
            children = [run_child(command, env=clips.env) for _ in range(settings.repeats)]
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
                child = run_child([sys.executable, "-m", "genwm", command, *rest], env=clips.env)
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


def run(
    settings: Settings, *, only: Sequence[str] = (), progress: Callable[[Result], None] | None = None
) -> dict[str, Any]:
    """Runs the benchmarks (all, or those named) and returns the report, ready for JSON. A benchmark that fails is a
    result with an error; the others go on. Errors: OutputError, DiskFullError (no room for the clips)."""
    started, load = time.time(), os.getloadavg()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), settings)
        for name, benchmark in BENCHMARKS.items():
            if only and name not in only:
                continue
            try:
                for item in benchmark(clips, settings):
                    results.append(item)
                    if progress:
                        progress(item)
            except Exception as error:  # one that fails must not cost the others
                results.append(Result(name=name, unit="", error=f"{type(error).__name__}: {error}"))
                if progress:
                    progress(results[-1])
    return {
        "schema": SCHEMA,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_before": load[0],
            "load_after": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": versions("av", "numpy"),
        "settings": asdict(settings),
        "results": [asdict(item) for item in results],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(item: Result) -> str:
    """A result as one line for people."""
    if item.error:
        return f"{item.name:28} failed: {item.error}"
    figures = f"{item.wall:10.3f} {item.unit}"
    cpu = "" if item.cpu is None else f" (processor {item.cpu:.3f})"
    limit = "" if item.limit is None else f", limit {item.limit:g}: {'kept' if item.met else 'MISSED'}"
    kept = " (kept in processor time)" if item.met is False and item.met_cpu else ""
    return f"{item.name:28}{figures}{cpu}{limit}{kept}{'; ' + item.note if item.note else ''}"


def markdown(report: dict[str, Any]) -> str:
    """A report as a page of Markdown, what misses its limit first."""
    machine, results = report["machine"], report["results"]
    head = ("what", "unit", "wall clock", "processor", "limit", "kept", "note")
    missed = [one for one in results if one["met"] is False or one["error"]]
    lines = [
        "# Speed and memory",
        "",
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_before']:.2f} before and "
        f"{machine['load_after']:.2f} after; Python {machine['python']}, {report['versions']}; "
        f"{', '.join(f'{name} {value:g}' for name, value in report['settings'].items())}; {report['started']}. "
        "Machines are shared, so times are given by the wall clock and in processor time over all threads; what is "
        "kept in processor time alone is said.",
        "",
    ]
    for title, rows in (("Limits that are missed, and failures", missed), ("All figures", results)):
        if rows:
            lines += [f"## {title}", "", f"| {' | '.join(head)} |", "|---|:---|---|---|---|:---|:---|"]
            lines += [f"| {' | '.join(_cells(one))} |" for one in rows]
            lines.append("")
    return "\n".join(lines)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    def figure(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    kept = "" if one["met"] is None else "yes" if one["met"] else "in processor time" if one["met_cpu"] else "no"
    note = f"failed: {one['error']}" if one["error"] else one["note"]
    figures = (figure(one[name]) for name in ("wall", "cpu", "limit"))
    return (one["name"], one["unit"], *figures, kept, note.replace("|", "/"))


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file of results; replaced.")
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Only this one; may be given again.")
@click.option("--width", default=1280, show_default=True, type=click.IntRange(64), help="Of the clip, in pixels.")
@click.option("--height", default=720, show_default=True, type=click.IntRange(64), help="Of the clip, in pixels.")
@click.option("--short-seconds", "short_s", default=10.0, show_default=True, type=click.FloatRange(1),
              help="Length of the clip that is verified, in seconds.")
@click.option("--long-seconds", "long_s", default=60.0, show_default=True, type=click.FloatRange(0),
              help="Length of the clip that memory is compared on, in seconds; 0: none.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="Times that each is measured; the median counts.")
@click.option("--html", is_flag=True, help="Also write one page (.html) beside --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@told
def speed(out: Path, only: tuple[str, ...], html: bool, as_json: bool, **options: Any) -> None:
    """Measure speed and memory on clips made on the spot; every limit that is missed is named."""
    report = run(Settings(**options), only=only, progress=lambda item: say(describe(item)))
    put(out, json.dumps(report, indent=1) + "\n")
    if html:
        write_html(out, markdown(report))
    if as_json:
        show_json(report)


if __name__ == "__main__":
    speed()
