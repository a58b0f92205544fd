"""Measures, losses and the page of a run, on rows whose answers are known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.corpus import Video
from eval.intervals import wilson
from eval.quality.running import COLUMNS as QUALITY_COLUMNS
from eval.report import plots
from eval.report.commands import report
from eval.report.measures import measures, of_span, overall, shared
from eval.report.page import losses, worst, write_page
from eval.report.publish import protocol_table, short_table
from eval.robustness import Row
from eval.tables import append
from eval.tables import prepare as prepare_table
from genwm.errors import InputError
from tests.clips import make_clip
from tests.eval.pages import Reader
from tests.eval.rows import ATTACKS, found, known_rows, quality_row, row, write


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return known_rows()


# --- measures ---


def test_measures_count_what_was_found(rows: list[Row]) -> None:
    by_name = {(one.method, one.attack): one for one in measures(rows)}
    lost = by_name[("lattice.balanced", "h264.crf40")]
    assert (lost.clips, lost.present.value, lost.kind) == (3, pytest.approx(2 / 3), "codec")
    assert (lost.present.low, lost.present.high) == wilson(2, 3)
    assert lost.bit_accuracy.value == pytest.approx((0.5 + 1 + 1) / 3)  # unread is a guess
    assert lost.log10_p is not None
    assert lost.log10_p.value == -20
    other = by_name[("dwtDct", "h264.crf23")]
    assert (other.wrong_payload, other.present.value, other.exact.value) == (3, 0, 0)
    assert (other.wrong_payload_rate.low, other.wrong_payload_rate.high) == wilson(3, 3)


def test_the_order_is_that_of_methods_and_of_the_registry(rows: list[Row]) -> None:
    found_order = [one.attack for one in measures(reversed(rows)) if one.method == "lattice.balanced"]
    assert found_order[:3] == ["h264.crf23", "h264.crf30", "h264.crf40"]
    assert next(iter(measures(rows))).method == "lattice.balanced"


def test_geometry_is_compared_with_what_the_attack_did() -> None:
    rows = [
        found("a", "crop.55+h264.crf30", scale=1.01 / 0.55, rotation=0.2, flip=0),
        found("b", "crop.55+h264.crf30", scale=0.97 / 0.55, rotation=-0.4, flip=1),
        row("c", "crop.55+h264.crf30"),
    ]
    (one,) = measures(rows)
    assert one.scale_error is not None
    assert one.scale_error.value == pytest.approx(0.02)
    assert (one.scale_error.low, one.scale_error.high) == (0, pytest.approx(0.02 + 12.706 * 0.01, abs=1e-4))
    assert one.rotation_error is not None
    assert one.rotation_error.value == pytest.approx(0.3)
    assert one.flip_error is not None
    assert (one.flip_error.value, one.flip_error.low > 0, one.flip_error.high < 1) == (0.5, True, True)
    assert one.aspect_error is None
    (squeezed,) = measures([found("a", "squeeze.0.75+h264.crf28", aspect=0.765)])
    assert squeezed.aspect_error is not None
    assert squeezed.aspect_error.value == pytest.approx(0.02)
    (free,) = measures([found("a", "h264.crf30", scale=1.3)])
    assert (free.scale_error, free.flip_error) == (None, None)


def test_the_overall_share_is_a_mean_over_attacks_then_clips() -> None:
    rows = [found("a", "h264.crf23"), row("a", "h264.crf30"), found("b", "h264.crf23"), found("b", "h264.crf30")]
    rows.append(found("a", "transplant.16+h264.crf23"))  # a forgery that worked is no robustness
    (one,) = overall(rows)
    assert one.present.value == pytest.approx(0.75)
    assert (one.attacks, one.clips, one.rows) == (2, 2, 4)
    assert one.present.low < 0.75 < one.present.high


def test_a_broken_watermark_is_reported_as_broken(rows: list[Row]) -> None:
    broken = [replace(one, present=0, right_key=0, exact=0, bit_accuracy=None) for one in rows[::2]]
    (one,) = overall(broken)
    assert (one.present.value, one.exact.value, one.bit_accuracy.value) == (0, 0, 0.5)
    assert len(worst(broken)) == 9  # three of each clip
    assert {loss.attack for loss in losses(measures(broken))} >= {"h264.crf30", "h264.crf40", "combined.crf40"}


def test_only_what_every_method_was_measured_on_is_compared(rows: list[Row]) -> None:
    more = [*rows, found("d.mp4")]
    assert {one.clip for one in shared(more)} == {"a.mp4", "b.mp4", "c.mp4"}


def test_a_clip_measured_under_two_spans_is_never_two_clips() -> None:
    rows = [found("a.mp4"), found("a.mp4", span="10s")]
    for summed in (measures, overall, lambda both: short_table(both, {}), protocol_table):
        with pytest.raises(InputError, match=r"^Expected rows of one span, got 10s, 24f; choose one with --span"):
            summed(rows)  # type: ignore[operator]
    assert of_span(rows, "10s") == rows[1:]
    assert of_span(rows[:1]) == rows[:1]
    with pytest.raises(InputError, match=r"^Expected rows of span 9f, got 10s, 24f; choose one of these$"):
        of_span(rows, "9f")


# --- losses ---


def test_losses_come_from_runs_and_from_publications() -> None:
    rows = [row("a", "h264.crf40", log10_p=-1.0), found("a", "h264.crf40", "dwtDct")]
    found_losses = losses(measures(rows))
    run_here = [(one.attack, one.what, one.method) for one in found_losses if not one.published]
    assert run_here == [("h264.crf40", "found", "dwtDct"), ("h264.crf40", "exact", "dwtDct")]
    (published,) = [one for one in found_losses if one.published]
    assert (published.theirs, published.others) == (0.98, 7)  # all of theirs beat a guess
    assert published.method.startswith("Video Seal, Video Seal's paper notebook, MovieGen")
    assert losses(measures([found("a", "h264.crf40")])) == []
    assert losses([]) == []


def test_strengths_of_ours_are_no_losses_of_ours() -> None:
    rows = [row("a", "av1.crf55"), found("a", "av1.crf55", "lattice.strong")]
    assert losses(measures(rows)) == []


# --- the page ---


@pytest.fixture(scope="module")
def page(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it."""
    tmp_path = tmp_path_factory.mktemp("page")
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    strong = [found(clip, attack, "lattice.strong") for clip in ("a.mp4", "b.mp4") for attack in ATTACKS]
    out = write(tmp_path / "run.csv", [*rows, *strong])
    prepare_table(tmp_path / "run.quality.csv", QUALITY_COLUMNS)
    measured = [
        quality_row(clip, method, jod_fhd=jod, rgb_psnr="41", ssim="0.99", flicker="0.3")
        for clip in ("a.mp4", "b.mp4")
        for method, jod in (("lattice.balanced", "9.8"), ("lattice.strong", "9.5"), ("dwtDct", "9.6"))
    ]
    append(tmp_path / "run.quality.csv", ([one[name] for name in QUALITY_COLUMNS] for one in measured))
    make_clip(tmp_path / "a.mp4", width=320, height=256, frames=4)
    return write_page(out, sample=Video(path=tmp_path / "a.mp4", id="a.mp4"), title="A <title> & more")


def test_the_page_needs_nothing_beside_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.outside == []
    assert "<script" not in text
    assert not re.search(r"url\(\s*['\"]?https?:|@import", text)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert "A &lt;title&gt; &amp; more" in text
    assert len(text) < 2_000_000


def test_the_page_says_the_losses_first_and_the_commands_of_the_worst(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.index("is behind") < text.index('id="attacks"') < text.index('id="worst"')
    assert "genwm eval again" in text
    assert "Video Seal, Video Seal&#39;s paper notebook, MovieGen, published; and 5 more" in text
    methods = 3 if find_spec("imwatermark") else 2  # dwtDct is not pictured where its package is missing
    assert text.count('src="data:image/jpeg;base64,') == 1 + 2 * methods + len(ATTACKS)
    assert 'alt="after combined.crf40"' in text
    assert "failed" not in text


def test_a_forgery_that_works_is_red_and_one_that_fails_is_not(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    names = ("unmarked+h264.crf23", "transplant.16+h264.crf23", "h264.crf23", "h264.crf30")
    rows = [row("a", names[0]), found("a", names[1]), found("a", names[2]), row("a", names[3])]
    text = write_page(write(tmp_path / "run.csv", rows)).read_text(encoding="utf-8")
    red = dict(re.findall(r'<tr><td title="[^"]*">([^<]*)</td>\s*<td( class="zero")?>', text))
    assert {name: bool(mark) for name, mark in red.items()} == dict(zip(names, (False, True, False, True), strict=True))


def test_json_and_csv_stand_beside_the_page(page: Path) -> None:
    document = json.loads(page.with_suffix(".json").read_text())
    assert document["schema"] == "genwm.eval/1"
    assert {one["method"] for one in document["overall"]} == {"lattice.balanced", "dwtDct", "lattice.strong"}
    (match,) = document["matched"]["jod_fhd"]
    assert match["method"] == "dwtDct"
    assert match["our_present_low"] < match["our_present"] <= match["our_present_high"]
    assert "how lattice was matched" in page.read_text(encoding="utf-8")
    assert document["quality"]["dwtDct"]["jod_fhd"]["value"] == 9.6
    head, *lines = page.with_suffix(".measures.csv").read_text().splitlines()
    assert head.startswith("method,attack,kind,forges,clips,errors,present,present_low,present_high")
    assert len(lines) == 3 * len(ATTACKS)


def test_every_colour_that_follows_the_page_is_there_in_light_and_dark() -> None:
    style = Path(plots.__file__).with_name("style.html.j2").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{([^}]*)\}", style)
    for name in {*plots._THEME.values(), *re.findall(r"var\((--[a-z-]+)\)", style)} - {"--method"}:
        assert f"{name}: " in light
        assert f"{name}: " in dark
    assert plots.themed(f"fill: {plots.COLOURS[0]}") == "fill: var(--blue, #0072b2)"


def test_names_of_neighbours_do_not_lie_on_each_other() -> None:
    apart = plots.label_offsets([(40.3, 75.0), (36.8, 75.0), (38.4, 25.0), (52.0, 75.0)], near=(6.0, 7.0))
    assert apart == [-15, 7, 7, 7]
    crowd = plots.label_offsets([(10.0, 1.0), (10.0, 2.0), (10.0, 3.0), (10.0, 90.0)], near=(1.0, 7.0))
    assert len(set(crowd[:3])) == 3
    assert crowd[3] == 7


def test_plots_are_drawn_where_there_is_something_to_draw(rows: list[Row]) -> None:
    pytest.importorskip("matplotlib", reason="plots are not tested: they need the extra 'report'")
    found_measures = measures(rows)
    svg = plots.survival(found_measures)
    assert svg.startswith('<svg role="img"')
    assert all(name in svg for name in ATTACKS)
    assert plots.against_quality(overall(rows), {}, "jod_fhd", "JOD") is None
    assert plots.heat_map(found_measures, "lattice.balanced") is None  # two crops are no map
    grid = [found("a", name) for name in ("crop.55+h264.crf30", "crop.55+h264.crf40", *ATTACKS)]
    assert "exact 100 %" in (plots.heat_map(measures(grid), "lattice.balanced") or "")


def test_the_report_command_needs_rows(tmp_path: Path) -> None:
    result = CliRunner().invoke(report, [str(write(tmp_path / "bare.csv", [])), "--json"])
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "bad-input")
    assert list(tmp_path.iterdir()) == [tmp_path / "bare.csv"]
    result = CliRunner().invoke(report, [str(tmp_path / "none.csv"), "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "not-found"


def test_a_page_is_of_one_span_and_of_the_quality_in_its_size(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    out = write(tmp_path / "run.csv", [found("a.mp4"), found("b.mp4"), row("a.mp4", span="10s@480")])
    prepare_table(tmp_path / "run.quality.csv", QUALITY_COLUMNS)
    for jod, lines in (("9", ""), ("8", "480")):
        sized = quality_row("a.mp4", "lattice.balanced", jod_fhd=jod, lines=lines)
        append(tmp_path / "run.quality.csv", [[sized[name] for name in QUALITY_COLUMNS]])
    refused = CliRunner().invoke(report, [str(out), "--json"])
    assert (refused.exit_code, json.loads(refused.stdout)["error"]["code"]) == (2, "bad-input")
    assert not out.with_suffix(".html").exists()
    for span, clips, jod in (("24f", 2, 9), ("10s@480", 1, 8)):
        result = CliRunner().invoke(report, [str(out), "--json", "--span", span])
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert (document["spans"], document["overall"][0]["clips"]) == ([span], clips)
        assert document["quality"]["lattice.balanced"]["jod_fhd"]["value"] == jod
        assert f"--span {span}" in out.with_suffix(".html").read_text(encoding="utf-8")
