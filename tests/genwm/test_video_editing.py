"""Editing keeps every frame and every kind of sound, and says what the output cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from genwm import errors, video
from genwm.video.editing import _Copier
from tests.clips import make_clip, scene
from tests.written import times_of, unchanged, written


def sound_first(path: Path, source: Path) -> Path:
    """The streams of a file in the other order, as telephones write them."""
    with av.open(str(source)) as clip, av.open(str(path), "w") as output:
        streams = [*clip.streams.audio, *clip.streams.video]
        copies = {stream.index: output.add_stream_from_template(stream, opaque=True) for stream in streams}
        for packet in clip.demux(streams):
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return path


def test_the_last_frames_of_a_video_behind_its_sound_are_kept(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=192, height=128, frames=12, preset="medium", audio=True)
    path, out = sound_first(tmp_path / "in.mp4", tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    video.edit_video(path, out, unchanged, preset="ultrafast")
    assert len(times_of(path)) == 12
    assert times_of(out) == times_of(path)


def test_a_change_of_size_is_told_once(tmp_path: Path) -> None:
    joined, out = tmp_path / "joined.ts", tmp_path / "out.mp4"
    parts = [tmp_path / f"{width}.ts" for width in (192, 256)]
    for part, width in zip(parts, (192, 256), strict=True):
        make_clip(part, width=width, height=128, frames=12)
    joined.write_bytes(b"".join(part.read_bytes() for part in [*parts, *parts]))
    told: list[str] = []
    info = video.edit_video(joined, out, unchanged, preset="ultrafast", warn=told.append)
    assert (info.width, info.height) == (192, 128)
    assert len(times_of(out)) == len(times_of(joined)) == 48
    (change,) = [text for text in told if "192x128" in text]
    assert "joined.ts goes from 192x128 to 256x128 at" in change
    assert "out.mp4 keeps its first size" in change


def test_a_stream_that_shows_up_midway_does_not_spoil_the_end() -> None:
    """PyAV 18 asks memory that is not its own whether it is wanted, so a file would show it now and then."""
    def packets(_: object) -> Iterator[av.Packet]:
        yield last
        raise IndexError("list index out of range")

    last, copier = av.Packet(), object.__new__(_Copier)
    container = SimpleNamespace(streams=SimpleNamespace(audio=[], subtitles=[]), demux=packets)
    copier.opened = SimpleNamespace(container=container, stream=None)  # type: ignore[assignment]
    assert list(copier._packets()) == [last]


def with_sound(path: Path, source: Path, codec: str, layout: str = "stereo", language: str = "eng") -> Path:
    """The video of a file beside half a second of noise."""
    count = 24_000 * av.AudioLayout(layout).nb_channels
    noise = np.random.default_rng(0).integers(-1000, 1000, (1, count), dtype=np.int16)
    with av.open(str(source)) as clip, av.open(str(path), "w") as output:
        picture = output.add_stream_from_template(clip.streams.video[0])
        sound = output.add_stream(codec, rate=48_000, layout=layout)
        frame = av.AudioFrame.from_ndarray(noise, "s16", layout)
        frame.sample_rate, frame.pts = 48_000, 0
        sound.metadata["language"] = language
        context = sound.codec_context
        resampler = av.AudioResampler(context.format.name, layout, 48_000, context.frame_size or None)
        for piece in (*resampler.resample(frame), *resampler.resample(None), None):
            output.mux(sound.encode(piece))
        for packet in clip.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                output.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_sound_that_never_comes_does_not_stop_an_edit(tmp_path: Path, suffix: str, target: str) -> None:
    path, out, told = tmp_path / f"in.{suffix}", tmp_path / f"out.{target}", []
    make_clip(tmp_path / "clip.mp4", width=192, height=128, frames=12)
    with av.open(str(tmp_path / "clip.mp4")) as clip, av.open(str(path), "w") as output:
        picture = output.add_stream_from_template(clip.streams.video[0])
        output.add_stream("aac", rate=48_000, layout="stereo").metadata["language"] = "deu"
        for packet in clip.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                output.mux(packet)
    video.edit_video(path, out, unchanged, preset="ultrafast", warn=told.append)
    assert len(times_of(out)) == 12
    assert told == ([f"{path} announces sound that never came; left out"] if suffix == "ts" else [])


def test_damaged_data_ends_the_packets_with_the_one_that_empties_the_decoder(tmp_path: Path) -> None:
    def packets(_: object) -> Iterator[av.Packet]:
        yield last
        raise av.FFmpegError(1, "damaged")

    make_clip(tmp_path / "clip.mp4", width=192, height=128, frames=2)
    told: list[str] = []
    last, copier = av.Packet(), object.__new__(_Copier)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        container = SimpleNamespace(streams=SimpleNamespace(audio=[], subtitles=[]), demux=packets)
        stream = clip.streams.video[0]
        copier.opened = SimpleNamespace(container=container, stream=stream, name="x.mp4")  # type: ignore[assignment]
        copier.warn = told.append
        first, end = copier._packets()
        assert first is last
        assert (end.size, end.stream) == (0, stream)
    assert told == ["x.mp4 ends in damaged data; what came before it was kept"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    make_clip(path, width=192, height=128, frames=12, preset="ultrafast")
    return path


@pytest.mark.parametrize("layout", ["stereo", "5.1"])
def test_pcm_whose_loudspeakers_are_not_named_goes_into_mp4(tmp_path: Path, clip: Path, layout: str) -> None:
    """Matroska does not name them, nor do most AVI."""
    path, out = with_sound(tmp_path / "in.mkv", clip, "pcm_s16le", layout), tmp_path / "out.mp4"
    video.edit_video(path, out, unchanged, preset="ultrafast")
    with av.open(str(path)) as before, av.open(str(out)) as after:
        one, other = (np.concatenate([frame.to_ndarray() for frame in each.decode(audio=0)], 1)
                      for each in (before, after))  # fmt: skip
        assert after.streams.audio[0].layout.name == layout
    np.testing.assert_array_equal(one, other)


def test_the_last_packet_of_sound_that_does_not_say_its_length_is_kept(tmp_path: Path, clip: Path) -> None:
    path, out = with_sound(tmp_path / "in.mkv", clip, "alac"), tmp_path / "out.mp4"
    video.edit_video(path, out, unchanged, preset="ultrafast")
    counts = []
    for each in (path, out):
        with av.open(str(each)) as container:
            counts.append(sum(frame.samples for frame in container.decode(audio=0)))
    assert counts == [24_000, 24_000]


@pytest.mark.parametrize("codec", ["flac", "libopus"])
def test_sound_that_quicktime_cannot_hold_is_told_before_the_work(tmp_path: Path, clip: Path, codec: str) -> None:
    path = with_sound(tmp_path / "in.mkv", clip, codec)
    seen: list[object] = []
    with pytest.raises(errors.UnsupportedFormatError, match=r"Expected sound that .*out\.mov can hold"):
        video.edit_video(path, tmp_path / "out.mov", lambda frame: seen.append(frame) or frame)
    assert not seen


@pytest.mark.parametrize(("language", "written"), [("eng", "eng"), ("deu", "ger"), ("fre", "fra"), ("hrv", None)])
def test_quicktime_keeps_the_languages_that_it_can_name(
    tmp_path: Path, clip: Path, language: str, written: str | None
) -> None:
    path, out = with_sound(tmp_path / "in.mkv", clip, "pcm_s16le", language=language), tmp_path / "out.mov"
    warnings: list[str] = []
    video.edit_video(path, out, unchanged, preset="ultrafast", warn=warnings.append)
    with av.open(str(out)) as container:
        assert container.streams.audio[0].metadata.get("language") == written
    lost = [f"{out} cannot hold the languages ({language}) of {path}; left out"]
    assert warnings == ([] if written else lost)


@pytest.mark.parametrize(
    ("suffix", "lost"),
    [
        ("mp4", ""),
        ("mkv", ""),
        ("ts", "chapters and the metadata (artist, creation_time, two_words)"),
        ("avi", "chapters and the metadata (creation_time, two_words) and the languages (nld)"),
    ],
)
def test_what_the_container_cannot_hold_is_told(tmp_path: Path, suffix: str, lost: str) -> None:
    path, out = tmp_path / "in.mp4", tmp_path / f"out.{suffix}"
    said = {"title": "A title", "artist": "An artist", "two words": "kept",
            "creation_time": "2026-01-31T12:00:00.000000Z"}  # fmt: skip
    make_clip(path, width=192, height=128, preset="ultrafast", audio=True, chapters=True, metadata=said)
    warnings: list[str] = []
    video.edit_video(path, out, unchanged, preset="ultrafast", warn=warnings.append)
    assert warnings == ([f"{out} cannot hold the {lost} of {path}; left out"] if lost else [])


@pytest.mark.parametrize(("codec", "depth"), [(None, 10), ("vp9", 8)])
def test_ten_bits_stay_where_they_can_and_their_loss_is_told(tmp_path: Path, codec: Any, depth: int) -> None:
    path, out = written(tmp_path / "in.mkv", scene(192, 128, 4), bit_depth=10), tmp_path / "out.webm"
    warnings: list[str] = []
    info = video.edit_video(path, out, unchanged, codec=codec, warn=warnings.append)
    assert (info.codec, info.bit_depth) == (codec or "av1", depth)
    assert warnings == ([f"{out} has 8 bits a channel of the 10 of {path}"] if depth == 8 else [])
