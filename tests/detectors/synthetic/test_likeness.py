"""Adapting to a new generator: likeness to its clips beside a classifier that stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.synthetic.fusion import Fusion, Likeness
from detectors.synthetic.model import CLIPS_TABLE, load_model
from detectors.synthetic.training.adapt import (
    Clips,
    Judged,
    Row,
    adapt,
    judge,
    memory,
    recipe_of,
    refusal,
    stored_logits,
    told_apart,
)
from detectors.synthetic.training.fit import Data, Recipe, fit_and_judge
from detectors.synthetic.training.likeness import Known
from detectors.synthetic.training.recipe import threshold
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
FUSION, (_JUDGED,) = fit_and_judge(KNOWN, RECIPE)
BASE = _JUDGED.logits


def judged_on(
    new: Clips, held: Sequence[dict[str, np.ndarray]] = (), *, earlier: dict[str, Clips] | None = None,
    fusion: Fusion = FUSION, name: str = "new",
) -> Judged:  # fmt: skip
    return judge(KNOWN, BASE, earlier or {}, new, list(held), fusion, folds=4, seed=0, name=name)


def test_limits_are_known_to_an_adapted_model_and_held_by_it() -> None:
    shipped = load_model()
    assert recipe_of(shipped, 0).limits == {"motion": shipped.fusion.heads["motion"].limit}
    limited = replace(FUSION, heads={name: replace(head, limit=0.5) for name, head in FUSION.heads.items()})
    judged = judged_on(rows(np.random.default_rng(5), 6, new=4.0), fusion=limited)
    assert {head.limit for head in judged.fusion.heads.values()} == {0.5}
    far = {name: np.full(NUMBERS, 9.0) for name in FUSION.heads}
    plain = replace(judged.fusion, likenesses={})
    assert plain.logits(far) == pytest.approx(plain.bias + 0.5 * sum(plain.weights.values()))


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
    judged = judged_on(new, held)
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
    judged = judged_on(rows(np.random.default_rng(4), 8), name="camera")
    assert refusal(judged.rows)


def test_adapting_to_one_name_again_adds_to_its_clips() -> None:
    generator = np.random.default_rng(5)
    first, second = rows(generator, 4, new=4.0), rows(generator, 4, new=4.0)
    once = judged_on(first).fusion
    again = judged_on(second, earlier={"new": first}, fusion=once).fusion
    together = judged_on(first + second).fusion
    assert list(again.likenesses) == ["new"]
    clip = rows(generator, 1, new=4.0)[0]
    np.testing.assert_allclose(again.likenesses["new"].values(clip), together.likenesses["new"].values(clip))
    other = judged_on(second, earlier={"new": first}, fusion=once, name="other").fusion
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


@pytest.mark.parametrize("bytes_", [None, b"", b"no archive", b"PK\x03\x04" + bytes(60)])
def test_a_model_without_its_memory_is_refused_in_one_sentence(bytes_: bytes | None, tmp_path: Path) -> None:
    if bytes_ is not None:
        (tmp_path / "memory.npz").write_bytes(bytes_)
    with pytest.raises(InputError, match="Expected what the model remembers"):
        memory(replace(load_model(), folder=tmp_path))


@pytest.mark.parametrize("held_out", [False, True])
def test_footage_that_the_model_knows_is_no_generators(held_out: bool) -> None:
    new, real = ("1", Path("new.mp4")), ("2", Path("real.mp4"))
    clips, judges = ([new], [real]) if held_out else ([new, real], [])
    with pytest.raises(InputError, match=r"clips that it made, got real\.mp4, .* camera footage; leave it out"):
        told_apart(clips, judges, {"2": "home"}, "it", footage={"2"})


@pytest.mark.parametrize("name", ["", " "])
def test_a_generator_has_a_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Expected a name of the generator"):
        adapt([], load_model(), tmp_path / "model", name=name)


def test_each_model_is_judged_at_the_threshold_that_it_ships() -> None:
    generator = np.random.default_rng(3)
    new = rows(generator, 6, new=4.0)
    judged = judged_on(new)
    fresh, others, _ = judged.rows
    bar = threshold(judged.reals, 0.01)
    likeness = judged.fusion.likenesses["new"]
    values = Known(KNOWN, folds=4, seed=0).likeness(new)[1]
    after = judged.base + likeness.raised(values)
    np.testing.assert_allclose(after[KNOWN.labels == 0], judged.reals)
    assert others.alarms_after == pytest.approx((after[KNOWN.labels == 1] >= bar).mean())
    assert others.alarms_before == pytest.approx(
        (BASE[KNOWN.labels == 1] >= threshold(BASE[KNOWN.labels == 0], 0.01)).mean()
    )
    assert fresh.alarms_after > fresh.alarms_before


def test_an_adapted_model_is_calibrated_again() -> None:
    judged = judged_on(rows(np.random.default_rng(3), 6, new=4.0))
    values = Known(KNOWN, folds=4, seed=0).likeness(rows(np.random.default_rng(3), 6, new=4.0))[1]
    logits = judged.base + judged.fusion.likenesses["new"].raised(values)
    probabilities = 1 / (1 + np.exp(-logits))
    # As many are synthetic as the probabilities say, to a few in a hundred.
    assert probabilities.mean() == pytest.approx(KNOWN.labels.mean(), abs=0.04)
    # One and the same map of all logits: nobody changes places, and a clip unlike the new generator least of all.
    factor = judged.fusion.weights["appearance"] / FUSION.weights["appearance"]
    np.testing.assert_allclose(np.ptp(judged.base - factor * BASE), 0, atol=1e-9)


def row(
    what: str, before: float, after: float, *, auc_before: float | None = 0.8, auc_after: float | None = 0.9
) -> Row:
    return Row(what=what, clips=100, auc_before=auc_before, auc_after=auc_after, alarms_before=before,
               alarms_after=after)  # fmt: skip


@pytest.mark.parametrize(
    ("fresh", "others", "footage", "because"),
    [
        ((0.1, 0.5), (0.30, 0.29), (0.0, 0.01), ""),
        ((0.5, 0.4), (0.30, 0.30), (0.0, 0.00), "to be found, as before"),
        ((0.1, 0.5), (0.30, 0.25), (0.0, 0.00), "found no longer"),
        ((0.1, 0.5), (0.30, 0.30), (0.0, 0.02), "real clips above"),
    ],
)
def test_a_model_that_finds_less_or_marks_more_footage_is_refused(
    fresh: tuple[float, float], others: tuple[float, float], footage: tuple[float, float], because: str
) -> None:
    said = refusal([row("new", *fresh), row("others", *others, auc_after=0.8),
                    row("footage", *footage, auc_before=None, auc_after=None)])  # fmt: skip
    assert (because in said) if because else not said


@pytest.mark.parametrize(("found", "auc", "refused"), [
    ((0.0, 0.0), (0.726, 0.729), True), ((0.0, 0.0), (0.72, 0.74), False), ((0.2, 0.3), (0.726, 0.729), False),
    ((1.0, 1.0), (1.0, 1.0), True), ((0.2, 0.3), (0.73, 0.72), True),
])  # fmt: skip
def test_a_model_that_finds_no_more_has_to_rank_the_new_clips_higher(
    found: tuple[float, float], auc: tuple[float, float], refused: bool
) -> None:
    said = refusal([row("new", *found, auc_before=auc[0], auc_after=auc[1]), row("others", 0.3, 0.3, auc_after=0.8),
                    row("footage", 0.0, 0.0, auc_before=None, auc_after=None)])  # fmt: skip
    assert bool(said) is refused


def test_the_shipped_models_threshold_is_that_of_its_stored_logits() -> None:
    model = load_model()
    known, earlier = memory(model)
    logits = stored_logits(model, known)
    assert not earlier
    np.testing.assert_allclose(threshold(logits[known.labels == 0], 0.01), model.calibration.thresholds["0.01"],
                               atol=1e-4)  # fmt: skip


def test_a_table_that_is_not_the_memorys_is_refused(tmp_path: Path) -> None:
    model = load_model()
    known, _ = memory(model)
    text = (model.folder / CLIPS_TABLE).read_text().splitlines()
    (tmp_path / CLIPS_TABLE).write_text("\n".join([text[0], *text[2:]]) + "\n")
    with pytest.raises(InputError, match="a line for each"):
        stored_logits(replace(model, folder=tmp_path), known)
