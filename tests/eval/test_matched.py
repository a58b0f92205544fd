"""Quality by method, and robustness at the same quality, on rows whose answers are known."""

from __future__ import annotations

import pytest

from eval.intervals import of_shares, wilson
from eval.report.matched import Match, matches, quality_by_method
from eval.report.measures import overall
from eval.robustness import Row
from tests.eval.rows import found, quality_row, row


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
