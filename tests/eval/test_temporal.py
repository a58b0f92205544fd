"""Edits of time beyond the table, each against a property that does not come from its own code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from eval.attacks import Clip, temporal
from eval.attacks.model import Edit
from tests.eval.edits import edited, same, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


@pytest.mark.parametrize(
    ("edit", "count", "fps"),
    [
        (temporal.to_rate(Fraction(60)), 60, 60),
        (temporal.to_rate(Fraction(12)), 12, 12),
        (temporal.double_rate(), 48, 48),
        (temporal.window_average(3), 24, 24),
        (temporal.reorder(0.25), 24, 24),
        (temporal.reverse(), 24, 24),
        (temporal.splice(0.3), 24, 24),
    ],
)
def test_the_duration_is_kept(clip: Clip, edit: Edit, count: int, fps: int) -> None:
    shown, rate = edited(edit, clip.frames)
    assert (len(shown), rate) == (count, fps)
    assert Fraction(len(shown)) / rate == 1


def test_a_higher_rate_shows_the_frame_that_is_due(clip: Clip) -> None:
    shown, _ = edited(temporal.to_rate(Fraction(60)), clip.frames)
    assert [one.index for one in shown[:10]] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_interpolation_is_the_mean_of_neighbours(clip: Clip) -> None:
    shown, _ = edited(temporal.double_rate(), clip.frames)
    assert all(same(shown[2 * index], one) for index, one in enumerate(clip.frames))
    wanted = (clip.frames[4].y.astype(float) + clip.frames[5].y) / 2
    assert np.abs(shown[9].y - wanted).max() <= 0.5
    average, _ = edited(temporal.window_average(3), clip.frames)
    wanted = np.mean([one.y.astype(float) for one in clip.frames[4:7]], axis=0)
    assert np.abs(average[5].y - wanted).max() <= 0.5


def test_repeats_and_new_orders_lose_no_frame(clip: Clip) -> None:
    shown = [one.index for one in edited(temporal.repeat(0.25), clip.frames)[0]]
    assert sorted(set(shown)) == list(range(24))
    assert (len(shown), shown) == (30, sorted(shown))
    mixed = [one.index for one in edited(temporal.reorder(0.25), clip.frames)[0]]
    assert sorted(mixed) == list(range(24)) != mixed
    assert all(mixed[start : start + 6] == list(range(mixed[start], mixed[start] + 6)) for start in range(0, 24, 6))


def test_a_splice_replaces_the_middle_alone(clip: Clip) -> None:
    shown, _ = edited(temporal.splice(0.25), clip.frames)
    other = [index for index, (a, b) in enumerate(zip(shown, clip.frames, strict=True)) if not same(a, b)]
    assert other == list(range(9, 15))
