"""Random keys on unmarked clips: the same numbers as the detector's, sound statistics, tables that survive a kill."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

from detectors import read_watermark
from detectors.search import Search
from eval import false_alarms as fa
from eval import tables
from eval.corpus import Video, list_videos
from eval.false_alarms.table import prepare, values_of, values_of_clip
from genwm.errors import InputError, NotFoundError, OutputError
from genwm.keys import Key
from genwm.lattice.decision import SHARES
from genwm.lattice.evidence import Evidence
from genwm.marking import Mark, Marker
from genwm.video import edit_video, write_video
from tests.clips import KEY, make_clip, projected, scene

SMALL = {"keys": 6, "search_keys": 1, "max_frames": 40}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unmarked")
    for seed in (1, 2):
        make_clip(folder / f"{seed}.mp4", seed=seed, frames=40)
    (folder / "broken.mp4").write_bytes(b"not a video")
    return folder


@pytest.fixture(scope="module")
def table(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "fa.csv"
    fa.run(videos, out, **SMALL)
    return out


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def clip_named(videos: Path, name: str) -> Video:
    return next(video for video in list_videos(videos) if video.id == name)


def test_the_number_recorded_is_the_one_that_the_detector_reports(videos: Path, table: Path) -> None:
    clip = clip_named(videos, "1.mp4")
    row = next(row for row in lines(table) if row["clip"] == clip.id and row["key"] == "0")
    reading = read_watermark(clip.path, keys=[fa.random_key(clip, 0, 0)], max_frames=SMALL["max_frames"])
    assert row["level"] == "all"
    assert float(row["log10_p"]) == pytest.approx(reading.log10_p, abs=1e-3)
    assert row["decision"] == reading.status


def test_keys_tried_together_give_what_each_gives_alone(videos: Path) -> None:
    clip = clip_named(videos, "2.mp4")
    looks = fa.looks_of(clip.path, max_frames=40)
    keys = [fa.random_key(clip, number, 5) for number in range(3)]
    together = [trial for trial, _ in fa.try_keys(looks, keys, search_keys=0)]
    for number, key in enumerate(keys):
        ((alone, _),) = fa.try_keys(looks, [key], search_keys=0)
        assert alone.z == pytest.approx(together[number].z, abs=1e-4)
        assert alone.log10_p == pytest.approx(together[number].log10_p, abs=1e-3)


@pytest.mark.parametrize("budget", [40, 200, 256])
def test_looks_are_those_of_the_detector_whatever_its_budget(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups of 25 frames, at 200, do not end where the first look does."""
    path = tmp_path / "long.mp4"
    make_clip(path, width=256, height=256, frames=budget, preset="ultrafast")
    found = fa.looks_of(path, max_frames=budget)
    taken: list[tuple[bool, list[int]]] = []

    def look(self: Search, evidence: Sequence[Evidence], *, thorough: bool) -> bool:
        taken.append((thorough, [one.frames for one in evidence]))
        return False

    monkeypatch.setattr(Search, "look", look)
    for glimpsed in (False, True):
        taken.clear()
        monkeypatch.setattr(Search, "glimpsed", glimpsed)
        read_watermark(path, keys=[KEY], max_frames=budget)
        looks = [look for look in found if look.glimpsed in (None, glimpsed)]
        assert [(look.thorough, [one.frames for one in look.evidence]) for look in looks] == taken
        assert len(taken) == (3 if glimpsed else 2)


def test_the_number_recorded_is_the_detectors_at_a_large_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a key that the first stretch is looked at with, and for one that it is not."""
    path = tmp_path / "long.mp4"
    make_clip(path, width=256, height=256, frames=200, preset="ultrafast")
    looks = fa.looks_of(path, max_frames=200)
    keys = [Key(f"k{number}", bytes([number]) * 32, "2026-01-01T00:00:00+00:00") for number in range(250)]
    first = [trial.log10_p for trial, _ in fa.try_keys(looks[:1], keys, search_keys=0)]
    likeliest, other = np.argsort(first)[[0, -1]]
    assert first[likeliest] < first[other]
    monkeypatch.setattr("detectors.search.GLIMPSE_LOG10_P", first[likeliest] + 1e-3)
    chosen = [keys[likeliest], keys[other]]
    for key, (trial, _) in zip(chosen, fa.try_keys(looks, chosen, search_keys=2), strict=True):
        reading = read_watermark(path, keys=[key], max_frames=200)
        assert (trial.log10_p, trial.decision) == (pytest.approx(reading.log10_p, abs=1e-3), reading.status)


def test_a_picture_in_perspective_is_searched_as_the_detector_does(tmp_path: Path) -> None:
    path = tmp_path / "slanted.mp4"
    write_video(path, projected(scene(640, 360, 8), [(60, 20), (600, 5), (520, 300), (30, 340)]), fps=25, crf=20)
    looks = fa.looks_of(path, max_frames=40)
    keys = [Key(f"k{number}", bytes([number]) * 32, "2026-01-01T00:00:00+00:00") for number in range(100)]
    tried = [candidates for _, candidates in fa.try_keys(looks, keys, search_keys=0)]
    straight = [min(item.log10_p for item in candidates if item.corners) for candidates in tried]
    likeliest = keys[int(np.argmin(straight))]
    ((trial, _),) = fa.try_keys(looks, [likeliest], search_keys=1)
    assert trial.log10_p < -0.1
    assert trial.log10_p == pytest.approx(read_watermark(path, keys=[likeliest], max_frames=40).log10_p, abs=1e-3)
    ((known, candidates),) = fa.try_keys(looks, [likeliest], search_keys=0)
    unmoved = [item for item in candidates if not item.corners]
    assert known.z == {name: max(item.z for item in unmoved if item.family.name == name) for name in known.z}


def test_a_mark_would_be_reported(tmp_path: Path) -> None:
    """An instrument that cannot see a mark would report no false alarm either."""
    make_clip(tmp_path / "plain.mp4", frames=40, preset="ultrafast")
    marker = Marker(Mark(KEY, 77, "strong"), 320, 256)
    edit_video(tmp_path / "plain.mp4", tmp_path / "marked.mp4", marker.yuv, preset="ultrafast")
    looks = fa.looks_of(tmp_path / "marked.mp4", max_frames=40)
    (wrong, _), (right, _) = fa.try_keys(looks, [replace(KEY, secret=bytes(32)), KEY], search_keys=0)
    assert (wrong.decision, wrong.payload) == ("not_detected", "")
    assert (right.decision, right.payload) == ("detected", f"{77:016x}")


def test_each_key_is_a_row_and_each_clip_a_line(table: Path) -> None:
    rows, clips = lines(table), {line["clip"]: line for line in lines(table.with_suffix(".clips.csv"))}
    assert {(row["clip"], row["key"]) for row in rows} == {(f"{n}.mp4", str(k)) for n in (1, 2) for k in range(6)}
    for row in rows:
        searched = row["key"] == "0"
        assert row["level"] == ("all" if searched else "known")
        assert all(row[f"z_{name}"] for name in fa.KNOWN)
        assert all(bool(row[f"z_{name}"]) == searched for name in ("scale", "warp"))
        assert row["decision"] == "not_detected"
        assert float(row["log10_p"]) <= 0
    assert clips["broken.mp4"]["error"]
    assert {clips[f"{n}.mp4"]["error"] for n in (1, 2)} == {""}
    assert float(clips["1.mp4"]["tests_unchanged"]) == 1


def test_a_run_goes_on_where_a_kill_left_it(videos: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "fa.csv"
    all_rows = table.read_text().splitlines(keepends=True)
    clip_lines = table.with_suffix(".clips.csv").read_text().splitlines(keepends=True)
    first = clip_lines[1].split(",")[0]
    # Killed while the rows of the second clip were being written.
    out.write_text("".join(all_rows[:10])[:-9])
    out.with_suffix(".clips.csv").write_text("".join(clip_lines[:2]))
    measured: list[str] = []
    fa.run(videos, out, **SMALL, progress=lambda done, total, result: measured.append(result.clip))
    assert first not in measured
    assert len(measured) == 2
    assert {(row["clip"], row["key"], row["log10_p"]) for row in lines(out)} == {
        (row["clip"], row["key"], row["log10_p"]) for row in lines(table)
    }
    assert len(lines(out)) == len(lines(table))
    before = out.read_text()
    fa.run(videos, out, **SMALL, progress=lambda *_: pytest.fail("nothing was left to do"))
    assert out.read_text() == before


def test_clips_whose_rows_are_gone_are_measured_again(videos: Path, table: Path, tmp_path: Path) -> None:
    """As in a checkout, which has the table of the clips alone."""
    out = tmp_path / "fa.csv"
    out.with_suffix(".clips.csv").write_text(table.with_suffix(".clips.csv").read_text())
    fa.run(videos, out, **SMALL)
    assert len(lines(out)) == len(lines(table))


def test_another_clip_of_the_same_name_is_refused(videos: Path, table: Path, tmp_path: Path) -> None:
    (tmp_path / "1.mp4").write_bytes((videos / "2.mp4").read_bytes())
    before = table.read_bytes()
    with pytest.raises(OutputError, match=r"^Expected the clip 1\.mp4 that .* was measured on"):
        fa.run(tmp_path, table, **SMALL)
    assert table.read_bytes() == before


def test_a_clip_that_was_mended_is_measured(videos: Path, table: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "mended", tmp_path / "fa.csv"
    shutil.copytree(videos, folder)
    (folder / "broken.mp4").write_bytes((videos / "1.mp4").read_bytes())
    for path in (table, table.with_suffix(".clips.csv")):
        shutil.copy(path, out.with_name(path.name))
    measured: list[str] = []
    clips = fa.run(folder, out, **SMALL, progress=lambda *it: measured.append(it[2].clip))
    assert measured == ["broken.mp4"]
    assert {one.clip: one.error for one in clips} == {"1.mp4": "", "2.mp4": "", "broken.mp4": ""}


def test_a_table_of_clips_without_hashes_goes_on(videos: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "fa.csv"
    out.write_bytes(table.read_bytes())
    old = [line.rsplit(",", 2)[0] for line in table.with_suffix(".clips.csv").read_text().splitlines()]
    out.with_suffix(".clips.csv").write_text("\n".join([*old, ""]))
    clips = fa.run(videos, out, **SMALL, progress=lambda *_: pytest.fail("nothing was left to do"))
    assert {one.sha256 for one in clips} == {""}


def test_other_settings_or_another_table_are_refused(videos: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="other"):
        fa.run(videos, table, **{**SMALL, "keys": 7})
    before = table.read_bytes()
    with pytest.raises(OutputError, match=r"^Expected rows with seed 1 in .*, got 0;"):
        fa.run(videos, table, **SMALL, seed=1)
    assert table.read_bytes() == before
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(OutputError, match="another"):
        fa.run(videos, other, **SMALL)
    assert other.read_text() == "a,b\n1,2\n"
    with pytest.raises(InputError, match="at most 6 keys"):
        fa.run(videos, tmp_path / "x.csv", keys=6, search_keys=7)
    with pytest.raises(InputError, match="label"):
        fa.run(videos, tmp_path / "x.csv", labels=["real"], **SMALL)
    with pytest.raises(NotFoundError):
        fa.summarize(tmp_path / "none.csv")


def test_disagreement_with_the_detector_is_an_error(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = read_watermark
    monkeypatch.setattr("detectors.watermark.read_watermark", lambda *a, **k: replace(real(*a, **k), log10_p=-3.0))
    result, trials = fa.measure(clip_named(videos, "1.mp4"), keys=1, search_keys=1, max_frames=40, seed=0)
    assert (result.error, trials) == ("error", [])
    assert "bring eval/false_alarms into line" in result.message


def test_random_keys_are_reproducible_and_differ_between_clips_and_seeds(videos: Path) -> None:
    one, two = (clip_named(videos, f"{n}.mp4") for n in (1, 2))
    assert fa.random_key(one, 3, 0).secret == fa.random_key(one, 3, 0).secret
    assert len({fa.random_key(clip, n, seed).secret for clip in (one, two) for n in (0, 1) for seed in (0, 1)}) == 8


@given(st.integers(1, 400), st.data())
def test_clopper_pearson_against_its_definition(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(1, count))
    low, high = fa.clopper_pearson(hits, count)
    assert 0 <= low < hits / count <= high <= 1
    assert binom.sf(hits - 1, count, low) == pytest.approx(0.025, rel=1e-6)
    if hits < count:
        assert binom.cdf(hits, count, high) == pytest.approx(0.025, rel=1e-6)


def test_rule_of_three() -> None:
    assert fa.clopper_pearson(0, 3000) == (0.0, 0.001)
    assert fa.clopper_pearson(0, 2) == fa.clopper_pearson(0, 0) == (0.0, 1.0)


def test_tail_rows_count_down_to_what_the_sample_can_show() -> None:
    rows = fa.tail_rows("x", np.log10((np.arange(1000) + 0.5) / 1000))
    assert [row.k for row in rows] == [1, 2, 3, 4]
    assert [row.hits for row in rows] == [100, 10, 1, 0]
    assert [row.ratio for row in rows[:3]] == pytest.approx([1, 1, 1])
    assert rows[3].ratio_high == pytest.approx(30)
    assert fa.tail_rows("x", np.empty(0)) == []


@pytest.mark.parametrize(("tests", "hits", "says"), [
    (6000, 600, "yes"), (6000, 120, "no"), (6000, 1500, "no"), (100, 10, "the sample cannot tell"),
    (20, 4, "the sample cannot tell"), (200, 0, "no"), (20, 0, "the sample cannot tell"),
])  # fmt: skip
def test_a_factor_of_two_is_told_by_the_whole_interval(tests: int, hits: int, says: str) -> None:
    log10_p = np.where(np.arange(tests) < hits, -1.0, -0.5)
    assert fa.tail_rows("x", log10_p)[0].within_two == says


@settings(max_examples=10)
@given(st.sampled_from([(1, 1), (700, 700), (1372, 70), (10**7, 4 * 10**6)]), st.integers(0, 1000))
def test_calibration_finds_the_number_of_tests(tests: tuple[int, int], seed: int) -> None:
    claimed, true = tests
    uniform = np.random.default_rng(seed).random(20_000)
    z = norm.isf(-np.expm1(np.log(uniform) / true))  # the best of `true` independent tests
    exposure = -claimed * norm.logcdf(z)
    fits = fa.calibrations("near", exposure, claimed)
    assert [fit.tail for fit in fits] == [1.0, 0.1, 0.01]
    for fit, tolerance in zip(fits, (0.05, 0.12, 0.4), strict=True):
        assert fit.effective == pytest.approx(true, rel=tolerance)
        assert fit.low < fit.factor < fit.high
    assert fa.calibrations("near", exposure[:5], claimed) == []


def test_summary_of_a_known_sample(tmp_path: Path) -> None:
    """Rows made up so that every figure is known: 200 trials of one family, one of them a detection."""
    out = tmp_path / "made-up.csv"
    result = fa.ClipResult(clip="c", keys=200, looks=3, tests_unchanged=1.0)
    z = norm.isf((np.arange(200) + 0.5) / 200)
    z[0] = 6.0
    tried = [
        fa.Trial(n, "known", {"unchanged": float(v)}, {"unchanged": 0.0}, -0.1 if n else -7.5,
                 "not_detected" if n else "detected")
        for n, v in enumerate(z)
    ]
    prepare(out, out.with_suffix(".clips.csv"), {})
    tables.append(out, (values_of("c", trial) for trial in tried))
    tables.append(out.with_suffix(".clips.csv"), [values_of_clip(result)])
    summary = fa.summarize(out)
    assert summary.known == {"trials": 200, "detected": 1, "inconclusive": 0}
    assert summary.whole["trials"] == 0
    assert [(row.k, row.hits) for row in summary.tails if row.what == "unchanged"] == [(1, 20), (2, 2), (3, 1)]
    assert summary.worst[0] == ("c", 0, -7.5, "unchanged")
    factor = next(item.factor for item in summary.calibration if item.tail == 0.1)
    assert factor == pytest.approx(1, rel=0.1)
    assert summary.expected_ratio == pytest.approx(SHARES["unchanged"] * factor)
    assert "**1** of 200" in fa.markdown(summary)
    assert "versions of the code" not in fa.markdown(summary)
    later = replace(result, clip="d", versions="genwm 2")
    tables.append(out, (values_of("d", trial) for trial in tried))
    tables.append(out.with_suffix(".clips.csv"), [values_of_clip(later)])
    assert "Rows by 2 versions of the code: unknown: 1, genwm 2: 1." in fa.markdown(fa.summarize(out))


def test_the_command_writes_its_summary(
    videos: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(fa.false_alarms, ["--out", str(table), "--summary-only"])
    assert done.exit_code == 0
    text = table.with_suffix(".md").read_text()
    assert "**0** of 12" in text
    assert "What this sample can and cannot show" in text
    assert "- broken.mp4: " in text
    assert {line["table"] for line in lines(table.with_suffix(".summary.csv"))} == {
        "measured/claimed", "effective/claimed"
    }  # fmt: skip
    monkeypatch.setattr("eval.false_alarms.command.default_videos", lambda say: tmp_path)  # an empty folder
    failed = CliRunner().invoke(fa.false_alarms, ["--out", str(table), "--json"])
    assert failed.exit_code == 2
    assert json.loads(failed.stdout)["error"]["code"] == "bad-input"


def test_the_command_prints_json_and_writes_a_page(table: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    done = CliRunner().invoke(fa.false_alarms, ["--out", str(table), "--summary-only", "--json", "--html"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == "genwm.eval.false-alarms/1"
    assert document["known"]["trials"] + document["whole"]["trials"] == 12
    assert [(one["clip"], one["tests_near"]) for one in document["errors"]] == [("broken.mp4", None)]
    page = table.with_suffix(".html").read_text(encoding="utf-8")
    assert "<title>False alarms on unmarked clips</title>" in page
    assert "<h2>Measured against claimed</h2>" in page


def test_a_folder_without_a_readable_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "fa.csv"), "--keys", "1", "--search-keys", "0"]
    done = CliRunner().invoke(fa.false_alarms, arguments)
    assert done.exit_code == 2
    assert "nothing but errors (1)" in done.stderr.splitlines()[-1]


# --- other people's marks


def run_on(videos: Path, out: Path, method: str, **options: int) -> fa.Summary:
    fa.run(videos, out, **{"keys": 400, **options}, method=method)
    return fa.summarize(out)


def test_a_mark_that_is_found_where_there_is_none_is_told(videos: Path, tmp_path: Path) -> None:
    """It decides by eight bits of the key: one key in 256 is "found"."""
    summary = run_on(videos, tmp_path / "fa.csv", "tests.eval.foreign:CORNER")
    assert (summary.clips, len(summary.errors)) == (2, 1)
    assert summary.whole["trials"] == 800
    assert 0 < summary.whole["detected"] < 15
    assert not summary.tails  # it claims no p-values
    text = fa.markdown(summary)
    assert f"**{summary.whole['detected']}** of 800" in text
    assert "read by tests.eval.foreign:CORNER" in text
    assert "known geometries" not in text


def test_without_keys_a_clip_is_read_once(videos: Path, tmp_path: Path) -> None:
    summary = run_on(videos, tmp_path / "fa.csv", "tests.eval.foreign:KEYLESS")
    assert summary.whole == {"trials": 2, "detected": 0, "inconclusive": 0}


def test_a_method_that_decides_nothing_is_told_so(videos: Path, tmp_path: Path) -> None:
    summary = run_on(videos, tmp_path / "fa.csv", "tests.eval.foreign:UNDECIDED", keys=2)
    assert summary.clips == 0
    assert all("decides whether there is a mark" in one.message for one in summary.errors if "broken" not in one.clip)


def test_tables_of_two_methods_are_not_mixed(videos: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Expected rows with"):
        fa.run(videos, table, keys=6, method="tests.eval.foreign:CORNER")
    fa.run(videos, tmp_path / "fa.csv", keys=6, method="tests.eval.foreign:CORNER")
    with pytest.raises(OutputError, match="Expected rows with"):
        fa.run(videos, tmp_path / "fa.csv", **SMALL)
    with pytest.raises(InputError, match="module:object"):
        fa.run(videos, tmp_path / "other.csv", keys=6, method="nothing")
