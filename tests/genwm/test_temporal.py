"""Temporal measures say what is true of clips whose properties are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from genwm.errors import InputError
from genwm.scenes import scene
from genwm.temporal import UNITS, Steadiness, flow, steadiness

Clip = NDArray[np.uint8]

WIDTH, HEIGHT, FRAMES = 256, 160, 6  # measured as it is: 160 lines are not reduced
SIDE = HEIGHT


def ground(width: int = WIDTH, height: int = HEIGHT, seed: int = 3) -> Clip:
    """A still picture with structure at every scale."""
    return scene(width, height, 1, seed)[0]


def moving(step: Callable[[int], int]) -> Clip:
    """A window that is moved over a picture to ``step(t)`` pixels from its left."""
    wide = ground(WIDTH + 128)
    return np.stack([wide[:, step(t) : step(t) + WIDTH] for t in range(FRAMES)])


def brighter(clip: Clip, levels: Callable[[int], float]) -> Clip:
    return np.stack([np.clip(frame + np.float32(levels(t)), 0, 255).round() for t, frame in enumerate(clip)]
                    ).astype(np.uint8)


def muted(clip: Clip) -> Clip:
    """Away from black and white, so that nothing is cut off."""
    return (clip // 2 + 64).astype(np.uint8)


STILL = np.repeat(muted(ground())[None], FRAMES, 0)


def test_a_frozen_clip_is_steady() -> None:
    assert steadiness(STILL) == Steadiness(0, 0, 0, 1)
    assert steadiness(np.full((3, 64, 64, 3), 128, np.uint8)) == Steadiness(0, 0, 0, 1)


@pytest.mark.parametrize("kind", ["still", "moving", "scene"])
def test_brightness_to_and_fro_is_flicker_and_no_motion(kind: str) -> None:
    clip = {"still": lambda: STILL, "moving": lambda: muted(moving(lambda t: 2 * t)),
            "scene": lambda: muted(scene(WIDTH, HEIGHT, FRAMES))}[kind]()  # fmt: skip
    steady = steadiness(clip)
    for levels in (1, 12):
        found = steadiness(brighter(clip, lambda t, levels=levels: levels * (-1) ** t))
        assert found.flicker == pytest.approx(2 * levels, rel=0.05)
        assert found.warping_error == pytest.approx((2 * levels / 255) ** 2 + steady.warping_error, rel=0.1)
        assert found.unsteadiness == pytest.approx(steady.unsteadiness, abs=0.05)
        assert found.followed == pytest.approx(steady.followed, abs=0.01)


def test_a_flicker_of_a_part_counts_for_that_part() -> None:
    half = STILL.astype(np.int16)
    half[1::2, :, : WIDTH // 2] += 8
    assert steadiness(half.astype(np.uint8)).flicker == pytest.approx(4, rel=0.1)


def test_a_linear_fade_is_no_flicker() -> None:
    found = steadiness(brighter(STILL, lambda t: 3 * t))
    assert (found.flicker, found.unsteadiness) == pytest.approx((0, 0), abs=0.01)
    assert found.warping_error == pytest.approx((3 / 255) ** 2, rel=0.02)


@pytest.mark.parametrize("speed", [1, 3, 6])
def test_a_pan_is_steady(speed: int) -> None:
    found = steadiness(moving(lambda t: speed * t))
    assert found.flicker < 0.15
    assert found.warping_error < 3e-5
    assert found.unsteadiness < 0.5
    assert found.followed > 0.94


def test_a_shaking_picture_is_unsteady_and_does_not_flicker() -> None:
    found = steadiness(moving(lambda t: 4 * (t % 2)))
    assert found.unsteadiness == pytest.approx(1000 * 8 / SIDE, rel=0.03)
    assert found.flicker < 0.15
    stuttering = steadiness(moving(lambda t: 4 * (t // 2)))  # every picture twice
    assert stuttering.unsteadiness == pytest.approx(1000 * 4 / SIDE, rel=0.03)


def test_a_moving_scene_is_steadier_than_the_same_with_anything_wrong() -> None:
    clip = scene(WIDTH, HEIGHT, FRAMES)
    good = steadiness(clip)
    assert good.flicker < 0.5
    assert good.unsteadiness < 5
    assert good.followed > 0.8
    boiling = np.random.default_rng(1).normal(0, 3, (FRAMES, HEIGHT // 16, WIDTH // 16, 1)).repeat(16, 1).repeat(16, 2)
    worse = steadiness(np.clip(clip + boiling, 0, 255).astype(np.uint8))
    assert worse.flicker > 5 * good.flicker
    assert worse.warping_error > 2 * good.warping_error
    assert steadiness(clip[[0, 1, 0, 1, 2, 1]]).unsteadiness > 3 * good.unsteadiness


def test_time_runs_either_way() -> None:
    clip = scene(WIDTH, HEIGHT, 4)
    there, back = steadiness(clip), steadiness(clip[::-1])
    assert there.flicker == pytest.approx(back.flicker, rel=0.01)
    assert there.unsteadiness == pytest.approx(back.unsteadiness, rel=0.01)


@pytest.mark.parametrize(
    "clip",
    [np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8),
     np.stack([ground(seed=seed) for seed in range(4)]), moving(lambda t: 15 * t)],
    ids=["noise", "cuts", "faster than is looked for"],
)
def test_what_cannot_be_followed_is_not_called_steady(clip: Clip) -> None:
    found = steadiness(clip)
    assert found.followed < 0.3
    assert all(math.isnan(value) for value in (found.flicker, found.warping_error, found.unsteadiness))


def test_a_cut_is_left_out() -> None:
    one, other = scene(WIDTH, HEIGHT, 4, 1), scene(WIDTH, HEIGHT, 4, 2)
    parts = [steadiness(one), steadiness(other)]
    both = steadiness(np.concatenate([one, other]))
    for name in ("flicker", "warping_error", "unsteadiness"):
        assert getattr(both, name) == pytest.approx(np.mean([getattr(part, name) for part in parts]), rel=0.05)
    assert both.followed < min(part.followed for part in parts)


def test_motion_below_a_pixel() -> None:
    """Against motion that is known: a picture drawn at two places."""
    rows, columns = np.mgrid[:96, :128].astype(np.float32)

    def drawn(x: float, y: float) -> NDArray[Any]:
        picture = np.sin((columns - x) / 3) * np.cos((rows - y) / 4) + 0.5 * np.sin((columns - x + 2 * (rows - y)) / 5)
        return (0.5 + 0.2 * picture).astype(np.float32)

    found = flow(drawn(0, 0), drawn(1.3, -0.6))[16:-16, 16:-16]
    np.testing.assert_allclose(np.median(found, (0, 1)), (1.3, -0.6), atol=0.06)


def test_each_measure_has_its_unit() -> None:
    assert list(UNITS) == list(Steadiness.__dataclass_fields__)


@pytest.mark.parametrize("clip", [STILL[:2], STILL[0], STILL.astype(np.float32), STILL[:, :32]])
def test_other_arrays_are_refused(clip: Any) -> None:
    with pytest.raises(InputError, match="Expected"):
        steadiness(clip)
