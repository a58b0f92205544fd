"""How a scan of many files does: memory, throughput by workers, cost over its detectors alone, and kill -9.

``python -m eval.scanning many --files 1000 --out docs/results/scan-many.json``: files a second and memory over a run.
``python -m eval.scanning cost --out docs/results/scan-cost.json``: CPU of a scan over that of its parts alone.
``python -m eval.scanning kills --kills 10 --out docs/results/scan-kills.json``: is anything lost or repeated?
``python -m eval.scanning workers --out docs/results/scan-workers.json``: files a second by workers and engine.
``python -m eval.scanning decoding --out docs/results/scan-decoding.json``: how often a scan opens and decodes a file.

The files are copies of a few clips of 5 s and 480 lines, a third of them marked, each with bytes of its own where no
reader looks, so that none counts as a duplicate.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from detectors.record import Record
from detectors.scan import Settings, scan
from detectors.scan.pool import cores
from detectors.scan.settings import DETECTORS
from detectors.scan.single import examine
from eval.tables import put, versions
from genwm.commands.embed import mark_file
from genwm.keys import Key, Keyring
from genwm.marking import Mark
from genwm.scenes import scene
from genwm.video import decoding as video_decoding
from genwm.video import read_planes, write_video

_KEY_NAME = "bench"
_SECONDS, _FPS, _WIDTH, _HEIGHT = 5, 25, 854, 480


def make_files(
    folder: Path, count: int, key: Key, *, seconds: float = _SECONDS, size: tuple[int, int] = (_WIDTH, _HEIGHT)
) -> list[Path]:
    """``count`` MP4 files of three clips, the first of them marked with ``key``."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = []
    for seed in range(3):
        path = folder / f"clip-{seed}.mp4"
        write_video(path, scene(*size, round(seconds * _FPS), seed), fps=_FPS, crf=23, preset="veryfast")
        if seed == 0:
            mark_file(path, folder / "marked.mp4", Mark(key, 1))
            path = (folder / "marked.mp4").replace(path)
        contents.append(path.read_bytes())
        path.unlink()
    files = []
    for number in range(count):
        files.append(folder / f"{number:05d}.mp4")
        own = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        files[-1].write_bytes(contents[number % 3] + own)
    return files


@click.group()
def main() -> None:
    """Measure scans of many files."""


@main.command()
@click.option("--files", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def many(files: int, workers: int, out: Path) -> None:
    """Scan many files with the command, watching the memory of all its processes."""
    with _workplace() as (folder, key):
        make_files(folder / "files", files, key)
        command = _command(folder, "--workers", workers)
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        samples = list(_memory(process))
        seconds = time.monotonic() - started
        assert process.stdout is not None
        summary = json.loads(process.stdout.read())
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        paths = _paths(folder / "records.jsonl")
    quarter = max(1, len(samples) // 4)
    early = statistics.median(total for total, _ in samples[quarter : 2 * quarter])
    late = statistics.median(total for total, _ in samples[-quarter:])
    _write(out, {
        "files": files, "clip": f"{_SECONDS} s, {_WIDTH} x {_HEIGHT}, H.264", "workers": workers,
        "detectors": [name for name in DETECTORS if Settings(keys=(key,)).asks(name)],
        "exit_status": process.returncode, "records": len(paths), "different_paths": len(set(paths)),
        "verdicts": summary["verdicts"], "wall_s": round(seconds, 1), "files_per_s": round(files / seconds, 3),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "files_per_cpu_s": round(files / (usage.ru_utime + usage.ru_stime), 3),
        "peak_mib": round(max(total for total, _ in samples) / 2**20, 1),
        "median_mib_second_quarter": round(early / 2**20, 1), "median_mib_last_quarter": round(late / 2**20, 1),
        "parent_mib_first_and_last": [round(samples[quarter][1] / 2**20, 1), round(samples[-1][1] / 2**20, 1)],
    })  # fmt: skip


@main.command()
@click.option("--files", type=click.IntRange(1), default=12, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def cost(files: int, repeats: int, out: Path) -> None:
    """CPU seconds of scanning files with one worker, over those of decoding and of each detector alone."""
    with _workplace() as (folder, key):
        paths = make_files(folder / "files", files, key)
        rounds = [_costs(folder, paths, key, number) for number in range(repeats)]
    parts = {name: statistics.median(one[name] for one in rounds) / files for name in rounds[0]}
    _write(out, {
        "files": files, "repeats": repeats, "clip": f"{_SECONDS} s, {_WIDTH} x {_HEIGHT}, H.264",
        "cpu_s_per_file": {name: round(value, 4) for name, value in parts.items()},
        "scan_over_detectors": round(parts["scan"] / _alone(parts), 3),
        "scan_over_decode_and_detectors": round(parts["scan"] / (parts["decode"] + _alone(parts)), 3),
        "scan_over_detectors_by_repeat": [round(one["scan"] / _alone(one), 3) for one in rounds],
    })  # fmt: skip


def _alone(parts: dict[str, float]) -> float:
    """The detectors' own sum, their decoding included."""
    return sum(parts.get(name, 0.0) for name in ("watermark", "classifier", "manifest"))


@main.command()
@click.option("--files", type=click.IntRange(1), default=24, show_default=True)
@click.option("--workers", "counts", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--engine", "engines", multiple=True, type=click.Choice(["local", "ray"]), default=("local", "ray"))
@click.option("--out", type=click.Path(path_type=Path), required=True)
def workers(files: int, counts: Sequence[int], engines: Sequence[str], out: Path) -> None:
    """Files a second by engine and number of workers, the start of the command (and of Ray) included."""
    rows = []
    with _workplace() as (folder, key):
        make_files(folder / "files", files, key)
        for engine in engines:
            for count in counts:
                name = f"{engine}-{count}"
                options = ["--workers", count, "--engine", engine]
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                started = time.monotonic()
                result = subprocess.run(_command(folder, *options, journal=name), capture_output=True, text=True,
                                        check=False)  # fmt: skip
                seconds = time.monotonic() - started
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                summary = json.loads(result.stdout.splitlines()[-1])
                assert summary["files"] == files, result.stderr
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                # Of Ray's processes most are not this command's children, so their CPU is not in the sum.
                rows.append({"engine": engine, "workers": count, "wall_s": round(seconds, 1),
                             "files_per_s": round(files / seconds, 3),
                             "cpu_s_per_file": round(cpu / files, 3) if engine == "local" else None})
    _write(out, {"files": files, "clip": f"{_SECONDS} s, {_WIDTH} x {_HEIGHT}, H.264", "rows": rows})


def _costs(folder: Path, paths: Sequence[Path], key: Key, number: int) -> dict[str, float]:
    """CPU seconds of all files: decoded once as a whole; looked at by each detector, which decodes for itself what it
    needs; and scanned.

    ``start`` is what the command takes for a file that is not there: the interpreter, imports, one worker.
    """
    from detectors.watermark import read_watermark

    settings = Settings(keys=(key,))
    scan(paths[0], settings)  # imports and tables, which are no file's cost
    parts = {"decode": _each(paths, lambda path: sum(1 for _ in read_planes(path, threads=1)))}
    parts["watermark"] = _each(paths, lambda path: read_watermark(path, keys=settings.keys, threads=1))
    if settings.asks("synthetic"):
        from detectors.synthetic import classify, load_model

        model = load_model(threads=1)
        parts["classifier"] = _each(paths, lambda path: classify(path, model=model, threads=1))
    if settings.asks("provenance"):
        from genwm.provenance import read

        parts["manifest"] = _each(paths, read)
    parts["start"] = _cpu_of(_command(folder, "--workers", 1, paths=["none.mp4"], journal=f"start-{number}.jsonl"))
    parts["scan_with_start"] = _cpu_of(_command(folder, "--workers", 1, journal=f"scan-{number}.jsonl"))
    parts["scan"] = parts["scan_with_start"] - parts["start"]
    return parts


def _each(paths: Sequence[Path], work: Callable[[Path], object]) -> float:
    before = time.process_time()
    for path in paths:
        work(path)
    return time.process_time() - before


def _cpu_of(command: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@main.command()
@click.option("--files", type=click.IntRange(1), default=150, show_default=True)
@click.option("--kills", "wanted", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def kills(files: int, wanted: int, seed: int, out: Path) -> None:
    """Kill a scan with SIGKILL at random moments, go on each time, and look for lost and repeated records."""
    dice = random.Random(seed)
    killed_at: list[dict[str, Any]] = []
    with _workplace() as (folder, key):
        made = make_files(folder / "files", files, key, seconds=1, size=(456, 256))
        journal = folder / "records.jsonl"
        changed = 0
        for number in range(wanted):
            before = journal.read_bytes() if journal.exists() else b""
            process = subprocess.Popen(_command(folder, "--resume"), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            # A moment at random: of the starting, or of the files that this tenth of the run is to reach.
            goal = files * (number + 1) * 0.9 / wanted * dice.random() ** 0.3
            while process.poll() is None and _lines(journal) < goal:
                time.sleep(0.002)
            time.sleep(dice.random() * 0.5)
            alive = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            content = journal.read_bytes() if journal.exists() else b""
            whole = before[: before.rfind(b"\n") + 1]
            changed += not content.startswith(whole)
            torn = bool(content) and not content.endswith(b"\n")
            killed_at.append({"was_running": alive, "records": content.count(b"\n"), "torn": torn})
        last = subprocess.run(_command(folder, "--resume"), capture_output=True, text=True, check=False)
        paths = _paths(journal)
        summary = json.loads(last.stdout)
    _write(out, {
        "files": files, "kills": killed_at, "kills_while_running": sum(bool(one["was_running"]) for one in killed_at),
        "final_exit_status": last.returncode, "records": len(paths),
        "lost": len({str(path) for path in made} - set(paths)), "repeated": len(paths) - len(set(paths)),
        "journal_rewritten": changed, "verdicts": summary["verdicts"],
    })  # fmt: skip


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
def decoding(out: Path) -> None:
    """Containers opened and frames decoded by one scan, for clips of 5 and 20 s with near and far key frames."""
    rows = []
    with _workplace() as (folder, key):
        for seconds, gop in ((5, 250), (20, 50), (20, 250)):
            plain, marked = folder / "plain.mp4", folder / "marked.mp4"
            frames = scene(_WIDTH, _HEIGHT, seconds * _FPS)
            write_video(plain, frames, fps=_FPS, crf=23, preset="veryfast", gop=gop)
            mark_file(plain, folder / "lossless.mkv", Mark(key, 1), codec="ffv1", overwrite=True, verify=False)
            with read_planes(folder / "lossless.mkv") as reader:
                write_video(marked, reader, fps=_FPS, crf=23, preset="veryfast", gop=gop)
            for path, pages in ((plain, False), (marked, False), (marked, True)):
                settings = Settings(keys=(key,), timeline=pages, pictures=6 if pages else 0)
                with _counted() as counts:
                    record = examine(path, settings).record
                rows.append({"seconds": seconds, "frames": len(frames), "frames_a_key_frame": gop, "pages": pages,
                             "verdict": record.verdict, "opened": counts["opened"], "decoded": counts["decoded"]})
    _write(out, {"clip": f"{_WIDTH} x {_HEIGHT}, {_FPS} frames a second, H.264", "scans": rows})


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Counts files that readers open, and frames that come out of their decoder, wanted or not. What the classifier
    encodes and reads again in memory does not count."""
    counts: Counter[str] = Counter()
    plain = video_decoding._frames

    def counted(opened: Any, keys_only: bool) -> Iterator[Any]:
        on_disk = os.path.exists(opened.name)
        counts["opened"] += on_disk
        for frame in plain(opened, keys_only):
            counts["decoded"] += on_disk and frame is not None
            yield frame

    video_decoding._frames = counted
    try:
        yield counts
    finally:
        video_decoding._frames = plain


@contextmanager
def _workplace() -> Iterator[tuple[Path, Key]]:
    """A folder with a keyring of its own, used by this process and its children."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["GENWM_KEYRING"] = str(Path(name) / "keyring.json")
        yield Path(name), Keyring.load().new(_KEY_NAME)


def _command(folder: Path, *options: object, paths: Sequence[str] = (), journal: str = "records.jsonl") -> list[str]:
    code = "import sys; from genwm import cli; sys.exit(cli.run(sys.argv[1:]))"
    what = paths or [str(folder / "files")]
    return [sys.executable, "-c", code, "scan", *what, "-o", str(folder / journal), "--json", *map(str, options)]


def _memory(process: subprocess.Popen[bytes]) -> Iterator[tuple[int, int]]:
    """Proportional bytes of memory, once a second until the process ends: of it and its children, and of it alone."""
    while process.poll() is None:
        sizes = {pid: _proportional(pid) for pid in [process.pid, *_children(process.pid)]}
        if total := sum(sizes.values()):
            yield total, sizes[process.pid]
        time.sleep(1)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    except OSError:
        return []


def _proportional(pid: int) -> int:
    """Bytes resident, a share of what is shared; resident bytes where that is not told."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _paths(journal: Path) -> list[str]:
    return [Record.from_json(line).input.path for line in journal.read_bytes().splitlines()]


def _write(out: Path, result: dict[str, Any]) -> None:
    result |= {"cores": cores(), "load_average": [round(value, 1) for value in os.getloadavg()],
               "versions": versions("av", "numpy", "python")}
    put(out, json.dumps(result, indent=1) + "\n")
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
