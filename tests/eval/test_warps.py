"""Warps, each against a property that does not come from its own code."""

from __future__ import annotations

import numpy as np
import pytest

from eval.attacks import Clip, photometry, warps
from genwm.video import Planes
from tests.clips import psnr
from tests.eval.edits import HEIGHT, WIDTH, edited, planes, same, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


@pytest.fixture(scope="module")
def frame(clip: Clip) -> Planes:
    return clip.frames[7]


def test_perspective_moves_corners_inwards_within_its_bound(clip: Clip) -> None:
    white = [planes(np.full((HEIGHT, WIDTH), 235))]
    for seed in range(6):
        ((shown,), _) = edited(warps.perspective(0.3), white, seed)
        covered = shown.y > 120
        # Nothing but the outer 15 % of each side (.3 of its half) may be lost.
        rows, columns = round(0.15 * HEIGHT) + 1, round(0.15 * WIDTH) + 1
        assert covered[rows:-rows, columns:-columns].all()
        assert 0.49 < covered.mean() < 1
    one, other = (edited(warps.perspective(0.3), clip.frames[:2], 3)[0] for _ in range(2))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))


def test_perspective_of_corners_that_stay_changes_nothing(frame: Planes) -> None:
    still = warps.in_perspective(frame, corners=[(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)])
    assert psnr(still.y, frame.y) > 60


def test_spinning_by_half_a_turn_reverses_both_axes(frame: Planes) -> None:
    result = warps.spun(frame, degrees=180)
    assert psnr(result.y, frame.y[::-1, ::-1]) > 55
    assert psnr(result.u, frame.u[::-1, ::-1]) > 55


def test_spinning_is_counter_clockwise_and_leaves_black_corners() -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    dot = np.exp(-((rows - 80) ** 2 + (columns - 136) ** 2) / 18)
    turned = warps.spun(planes(16 + 200 * dot), degrees=90).y.astype(float) - 16
    y, x = (turned * rows).sum() / turned.sum(), (turned * columns).sum() / turned.sum()
    assert (y + 0.5 - 80, x + 0.5 - 96) == pytest.approx((-40.5, 0.5), abs=0.3)  # from the right to the top
    white = warps.spun(planes(np.full((HEIGHT, WIDTH), 235)), degrees=10)
    assert white.y[0, 0] == white.y[-1, -1] == 16
    assert white.y[HEIGHT // 2, WIDTH // 2] == 235


def test_a_quarter_turn_is_clockwise_and_loses_nothing(frame: Planes) -> None:
    result = warps.quarter_turned(frame)
    assert result.y.shape == (WIDTH, HEIGHT)
    assert np.array_equal(result.y[:, -1], frame.y[0])  # the top row is the right column, from the top
    assert np.array_equal(np.sort(result.u.ravel()), np.sort(frame.u.ravel()))


@pytest.mark.parametrize("shape", [(160, 192), (720, 1280), (1280, 720), (1024, 436), (500, 500)])
def test_a_portrait_window_is_the_largest_of_its_shape(shape: tuple[int, int]) -> None:
    left, top, width, height = warps.portrait_window(*shape)
    assert width / height == pytest.approx(9 / 16, rel=0.03)
    assert width >= shape[1] - 3 or height >= shape[0] - 3
    assert abs(2 * left + width - shape[1]) <= 3
    assert abs(2 * top + height - shape[0]) <= 3
    assert left % 2 == top % 2 == width % 2 == height % 2 == 0


def test_vertical_shows_the_middle_or_the_whole(frame: Planes) -> None:
    cropped = warps.upright(frame)
    assert cropped.y.shape == (160, 90)
    assert np.array_equal(cropped.y, frame.y[:, 50:140])
    whole = warps.on_blur(frame)
    height, width = whole.y.shape
    assert width == WIDTH
    assert height == pytest.approx(WIDTH * 16 / 9, abs=2)
    top = (height - HEIGHT) // 4 * 2
    assert np.array_equal(whole.y[top : top + HEIGHT], frame.y)
    assert np.abs(np.diff(whole.y[:top].astype(int), axis=1)).mean() < 2  # soft


def test_a_picture_in_a_picture_is_small_and_stays_where_it_is(clip: Clip) -> None:
    shown, _ = edited(warps.picture_in_picture(0.6), clip.frames[:3])
    change = np.abs(shown[2].y.astype(int) - shown[0].y)
    rows, columns = np.nonzero(change.any(axis=1))[0], np.nonzero(change.any(axis=0))[0]
    assert np.ptp(rows) < 96
    assert np.ptp(columns) < 116
    small = warps.resized(clip.frames[0], width=116, height=96)
    places = [
        (top, left)
        for top in range(0, 66, 2)
        for left in range(0, 78, 2)
        if np.array_equal(shown[0].y[top : top + 96, left : left + 116], small.y)
    ]
    assert len(places) == 1


def test_panning_goes_from_one_corner_to_the_other(clip: Clip) -> None:
    shown, _ = edited(warps.pan(1.25), [clip.frames[0]] * 5)
    assert {one.y.shape for one in shown} == {(HEIGHT, WIDTH)}
    for one, (top, left) in ((shown[0], (0, 0)), (shown[-1], (32, 38))):
        small = warps.resized(one, width=154, height=128)
        part = clip.frames[0].y[top : top + 128, left : left + 154]
        assert psnr(photometry.blurred(small, sigma=1).y, photometry.blurred(planes(part), sigma=1).y) > 27
