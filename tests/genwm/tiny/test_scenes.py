"""The renderer of the training clips, its captions, and the check that reads clips back."""

from __future__ import annotations

import numpy as np
import pytest

from genwm.errors import InputError
from genwm.tiny.checks import Asked, check, moving_objects
from genwm.tiny.data import HELD_OUT_FROM, clip, example, held_out, rendered
from genwm.tiny.scenes import COLOURS, DIRECTIONS, KINDS, Mover, Scene, caption, render, vocabulary


def test_a_number_gives_the_same_clip_again() -> None:
    first, second = clip(3), clip(3)
    assert first[0] == second[0]
    assert np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], clip(4)[1])


def test_shapes_and_boxes() -> None:
    made, frames, boxes = clip(5)
    assert frames.shape == (25, 320, 512, 3)
    assert frames.dtype == np.uint8
    assert len(boxes) == 25
    first = made.scene.movers[0]
    for box in (one for one in boxes[12] if one.track == 0):
        assert (box.kind, box.colour) == (first.kind, first.colour)
        assert 0 <= box.x0 < box.x1 <= 512
        assert 0 <= box.y0 < box.y1 <= 320


def test_boxes_move_as_the_caption_says() -> None:
    for number in range(40):
        made, _, boxes = clip(number) if number < 6 else (example(number), None, [])
        mover = made.scene.movers[0]
        if not boxes or mover.direction not in ("left", "right"):
            continue
        early, late = (next(box for box in boxes[time] if box.track == 0) for time in (4, 20))
        assert (late.x0 + late.x1 > early.x0 + early.x1) == (mover.direction == "right")


def test_captions_name_the_first_object_in_known_words() -> None:
    words = set(vocabulary())
    for number in range(300):
        made = example(number)
        said = made.caption.replace(",", " , ").split()
        assert set(said) <= words
        assert made.scene.movers[0].colour in said


def test_captions_vary() -> None:
    scene = example(0).scene
    assert len({caption(scene, np.random.default_rng(seed)) for seed in range(20)}) > 10


def test_held_out_combinations_are_never_trained_on() -> None:
    kept = [(colour, kind, way) for colour in COLOURS for kind in KINDS for way in DIRECTIONS
            if held_out(Mover(kind, colour, way, "near", 1.0, 0.0, 9.0, 0.0, (0.0, 0.0, 0.0)))]
    assert 10 <= len(kept) <= 20
    assert not any(held_out(mover) for number in range(500) for mover in example(number).scene.movers)
    for number in range(20):
        assert held_out(example(HELD_OUT_FROM + number).scene.movers[0]) == (number % 2 == 0)


def test_rendered_clips_are_kept(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    frames, places = rendered(folder, 2)
    assert np.array_equal(frames[1], clip(1)[1])
    assert places.shape == (2, 25, 2, 4)
    before = (folder / "boxes.npy").read_bytes()
    again, _ = rendered(folder, 2)
    assert np.array_equal(again, frames)
    assert (folder / "boxes.npy").read_bytes() == before


@pytest.mark.parametrize(("frames", "width", "fps"), [(0, 512, 25.0), (5, 32, 25.0), (5, 512, 0.0)])
def test_render_refuses_what_it_cannot_draw(frames: int, width: int, fps: float) -> None:
    scene = Scene.sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="Expected 1 frame or more"):
        render(scene, frames, width, 320, fps)


def test_the_check_reads_rendered_clips() -> None:
    held, colours = 0, list(COLOURS)
    for number in range(10):
        made, frames, _ = clip(HELD_OUT_FROM + number)
        mover = made.scene.movers[0]
        seen = check(frames, Asked(mover.colour, mover.kind, mover.direction))
        held += seen.all
        other = colours[(colours.index(mover.colour) + 3) % len(colours)]
        assert not check(frames, Asked(other, mover.kind, mover.direction)).colour or not seen.colour
    assert held >= 8


def test_nothing_holds_where_nothing_moves() -> None:
    still = np.repeat(clip(0)[1][:1], 9, axis=0)
    assert moving_objects(still) == []
    assert not any(check(still, Asked("red", "car", "left")))


def test_the_check_needs_frames() -> None:
    with pytest.raises(InputError, match="at least 5 frames"):
        moving_objects(np.zeros((4, 320, 512, 3), np.uint8))
