"""Measures of scores against labels (1 synthetic, 0 camera footage), pure functions on arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Measure = Callable[[NDArray[np.int64], Floats], float]
#: Bins of the calibration error.
BINS = 15


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: how often a synthetic clip scores above a real one, ties counted as half (Mann and
    Whitney 1947). nan where one class is missing."""
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def roc(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """False-positive and true-positive rates at every threshold, from (0, 0) to (1, 1)."""
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(values[order])), len(values) - 1]
    hits, alarms = np.cumsum(truth[order])[last], np.cumsum(~truth[order])[last]
    return np.r_[0.0, alarms / max(1, alarms[-1])], np.r_[0.0, hits / max(1, hits[-1])]


def tpr_at(labels: ArrayLike, scores: ArrayLike, rate: float) -> float | None:
    """Share of the synthetic clips above a threshold that at most ``rate`` of the real ones exceed; None where there
    are fewer than ``1 / rate`` real clips: they cannot show such a rate."""
    truth, values = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    reals = np.sort(values[~truth])[::-1]
    if len(reals) < round(1 / rate) or not truth.any():
        return None
    return float((values[truth] > reals[int(rate * len(reals) + 1e-9)]).mean())


def equal_error_rate(labels: ArrayLike, scores: ArrayLike) -> float:
    """Where the ROC curve meets the line of equal rates of both errors, linear between its points."""
    alarms, hits = roc(labels, scores)
    gap = alarms - (1 - hits)
    index = int(np.argmax(gap >= 0))
    if gap[index] == 0 or index == 0:
        return float(alarms[index])
    share = -gap[index - 1] / (gap[index] - gap[index - 1])
    return float(alarms[index - 1] + share * (alarms[index] - alarms[index - 1]))


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared difference of probability and label (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(labels, np.float64)) ** 2))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> list[tuple[int, float, float]]:
    """Clips, mean probability and share of synthetic clips in each bin of equal width that holds any."""
    truth, values = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    place = np.minimum((values * bins).astype(int), bins - 1)
    return [
        (int(inside.sum()), float(values[inside].mean()), float(truth[inside].mean()))
        for number in range(bins) if (inside := place == number).any()
    ]  # fmt: skip


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of probability and share over bins of equal width, weighed by clips
    (Naeini and others 2015)."""
    rows = reliability(labels, probabilities, bins)
    total = sum(count for count, _, _ in rows)
    return sum(count * abs(mean - share) for count, mean, share in rows) / total if total else float("nan")


def calibration_error_by_chance(
    probabilities: ArrayLike, bins: int = BINS, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Median and 95th percentile of the `calibration_error` that probabilities without any fault would show on so many
    clips, whose labels are drawn from them: a smaller error than the first cannot be shown with this sample
    (Vaicenavicius and others, AISTATS 2019)."""
    values = np.asarray(probabilities, np.float64)
    generator = np.random.default_rng(seed)
    errors = [calibration_error(generator.random(len(values)) < values, values, bins) for _ in range(draws)]
    return float(np.median(errors)), float(np.percentile(errors, 95))


def precision_at(true_rate: float, false_rate: float, prevalence: float) -> float | None:
    """Share of alarms that are right where ``prevalence`` of the clips are synthetic; None without any alarm."""
    right, wrong = true_rate * prevalence, false_rate * (1 - prevalence)
    return right / (right + wrong) if right + wrong else None


def by_group(
    measure: Measure, labels: NDArray[np.int64], scores: Floats, groups: ArrayLike, *, draws: int = 1000, seed: int = 0,
    raised: bool = False,
) -> tuple[float, float]:  # fmt: skip
    """Interval of 95 % of a measure by bootstrap over whole groups, drawn within each class: clips of one source or
    one family are no independent witnesses. Both ends nan where no draw has a value.

    ``raised``: for a measure of 0 or more that sampling itself raises, as it does a `calibration_error`. The draws then
    exceed the sample's value about as that exceeds the truth, so the upper end is mirrored about it (the basic
    interval; Davison and Hinkley 1997, 5.2) and may lie below the sample's value; the lower end is 0, for none of the
    error has to be real.
    """
    names = np.asarray(groups, np.str_)
    generator = np.random.default_rng(seed)
    members = [[np.flatnonzero((labels == label) & (names == name)) for name in np.unique(names[labels == label])]
               for label in (0, 1)]  # fmt: skip
    found = []
    for _ in range(draws):
        rows = np.concatenate([
            part[index] for part in members if part for index in generator.integers(len(part), size=len(part))
        ])  # fmt: skip
        value = measure(labels[rows], scores[rows])
        if np.isfinite(value):
            found.append(value)
    if not found:
        return float("nan"), float("nan")
    low, high = np.quantile(found, (0.025, 0.975))
    if raised:
        low, high = 0.0, max(0.0, 2 * measure(labels, scores) - low)
    return float(low), float(high)


def halves_apart(scores: ArrayLike, groups: ArrayLike, *, draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """The real-against-real floor: AUC (folded to .5 and above) between two random halves of the sources of real clips;
    median and 95th percentile. An AUC between the classes below the latter says nothing."""
    values, names = np.asarray(scores, np.float64), np.asarray(groups, np.str_)
    sources = np.unique(names)
    if len(sources) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        chosen = generator.permutation(sources)[: len(sources) // 2]
        area = auc(np.isin(names, chosen), values)
        found.append(max(area, 1 - area))
    return float(np.median(found)), float(np.quantile(found, 0.95))
