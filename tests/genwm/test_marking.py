"""Marking: tensors come back like they went in, planes and tensors agree, and the mark is where it should be."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genwm import Key, Mark, mark_frames
from genwm.errors import InputError, KeyMissingError, PayloadError
from genwm.lattice import embed
from genwm.marking import PROFILES, STRENGTHS, Marker
from genwm.video import Orientation, Planes, YUVFrame
from tests.clips import KEY, PAYLOAD, psnr, scene

MARK = Mark(KEY, PAYLOAD)
TYPES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
torch.set_num_threads(1)  # small pictures: threads only wait for each other
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """float32 ``(4, 3, 144, 192)``."""
    return torch.from_numpy(scene(192, 144, 4)).permute(0, 3, 1, 2).float() / 255


def frame(kind: type = np.uint8, depth: int = 8, width: int = 192, height: int = 144, **options: Any) -> YUVFrame:
    """A textured 4:2:0 frame."""
    picture = scene(width, height, 1)[0].astype(np.float32)
    unit = 1 << (depth - 8)
    y = (16 + picture[..., 1] * 0.85) * unit
    u, v = (128 + (picture[::2, ::2, channel] - picture[::2, ::2, 1]) * 0.4 for channel in (2, 0))
    options = {"full_range": False, "time_s": 0.0} | options
    return YUVFrame(y=y.astype(kind), u=(u * unit).astype(kind), v=(v * unit).astype(kind), bit_depth=depth, **options)


def planes(source: YUVFrame) -> Planes:
    return Planes(y=source.y, u=source.u, v=source.v, time_s=0, index=0, full_range=source.full_range)  # type: ignore[arg-type]


def arrays(source: YUVFrame | Planes) -> list[np.ndarray]:
    return [source.y, source.u, source.v]


# --- tensors


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES)
def test_frames_keep_shape_type_device_and_range(clip: torch.Tensor, dtype: torch.dtype, device: str) -> None:
    frames = clip.to(device, dtype)
    before = frames.clone()
    result = mark_frames(frames, MARK)
    assert (result.shape, result.dtype, result.device) == (frames.shape, dtype, frames.device)
    assert torch.equal(frames, before)
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    assert not torch.equal(result, frames)
    reference = mark_frames(frames.float(), MARK)
    assert float((result.float() - reference).abs().max()) <= TYPES[dtype]


@settings(max_examples=12)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_size_and_any_grey(count: int, height: int, width: int, level: float) -> None:
    frames = torch.full((count, 3, height, width), level)
    result = mark_frames(frames, MARK)
    assert result.shape == frames.shape
    assert torch.isfinite(result).all()
    assert 0 <= float(result.min()) <= float(result.max()) <= 1


def test_a_batch_is_its_frames_one_by_one(clip: torch.Tensor) -> None:
    whole = mark_frames(clip, MARK)
    marker = Marker(MARK, clip.shape[3], clip.shape[2])
    torch.testing.assert_close(torch.cat([marker.rgb(part) for part in clip.split(1)]), whole, rtol=0, atol=1e-6)
    marker = Marker(MARK, clip.shape[3], clip.shape[2])
    torch.testing.assert_close(torch.cat([marker.rgb(part) for part in clip.split(3)]), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", TYPES)
def test_frames_are_marked_in_place_on_demand(clip: torch.Tensor, dtype: torch.dtype) -> None:
    frames, marker = clip.to(dtype), Marker(MARK, 192, 144)
    expected = marker.rgb(frames)
    result = marker.rgb(frames, in_place=True)
    assert result.data_ptr() == frames.data_ptr()
    assert torch.equal(frames, expected)


def test_other_devices_do_the_same(clip: torch.Tensor) -> None:
    """Tensors that NumPy cannot see go through torch's own operators."""
    frame, patterns = clip[0], torch.rand(3, 144, 192) * 4 - 2
    arrays, tensors = np.empty(frame.shape, np.float32), torch.empty_like(frame)
    embed.add_to_rgb(frame.numpy(), arrays, patterns.numpy(), 1.0)
    embed.add_to_rgb(frame, tensors, patterns, 1.0)
    np.testing.assert_allclose(tensors.numpy(), arrays, atol=1e-6)


def test_the_first_frame_of_a_size_needs_memory_of_two_more() -> None:
    """Its patterns are one; the later frames need half of that."""
    frames = torch.rand(1, 3, 540, 960)
    marker, peaks = Marker(MARK, 960, 540), []
    for _ in range(2):
        tracemalloc.start()
        marker.rgb(frames, in_place=True)
        peaks.append(tracemalloc.get_traced_memory()[1] / frames.nbytes)
        tracemalloc.stop()
    assert peaks[0] < 2
    assert peaks[1] < 1


def test_no_frames_are_no_fault(clip: torch.Tensor) -> None:
    assert mark_frames(clip[:0], MARK).shape == (0, *clip.shape[1:])


def test_the_same_frame_gets_the_same_mark(clip: torch.Tensor) -> None:
    still = clip[:1].repeat(5, 1, 1, 1)
    result = mark_frames(still, MARK)
    for other in result[1:]:
        torch.testing.assert_close(other, result[0], rtol=0, atol=1e-6)


def test_a_stronger_mark_changes_more_and_none_is_gross(clip: torch.Tensor) -> None:
    quality = {strength: psnr(mark_frames(clip, Mark(KEY, PAYLOAD, strength)).numpy(), clip.numpy(), peak=1.0)  # type: ignore[arg-type]
               for strength in STRENGTHS}
    assert quality["invisible"] > quality["balanced"] > quality["strong"] > 33


def test_black_and_white_stay_nearly_so() -> None:
    for level in (0.0, 1.0):
        frames = torch.full((1, 3, 512, 512), level)
        change = (mark_frames(frames, MARK) - frames) * 255
        assert float(change.abs().max()) < 6
        assert float(change.square().mean().sqrt()) < 1


def test_the_luma_profile_leaves_colour_alone(clip: torch.Tensor) -> None:
    change = mark_frames(clip * 0.8 + 0.1, Mark(KEY, PAYLOAD, profile="luma")) - (clip * 0.8 + 0.1)
    torch.testing.assert_close(change[:, 0], change[:, 2], rtol=0, atol=1e-6)
    coloured = mark_frames(clip * 0.8 + 0.1, MARK) - (clip * 0.8 + 0.1)
    assert float((coloured[:, 0] - coloured[:, 2]).abs().max()) > 1e-3


def test_key_and_payload_decide_the_pattern(clip: torch.Tensor) -> None:
    plain = mark_frames(clip, MARK)
    assert torch.equal(plain, mark_frames(clip, Mark(KEY, PAYLOAD)))
    assert not torch.equal(plain, mark_frames(clip, Mark(KEY, PAYLOAD + 1)))
    assert not torch.equal(plain, mark_frames(clip, Mark(Key("studio", bytes(32), KEY.created), PAYLOAD)))


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 8, 3), torch.zeros(1, 3, 8, 8).to(torch.uint8)],
)
def test_other_tensors_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"^Expected .*, got .*; "):
        mark_frames(frames, MARK)


@pytest.mark.parametrize(("frames", "mark", "got"), [
    (np.zeros((1, 3, 8, 8), np.float32), MARK, "ndarray"), (None, MARK, "NoneType"),
    ([torch.zeros(3, 8, 8)], MARK, "list"),
    (torch.zeros(1, 3, 8, 8), None, "NoneType"), (torch.zeros(1, 3, 8, 8), 7, "int"),
])
def test_other_types_are_refused(frames: Any, mark: Any, got: str) -> None:
    with pytest.raises(InputError, match=f"^Expected a .*, got a {got}; "):
        mark_frames(frames, mark)


@pytest.mark.parametrize(("factor", "offset"), [(255, 0), (2, -1), (float("nan"), 0)])
def test_values_of_another_range_are_refused(factor: float, offset: float) -> None:
    frames = torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with pytest.raises(InputError, match=r"^Expected frames with values in \[0, 1\], got .* to .*; divide"):
        mark_frames((frames * factor + offset).bfloat16(), MARK)
    assert mark_frames(frames * 1.2 - 0.1, MARK).isfinite().all()  # as sharpening makes them


def test_marks_that_cannot_be() -> None:
    for payload in (-1, 1 << 64, True, 1.5):
        with pytest.raises(PayloadError):
            Mark(KEY, payload)  # type: ignore[arg-type]
    for strength in ("loud", ["strong"]):
        with pytest.raises(InputError, match="strength"):
            Mark(KEY, 1, strength)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Expected a Key, got a str"):
        Mark("studio", 1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="profile"):
        Mark(KEY, 1, profile="red")  # type: ignore[arg-type]
    with pytest.raises(KeyMissingError, match="retired"):
        Mark(replace(KEY, retired=True), 1)
    with pytest.raises(InputError, match="1 x 1"):
        Marker(MARK, 0, 5)


# --- planes


@pytest.mark.parametrize("full_range", [False, True])
def test_planes_and_stored_frames_get_the_same_mark(full_range: bool) -> None:
    source = frame(full_range=full_range)
    before = [plane.copy() for plane in arrays(source)]
    stored = Marker(MARK, 192, 144).yuv(source)
    shown = Marker(MARK, 192, 144).planes(planes(source))
    for one, other, old in zip(arrays(stored), arrays(shown), before, strict=True):
        assert one.dtype == np.uint8
        assert (one == other).all()
        assert not (one == old).all()
    for plane, old in zip(arrays(source), before, strict=True):
        assert (plane == old).all()


def test_ten_bits_hold_four_times_the_levels() -> None:
    eight, ten = frame(), frame(np.uint16, 10)
    low, high = Marker(MARK, 192, 144).yuv(eight), Marker(MARK, 192, 144).yuv(ten)
    for fine, coarse, before_fine, before in zip(arrays(high), arrays(low), arrays(ten), arrays(eight), strict=True):
        assert fine.dtype == np.uint16
        assert fine.max() < 1 << 10
        change_fine, change = fine.astype(float) - before_fine, coarse.astype(float) - before
        assert np.abs(change_fine / 4 - change).max() <= 1.5
        assert np.corrcoef(change_fine.ravel(), change.ravel())[0, 1] > 0.75


def test_full_range_is_marked_as_strongly_as_limited_range() -> None:
    """The same picture in either range: the change is larger by the ratio of the ranges, 255 / 219 and 255 / 224."""
    limited = frame(np.uint16, 16)
    stretched = replace(
        limited,
        y=np.clip((limited.y.astype(float) - 16 * 256) * 255 / 219, 0, 65535).astype(np.uint16),
        u=np.clip((limited.u.astype(float) - 128 * 256) * 255 / 224 + 128 * 256, 0, 65535).astype(np.uint16),
        v=np.clip((limited.v.astype(float) - 128 * 256) * 255 / 224 + 128 * 256, 0, 65535).astype(np.uint16),
        full_range=True,
    )
    marked, marked_full = Marker(MARK, 192, 144).yuv(limited), Marker(MARK, 192, 144).yuv(stretched)
    for number, ratio in enumerate((255 / 219, 255 / 224, 255 / 224)):
        change = arrays(marked)[number].astype(float) - arrays(limited)[number]
        change_full = arrays(marked_full)[number].astype(float) - arrays(stretched)[number]
        assert change_full.std() / change.std() == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("turn", [Orientation(*bits) for bits in np.ndindex(2, 2, 2)])
def test_stored_frames_are_marked_as_displayed(turn: Orientation) -> None:
    stored = frame(orientation=Orientation(*map(bool, turn)))
    size = (144, 192) if turn[0] else (192, 144)
    marked = Marker(MARK, *size).yuv(stored)
    upright = replace(stored, **{name: np.ascontiguousarray(stored.orientation.apply(getattr(stored, name)))
                                 for name in "yuv"}, orientation=Orientation())
    for one, other in zip(arrays(marked), arrays(Marker(MARK, *size).yuv(upright)), strict=True):
        difference = np.abs(stored.orientation.apply(one).astype(int) - other)
        assert difference.max() <= 1  # coarse masks of odd sizes may round differently when turned
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("shape", ["4:2:2", "4:4:4"])
def test_other_chroma_resolutions(shape: str) -> None:
    source = frame()
    axes = (0,) if shape == "4:2:2" else (0, 1)
    for axis in axes:
        source.u, source.v = source.u.repeat(2, axis=axis), source.v.repeat(2, axis=axis)
    marked = Marker(MARK, 192, 144).yuv(source)
    assert [plane.shape for plane in arrays(marked)] == [plane.shape for plane in arrays(source)]
    assert all((new != old).any() for new, old in zip(arrays(marked), arrays(source), strict=True))


def test_the_luma_profile_does_not_touch_colour_planes() -> None:
    source = frame()
    marked = Marker(Mark(KEY, PAYLOAD, profile="luma"), 192, 144).yuv(source)
    assert PROFILES["luma"][1:] == (0, 0)
    assert (marked.u == source.u).all()
    assert (marked.v == source.v).all()
    assert (marked.y != source.y).any()


def test_planes_and_tensors_agree() -> None:
    """The luma that a marked RGB frame has is the luma that marking the planes gives."""
    picture = scene(192, 144, 1)
    tensor = torch.from_numpy(picture).permute(0, 3, 1, 2).float() / 255
    weights = np.array([0.2126, 0.7152, 0.0722])
    change_rgb = (mark_frames(tensor, MARK) - tensor)[0].permute(1, 2, 0).numpy() @ weights * 219
    luma = (16 + picture[0] @ weights * 219 / 255) * 256
    source = frame(np.uint16, 16)
    source.y = luma.astype(np.uint16)
    change = (Marker(MARK, 192, 144).yuv(source).y.astype(float) - source.y) / 256
    assert np.corrcoef(change.ravel(), change_rgb.ravel())[0, 1] > 0.98
    assert change.std() == pytest.approx(change_rgb.std(), rel=0.05)
