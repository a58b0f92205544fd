"""Measured against claimed: tails, effective numbers of tests, and what the sample cannot show."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import beta, chi2

from detectors.search import EARLY_LOOK, LAST_LOOK
from eval import tables
from eval.false_alarms.table import Sample, read_clips, read_sample
from eval.false_alarms.trials import FAMILIES, KNOWN, OURS, ClipResult
from genwm.lattice.decision import HINT_LOG10_P, SHARES, THRESHOLD_LOG10_P
from genwm.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRow:
    """How often ``what`` had p <= 10^-k: measured against claimed. The interval is Clopper and Pearson's, 95 %; where
    ``hits`` is 0, ``high`` is 3 / n by the rule of three (95 %, one-sided). ``ratio`` is rate / 10^-k."""

    what: str
    k: int
    tests: int
    hits: int
    rate: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float

    @property
    def within_two(self) -> str:
        """Whether measured / claimed is within a factor of two of 1, by its interval alone."""
        if self.ratio_low >= 0.5 and self.ratio_high <= 2:
            return "yes"
        return "no" if self.ratio_high < 0.5 or self.ratio_low > 2 else "the sample cannot tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How many independent tests a family's best correlation is really worth, as a factor of the number it claims.

    ``tail`` is the share of the sample, the largest values, that the figure is fitted to (1: all of it); ``claimed``
    and ``effective`` are numbers of tests of the median clip.
    """

    family: str
    tail: float
    hits: int
    factor: float
    low: float
    high: float
    claimed: float
    effective: float


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion (Clopper and Pearson, Biometrika 26, 1934); rule of three where there is no hit."""
    if hits == 0:
        return 0.0, min(1.0, 3 / count) if count else 1.0
    low = float(beta.ppf(0.025, hits, count - hits + 1))
    return low, float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0


def tail_rows(what: str, log10_p: NDArray[np.float64]) -> list[TailRow]:
    """Measured against claimed at 10^-1, 10^-2, ... down to the first that the sample is too small for."""
    count = len(log10_p)
    result = []
    for k in range(1, math.floor(math.log10(count)) + 2 if count else 1):
        hits = int(np.sum(log10_p <= -k))
        low, high = clopper_pearson(hits, count)
        scale = 10.0**k
        result.append(TailRow(what=what, k=k, tests=count, hits=hits, rate=hits / count, low=low, high=high,
                              ratio=hits / count * scale, ratio_low=low * scale, ratio_high=high * scale))  # fmt: skip
    return result


def calibrations(
    family: str, exposure: NDArray[np.float64], claimed: float, *, tails: Sequence[float] = (1.0, 0.1, 0.01)
) -> list[Calibration]:
    """Fits the number of tests to ``exposure`` as from ``Sample.exposure``.

    The best of f T independent tests has an exponential exposure of rate f. The rate is estimated by maximum
    likelihood from the values below the quantile ``tail``, the others censored there; its 95 % interval is that of a
    Poisson count.
    """
    values = np.sort(exposure)
    result = []
    for tail in tails:
        hits = math.floor(tail * len(values))
        if hits < 10:
            continue
        below = values[:hits]
        total = float(below.sum() + (len(values) - hits) * below[-1])
        low, high = (float(chi2.ppf(level, 2 * count)) / (2 * total)
                     for level, count in ((0.025, hits), (0.975, hits + 1)))  # fmt: skip
        factor = hits / total
        result.append(Calibration(family=family, tail=tail, hits=hits, factor=factor, low=low, high=high,
                                  claimed=claimed, effective=factor * claimed))  # fmt: skip
    return result


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run showed. ``known`` and ``whole`` count decisions: trials, detected, inconclusive. ``method`` is whose
    reader was tried."""

    clips: int
    errors: tuple[ClipResult, ...]
    known: dict[str, int]
    whole: dict[str, int]
    tails: tuple[TailRow, ...]
    calibration: tuple[Calibration, ...]
    worst: tuple[tuple[str, int, float, str], ...]
    expected_ratio: float
    mixed: str = ""
    method: str = OURS


def summarize(rows: str | os.PathLike[str], *, worst: int = 10) -> Summary:
    """Sums up the tables of a run."""
    sample = read_sample(rows)
    claimed_p = np.isfinite(sample.log10_p)
    tails = tail_rows("decision, whole search", sample.log10_p[sample.whole & claimed_p])
    tails += tail_rows("decision, known geometries alone", sample.log10_p[~sample.whole & claimed_p])
    fitted: list[Calibration] = []
    for family in FAMILIES:
        values = sample.family_log10_p(family)
        claimed = np.array([clip.tests(family) for clip in sample.clips])
        claimed = claimed[np.isfinite(claimed)]
        if len(values):
            tails += tail_rows(family, values)
            fitted += calibrations(family, sample.exposure(family), float(np.median(claimed)))
    order = np.argsort(sample.log10_p, kind="stable")[:worst]
    listed = tuple(
        (sample.clips[sample.clip[i]].clip, int(sample.key[i]), float(sample.log10_p[i]), _loudest(sample, int(i)))
        for i in order
    )
    return Summary(
        clips=len(sample.clips),
        errors=tuple(result for result in read_clips(rows) if result.error),
        known=_counts(sample.decision[~sample.whole]),
        whole=_counts(sample.decision[sample.whole]),
        tails=tuple(tails),
        calibration=tuple(fitted),
        worst=listed,
        expected_ratio=_expected_ratio(sample, fitted),
        mixed=tables.versions_said(result.versions for result in sample.clips),
        method=next((result.method for result in sample.clips if result.method), OURS),
    )


def _counts(decision: NDArray[np.str_]) -> dict[str, int]:
    return {"trials": len(decision), **{name: int(np.sum(decision == name)) for name in ("detected", "inconclusive")}}


def _loudest(sample: Sample, row: int) -> str:
    """The family with the least p-value on the last look."""
    clip = sample.clips[sample.clip[row]]
    scores = {
        name: float(log_ndtr(-z)) + math.log(clip.tests(name) / SHARES[name])
        for name in FAMILIES
        if math.isfinite(z := float(sample.z[name][row]))
    }
    return min(scores, key=lambda name: scores[name]) if scores else ""


def _expected_ratio(sample: Sample, fitted: Sequence[Calibration]) -> float:
    """Measured over claimed of the whole decision far out in the tail, as the families' calibration predicts it: each
    one's share of the budget x its factor x the share of it that the looks which try it have. Payloads are left out."""
    factors = {item.family: item.factor for item in fitted}  # the last is the one furthest out
    looks = float(np.mean([clip.looks for clip in sample.clips])) if sample.clips else 0.0
    used = max(looks - 1, 0) / EARLY_LOOK + 1 / LAST_LOOK
    return sum(SHARES[name] * factor * (used if name in KNOWN else 1) for name, factor in factors.items())


def markdown(summary: Summary) -> str:
    """The summary for people."""
    return "\n".join(_paragraphs(summary)) + "\n"


def _paragraphs(summary: Summary) -> Iterator[str]:
    known, whole = summary.known, summary.whole
    trials = known["trials"] + whole["trials"]
    detected = known["detected"] + whole["detected"]
    yield "# False alarms on unmarked clips\n"
    if summary.method != OURS:
        yield from _of_another(summary)
        return
    yield (
        f"{counted(summary.clips, 'clip')} x random keys: {counted(whole['trials'], 'trial')} of the whole search, "
        f"{known['trials']} more at the known geometries ({', '.join(KNOWN)}). "
        f"Detections at the default threshold (10^{THRESHOLD_LOG10_P:g}): "
        f"**{detected}** of {trials}. Inconclusive (10^{HINT_LOG10_P:g}): {whole['inconclusive']} of {whole['trials']} "
        f"and {known['inconclusive']} of {known['trials']}. Clips that could not be read: {len(summary.errors)}.\n"
    )
    if summary.mixed:
        yield f"{summary.mixed}\n"
    if trials:
        yield "## What this sample can and cannot show\n"
        yield _limits(summary, trials, detected)
    yield from _measured(summary)
    if summary.calibration:
        yield "\n## Effective number of tests\n"
        yield (
            "The number of independent tests whose best would be distributed as what was measured, fitted to all "
            "values and to the largest 10 % and 1 %. Detection happens far out: a family's last row counts most.\n"
        )
        yield "| family | fitted to | claimed | effective | effective / claimed [95 %] |"
        yield "|---|---|---|---|---|"
        for item in summary.calibration:
            yield (
                f"| {item.family} | {100 * item.tail:g} % ({item.hits}) | {item.claimed:.4g} | {item.effective:.4g} | "
                f"{item.factor:.3g} [{item.low:.3g}, {item.high:.3g}] |"
            )
        yield (
            "\nFrom these factors, the shares of the budget and the looks: measured / claimed of the whole decision "
            f"far out should be {summary.expected_ratio:.2g}, payloads left out.\n"
        )
    yield "## Smallest p-values\n"
    yield "| clip | key | log10 p | loudest family |"
    yield "|---|---|---|---|"
    for clip, key, log10_p, family in summary.worst:
        yield f"| {clip} | {key} | {log10_p:.2f} | {family} |"
    yield from _unread(summary)


def _of_another(summary: Summary) -> Iterator[str]:
    """The reader of another watermark: its own decision, and its p-values if it claims any."""
    trials, detected = summary.whole["trials"], summary.whole["detected"]
    low, high = clopper_pearson(detected, trials)
    yield (
        f"{summary.clips} clips x random keys, read by {summary.method}: {trials} trials. Marks that it finds where "
        f"there are none, by its own decision: **{detected}** of {trials}, a rate of {low:.2g} to {high:.2g} (95 %). "
        f"Clips that could not be read: {len(summary.errors)}.\n"
    )
    if summary.mixed:
        yield f"{summary.mixed}\n"
    if summary.tails:
        yield from _measured(summary)
    yield from _unread(summary)


def _measured(summary: Summary) -> Iterator[str]:
    yield "## Measured against claimed\n"
    yield (
        "Share of trials with p <= 10^-k, 95 % Clopper-Pearson interval (no hit: up to 3/n, rule of three), and "
        "measured / claimed. Below 1 the p-values are cautious, above 1 they promise too much. A family's row is its "
        "own p-value on all the evidence, without its share of the error budget. Within 2x: yes where the whole "
        "interval lies between 1/2 and 2, no where it lies outside, else the sample cannot tell.\n"
    )
    yield "| p-value of | 10^-k | hits / trials | share [95 %] | measured / claimed [95 %] | within 2x |"
    yield "|---|---|---|---|---|---|"
    for row in summary.tails:
        yield (
            f"| {row.what} | 10^-{row.k} | {row.hits} / {row.tests} | {row.rate:.2g} [{row.low:.2g}, {row.high:.2g}] | "
            f"{row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}] | {row.within_two} |"
        )


def _unread(summary: Summary) -> Iterator[str]:
    if summary.errors:
        yield "\n## Clips that could not be read\n"
        yield from (f"- {result.clip}: {result.error}: {result.message}" for result in summary.errors)


def _limits(summary: Summary, trials: int, detected: int) -> str:
    whole = summary.whole["trials"]
    bound = f"at most 3 / {whole} = {3 / whole:.1e} (95 %)" if whole and not summary.whole["detected"] else (
        f"{summary.whole['detected']} / {whole}")  # fmt: skip
    depth = max((row.k for row in summary.tails if row.hits >= 10), default=0)
    rest = "" if detected else f", and at most 3 / {trials} = {3 / trials:.1e} over all trials"
    return (
        f"Counting alone, the false-alarm rate of the whole search a clip and key is {bound}{rest}; the claimed 10^-6 "
        "is beyond what counting so few trials can show. What supports it is the distribution: with at least ten hits "
        f"it is measured down to 10^-{depth} (the best-covered family), and from there on it rests on the tail of a "
        "sum of independent fair signs, which the keys are, whatever the picture. Keys are drawn anew for every clip, "
        f"so trials on one clip are independent given the clip; the {summary.clips} clips say how alike clips are, "
        "not what a clip unlike all of them would do. Trials at known geometries say nothing about crops, turns and "
        "zooms, and no trial here says anything about pictures made to deceive.\n"
    )


def write_summary(summary: Summary, path: str | os.PathLike[str]) -> None:
    """Both tables of the summary as one CSV file: measured against claimed, then effective tests."""
    header = ("table", "what", "k_or_tail", "trials", "hits", "value", "low", "high")
    lines: list[Iterable[object]] = []
    lines += [("measured/claimed", row.what, row.k, row.tests, row.hits, f"{row.ratio:.4g}", f"{row.ratio_low:.4g}",
               f"{row.ratio_high:.4g}") for row in summary.tails]  # fmt: skip
    lines += [("effective/claimed", item.family, item.tail, "", item.hits, f"{item.factor:.4g}", f"{item.low:.4g}",
               f"{item.high:.4g}") for item in summary.calibration]  # fmt: skip
    tables.rewrite(Path(path), header, lines)
