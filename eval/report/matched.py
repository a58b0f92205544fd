"""Robustness at the same visibility: other methods against ours, at the quality that they have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.intervals import of_share
from eval.methods import Lattice, method_id
from eval.quality.running import OURS
from eval.report.measures import Value, by_clip, by_method, mean
from eval.robustness import Row

Axis = Literal["jod_fhd", "jod_4k", "rgb_psnr"]
COLUMNS = ("jod_fhd", "jod_4k", "rgb_psnr", "luma_psnr", "ssim", "msssim", "vmaf", "flicker", "bdrate")
ByClip = dict[str, float]


def quality_by_method(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, Value]]:
    """Means over clips of each measure by method id, with intervals; only clips that all methods were measured on."""
    return {
        method: {column: mean(list(clips.values())) for column, clips in columns.items()}
        for method, columns in _quality(rows).items()
    }


def _quality(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, ByClip]]:
    """Each measure by method and by clip, of the clips that every method has it of, but for those that have it of
    none."""
    groups: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        if not row["error"]:
            name = Lattice().name if row["method"] == OURS else row["method"]
            profile = row["profile"] or "soft"
            groups[method_id(name, row["strength"], profile)][row["clip"]] = row
    clips = set.intersection(*(set(members) for members in groups.values())) if groups else set()
    result: dict[str, dict[str, ByClip]] = {method: {} for method in groups}
    for column in COLUMNS:
        having = {method: {clip for clip in clips if members[clip].get(column)} for method, members in groups.items()}
        common = sorted(set.intersection(*(some for some in having.values() if some))) if any(having.values()) else []
        for method, members in groups.items():
            values = {clip: float(members[clip][column]) for clip in common if having[method]}
            if values and all(math.isfinite(value) for value in values.values()):
                result[method][column] = values
    return result


@dataclass(frozen=True, kw_only=True)
class Match:
    """One other method beside ours at its quality: ``ours`` says how that was had, None where ours is always more
    visible. ``quality`` is in the axis' unit (JOD or dB); the others are shares in [0, 1], whose intervals of 95 % by
    clip know that the qualities vary with the clips as well."""

    method: str
    quality: float
    present: Value
    exact: Value
    ours: str | None
    our_present: Value | None
    our_exact: Value | None

    def flat(self) -> dict[str, object]:
        """The fields, an interval's ends as two more: ``present``, ``present_low``, ``present_high``."""
        found: dict[str, object] = {}
        for name, value in vars(self).items():
            ends = {f"{name}_{end}": getattr(value, end) for end in ("low", "high")} if isinstance(value, Value) else {}
            found |= {name: value.value if isinstance(value, Value) else value, **ends}
        return found


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A method's quality, and the shares found and exact, by clip."""

    method: str
    quality: ByClip
    present: ByClip
    exact: ByClip


def matches(rows: Sequence[Row], quality: Sequence[dict[str, str]], axis: Axis) -> list[Match]:
    """Each other method of the rows that has a quality, against ours by straight lines between our strengths. Where
    ours is less visible in all its strengths, its strongest is taken: better quality, not the same."""
    levels = _quality(quality)
    ours, others = list[_Subject](), list[_Subject]()
    for method, members in by_method(rows).items():
        mine = method.startswith(f"{Lattice().name}.")
        level = levels.get(method.removesuffix(".majority"), {}).get(axis)
        if level and not (mine and method.endswith(".luma")):
            present, exact = by_clip(members, lambda row: row.right_key), by_clip(members, lambda row: row.exact)
            subject = _Subject(method=method, quality=level, present=present, exact=exact)
            (ours if mine else others).append(subject)
    ours.sort(key=lambda one: _mean(one.quality))
    return [_match(one, ours) for one in others] if ours else []


def _match(other: _Subject, ours: Sequence[_Subject]) -> Match:
    at, least, most = (_mean(one.quality) for one in (other, ours[0], ours[-1]))
    said: str | None = "between our strengths"
    if at > most:
        said = None
    elif at <= least:
        said = f"{ours[0].method}, which is less visible ({least:.2f})"
    clips = sorted(set(other.present).union(*(one.present for one in ours)))
    shares, left = _shares(other, ours), np.array([_shares(other, ours, without=clip) for clip in clips])
    present, exact, our_present, our_exact = map(_value, shares, left.T)
    return Match(
        method=other.method,
        quality=at,
        present=present,
        exact=exact,
        ours=said,
        our_present=None if said is None else our_present,
        our_exact=None if said is None else our_exact,
    )


def _shares(other: _Subject, ours: Sequence[_Subject], *, without: str = "") -> tuple[float, float, float, float]:
    """The other method's shares found and exact, and ours at its quality, over all clips but one."""
    at, *levels = (_mean(one.quality, without) for one in (other, *ours))
    order = np.argsort(levels)

    def ours_at(shares: Sequence[float]) -> float:
        return float(np.interp(at, np.array(levels)[order], np.array(shares)[order]))

    return (
        _mean(other.present, without),
        _mean(other.exact, without),
        ours_at([_mean(one.present, without) for one in ours]),
        ours_at([_mean(one.exact, without) for one in ours]),
    )


def _mean(values: Mapping[str, float], without: str = "") -> float:
    """The mean over all clips but one, or over that one where there is no other."""
    return float(np.mean([value for clip, value in values.items() if clip != without] or list(values.values())))


def _value(share: float, left: NDArray[np.float64]) -> Value:
    """A share with its interval, its variance by the jackknife: (n - 1) / n times the sum of squares of the ``(n,)``
    shares with one clip ``left`` out, about their mean. Of a mean that is the usual variance.

    J. W. Tukey, Bias and confidence in not quite large samples, Annals of Mathematical Statistics 29 (1958); B. Efron,
    R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 11."""
    low, high = of_share(share, (len(left) - 1) * float(left.var()), len(left))
    return Value(value=share, low=low, high=high)
