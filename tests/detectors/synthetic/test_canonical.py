"""The canonical form: one rate, length, size and codec, whatever comes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detectors.synthetic.canonical import (
    FRAMES,
    RATE,
    SIDE,
    SMALL,
    Collector,
    Stack,
    canonical,
    decoded,
    encoded,
    planes_of,
    read_segments,
)
from detectors.synthetic.deliveries import DELIVERIES, MILD
from detectors.synthetic.motion import FEATURES as MOTION_FEATURES
from detectors.synthetic.motion import motion_features
from genwm.scenes import scene
from genwm.video import Planes, Span, read_planes
from genwm.video.motion import read_motion
from tests.clips import make_clip


def flat(value: int, time_s: float, shape: tuple[int, int] = (128, 128)) -> Planes:
    rows, columns = shape
    half = np.full((rows // 2, columns // 2), 128, np.uint8)
    return Planes(y=np.full(shape, value, np.uint8), u=half, v=half, time_s=time_s, index=0)


def moving(seed: int = 0, frames: int = FRAMES, side: int = 128) -> Stack:
    return Stack.of([planes_of(picture) for picture in scene(side, side, frames, seed)])


@pytest.mark.parametrize(
    ("fps", "frames", "width", "height"), [(25, 45, 320, 256), (8, 24, 256, 320), (50, 90, 300, 260)]
)
def test_segments_have_one_form_whatever_rate_and_size_come_in(
    tmp_path: Path, fps: int, frames: int, width: int, height: int
) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, width=width, height=height, frames=frames, fps=fps)
    segments = read_segments(clip, count=3, threads=1)
    assert segments
    for segment in segments:
        assert segment.crop.y.shape == (FRAMES, SIDE, SIDE)
        assert segment.crop.u.shape == segment.crop.v.shape == (FRAMES, SIDE // 2, SIDE // 2)
        assert segment.small.y.shape == (FRAMES, SMALL, SMALL)
        assert segment.size == (height, width)
        assert segment.stop_s - segment.start_s == pytest.approx(FRAMES / RATE, rel=0.15)
        top, left = segment.origin
        assert 0 <= top <= height - SIDE
        assert 0 <= left <= width - SIDE
    assert [one.start_s for one in segments] == sorted(one.start_s for one in segments)


def test_the_crop_is_native_pixels(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    make_clip(clip, width=320, height=256, frames=24, fps=8, codec="ffv1", crf=None, preset=None,
              container="matroska")
    (segment, *_) = read_segments(clip, count=1, threads=1)
    with read_planes(clip, threads=1) as reader:
        frames = [frame.y.copy() for frame in reader]
    top, left = segment.origin
    first = frames[round(segment.start_s * 8)]
    np.testing.assert_array_equal(segment.crop.y[0], first[top : top + SIDE, left : left + SIDE])


def test_repeated_frames_are_left_out() -> None:
    collector = Collector(24.0, None, count=1)
    for index in range(3 * 3 * FRAMES):  # eight pictures a second, each shown three times, one frame late
        collector.add(flat(20 + (index // 3) % 150, index / 24))
    (segment, *_) = collector.segments()
    means = segment.crop.y.mean(axis=(1, 2))
    assert (np.diff(means) != 0).all()


def test_a_still_scene_gives_nothing() -> None:
    collector = Collector(25.0, 4.0, count=3)
    collector.extend(flat(90, index / 25) for index in range(100))
    assert collector.segments() == []


def test_a_short_clip_is_played_there_and_back() -> None:
    collector = Collector(8.0, 9 / 8, count=3)
    collector.extend(flat(20 + 5 * index, index / 8) for index in range(9))
    (segment,) = collector.segments()
    means = segment.crop.y.mean(axis=(1, 2))
    np.testing.assert_allclose(means[:9], [20 + 5 * index for index in range(9)])
    np.testing.assert_allclose(means[9:], [55, 50, 45])


def test_without_a_known_length_segments_still_spread_over_the_file() -> None:
    collector = Collector(8.0, None, count=3)
    collector.extend(flat(index % 200 + 20, index / 8) for index in range(FRAMES * 50))
    starts = [segment.start_s for segment in collector.segments()]
    assert len(starts) == 3
    assert starts[0] == 0.0
    assert starts[-1] > FRAMES * 50 / 8 / 2


def test_a_thousand_frames_a_second_are_thinned_out() -> None:
    collector = Collector(1000.0, 3.0, count=1)
    collector.extend(flat(20 + index // 20, index / 1000) for index in range(3000))
    (segment,) = collector.segments()
    assert segment.stop_s - segment.start_s == pytest.approx(FRAMES / RATE, rel=0.05)


def fed(times_s: list[float], collector: Collector, *, seek: bool) -> list[tuple[float, float, float]]:
    """Start, end and mean luma of the segments of frames at these times, all of them fed or those of `wanted`."""
    frames = [flat(20 + 7 * index % 200, time_s, (96, 96)) for index, time_s in enumerate(times_s)]
    for span in collector.wanted() if seek else [Span()]:
        collector.extend(frame for frame in frames if frame.time_s >= span.start_s - 1e-6
                         and (span.stop_s is None or frame.time_s < span.stop_s - 1e-6))
    return [(part.start_s, part.stop_s, float(part.crop.y.mean())) for part in collector.segments()]


@pytest.mark.parametrize("fps", [6.0, 8.0, 24000 / 1001, 30.0])
@pytest.mark.parametrize("length_s", [1.3, 1.9, 2.86, 7.7, 20.3])
def test_every_frame_gives_what_the_wanted_ones_give(fps: float, length_s: float) -> None:
    count = round(length_s * fps)
    times_s = [index / fps for index in range(count)]
    whole, parts = (fed(times_s, Collector(fps, count / fps, count=3), seek=seek) for seek in (False, True))
    assert whole == parts
    assert len(whole) >= (count >= FRAMES)
    if count >= FRAMES and len(whole) == 1:  # in the middle of the clip, where training and calibration looked
        assert sum(whole[0][:2]) / 2 == pytest.approx(count / fps / 2, abs=1.5 / fps)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_of_varying_rate_never_goes_on_in_another_stretch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slow, fast = ([*rng.uniform(low, 2 * low, 40)] for low in (0.25, 0.02))
    steps = [*slow, *fast, *slow] if seed % 2 else [*fast, *slow, *fast]
    times_s = [0.0, *np.cumsum(steps).tolist()]
    fps = (25.0, len(times_s) / times_s[-1])[seed % 3 > 0]
    whole, parts = (fed(times_s, Collector(fps, times_s[-1], count=3), seek=seek) for seek in (False, True))
    assert whole == parts
    spans = Collector(fps, times_s[-1], count=3).wanted()
    for start_s, stop_s, _ in whole:
        inside = [span for span in spans if span.start_s <= start_s + 1e-6][-1]
        assert inside.stop_s is None or stop_s <= inside.stop_s + FRAMES / fps


def test_a_run_of_constant_rate_goes_on_behind_a_pause_as_in_calibration() -> None:
    collector = Collector(25.0, 20.0, count=3)
    pause = range(20, 100)
    collector.extend(flat(20 if index in pause else 20 + 7 * index % 200, index / 25, (96, 96)) for index in range(500))
    spans = collector.wanted()
    first, *_ = collector.segments()
    assert first.start_s == 0.0
    assert spans[1].start_s < first.stop_s


def test_rgb_and_planes_are_read_alike() -> None:
    pictures = scene(256, 256, FRAMES, 3)
    by_rgb, by_planes = Collector(8.0, FRAMES / 8, count=1), Collector(8.0, FRAMES / 8, count=1)
    for index, picture in enumerate(pictures):
        by_rgb.add_rgb(index / 8, picture)
        y, u, v = planes_of(picture)
        by_planes.add(Planes(y=y, u=u, v=v, time_s=index / 8, index=index))
    np.testing.assert_array_equal(by_rgb.segments()[0].crop.y, by_planes.segments()[0].crop.y)


def test_full_range_becomes_limited() -> None:
    collector = Collector(8.0, FRAMES / 8, count=1)
    for index in range(FRAMES):
        frame = flat(0 if index % 2 else 255, index / 8)
        frame.full_range = True
        collector.add(frame)
    assert set(np.unique(collector.segments()[0].crop.y)) == {16, 235}


def test_the_encode_is_the_one_of_the_protocol() -> None:
    import io

    import av

    with av.open(io.BytesIO(encoded(moving(frames=20)))) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        keys = [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]
    assert keys == [0, 16]


def test_encoding_twice_changes_little_and_once_is_repeatable() -> None:
    stack = moving()
    once, again = decoded(encoded(stack)), decoded(encoded(stack))
    np.testing.assert_array_equal(once.y, again.y)
    twice = decoded(encoded(once))
    assert np.abs(once.y.astype(int) - twice.y).mean() < np.abs(stack.y.astype(int) - once.y).mean() + 1


def test_every_delivery_leaves_a_segment_that_can_be_encoded(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=320, height=256, frames=24, fps=8)
    (segment,) = read_segments(tmp_path / "clip.mp4", count=1, threads=1)
    assert set(MILD) <= set(DELIVERIES)
    for name, deliver in DELIVERIES.items():
        changed = deliver(segment)
        assert len(changed.crop) == FRAMES, name
        assert (changed.crop.y.shape == segment.crop.y.shape) == (not name.startswith(("crop", "scale"))), name
        assert changed.small.y.shape == segment.small.y.shape, name
    assert canonical(deliver(segment)).encoded_bytes > 0


def test_motion_vectors_follow_a_pan() -> None:
    generator = np.random.default_rng(0)
    wide = np.clip(generator.normal(128, 40, (40, 60)).repeat(4, 0).repeat(4, 1), 16, 235).astype(np.uint8)
    half = np.full((64, 64), 128, np.uint8)
    stack = Stack.of([(wide[:128, 4 * i : 4 * i + 128], half, half) for i in range(FRAMES)])
    import io

    field = read_motion(io.BytesIO(encoded(stack)))
    assert field.shape[1:] == (16, 16, 2)
    inside = field[:, 2:-2, 2:-4]
    per_frame = np.nanmedian(inside[..., 0], axis=(1, 2))
    assert np.median(per_frame % 4) == pytest.approx(0, abs=0.3)  # a multiple of the step: one or two frames back
    assert np.median(per_frame) >= 4
    assert np.nanmedian(np.abs(inside[..., 1])) < 0.3
    assert motion_features(encoded(stack)).shape == (MOTION_FEATURES,)
    assert np.isfinite(motion_features(encoded(stack))).all()
