"""Adapting to a new generator: likeness to its clips beside a classifier that stays as it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.synthetic.fusion import Fusion, Likeness
from detectors.synthetic.training.adapt import Clips, judge, refusal, told_apart
from detectors.synthetic.training.fit import Data, Recipe, fit_fusion
from detectors.synthetic.training.likeness import Known
from genwm.errors import InputError

RECIPE = Recipe(shrinkages={"appearance": 0.2, "texture": 0.2}, folds=4, repeats=1)
NUMBERS = 6


def rows(generator: np.random.Generator, count: int, *, known: float = 0.0, new: float = 0.0) -> Clips:
    """Clips whose first number tells known generators from footage, whose second tells the new one."""
    shift = np.zeros(NUMBERS)
    shift[:2] = known, new
    return [{name: generator.normal(0, 1, NUMBERS) + shift for name in ("appearance", "texture")} for _ in range(count)]


def footage_and_generators(seed: int = 0) -> Data:
    generator = np.random.default_rng(seed)
    clips = rows(generator, 96) + rows(generator, 96, known=2.5)
    return Data.of(clips, [0] * 96 + [1] * 96, [f"g{number // 8}" for number in range(192)])


KNOWN = footage_and_generators()
FUSION = fit_fusion(KNOWN, RECIPE)


def test_footage_has_mean_0_and_deviation_1_and_the_new_generators_clips_stand_out() -> None:
    generator = np.random.default_rng(1)
    likeness, values = Known(KNOWN, folds=4).likeness(rows(generator, 5, new=4.0))
    footage = values[KNOWN.labels == 0]
    assert (footage.mean(), footage.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    others = [float(likeness.values(clip)) for clip in rows(generator, 50, new=4.0)]
    unseen = [float(likeness.values(clip)) for clip in rows(generator, 200)]
    assert np.median(others) > np.percentile(footage, 99)
    assert abs(np.mean(unseen)) < 0.3
    assert np.std(unseen) == pytest.approx(1, abs=0.25)


def test_likeness_never_lowers_a_logit_and_says_nothing_of_what_is_like_footage() -> None:
    likeness = Likeness(heads={}, margin=1.5, gain=3.0)
    np.testing.assert_allclose(likeness.raised([-5.0, 0.0, 1.5, 2.5, 3.5]), [0, 0, 0, 3, 6])


def test_an_adapted_fusion_survives_its_file_and_adds_up() -> None:
    generator = np.random.default_rng(2)
    likeness, _ = Known(KNOWN, folds=4).likeness(rows(generator, 5, new=4.0))
    adapted = replace(FUSION, likenesses={"new": likeness})
    again = Fusion.from_json(json.loads(json.dumps(adapted.to_json())))
    clip = rows(generator, 3, new=4.0)
    features = {name: np.stack([segment[name] for segment in clip]) for name in clip[0]}
    contributions = again.contributions(features)
    assert set(contributions) == {"appearance", "texture", "like new"}
    np.testing.assert_allclose(again.logits(features), adapted.logits(features), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(sum(contributions.values()) + again.bias, again.logits(features))
    # All segments of a clip are looked at together: each is raised by the same.
    assert np.ptp(contributions["like new"]) == 0
    assert contributions["like new"][0] > 0
    assert Fusion.from_json(FUSION.to_json()).likenesses == {}


@pytest.mark.parametrize("held_out", [True, False])
def test_a_generator_that_the_model_misses_is_found_after_and_nothing_is_forgotten(held_out: bool) -> None:
    generator = np.random.default_rng(3)
    new, held = rows(generator, 6, new=4.0), rows(generator, 30, new=4.0) if held_out else []
    judged = judge(KNOWN, {}, new, held, FUSION, RECIPE, name="new")
    fresh, others, footage = judged.rows
    assert fresh.clips == (30 if held_out else 6)
    assert fresh.auc_before is not None
    assert fresh.auc_before < 0.8
    assert fresh.auc_after is not None
    assert fresh.auc_after > max(0.8, fresh.auc_before + 0.1)
    assert others.auc_before is not None
    assert others.auc_after is not None
    assert others.auc_after > others.auc_before - 0.01
    assert footage.alarms_after <= 0.01
    assert not refusal(judged.rows)
    clip = held[0] if held else rows(generator, 1, new=4.0)[0]
    assert float(judged.fusion.logits(clip)) > np.median(judged.reals)


def test_footage_in_the_place_of_a_generator_is_refused() -> None:
    judged = judge(KNOWN, {}, rows(np.random.default_rng(4), 8), [], FUSION, RECIPE, name="camera")
    assert refusal(judged.rows)


def test_adapting_to_one_name_again_adds_to_its_clips() -> None:
    generator = np.random.default_rng(5)
    first, second = rows(generator, 4, new=4.0), rows(generator, 4, new=4.0)
    once = judge(KNOWN, {}, first, [], FUSION, RECIPE, name="new").fusion
    again = judge(KNOWN, {"new": first}, second, [], once, RECIPE, name="new").fusion
    together = judge(KNOWN, {}, first + second, [], FUSION, RECIPE, name="new").fusion
    assert list(again.likenesses) == ["new"]
    clip = rows(generator, 1, new=4.0)[0]
    np.testing.assert_allclose(again.likenesses["new"].values(clip), together.likenesses["new"].values(clip))
    other = judge(KNOWN, {"new": first}, second, [], once, RECIPE, name="other").fusion
    assert set(other.likenesses) == {"new", "other"}


def test_a_clip_counts_once_and_what_the_model_knew_is_said() -> None:
    a, copy, b, c = (Path(name) for name in ("a.mp4", "copy.mp4", "b.mp4", "c.mp4"))
    fresh, judges, notes = told_apart(
        [("1", a), ("1", copy), ("2", b), ("3", c)], [("4", a)], {"2": "svd", "3": "new:it", "4": "wan"}, "it"
    )
    assert (fresh, judges) == ({"1": a, "2": b}, {"4": a})
    assert [note.rpartition(": ")[2] for note in notes] == ["1", "1", "2"]
    assert told_apart([("1", a)], [], {}, "it") == ({"1": a}, {}, ())
    assert told_apart([("3", c)], [], {"3": "new:it"}, "another")[0] == {"3": c}


@pytest.mark.parametrize(("held_out", "fitted"), [([("1", Path("copy.mp4"))], {}), ([], {"1": "new:it"})])
def test_a_clip_does_not_judge_itself(held_out: list[tuple[str, Path]], fitted: dict[str, str]) -> None:
    with pytest.raises(InputError, match="Expected"):
        told_apart([("1", Path("a.mp4"))], held_out, fitted, "it")
