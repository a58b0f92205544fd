"""What stands beside a robustness run: the quality of the same methods on the same clips, and what they cost."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from eval import tables
from eval.corpus import Video
from eval.methods import Lattice, known_method
from eval.quality import Settings, read_rows, run
from eval.quality.running import OURS
from eval.report.measures import of
from eval.robustness import Row
from eval.speed.measuring import run_child
from genwm.commands.telling import say
from genwm.errors import GenwmError, InputError

COST_FRAMES = 8
STEPS = ("mark", "read")


def quality_path(out: Path) -> Path:
    return out.with_suffix(".quality.csv")


def cost_path(out: Path) -> Path:
    return out.with_suffix(".cost.csv")


def measure_beside(
    out: Path, videos: Sequence[Video], rows: Sequence[Row], *, lines: int | None, processes: int = 1
) -> None:
    """Measures ColorVideoVDP, PSNR, SSIM and flicker of every method in the rows on those clips, and memory and time of
    marking and reading, each method in a process of its own. What is there already is kept."""
    methods = {name: method for name in dict.fromkeys(map(of, rows)) if (method := known_method(name))}
    cost(out, videos, rows)
    folder = str(videos[0].path).removesuffix(videos[0].id) if videos else ""
    others = dict.fromkeys(
        name.removesuffix(".majority") for name, method in methods.items() if not isinstance(method, Lattice)
    )
    for method in methods.values():
        if isinstance(method, Lattice):
            _quality(out, videos, (OURS,), lines, processes, folder, method)
    if others:
        _quality(out, videos, tuple(others), lines, processes, folder, Lattice())


def _quality(
    out: Path,
    videos: Sequence[Video],
    methods: tuple[str, ...],
    lines: int | None,
    processes: int,
    folder: str,
    subject: Lattice,
) -> None:
    settings = Settings(
        strength=subject.strength,  # type: ignore[arg-type]
        profile=subject.profile,  # type: ignore[arg-type]
        metrics=("psnr", "ssim", "flicker", "jod"),
        frames=24,
        lines=lines,
        videos=folder,
    )
    run(
        videos,
        quality_path(out),
        methods=methods,
        settings=settings,
        processes=processes,
        on_row=lambda row: say(f"quality {row['method']} {row['strength']} {row['clip']}: {row['seconds']} s"),
    )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one step of a method took in a process of its own, over one clip: seconds by the wall clock and of
    processor time (the start of the process and reading or writing the frames without loss included), and the largest
    resident memory in MB (10^6 bytes). ``sha256`` is the clip's `Video.content`, empty where unknown."""

    method: str
    step: str
    clip: str
    frames: int
    wall_s: float
    cpu_s: float
    memory_mb: float
    versions: str = ""
    error: str = ""
    sha256: str = ""


COST_COLUMNS = tuple(field.name for field in fields(Cost))
_COST_ADDED = ("sha256",)  # since the first tables


def cost(out: Path, videos: Sequence[Video], rows: Sequence[Row]) -> list[Cost]:
    """The costs in ``OUT.cost.csv`` of the methods in the rows: each measured on the first clip that the method could
    be measured on, where it is not there yet."""
    path = cost_path(out)
    if path.exists() and not tables.has_columns(path, COST_COLUMNS):
        tables.rewrite(path, COST_COLUMNS, (asdict(one).values() for one in read_costs(out)))
    tables.prepare(path, COST_COLUMNS)
    done = {(one.method, one.step) for one in measured_costs(out, rows) if not one.error}
    for method in dict.fromkeys(map(of, rows)):
        good = _without_error(rows, method)
        video = next((video for video in videos if video.id in good and good[video.id] in ("", video.content)), None)
        if video is None or known_method(method) is None or all((method, step) in done for step in STEPS):
            continue
        with tempfile.TemporaryDirectory() as folder:
            # Reading needs what marking has written, so a kill leaves rows of both steps or of none.
            measured = [_cost(method, step, video, Path(folder) / "marked.mkv") for step in STEPS]
        tables.append(path, (asdict(one).values() for one in measured))
    return measured_costs(out, rows)


def measured_costs(out: Path, rows: Sequence[Row]) -> list[Cost]:
    """The costs in ``OUT.cost.csv`` of methods in the rows, on clips that these could be measured on: what stops at a
    clip costs nothing that is worth knowing. Another file of the same name is another clip."""
    good = {name: _without_error(rows, name) for name in dict.fromkeys(map(of, rows))}

    def is_good(one: Cost) -> bool:
        clips = good.get(one.method, {})
        return one.clip in clips and (not one.sha256 or clips[one.clip] in ("", one.sha256))

    return [one for one in read_costs(out) if is_good(one)]


def _without_error(rows: Sequence[Row], method: str) -> dict[str, str]:
    """The clips on which a method has a row without an error, each with its `Row.sha256`."""
    return {row.clip: row.sha256 for row in rows if not row.error and of(row) == method}


def _cost(method: str, step: str, video: Video, store: Path) -> Cost:
    arguments = [sys.executable, "-m", "eval.methods.step", step, method, str(video.path), str(store), str(COST_FRAMES)]
    blank = Cost(method=method, step=step, clip=video.id, frames=COST_FRAMES, wall_s=0, cpu_s=0, memory_mb=0,
                 sha256=video.content)  # fmt: skip
    try:
        child = run_child(arguments, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    except GenwmError as error:
        return Cost(**asdict(blank) | {"error": tables.failure(error)[0], "versions": tables.versions()})
    return Cost(
        **asdict(blank)
        | {
            "wall_s": round(child.cost.wall_s, 3),
            "cpu_s": round(child.cost.cpu_s, 3),
            "memory_mb": round(child.memory_mb, 1),
            "versions": tables.versions("av", "numpy"),
        }
    )


def read_costs(out: Path) -> list[Cost]:
    """The costs in ``OUT.cost.csv``, the last of each method and step. Errors: InputError (another table)."""
    path = cost_path(out)
    refusal = InputError(f"Expected the columns of costs in {path}, got others; choose another name for the run")
    rows = {}
    for line in tables.read(path, COST_COLUMNS, refusal=refusal, added=_COST_ADDED) or ():
        numbers = {name: float(line[name]) for name in ("wall_s", "cpu_s", "memory_mb")}
        one = Cost(**line | numbers | {"frames": int(line["frames"])})  # type: ignore[arg-type]
        rows[(one.method, one.step)] = one
    return list(rows.values())


def read_quality(out: Path, span: str) -> list[dict[str, str]]:
    """The rows in ``OUT.quality.csv`` of clips in the size of a span: its lines, or their own."""
    return [row for row in read_rows(quality_path(out)) if row["lines"] == span.partition("@")[2]]
