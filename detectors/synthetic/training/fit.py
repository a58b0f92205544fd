"""Heads, fusion and calibration with scikit-learn, on folds that split neither a source nor a family of generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.fusion import CUT, Fusion, Head

Floats = NDArray[np.float64]
Rows = Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``strengths``: channels in use, each with scikit-learn's C (smaller: more regularised); ``folds``, ``repeats``:
    of the grouped cross-validation; ``seed`` shuffles the groups."""

    strengths: Mapping[str, float]
    folds: int = 8
    repeats: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
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

    def weights(self) -> Floats:
        """Both classes weigh the same in all; within one, a group of n rows weighs as sqrt(n)."""
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


def fit_head(values: Floats, labels: NDArray[np.int64], weights: Floats, strength: float) -> Head:
    """A regularised logistic regression on standardised, cut features."""
    from sklearn.linear_model import LogisticRegression

    mean = np.average(values, axis=0, weights=weights)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights)) + 1e-6
    scaled = np.clip((values - mean) / deviation, -CUT, CUT)
    model = LogisticRegression(C=strength, max_iter=500).fit(scaled, labels, sample_weight=weights)
    return Head(mean=mean, deviation=deviation, weights=model.coef_[0].astype(np.float64),
                bias=float(model.intercept_[0]))  # fmt: skip


def channel_logits(data: Data, recipe: Recipe) -> dict[str, Floats]:
    """Logits of each channel alone, ``(rows,)``, each row by heads that saw nothing of its group: the mean over the
    repeats."""
    result = {name: np.zeros(len(data)) for name in recipe.strengths}
    for repeat in range(recipe.repeats):
        folds = group_folds(data.labels, data.groups, recipe.folds, recipe.seed + repeat)
        for fold in np.unique(folds):
            inside = data.take(folds != fold)
            weights = inside.weights()
            for name, strength in recipe.strengths.items():
                head = fit_head(inside.features[name], inside.labels, weights, strength)
                result[name][folds == fold] += head.logits(data.features[name][folds == fold]) / recipe.repeats
    return result


def fit_fusion(data: Data, recipe: Recipe) -> Fusion:
    """Heads on all rows, and a logistic regression over the channels' out-of-fold logits, which calibrates them: a
    channel that would count against its own evidence is left at nothing."""
    from sklearn.linear_model import LogisticRegression

    alone = channel_logits(data, recipe)
    weights = data.weights()
    used = list(recipe.strengths)
    while True:
        inputs = np.stack([alone[name] for name in used], axis=1)
        model = LogisticRegression(C=1.0).fit(inputs, data.labels, sample_weight=weights)
        factors = dict(zip(used, map(float, model.coef_[0]), strict=True))
        if min(factors.values()) >= 0 or len(used) == 1:
            break
        used = [name for name in used if factors[name] >= 0] or used[:1]
    heads = {name: fit_head(data.features[name], data.labels, weights, recipe.strengths[name]) for name in used}
    kept = {name: max(0.0, factors[name]) for name in used}
    return Fusion(heads=heads, weights=kept, bias=float(model.intercept_[0]))


def out_of_fold(data: Data, recipe: Recipe, *, others: Sequence[Rows] = ()) -> list[Floats]:
    """Calibrated logits of every row by a whole fusion (heads, weights and calibration) that saw nothing of its group;
    then the same for ``others``: features of the same rows after other deliveries."""
    sets = [data.features, *others]
    results = [np.zeros(len(data)) for _ in sets]
    folds = group_folds(data.labels, data.groups, recipe.folds, recipe.seed + 100)
    for fold in np.unique(folds):
        fusion = fit_fusion(data.take(folds != fold), recipe)
        for features, result in zip(sets, results, strict=True):
            result[folds == fold] = fusion.logits({name: features[name][folds == fold] for name in fusion.weights})
    return results
