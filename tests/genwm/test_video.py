"""Behaviour of genwm.video: what goes in comes out, in every codec and container; bad input is one clear sentence."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import given
from hypothesis import strategies as st

from genwm import errors, video
from genwm.video import Orientation, Planes, YUVFrame
from genwm.video.encoding import working_format
from tests.clips import add_audio, make_clip, psnr, scene
from tests.written import FAST, brighter, rgb_of, times_of, unchanged, written

WHERE = [
    ("h264", "mp4"),
    ("h264", "mkv"),
    ("h264", "mov"),
    ("h264", "ts"),
    ("hevc", "mp4"),
    ("hevc", "mkv"),
    ("vp9", "webm"),
    ("vp9", "mp4"),
    ("av1", "mp4"),
    ("av1", "webm"),
    ("av1", "mkv"),
    ("prores", "mov"),
    ("ffv1", "mkv"),
    ("mpeg4", "mp4"),
    ("mpeg4", "avi"),
]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return scene(192, 128, 12)


# --- writing and reading


@pytest.mark.parametrize(("codec", "container"), WHERE)
def test_a_clip_comes_back_from_every_codec_and_container(
    tmp_path: Path, pictures: np.ndarray, codec: str, container: str
) -> None:
    path = written(tmp_path / f"clip.{container}", pictures, codec)
    info = video.probe(path)
    assert (info.codec, info.width, info.height, info.fps) == (codec, 192, 128, pytest.approx(25, rel=0.05))
    assert not info.is_still
    assert not info.has_audio
    frames = list(video.read_planes(path))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(12)], abs=0.002)
    assert [frame.index for frame in frames] == list(range(12))
    assert frames[0].key
    assert frames[0].picture_type == "I"
    assert frames[0].y.shape == (128, 192)
    assert frames[0].u.shape == frames[0].v.shape == (64, 96)
    assert psnr(rgb_of(path), pictures) > 34
    assert os.listdir(tmp_path) == [path.name]


def test_colour_comes_back_exactly_where_nothing_is_lost(tmp_path: Path, pictures: np.ndarray) -> None:
    reference = list(video.read_planes(written(tmp_path / "a.mkv", pictures, "ffv1")))
    video.write_video(tmp_path / "b.mkv", reference, fps=25, codec="ffv1")
    for one, other in zip(reference, video.read_planes(tmp_path / "b.mkv"), strict=True):
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.u, other.u)
        assert np.array_equal(one.v, other.v)
        assert one.color_space == other.color_space


def test_gif(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.gif", pictures[:6], "gif")
    assert video.probe(path).codec == "gif"
    frames = list(video.read_planes(path))
    assert len(frames) == 6
    assert frames[0].full_range
    assert psnr(rgb_of(path), pictures[:6]) > 22


@pytest.mark.parametrize("space", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
def test_matrix_and_range_are_honoured(tmp_path: Path, space: Any, full_range: bool) -> None:
    patches = np.array([[200, 30, 40], [40, 180, 60], [30, 60, 200], [250, 250, 250], [5, 5, 5], [128, 128, 128]])
    picture = np.repeat(patches.astype(np.uint8), 32, axis=0)[None].repeat(64, axis=0)
    path = written(tmp_path / "clip.mp4", [picture] * 3, color_space=space, full_range=full_range)
    info = video.probe(path)
    assert (info.color_space, info.color_range) == (space, "full" if full_range else "limited")
    middles = rgb_of(path)[0, 32, 16::32].astype(int)
    assert np.abs(middles - patches).max() <= 4
    planes = next(video.read_planes(path))
    assert planes.full_range is full_range
    white = int(planes.y[32, 3 * 32 + 16])
    assert abs(white - (250 if full_range else 231)) <= 2


@pytest.mark.parametrize(("height", "space"), [(128, "bt601"), (720, "bt709")])
def test_untagged_video_is_read_by_size(height: int, space: str) -> None:
    assert video.pixels.default_color_space(192, height) == space


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "prores"])
def test_ten_bits(tmp_path: Path, pictures: np.ndarray, codec: str) -> None:
    suffix = {"ffv1": "mkv", "prores": "mov"}.get(codec, "mp4")
    path = written(tmp_path / f"clip.{suffix}", pictures[:4], codec, bit_depth=10)
    assert video.probe(path).bit_depth == 10
    planes = next(video.read_planes(path))
    assert planes.y.dtype == np.uint8
    assert psnr(rgb_of(path), pictures[:4]) > 34


def test_ten_bits_in_eight_bit_codecs_are_refused(tmp_path: Path, pictures: np.ndarray) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match="10 bits"):
        written(tmp_path / "clip.webm", pictures, "vp9", bit_depth=10)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_rotation_is_honoured(tmp_path: Path, pictures: np.ndarray, rotation: int, suffix: str) -> None:
    codec = "vp9" if suffix == "webm" else "h264"
    upright = rgb_of(written(tmp_path / f"upright.{suffix}", pictures[:3], codec))
    path = written(tmp_path / f"turned.{suffix}", pictures[:3], codec, rotation=rotation)
    info = video.probe(path)
    assert info.rotation == rotation
    assert not info.mirrored
    assert (info.coded_width, info.coded_height) == (192, 128)
    assert (info.width, info.height) == ((192, 128) if rotation == 180 else (128, 192))
    assert np.array_equal(rgb_of(path), np.rot90(upright, -rotation // 90, axes=(1, 2)))
    planes = next(video.read_planes(path))
    assert planes.y.shape == (info.height, info.width)
    assert planes.u.shape == (info.height // 2, info.width // 2)


def test_sample_aspect(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "wide.mp4", pictures[:3], sample_aspect=Fraction(4, 3))
    info = video.probe(path)
    assert (info.width, info.height, info.coded_width) == (256, 128, 192)
    assert info.sample_aspect == pytest.approx(4 / 3)
    assert next(video.read_planes(path)).pixel_aspect == pytest.approx(4 / 3)
    assert info.display_scale == pytest.approx((1, 4 / 3))
    turned = written(tmp_path / "tall.mp4", pictures[:3], sample_aspect=Fraction(4, 3), rotation=90)
    assert (video.probe(turned).width, video.probe(turned).height) == (128, 256)
    assert video.probe(turned).display_scale == pytest.approx((4 / 3, 1))
    assert next(video.read_planes(turned)).pixel_aspect == pytest.approx(3 / 4)


TIMES = [0.0, 0.04, 0.11, 0.12, 0.3, 0.31, 0.4, 0.7, 0.71, 0.72, 0.9, 1.2]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_variable_frame_rate(tmp_path: Path, pictures: np.ndarray, suffix: str) -> None:
    path = written(tmp_path / f"clip.{suffix}", pictures, "vp9" if suffix == "webm" else "h264", times_s=TIMES)
    assert times_of(path) == pytest.approx(TIMES, abs=0.001)


def test_selecting_frames(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mp4", pictures, gop=4, preset="medium", options={"sc_threshold": "0"})
    keys = list(video.read_planes(path, select="key"))
    assert [frame.time_s for frame in keys] == pytest.approx([0.0, 0.16, 0.32])
    assert all(frame.key for frame in keys)
    references = list(video.read_planes(path, select="reference"))
    assert 3 <= len(references) < 12
    assert times_of(path, max_frames=3) == pytest.approx([0.0, 0.04, 0.08])
    assert times_of(path, span=video.Span(0.2, 0.32)) == pytest.approx([0.2, 0.24, 0.28])
    assert times_of(path, max_frames=0) == []
    everything = list(video.read_planes(path))
    assert np.array_equal(next(video.read_planes(path, span=video.Span(0.28))).y, everything[7].y)


def test_every_frame_is_read_where_no_key_frame_shows(tmp_path: Path, pictures: np.ndarray) -> None:
    path, hidden = written(tmp_path / "clip.mp4", pictures), tmp_path / "hidden.mp4"
    with (
        av.open(str(path)) as source,
        av.open(str(hidden), "w", container_options={"avoid_negative_ts": "disabled"}) as output,
    ):
        copy = output.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                packet.stream, packet.pts, packet.dts = copy, packet.pts - 512, packet.dts - 512
                output.mux(packet)  # the edit list now starts after the only key frame
    assert not next(video.read_planes(hidden)).key
    assert times_of(hidden, select="key", max_frames=5) == times_of(hidden, max_frames=5)
    assert len(times_of(hidden, select="key")) == 11


def test_scaling_down_keeps_the_shape_of_the_picture(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mp4", pictures[:2], rotation=90)
    planes = next(video.read_planes(path, max_short_side=64))
    assert planes.y.shape == (96, 64)
    assert planes.u.shape == (48, 32)
    assert planes.pixel_aspect == pytest.approx(1.0)
    assert next(video.read_planes(path, max_short_side=500)).y.shape == (192, 128)
    _, frame = next(video.read_rgb(path, max_short_side=64))
    assert frame.shape == (96, 64, 3)
    assert psnr(frame[..., 1], np.rot90(pictures[0], -1)[::2, ::2, 1]) > 16


def test_streams_in_memory(pictures: np.ndarray) -> None:
    for codec in ("h264", "vp9", "ffv1"):
        memory = io.BytesIO()
        video.write_video(memory, pictures[:3], fps=Fraction(30000, 1001), codec=codec, preset=FAST.get(codec))  # type: ignore[arg-type]
        memory.seek(0)
        info = video.probe(memory)
        assert info.codec == codec
        assert info.path == "<stream>"
        assert memory.tell() == 0
        assert len(list(video.read_planes(memory))) == 3


def test_odd_sizes_are_cropped_only_where_the_codec_needs_it(tmp_path: Path, pictures: np.ndarray) -> None:
    odd = pictures[:2, :127, :191]
    info = video.probe(written(tmp_path / "clip.mp4", odd))
    assert (info.width, info.height) == (190, 126)
    path = written(tmp_path / "clip.webm", odd, "vp9")
    planes = next(video.read_planes(path))
    assert planes.y.shape == (127, 191)
    assert planes.u.shape == (64, 96)


def test_writing_nothing_or_nonsense(tmp_path: Path, pictures: np.ndarray) -> None:
    for action, error in (
        (lambda: video.write_video(tmp_path / "a.mp4", [], fps=25), errors.EncodeError),
        (lambda: video.write_video(tmp_path / "a.xyz", pictures, fps=25), errors.UnsupportedFormatError),
        (lambda: video.write_video(tmp_path / "a.mp4", pictures, fps=25, codec="x"), errors.UnsupportedFormatError),  # type: ignore[arg-type]
        (lambda: video.write_video(tmp_path / "a.webm", pictures, fps=25), errors.OutputError),
        (lambda: video.write_video(tmp_path / "no" / "a.mp4", pictures, fps=25), errors.OutputError),
    ):
        with pytest.raises(error):
            action()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("codec", "least", "most"), [("h264", 0, 51), ("hevc", 0, 51), ("vp9", 0, 63), ("av1", 0, 63),
                                                      ("mpeg4", 1, 31)])  # fmt: skip
def test_rate_factors_are_those_of_the_codec(
    tmp_path: Path, pictures: np.ndarray, codec: Any, least: int, most: int
) -> None:
    coarse, fine = (written(tmp_path / f"{crf}.mkv", pictures[:2], codec, crf=crf) for crf in (most, least + 10))
    assert coarse.stat().st_size < fine.stat().st_size
    for crf in (least - 1, most + 1):
        with pytest.raises(errors.InputError, match=f"of {least} to {most} for {codec}, got {crf};"):
            video.write_video(tmp_path / "a.mkv", pictures, fps=25, codec=codec, crf=crf)
        with pytest.raises(errors.InputError, match=f"of {least} to {most} for {codec}, got {crf};"):
            video.edit_video(coarse, tmp_path / "a.mkv", unchanged, codec=codec, crf=crf)
    assert not (tmp_path / "a.mkv").exists()


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_same_frames_make_the_same_stream(codec: Any) -> None:
    """x264 with AVX-512 makes another one nearly each time."""
    frames = scene(240, 240, 12, 3)

    def stream() -> bytes:
        file = io.BytesIO()
        video.write_video(file, frames, fps=8, codec=codec, container="matroska", threads=1)
        file.seek(0)
        with av.open(file) as container:
            return b"".join(bytes(packet) for packet in container.demux(video=0))

    assert len({stream() for _ in range(5)}) == 1


@pytest.mark.parametrize("codec", ["prores", "ffv1", "gif"])
def test_codecs_without_a_rate_factor_refuse_one(tmp_path: Path, pictures: np.ndarray, codec: Any) -> None:
    with pytest.raises(errors.InputError, match=f"Expected no rate factor .* for {codec}"):
        video.write_video(tmp_path / f"a.{'gif' if codec == 'gif' else 'mov'}", pictures, fps=25, codec=codec, crf=20)
    assert os.listdir(tmp_path) == []


def test_mpeg4_without_a_quantiser_has_the_usual_one(tmp_path: Path, pictures: np.ndarray) -> None:
    usual, same = (written(tmp_path / f"{crf}.avi", pictures[:4], "mpeg4", crf=crf) for crf in (None, 4))
    assert usual.read_bytes() == same.read_bytes()


def test_gif_is_a_name_for_gif_alone(tmp_path: Path, pictures: np.ndarray) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match=r"ending in .*\.ts, got"):
        video.write_video(tmp_path / "a.gif", pictures, fps=25)
    with pytest.raises(errors.UnsupportedFormatError, match=r"ending in .*\.gif, got"):
        video.write_video(tmp_path / "a.xyz", pictures, fps=25, codec="gif")


def test_encoders_say_nothing(tmp_path: Path, pictures: np.ndarray, capfd: pytest.CaptureFixture[str]) -> None:
    for codec, suffix in (("h264", "mp4"), ("hevc", "mp4"), ("av1", "mp4"), ("vp9", "webm")):
        written(tmp_path / f"{codec}.{suffix}", pictures[:2], codec)
        rgb_of(tmp_path / f"{codec}.{suffix}")
    assert capfd.readouterr() == ("", "")


@given(st.booleans(), st.booleans(), st.booleans())
def test_orientation_follows_the_display_matrix(transpose: bool, flip_x: bool, flip_y: bool) -> None:
    picture = np.arange(6).reshape(2, 3)
    one = 1 << 16
    x, y = -one if flip_x else one, -one if flip_y else one
    turn = (0, y, 0, x, 0) if transpose else (x, 0, 0, 0, y)
    orientation = Orientation.from_matrix((*turn, 0, 0, 0, 1 << 30))
    assert orientation == Orientation(transpose, flip_x, flip_y)
    turned = orientation.apply(picture)
    expected = np.fliplr(picture) if orientation.mirrored else picture
    assert np.array_equal(turned, np.rot90(expected, -orientation.rotation // 90))


@pytest.mark.parametrize(
    ("source", "codec", "expected"),
    [
        ("yuv420p", "h264", "yuv420p"),
        ("yuvj422p", "h264", "yuv422p"),
        ("yuv444p12le", "h264", "yuv444p10le"),
        ("yuv444p12le", "hevc", "yuv444p12le"),
        ("yuva444p12le", "prores", "yuv444p10le"),
        ("yuva420p", "ffv1", "yuv420p"),
        ("yuv422p10le", "av1", "yuv420p10le"),
        ("yuv420p", "prores", "yuv422p10le"),
        ("rgb24", "h264", "yuv420p"),
        ("rgb24", "ffv1", "yuv444p"),
        ("pal8", "vp9", "yuv420p"),
        ("gray", "h264", "yuv420p"),
        ("nv12", "hevc", "yuv420p"),
        ("yuv411p", "h264", "yuv422p"),
    ],
)
def test_working_format_loses_as_little_as_the_codec_allows(source: str, codec: str, expected: str) -> None:
    assert working_format(source, codec) == expected


@pytest.mark.parametrize("least", [0, 255])
def test_transparency_that_is_lost_is_told(tmp_path: Path, pictures: np.ndarray, least: int) -> None:
    opacity = np.full((*pictures.shape[1:3], 1), 255, np.uint8)
    opacity[:10] = least
    with av.open(str(tmp_path / "in.mov"), "w") as output:
        stream = output.add_stream("prores_ks", rate=25)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuva444p10le"
        for picture in pictures[:2]:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.dstack([picture, opacity]), format="rgba")))
        output.mux(stream.encode())
    told: list[str] = []
    info = video.edit_video(tmp_path / "in.mov", tmp_path / "out.mov", unchanged, warn=told.append)
    assert info.codec == "prores"
    assert info.pixel_format.startswith("yuv444p")
    lost = f"{tmp_path / 'out.mov'} does not keep the transparency of {tmp_path / 'in.mov'}"
    assert told == ([lost] if least == 0 else [])


def test_the_transparency_beside_vp9_is_told_and_its_tag_left_out(tmp_path: Path, pictures: np.ndarray) -> None:
    with av.open(str(tmp_path / "in.webm"), "w") as output:
        stream = output.add_stream("libvpx-vp9", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuva420p"
        opaque = np.full((*pictures.shape[1:3], 1), 255, np.uint8)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.dstack([pictures[0], opaque]), format="rgba")))
        output.mux(stream.encode())
    told: list[str] = []
    video.edit_video(tmp_path / "in.webm", tmp_path / "out.mkv", unchanged, codec="ffv1", warn=told.append)
    assert told == [f"{tmp_path / 'out.mkv'} does not keep the transparency of {tmp_path / 'in.webm'}"]
    with av.open(str(tmp_path / "out.mkv")) as opened:
        assert "alpha_mode" not in {key.lower() for key in opened.streams.video[0].metadata}


# --- editing


@pytest.mark.parametrize(
    ("codec", "source", "target", "result"),
    [
        ("h264", "mp4", "mp4", "h264"),
        ("h264", "mkv", "mov", "h264"),
        ("h264", "ts", "mp4", "h264"),
        ("hevc", "mp4", "mkv", "hevc"),
        ("vp9", "webm", "webm", "vp9"),
        ("av1", "mp4", "webm", "av1"),
        ("prores", "mov", "mov", "prores"),
        ("ffv1", "mkv", "mkv", "ffv1"),
        ("mpeg4", "avi", "mp4", "h264"),
        ("h264", "mp4", "webm", "vp9"),
        ("h264", "mp4", "avi", "h264"),
        ("gif", "gif", "mp4", "h264"),
    ],
)
def test_editing_changes_what_it_should_and_nothing_else(
    tmp_path: Path, pictures: np.ndarray, codec: str, source: str, target: str, result: str
) -> None:
    path = written(tmp_path / f"in.{source}", pictures[:6] // 2 + 50, codec)
    done: list[float] = []
    info = video.edit_video(path, tmp_path / f"out.{target}", brighter, preset=FAST.get(result), progress=done.append)
    assert info.codec == result
    assert info == video.probe(tmp_path / f"out.{target}")
    before, after = list(video.read_planes(path)), list(video.read_planes(tmp_path / f"out.{target}"))
    slack = 0.041 if target == "avi" else 0.002  # FFmpeg reads H.264 in AVI one frame late
    assert [frame.time_s for frame in after] == pytest.approx([frame.time_s for frame in before], abs=slack)
    if codec != "gif":
        lift = np.mean([other.y.mean() - one.y.mean() for one, other in zip(before, after, strict=True)])
        assert lift == pytest.approx(4, abs=0.3)
        assert psnr(after[3].y, before[3].y + np.uint8(4)) > 38
        assert psnr(after[3].u, before[3].u) > 38
    assert done == sorted(done)
    assert done[-1] == 1.0
    assert sorted(os.listdir(tmp_path)) == sorted([f"in.{source}", f"out.{target}"])


def packets_of(path: Path, kind: str) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        return [
            (float(packet.pts * packet.time_base), bytes(packet))
            for packet in container.demux(streams)
            if packet.dts is not None and packet.pts is not None
        ]


@pytest.mark.parametrize(("source", "target"), [("mp4", "mp4"), ("mp4", "mkv"), ("mkv", "mp4"), ("webm", "webm")])
def test_editing_keeps_sound_times_rotation_and_metadata(tmp_path: Path, source: str, target: str) -> None:
    path, out = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    make_clip(
        path,
        width=192,
        height=128,
        frames=12,
        audio=True,
        chapters=True,
        rotation=90,
        times_s=TIMES,
        codec="vp9" if source == "webm" else "h264",
        preset=None if source == "webm" else "ultrafast",
        metadata={"title": "A title", "genwm.test": "kept"},
    )
    seen: list[YUVFrame] = []
    info = video.edit_video(path, out, lambda frame: seen.append(frame) or frame, preset=None)
    assert info.has_audio
    assert (info.rotation, info.width, info.height) == (90, 128, 192)
    assert all(frame.orientation.rotation == 90 and frame.y.shape == (128, 192) for frame in seen)
    assert times_of(out) == pytest.approx(TIMES, abs=0.002)
    sound, copied = packets_of(path, "audio"), packets_of(out, "audio")
    assert [data for _, data in copied] == [data for _, data in sound]
    shift = copied[0][0] - sound[0][0]
    assert [time for time, _ in copied] == pytest.approx([time + shift for time, _ in sound], abs=0.002)
    with av.open(str(out)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        assert tags["title"] == "A title"
        assert tags["genwm.test"] == "kept"
        assert container.streams.audio[0].language == "nld"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]


def test_editing_keeps_sound_and_picture_together(tmp_path: Path) -> None:
    path, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    make_clip(path, width=192, height=128, frames=12, audio=True)

    def gap(file: Path) -> float:
        first = []
        for kind in ("audio", "video"):
            with av.open(str(file)) as container:
                stream = next(stream for stream in container.streams if stream.type == kind)
                first.append(float(next(container.decode(stream)).time or 0.0))
        return first[0] - first[1]

    before = gap(path)
    video.edit_video(path, out, unchanged, preset="ultrafast")
    assert gap(out) == pytest.approx(before, abs=0.002)


@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_editing_keeps_depth_colour_and_aspect(tmp_path: Path, pictures: np.ndarray, target: str) -> None:
    path = written(
        tmp_path / "in.mp4",
        pictures[:4],
        "hevc",
        bit_depth=10,
        color_space="bt2020",
        full_range=True,
        sample_aspect=Fraction(4, 3),
    )
    seen: list[YUVFrame] = []
    info = video.edit_video(
        path, tmp_path / f"out.{target}", lambda frame: seen.append(frame) or frame, preset="ultrafast"
    )
    original = video.probe(path)
    for name in ("pixel_format", "bit_depth", "color_space", "color_range", "sample_aspect", "width", "fps"):
        assert getattr(info, name) == getattr(original, name), name
    assert seen[0].y.dtype == np.uint16
    assert seen[0].bit_depth == 10
    assert seen[0].full_range
    with av.open(str(tmp_path / f"out.{target}")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (9, 9, 14)


def test_editing_keeps_subtitles(tmp_path: Path, pictures: np.ndarray) -> None:
    silent, words, path = written(tmp_path / "a.mkv", pictures), tmp_path / "a.srt", tmp_path / "b.mkv"
    words.write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n")
    with av.open(str(silent)) as one, av.open(str(words)) as two, av.open(str(path), "w") as output:
        copies = {source: output.add_stream_from_template(source.streams[0], opaque=True) for source in (one, two)}
        for source, copy in copies.items():
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
    video.edit_video(path, tmp_path / "out.mkv", unchanged, preset="ultrafast")
    assert [data for _, data in packets_of(tmp_path / "out.mkv", "subtitle")] == [b"hello"]


def test_editing_may_return_new_planes(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "in.mp4", pictures[:3])

    def grey(frame: YUVFrame) -> YUVFrame:
        frame.u, frame.v = np.full_like(frame.u, 128), np.full_like(frame.v, 128)
        return frame

    video.edit_video(path, tmp_path / "out.mp4", grey, preset="ultrafast")
    planes = next(video.read_planes(tmp_path / "out.mp4"))
    assert np.abs(planes.u.astype(int) - 128).max() <= 1


def test_odd_sizes_and_tiny_ones(tmp_path: Path, pictures: np.ndarray) -> None:
    odd = written(tmp_path / "odd.gif", pictures[:2, :127, :191], "gif")
    info = video.edit_video(odd, tmp_path / "odd.mp4", unchanged)
    assert (info.width, info.height) == (190, 126)
    dot = written(tmp_path / "dot.gif", pictures[:2, :1, :1], "gif")
    assert next(video.read_planes(dot)).y.shape == (1, 1)
    with pytest.raises(errors.UnsupportedFormatError, match=r"use ffv1 in \.mkv"):
        video.edit_video(dot, tmp_path / "dot.mp4", unchanged)
    assert not (tmp_path / "dot.mp4").exists()
    assert (video.edit_video(dot, tmp_path / "dot.mkv", unchanged, codec="ffv1").frame_count or 2) == 2
    assert next(video.read_planes(tmp_path / "dot.mkv")).y.shape == (1, 1)


SIDES = [*range(1, 10), 15, 31, 33]


@pytest.mark.parametrize("chroma", ["4:2:0", "4:4:4"])
def test_ffv1_keeps_pictures_of_every_size(pictures: np.ndarray, chroma: Any) -> None:
    sizes = [(height, width) for height in SIDES for width in SIDES]
    sizes += [(height, width) for height in (124, 125, 126, 127) for width in (188, 189, 190, 191)]
    for height, width in sizes:
        memory = io.BytesIO()
        video.write_video(memory, pictures[:2, :height, :width], fps=25, codec="ffv1", chroma=chroma)
        assert rgb_of(io.BytesIO(memory.getvalue())).shape == (2, height, width, 3)


@pytest.mark.parametrize(("height", "width"), [(479, 853), (475, 640), (477, 852), (478, 854)])
def test_ffv1_edits_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    path = written(tmp_path / "in.mkv", np.zeros((2, height, width, 3), np.uint8), "ffv1")
    info = video.edit_video(path, tmp_path / "out.mkv", unchanged)
    assert (info.codec, info.pixel_format, info.height, info.width) == ("ffv1", "yuv420p", height, width)


def test_containers_that_would_lose_something_are_refused(tmp_path: Path, pictures: np.ndarray) -> None:
    turned = written(tmp_path / "turned.mp4", pictures[:2], rotation=90)
    wide = written(tmp_path / "wide.mp4", pictures[:2], "vp9", sample_aspect=Fraction(4, 3))
    make_clip(tmp_path / "sound.mp4", width=64, height=64, frames=4, audio=True)
    for source, target in ((turned, "a.avi"), (wide, "a.webm"), (tmp_path / "sound.mp4", "a.webm"), (turned, "a.gif")):
        with pytest.raises(errors.UnsupportedFormatError):
            video.edit_video(source, tmp_path / target, unchanged)
        assert not (tmp_path / target).exists()


@pytest.mark.parametrize("target", ["webm", "mkv"])
def test_pixels_that_are_nearly_square_count_as_square(tmp_path: Path, pictures: np.ndarray, target: str) -> None:
    path = written(tmp_path / "in.mp4", pictures[:2], sample_aspect=Fraction(853, 854))
    info = video.edit_video(path, tmp_path / f"out.{target}", unchanged, codec="vp9", preset="8")
    assert (info.sample_aspect, info.width) == (1, 192)
    info = video.edit_video(path, tmp_path / "out.mp4", unchanged, preset="ultrafast")
    assert info.sample_aspect == pytest.approx(853 / 854, abs=1e-6)


@pytest.mark.parametrize("times", [TIMES, [index / 25 + (index > 6) * 0.2 for index in range(12)]])
def test_avi_refuses_times_that_it_cannot_keep(tmp_path: Path, pictures: np.ndarray, times: list[float]) -> None:
    path = written(tmp_path / "in.mp4", pictures, times_s=times)
    with pytest.raises(errors.UnsupportedFormatError, match="keeps the times of frames"):
        video.edit_video(path, tmp_path / "out.avi", unchanged, preset="ultrafast")
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_avi_takes_even_times_whose_mean_is_bent_by_a_long_last_frame(tmp_path: Path) -> None:
    times = [index / 25 for index in range(40)]
    path = written(tmp_path / "in.mp4", scene(64, 64, 40), fps=15, times_s=times)
    assert video.probe(path).fps == pytest.approx(24.6, abs=0.1)
    video.edit_video(path, tmp_path / "out.avi", unchanged, codec="ffv1")
    assert times_of(tmp_path / "out.avi") == pytest.approx(times)


def with_sound(path: Path, pictures: np.ndarray, encoder: str) -> Path:
    """A .mkv file of pictures and half a second of silence."""
    video_only = written(path.with_name("silent.mkv"), pictures[:6])
    with av.open(str(video_only)) as source, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0], opaque=True)
        sound = output.add_stream(encoder, rate=48_000, layout="stereo")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                output.mux(packet)
        convert = av.AudioResampler(sound.format, "stereo", 48_000, sound.codec_context.frame_size or 1024)
        for frame in (*convert.resample(silence()), *convert.resample(None)):
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    video_only.unlink()
    return path


def silence() -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((2, 24_576), np.float32), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
    return frame


@pytest.mark.parametrize("encoder", ["aac", "mp2", "libmp3lame", "ac3", "eac3", "libopus"])
def test_sound_that_mpegts_holds_is_kept(tmp_path: Path, pictures: np.ndarray, encoder: str) -> None:
    path, out = with_sound(tmp_path / "in.mkv", pictures, encoder), tmp_path / "out.ts"
    video.edit_video(path, out, unchanged, preset="ultrafast")
    with av.open(str(path)) as source, av.open(str(out)) as copy:
        assert copy.streams.audio[0].codec_context.name == source.streams.audio[0].codec_context.name
        assert sum(1 for _ in copy.decode(audio=0)) > 3


@pytest.mark.parametrize("encoder", ["flac", "pcm_s16le"])
def test_sound_that_mpegts_would_make_nameless_is_refused(
    tmp_path: Path, pictures: np.ndarray, encoder: str
) -> None:
    path = with_sound(tmp_path / "in.mkv", pictures, encoder)
    with pytest.raises(errors.UnsupportedFormatError, match=f"got {encoder}; write an .mkv file"):
        video.edit_video(path, tmp_path / "out.ts", unchanged, preset="ultrafast")
    assert os.listdir(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize("codec", ["vp9", "av1", "prores", "ffv1"])
def test_codecs_that_mpegts_would_make_nameless_are_refused(
    tmp_path: Path, pictures: np.ndarray, codec: Any
) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match=f"for MPEG-TS, got {codec}; choose one"):
        written(tmp_path / "a.ts", pictures[:2], codec)
    assert os.listdir(tmp_path) == []


def with_streams(path: Path, *sources: Path, first: int | None = 0, cover: bool = False) -> Path:
    """The first streams of files in one; ``first`` is the default one, ``cover`` makes a cover picture of the last."""
    inputs = [av.open(str(source)) for source in sources]
    with av.open(str(path), "w") as output:
        copies = [output.add_stream_from_template(source.streams[0], opaque=True) for source in inputs]
        for index, copy in enumerate(copies):  # before the first packet, which writes the header
            copy.disposition = Disposition.default if index == first else Disposition(0)
        if cover:
            copies[-1].disposition = Disposition.attached_pic
        for source, copy in zip(inputs, copies, strict=True):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copy
                    output.mux(packet)
    for source in inputs:
        source.close()
    return path


@pytest.mark.parametrize(("default", "width"), [(0, 96), (1, 192), (None, 192)])
def test_the_stream_that_players_show_is_read(
    tmp_path: Path, pictures: np.ndarray, default: int | None, width: int
) -> None:
    small, large = written(tmp_path / "a.mkv", pictures[:2, :64, :96]), written(tmp_path / "b.mkv", pictures[:3])
    path = with_streams(tmp_path / ("in.ts" if default is None else "in.mkv"), small, large, first=default)
    reader = video.read_planes(path)
    assert next(reader).y.shape[1] == video.probe(path).width == width
    assert reader.warnings == ["1 further video stream was not read"]
    told: list[str] = []
    video.edit_video(path, tmp_path / "out.mp4", unchanged, preset="ultrafast", warn=told.append)
    assert video.probe(tmp_path / "out.mp4").width == width
    assert told == [f"{path}: left out: 1 further video stream"]


def test_a_cover_picture_is_no_video_and_left_out_with_a_word(tmp_path: Path, pictures: np.ndarray) -> None:
    film = written(tmp_path / "a.mp4", pictures[:2])
    video.write_image(tmp_path / "b.jpg", scene(640, 480, 1)[0])
    path = with_streams(tmp_path / "in.mp4", film, tmp_path / "b.jpg", cover=True)
    reader = video.read_planes(path)
    assert next(reader).y.shape == (128, 192)
    assert reader.warnings == []
    told: list[str] = []
    video.edit_video(path, tmp_path / "out.mp4", unchanged, preset="ultrafast", warn=told.append)
    assert told == [f"{path}: left out: 1 cover picture"]


@pytest.mark.parametrize("default", [0, None])
def test_the_default_flag_of_the_video_is_kept(tmp_path: Path, pictures: np.ndarray, default: int | None) -> None:
    path = with_streams(tmp_path / "in.mkv", written(tmp_path / "a.mkv", pictures[:2]), first=default)
    video.edit_video(path, tmp_path / "out.mkv", unchanged, preset="ultrafast")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert bool(container.streams.video[0].disposition & Disposition.default) is (default == 0)


def test_a_path_with_a_colon_is_a_path(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run:1").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("run:1/a.mp4", "concat:b.mkv"):
        written(Path(name), pictures[:2])
        assert video.edit_video(name, f"{name[:-5]}c.mp4", unchanged, preset="ultrafast").width == 192


def test_a_codec_that_the_container_does_not_take_is_one_sentence(tmp_path: Path, pictures: np.ndarray) -> None:
    with pytest.raises(errors.UnsupportedFormatError, match=r", got another \('mp4' format [^;]*\); write"):
        written(tmp_path / "a.mp4", pictures[:2], "prores")


def test_editing_keeps_hdr10_metadata(tmp_path: Path, pictures: np.ndarray) -> None:
    light = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    path = written(tmp_path / "in.mp4", pictures[:2], "hevc", bit_depth=10, color_space="bt2020",
                   options={"x265-params": light})  # fmt: skip
    told: list[str] = []
    for codec, target in (("hevc", "out.mp4"), ("h264", "out.mkv")):
        video.edit_video(path, tmp_path / target, unchanged, codec=codec, preset="ultrafast", warn=told.append)  # type: ignore[arg-type]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert video.pixels.hdr10_metadata(next(container.decode(video=0))) == light
    assert len(told) == 1
    assert "h264 cannot hold the HDR10 metadata" in told[0]


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_editing_keeps_the_order_of_fields(tmp_path: Path, pictures: np.ndarray, first: str) -> None:
    path = written(tmp_path / "in.mp4", pictures[:4], options={"x264-params": f"{first}=1"})
    orders, told = [], []
    for name in ("in.mp4", "out.mp4"):
        with av.open(str(tmp_path / name)) as container:
            assert next(container.decode(video=0)).interlaced_frame
            orders.append(container.streams.video[0].codec_context.field_order)
        if name == "in.mp4":
            video.edit_video(path, tmp_path / "out.mp4", unchanged, preset="ultrafast", warn=told.append)
    assert orders[0] == orders[1] > 1
    assert told == []
    video.edit_video(path, tmp_path / "out.mkv", unchanged, codec="vp9", preset="8", warn=told.append)
    assert len(told) == 1
    assert "is interlaced" in told[0]


def test_what_is_not_approved_does_not_appear(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "in.mp4", pictures[:2])
    seen = []

    def refuse(info: video.VideoInfo) -> None:
        seen.append((info.width, os.path.exists(info.path), (tmp_path / "out.mp4").exists()))
        raise errors.NotVerifiedError("no")

    with pytest.raises(errors.NotVerifiedError):
        video.edit_video(path, tmp_path / "out.mp4", unchanged, preset="ultrafast", approve=refuse)
    assert seen == [(192, True, False)]
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_reader_can_be_closed_early(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mp4", pictures)
    with video.read_planes(path) as reader:
        assert isinstance(next(reader), Planes)
        assert reader.info == video.probe(path)
    assert list(reader) == []


def test_audio_is_seen(tmp_path: Path, pictures: np.ndarray) -> None:
    path = written(tmp_path / "clip.mp4", pictures)
    add_audio(path, duration_s=0.5)
    assert video.probe(path).has_audio


def test_public_names() -> None:
    assert sorted(video.__all__) == sorted(set(video.__all__))
    assert all(hasattr(video, name) for name in video.__all__)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no scheduling policies")
def test_encoding_av1_leaves_the_priority_of_the_process_alone(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    video.write_video(tmp_path / "clip.mkv", scene(64, 64, 3, seed=1), fps=25, codec="av1")
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
