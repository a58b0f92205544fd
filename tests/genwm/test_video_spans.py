"""Behaviour of genwm.video where a file is read stretch by stretch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from genwm import video
from genwm.errors import DecodeError
from genwm.video import Span, decoding
from tests.clips import scene
from tests.written import written

FPS = 25
COUNT = 100
SPANS = [
    [Span(0.0, 0.4), Span(1.2, 1.6), Span(3.0)],
    [Span(0.5, None, 3), Span(0.7, None, 3), Span(3.4, None, 50)],
    [Span(0.2, 0.8), Span(0.8, 1.2), Span(1.24, 1.3)],  # one begins where the last ends
    [Span(2.0, None, 1), Span(2.04, None, 1), Span(9.0, None, 1)],  # the last lies behind the end
    [Span(0.39, None, 2), Span(2.79, None, 2)],  # a tick of AVI before a key frame
    [Span(1.0, 2.0), Span(0.5, 1.0)],  # backwards
    [Span(0.0, 0.2), Span(9.0), Span(2.0, 2.2)],  # back from behind the end
    [Span(1.0, 2.0), Span(1.5, 2.5)],  # overlapping
]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return scene(160, 96, COUNT)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Callable[[str, str, int], Path]:
    """A clip of a codec and container with a key frame every so many frames."""
    folder = tmp_path_factory.mktemp("clips")

    @cache
    def clip(codec: str, container: str, gop: int) -> Path:
        return written(folder / f"{codec}-{gop}.{container}", pictures, codec, gop=gop)

    return clip


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many frames decoders gave."""
    counts: Counter[str] = Counter()
    plain = decoding._frames

    def counted(*arguments: Any) -> Iterator[Any]:
        for frame in plain(*arguments):
            counts["decoded"] += frame is not None
            yield frame

    monkeypatch.setattr(decoding, "_frames", counted)
    return counts


def expected(frames: Sequence[video.Planes], spans: Sequence[Span]) -> list[float]:
    times_s: list[float] = []
    for span in spans:
        inside = [frame.time_s for frame in frames if frame.time_s >= span.start_s - 1e-6
                  and (span.stop_s is None or frame.time_s < span.stop_s - 1e-6)]
        times_s += inside[: span.max_frames]
    return times_s


@pytest.mark.parametrize("gop", [10, 50, 250])
@pytest.mark.parametrize(("codec", "container"), [
    ("h264", "mp4"), ("h264", "ts"), ("hevc", "mkv"), ("vp9", "webm"), ("mpeg4", "avi"),
])
def test_stretches_give_the_frames_that_the_whole_file_has_there(
    clips: Callable[[str, str, int], Path], codec: str, container: str, gop: int
) -> None:
    path = clips(codec, container, gop)
    whole = {round(frame.time_s, 3): frame for frame in video.read_planes(path)}
    for spans in SPANS:
        with video.read_planes(path, span=spans) as reader:
            found = list(reader)
        times_s = [frame.time_s for frame in found]
        assert times_s == pytest.approx(expected([*whole.values()], spans)), spans
        for frame in found:
            assert np.array_equal(frame.y, whole[round(frame.time_s, 3)].y), spans
        with path.open("rb") as file:  # a stream is sought for each
            assert [frame.time_s for frame in video.read_planes(file, span=spans)] == times_s, spans
        assert [time_s for time_s, _ in video.read_rgb(path, span=spans)] == times_s, spans


@pytest.mark.parametrize("source", ["path", "stream"])
def test_a_format_that_cannot_seek_is_read_on_or_from_the_start(
    tmp_path: Path, clips: Callable[[str, str, int], Path], work: Counter[str], source: str
) -> None:
    raw = tmp_path / "clip.h264"  # has no times, and loses its place where it is sought
    with av.open(str(clips("h264", "mp4", 10))) as container, av.open(str(raw), "w", format="h264") as output:
        copy = output.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
    with raw.open("rb") as file:
        found = list(video.read_planes(raw if source == "path" else file, span=SPANS[1]))
    assert [frame.index for frame in found] == list(range(len(found)))
    assert [frame.time_s for frame in found] == pytest.approx(
        [start_s + index / FPS for start_s, count in ((0.52, 3), (0.72, 3), (3.4, 15)) for index in range(count)])
    assert work["decoded"] == COUNT


def test_of_one_group_of_pictures_nothing_is_decoded_twice(
    tmp_path: Path, pictures: np.ndarray, work: Counter[str]
) -> None:
    path = written(tmp_path / "clip.mp4", pictures, gop=250)
    spans = [Span(start_s, start_s + 0.2) for start_s in (0.0, 1.0, 2.0, 3.0)]
    assert len(list(video.read_planes(path, span=spans))) == 20
    assert work["decoded"] <= COUNT
    work.clear()
    assert sum(len(list(video.read_planes(path, span=span))) for span in spans) == 20
    assert work["decoded"] > 1.5 * COUNT


def test_what_lies_behind_a_key_frame_is_sought(tmp_path: Path, pictures: np.ndarray, work: Counter[str]) -> None:
    path = written(tmp_path / "clip.mp4", pictures, gop=10)
    spans = [Span(0.0, 0.2), Span(3.2, 3.4)]
    assert len(list(video.read_planes(path, span=spans))) == 10
    assert work["decoded"] < 40


def test_what_several_stretches_meet_with_is_told_once(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mkv", pictures, gop=10)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with video.read_planes(path, span=[Span(0.0, 0.2), Span(3.0, 3.2), Span(3.5)]) as reader:
        assert len(list(reader)) == 5
        assert reader.warnings == [
            f"the file ends after {size // 2:,} of the {size:,} bytes that its header claims",
            "the video stops at 2.0 s of the 4.0 s that its header claims",
        ]


def test_a_later_stretch_that_cannot_be_read_is_a_warning(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "clip.mp4", pictures, gop=10)
    plain, passes = decoding._frames, Counter[str]()

    def broken(*arguments: Any) -> Iterator[Any]:
        passes["all"] += 1
        if passes["all"] > 1:
            raise DecodeError("damaged")
        yield from plain(*arguments)

    monkeypatch.setattr(decoding, "_frames", broken)
    with video.read_planes(path, span=[Span(0.0, 0.2), Span(3.0, 3.2)]) as reader:
        assert len(list(reader)) == 5
        assert reader.warnings == ["nothing could be read from 3.0 s on"]
