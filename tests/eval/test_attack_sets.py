"""The sets of attacks, and what holds for every attack."""

from __future__ import annotations

import numpy as np
import pytest

from eval.attacks import ATTACKS, SETS, Encode, Maker, attacks_named
from eval.attacks.extra import GRID_CRFS, GRID_CROPS
from genwm.video import Planes
from tests.eval.edits import edited


def test_sets_name_attacks_that_are_there() -> None:
    assert len(SETS["quick"]) == 20
    for name, members in SETS.items():
        assert len(set(members)) == len(members)
        assert [attack.id for attack in attacks_named([name])] == list(members)
    assert len(SETS["full"]) == len(ATTACKS) >= 120


def test_the_grid_is_every_crop_by_every_crf() -> None:
    assert len(SETS["grid"]) == len(GRID_CROPS) * len(GRID_CRFS)
    for name in SETS["grid"]:
        attack = ATTACKS[name]
        assert isinstance(attack.after, Encode)
        assert name.endswith(f"h264.crf{attack.after.crf:g}")
        assert attack.after.codec == "h264"


def test_sets_and_ids_mix_and_name_each_attack_once() -> None:
    names = [attack.id for attack in attacks_named(["h264.crf30", "quick", "gif"])]
    assert names[0] == "h264.crf30"
    assert names[-1] == "gif"
    assert len(names) == len(set(names)) == 21


def test_the_protocol_of_video_seal_holds_its_rows() -> None:
    rows = SETS["videoseal-72"]
    wanted = {"h264.crf30", "h264.crf40", "h264.crf50", "h265.crf50", "seal.crop.0.71", "seal.perspective.0.5"}
    assert wanted | {f"combined.crf{crf}" for crf in (23, 30, 40, 50)} <= set(rows)
    # Single edits reach the reader without a codec's loss, as arrays do.
    assert all(ATTACKS[name].after == Encode(codec="ffv1") for name in rows if name.startswith("seal."))


@pytest.mark.parametrize(("width", "height", "count", "full_range"), [(96, 64, 1, False), (64, 112, 2, True)])
def test_every_edit_takes_one_frame_and_upright_clips(width: int, height: int, count: int, full_range: bool) -> None:
    grey = np.full((height, width), 90, np.uint8)
    half = grey[::2, ::2]
    frames = [Planes(y=grey, u=half, v=half, time_s=0.0, index=0, full_range=full_range)] * count
    still = Maker(same=iter, other=iter, original=lambda: frames)  # type: ignore[arg-type]
    for name, attack in ATTACKS.items():
        shown, fps = edited(attack.insider(still) if attack.insider else attack.edit, frames)
        assert shown, name
        assert fps > 0
        for one in shown:
            rows, columns = one.y.shape
            assert one.u.shape == one.v.shape == (rows // 2, columns // 2), name
            assert rows % 2 == columns % 2 == 0
            assert {plane.dtype for plane in (one.y, one.u, one.v)} == {np.dtype(np.uint8)}
            assert one.full_range == full_range
