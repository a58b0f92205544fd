"""The timeline: which seconds of a spliced clip are marked, and with which payload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectors import read_watermark
from detectors.scan import Limits, Settings
from detectors.scan.single import scan
from detectors.search import EARLY_LOOK
from detectors.timeline import Grid
from detectors.watermark import EVERYWHERE, Segment
from genwm.keys import Key
from genwm.video import write_video
from tests.clips import KEY, PAYLOAD, Frames, marked, scene

OTHER = Key("other", bytes(range(64, 96)), "2026-01-31T12:00:00+00:00")
UNUSED = Key("unused", bytes(range(96, 128)), "2026-01-31T12:00:00+00:00")
SECOND = 0x00FF00FF00FF00FF
FPS = 12
LENGTH = 3 * FPS  # frames of each part: three seconds


@pytest.fixture(scope="module")
def parts() -> dict[str, Frames]:
    """Three seconds each of 480 x 288: unmarked, payload A, payload B, and C by another key."""
    footage = scene(480, 288, LENGTH, seed=5)
    return {"-": footage, "A": marked(footage), "B": marked(footage, SECOND), "C": marked(footage, key=OTHER)}


def segments(tmp_path: Path, parts: dict[str, Frames], order: str) -> tuple[Segment, ...]:
    frames = np.concatenate([parts[name] for name in order])
    write_video(tmp_path / "clip.mp4", frames, fps=FPS, crf=20, preset="veryfast", gop=2 * FPS)
    return read_watermark(tmp_path / "clip.mp4", keys=[UNUSED, KEY, OTHER], timeline=True).segments


@pytest.mark.parametrize("order", ["A", "-A", "A-", "-A-", "AB", "A-B", "A-A", "AC", "CB"])
def test_a_spliced_clip_gives_its_parts(tmp_path: Path, parts: dict[str, Frames], order: str) -> None:
    expected = [
        (3.0 * place, 3.0 * place + 3, {"A": PAYLOAD, "B": SECOND, "C": PAYLOAD}[name], OTHER if name == "C" else KEY)
        for place, name in enumerate(order)
        if name != "-"
    ]
    found = segments(tmp_path, parts, order)
    assert [(part.payload, part.key) for part in found] == [(payload, key.name) for _, _, payload, key in expected]
    for part, (start, stop, _, _) in zip(found, expected, strict=True):
        assert part.start == pytest.approx(start, abs=0.5)
        assert part.stop == pytest.approx(stop, abs=0.5)
        assert part.log10_p < -6


@pytest.mark.parametrize("order", ["AD", "D-A"])
def test_a_clip_that_was_cut_and_enlarged_is_found_beside_one_that_was_not(
    tmp_path: Path, parts: dict[str, Frames], order: str
) -> None:
    """Its lattice is another than the one that the whole file's reading finds."""
    enlarged = np.stack([
        np.asarray(Image.fromarray(frame[24:264, 40:440]).resize((480, 288), Image.Resampling.BICUBIC))
        for frame in parts["B"]
    ])
    found = segments(tmp_path, {**parts, "D": enlarged}, order)
    expected = [(3.0 * place, {"A": PAYLOAD, "D": SECOND}[name]) for place, name in enumerate(order) if name != "-"]
    assert [(part.start, part.stop, part.payload) for part in found] == [
        (pytest.approx(start, abs=0.5), pytest.approx(start + 3, abs=0.5), payload) for start, payload in expected
    ]


def test_a_negative_is_found_beside_a_clip_in_the_same_place(tmp_path: Path, parts: dict[str, Frames]) -> None:
    for order in ("AN", "NA"):
        found = segments(tmp_path, {**parts, "N": 255 - parts["B"]}, order)
        assert [part.payload for part in found] == [{"A": PAYLOAD, "N": SECOND}[name] for name in order]
        assert [edge for part in found for edge in (part.start, part.stop)] == pytest.approx([0, 3, 3, 6], abs=0.5)


def test_a_part_between_the_sampled_frames_is_searched_for(tmp_path: Path, parts: dict[str, Frames]) -> None:
    frames = np.concatenate([parts[name] for name in "--A---"])
    write_video(tmp_path / "clip.mp4", frames, fps=FPS, crf=20, preset="veryfast", gop=1000)
    sampled, searched = (
        read_watermark(tmp_path / "clip.mp4", keys=[UNUSED, KEY], timeline=True, everywhere=everywhere, max_frames=16)
        for everywhere in (False, True)
    )
    assert (sampled.status, sampled.segments) == ("not_detected", ())
    assert (searched.status, searched.key, searched.payload) == ("detected", KEY.name, PAYLOAD)
    (part,) = searched.segments
    assert (part.start, part.stop) == (pytest.approx(6, abs=0.5), pytest.approx(9, abs=0.5))
    settings = Settings(keys=(KEY,), detectors=("watermark",), limits=Limits(frames=16))
    assert [scan(tmp_path / "clip.mp4", replace(settings, everywhere=everywhere)).verdict
            for everywhere in (False, True)] == ["no_evidence", "watermark_detected"]  # fmt: skip


def test_segments_pay_for_every_stretch_that_was_searched(
    tmp_path: Path, parts: dict[str, Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.concatenate([parts[name] for name in "--A---"])
    write_video(tmp_path / "clip.mp4", frames, fps=FPS, crf=20, preset="veryfast", gop=1000)
    looks = list[float]()

    def timeline(*_: object, found: Grid, **__: object) -> tuple[Segment, ...]:
        looks.append(found.looks)
        return ()

    monkeypatch.setattr("detectors.watermark.timeline_of", timeline)
    for max_frames in (16, 256):  # too few to find it with, and all
        read_watermark(tmp_path / "clip.mp4", keys=[KEY], timeline=True, everywhere=True, max_frames=max_frames)
    assert looks == pytest.approx([EARLY_LOOK * 4 / EVERYWHERE, EARLY_LOOK / (1 - EVERYWHERE)])  # 18 s: 4 stretches


def test_of_a_long_file_stretches_spread_over_it_are_searched(
    tmp_path: Path, parts: dict[str, Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "clip.mp4", np.concatenate([parts["-"]] * 6), fps=FPS, crf=30, preset="veryfast")
    monkeypatch.setattr("detectors.watermark.MOST_STRETCHES", 2)
    reading = read_watermark(tmp_path / "clip.mp4", keys=[KEY], everywhere=True)
    assert reading.status == "not_detected"
    assert reading.warnings == ("2 of 4 stretches of the file were searched",)
    sampled = read_watermark(tmp_path / "clip.mp4", keys=[KEY], max_frames=16)
    reading = read_watermark(tmp_path / "clip.mp4", keys=[KEY], everywhere=True, max_frames=16)
    assert sampled.frames_read <= 16
    assert 2 * 4 * FPS <= reading.frames_read <= 2 * 5 * FPS + 16  # two stretches of five seconds, each frame once


def test_an_unmarked_clip_has_no_segments(tmp_path: Path, parts: dict[str, Frames]) -> None:
    assert segments(tmp_path, parts, "-") == ()


def test_there_is_no_timeline_unless_asked(tmp_path: Path, parts: dict[str, Frames]) -> None:
    write_video(tmp_path / "clip.mp4", parts["A"], fps=FPS, crf=20, preset="veryfast")
    assert read_watermark(tmp_path / "clip.mp4", keys=[KEY]).segments == ()
