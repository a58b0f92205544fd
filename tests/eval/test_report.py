"""Measures, matching, the page and the comparison of runs, on rows whose answers are known."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.corpus import Video
from eval.intervals import of_mean, of_median, of_share, of_shares, wilson
from eval.methods import METHODS, read_published
from eval.quality.running import COLUMNS as QUALITY_COLUMNS
from eval.report import plots
from eval.report.commands import compare, report
from eval.report.compare import changes, compared, sign_test, worse_first
from eval.report.matched import Match, matches, quality_by_method
from eval.report.measures import measures, of_span, overall, shared
from eval.report.page import losses, worst, write_page
from eval.report.publish import full_table, insert, protocol_table, publish, short_table
from eval.robustness import Row
from eval.robustness.table import append_row, prepare
from eval.tables import append
from eval.tables import prepare as prepare_table
from genwm.errors import InputError, OutputError
from tests.clips import make_clip

Interval = Callable[[list[float]], tuple[float, float]]
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
ATTACKS = ("h264.crf23", "h264.crf30", "h264.crf40", "crop.71+h264.crf23", "crop.71+h264.crf30", "combined.crf40")


def row(clip: str, attack: str = "h264.crf30", method: str = "lattice.balanced", **values: object) -> Row:
    subject = METHODS[method]
    base: dict[str, object] = dict.fromkeys(("label", "group", "family"), "")
    base |= {"short_side": 480, "frames": 24, "span": "24f", "versions": "genwm 0.1.0", "command": "genwm eval again"}
    base |= {"watermark": subject.name, "strength": subject.strength, "profile": subject.profile}
    return Row(clip=clip, attack=attack, **(base | values))  # type: ignore[arg-type]


def found(clip: str, attack: str = "h264.crf30", method: str = "lattice.balanced", **values: object) -> Row:
    good: dict[str, object] = {"present": 1, "right_key": 1, "exact": 1, "bit_accuracy": 1.0, "log10_p": -20.0}
    return row(clip, attack, method, **(good | values))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Ours finds all but CRF 40; dwtDct reads half of the bits everywhere."""
    result = []
    for clip in ("a.mp4", "b.mp4", "c.mp4"):
        for attack in ATTACKS:
            lost = attack == "h264.crf40" and clip == "a.mp4"
            result.append(row(clip, attack, log10_p=-1.0) if lost else found(clip, attack, read_s=0.5, bits=64))
            garbage = {"bit_accuracy": 0.5, "wrong_payload": 1, "log10_p": -0.2, "bits": 32}
            result.append(row(clip, attack, "dwtDct", **garbage))  # type: ignore[arg-type]
    return result


def write(path: Path, rows: list[Row]) -> Path:
    prepare(path)
    for one in rows:
        append_row(path, one)
    return path


# --- intervals ---


def coverage(interval: Interval, draw: Draw, truth: float, clips: int) -> float:
    """How often the interval of that many clips has the truth in it."""
    rng = np.random.default_rng(clips)
    ends = (interval(draw(rng, clips).tolist()) for _ in range(1000))
    return sum(low - 1e-9 <= truth <= high + 1e-9 for low, high in ends) / 1000


#: Shares of one clip, over 24 attacks or as they are, with their mean in a world of such clips.
SHARES: dict[str, tuple[Draw, float]] = {
    "mostly found": (lambda rng, count: rng.binomial(24, rng.beta(8, 1, count)) / 24, 8 / 9),
    "some found": (lambda rng, count: rng.binomial(24, rng.beta(3, 2, count)) / 24, 3 / 5),
    "few clips give any": (lambda rng, count: rng.binomial(24, rng.beta(0.3, 3, count)) / 24, 1 / 11),
    "one clip in twenty": (lambda rng, count: (rng.random(count) < 0.05) * rng.random(count), 1 / 40),
    "found or not": (lambda rng, count: (rng.random(count) < 0.9).astype(float), 9 / 10),
}


@pytest.mark.parametrize("clips", [6, 20, 100])
@pytest.mark.parametrize("name", SHARES)
def test_intervals_of_shares_hold_their_level_from_six_clips_on(name: str, clips: int) -> None:
    """Measured: .92 to .99. A percentile bootstrap of six clips has .25 to .87."""
    draw, truth = SHARES[name]
    assert coverage(of_shares, draw, truth, clips) > 0.88


@pytest.mark.parametrize(("clips", "level"), [(6, 0.54), (20, 0.86)])
def test_what_no_clip_of_a_sample_shows_is_in_no_interval(clips: int, level: float) -> None:
    """As the documentation says: one clip in ten loses all."""

    def draw(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        return (rng.random(count) < 0.9) * rng.binomial(24, 0.97, count) / 24

    assert coverage(of_shares, draw, 0.9 * 0.97, clips) == pytest.approx(level, abs=0.04)


@pytest.mark.parametrize("clips", [6, 20, 100])
def test_intervals_of_means_and_medians_hold_their_level(clips: int) -> None:
    assert 0.93 < coverage(of_mean, lambda rng, count: rng.normal(9.7, 0.1, count), 9.7, clips) < 0.97
    assert coverage(of_mean, lambda rng, count: rng.exponential(1, count), 1, clips) > 0.85  # as skewed as it gets
    for draw, truth in (
        (lambda rng, count: -rng.exponential(1, count), -math.log(2)),
        (lambda rng, count: rng.normal(0, 1, count), 0),
    ):
        assert 0.93 < coverage(of_median, draw, truth, clips) < 0.985  # in steps of what coins give


def test_nothing_found_is_no_proof_of_nothing() -> None:
    assert of_shares([0.0] * 6) == wilson(0, 6)
    assert of_shares([1.0] * 6) == wilson(6, 6)
    assert of_shares([0.5] * 6) == wilson(3, 6)  # all alike: no more than six clips
    assert of_shares([1.0]) == wilson(1, 1)
    assert of_shares([]) == (0, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_intervals_of_shares_hold_the_mean_and_are_mirrored(values: list[float]) -> None:
    low, high = of_shares(values)
    assert 0 <= low <= np.mean(values) + 1e-9
    assert np.mean(values) - 1e-9 <= high <= 1
    assert of_shares([1 - value for value in values]) == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_hits_that_vary_as_coins_do_are_counted_as_coins() -> None:
    values = [1.0] * 60 + [0.0] * 40
    assert of_shares(values) == pytest.approx(wilson(60, 100), abs=0.01)
    assert of_share(0.6, 0.6 * 0.4 / 100, 10_000) == pytest.approx(wilson(60, 100), abs=1e-4)


def test_intervals_of_means_and_medians_are_those_of_scipy() -> None:
    from scipy.stats import quantile_test, ttest_1samp

    values = np.random.default_rng(1).normal(3, 2, 41).tolist()
    wanted = ttest_1samp(values, 0).confidence_interval(0.95)
    assert of_mean(values) == pytest.approx((wanted.low, wanted.high))
    assert of_mean([4.0]) == of_mean([4.0, 4.0]) == (4, 4)
    assert all(math.isnan(end) for end in (*of_mean([]), *of_median([])))
    wanted = quantile_test(values, p=0.5).confidence_interval(0.95)
    assert of_median(values) == (wanted.low, wanted.high)
    assert of_median([3.0, 1.0, 2.0]) == (1, 3)


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


def test_published_figures_are_those_of_the_peers() -> None:
    table = {(one.source.id, one.name): one for one in read_published()}
    assert len(table) == 7
    seal = table[("videoseal-sav", "Video Seal")]
    assert (seal.bits, seal.psnr, seal.accuracy["combined.crf23"]) == (128, 44.2, 0.81)
    assert all(0.4 < value <= 1 for one in table.values() for value in one.accuracy.values())
    assert all(one.source.conditions for one in table.values())


# --- quality ---


def quality_row(clip: str, method: str, **values: str) -> dict[str, str]:
    ours = method.startswith("lattice.")
    blank = dict.fromkeys(QUALITY_COLUMNS, "")
    tags = {"strength": METHODS[method].strength, "profile": "colour" if ours else ""}
    return blank | {"clip": clip, "method": "genwm" if ours else method} | tags | values


def test_quality_is_of_the_clips_that_all_have() -> None:
    rows = [
        quality_row("a", "lattice.balanced", jod_fhd="9.8"),
        quality_row("b", "lattice.balanced", jod_fhd="9.0"),
        quality_row("a", "dwtDct", jod_fhd="9.7"),
        quality_row("c", "dwtDct", jod_fhd="1.0", error="not-media"),
    ]
    quality = quality_by_method(rows)
    assert quality["lattice.balanced"]["jod_fhd"].value == 9.8
    assert quality["dwtDct"]["jod_fhd"].value == 9.7
    assert quality_by_method([]) == {}


def test_a_measure_is_of_the_clips_on_which_it_failed_for_no_method() -> None:
    quality = quality_by_method([
        quality_row("a", "lattice.balanced", jod_fhd="9.8", rgb_psnr="40"),
        quality_row("b", "lattice.balanced", jod_fhd="9.0", rgb_psnr="44"),
        quality_row("a", "dwtDct", jod_fhd="9.7", rgb_psnr="30"),
        quality_row("b", "dwtDct", rgb_psnr="34"),
        *(quality_row(clip, "dwtDctSvd", rgb_psnr="20") for clip in "ab"),  # never asked for its JOD
    ])  # fmt: skip
    assert {name: values["jod_fhd"].value for name, values in quality.items() if "jod_fhd" in values} == {
        "lattice.balanced": 9.8, "dwtDct": 9.7,
    }  # fmt: skip
    assert [values["rgb_psnr"].value for values in quality.values()] == [42, 32, 20]


def shares(method: str, by_clip: dict[str, int]) -> list[Row]:
    """Rows of which so many of ten are found, by clip."""
    names = [f"made.{number}" for number in range(10)]
    return [
        found(clip, name, method) if place < hits else row(clip, name, method)
        for clip, hits in by_clip.items()
        for place, name in enumerate(names)
    ]


def test_matching_is_by_straight_lines_between_our_strengths() -> None:
    rows = shares("lattice.invisible", {"a": 5}) + shares("lattice.strong", {"a": 9}) + shares("dwtDct", {"a": 1})
    level = {"lattice.invisible": 9.9, "lattice.strong": 9.5, "dwtDct": 9.6}

    def at(other: float) -> tuple[str | None, float | None]:
        quality = [quality_row("a", name, jod_fhd=str(jod)) for name, jod in (level | {"dwtDct": other}).items()]
        (match,) = matches(rows, quality, "jod_fhd")
        assert (match.method, match.present.value) == ("dwtDct", 0.1)
        return match.ours, match.our_present and match.our_present.value

    assert at(9.6) == ("between our strengths", pytest.approx(0.8))
    assert at(9.95) == (None, None)
    said, present = at(9.0)
    assert said is not None
    assert said.startswith("lattice.strong")
    assert present == 0.9


def test_what_is_matched_has_an_interval_by_clip() -> None:
    hits = {"a": 5, "b": 6, "c": 7, "d": 8, "e": 9, "f": 10}
    rows = shares("lattice.invisible", hits) + shares("lattice.strong", dict.fromkeys(hits, 10))
    rows += shares("dwtDct", dict.fromkeys(hits, 0))

    def matched(spread: float) -> Match:
        """Ours found at the other's quality, which differs from clip to clip by so much."""
        quality = [
            quality_row(clip, name, jod_fhd=str(jod))
            for place, clip in enumerate(hits)
            for name, jod in (
                ("lattice.invisible", 9.9), ("lattice.strong", 9.5), ("dwtDct", 9.7 + spread * (2.5 - place)),
            )
        ]  # fmt: skip
        (match,) = matches(rows, quality, "jod_fhd")
        return match

    still, moving = matched(0), matched(0.06)
    (total,) = [one for one in overall(rows) if one.method == "dwtDct"]
    assert still.present == total.present  # of a mean the jackknife is what the mean has
    assert (still.present.low, still.present.high) == wilson(0, 6)
    assert still.our_present is not None
    assert moving.our_present is not None
    assert (still.our_present.value, moving.our_present.value) == pytest.approx((0.875, 0.875))
    # Half-way, so half of our weaker strength's shares: the same deviations from their mean, halved.
    halved = of_shares([0.5 + hit / 20 for hit in hits.values()])
    assert (still.our_present.low, still.our_present.high) == pytest.approx(halved)
    assert moving.our_present.high - moving.our_present.low > halved[1] - halved[0]


# --- the page ---


class Reader(HTMLParser):
    """Open tags, links to the outside, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br", "link", "path", "use", "rect", "hr"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.outside.append(value)
            if name == "id" and value:
                self.ids.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


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


# --- two runs ---


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


def test_figures_of_one_clip_are_published_without_an_interval() -> None:
    quality = quality_by_method([quality_row("a", "lattice.balanced", jod_fhd="9.8")])
    assert "| 9.80 |" in short_table([found("a")], quality)
    assert "| 100 % [21, 100] |" in short_table([found("a")], quality)


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


# --- the published result ---


def test_a_protocols_rows_stand_beside_what_others_published_of_it(rows: list[Row]) -> None:
    table = protocol_table([one for one in rows if one.watermark == "lattice"])
    head = next(line for line in table.splitlines() if line.startswith("| attack"))
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines() if line[:2] == "| "}
    assert "on 3 clips, first 24 frames" in table
    assert "Video Seal, MovieGen" in head
    assert cells["h264.crf40"][1:4] == ["2", "2", "0.83"]
    seal = [one for one in read_published() if one.name == "Video Seal"]
    assert cells["h264.crf40"][-1].strip(" |") == f"{seal[-1].accuracy['h264.crf40']:.2f}"
    assert set(cells) == {"attack", *ATTACKS}


def test_tables_are_put_between_their_marks(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- comparison: begin -->\nold\n<!-- comparison: end -->\n\nAfter.\n")
    for _ in range(2):
        insert(page, short_table(rows, {}))
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- comparison: begin -->\n| method |")
    assert text.endswith("<!-- comparison: end -->\n\nAfter.\n")
    assert "old" not in text
    assert "| lattice.balanced | 94 % [" in text
    assert "| dwtDct | 0 % [0, 56] | 0 % [0, 56] | 18 of 18 |" in text
    assert "Means over 6 attacks on 3 clips, first 24 frames" in text
    page.write_text("no marks")
    with pytest.raises(OutputError, match="comparison: begin"):
        insert(page, "text")


def test_rows_by_several_versions_are_told_of_wherever_they_are_summed_up(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    mixed = [replace(one, versions="genwm 0.2.0; av 18") if one.clip == "a.mp4" else one for one in rows]
    sentence = "Rows by 2 versions of the code: genwm 0.1.0: 24, genwm 0.2.0: 12."
    ours = [one for one in mixed if one.watermark == "lattice"]
    for has, (either, table) in ((False, (rows, rows)), (True, (mixed, ours))):
        page = write_page(write(tmp_path / f"{has}.csv", list(either)))
        assert (sentence in page.read_text(encoding="utf-8")) is has
        assert (sentence in short_table(either, {})) is has
        assert ("Rows by 2 versions" in protocol_table(table[:1] + table[-1:])) is has


def test_publishing_says_that_rows_are_of_several_versions(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/evaluation.md"):
        (tmp_path / name).write_text("<!-- comparison: begin -->\n<!-- comparison: end -->\n")
    write(tmp_path / "run.csv", [rows[0], replace(rows[1], versions="genwm 0.2.0"), replace(rows[0], span="9f")])
    refused = CliRunner().invoke(publish, ["--no-run", "--out", "run.csv"])
    assert (refused.exit_code, refused.stderr[:47]) == (2, "error[bad-input]: Expected rows of one span, go")
    done = CliRunner().invoke(publish, ["--no-run", "--out", "run.csv", "--span", "24f"])
    assert done.exit_code == 0, done.output
    sentence = "Rows by 2 versions of the code: genwm 0.1.0: 1, genwm 0.2.0: 1."
    assert sentence in done.stderr
    assert all(sentence in (tmp_path / name).read_text() for name in ("run.html", "README.md", "docs/evaluation.md"))


def test_the_full_table_begins_with_what_ours_loses(rows: list[Row], tmp_path: Path) -> None:
    text = full_table(rows, [], tmp_path / "run.html")
    assert text.index("### Where ours is behind") < text.index("### Attack by attack")
    assert "| h264.crf40 | bit accuracy | 0.83 | 0.98 | Video Seal, Video Seal's" in text
    assert "| h264.crf40 | 67 [21, 94] / 67; 0.83 | 0 [0, 56] / 0; 0.50 |" in text
    assert "| combined.crf40 | 1.00 | 0.62 | 0.50 | 0.51 | 0.51 | 0.53 | 0.57 |" in text


def test_every_colour_that_follows_the_page_is_there_in_light_and_dark() -> None:
    style = Path(plots.__file__).with_name("style.html.j2").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{([^}]*)\}", style)
    for name in {*plots._THEME.values(), *re.findall(r"var\((--[a-z-]+)\)", style)} - {"--method"}:
        assert f"{name}: " in light
        assert f"{name}: " in dark
    assert plots.themed(f"fill: {plots.COLOURS[0]}") == "fill: var(--blue, #0072b2)"
