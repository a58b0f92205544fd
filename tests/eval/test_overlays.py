"""Overlays beyond the table, each against a property that does not come from its own code."""

from __future__ import annotations

import numpy as np
import pytest

from eval.attacks import Clip, overlays
from eval.attacks.model import Edit
from tests.eval.edits import HEIGHT, edited, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


@pytest.mark.parametrize(
    ("edit", "least", "most"),
    [
        (overlays.logo(), 0.002, 0.02),
        (overlays.emoji(), 0.05, 0.16),
        (overlays.border(0.08), 0.25, 0.28),
        (overlays.blur_box(0.4), 0.1, 0.17),
    ],
)
def test_overlays_cover_the_share_that_they_say(clip: Clip, edit: Edit, least: float, most: float) -> None:
    shown, _ = edited(edit, clip.frames[:2])
    changed = [np.abs(a.y.astype(int) - b.y) > 0 for a, b in zip(shown, clip.frames, strict=False)]
    assert least < changed[0].mean() < most
    assert (changed[0] & changed[1]).sum() > 0.6 * changed[0].sum()  # it stands still


def test_a_border_has_one_colour_and_keeps_the_inside(clip: Clip) -> None:
    ((shown,), _) = edited(overlays.border(0.08), [clip.frames[0]])
    width = round(0.08 * HEIGHT)
    assert np.array_equal(shown.y[width:-width, width:-width], clip.frames[0].y[width:-width, width:-width])
    assert len(np.unique(shown.y[:width])) == len(np.unique(shown.y[:, -width:])) == 1


def test_a_blur_box_takes_detail_away(clip: Clip) -> None:
    ((shown,), _) = edited(overlays.blur_box(0.4), [clip.frames[0]])
    inside = shown.y != clip.frames[0].y
    rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    detail = [np.abs(np.diff(part[box].astype(int), axis=1)).mean() for part in (clip.frames[0].y, shown.y)]
    assert detail[1] < 0.5 * detail[0]
