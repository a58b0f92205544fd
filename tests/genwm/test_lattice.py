"""The lattice: the pattern is the same everywhere, masks follow the eye, and evidence adds up."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genwm import payload as code
from genwm.keys import Key
from genwm.lattice import decision, embed, tile
from genwm.lattice.evidence import EVIDENCE_LINES, FRAME_WEIGHTS, REPEATED_WEIGHT, Accumulator, Evidence
from genwm.lattice.whitening import (
    COLOUR_NOISE,
    COLOUR_WINDOW,
    LUMA_NOISE,
    SMALL_COLOUR_WINDOW,
    whiten_colours,
    whiten_luma,
)
from genwm.video import Planes
from tests.clips import KEY, PAYLOAD

OTHER = Key("other", bytes(range(1, 33)), KEY.created)

# --- the mask's grid


@pytest.mark.parametrize("shape", [(16, 16), (17, 23), (720, 1281), (9, 200)])
@pytest.mark.parametrize("factor", [1, 2, 3, 5, 8])
def test_means_of_blocks(shape: tuple[int, int], factor: int) -> None:
    image = np.random.default_rng(factor).uniform(0, 255, shape).astype(np.float32)
    rows, columns = shape[0] // factor, shape[1] // factor
    blocks = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    expected = blocks.mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(embed.pooled(image, factor), expected, rtol=2e-6)
    np.testing.assert_allclose(embed.pooled(np.asfortranarray(image), factor), expected, rtol=2e-6)
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(embed.pooled(torch.from_numpy(image), factor).numpy(), expected, rtol=2e-6)


def test_a_callers_autocast_changes_no_mark() -> None:
    """Half precision would take its own rounding for activity, and mark smooth pictures a quarter more strongly."""
    torch = pytest.importorskip("torch")
    frame = torch.linspace(0.2, 0.7, 3 * 480 * 640).reshape(3, 480, 640)
    patterns = torch.from_numpy(np.random.default_rng(0).choice([-2.0, 2.0], (3, 480, 640)).astype(np.float32))
    plain, cast = torch.empty_like(frame), torch.empty_like(frame)
    embed.add_to_rgb(frame, plain, patterns, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        embed.add_to_rgb(frame, cast, patterns, 1.0)
    assert (plain - frame).abs().max() > 1e-3
    assert torch.equal(plain, cast)


# --- the pattern

PINNED = {
    "chips": "c693e23f8281361b",
    "layout": "80e65f6785eff499",
    "pilots": "4f14b9cf434ac808",
    "scramble": "ef6d39b3c24bdbbb",
    "signs": "38f22fc08d3f7080",
}
# Y, U and V at four places, in 8-bit levels.
PINNED_VALUES = [
    [0.3420342, 0.3516766, 0.2265917, 0.5430299],
    [-2.6884611, -3.7487993, 0.4845986, -2.3743370],
    [0.6204141, 1.8711839, 3.0345268, 2.0896823],
]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def test_the_pattern_is_pinned() -> None:
    """A change here breaks the reading of every mark made before: raise ``keys.VERSION`` with it."""
    plan = tile.layout()
    order = np.stack([plan.plane, plan.kx, plan.ky, plan.pilot, plan.chip[:, 0], plan.chip[:, 1]]).astype("<i4")
    signs = np.stack([tile.signs(KEY, PAYLOAD).real > 0, tile.signs(KEY, PAYLOAD).imag > 0])
    found = {
        "chips": digest(KEY.chips("test", 4096)),
        "layout": digest(order),
        "pilots": digest(tile.pilot_signs(KEY).real > 0),
        "scramble": digest(tile.scramble(KEY)),
        "signs": digest(signs),
    }
    assert found == PINNED


def test_tile_values_are_pinned() -> None:
    tiles = tile.tiles(KEY, PAYLOAD)
    places = [(0, 0), (1, 2), (64, 32), (127, 5)]
    found = [[float(tiles[plane][place]) for place in places] for plane in range(3)]
    np.testing.assert_allclose(found, PINNED_VALUES, atol=1e-5, err_msg=repr(np.round(found, 7).tolist()))


def test_each_band_has_its_strength_and_its_place() -> None:
    plan = tile.layout()
    radius = np.hypot(plan.kx, plan.ky) / tile.TILE
    for number, band in enumerate(tile.BANDS):
        mine = plan.band == number
        assert (plan.plane[mine] == band.plane).all()
        assert radius[mine].min() >= band.low
        assert radius[mine].max() < band.high
        assert plan.pilot[mine].mean() == pytest.approx(band.pilot, abs=0.01)
    tiles = tile.tiles(KEY, PAYLOAD)
    for plane in range(3):
        power = sum(band.rms**2 for band in tile.BANDS if band.plane == plane)
        assert tiles[plane].mean() == pytest.approx(0, abs=1e-6)
        assert tiles[plane].std() == pytest.approx(math.sqrt(power), rel=0.02)


def test_every_payload_bit_gets_its_share_of_each_plane() -> None:
    plan = tile.layout()
    data = ~plan.pilot
    for plane in range(3):
        steps = plan.chip[data & (plan.plane == plane)].ravel() // code.RATE
        counts = np.bincount(steps, minlength=code.STEPS)
        assert counts.max() - counts.min() <= len(tile.BANDS)


def test_no_frequency_is_used_twice() -> None:
    plan = tile.layout()
    places = set(zip(plan.plane.tolist(), plan.kx.tolist(), plan.ky.tolist(), strict=True))
    opposite = {(plane, -x, -y) for plane, x, y in places}
    assert len(places) == len(plan.kx)
    assert not places & opposite


def test_pilots_belong_to_the_key_and_chips_to_the_payload() -> None:
    pilot = tile.layout().pilot
    one, other = tile.signs(KEY, PAYLOAD), tile.signs(KEY, PAYLOAD ^ 1)
    assert (one[pilot] == other[pilot]).all()
    assert 0.2 < (one[~pilot] != other[~pilot]).mean() < 0.8
    assert abs(np.vdot(one, tile.signs(OTHER, PAYLOAD))) / len(one) < 6 / math.sqrt(len(one))


def test_oversampling_interpolates() -> None:
    fine = tile.tiles(KEY, PAYLOAD, oversampling=4)
    np.testing.assert_allclose(fine[:, ::4, ::4], tile.tiles(KEY, PAYLOAD), atol=1e-5)


def test_planes_scale_each_tile() -> None:
    plain = tile.tiles(KEY, PAYLOAD)
    scaled = tile.tiles(KEY, PAYLOAD, planes=(0.5, 0.0, 2.0))
    np.testing.assert_allclose(scaled, plain * np.array([0.5, 0, 2], np.float32)[:, None, None], atol=1e-5)


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (1280, 720), (300, 300)])
def test_the_pattern_grows_with_the_picture(width: int, height: int) -> None:
    fine = tile.tiles(KEY, PAYLOAD, oversampling=4)[1]  # low frequencies: no size aliases them
    small, large = (
        tile.pattern(fine, height * factor, width * factor, canonical=tile.canonical_size(width, height))
        for factor in (1, 3)
    )
    shrunk = large.reshape(height, 3, width, 3).mean(axis=(1, 3))
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("width", "height"), [(640, 480), (135, 240), (1001, 720)])
def test_a_pattern_is_laid_without_its_tile(width: int, height: int) -> None:
    canonical, kept = tile.canonical_size(width, height), {"planes": (1.0, 0.5, 2.0), "highest": 0.3}
    tiles, waves = tile.tiles(KEY, PAYLOAD, oversampling=4, **kept), tile.waves(KEY, PAYLOAD, **kept)
    for plane in range(3):
        expected = tile.pattern(tiles[plane], height, width, canonical=canonical)
        found = tile.laid(waves, plane, height, width, canonical=canonical, oversampling=4)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_pattern_repeats_with_the_tile() -> None:
    image = tile.pattern(tile.tiles(KEY, PAYLOAD, oversampling=4)[0], 512, 768, canonical=(768, 512))
    corner, other = image[: tile.TILE, : tile.TILE], image[tile.TILE : 2 * tile.TILE, -tile.TILE :]
    np.testing.assert_allclose(corner, other, atol=1e-5)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_canonical_size_keeps_the_shape(width: int, height: int) -> None:
    across, down = tile.canonical_size(width, height)
    assert min(across, down) == pytest.approx(tile.SHORT_SIDE)
    assert across / down == pytest.approx(width / height)


# --- evidence


def noise_planes(rng: np.random.Generator, index: int, width: int = 96, height: int = 64, **options: Any) -> Planes:
    def plane(rows: int, columns: int) -> np.ndarray:
        return rng.integers(16, 235, (rows, columns)).astype(np.uint8)

    return Planes(y=plane(height, width), u=plane(height // 2, width // 2), v=plane(height // 2, width // 2),
                  time_s=index / 25, index=index, **options)


@pytest.mark.parametrize(("types", "picked", "repeated"), [
    ("IBBPBBP", False, []), ("IPIP", False, []), ("IIII", False, [1, 2, 3]), ("IIII", True, []),
])  # fmt: skip
def test_frames_count_by_their_type(types: str, picked: bool, repeated: list[int]) -> None:
    """A group is its frames' weighted mean, however many are summed at once. Where all are key frames, the first
    counts most, unless they were picked for it."""
    rng = np.random.default_rng(2)
    frames = [replace(noise_planes(rng, index), picture_type=kind) for index, kind in enumerate(types)]
    weights = [REPEATED_WEIGHT if index in repeated else FRAME_WEIGHTS[frame.picture_type]
               for index, frame in enumerate(frames)]
    assert FRAME_WEIGHTS["I"] > REPEATED_WEIGHT

    def summed(frames: list[Planes]) -> Evidence:
        collected = Accumulator(group_frames=len(frames), picked=picked)
        for frame in frames:
            collected.add(frame)
        (found,) = collected.take()
        return found

    def mean(name: str) -> np.ndarray:
        total = sum(weight * getattr(frame, name).astype(np.float64)
                    for weight, frame in zip(weights, frames, strict=True))  # fmt: skip
        return np.asarray(total / sum(weights), np.float32)

    independent = math.sqrt(len(frames))
    found = summed(frames)
    for plane, white in zip((found.planes[0], found.plain), whiten_luma(mean("y"), noise=LUMA_NOISE / independent),
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(plane, white * sum(weights), rtol=1e-3, atol=1e-3 * sum(weights))
    # Of a flat luma the reduced one is as flat: the colours can be foretold without the scaler.
    flat = np.full_like(frames[0].y, 90)
    colours = summed([replace(frame, y=flat) for frame in frames]).planes[1:]
    expected = whiten_colours(np.full_like(mean("u"), 90), mean("u"), mean("v"), noise=COLOUR_NOISE / independent,
                              window=SMALL_COLOUR_WINDOW)  # fmt: skip
    for plane, white in zip(colours, expected, strict=True):
        np.testing.assert_allclose(plane, white * sum(weights), rtol=1e-3, atol=1e-3 * sum(weights))


@pytest.mark.parametrize(("lines", "window"), [(478, SMALL_COLOUR_WINDOW), (480, COLOUR_WINDOW)])
def test_colours_of_small_pictures_are_whitened_over_smaller_boxes(lines: int, window: int) -> None:
    frame = replace(noise_planes(np.random.default_rng(4), 0, 484, lines), picture_type="I")
    frame = replace(frame, y=np.full_like(frame.y, 90))
    collected = Accumulator()
    collected.add(frame)
    (found,) = collected.take()
    blue, red = (plane.astype(np.float32) for plane in (frame.u, frame.v))
    expected = whiten_colours(np.full_like(blue, 90), blue, red, window=window)
    for plane, white in zip(found.planes[1:], expected, strict=True):
        np.testing.assert_allclose(plane, white * FRAME_WEIGHTS["I"], atol=1e-2)


def test_evidence_counts_frames_and_time() -> None:
    rng = np.random.default_rng(0)
    collected = Accumulator(group_frames=4)
    for index in range(10):
        collected.add(noise_planes(rng, index))
    parts = collected.take()
    assert [part.frames for part in parts] == [4, 4, 2]
    total = parts[0] + parts[1] + parts[2]
    assert (total.frames, total.start_s, total.stop_s) == (10, 0.0, pytest.approx(9 / 25))
    assert total.planes[0].shape == (64, 96)
    assert total.planes[1].shape == total.planes[2].shape == (32, 48)
    assert collected.take() == []


@pytest.mark.parametrize(("count", "frames"), [(17, [8, 9]), (18, [8, 8, 2]), (9, [9]), (8, [8]), (1, [1])])
def test_a_scrap_at_the_end_goes_with_the_group_before(count: int, frames: list[int]) -> None:
    rng = np.random.default_rng(1)
    clip = [noise_planes(rng, index) for index in range(count)]
    collected, whole = Accumulator(group_frames=8), Accumulator(group_frames=frames[-1])
    for frame in clip:
        collected.add(frame)
    for frame in clip[-frames[-1] :]:
        whole.add(frame)
    parts = collected.take()
    assert [part.frames for part in parts] == frames
    (expected,) = whole.take()
    assert (parts[-1].start_s, parts[-1].stop_s) == (expected.start_s, expected.stop_s)
    for plane, alone in zip(parts[-1].planes, expected.planes, strict=True):
        np.testing.assert_array_equal(plane, alone)


def test_a_scrap_that_would_overflow_the_sums_is_a_group_of_its_own() -> None:
    rng = np.random.default_rng(1)
    collected = Accumulator(group_frames=16, picked=True)
    for index in range(17):
        collected.add(replace(noise_planes(rng, index), picture_type="I"))
    assert [part.frames for part in collected.take()] == [16, 1]


def test_a_change_of_size_starts_a_new_group() -> None:
    rng = np.random.default_rng(0)
    collected = Accumulator()
    for index, width in enumerate((96, 96, 128)):
        collected.add(noise_planes(rng, index, width))
    assert [part.planes[0].shape for part in collected.take()] == [(64, 96), (64, 128)]


def test_square_pixels_are_what_evidence_is_measured_in() -> None:
    collected = Accumulator()
    collected.add(noise_planes(np.random.default_rng(0), 0, pixel_aspect=1.5))
    (part,) = collected.take()
    assert (part.width, part.height) == (144, 64)


# --- decisions


def test_shares_of_the_error_budget_fit_in_it() -> None:
    assert sum(decision.SHARES.values()) <= 1


@given(st.floats(-5, 30))
def test_tail_of_the_normal_distribution(z: float) -> None:
    assert decision.log10_tail(z) == pytest.approx(stats.norm.logsf(z) / math.log(10), rel=1e-9, abs=1e-12)


@given(st.floats(0, 40), st.floats(0, 40), st.integers(1, 10**9))
def test_p_values_fall_with_the_correlation_and_rise_with_the_tests(one: float, other: float, tests: int) -> None:
    low, high = sorted((one, other))
    family = decision.Family("scale", tests)
    assert family.log10_p(high) <= family.log10_p(low) <= 0
    assert decision.Family("scale", 10 * tests).log10_p(high) >= family.log10_p(high)


@given(st.floats(-50, 0), st.integers(0, 10**6))
def test_any_of_many_is_likelier_than_one(log10_p: float, count: int) -> None:
    assert log10_p <= decision.any_of(log10_p, count) <= 0


# --- mask


def grid(*colour: float) -> list[np.ndarray]:
    """Red, green and blue of an even picture."""
    return [np.full((4, 5), value, np.float32) for value in colour]


def shown(*colour: float) -> tuple[float, float]:
    """Masks of both colour differences on an even colour under a luma mask of 0.5."""
    masks = embed.chroma_masks(np.full((4, 5), 0.5, np.float32), *grid(*colour))
    assert all(np.ptp(mask) == 0 and mask.shape == (4, 5) for mask in masks)
    return float(masks[0][0, 0]), float(masks[1][0, 0])


@pytest.mark.parametrize("level", [0.1, 0.4, 0.9])
def test_a_grey_forgives_both_colours_the_same(level: float) -> None:
    blue, red = shown(level, level, level)
    assert blue == pytest.approx(red, rel=1e-5)


def test_a_deep_blue_forgives_less_blue_and_a_deep_red_less_red() -> None:
    """Less than a grey of the same luma does, and than the other colour."""
    for colour, own in (((0.2, 0.35, 0.95), 0), ((0.9, 0.3, 0.2), 1)):
        luma = sum(weight * part for weight, part in zip(embed.LUMA_FROM_RGB, colour, strict=True))
        masks, grey = shown(*colour), shown(luma, luma, luma)
        assert masks[own] < grey[own]
        assert masks[own] < masks[1 - own]


def test_shade_forgives_least() -> None:
    masks = [shown(level, level, level)[0] for level in (0.05, embed.SHADE_LEVEL, 0.5, 0.9)]
    assert masks[1] == min(masks)
    assert masks[3] > masks[2] > masks[1]


def test_colours_are_those_of_bt709() -> None:
    for rgb in ((1.0, 0.0, 0.0), (0.2, 0.7, 0.1), (0.0, 0.0, 1.0)):
        luma = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))
        levels = 16 + 219 * luma, 128 + 224 * (rgb[2] - luma) / 1.8556, 128 + 224 * (rgb[0] - luma) / 1.5748
        assert embed.colours(*levels) == pytest.approx(rgb, abs=1e-4)


@pytest.mark.parametrize("height", [1, 7, 40])
def test_strips_are_rows_of_the_whole(height: int) -> None:
    mask = np.random.default_rng(1).random((9, 14), np.float32)
    whole = embed.enlarged(mask, 27, 42, (3, 3))
    parts = list(embed.strips(mask, 27, 42, (3, 3), height=height))
    assert np.concatenate([values for _, values in parts]) == pytest.approx(whole, abs=1e-6)
    assert [part.start for part, _ in parts] == list(range(0, 27, height))


@pytest.mark.parametrize(("rows", "columns"), [(240, 428), (360, 640), (854, 480), (720, 1280), (1080, 1920),
                                               (60, 9000)])  # fmt: skip
def test_products_stay_small_enough_for_one_thread(rows: int, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenBLAS shares larger ones among threads, which wait for one another at the processor's expense."""
    sizes, multiply = [], embed._multiply

    def counted(first: Any, second: Any, product: Any) -> None:
        sizes.append(first.shape[-2] * first.shape[-1] * second.shape[-1])
        multiply(first, second, product)

    monkeypatch.setattr(embed, "_multiply", counted)
    frame = np.full((3, rows, columns), 0.5, np.float32)
    embed.add_to_rgb(frame, frame.copy(), np.zeros_like(frame), 1.0)
    factor = embed.pool_factor(rows, columns)
    mask = np.ones((rows // factor, columns // factor), np.float32)
    embed.add_to_samples(np.zeros((rows, columns), np.uint8), frame[0], mask, (factor, factor), 255)
    half = np.zeros((rows // 2, columns // 2), np.uint8)
    embed.add_to_samples(half, frame[0, ::2, ::2], mask, (factor / 2, factor / 2), 255)
    assert max(sizes) <= 4 * 65_536


def test_a_mask_at_full_size_is_laid_as_it_is() -> None:
    mask = np.random.default_rng(1).random((9, 14), np.float32)
    assert np.array_equal(embed.enlarged(mask, 9, 14, (1, 1)), mask)


def test_enlarging_keeps_a_ramp() -> None:
    ramp = np.arange(8, dtype=np.float32)[:, None] * np.ones((1, 6), np.float32)
    wide = embed.enlarged(ramp, 16, 12, (2, 2))
    np.testing.assert_allclose(wide[1:15, 0], (np.arange(1, 15) + 0.5) / 2 - 0.5, atol=1e-6)


@pytest.mark.parametrize("size", [(90, 160), (96, 171)])
def test_a_colour_plane_lies_on_the_grid_of_the_mask(size: tuple[int, int]) -> None:
    factor = 3
    rows, columns = (length // 2 for length in size)
    plane = np.arange(columns, dtype=np.float32)[None] + np.zeros((rows, 1), np.float32)
    mask = np.zeros((size[0] // factor, size[1] // factor), np.float32)
    found = embed.onto(mask, plane, factor, size)
    assert found.shape == mask.shape
    middles = (np.arange(mask.shape[1]) + 0.5) * factor * columns / size[1] - 0.5
    np.testing.assert_allclose(found[0, 1:-1], middles[1:-1], atol=0.02)


# --- sizes


def test_a_small_picture_is_spared_what_it_cannot_hold() -> None:
    plan = tile.layout()
    radius = np.hypot(plan.kx, plan.ky) / tile.TILE
    cut = tile.tiles(KEY, PAYLOAD, highest=0.2)
    spectrum = np.abs(np.fft.fft2(cut[0]))
    there = spectrum[plan.ky[plan.plane == 0], plan.kx[plan.plane == 0]] > 1
    assert np.array_equal(there, radius[plan.plane == 0] <= 0.2)


def test_sums_are_reduced_and_keep_their_place() -> None:
    """A wave in 900 lines is the same wave in the reduced evidence."""
    rows, columns = 900, 1200
    y, x = np.mgrid[:rows, :columns]
    wave = 128 + 40 * np.cos(2 * np.pi * (x * 6 / columns + y * 5 / rows))
    flat = np.full((rows // 2, columns // 2), 128, np.uint8)
    collected = Accumulator()
    collected.add(Planes(y=wave.astype(np.uint8), u=flat, v=flat, time_s=0, index=0))
    (found,) = collected.take()
    assert found.planes[0].shape == (EVIDENCE_LINES, EVIDENCE_LINES * 4 // 3)
    assert found.planes[1].shape == (EVIDENCE_LINES // 2, EVIDENCE_LINES * 2 // 3)
    assert (found.width, found.height) == (columns, rows)
    spectrum = np.fft.rfft2(found.planes[0])
    assert np.unravel_index(np.argmax(np.abs(spectrum)), spectrum.shape) == (5, 6)
