"""Attacks by people who can mark, against a mark that is a chequer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.attacks import ATTACKS, Clip, Maker, insiders, warps
from genwm.errors import InputError
from genwm.video import Planes
from tests.clips import psnr
from tests.eval.edits import HEIGHT, WIDTH, edited, planes, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


def maker(amount: int = 6) -> Maker:
    """A mark that is a still chequer of 4 x 4 blocks of luma; the other is a chequer of 8 x 8."""

    def marked(size: int) -> Any:
        def mark(frames: Iterable[Planes]) -> Iterator[Planes]:
            for one in frames:
                yield replace(one, y=np.clip(one.y + amount * chequer(size, one.y.shape), 0, 255).astype(np.uint8))

        return mark

    return Maker(same=marked(4), other=marked(8), original=list)


def chequer(size: int, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> np.ndarray[Any, np.dtype[np.int16]]:
    rows, columns = np.indices(shape) // size
    return (1 - 2 * ((rows + columns) % 2)).astype(np.int16)


def presence(frames: Iterable[Planes], size: int = 4) -> float:
    """How much of the chequer is in the mean frame, in levels."""
    mean = np.mean([one.y.astype(float) for one in frames], axis=0)
    return float(((mean - warps.blurred(planes(mean), sigma=3).y) * chequer(size)).mean())


def test_subtracting_an_estimate_takes_the_mark_away(clip: Clip) -> None:
    made = maker()
    marked = list(made.same(clip.frames))
    assert presence(marked) > 4
    collected, _ = edited(insiders.subtract_collected(24)(made), marked)
    assert abs(presence(collected)) < 0.35 * presence(marked)
    assert psnr(collected[0].y, clip.frames[0].y) > 26
    own, _ = edited(insiders.subtract_own()(made), marked)
    assert abs(presence(own)) < 0.35 * presence(marked)


def test_a_transplant_puts_the_mark_on_a_clip_that_had_none(clip: Clip) -> None:
    made = replace(maker(), original=lambda: clip.frames)
    assert abs(presence(clip.frames)) < 1
    forged, _ = edited(insiders.transplant(24)(made), list(made.same(clip.frames)))
    assert presence(forged) > 3
    assert ATTACKS["transplant.16+h264.crf23"].forges


def test_overwriting_adds_a_second_mark(clip: Clip) -> None:
    made = maker()
    marked = list(made.same(clip.frames))
    twice, _ = edited(insiders.overwrite()(made), marked)
    assert presence(twice, 8) > presence(marked, 8) + 1.5
    assert presence(twice) > 0.7 * presence(marked)


def test_an_attack_that_marks_needs_a_maker(clip: Clip) -> None:
    with pytest.raises(InputError, match=r"^Expected a clip with its maker for overwrite\+h264\.crf23, got none"):
        ATTACKS["overwrite+h264.crf23"].apply(clip, np.random.default_rng(0))
