"""Intervals: their level in simulations, published values, and SciPy's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.intervals import of_mean, of_median, of_share, of_shares, wilson

Interval = Callable[[list[float]], tuple[float, float]]
Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


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


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and 0 or all of n.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_against_published_values(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_rate_and_solves_its_equation(count: int, share: float) -> None:
    hits = round(share * count)
    rate = hits / count
    low, high = wilson(hits, count)
    assert 0 <= low <= rate + 1e-12
    assert rate - 1e-12 <= high <= 1
    for bound in (low, high):  # the score test at the bound has z = 1.96
        if 0 < bound < 1:
            assert (rate - bound) ** 2 * count == pytest.approx(1.959964**2 * bound * (1 - bound), rel=1e-6, abs=1e-12)
