"""Reading: what was done to a marked clip, the mark is found again; without it, or without its key, nothing is."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import detectors
from detectors import read_watermark
from detectors.watermark import FRAME_BUDGET, SMALL_LINES, key_frames, opened
from genwm import Key
from genwm.errors import EmptyFileError, InputError, KeyMissingError, NotFoundError
from genwm.keys import Keyring
from genwm.lattice.decision import HINT_LOG10_P, THRESHOLD_LOG10_P
from genwm.video import probe, write_image, write_video
from tests.clips import KEY, PAYLOAD, Frames, make_clip, marked, projected, scene

OTHER = Key("other", bytes(range(1, 33)), KEY.created)
Edit = Callable[[Frames], Frames]


@pytest.fixture(scope="module")
def clip() -> Frames:
    """Marked RGB frames uint8 ``(24, 360, 640, 3)``."""
    return marked(scene(640, 360, 24))


@pytest.fixture(scope="module")
def plain_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of an unmarked clip."""
    path = tmp_path_factory.mktemp("plain") / "plain.mp4"
    make_clip(path, width=456, height=256, frames=16, seed=3)
    return path


def written(path: Path, frames: Frames, **options: Any) -> Path:
    write_video(path, frames, **{"fps": 25, "crf": 22, "preset": "veryfast", **options})
    return path


def resized(width: int, height: int) -> Edit:
    def edit(frames: Frames) -> Frames:
        pictures = (Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in frames)
        return np.stack([np.asarray(picture) for picture in pictures])

    return edit


def turned(degrees: float) -> Edit:
    def edit(frames: Frames) -> Frames:
        pictures = (Image.fromarray(frame).rotate(-degrees, Image.Resampling.BICUBIC) for frame in frames)
        return np.stack([np.asarray(picture) for picture in pictures])

    return edit


def cut(frames: Frames) -> Frames:
    """80 % of each side, off the middle."""
    return frames[:, 22:310, 70:582]


EDITS: dict[str, tuple[Edit, dict[str, float | bool]]] = {
    "unchanged": (lambda frames: frames, {"scale": 1, "rotation": 0, "flip": False, "aspect": 1}),
    "cut": (cut, {"scale": 1.25, "rotation": 0, "flip": False, "aspect": 1}),
    "cut and enlarged": (lambda frames: resized(640, 360)(cut(frames)), {"scale": 1.25, "flip": False, "aspect": 1}),
    "enlarged": (resized(960, 540), {"scale": 1, "aspect": 1}),
    "halved": (resized(320, 180), {"scale": 1, "aspect": 1}),
    "mirrored": (lambda frames: frames[:, :, ::-1], {"scale": 1, "flip": True, "rotation": 0}),
    "upside down": (lambda frames: frames[:, ::-1], {"scale": 1, "flip": True}),
    "on its side": (lambda frames: np.rot90(frames, axes=(1, 2)), {"scale": 1, "rotation": -90, "flip": False}),
    "on its other side, in the old frame": (turned(90), {"scale": 1, "rotation": 90, "flip": False}),
    "squeezed": (resized(480, 360), {"aspect": 0.75, "rotation": 0}),
    "turned": (turned(5), {"rotation": 5, "scale": 1, "flip": False}),
    "letterboxed": (lambda frames: np.pad(frames, ((0, 0), (40, 40), (0, 0), (0, 0))), {"scale": 0.818, "aspect": 1}),
    "darker": (lambda frames: (frames * 0.5).astype(np.uint8), {"scale": 1}),
    "grey": (lambda frames: frames.mean(axis=3, keepdims=True).repeat(3, axis=3).astype(np.uint8), {"scale": 1}),
    "channels swapped": (lambda frames: frames[..., ::-1], {"scale": 1, "flip": False}),
    "hue turned by a third": (lambda frames: frames[..., [1, 2, 0]], {"scale": 1, "flip": False}),
    "mirrored, channels swapped": (lambda frames: frames[:, :, ::-1, ::-1], {"scale": 1, "flip": True}),
    "negative": (lambda frames: 255 - frames, {"scale": 1, "flip": False}),
    "negative, mirrored": (lambda frames: 255 - frames[:, :, ::-1], {"scale": 1, "flip": True}),
    "every other frame": (lambda frames: frames[::2], {"scale": 1}),
    "trimmed": (lambda frames: frames[7:], {"scale": 1}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_copy_is_recognised(tmp_path: Path, clip: Frames, name: str) -> None:
    edit, geometry = EDITS[name]
    reading = read_watermark(written(tmp_path / "copy.mp4", edit(clip)), keys=[KEY])
    assert (reading.status, reading.key, reading.payload) == ("detected", KEY.name, PAYLOAD)
    assert reading.log10_p <= THRESHOLD_LOG10_P
    assert reading.negative == name.startswith("negative")
    assert reading.geometry is not None
    for part, value in geometry.items():
        found = getattr(reading.geometry, part)
        assert found == pytest.approx(value, abs=0.5 if part == "rotation" else 0.012 * float(value)), part


def test_a_copy_in_its_own_colours_is_read_by_them(tmp_path: Path, clip: Frames) -> None:
    """Luma alone, for where colours are lost, has little more than half of the evidence."""
    plain, *others = (
        read_watermark(written(tmp_path / "copy.mp4", EDITS[name][0](clip)), keys=[KEY]).log10_p
        for name in ("unchanged", "mirrored", "upside down", "on its side", "negative")
    )
    assert max(others) < 0.85 * plain < 0


def test_a_picture_in_perspective_is_made_straight(tmp_path: Path, clip: Frames) -> None:
    corners = [(60, 20), (600, 5), (520, 300), (30, 340)]
    reading = read_watermark(written(tmp_path / "slanted.mp4", projected(clip, corners)), keys=[OTHER, KEY],
                             timeline=True)  # fmt: skip
    assert (reading.status, reading.key, reading.payload) == ("detected", KEY.name, PAYLOAD)
    assert reading.geometry is not None
    assert reading.geometry.scale == pytest.approx(1, abs=0.01)
    assert reading.perspective
    assert any("perspective" in warning for warning in reading.warnings)
    (segment,) = reading.segments
    assert (segment.start, segment.payload) == (0, PAYLOAD)
    assert segment.stop == pytest.approx(len(clip) / 25, abs=0.05)
    plain = read_watermark(written(tmp_path / "plain.mp4", projected(scene(640, 360, 8), corners)), keys=[KEY])
    assert (plain.status, plain.perspective) == ("not_detected", False)
    assert not plain.warnings


def test_hard_compression_leaves_a_mark_that_adds_up(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "copy.mp4", clip, crf=30)
    assert read_watermark(path, keys=[KEY]).status == "detected"


@pytest.mark.parametrize(("codec", "suffix", "crf"), [("hevc", "mp4", 26), ("vp9", "webm", 34), ("av1", "mkv", 35)])
def test_other_codecs(tmp_path: Path, clip: Frames, codec: Any, suffix: str, crf: int) -> None:
    preset = {"hevc": "ultrafast", "vp9": "8", "av1": "12"}[codec]
    path = written(tmp_path / f"copy.{suffix}", clip, codec=codec, crf=crf, preset=preset)
    assert read_watermark(path, keys=[KEY]).payload == PAYLOAD


@pytest.mark.parametrize("rotation", [90, 180])
def test_a_rotated_recording_is_read_as_displayed(tmp_path: Path, clip: Frames, rotation: int) -> None:
    stored = np.ascontiguousarray(np.rot90(clip, rotation // 90, axes=(1, 2)))
    reading = read_watermark(written(tmp_path / "copy.mp4", stored, rotation=rotation), keys=[KEY])
    assert reading.payload == PAYLOAD
    assert reading.geometry is not None
    assert (reading.geometry.flip, round(reading.geometry.rotation)) == (False, 0)
    assert (reading.info.width, reading.info.height) == (640, 360)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_still_images(tmp_path: Path, clip: Frames, suffix: str) -> None:
    write_image(tmp_path / f"still.{suffix}", clip[5], quality=90)
    reading = read_watermark(tmp_path / f"still.{suffix}", keys=[KEY])
    assert (reading.payload, reading.frames_read, reading.info.is_still) == (PAYLOAD, 1, True)


def test_a_stream_is_read_like_a_file(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "copy.mp4", clip)
    one, other = read_watermark(path, keys=[KEY]), read_watermark(io.BytesIO(path.read_bytes()), keys=[KEY])
    assert (one.payload, one.log10_p) == (other.payload, other.log10_p)


# --- keys


def test_frames_in_memory_are_read_like_a_file(clip: Frames) -> None:
    reading = read_watermark(clip, keys=KEY, timeline=True)
    assert (reading.status, reading.payload) == ("detected", PAYLOAD)
    assert [part.payload for part in reading.segments] == [PAYLOAD]
    for wrong in (clip[0], clip.astype(np.float32), clip[:0]):
        with pytest.raises(InputError, match=r"Expected frames of shape \(frames, height, width, 3\)"):
            read_watermark(wrong, keys=[KEY])


def test_without_the_key_there_is_nothing(tmp_path: Path, clip: Frames) -> None:
    reading = read_watermark(written(tmp_path / "copy.mp4", clip), keys=[OTHER])
    assert (reading.status, reading.key, reading.payload, reading.geometry) == ("not_detected", None, None, None)
    assert HINT_LOG10_P < reading.log10_p <= 0
    assert reading.frames_read == len(clip)


def test_one_of_several_keys_is_named(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "copy.mp4", clip)
    decoys = [Key(f"decoy-{number}", bytes([number] * 32), KEY.created) for number in range(4)]
    reading = read_watermark(path, keys=[*decoys, KEY, OTHER])
    assert (reading.key, reading.payload) == (KEY.name, PAYLOAD)
    assert reading.log10_p >= read_watermark(path, keys=[KEY]).log10_p  # more keys, more chances


def test_a_retired_key_still_reads(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "copy.mp4", clip)
    assert read_watermark(path, keys=[replace(KEY, retired=True)]).payload == PAYLOAD


def test_two_marks_in_one_clip_are_each_found_by_their_key(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "both.mp4", marked(clip, 99, key=OTHER))
    assert read_watermark(path, keys=[KEY]).payload == PAYLOAD
    assert read_watermark(path, keys=[OTHER]).payload == 99


def test_no_keys_are_an_error(plain_clip: Path) -> None:
    with pytest.raises(KeyMissingError, match="genwm keys new"):
        read_watermark(plain_clip, keys=[])


@pytest.mark.parametrize("keys", ["studio", None, 7, [KEY, "studio"], Keyring(Path("none"))])
def test_other_keys_are_refused(plain_clip: Path, keys: Any) -> None:
    with pytest.raises(InputError, match=r"^Expected a Key or a sequence of Keys, got a \w+; get them from"):
        read_watermark(plain_clip, keys=keys)


def test_keys_may_come_one_by_one(tmp_path: Path, clip: Frames) -> None:
    reading = read_watermark(written(tmp_path / "clip.mp4", clip), keys=(key for key in (OTHER, KEY)))
    assert (reading.key, reading.payload) == (KEY.name, PAYLOAD)


class Endless(io.RawIOBase):
    """A stream that cannot go back."""

    def readable(self) -> bool:
        return True


@pytest.mark.parametrize("source", [
    None, 7, b"bytes", [np.zeros((8, 8, 3), np.uint8)], Endless(), io.StringIO("text"), memoryview(b"bytes"),
])
def test_sources_that_are_no_file_are_refused(source: Any) -> None:
    with pytest.raises(InputError, match=rf"^Expected a path, a binary file .* got a {type(source).__name__}; "):
        read_watermark(source, keys=KEY)


def test_a_closed_file_and_a_tensor_are_refused(plain_clip: Path) -> None:
    with plain_clip.open("rb") as file:
        pass
    with pytest.raises(InputError, match="got a BufferedReader; open the file"):
        read_watermark(file, keys=KEY)
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match="got a Tensor; "):
        read_watermark(torch.zeros(4, 3, 8, 8), keys=KEY)


@pytest.mark.parametrize("count", [0, -1, 2.5, None])
def test_at_least_one_frame_is_read(plain_clip: Path, count: Any) -> None:
    with pytest.raises(InputError, match="Expected max_frames of at least 1"):
        read_watermark(plain_clip, keys=KEY, max_frames=count)


# --- nothing to find


def test_an_unmarked_clip_has_no_mark(plain_clip: Path) -> None:
    reading = read_watermark(plain_clip, keys=[KEY, OTHER])
    assert (reading.status, reading.payload, reading.segments) == ("not_detected", None, ())
    assert reading.frames_read == 16


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_clips_have_no_mark(tmp_path: Path, level: int) -> None:
    path = written(tmp_path / "flat.mp4", np.full((3, 128, 160, 3), level, np.uint8))
    assert read_watermark(path, keys=[KEY]).status == "not_detected"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (16, 8), (1, 40)])
def test_tiny_pictures_are_tried_and_warned_about(tmp_path: Path, size: tuple[int, int]) -> None:
    write_image(tmp_path / "tiny.png", np.full((size[1], size[0], 3), 90, np.uint8))
    reading = read_watermark(tmp_path / "tiny.png", keys=[KEY])
    assert reading.status == "not_detected"
    assert any(str(SMALL_LINES) in warning for warning in reading.warnings)


def test_long_strips_are_tried_without_a_full_search(tmp_path: Path) -> None:
    write_image(tmp_path / "strip.png", np.tile(scene(64, 64, 1)[0][:2], (1, 60, 1)))
    before = time.process_time()  # not that of a busy machine's clock
    reading = read_watermark(tmp_path / "strip.png", keys=[KEY])
    assert time.process_time() - before < 5
    assert reading.status == "not_detected"
    assert any("as long as wide" in warning for warning in reading.warnings)


def test_a_stream_that_changes_its_size_is_read(tmp_path: Path, clip: Frames) -> None:
    sizes = written(tmp_path / "one.ts", clip, gop=8), written(tmp_path / "two.ts", clip[:8, :200, :320], gop=8)
    (tmp_path / "both.ts").write_bytes(sizes[0].read_bytes() + sizes[1].read_bytes())
    assert read_watermark(tmp_path / "both.ts", keys=[KEY]).payload == PAYLOAD


def test_the_frame_budget_is_kept(plain_clip: Path) -> None:
    assert read_watermark(plain_clip, keys=[KEY], max_frames=5).frames_read <= 5
    assert FRAME_BUDGET <= 1000


def test_a_clear_mark_costs_few_frames(tmp_path: Path, clip: Frames) -> None:
    assert read_watermark(written(tmp_path / "copy.mp4", clip), keys=[KEY]).frames_read < len(clip)


def test_what_the_reading_says_of_time_and_file(plain_clip: Path) -> None:
    reading = read_watermark(plain_clip, keys=[KEY])
    assert set(reading.timing) == {"decode", "search", "total"}
    assert reading.timing["total"] == pytest.approx(reading.timing["decode"] + reading.timing["search"])
    assert (reading.info.width, reading.info.height, reading.info.codec) == (456, 256, "h264")


def test_errors_of_the_file_pass_through(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(EmptyFileError):
        read_watermark(tmp_path / "empty.mp4", keys=[KEY])
    with pytest.raises(NotFoundError):
        read_watermark(tmp_path / "missing.mp4", keys=[KEY])


def test_a_truncated_clip_is_read_as_far_as_it_goes(tmp_path: Path, clip: Frames) -> None:
    path = written(tmp_path / "copy.mkv", clip, crf=16, gop=6)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert read_watermark(path, keys=[KEY]).payload == PAYLOAD


def test_the_lost_end_of_a_long_file_is_told_once(tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp4", scene(96, 64, 80), fps=1, gop=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    warnings = read_watermark(path, keys=[KEY]).warnings
    lost = [text for text in warnings if text.startswith("nothing could be read from ")]
    assert len(lost) == 1
    assert not any("clip.mp4" in text for text in warnings)


def test_public_names() -> None:
    assert sorted(detectors.__all__) == detectors.__all__
    for name in detectors.__all__:
        assert getattr(detectors, name).__name__.rpartition(".")[2] == name  # scan is a package that can be called
    with pytest.raises(AttributeError, match="nothing"):
        detectors.nothing  # noqa: B018


@pytest.mark.parametrize("fps", [25, 1])
def test_the_first_key_frame_tells_what_the_file_is(fps: int, tmp_path: Path) -> None:
    """Of a short file all key frames follow; of one over 30 seconds, those spread over it."""
    path = written(tmp_path / "clip.mp4", scene(96, 64, 40), fps=fps, gop=5)
    info, frames = opened(path, 1, 4, [])
    assert info == probe(path)
    assert [frame.time_s for frame in frames] == [frame.time_s for frame in key_frames(path, info, 1, 4, [])]


@pytest.mark.parametrize("given", [key_frames, lambda *known: opened(known[0], *known[2:])[1]])
def test_a_rare_key_frame_counts_once(given: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path / "clip.mp4", scene(96, 64, 40), fps=1, gop=15, options={"x264-params": "scenecut=0"})
    times = [frame.time_s for frame in given(path, probe(path), 1, 8, [])]
    assert times == [0.0, 15.0, 30.0]
