"""The evaluation of detectors: measures against scikit-learn, what it refuses, a foreign scorer, the page."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.training.fit import Data, Recipe
from detectors.synthetic.training.table import FOLD_COLUMNS, write_folds
from eval.detector import adapting, detector, partitions
from eval.detector import measures as m
from eval.detector.page import markdown
from eval.detector.protocol import NamedScorer, load_scorer, probe, through_files
from eval.detector.scores import COLUMNS, Score, from_folds, measure, read_scores, scores_of, write_scores
from eval.detector.summary import summarize
from genwm.errors import InputError
from genwm.hashing import sha256_of
from tests.clips import make_clip

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Each test draws the same numbers, whichever were run before it."""
    GENERATOR.bit_generator.state = np.random.default_rng(0).bit_generator.state


def labelled(count: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    labels = GENERATOR.integers(0, 2, count)
    scores = GENERATOR.normal(labels, 1.0)
    return labels, np.round(scores) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_measures_agree_with_scikit_learn(ties: bool) -> None:
    from sklearn.metrics import auc, brier_score_loss, roc_auc_score, roc_curve

    labels, scores = labelled(ties=ties)
    assert m.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    alarms, hits = m.roc(labels, scores)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose((alarms, hits), (false, true))
    assert auc(alarms, hits) == pytest.approx(m.auc(labels, scores))
    chances = 1 / (1 + np.exp(-scores))
    assert m.brier(labels, chances) == pytest.approx(brier_score_loss(labels, chances))
    rate = m.tpr_at(labels, scores, 0.05)
    assert rate == pytest.approx(max(t for f, t in zip(false, true, strict=True) if f <= 0.05))
    equal = m.equal_error_rate(labels, scores)
    assert np.interp(equal, false, true) == pytest.approx(1 - equal, abs=0.01)


def test_calibration_error_is_nought_for_true_chances_and_known_for_false_ones() -> None:
    chances = GENERATOR.uniform(size=20_000)
    labels = (GENERATOR.uniform(size=20_000) < chances).astype(int)
    assert m.calibration_error(labels, chances) < 0.02
    assert m.calibration_error(np.array([0, 0, 1, 1]), np.full(4, 0.9)) == pytest.approx(0.4)


def test_the_interval_of_the_calibration_error_is_about_the_truth_and_not_about_what_sampling_adds() -> None:
    generator = np.random.default_rng(5)
    covered = missed = 0
    for _ in range(20):
        chances = generator.uniform(0.1, 0.9, 200)
        labels = (generator.random(200) < chances + 0.1 * np.sign(0.5 - chances)).astype(np.int64)  # wrong by .1
        groups = np.arange(200).astype(str)
        low, high = m.by_group(m.calibration_error, labels, chances, groups, draws=100, raised=True)
        covered += low <= 0.1 <= high
        missed += m.by_group(m.calibration_error, labels, chances, groups, draws=100)[0] > 0.1
    assert covered >= 16
    assert missed >= 5  # the plain percentiles often leave the truth below


def test_what_calibration_error_chance_alone_shows() -> None:
    few, many = GENERATOR.uniform(size=300), GENERATOR.uniform(size=30_000)
    median, high = m.calibration_error_by_chance(few, draws=300)
    # By hand: 20 clips in each of 15 bins, where a share has a deviation of sqrt(p (1 - p) / 20), 0.8 of it on average.
    assert median == pytest.approx(0.8 * np.mean(np.sqrt(few * (1 - few) / 20)), rel=0.1)
    assert median < high < 2 * median
    assert m.calibration_error_by_chance(many, draws=30)[1] < 0.2 * median


def test_a_rate_that_the_clips_cannot_show_is_refused() -> None:
    labels, scores = np.r_[np.zeros(999, int), np.ones(50, int)], GENERATOR.normal(size=1049)
    assert m.tpr_at(labels, scores, 0.001) is None
    assert m.tpr_at(labels, scores, 0.01) is not None
    assert m.tpr_at(np.r_[labels, 0], np.r_[scores, 0.0], 0.001) is not None


def test_precision_at_low_prevalence() -> None:
    assert m.precision_at(0.5, 0.01, 0.01) == pytest.approx(0.005 / (0.005 + 0.0099))
    assert m.precision_at(0.0, 0.0, 0.01) is None


def test_intervals_are_wider_over_few_groups_than_over_many() -> None:
    labels, scores = labelled(240)
    few = m.by_group(m.auc, labels, scores, np.array([f"{one}" for one in np.arange(240) % 4]), draws=200)
    many = m.by_group(m.auc, labels, scores, np.arange(240).astype(str), draws=200)
    assert few[0] <= m.auc(labels, scores) <= few[1]
    assert many[0] < m.auc(labels, scores) < many[1]


def test_the_probe_finds_leaks_across_groups_and_nothing_where_there_is_none() -> None:
    labels = [0, 1] * 60
    groups = [f"{label}-{number // 60}" for number, label in enumerate(labels)]  # two folds are enough
    leak = [[float(label) + GENERATOR.normal(0, 0.1), 1.0] for label in labels]
    assert probe(leak, labels, groups) > 0.95
    assert probe([[8.0, 240.0]] * 120, labels, groups) == pytest.approx(0.5, abs=0.1)


def test_halves_of_equal_sources_are_not_apart() -> None:
    median, high = m.halves_apart(GENERATOR.normal(size=300), np.repeat(np.arange(30), 10).astype(str), draws=100)
    assert 0.5 <= median < high < 0.65


def rows(gap: float = 2.0) -> list[Score]:
    return [
        Score(scorer="s", clip=f"{label}{number}", sha256=f"{label}{number}",
              label=label, group=f"{label}-{number % 10}", generator="" if label == "real" else f"g{number % 10}",
              delivery=delivery, segments=3, seen=number == 0,
              logit=float(GENERATOR.normal(gap if label == "synthetic" else 0.0) - gap / 2))
        for label in ("real", "synthetic") for number in range(120) for delivery in ("none", "h264-40")
    ]  # fmt: skip


def test_a_summary_leaves_out_what_was_seen_and_survives_its_table(tmp_path: Path) -> None:
    table = rows()
    write_scores(tmp_path / "s.csv", table)
    summary = summarize(read_scores(tmp_path / "s.csv"), draws=50)
    overall = summary["overall"]
    assert (overall["real"], overall["synthetic"], summary["left_out"]["seen"]) == (119, 119, 4)
    assert overall["auc_95"][0] < overall["auc"] < overall["auc_95"][1]
    assert overall["tpr"]["0.001"]["value"] is None
    assert "1,000 real clips" in overall["tpr"]["0.001"]["refused"]
    assert {row["delivery"] for row in summary["deliveries"]} == {"none", "h264-40"}
    assert len(summary["generators"]) == 10
    assert "AUC" in markdown(summary)


def test_ranks_are_by_the_logit_and_calibration_by_the_one_apart(tmp_path: Path) -> None:
    table = rows()
    plain = summarize(table, draws=20)
    write_scores(tmp_path / "s.csv", [replace(row, apart=-9.0 if row.label == "real" else 9.0) for row in table])
    apart = summarize(read_scores(tmp_path / "s.csv"), draws=20)
    assert apart["overall"]["auc"] == pytest.approx(plain["overall"]["auc"], abs=1e-4)
    assert apart["overall"]["tpr"]["0.01"]["value"] == plain["overall"]["tpr"]["0.01"]["value"]
    assert max(apart["overall"]["brier"], apart["overall"]["ece"]) < 0.001 < plain["overall"]["brier"]
    assert ("saw nothing of a clip's source" in markdown(apart), "saw nothing" in markdown(plain)) == (True, False)

    fold = {"clip": "a.mp4", "sha256": "1", "label": 1, "group": "g", "generator": "g", "delivery": "none",
            "segments": 3, "logit": "0.5", "apart": "-0.25", "channels": ""}  # fmt: skip
    write_folds(tmp_path / "folds.csv", [fold])
    (score,) = from_folds(tmp_path / "folds.csv", "s")
    assert (score.logit, score.apart) == (0.5, -0.25)


def test_tables_of_before_the_column_apart_are_read_and_continued(tmp_path: Path) -> None:
    place = COLUMNS.index("apart")
    write_scores(tmp_path / "s.csv", rows())
    with open(tmp_path / "s.csv", newline="") as file:
        old = [[*cells[:place], *cells[place + 1 :]] for cells in csv.reader(file)]
    with open(tmp_path / "s.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(old)
    assert [row.apart for row in read_scores(tmp_path / "s.csv")] == [None] * len(rows())
    with pytest.raises(InputError, match=r"Expected a table of the scores of other in .*, got those of s; use a table"):
        scores_of("other", tmp_path / "s.csv")
    manifest = "path,label,group,family\nreal/a.mp4,real,shop,\nai/b.mp4,synthetic,wan,wan\n"
    (tmp_path / "manifest.csv").write_text(manifest)
    for name in ("real/a.mp4", "ai/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"no video")
    measure(tmp_path, tmp_path / "s.csv", NamedScorer("s", lambda segments: 0.0))
    after = read_scores(tmp_path / "s.csv")
    assert len(after) == len(rows()) + 2
    assert all(row.error for row in after[-2:])


def test_one_kind_of_clips_cannot_be_summed_up() -> None:
    with pytest.raises(InputError, match="real and synthetic"):
        summarize([row for row in rows() if row.label == "real"])
    failed = [replace(row, logit=None, error="ValueError: no weights") for row in rows() if row.label == "real"]
    with pytest.raises(InputError, match="240 rows with an error, the first 'ValueError: no weights'"):
        summarize([*failed, *(row for row in rows() if row.label != "real")])


def test_a_scorer_that_always_fails_is_told_of(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.csv", [replace(row, logit=None, error="ValueError: no weights") for row in rows()])
    done = CliRunner().invoke(detector, ["--out", str(tmp_path / "s.csv"), "--summary-only"])
    assert (done.exit_code, "ValueError: no weights" in done.stderr) == (2, True)


def test_the_headline_is_by_the_most_segments_and_a_loss_by_the_same() -> None:
    """Rows of fewer segments are not counted twice, and what one segment less costs is no loss of a delivery's."""
    table = rows()
    fewer = [replace(row, segments=1, logit=(row.logit or 0.0) + float(GENERATOR.normal(scale=3))) for row in table]
    summary = summarize([*table, *fewer], draws=20)
    assert summary["overall"]["clips"] == 238
    assert summary["overall"]["auc"] == summarize(table, draws=20)["overall"]["auc"]
    found = {(row["delivery"], row["segments"]): row for row in summary["deliveries"]}
    assert found["none", 1]["loss"] == found["none", 3]["loss"] == 0
    assert found["h264-40", 1]["loss"] == pytest.approx(found["none", 1]["auc"] - found["h264-40", 1]["auc"])


def test_clips_are_also_told_apart_by_their_length() -> None:
    table = [replace(row, facts=(1.0 + index % 10,)) for index, row in enumerate(rows())]
    lengths = summarize(table, draws=20)["lengths"]
    assert [(row["from_s"], row["to_s"]) for row in lengths] == [(0, 2.5), (2.5, 4.5), (4.5, 8), (8, None)]
    assert sum(row["real"] + row["synthetic"] for row in lengths) == 238
    assert all(row["auc"] > 0.8 for row in lengths if row["real"] and row["synthetic"])
    assert "8 s or more" in markdown(summarize(table, draws=20))


def test_any_function_of_a_file_is_a_scorer_and_a_bad_clip_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["path,label,group,family,sha256"]
    for name, label in (("a.mp4", "real"), ("b.mp4", "synthetic")):
        make_clip(tmp_path / name, width=320, height=256, frames=14, fps=8)
        lines.append(f"{name},{label},{label},family,{name}")
    (tmp_path / "bad.mp4").write_text("no video")
    lines.append("bad.mp4,real,other,,x")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    module = ModuleType("foreign_scorer")
    module.score = lambda path: 0.25  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "foreign_scorer", module)
    measure(tmp_path, tmp_path / "out.csv", load_scorer("foreign_scorer:score"), deliveries=("none",))
    found = {row.clip: row for row in read_scores(tmp_path / "out.csv")}
    assert len(found) == 3
    assert found["a.mp4"].logit == pytest.approx(np.log(1 / 3), abs=1e-4)
    assert found["a.mp4"].canonical_facts[:5] == (1.5, 8.0, 240.0, 240.0, 12.0)
    assert found["bad.mp4"].error
    with pytest.raises(InputError, match="module:function"):
        load_scorer("foreign_scorer:nothing")


def test_the_command_sums_up_a_table(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.csv", rows())
    done = CliRunner().invoke(
        detector, ["--out", str(tmp_path / "s.csv"), "--summary-only", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["schema"] == "genwm.detector/1"
    assert (tmp_path / "s.md").is_file()


FOLDS = ",".join(FOLD_COLUMNS) + "\na.mp4,1,{label},home,,none,1,{logit},,\n"


@pytest.mark.parametrize(
    ("table", "options", "code"),
    [
        (None, ["--summary-only"], "not-found"),
        ("notes of mine", ["--out-of-fold", "folds.csv"], "bad-input"),
        (None, ["--out-of-fold", "folds.csv"], "bad-input"),
        (f"{','.join(COLUMNS)}\ns,a.mp4,1,real,home,,none,1,high,,0,0,,,\n", ["--summary-only"], "bad-input"),
    ],
)
def test_a_table_that_cannot_be_summed_up_is_told_and_stays_as_it_is(
    table: str | None, options: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folds.csv").write_text(FOLDS.format(label=0, logit="high" if table is None else "0.5"))
    if table is not None:
        Path("s.csv").write_text(table)
    done = CliRunner().invoke(detector, ["--out", "s.csv", *options])
    assert (done.exit_code, done.stderr.split(":")[0]) == (2, f"error[{code}]")
    assert table == (Path("s.csv").read_text() if Path("s.csv").exists() else None)


@pytest.mark.parametrize(
    "name", [":", ":score", ".foreign:score", "foreign_scorer:", "foreign_scorer:limit", "broken:x"]
)
def test_what_is_no_function_is_no_scorer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("foreign_scorer")
    module.limit = 0.5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "foreign_scorer", module)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="Expected a function module:function"):
        load_scorer(name)


@pytest.mark.parametrize("answer", ["synthetic", None, float("nan"), -0.1, [0.5, 0.5]])
def test_a_scorers_answer_is_a_probability(answer: Any, tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", width=128, height=128, frames=12, fps=8)
    score = through_files(lambda path: answer)
    with pytest.raises(InputError, match=re.escape(f"got {answer!r}; let it return one")):
        score(read_segments(tmp_path / "a.mp4", count=1, threads=1))


def test_a_table_is_of_one_scorer(tmp_path: Path) -> None:
    write_scores(tmp_path / "s.csv", rows())
    (tmp_path / "manifest.csv").write_text("path,label,group\na.mp4,real,home\n")
    make_clip(tmp_path / "a.mp4", frames=1)
    before = (tmp_path / "s.csv").read_bytes()
    with pytest.raises(InputError, match="got those of s; use a table for each"):
        measure(tmp_path, tmp_path / "s.csv", NamedScorer("another", lambda segments: 0.0))
    assert (tmp_path / "s.csv").read_bytes() == before


def test_what_the_clips_cannot_show_is_null_in_the_summary(tmp_path: Path) -> None:
    def refuse(literal: str) -> float:
        raise AssertionError(f"{literal} is no JSON")

    one_source = [replace(row, group="home") if row.label == "real" else row for row in rows()]
    write_scores(tmp_path / "s.csv", one_source)
    done = CliRunner().invoke(detector, ["--out", str(tmp_path / "s.csv"), "--summary-only"])
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "s.json").read_text(), parse_constant=refuse)
    assert summary["overall"]["real_against_real"] == {"median": None, "p95": None}


def test_the_page_has_the_summary_and_its_plots_in_light_and_dark(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    write_scores(tmp_path / "s.csv", rows())
    done = CliRunner().invoke(detector, ["--out", str(tmp_path / "s.csv"), "--summary-only", "--html"])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", (tmp_path / "s.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"<h2>(.*?)</h2>", page) == titles
    assert "By generator, against all real clips" in titles
    assert re.findall(r'<svg role="img" aria-label="(.*?)"', page) == ["ROC", "Reliability"]
    assert "stroke: var(--blue, #0072b2)" in page
    assert not re.search(r'(src|href)="(?!#)', page)  # nothing is beside it


def test_figures_of_a_partition_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    generator = np.random.default_rng(3)
    labels = np.repeat([0, 1], [120, 40])
    groups = np.array(["footage"] * 120 + ["many"] * 30 + ["some"] * 7 + ["few"] * 3)
    scores = generator.normal(0, 1, 160) + np.r_[np.zeros(120), np.full(30, 2.0), np.full(7, 0.5), np.full(3, -3.0)]
    found = partitions.figures(labels, scores, groups)
    areas = {name: roc_auc_score(labels[own], scores[own])
             for name in ("many", "some", "few") for own in [(labels == 0) | (groups == name)]}  # fmt: skip
    assert found["auc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["family_mean"] == pytest.approx(np.mean(list(areas.values())))
    assert found["worst_family"] == "some"  # of those with clips enough
    assert found["worst_family_auc"] == pytest.approx(areas["some"])
    second, first = np.sort(scores[:120])[-2:]
    assert found["found_at_1_percent"] == pytest.approx((scores[120:] > second).mean())
    assert found["found_above_all"] == pytest.approx((scores[120:] > first).mean())


def test_partitions_judge_the_same_clips_by_other_fits_and_are_summed_up() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 0, 1], [40, 24, 40, 24])  # the clips, then their copies after another delivery
    groups = [f"{'ab'[label]}{number % 8}" for number, label in enumerate(labels)]
    clips = [{"texture": row} for row in generator.normal(0, 1, (128, 6)) + 1.5 * labels[:, None]]
    rows = partitions.judged(
        Data.of(clips, labels.tolist(), groups), Recipe(shrinkages={"texture": 0.3}, folds=8), 64, 3,
        lambda done, total, name: None)  # fmt: skip
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert all(float(row["auc"]) > 0.9 for row in rows)
    text = partitions.markdown(rows)
    values = [float(row["auc"]) for row in rows]
    assert f"| auc | {np.mean(values):.3f} | {np.std(values, ddof=1):.3f} |" in text


def test_seconds_that_a_clip_is_looked_at_end_with_it_or_with_the_segments(tmp_path: Path) -> None:
    digests = []
    for frames in (16, 120):
        make_clip(tmp_path / f"{frames}.mp4", width=96, height=96, frames=frames, fps=8, seed=frames)
        digests.append(sha256_of(tmp_path / f"{frames}.mp4"))
    (tmp_path / "manifest.csv").write_text(
        "path,sha256\n" + "".join(f"{n}.mp4,{digest}\n" for n, digest in zip((16, 120), digests, strict=True)))
    assert adapting.lengths_s([*digests[::-1], digests[0]], tmp_path) == pytest.approx([12, 2, 2], abs=0.01)
    with pytest.raises(InputError, match="fitted on"):
        adapting.lengths_s(["ff"], tmp_path)


def test_every_family_of_a_memory_is_adapted_to_as_if_it_were_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    # Footage, two families that show in the first number, and two that show in others and have few clips.
    shift = np.zeros((96, 6))
    shift[64:88, 0], shift[88:94, 1], shift[94:, 2] = 4.0, 4.0, 4.0
    labels = np.repeat([0, 1], [64, 32])
    groups = [f"source{number // 8}" for number in range(64)]
    groups += ["large"] * 16 + ["other"] * 8 + ["small"] * 6 + ["tiny"] * 2
    clips = [{"appearance": row, "texture": row + generator.normal(0, 1, 6)}
             for row in shift + generator.normal(0, 1, shift.shape)]  # fmt: skip
    known = Data.of(clips, labels.tolist(), groups)
    monkeypatch.setattr(adapting, "load_model", lambda folder: None)
    monkeypatch.setattr(adapting, "memory", lambda model: (known, {}))
    monkeypatch.setattr(adapting, "recipe_of", lambda model, seed: Recipe(
        shrinkages={"appearance": 0.2, "texture": 0.2}, folds=4, repeats=1, seed=seed))
    monkeypatch.setattr(adapting, "originals", lambda model: [{"sha256": str(number)} for number in range(96)])
    monkeypatch.setattr(adapting, "lengths_s", lambda digests, videos: np.full(len(digests), 4.5))
    done = CliRunner().invoke(adapting.main, ["--videos", str(tmp_path), "--out", str(tmp_path / "adapt.csv")])
    assert done.exit_code == 0, done.output
    with open(tmp_path / "adapt.csv", newline="") as file:
        table = {row["family"]: row for row in csv.DictReader(file)}
    assert set(table) == {"large", "other", "small"}
    assert int(table["large"]["clips"]) == 14  # a minute of others to judge each by
    assert float(table["small"]["auc_after"]) > float(table["small"]["auc_before"])
    assert all(float(row["auc_after"]) > 0.9 for row in table.values())
    text = (tmp_path / "adapt.md").read_text()
    assert "| median | |" in text
    assert f"{float(table['small']['auc_after']):.3f}" in text
