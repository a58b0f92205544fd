"""Chains of edits: the shape and rate that they end in, and what they do on the way."""

from __future__ import annotations

import numpy as np
import pytest

from eval.attacks import ATTACKS, Clip, chains
from genwm.video import Planes, probe
from tests.eval.edits import HEIGHT, WIDTH, edited, planes, same, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


@pytest.fixture(scope="module")
def frame(clip: Clip) -> Planes:
    return clip.frames[7]


@pytest.mark.parametrize(
    ("name", "size", "fps"),
    [("chain.short-video", (90, 160), 24), ("chain.messenger", (192, 160), 24), ("chain.screen", (168, 140), 60)],
)
def test_chains_end_in_the_shape_and_rate_that_they_say(clip: Clip, name: str, size: tuple[int, int], fps: int) -> None:
    info = probe(ATTACKS[name].apply(clip, np.random.default_rng(1)))
    assert ((info.width, info.height), info.codec, info.fps) == (size, "h264", fps)


def test_fitting_never_enlarges(frame: Planes) -> None:
    assert chains.fitted(frame, lines=480) is frame
    assert chains.fitted(frame, lines=80).y.shape == (80, 96)


def test_moire_is_within_its_depth_and_stands_still() -> None:
    grey = planes(np.full((HEIGHT, WIDTH), 126))
    (one, other), _ = edited(chains.moire(0.04), [grey, grey])
    assert same(one, other)
    swing = (one.y.astype(float) - 126) / 110
    assert 0.02 < np.abs(swing).max() <= 0.045
    assert abs(swing.mean()) < 0.005
