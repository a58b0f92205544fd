"""Tracks: windows under a person, scores, the annotated copy, and what is said without ultralytics."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import detectors.synthetic
from detectors import tracks
from detectors.commands.analyze import analyze
from detectors.dataset import tracked_clips
from detectors.tracks import Box, Track, Tracks, _pieces, _window, load_weights, score_people, write_annotated
from genwm.errors import (
    FetchError,
    InputError,
    MissingExtraError,
    OutputError,
    OutputExistsError,
    SameFileError,
    UnsupportedFormatError,
)
from genwm.video import probe, read_rgb, write_video
from tests.clips import make_clip


def _boxes(count: int, x0: float, y0: float, x1: float, y1: float, *, start: int = 0) -> tuple[Box, ...]:
    return tuple(Box(start + index, x0, y0, x1, y1, 0.9) for index in range(count))


@pytest.fixture
def halves(tmp_path: Path) -> Tracks:
    """A clip whose left half is dark and whose right half is bright, with a person in each and a car in the middle."""
    frames = np.full((30, 160, 320, 3), 40, np.uint8)
    frames[:, :, 160:] = 200
    frames[::2] += 9  # pictures that repeat are not looked at
    path = tmp_path / "halves.mp4"
    write_video(path, frames, fps=10, crf=10, preset="veryfast")
    found = (Track(1, "person", _boxes(30, 20, 10, 130, 150)),
             Track(2, "person", _boxes(25, 190, 10, 300, 150, start=5)), Track(3, "car", _boxes(30, 100, 10, 220, 150)))
    return Tracks(str(path), probe(path), "stub", tuple(index / 10 for index in range(30)), found)


def test_a_person_is_scored_on_what_lies_under_the_track(halves: Tracks, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    def classify(collector: Any, *, model: Any, stability: bool) -> Any:
        (segment,) = collector.segments()
        seen.append(segment.size)
        return SimpleNamespace(segments=(1,), logit=3.0 if segment.small.y.mean() > 120 else -3.0)

    monkeypatch.setattr(detectors.synthetic, "classify", classify, raising=False)
    scored = score_people(halves, SimpleNamespace(id="stub"))
    left, right, car = scored.tracks
    assert left.score is not None
    assert right.score is not None
    assert left.score.probability < 0.1 < 0.9 < right.score.probability
    assert (left.score.seconds, right.score.seconds) == (3.0, 2.0)
    assert car.score is None
    assert set(seen) == {(140, 110)}


def test_of_a_crowd_few_pieces_are_held_at_once(halves: Tracks, monkeypatch: pytest.MonkeyPatch) -> None:
    held = most = 0

    class Counted(tracks._Held):
        def __init__(self, *args: Any) -> None:
            nonlocal held, most
            super().__init__(*args)
            held += 1
            most = max(most, held)

    def classify(collector: Any, *, model: Any, stability: bool) -> Any:
        nonlocal held
        held -= 1
        return SimpleNamespace(segments=collector.segments(), logit=1.0)

    monkeypatch.setattr(tracks, "_Held", Counted)
    monkeypatch.setattr(tracks, "_HELD", 4)
    monkeypatch.setattr(detectors.synthetic, "classify", classify, raising=False)
    crowd = tuple(Track(number, "person", _boxes(20, 20 + number, 10, 130, 150, start=number % 5))
                  for number in range(11))
    scored = score_people(replace(halves, tracks=crowd), SimpleNamespace(id="stub"))
    assert (most, held) == (4, 0)
    assert all(each.score is not None and each.score.seconds == 2.0 for each in scored.tracks)


def test_windows_are_even_inside_the_frame_and_large_enough(halves: Tracks) -> None:
    info = halves.info
    assert _window(_boxes(3, 20, 10, 130, 150), info) == (20, 10, 130, 150)
    for corner in ((0, 0, 8, 8), (315, 155, 320, 160), (150, 70, 160, 80)):
        window = _window(_boxes(3, *corner), info)
        assert window is not None
        x0, y0, x1, y1 = window
        assert 0 <= x0 <= corner[0]
        assert corner[2] <= x1 <= 320
        assert corner[3] <= y1 <= 160
        assert min(x1 - x0, y1 - y0) >= 96
        assert all(value % 2 == 0 for value in window)


def test_pieces_spread_over_a_long_track() -> None:
    track = Track(1, "person", _boxes(1000, 0, 0, 9, 9))
    pieces = _pieces(track, 25.0)
    assert [piece[0].index for piece in pieces] == [0, 300, 650, 950]
    assert all(len(piece) == 50 for piece in pieces)
    assert [len(piece) for piece in _pieces(Track(1, "person", _boxes(3, 0, 0, 9, 9)), 25.0)] == [3]


def test_the_annotated_copy_says_what_it_is(halves: Tracks, tmp_path: Path) -> None:
    import av

    write_annotated(halves, tmp_path / "out.mp4")
    with read_rgb(tmp_path / "out.mp4") as reader:
        frames = [frame for _, frame in reader]
    assert len(frames) == 30
    assert np.ptp(frames[3][80, 18:24].astype(int), axis=0).max() > 60  # an edge of the left box
    assert frames[3][-20:, :120].max() > 180  # light words on dark
    with av.open(str(tmp_path / "out.mp4")) as opened:
        assert "Derived by genwm analyze from halves.mp4" in opened.metadata["comment"]


def test_boxes_are_told_in_displayed_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wide.mp4"
    make_clip(path, width=160, height=96, frames=2, sample_aspect=Fraction(2))
    monkeypatch.setattr(tracks, "require", lambda *_: SimpleNamespace(__version__="0"))
    found = (Track(1, "car", _boxes(2, 20, 10, 100, 90)),)
    document = Tracks(str(path), probe(path), "stub", (0.0, 0.04), found).to_json()
    assert (document["input"]["width"], document["input"]["height"]) == (320, 96)
    assert document["tracks"][0]["boxes"][0][1:5] == [40, 10, 200, 90]
    (clip,) = tracked_clips({"here": document})
    (frame, *_) = clip.frames
    assert frame.boxes == (("car", 20, 10, 100, 90),)  # of the frame that is written


def test_without_ultralytics_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, extra: str) -> Any:
        raise MissingExtraError(f'Expected the optional package {module}, got none; run: pip install "genwm[{extra}]"')

    monkeypatch.setattr(tracks, "require", missing)
    with pytest.raises(MissingExtraError, match=r"genwm\[tracks\]"):
        load_weights("yolo26n.pt")


def test_pillow_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """ultralytics puts an ``Image.open`` of its own in place of Pillow's, which installs packages."""
    def imported(module: str, _: str) -> Any:
        if module == "ultralytics":
            monkeypatch.setattr(Image, "open", None)
        return SimpleNamespace(YOLO=lambda *_, **__: "a model")

    before = Image.open
    monkeypatch.setattr(tracks, "require", imported)
    assert load_weights("yolo26n.yaml") == "a model"
    assert Image.open is before


def test_weights_that_cannot_be_had_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(tracks, "require", lambda *_: SimpleNamespace(YOLO=unreachable))
    with pytest.raises(FetchError, match=r"file .yolo26n.pt., or a model of that name"):
        load_weights("yolo26n.pt")
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    with pytest.raises(InputError, match="check the path"):
        load_weights(tmp_path / "broken.pt")
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    monkeypatch.setattr(tracks, "require", lambda *_: SimpleNamespace(YOLO=lambda *_, **__: "anything is taken"))
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        load_weights(tmp_path / "clip.mp4")


@pytest.mark.filterwarnings("default")
def test_the_command_states_the_licence_and_finds_nothing_with_random_weights(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics", exc_type=ImportError,
                        reason="tracking is not tested: it needs the extra 'tracks', and libGL")
    make_clip(tmp_path / "clip.mp4", width=160, height=96, frames=3)
    arguments = [str(tmp_path / "clip.mp4"), "--weights", "yolo26n.yaml", "--size", "64", "--json"]
    result = CliRunner().invoke(analyze, arguments)
    assert result.exit_code == 0, result.output
    assert "AGPL-3.0" in result.stderr
    document = json.loads(result.stdout)
    assert (document["input"]["frames_read"], document["tracks"]) == (3, [])
    (tmp_path / "mine.mp4").write_bytes(b"mine")
    kept = CliRunner().invoke(analyze, [*arguments, "--video", str(tmp_path / "mine.mp4")])
    assert isinstance(kept.exception, OutputExistsError)
    assert (tmp_path / "mine.mp4").read_bytes() == b"mine"
    for name, refused in (("mine.txt", UnsupportedFormatError), ("no/folder.mp4", OutputError),
                          ("clip.mp4", SameFileError)):
        early = CliRunner().invoke(analyze, [*arguments, "--video", str(tmp_path / name), "--overwrite"])
        assert isinstance(early.exception, refused)
        assert "AGPL-3.0" not in early.stderr  # nothing was followed yet
    wrong = CliRunner().invoke(analyze, [*arguments, "--only", "unicorn"])
    assert isinstance(wrong.exception, InputError)
    assert str(wrong.exception).startswith("Expected classes")
