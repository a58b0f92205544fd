"""Rows of a quality run as a page of Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from eval.methods import is_foreign
from eval.quality.measures import JOD_FRAMES
from eval.quality.running import OURS, VALUES, Row, failures
from eval.tables import versions_said
from genwm.text import counted

# What each strength must reach (at least): (mean, every clip).
BARS: Mapping[str, Mapping[str, tuple[float | None, float | None]]] = {
    "invisible": {"jod_fhd": (9.85, None)},
    "balanced": {"luma_psnr": (45.0, None), "vmaf": (97.0, 95.0), "jod_fhd": (9.70, 9.50), "jod_4k": (9.88, 9.80)},
    "strong": {"jod_fhd": (9.40, None)},
}
DIGITS = {
    **{"luma_psnr": 2, "rgb_psnr": 2, "ssim": 4, "msssim": 4, "vmaf": 2, "vmaf_identity": 2},
    **{"jod_fhd": 3, "jod_4k": 3, "flicker": 3, "bdrate": 2},
}


def summary(rows: Sequence[Row]) -> str:
    """Markdown: each measure's mean and worst by method; bars with what misses them; the same over the clips that all
    methods share with nothing failed; failures. Rows as of `read_rows`."""
    good = [row for row in rows if not row["error"]]
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in good:
        size = f"at most {row['lines']} lines" if row["lines"] else ""
        groups.setdefault((row["method"], row["strength"], row["profile"], size), []).append(row)
    groups = dict(sorted(groups.items(), key=lambda item: (item[0][0] != OURS, item[0])))
    mixed = versions_said(row["versions"] for row in good)
    parts = ["# Quality of marked frames\n", _conditions(good), f"\n{mixed}\n" if mixed else ""]
    parts += ["\n## All clips measured\n", _table(groups)]
    if len(groups) > 1:
        whole = ({row["clip"] for row in members if not row["failed"]} for members in groups.values())
        shared = set.intersection(*whole)
        common = {name: [row for row in members if row["clip"] in shared] for name, members in groups.items()}
        if shared and any(len(common[name]) < len(members) for name, members in groups.items()):
            parts += [f"\n## The {counted(len(shared), 'clip')} that all of them were measured on\n", _table(common)]
    for (method, strength, profile, size), members in groups.items():
        if method == OURS and profile == "colour" and strength in BARS:
            parts += [f"\n## Bars of `{strength}`{f', {size}' if size else ''}\n", _bars(members, BARS[strength])]
    failed = [f"- {row['clip']} ({row['method']}): {told}\n" for row in rows for told in failures_said(row)]
    return "".join([*parts, "\n## Not measured\n", *failed] if failed else parts)


def failures_said(row: Row) -> list[str]:
    """What of a row could not be measured: each metric that failed, or the error that came before any."""
    told = [f"{metric}: {what}" for metric, what in failures(row).items()]
    return told or ([f"{row['error']}: {row['message']}"] if row["error"] else [])


def _conditions(rows: Sequence[Row]) -> str:
    foreign = sorted({row["method"] for row in rows if is_foreign(row["method"])})
    planes, are = " and ".join([OURS, *foreign]), "are" if foreign else "is"
    frames = max((int(row["frames"]) for row in rows), default=0)
    return (
        f"\nAt most the first {frames} frames of each clip; RGB PSNR, ColorVideoVDP (1:1 pixels, the clip's own frame "
        f"rate) and everything about methods other than {planes} on the first {JOD_FRAMES}. PSNR is in dB and of the "
        "mean squared error over all frames; VMAF's value for identical frames stands beside it; 10 JOD is identical; "
        "flicker is in 8-bit levels, the BD-rate of x264 in percent. "
        f"{planes} {are} measured after rounding to 8 bits and 4:2:0, the others as the RGB frames that they return.\n"
    )


def _table(groups: Mapping[tuple[str, ...], Sequence[Row]]) -> str:
    values = [name for name in VALUES if any(_numbers(members, name) for members in groups.values())]
    head = ["method", "clips", *(f"{name} mean / worst" for name in values)]
    lines = [head, ["---"] * len(head)]
    for name, members in groups.items():
        cells = [" ".join(part for part in name if part), str(len(members))]
        for column in values:
            found = _numbers(members, column)
            digits = DIGITS[column]
            worst = max if column in ("flicker", "bdrate") else min
            count = "" if len(found) == len(members) else f" ({counted(len(found), 'clip')})"
            cells.append(f"{_mean(found):.{digits}f} / {worst(found):.{digits}f}{count}" if found else "")
        lines.append(cells)
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _bars(rows: Sequence[Row], bars: Mapping[str, tuple[float | None, float | None]]) -> str:
    lines = [["measure", "mean", "bar", "worst", "bar", "clips under it", "lowest clips"]]
    lines.append([*["---"] * (len(lines[0]) - 1), ":---"])
    for column, (mean_bar, worst_bar) in bars.items():
        ranked = sorted((float(row[column]), row["clip"]) for row in rows if row[column])
        if not ranked:
            continue
        digits, values = DIGITS[column], [value for value, _ in ranked]
        mean = _mean(values)
        under = sum(value < worst_bar for value in values) if worst_bar is not None else 0
        lines.append(
            [
                column,
                f"{mean:.{digits}f}",
                "" if mean_bar is None else f"{mean_bar:g}: {'met' if mean >= mean_bar else 'MISSED'}",
                f"{values[0]:.{digits}f}",
                "" if worst_bar is None else f"{worst_bar:g}: {'MISSED' if under else 'met'}",
                "" if worst_bar is None else f"{under} of {len(values)}",
                ", ".join(f"{clip} {value:.{digits}f}" for value, clip in ranked[:3]),
            ]
        )
    return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _numbers(rows: Sequence[Row], column: str) -> list[float]:
    return [float(row[column]) for row in rows if row[column]]


def _mean(values: Sequence[float]) -> float:
    return math.inf if math.inf in values else statistics.fmean(values)
