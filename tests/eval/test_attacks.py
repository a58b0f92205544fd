"""Each attack against a property that does not come from its own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.attacks import ATTACKS, DEFAULT, Clip, Encode, attacks_named, geometry, overlays, photometry, temporal
from eval.attacks.color import planes_of, rgb_of
from eval.attacks.model import Edit
from genwm.errors import InputError
from genwm.video import Planes, probe, read_planes, write_video
from tests.clips import psnr, scene

FPS = Fraction(24)


def planes(y: Any, u: Any = None, v: Any = None, **options: Any) -> Planes:
    """A frame of the given luma, grey unless told otherwise."""
    y = np.asarray(y, np.uint8)
    grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
    return Planes(y=y, u=grey if u is None else u, v=grey if v is None else v, time_s=0.0, index=0, **options)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """24 frames of 192 x 160, as a decoder gives them."""
    file = BytesIO()
    write_video(file, scene(192, 160, 24), fps=FPS, crf=6, preset="ultrafast", threads=1)
    file.seek(0)
    return Clip(list(read_planes(file, threads=1)), FPS)


@pytest.fixture(scope="module")
def frame(clip: Clip) -> Planes:
    return clip.frames[7]


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def edited(edit: Edit, frames: Sequence[Planes], seed: int = 5) -> list[Planes]:
    result, _ = edit(frames, FPS, rng(seed))
    return list(result)


def decoded(file: BytesIO) -> list[Planes]:
    return list(read_planes(file, threads=1))


def same(one: Planes, other: Planes) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "yuv")


# --- the registry ---


def test_the_table_is_whole_and_its_names_are_unique() -> None:
    assert len(DEFAULT) == len(set(DEFAULT)) == 39
    assert set(DEFAULT) < set(ATTACKS)
    assert all(attack.id == name and attack.description and attack.source for name, attack in ATTACKS.items())
    assert [attack.id for attack in attacks_named()] == list(DEFAULT)


def test_an_unknown_attack_is_one_sentence_that_names_it() -> None:
    wanted = r"^Expected an attack's id.*, got 'h264\.crf31'; .*--attacks list, perhaps .*h264\.crf30"
    with pytest.raises(InputError, match=wanted) as caught:
        attacks_named(["h264.crf23", "h264.crf31"])
    assert len(str(caught.value)) < 250
    with pytest.raises(InputError, match=r"got '\?'; choose from the list of --attacks list$"):
        attacks_named(["?"])


@pytest.mark.parametrize("name", [name for name in DEFAULT if "+" in name or "combined" in name])
def test_an_edit_depends_on_its_seed_alone(clip: Clip, name: str) -> None:
    # Edits, not files: x264 is not bit-exact from run to run.
    frames = clip.frames[:2]
    before = [replace(one, y=one.y.copy(), u=one.u.copy(), v=one.v.copy()) for one in frames]
    one, other = (edited(ATTACKS[name].edit, frames) for _ in range(2))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))
    assert all(same(a, b) for a, b in zip(before, frames, strict=True))  # the next attack needs them


def test_encodes_are_shared_between_attacks(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Clip(clip.frames[:4], FPS)
    written: list[Encode] = []
    write = Encode.write

    def counted(self: Encode, *args: Any) -> BytesIO:
        written.append(self)
        return write(self, *args)

    monkeypatch.setattr(Encode, "write", counted)
    for name in ("h264.crf30", "combined.crf30", "h264.crf30"):
        ATTACKS[name].apply(fresh, rng())
    assert sorted(encode.codec for encode in written) == ["ffv1", "h264"]


# --- codecs ---


def test_a_higher_crf_gives_fewer_bytes_and_a_worse_picture(clip: Clip) -> None:
    short = Clip(clip.frames[:8], FPS)
    for family in ("h264.crf23 h264.crf30 h264.crf40", "h265.crf30 h265.crf40", "av1.crf35 av1.crf55"):
        files = [ATTACKS[name].apply(short, rng()) for name in family.split()]
        sizes = [len(file.getvalue()) for file in files]
        quality = [np.mean([psnr(a.y, b.y) for a, b in zip(short.frames, decoded(f), strict=True)]) for f in files]
        assert sizes == sorted(sizes, reverse=True)
        assert quality == sorted(quality, reverse=True)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("h264.crf40", "h264"), ("h265.crf40", "hevc"), ("av1.crf55", "av1"), ("vp9.crf40", "vp9"), ("none", "ffv1")],
)
def test_codecs_are_what_they_say(clip: Clip, name: str, codec: str) -> None:
    info = probe(ATTACKS[name].apply(Clip(clip.frames[:4], FPS), rng()))
    assert (info.codec, info.width, info.height, info.fps) == (codec, 192, 160, 24)


def test_no_attack_is_the_clip_itself(clip: Clip) -> None:
    result = decoded(ATTACKS["none"].apply(Clip(clip.frames[:4], FPS), rng()))
    assert all(same(one, other) for one, other in zip(clip.frames[:4], result, strict=True))


def test_combined_is_a_dim_crop_of_the_encode(clip: Clip) -> None:
    short = Clip(clip.frames[:3], FPS)
    encoded = decoded(ATTACKS["h264.crf30"].apply(short, rng()))
    result = decoded(ATTACKS["combined.crf30"].apply(short, rng()))
    height, width = result[0].y.shape
    assert (height, width) == (114, 136)  # .71 of 160 and 192, even
    expected = [16 + (one.y.astype(float) - 16) * 0.5 for one in encoded]
    places = [
        (top, left)
        for top in range(0, 160 - height + 1, 2)
        for left in range(0, 192 - width + 1, 2)
        if all(
            np.abs(one[top : top + height, left : left + width] - other.y).max() <= 0.5
            for one, other in zip(expected, result, strict=True)
        )
    ]
    assert len(places) == 1


def test_a_still_is_the_middle_frame_as_a_jpeg(clip: Clip) -> None:
    file = ATTACKS["still.jpeg80"].apply(clip, rng())
    assert file.getvalue()[:2] == b"\xff\xd8"
    (still,) = decoded(file)
    wanted = rgb_of(clip.frames[12])
    distances = [psnr(rgb_of(still), rgb_of(one)) for one in clip.frames]
    assert int(np.argmax(distances)) == 12
    assert psnr(rgb_of(still), wanted) > 28


# --- colour ---


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("space", "weights"), [("bt601", (0.299, 0.587, 0.114)), ("bt709", (0.2126, 0.7152, 0.0722))])
def test_rgb_of_flat_colours_is_that_of_the_standard(space: Any, weights: Any, full_range: bool) -> None:
    red, _, blue = colour = np.array([200, 60, 90])
    luma = float(colour @ np.array(weights))
    u, v = (blue - luma) / (2 - 2 * weights[2]), (red - luma) / (2 - 2 * weights[0])
    if not full_range:
        luma, u, v = 16 + luma * 219 / 255, u * 224 / 255, v * 224 / 255
    values = [
        np.full(shape, round(value), np.uint8)
        for shape, value in (((16, 16), luma), ((8, 8), u + 128), ((8, 8), v + 128))
    ]
    given_frame = planes(*values, full_range=full_range, color_space=space)
    rgb = rgb_of(given_frame)
    assert np.abs(rgb.astype(int) - colour).max() <= 2
    back = planes_of(rgb, given_frame)
    assert all(np.abs(getattr(back, name).astype(int) - getattr(given_frame, name)).max() <= 1 for name in "yuv")
    assert (back.full_range, back.color_space) == (full_range, space)


def test_planes_survive_rgb(frame: Planes) -> None:
    back = planes_of(rgb_of(frame), frame)
    assert psnr(frame.y, back.y) > 45
    assert min(psnr(frame.u, back.u), psnr(frame.v, back.v)) > 40


# --- geometry ---


@given(side=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_a_crop_is_a_slice_at_one_even_place(side: float, seed: int) -> None:
    y = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    frames = [planes(y % 251, (y[::2, ::2] % 241).astype(np.uint8), (y[::2, ::2] % 239).astype(np.uint8))] * 2
    one, other = edited(geometry.crop(side), frames, seed)
    assert same(one, other)
    height, width = one.y.shape
    assert abs(height - 64 * side) <= 1.01
    assert abs(width - 96 * side) <= 1.01
    (top, left), *more = [
        (top, left)
        for top in range(0, 64 - height + 1, 2)
        for left in range(0, 96 - width + 1, 2)
        if np.array_equal(one.y, frames[0].y[top : top + height, left : left + width])
        and np.array_equal(one.u, frames[0].u[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2])
    ]
    assert not more
    assert np.array_equal(one.v, frames[0].v[top // 2 :, left // 2 :][: height // 2, : width // 2])


def test_crops_reach_every_corner(frame: Planes) -> None:
    places = {edited(geometry.crop(0.98), [frame], seed)[0].y.tobytes() for seed in range(60)}
    assert len(places) == 3 * 3  # even places of 156 x 188 in 160 x 192


@pytest.mark.parametrize(("x", "y", "size"), [(0.5, 0.5, (80, 96)), (1.5, 1.5, (240, 288)), (0.75, 1, (160, 144))])
def test_resizing_changes_the_size_and_comes_back(frame: Planes, x: float, y: float, size: tuple[int, int]) -> None:
    result = geometry.scaled(frame, x=x, y=y)
    assert result.y.shape == size
    assert result.u.shape == result.v.shape == (size[0] // 2, size[1] // 2)
    assert abs(float(result.y.mean()) - float(frame.y.mean())) < 0.5
    back = geometry.resized(result, width=192, height=160)
    blurred = photometry.blurred(frame, sigma=1)
    assert psnr(blurred.y, photometry.blurred(back, sigma=1).y) > 30


def test_a_ramp_halves_without_moving() -> None:
    ramp = np.tile(np.arange(0, 192, dtype=np.uint8), (160, 1))
    half = geometry.scaled(planes(ramp), x=0.5, y=0.5)
    centres = 2 * np.arange(96) + 0.5  # the middle of a pair of pixels
    assert np.abs(half.y[40, 4:-4] - centres[4:-4]).max() <= 1


def test_rotation_turns_about_the_centre_and_leaves_no_corner(frame: Planes) -> None:
    white = replace(frame, y=np.full_like(frame.y, 235))
    turned = geometry.rotated(white, degrees=5)
    height, width = turned.y.shape
    assert turned.y.min() >= 234
    assert abs(width / height - 192 / 160) < 0.02
    # Largest: four per cent more in each direction would hold a black corner.
    angle = np.radians(5)
    reach = (
        width / 2 * 1.04 * np.sin(angle) + height / 2 * 1.04 * np.cos(angle),
        width / 2 * 1.04 * np.cos(angle) + height / 2 * 1.04 * np.sin(angle),
    )
    assert reach[0] > 80 or reach[1] > 96


def test_rotation_is_by_the_angle_and_counter_clockwise() -> None:
    rows, columns = np.mgrid[:160, :192]
    dot = np.exp(-((rows - 80) ** 2 + (columns - 136) ** 2) / 18)  # 40.5 to the right of the centre
    turned = geometry.rotated(planes(16 + 200 * dot), degrees=5).y.astype(float) - 16
    height, width = turned.shape
    y, x = np.mgrid[:height, :width]
    at_x = (turned * x).sum() / turned.sum() + 0.5 - width / 2
    at_y = (turned * y).sum() / turned.sum() + 0.5 - height / 2
    assert np.degrees(np.arctan2(-at_y, at_x)) == pytest.approx(5 - np.degrees(np.arctan2(0.5, 40.5)), abs=0.15)
    assert np.hypot(at_x, at_y) == pytest.approx(np.hypot(40.5, 0.5), abs=0.15)


def test_rotation_is_undone_by_its_opposite(frame: Planes) -> None:
    back = geometry.rotated(geometry.rotated(frame, degrees=5), degrees=-5)
    height, width = back.y.shape
    top, left = (160 - height) // 2, (192 - width) // 2
    middle = photometry.blurred(geometry.cut(frame, left=left, top=top, width=width, height=height), sigma=1.5)
    result = photometry.blurred(back, sigma=1.5)
    for name in "yuv":
        assert psnr(getattr(middle, name)[8:-8, 8:-8], getattr(result, name)[8:-8, 8:-8]) > 30


def test_flipping_twice_changes_nothing(frame: Planes) -> None:
    once = geometry.mirrored(frame)
    assert np.array_equal(once.y, np.fliplr(frame.y))
    assert same(geometry.mirrored(once), frame)


@pytest.mark.parametrize(("full_range", "black"), [(False, 16), (True, 0)])
def test_a_letterbox_adds_black_and_keeps_the_picture(frame: Planes, full_range: bool, black: int) -> None:
    result = geometry.letterboxed(replace(frame, full_range=full_range), share=0.2)
    assert result.y.shape == (160 + 2 * 32, 192)
    assert np.array_equal(result.y[32:-32], frame.y)
    assert np.array_equal(result.u[16:-16], frame.u)
    assert set(np.unique(result.y[[0, 31, -32, -1]])) == {black}
    assert set(np.unique(result.v[[0, 15, -16, -1]])) == {128}


def test_a_zoom_starts_with_the_frame_and_ends_with_its_middle(clip: Clip) -> None:
    frames = edited(geometry.zoom(1.12), clip.frames)
    assert len(frames) == 24
    assert same(frames[0], clip.frames[0])
    last = clip.frames[-1]
    assert frames[-1].y.shape == last.y.shape
    small = geometry.resized(frames[-1], width=172, height=142)  # 192 and 160 over 1.12
    middle = geometry.cut(last, left=10, top=8, width=172, height=142)
    assert psnr(photometry.blurred(small, sigma=1).y, photometry.blurred(middle, sigma=1).y) > 28
    assert psnr(frames[-1].y, last.y) < 25


@pytest.mark.parametrize("shape", [(61, 80), (60, 81), (61, 81), (60, 80)])
def test_odd_sizes_lose_their_last_line(shape: tuple[int, int]) -> None:
    y = np.arange(shape[0] * shape[1]).reshape(shape) % 256
    chroma = np.zeros(((shape[0] + 1) // 2, (shape[1] + 1) // 2), np.uint8)
    result = geometry.cut_even(planes(y, chroma, chroma))
    assert np.array_equal(result.y, y[:60, :80])
    assert result.u.shape == (30, 40)


# --- photometry ---


def test_brightness_scales_rgb(frame: Planes) -> None:
    rgb = rgb_of(frame).astype(float)
    dim = rgb_of(photometry.dimmed(frame, factor=0.5)).astype(float)
    assert dim.mean() == pytest.approx(rgb.mean() / 2, abs=0.6)
    assert psnr(dim, rgb / 2) > 42
    bright = rgb_of(photometry.brightened(frame, factor=1.5)).astype(float)
    assert psnr(bright, np.minimum(255, rgb * 1.5)) > 32
    assert same(photometry.dimmed(frame, factor=1), frame)


def test_the_two_ways_to_dim_agree(frame: Planes) -> None:
    one, other = photometry.dimmed(frame, factor=0.5), photometry.brightened(frame, factor=0.5)
    assert psnr(one.y, other.y) > 45


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_contrast_scales_the_spread_and_keeps_the_mean(frame: Planes, factor: float) -> None:
    tame = photometry.contrasted(frame, factor=0.4)  # so that nothing clips
    result = photometry.contrasted(tame, factor=factor)
    assert float(result.y.std()) == pytest.approx(factor * float(tame.y.std()), rel=0.03)
    assert float(result.y.mean()) == pytest.approx(float(tame.y.mean()), abs=1)


@pytest.mark.parametrize("factor", [0, 0.5, 1.5])
def test_saturation_scales_colour_and_keeps_luma(frame: Planes, factor: float) -> None:
    result = photometry.saturated(frame, factor=factor)
    assert np.array_equal(result.y, frame.y)
    wanted = np.clip(128 + factor * (frame.u.astype(float) - 128), 0, 255)
    assert np.abs(result.u - wanted).max() <= 0.5


@pytest.mark.parametrize("degrees", [30, -30])
def test_hue_keeps_luma_and_turns_colour(frame: Planes, degrees: float) -> None:
    result = photometry.hue_turned(frame, degrees=degrees)
    assert np.array_equal(result.y, frame.y)
    before = (frame.u.astype(float) - 128) + 1j * (frame.v.astype(float) - 128)
    after = (result.u.astype(float) - 128) + 1j * (result.v.astype(float) - 128)
    strong = np.abs(before) > 20
    assert strong.any()
    turn = np.degrees(np.angle(after[strong] / before[strong]))
    assert np.abs(turn - degrees).max() < 3
    assert np.abs(np.abs(after) - np.abs(before)).max() <= 1
    back = photometry.hue_turned(result, degrees=-degrees)
    assert np.abs(back.u.astype(int) - frame.u).max() <= 1


@pytest.mark.parametrize("gamma", [0.7, 1.4])
def test_gamma_of_grey(gamma: float) -> None:
    level = np.repeat(np.linspace(20, 230, 16).astype(np.uint8), 16)
    grey = planes(np.tile(level, (32, 1)))
    before = rgb_of(grey)[16, 8::16].astype(float) / 255
    after = rgb_of(photometry.gamma_changed(grey, gamma=gamma))[16, 8::16].astype(float) / 255
    assert np.abs(after - before**gamma).max() < 2 / 255
    assert (after >= before).all() == (gamma < 1)


def test_blur_spreads_a_point_by_sigma() -> None:
    y = np.full((64, 64), 16, np.uint8)
    y[28:36, 28:36] = 235
    spread = photometry.blurred(planes(y), sigma=1.6).y.astype(float) - 16
    profile = spread.sum(axis=0)
    places = np.arange(64)
    centre = (profile * places).sum() / profile.sum()
    variance = (profile * (places - centre) ** 2).sum() / profile.sum()
    assert centre == pytest.approx(31.5, abs=0.02)
    assert variance == pytest.approx((8**2 - 1) / 12 + 1.6**2, rel=0.03)
    assert spread.sum() == pytest.approx(64 * 219, rel=0.01)


def test_noise_has_its_sigma_and_differs_from_frame_to_frame() -> None:
    grey = planes(np.full((160, 192), 120))
    one, other = edited(photometry.noise(8), [grey, grey])
    # Three independent channels of sigma 8 weigh into luma as the matrix says, times 219 / 255.
    wanted = 8 * np.linalg.norm([0.2126, 0.7152, 0.0722]) * 219 / 255
    for result in (one, other):
        assert float(result.y.std()) == pytest.approx(wanted, rel=0.05)
        assert float(result.y.mean()) == pytest.approx(120, abs=0.3)
    assert abs(np.corrcoef(one.y.ravel(), other.y.ravel())[0, 1]) < 0.05
    assert not same(edited(photometry.noise(8), [grey], seed=6)[0], one)


# --- time ---


@pytest.mark.parametrize(
    ("edit", "shown", "fps"),
    [
        (temporal.halve_rate(), list(range(0, 24, 2)), 12),
        (temporal.speed(1.25), [0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19, 20, 21, 23], 24),
        (temporal.trim_start(0.5), list(range(12, 24)), 24),
        (temporal.trim_start(9), [23], 24),
    ],
)
def test_which_frames_are_shown(clip: Clip, edit: Edit, shown: list[int], fps: int) -> None:
    result, rate = edit(clip.frames, FPS, rng())
    assert [one.index for one in result] == shown
    assert rate == fps


def test_speeding_up_shortens_the_clip(clip: Clip) -> None:
    shown = [one.index for one in edited(temporal.speed(1.25), clip.frames)]
    assert all(abs(index - 1.25 * place) <= 0.5 for place, index in enumerate(shown))


def test_dropping_leaves_three_quarters_in_order(clip: Clip) -> None:
    draws = [[one.index for one in edited(temporal.drop(0.25), clip.frames, seed)] for seed in range(5)]
    assert all(len(draw) == 18 and draw == sorted(set(draw)) for draw in draws)
    assert len({tuple(draw) for draw in draws}) == 5


@pytest.mark.parametrize("edit", [temporal.halve_rate, lambda: temporal.drop(0.25), lambda: temporal.speed(1.25)])
def test_one_frame_stays_one_frame(frame: Planes, edit: Callable[[], Edit]) -> None:
    (result,) = edited(edit(), [frame])
    assert same(result, frame)


def test_times_of_the_files(clip: Clip) -> None:
    half = decoded(ATTACKS["fps.half+h264.crf28"].apply(clip, rng()))
    assert np.allclose([one.time_s for one in half], np.arange(12) / 12, atol=1e-3)
    file = ATTACKS["trim.0.5s+h264.crf30"].apply(Clip([*clip.frames] * 3, FPS), rng())
    trimmed = decoded(file)
    assert len(trimmed) == 60
    assert {0, 24, 48} <= {place for place, one in enumerate(trimmed) if one.key}


# --- overlays ---


def test_a_caption_covers_its_box_and_nothing_else(clip: Clip) -> None:
    """Its letters are white, the rest of its box is darkened, and both stand still."""
    frames = edited(overlays.caption(), clip.frames[:3])
    outside = np.ones((160, 192), bool)
    outside[125:147, 19:173] = False  # 78 to 92 % of 160; 10 to 90 % of 192
    still = []
    for before, after in zip(clip.frames, frames, strict=False):
        assert np.array_equal(after.y[outside], before.y[outside])
        inside_before, inside_after = before.y[125:147, 19:173].astype(float), after.y[125:147, 19:173].astype(float)
        assert inside_after.max() >= 200  # letters
        plain = np.abs(inside_after - (0.4 * inside_before + 0.6 * 16)) <= 1
        assert 0.5 < plain.mean() < 0.95  # the rest of the box
        still.append(~plain)
    assert (still[0] & still[1] & still[2]).sum() > 0.95 * still[0].sum()
