"""Heads, fusion, rates: NumPy at inference against scikit-learn at training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from detectors.synthetic.fusion import CUT, Fusion, Head, probability, share_as_high
from detectors.synthetic.training import fit
from detectors.synthetic.training.fit import (
    Data,
    Recipe,
    channel_logits,
    fit_and_judge,
    fit_fusion,
    fit_head,
    group_folds,
    sums_out_of_fold,
)
from detectors.synthetic.training.recipe import threshold

GENERATOR = np.random.default_rng(0)


def clips(groups: int = 12, each: int = 8, gap: float = 1.5, seed: int = 0) -> Data:
    """Two channels, of which 'signal' tells the classes apart and 'noise' only the groups."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(groups) % 2, each)
    names = np.repeat([f"g{number}" for number in range(groups)], each)
    own = np.repeat(generator.normal(size=(groups, 10)), each, axis=0)
    return Data.of(
        [{"signal": generator.normal(gap * label, 1, 3), "noise": row + generator.normal(0, 0.1, 10)}
         for label, row in zip(labels, own, strict=True)],
        labels.tolist(), names.tolist(),
    )  # fmt: skip


RECIPE = Recipe(shrinkages={"signal": 0.1, "noise": 0.1}, folds=4, repeats=1)


def test_a_head_is_scikit_learns_shrunken_discriminant_where_each_class_is_one_group() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.preprocessing import StandardScaler

    labels = np.repeat([0, 1], 40)
    values = GENERATOR.uniform(-1, 1, (80, 5)) + 0.3 * labels[:, None]
    data = Data.of([{"x": row} for row in values], labels.tolist(), ["a"] * 40 + ["b"] * 40)
    scores = fit_head(data, "x", 0.4).logits(values)
    scaled = StandardScaler().fit_transform(values)
    shares = [fit.FOOTAGE, 1 - fit.FOOTAGE]  # what scikit-learn calls priors weighs the classes' covariances
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.4, priors=shares).fit(scaled, labels)
    assert np.corrcoef(scores, model.decision_function(scaled))[0, 1] == pytest.approx(1, abs=1e-6)
    assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_what_differs_between_groups_counts_against_a_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    labels, group = np.repeat([0, 1], 60), np.tile(np.repeat(np.arange(6), 10), 2) + np.repeat([0, 6], 60)
    shifts = generator.normal(0, 4, 12)[group]
    values = np.stack([labels + shifts + generator.normal(0, 0.3, 120), labels + generator.normal(0, 1, 120)], axis=1)
    data = Data.of([{"x": row} for row in values], labels.tolist(), [f"g{number}" for number in group])
    shares = []
    for between in (0.0, 0.1, 1.0):
        monkeypatch.setattr(fit, "BETWEEN", between)
        weights = np.abs(fit_head(data, "x", 0.0).weights)
        shares.append(weights[0] / weights[1])
    assert shares == sorted(shares, reverse=True)
    assert shares[2] < 0.2 * shares[0]


def test_an_odd_number_cannot_buy_certainty() -> None:
    head = Head(mean=np.zeros(2), deviation=np.ones(2), weights=np.array([1.0, 0.0]), bias=0.0)
    assert head.logits([1e9, 0.0]) == pytest.approx(CUT)


def test_a_fusion_survives_json_and_its_contributions_add_up() -> None:
    data = clips()
    fusion = fit_fusion(data, RECIPE)
    again = Fusion.from_json(json.loads(json.dumps(fusion.to_json())))
    logits = again.logits(data.features)
    np.testing.assert_allclose(logits, fusion.logits(data.features), atol=1e-3)
    parts = again.contributions(data.features)
    np.testing.assert_allclose(sum(parts.values()) + again.bias, logits)
    means = {name: values.mean(axis=0) for name, values in data.features.items()}
    assert again.weights["signal"] > 0
    assert np.isfinite(again.logits(means))


@pytest.mark.parametrize(("logit", "chance"), [(0.0, 0.5), (2.0, 0.880797), (-2.0, 0.119203), (900.0, 1), (-900.0, 0)])
def test_probability(logit: float, chance: float) -> None:
    assert probability(logit) == pytest.approx(chance, abs=1e-6)


def test_the_rate_of_footage_that_scores_as_high_is_kept() -> None:
    """Vovk's guarantee: with calibration and test clips alike, at most t of the latter have a share of at most t."""
    shares = np.array([share_as_high(draw[0], draw[1:]) for draw in GENERATOR.normal(size=(3000, 60))])
    for rate in (0.05, 0.1, 0.3):
        assert (shares <= rate).mean() <= rate + 3 * np.sqrt(rate / 3000)
    assert share_as_high(5.0, [0.0] * 99) == pytest.approx(0.01)
    assert share_as_high(0.0, [0.0] * 99) == 1.0


def test_the_threshold_says_the_same_as_the_rate() -> None:
    reals = GENERATOR.normal(size=150)
    for rate in (0.01, 0.05, 0.2):
        bar = threshold(reals, rate)
        assert share_as_high(bar, reals) <= rate
        assert share_as_high(float(np.nextafter(bar, -np.inf)), reals) > rate
    few = reals[:20]  # too few for the rate: above all of them
    assert threshold(few, 0.01) > few.max()


def test_folds_split_no_group_and_hold_both_labels() -> None:
    data = clips()
    folds = group_folds(data.labels, data.groups, 4, seed=1)
    for name in np.unique(data.groups):
        assert len(set(folds[data.groups == name])) == 1
    for fold in range(4):
        assert set(data.labels[folds == fold]) == {0, 1}
    np.testing.assert_array_equal(folds, group_folds(data.labels, data.groups, 4, seed=1))


def test_out_of_fold_scores_do_not_know_their_group() -> None:
    """What tells only groups apart separates the classes in sample, and is worth nothing out of fold."""
    from sklearn.metrics import roc_auc_score

    data = clips(gap=0.0, groups=16)
    inside = fit_head(data, "noise", 0.0).logits(data.features["noise"])
    outside = channel_logits(data, Recipe(shrinkages={"noise": 0.0}, folds=8, repeats=2))["noise"]
    assert roc_auc_score(data.labels, inside) > 0.8
    assert roc_auc_score(data.labels, outside) < roc_auc_score(data.labels, inside) - 0.15


def test_out_of_fold_logits_find_what_is_there_and_are_calibrated() -> None:
    from sklearn.metrics import roc_auc_score

    data = clips(groups=24)
    alone = Recipe(shrinkages={"signal": 0.1}, folds=4, repeats=1)
    fusion, (judged, shifted) = fit_and_judge(
        data, alone, others=[{name: values + 0.1 for name, values in data.features.items()}])
    assert roc_auc_score(data.labels, judged.logits) > 0.9
    assert shifted.logits.shape == judged.logits.shape
    for logits in (judged.logits, judged.apart, shifted.apart):
        chances = 1 / (1 + np.exp(-logits))
        assert abs(chances.mean() - data.labels.mean()) < 0.1
    # The model's own calibration is that of the logits out of fold.
    inside = fusion.bias + next(iter(fusion.weights.values())) * fusion.sums(data.features)
    assert np.corrcoef(inside, judged.logits)[0, 1] > 0.95
    assert abs(np.median(inside - judged.logits)) < 0.3
    both = fit_and_judge(data, RECIPE)[1][0]
    assert roc_auc_score(data.labels, both.logits) > 0.8  # a channel that knows only groups costs some


def test_sums_out_of_fold_rank_as_the_logits_that_ship_do() -> None:
    data = clips(groups=24)
    recipe = Recipe(shrinkages={"signal": 0.1}, limits={"signal": 1.0}, folds=6, repeats=1)
    sums = sums_out_of_fold(data, recipe, recipe.seed + 100)
    np.testing.assert_array_equal(np.argsort(sums, kind="stable"),
                                  np.argsort(fit_and_judge(data, recipe)[1][0].logits, kind="stable"))
    assert np.abs(sums).max() == 1.0
    assert not np.array_equal(sums, sums_out_of_fold(data, recipe, 1))


def test_a_calibration_that_leaves_out_what_it_judges_ranks_it_lower_than_it_is() -> None:
    """Which is why ranks are taken before."""
    from sklearn.metrics import roc_auc_score

    for seed in range(4):
        data = clips(groups=24, gap=0.3, seed=seed)
        _, (judged,) = fit_and_judge(data, Recipe(shrinkages={"signal": 0.1}, folds=12, repeats=1))
        pooled, apart = (roc_auc_score(data.labels, logits) for logits in (judged.logits, judged.apart))
        assert apart < pooled
        inside = fit_head(data, "signal", 0.1).logits(data.features["signal"])
        assert pooled < roc_auc_score(data.labels, inside)  # nor is it raised


def test_a_channel_counts_to_its_limit_for_the_whole_clip() -> None:
    head = Head(mean=np.zeros(1), deviation=np.ones(1), weights=np.ones(1), bias=0.0, limit=1.5)
    other = Head(mean=np.zeros(1), deviation=np.ones(1), weights=np.ones(1), bias=0.0)
    fusion = Fusion(heads={"a": head, "b": other}, weights={"a": 2.0, "b": 2.0}, bias=0.5)
    fusion = Fusion.from_json(json.loads(json.dumps(fusion.to_json())))
    segments = {"a": np.array([[1.0], [2.0], [3.0]]), "b": np.array([[1.0], [2.0], [3.0]])}
    parts = fusion.contributions(segments)
    assert parts["a"].mean() == pytest.approx(2 * 1.5)
    assert np.diff(parts["a"]) == pytest.approx([2, 2])  # which segment stands out is still seen
    assert parts["b"].mean() == pytest.approx(2 * 2)
    assert fusion.logits(segments).mean() == pytest.approx(0.5 + 2 * 3.5)
    low = fusion.contributions({"a": np.array([-2.9]), "b": np.array([-2.9])})
    assert (float(low["a"]), float(low["b"])) == (pytest.approx(-3.0), pytest.approx(-5.8))
    clips_of_one = {name: values.mean(axis=0, keepdims=True) for name, values in segments.items()}
    assert 0.5 + 2 * fusion.sums(clips_of_one) == pytest.approx(fusion.logits(segments).mean())


def test_a_channel_that_says_little_is_left_out_and_the_others_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    data = clips(groups=24)
    found = channel_logits(data, RECIPE)
    monkeypatch.setattr(fit, "channel_logits", lambda *_: found | {"noise": -found["signal"]})
    assert set(fit_fusion(data, RECIPE).weights) == {"signal"}
    monkeypatch.setattr(fit, "channel_logits", lambda *_: found | {"noise": found["signal"]})
    assert len(set(fit_fusion(data, RECIPE).weights.values())) == 1


def test_both_classes_weigh_the_same_and_large_groups_less_a_clip() -> None:
    data = Data.of([{"a": np.zeros(1)}] * 8, [1, 0, 0, 0, 0, 0, 0, 0], ["x", "big", "big", "big", "big", "y", "y", "z"])
    weights = data.weights
    assert weights[0] == pytest.approx(weights[1:].sum()) == pytest.approx(4)
    assert weights[1] < weights[5] < weights[7]
