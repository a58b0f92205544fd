"""Robustness at the same visibility: other methods against ours, at the quality that they have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.methods import Lattice, method_id
from eval.quality.running import OURS
from eval.report.measures import Overall, Value, mean

Axis = Literal["jod_fhd", "jod_4k", "rgb_psnr"]


def quality_by_method(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, Value]]:
    """Means over clips of each measure by method id, with intervals; only clips that all methods were measured on."""
    groups: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        if not row["error"]:
            name = Lattice().name if row["method"] == OURS else row["method"]
            profile = row["profile"] or "soft"
            groups[method_id(name, row["strength"], profile)][row["clip"]] = row
    clips = set.intersection(*(set(members) for members in groups.values())) if groups else set()
    result: dict[str, dict[str, Value]] = {}
    for method, members in groups.items():
        result[method] = {}
        for column in ("jod_fhd", "jod_4k", "rgb_psnr", "luma_psnr", "ssim", "msssim", "vmaf", "flicker", "bdrate"):
            values = [float(members[clip][column]) for clip in sorted(clips) if members[clip].get(column)]
            if values and all(math.isfinite(value) for value in values):
                result[method][column] = mean(values)
    return result


@dataclass(frozen=True, kw_only=True)
class Match:
    """One other method beside ours at its quality: ``ours`` says how that was had, None where ours is always more
    visible. ``quality`` is in the axis' unit (JOD or dB); shares in [0, 1]."""

    method: str
    quality: float
    present: float
    exact: float
    ours: str | None
    our_present: float | None
    our_exact: float | None


def matches(overall: Sequence[Overall], quality: dict[str, dict[str, Value]], axis: Axis) -> list[Match]:
    """Each other method that has a quality, against ours by straight lines between our strengths. Where ours is less
    visible in all its strengths, its strongest is taken: better quality, not the same."""
    ours = [
        (quality[one.method][axis].value, one)
        for one in overall
        if one.method.startswith(f"{Lattice().name}.")
        and not one.method.endswith(".luma")
        and axis in quality.get(one.method, {})
    ]
    ours.sort(key=lambda point: point[0])
    result = []
    for one in overall:
        base = one.method.removesuffix(".majority")
        if one.method.startswith(f"{Lattice().name}.") or axis not in quality.get(base, {}) or not ours:
            continue
        at = quality[base][axis].value
        levels = [level for level, _ in ours]
        said: str | None = "between our strengths"
        if at > levels[-1]:
            said = None
        elif at <= levels[0]:
            said = f"{ours[0][1].method}, which is less visible ({levels[0]:.2f})"
        present = float(np.interp(at, levels, [point.present.value for _, point in ours]))
        exact = float(np.interp(at, levels, [point.exact.value for _, point in ours]))
        result.append(
            Match(
                method=one.method,
                quality=at,
                present=one.present.value,
                exact=one.exact.value,
                ours=said,
                our_present=None if said is None else present,
                our_exact=None if said is None else exact,
            )
        )
    return result
