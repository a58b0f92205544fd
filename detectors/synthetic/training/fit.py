"""Heads, fusion and calibration, on folds that split neither a source nor a family of generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.fusion import CUT, Fusion, Head

#: Weight of differences between sources or families, beside those within, in a head's covariance.
BETWEEN = 0.1
#: Share of camera footage in a head's covariance, generators' clips having the rest: a threshold lies in the tail of
#: footage, so what spreads footage costs more than what spreads synthetic clips.
FOOTAGE = 0.75
#: How far apart a channel has to set the classes, as a share of what the best channel does, to be used.
LEAST = 0.25

Floats = NDArray[np.float64]
Rows = Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``shrinkages``: channels in use, each with that of its head (see `fit_head`); ``limits``: of those whose scores
    have one (`Head.limit`); ``folds``, ``repeats``: of the grouped cross-validation; ``seed`` shuffles the groups."""

    shrinkages: Mapping[str, float]
    limits: Mapping[str, float] = field(default_factory=dict)
    folds: int = 8
    repeats: int = 2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows to fit on: ``features`` ``(rows, numbers)`` a channel, ``labels`` ``(rows,)`` (1 synthetic), ``groups``
    ``(rows,)``, and ``emphasis`` ``(rows,)``, by which a row's weight is multiplied."""

    features: Rows
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    emphasis: Floats

    @classmethod
    def of(
        cls, features: Sequence[Mapping[str, Floats]], labels: Sequence[int], groups: Sequence[str],
        emphasis: Sequence[float] | None = None,
    ) -> Data:
        """From one mapping of vectors a row."""
        return cls(
            features={name: np.stack([row[name] for row in features]) for name in features[0]},
            labels=np.asarray(labels, np.int64),
            groups=np.asarray(groups, np.str_),
            emphasis=np.ones(len(labels)) if emphasis is None else np.asarray(emphasis, np.float64),
        )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.bool_]) -> Data:
        return Data(features={name: values[rows] for name, values in self.features.items()}, labels=self.labels[rows],
                    groups=self.groups[rows], emphasis=self.emphasis[rows])  # fmt: skip

    def rows(self) -> list[dict[str, Floats]]:
        """The features of each row, a mapping each, as `of` takes them."""
        return [{name: values[index] for name, values in self.features.items()} for index in range(len(self))]

    @cached_property
    def weights(self) -> Floats:
        """Of the rows: both classes weigh the same in all; within one, a group of n rows weighs as sqrt(n)."""
        _, place, count = np.unique(self.groups, return_inverse=True, return_counts=True)
        weights = self.emphasis / np.sqrt(count[place])
        for label in (0, 1):
            weights[self.labels == label] /= max(weights[self.labels == label].sum(), 1e-9)
        return np.asarray(weights * len(self) / 2)


def group_folds(labels: NDArray[np.int64], groups: NDArray[np.str_], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, ``(rows,)``: groups whole, largest first into the fold with the fewest rows of the label,
    ties in a seeded order."""
    generator = np.random.default_rng(seed)
    result = np.zeros(len(labels), np.int64)
    for label in (0, 1):
        names, counts = np.unique(groups[labels == label], return_counts=True)
        filled = np.zeros(folds)
        for index in np.lexsort((generator.random(len(names)), -counts)):
            fold = int(np.argmin(filled + 1e-6 * generator.random(folds)))
            filled[fold] += counts[index]
            result[(groups == names[index]) & (labels == label)] = fold
    return result


def standardised(data: Data, name: str) -> tuple[Floats, Floats, Floats]:
    """Mean and deviation of one channel, weighed, and its features at that scale, cut at `CUT`."""
    values, weights = data.features[name], data.weights
    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)) + 1e-6
    return mean, deviation, np.clip((values - mean) / deviation, -CUT, CUT)


def centred(data: Data, scaled: Floats) -> tuple[Floats, list[tuple[int, float, Floats]]]:
    """Features less the centre of each row's group, and of each group its label, weight and centre."""
    rows, groups = scaled.copy(), []
    for label, group in sorted(set(zip(data.labels.tolist(), data.groups.tolist(), strict=True))):
        own = (data.labels == label) & (data.groups == group)
        centre = np.average(scaled[own], axis=0, weights=data.weights[own])
        rows[own] -= centre
        groups.append((label, float(data.weights[own].sum()), centre))
    return rows, groups


def shrunk(covariance: Floats, shrinkage: float) -> Floats:
    """Pulled towards a multiple of the identity by ``shrinkage`` in [0, 1] (Friedman 1989)."""
    level = covariance.trace() / len(covariance)
    return np.asarray((1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance)))


def fit_head(data: Data, name: str, shrinkage: float) -> Head:
    """Fisher's linear discriminant of one channel on standardised, cut features; its scores have mean 0, deviation 1.

    How clips of one source or family differ counts in full against a direction, how sources differ from one another by
    `BETWEEN` (after within-class covariance normalisation; Hatch, Kajarekar and Stolcke 2006), and how footage differs
    by `FOOTAGE`. The covariance is `shrunk`.
    """
    weights = data.weights
    mean, deviation, scaled = standardised(data, name)
    centres = [np.average(scaled[data.labels == label], axis=0, weights=weights[data.labels == label])
               for label in (0, 1)]  # fmt: skip
    rows, groups = centred(data, scaled)
    share = 2 * np.array([FOOTAGE, 1 - FOOTAGE])  # the classes' weights are the same
    apart = np.stack([np.sqrt(share[label] * weight) * (centre - centres[label]) for label, weight, centre in groups])
    within = (rows * (share[data.labels] * weights)[:, None]).T @ rows
    covariance = shrunk(within + BETWEEN * apart.T @ apart, shrinkage)
    direction = np.linalg.solve(covariance, centres[1] - centres[0])
    scores = scaled @ direction
    middle = float(np.average(scores, weights=weights))
    spread = float(np.sqrt(np.average((scores - middle) ** 2, weights=weights))) + 1e-12
    return Head(mean=mean, deviation=deviation, weights=direction / spread, bias=-middle / spread)


def channel_logits(data: Data, recipe: Recipe) -> dict[str, Floats]:
    """Logits of each channel alone, ``(rows,)``, each row by heads that saw nothing of its group: the mean over the
    repeats."""
    result = {name: np.zeros(len(data)) for name in recipe.shrinkages}
    for repeat in range(recipe.repeats):
        folds = group_folds(data.labels, data.groups, recipe.folds, recipe.seed + repeat)
        for fold in np.unique(folds):
            inside = data.take(folds != fold)
            for name, shrinkage in recipe.shrinkages.items():
                head = fit_head(inside, name, shrinkage)
                result[name][folds == fold] += head.logits(data.features[name][folds == fold]) / recipe.repeats
    return result


def calibration(scores: Floats, labels: NDArray[np.int64], weights: Floats) -> tuple[float, float]:
    """Factor, 0 or more, and constant that turn scores into calibrated logits: a logistic regression on that one
    number."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0).fit(scores[:, None], labels, sample_weight=weights)
    return max(0.0, float(model.coef_[0][0])), float(model.intercept_[0])


def fit_fusion(data: Data, recipe: Recipe) -> Fusion:
    """Heads on all rows, the sum of their scores, and a logistic regression over that sum out of fold, which calibrates
    it. A weight for each channel would be fitted to the few families that there are. A channel that sets the classes
    less than `LEAST` as far apart as the best does, out of fold, is left out."""
    alone = channel_logits(data, recipe)
    weights = data.weights
    apart = {name: float(weights * (2 * data.labels - 1) @ scores) for name, scores in alone.items()}
    used = [name for name in alone if apart[name] >= LEAST * max(apart.values())] or list(alone)[:1]
    heads = {name: replace(fit_head(data, name, recipe.shrinkages[name]), limit=recipe.limits.get(name, np.inf))
             for name in used}  # fmt: skip
    total = np.sum([heads[name].limited(alone[name]) for name in used], axis=0)
    return Fusion(heads=heads, weights=dict.fromkeys(used, 1.0), bias=0.0).calibrated(
        *calibration(total, data.labels, weights))


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Of every row, by heads that saw nothing of its group: its ``logits`` by the one calibration that the model ships
    with, and ``apart`` by one that saw nothing of its group either, which is what shows how well they are calibrated.

    Ranks are those of ``logits``. Calibrations that each left out what they judge would lower whatever is synthetic and
    raise whatever is real against the rest (Parker, Guenter and Bedo, BMC Bioinformatics 8:326, 2007).
    """

    logits: Floats
    apart: Floats


def sums_out_of_fold(data: Data, recipe: Recipe, seed: int) -> Floats:
    """The sum of the channels' limited scores, ``(rows,)``, each row by heads that saw nothing of its group. Ranks by
    it are those by the one calibration that ships, for folds that ``seed`` makes."""
    folds = group_folds(data.labels, data.groups, recipe.folds, seed)
    sums = np.zeros(len(data))
    for fold in np.unique(folds):
        inside, own = data.take(folds != fold), folds == fold
        for name, shrinkage in recipe.shrinkages.items():
            head = replace(fit_head(inside, name, shrinkage), limit=recipe.limits.get(name, np.inf))
            sums[own] += head.limited(head.logits(data.features[name][own]))
    return sums


def fit_and_judge(data: Data, recipe: Recipe, *, others: Sequence[Rows] = ()) -> tuple[Fusion, list[OutOfFold]]:
    """The fusion of all rows; what it says of each out of fold; then the same for ``others``: features of the same
    rows, or of the first of them, after other deliveries. Sums of several folds are pooled, so a channel should be used
    in all folds or in none (`LEAST`)."""
    sets = [data.features, *others]
    sums, apart = ([np.zeros(len(next(iter(features.values())))) for features in sets] for _ in range(2))
    folds = group_folds(data.labels, data.groups, recipe.folds, recipe.seed + 100)
    for fold in np.unique(folds):
        fusion = fit_fusion(data.take(folds != fold), recipe)
        factor = next(iter(fusion.weights.values()))
        for features, total, other in zip(sets, sums, apart, strict=True):
            own = folds[: len(total)] == fold
            total[own] = fusion.sums({name: features[name][own] for name in fusion.weights})
            other[own] = factor * total[own] + fusion.bias
    factor, constant = calibration(sums[0], data.labels, data.weights)
    judged = [OutOfFold(factor * total + constant, other) for total, other in zip(sums, apart, strict=True)]
    return fit_fusion(data, recipe).calibrated(factor, constant), judged
