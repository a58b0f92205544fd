"""One run of the benchmarks as a report: JSON, a line a figure, a page."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.speed.benchmarks import BENCHMARKS, Settings, make_clips
from eval.speed.measuring import Result
from eval.tables import versions

SCHEMA = "genwm.speed/1"


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
