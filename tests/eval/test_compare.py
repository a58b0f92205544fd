"""The comparison of two runs and its page, on rows whose answers are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.intervals import wilson
from eval.report.commands import compare
from eval.report.compare import changes, compared, sign_test, worse_first
from eval.robustness import Row
from tests.eval.pages import Reader
from tests.eval.rows import ATTACKS, found, known_rows, row, write


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return known_rows()


def many(rows: list[Row]) -> list[Row]:
    """The rows of clip c over six more clips, so that a sign test has something to say."""
    return rows + [replace(one, clip=f"{clip}.mp4") for clip in "defghi" for one in rows if one.clip == "c.mp4"]


def broken(rows: list[Row]) -> list[Row]:
    """The same, with nothing of ours found under one attack."""
    return [
        replace(one, present=0, right_key=0, exact=0, bit_accuracy=None)
        if one.watermark == "lattice" and one.attack == "combined.crf40"
        else one
        for one in rows
    ]


def test_a_run_that_lost_marks_is_worse(rows: list[Row]) -> None:
    rows = many(rows)
    found_changes = changes(rows, broken(rows))
    by_name = {(one.method, one.attack): one for one in found_changes}
    one = by_name[("lattice.balanced", "combined.crf40")]
    assert (one.present_a, one.present_b, one.lost, one.won, one.sure, one.worse) == (1, 0, 9, 0, True, True)
    assert (one.present.low, one.present.high) == pytest.approx((-1, 2 * wilson(0, 9)[1] - 1))
    same = by_name[("lattice.balanced", "h264.crf23")]
    assert (same.present.value, same.lost, same.sure, same.moved) == (0, 0, False, False)
    assert by_name[("lattice.balanced", "all")].present.value == pytest.approx(-1 / 6)
    assert not by_name[("dwtDct", "all")].sure
    assert [other.attack for other in worse_first(found_changes)] == ["combined.crf40"]


def test_a_difference_has_the_interval_of_its_clips() -> None:
    names = [f"{number}.mp4" for number in range(9)]
    places = [(name, attack) for name in names for attack in ATTACKS[:2]]
    before = [found(*place) for place in places]
    one_lost = [row(*place) if place == ("0.mp4", ATTACKS[0]) else found(*place) for place in places]
    each_lost = [row(*place) if place[1] == ATTACKS[0] else found(*place) for place in places]
    by_name = {one.attack: one for one in changes(before, one_lost)}
    one = by_name[ATTACKS[0]]
    assert one.present.value == pytest.approx(-1 / 9)
    assert one.present.low < -1 / 9 < 0 < one.present.high
    assert not one.sure
    total = {one.attack: one for one in changes(before, each_lost)}["all"]
    assert (total.present.value, total.present.low, total.present.high, total.sure) == (-0.5, -0.5, -0.5, True)


def test_a_few_clips_prove_nothing(rows: list[Row]) -> None:
    """All three clips lost theirs; a sign test gives 1 in 4."""
    (one,) = worse_first(changes(rows, broken(rows)))
    assert (one.lost, one.present.value, one.present.low, one.sure) == (3, -1, -1, False)
    assert one.present.high > 0


@pytest.mark.parametrize(("up", "down"), [(0, 0), (6, 0), (5, 0), (3, 9), (10, 10), (1, 2)])
def test_the_sign_test_is_that_of_scipy(up: int, down: int) -> None:
    from scipy.stats import binomtest

    wanted = binomtest(up, up + down).pvalue if up + down else 1
    assert sign_test(up, down) == pytest.approx(float(wanted))


def test_forgeries_that_work_more_often_are_worse() -> None:
    name = "transplant.16+h264.crf23"
    before = [row("a", name), found("a", "h264.crf23")]
    after = [found("a", name), found("a", "h264.crf23")]
    assert [one.attack for one in worse_first(changes(before, after))] == [name]
    assert worse_first(changes(after, before)) == []
    (total,) = [one for one in changes(before, after) if one.attack == "all"]
    assert total.present_b == 1  # forgeries are no robustness
    assert not total.moved


def test_wrong_messages_and_errors_are_worse_though_as_much_is_found() -> None:
    good, wrong = found("a"), found("a", exact=0, wrong_payload=1, bit_accuracy=0.9)
    (one,) = worse_first(changes([good], [wrong]))
    assert (one.wrong_a, one.wrong_b, one.present.value) == (0, 1, 0)
    lost, failed = row("a"), row("a", error="not-media")
    (one,) = worse_first(changes([lost], [failed]))
    assert (one.errors_a, one.errors_b) == (0, 1)


def test_runs_of_one_method_each_are_set_against_each_other() -> None:
    both = compared([found("a")], [row("a", method="lattice.invisible")])
    assert both.renamed == ("lattice.balanced", "lattice.invisible")
    assert {one.method for one in both.changes} == {"lattice.balanced to lattice.invisible"}
    assert [one.lost for one in both.changes] == [1, 1]
    mixed = compared([found("a"), found("a", method="dwtDct")], [found("a", method="lattice.invisible")])
    assert (mixed.renamed, mixed.changes, len(mixed.only)) == (None, (), 3)


def test_two_files_of_one_name_are_no_pair() -> None:
    before = [found("a", sha256="1"), found("b", sha256="2"), found("c", sha256="")]
    after = [row("a", sha256="1"), row("b", sha256="3"), row("c", sha256="4")]
    both = compared(before, after)
    assert both.pairs == 2
    assert {one.clips for one in both.changes} == {2}
    assert [(one.run, one.clips) for one in both.only] == [("A", ("b",)), ("B", ("b",))]


def test_only_shared_clips_are_compared(rows: list[Row], tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", [one for one in rows if one.clip == "a.mp4"])
    result = CliRunner().invoke(compare, [str(a), str(b), "--json", "--out", str(tmp_path / "changes.md")])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["schema"] == "genwm.eval.compare/1"
    assert {one["clips"] for one in document["changes"]} == {1}
    assert {(one["run"], one["method"], one["rows"]) for one in document["only"]} == {
        ("A", "lattice.balanced", 2 * len(ATTACKS)),
        ("A", "dwtDct", 2 * len(ATTACKS)),
    }
    assert [one["name"] for one in document["settings"] if not one["same"]] == ["clips", "rows"]
    text = (tmp_path / "changes.md").read_text()
    assert text.startswith(f"# {b} against {a}")
    assert f"Without a change: {len(ATTACKS)} attacks." in text
    assert text.count("| all |") == 2
    assert "Only in A: 12 rows of dwtDct on 2 clips" in text
    other = write(tmp_path / "c.csv", [found("z.mp4")])
    result = CliRunner().invoke(compare, [str(a), str(other)])
    assert (result.exit_code, result.stderr[:18]) == (2, "error[bad-input]: ")


def test_the_page_of_two_runs_says_what_got_worse_first(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    rows = many(rows)
    later = [replace(one, versions="genwm 0.2.0", seed=1) for one in broken(rows)]
    better = next(place for place, one in enumerate(later) if one.attack == "h264.crf40" and one.clip == "a.mp4")
    later[better] = replace(found("a.mp4", "h264.crf40"), versions="genwm 0.2.0", seed=1)
    a, b = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", [*later, found("new.mp4", "gif")])
    page = tmp_path / "changes.html"
    result = CliRunner().invoke(compare, [str(a), str(b), "--out", str(page), "--title", "Then <and> now"])
    assert result.exit_code == 0, result.output
    shown = [line for line in result.stderr.splitlines() if line.startswith(("-", "+"))]
    assert ["combined.crf40" in shown[0], "h264.crf40" in shown[1], shown[0][:2], shown[1][:2]] == [
        *(True, True),
        *("-*", "+ "),
    ]
    text = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert (reader.outside, reader.open) == ([], [])
    assert "<script" not in text
    assert "Then &lt;and&gt; now" in text
    assert text.index('id="worse"') < text.index("combined.crf40 *") < text.index('id="better"')
    assert text.index('id="better"') < text.index(">h264.crf40<") < text.index('id="only"') < text.index("new.mp4")
    settings = text[text.index('id="settings"') :]
    assert "<td>versions</td>" in settings
    assert "genwm 0.2.0" in settings
    assert "<td>seeds</td>" in settings
    result = CliRunner().invoke(compare, [str(a), str(b), "--out", str(page / "x.html"), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "bad-output"
