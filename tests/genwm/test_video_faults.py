"""What goes wrong in ``genwm.video``: nothing is half-written, and bad input is one clear sentence."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genwm import errors, video
from genwm.video import YUVFrame
from tests.clips import audio_only, make_clip, scene
from tests.written import png, times_of, unchanged, written


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return scene(192, 128, 12)


# --- nothing half-written


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_a_failing_edit_leaves_nothing_behind(tmp_path: Path, pictures: np.ndarray, error: type[BaseException]) -> None:
    path = written(tmp_path / "in.mp4", pictures)

    def failing(frame: YUVFrame) -> YUVFrame:
        if frame.index == 5:
            raise error
        return frame

    with pytest.raises(error):
        video.edit_video(path, tmp_path / "out.mp4", failing, preset="ultrafast")
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_a_failing_source_of_frames_keeps_the_old_file(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mp4", pictures)
    content = path.read_bytes()

    def frames() -> Iterator[np.ndarray]:
        yield from pictures[:3]
        raise Boom

    with pytest.raises(Boom):
        video.write_video(path, frames(), fps=25)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_existing_and_same_files(tmp_path: Path, pictures: np.ndarray) -> None:
    path, other = written(tmp_path / "in.mp4", pictures[:2]), written(tmp_path / "out.mp4", pictures[:3])
    with pytest.raises(errors.OutputExistsError):
        video.edit_video(path, other, unchanged)
    video.edit_video(path, other, unchanged, overwrite=True, preset="ultrafast")
    assert len(times_of(other)) == 2
    link = tmp_path / "link.mp4"
    link.symlink_to(path)
    for same in (path, link, tmp_path / "." / "in.mp4"):
        with pytest.raises(errors.SameFileError):
            video.edit_video(path, same, unchanged, overwrite=True)
    with path.open("rb") as file, pytest.raises(errors.SameFileError):
        video.edit_video(file, path, unchanged, overwrite=True)


@pytest.mark.parametrize("target", ["out.mkv", "out.mov"])
def test_full_disk(tmp_path: Path, pictures: np.ndarray, target: str, request: pytest.FixtureRequest) -> None:
    path = written(tmp_path / "in.mp4", pictures)
    request.getfixturevalue("full_disk")
    with pytest.raises(errors.DiskFullError, match="disk"):
        video.edit_video(path, tmp_path / target, unchanged, codec="ffv1" if target == "out.mkv" else "prores")
    assert os.listdir(tmp_path) == ["in.mp4"]


# --- bad input


def bad_inputs(folder: Path) -> dict[str, Path]:
    clip = folder / "clip.mp4"
    make_clip(clip, width=64, height=64, frames=4)
    paths = {name: folder / f"{name}.mp4" for name in ("empty", "text", "noise", "headless", "playlist")}
    paths["empty"].write_bytes(b"")
    paths["text"].write_text("no video at all\n" * 100)
    paths["noise"].write_bytes(np.random.default_rng(0).bytes(50_000))
    paths["headless"].write_bytes(clip.read_bytes()[:600])
    paths["playlist"].write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n")
    paths["audio"] = folder / "audio.m4a"
    audio_only(paths["audio"])
    paths["huge"] = folder / "huge.png"
    paths["huge"].write_bytes(png(20_000, 20_000))
    paths["wide"] = folder / "wide.png"
    paths["wide"].write_bytes(png(20_000, 10))
    paths["folder"] = folder
    paths["device"] = Path("/dev/zero")
    paths["missing"] = folder / "missing.mp4"
    paths["protocol"] = Path(f"concat:{clip}")
    return paths


BAD = {
    "empty": errors.EmptyFileError,
    "text": errors.NotMediaError,
    "noise": errors.NotMediaError,
    "headless": errors.TruncatedError,
    "playlist": errors.NotMediaError,
    "audio": errors.NoVideoError,
    "huge": errors.TooLargeError,
    "wide": errors.TooLargeError,
    "folder": errors.NotMediaError,
    "device": errors.NotMediaError,
    "missing": errors.NotFoundError,
    "protocol": errors.NotFoundError,
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_clear_sentence(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = bad_inputs(tmp_path)[kind], tmp_path / "out"
    out.mkdir()
    actions: list[Callable[[], object]] = [
        lambda: video.probe(path),
        lambda: next(video.read_planes(path)),
        lambda: next(video.read_rgb(path, max_frames=1)),
        lambda: video.edit_video(path, out / "out.mp4", unchanged),
        lambda: video.edit_image(path, out / "out.png", unchanged),
    ]
    for action in actions:
        with pytest.raises(BAD[kind]) as caught:
            action()
        message = str(caught.value)
        assert message.startswith("Expected ")
        assert "; " in message
        assert "\n" not in message
        assert caught.value.__cause__ is None
    assert os.listdir(out) == []
    assert capfd.readouterr().err == ""


def test_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.NotMediaError, match=r"got a device or pipe at .*; write what it gives to a file first"):
        video.probe(tmp_path / "pipe")
    with pytest.raises(errors.NotFoundError, match="at -, got nothing; write what the pipe gives to a file first"):
        video.probe("-")


def test_an_empty_path_is_called_one() -> None:
    with pytest.raises(errors.NotFoundError, match="Expected the path of a file, got an empty one; give"):
        video.probe("")


def test_limits_hold_for_streams_and_headers_of_video(tmp_path: Path, pictures: np.ndarray) -> None:
    with pytest.raises(errors.TooLargeError):
        video.probe(io.BytesIO(png(20_000, 20_000)))
    with pytest.raises(errors.EmptyFileError):
        video.probe(io.BytesIO())
    path = written(tmp_path / "clip.mp4", pictures[:2])
    with pytest.raises(errors.TooLargeError, match="192 x 128"):
        video.edit_video(path, tmp_path / "out.mp4", unchanged, max_pixels=1000)


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_truncated_file_with_sound_says_so(tmp_path: Path, suffix: str) -> None:
    """Its header has a length, but not one of the video alone."""
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    codec, preset = ("vp9", "8") if suffix == "webm" else ("h264", "ultrafast")
    make_clip(whole, width=192, height=128, frames=60, gop=10, audio=True, codec=codec, preset=preset)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    expected = f"the file ends after {len(content) // 2:,} of the {len(content):,} bytes that its header claims"
    reader, whole_reader = video.read_planes(cut, max_frames=1), video.read_planes(whole)
    assert [sum(1 for _ in reader), sum(1 for _ in whole_reader)] == [1, 60]
    assert [reader.warnings, whole_reader.warnings] == [[expected], []]
    told: list[str] = []
    video.edit_video(cut, tmp_path / f"out.{suffix}", unchanged, preset=preset, warn=told.append)
    assert told == [f"{cut}: {expected}; what came before was kept"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_a_truncated_file_gives_what_is_left_and_says_so(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    make_clip(whole, width=192, height=128, frames=60, gop=10)
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    reader = video.read_planes(cut)
    count = sum(1 for _ in reader)
    assert 10 < count < 55
    assert reader.warnings or suffix == "ts"  # which claims no length
    keys = video.read_planes(cut, select="key")
    assert sum(1 for _ in keys)
    assert suffix == "ts" or any("the file ends after" in text for text in keys.warnings)
    whole_reader = video.read_planes(whole)
    assert sum(1 for _ in whole_reader) == 60
    assert not whole_reader.warnings
    with caplog.at_level("WARNING"):
        video.edit_video(cut, tmp_path / f"out.{suffix}", unchanged, preset="ultrafast")
    assert suffix == "ts" or "what came before was kept" in caplog.text
    assert len(times_of(tmp_path / f"out.{suffix}")) == pytest.approx(count, abs=2)


def test_damage_in_the_middle_is_skipped_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    make_clip(path, width=192, height=128, frames=40, gop=5)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(1).bytes(2000)
    path.write_bytes(bytes(content))
    assert sum(1 for _ in video.read_planes(path)) > 20


def test_an_endless_stream_ends_where_the_caller_says(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.ts", width=64, height=64, frames=10)
    content = (tmp_path / "clip.ts").read_bytes()

    class Endless(io.RawIOBase):
        position = 0

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def readinto(self, buffer: Any) -> int:
            start = self.position % len(content)
            data = content[start : start + len(buffer)]
            buffer[: len(data)] = data
            self.position += len(data)
            return len(data)

    stream: Any = Endless()
    assert len(list(itertools.islice(video.read_planes(stream, max_frames=25), 30))) == 25
