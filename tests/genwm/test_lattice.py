"""The lattice: the pattern is the same everywhere, chance is counted honestly, and geometry is found again."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from genwm import payload as code
from genwm.keys import Key
from genwm.lattice import comb, decision, decode, embed, geometry, pilots, tile
from genwm.lattice.evidence import (
    CALM_POWER,
    CLIP,
    EVIDENCE_LINES,
    FRAME_WEIGHTS,
    REPEATED_WEIGHT,
    VARIANCE_FLOOR,
    WINDOWS,
    Accumulator,
    Evidence,
    whiten,
)
from genwm.lattice.spectrum import LIMIT, transform
from genwm.video import Planes
from tests.clips import KEY, PAYLOAD, scene

OTHER = Key("other", bytes(range(1, 33)), KEY.created)

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


def test_flat_pictures_are_no_evidence() -> None:
    assert not whiten(np.full((40, 60), 77, np.float32), variance_floor=9.0).any()


def test_whitening_is_bounded_and_blind_to_brightness_and_contrast() -> None:
    picture = scene(96, 64, 1)[0, :, :, 1].astype(np.float32) * 8
    white = whiten(picture, variance_floor=9.0)
    assert np.abs(white).max() <= CLIP
    assert 0.3 < white.std() < 1.5
    brighter = whiten(0.5 * picture + 40, variance_floor=9.0 / 4)
    np.testing.assert_allclose(brighter, white, atol=1e-3)


@pytest.mark.parametrize(("window", "calm_power"), [(5, 0.0), (9, 0.2)])
def test_whitening_is_what_filters_of_scipy_give(window: int, calm_power: float) -> None:
    picture = np.random.default_rng(1).random((70, 900), np.float32) * 200
    wide = np.pad(picture, window, mode="edge").astype(np.float64)
    residual = wide - ndimage.uniform_filter(wide, window)
    deviation = np.sqrt(ndimage.uniform_filter(residual**2, window) + 4.0)
    expected = (np.clip(residual / deviation, -CLIP, CLIP) * deviation**-calm_power)[window:-window, window:-window]
    found = whiten(picture, variance_floor=4.0, window=window, calm_power=calm_power)
    np.testing.assert_allclose(found, expected, atol=1e-4)


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
    collected = Accumulator(group_frames=len(frames), picked=picked)
    for frame in frames:
        collected.add(frame)
    (found,) = collected.take()
    for number, name in enumerate("yuv"):
        mean = sum(weight * getattr(frame, name).astype(np.float64)
                   for weight, frame in zip(weights, frames, strict=True)) / sum(weights)
        white = whiten(mean.astype(np.float32), variance_floor=VARIANCE_FLOOR[number] / math.sqrt(len(frames)),
                       window=WINDOWS[number], calm_power=CALM_POWER[number])
        np.testing.assert_allclose(found.planes[number], white * sum(weights), rtol=1e-3, atol=1e-3)


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


# --- geometry


def picture_matrix(scale: float, degrees: float, flip: bool, aspect: float) -> np.ndarray:
    """What is done to a picture: mirrored left to right, stretched, then turned clockwise (y points down)."""
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    stretch = scale * np.diag([math.sqrt(aspect), 1 / math.sqrt(aspect)])
    return turn @ stretch @ np.diag([-1.0 if flip else 1.0, 1.0])


@given(st.floats(0.3, 4), st.floats(-45, 45), st.booleans(), st.floats(0.6, 1.6))
def test_describe_undoes_what_made_the_matrix(scale: float, degrees: float, flip: bool, aspect: float) -> None:
    place = geometry.describe(np.linalg.inv(picture_matrix(scale, degrees, flip, aspect)))
    assert place.scale == pytest.approx(scale)
    assert place.rotation == pytest.approx(degrees, abs=1e-6)
    assert place.flip is flip
    assert place.aspect == pytest.approx(aspect)


@given(st.floats(200, 3000), st.floats(200, 3000))
def test_scales_cover_their_range_without_gaps(width: float, height: float) -> None:
    plain = Evidence((np.zeros((8, 8), np.float32),) * 3, width, height, 1, 0, 0)
    values = geometry.scales(transform(plain))
    assert values[0] < geometry.MIN_SCALE * 1.05
    assert values[-1] > geometry.MAX_SCALE / 1.05
    assert (np.diff(values) > 0).all()
    assert 1.0 in values


def synthetic(matrix: np.ndarray, shift: tuple[float, float], *, strength: float, width: int = 480, height: int = 320,
              seed: int = 0) -> Evidence:
    """White noise with a mark under a geometry: canonical = matrix x nominal, from the picture's centre, + shift."""
    rng = np.random.default_rng(seed)
    tiles = tile.tiles(KEY, PAYLOAD, oversampling=4)
    nominal = tile.SHORT_SIDE / min(width, height)
    planes = []
    for image, (columns, rows) in zip(tiles, ((width, height), (width // 2, height // 2), (width // 2, height // 2)),
                                      strict=True):
        x = ((np.arange(columns) - (columns - 1) / 2) * width * nominal / columns)[None, :]
        y = ((np.arange(rows) - (rows - 1) / 2) * height * nominal / rows)[:, None]
        across = (matrix[0, 0] * x + matrix[0, 1] * y + shift[0]) * 4
        down = (matrix[1, 0] * x + matrix[1, 1] * y + shift[1]) * 4
        size = image.shape[0]
        pattern = ndimage.map_coordinates(image, [down % size, across % size], order=1, mode="grid-wrap")
        planes.append((strength * pattern + rng.normal(size=(rows, columns))).astype(np.float32))
    return Evidence((planes[0], planes[1], planes[2]), width, height, 1, 0.0, 0.0)


def test_an_unchanged_picture_is_found_with_its_payload() -> None:
    spectrum = transform(synthetic(np.eye(2), (384.0, 256.0), strength=0.3))
    found = geometry.uncropped(spectrum, pilots.pilot_keys([OTHER, KEY]))
    best = min(found, key=lambda candidate: candidate.log10_p)
    assert (best.key, best.family.name) == (1, "unchanged")
    assert best.log10_p < -20
    decoded = decode.read_payload(decode.project_candidate(spectrum, best), KEY)
    assert decoded.payload == PAYLOAD
    assert decode.read_payload(decode.project_candidate(spectrum, best), OTHER).payload is None
    assert min(candidate.log10_p for candidate in found if candidate.key == 0) > -4


def test_what_stands_out_in_a_picture_does_not_outweigh_the_mark() -> None:
    """A wave of the picture's own on a frequency of the lattice: without a limit it would be most of the spread."""
    evidence = synthetic(np.eye(2), (384.0, 256.0), strength=0.1)
    plan = tile.layout()
    chosen = np.flatnonzero(plan.pilot & (plan.plane == 1))[:6]
    rows, columns = evidence.planes[1].shape
    x, y = (np.arange(columns) * 768 / columns)[None, :], (np.arange(rows) * 512 / rows)[:, None]
    waves = sum(5 * np.cos(2 * np.pi / tile.TILE * (plan.kx[k] * x + plan.ky[k] * y)) for k in chosen)
    striped = replace(evidence, planes=(evidence.planes[0], evidence.planes[1] + waves, evidence.planes[2]))
    plain, found = (
        min(geometry.uncropped(transform(item), pilots.pilot_keys([KEY])), key=lambda candidate: candidate.log10_p)
        for item in (evidence, striped)
    )
    assert found.family.name == plain.family.name == "unchanged"
    assert found.z > 0.8 * plain.z > 5
    values = decode.project(transform(striped), np.eye(2), (384.0, 256.0)).values
    assert np.abs(values).max() == pytest.approx(LIMIT)
    unlimited = decode.project(transform(striped), np.eye(2), (384.0, 256.0), limit=math.inf)
    assert np.abs(unlimited.values[chosen]).min() > 2 * LIMIT
    assert unlimited.pilot_z(tile.pilot_signs(KEY)) < 0.8 * plain.z


def test_gains_of_bands_and_planes_are_learnt_from_the_pilots() -> None:
    plan = tile.layout()
    signs = tile.signs(KEY, PAYLOAD)
    came_through = np.array([4.0, 1.0, 1.0, 3.0, 0.5])[plan.band]  # of each band
    values = came_through * plan.weight * 8 * signs
    gain = decode.measured_gain(decode.Projection(values), tile.pilot_signs(KEY)) / plan.weight
    by_band = np.array([gain[plan.band == band].mean() for band in range(len(tile.BANDS))])
    assert np.ptp(gain[plan.band == 0]) < 1e-9  # one gain a band
    assert by_band[0] > 1.5 * by_band[1]
    assert by_band[1] < by_band[2] < by_band[0]  # a band without pilots does as well as its plane
    assert by_band[3] > 2 * by_band[4]
    grey = decode.measured_gain(decode.Projection(np.where(plan.plane == 0, values, 0)), tile.pilot_signs(KEY))
    assert grey[plan.plane == 0].min() > 0
    assert (grey[plan.plane > 0] / plan.weight[plan.plane > 0]).max() < 0.3 * by_band[1]


def test_gains_of_noise_are_small_and_positive() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, len(tile.layout().kx))) / np.sqrt(2)
    gain = decode.measured_gain(decode.Projection(noise[0] + 1j * noise[1]), tile.pilot_signs(KEY))
    assert (gain > 0).all()
    assert np.isfinite(gain).all()


@settings(max_examples=6)
@given(st.floats(0.6, 2.2), st.floats(0, 128), st.floats(0, 128), st.booleans())
def test_crops_and_scales_are_recovered(scale: float, right: float, down: float, flip: bool) -> None:
    matrix = np.linalg.inv(picture_matrix(scale, 0, flip, 1))
    spectrum = transform(synthetic(matrix, (right, down), strength=0.5))
    best = min(geometry.cropped(spectrum, pilots.pilot_keys([KEY])), key=lambda candidate: candidate.log10_p)
    assert best.log10_p < decision.THRESHOLD_LOG10_P
    place = geometry.describe(best.matrix)
    assert place.flip is flip
    assert place.scale == pytest.approx(scale, rel=0.01)
    off = (np.array(best.shift) - (right, down) + tile.TILE / 2) % tile.TILE - tile.TILE / 2
    assert np.abs(off).max() < 1.0
    assert decode.read_payload(decode.project_candidate(spectrum, best), KEY).payload == PAYLOAD


@pytest.mark.parametrize(("size", "lines", "family"), [
    ((480, 320), 540, "odd_cut"), ((300, 400), 300, "odd_cut"), ((256, 406), 406, "odd_cut"), ((480, 300), 480, "cut"),
])  # fmt: skip
def test_cuts_of_pictures_of_usual_sizes_need_less_evidence(size: tuple[int, int], lines: int, family: str) -> None:
    """A cut out of 540 lines, of the long side alone, of the whole height, and out of a size that platforms stream."""
    matrix = np.eye(2) * min(size) / lines
    spectrum = transform(synthetic(matrix, (50.0, 70.0), strength=0.5, width=size[0], height=size[1]))
    keys = pilots.pilot_keys([OTHER, KEY])
    found = geometry.cut(spectrum, keys, size)
    other, best = (min((item for item in found if item.key == number), key=lambda item: item.log10_p)
                   for number in (0, 1))
    assert other.log10_p > -3
    assert best.family.name == family
    assert geometry.describe(best.matrix).scale == pytest.approx(lines / min(size), rel=0.005)
    assert np.abs(np.array(best.shift) - (50.0, 70.0)).max() < 1.0
    any_crop = min(geometry.cropped(spectrum, keys), key=lambda candidate: candidate.log10_p)
    assert best.log10_p < any_crop.log10_p - 0.5


def test_a_cut_is_also_looked_at_where_it_begins_at_a_whole_pixel() -> None:
    """At which the payload is best; of a picture of 540 lines the tile is no whole number of pixels."""
    size, lines, left, top = (480, 300), 480, 33, 18
    pixel = tile.SHORT_SIDE / lines
    middle = ((left + size[0] / 2) * pixel % tile.TILE, (top + size[1] / 2) * pixel % tile.TILE)
    spectrum = transform(synthetic(np.eye(2) * min(size) / lines, middle, strength=0.1, width=size[0], height=size[1]))
    climbed, *whole = (item for item in geometry.cut(spectrum, pilots.pilot_keys([KEY]), size)
                       if item.family.name == "cut")
    assert np.abs(np.array(climbed.shift) - middle).max() < pixel
    assert any(np.abs(np.array(item.shift) - middle).max() < 1e-6 for item in whole)
    for item in whole:
        begins = np.array(item.shift) / pixel - np.array(size) / 2
        np.testing.assert_allclose(begins, np.rint(begins), atol=1e-6)
    spectrum = transform(synthetic(np.eye(2) * 300 / 540, (50.0, 70.0), strength=0.5, width=480, height=300))
    odd = geometry.cut(spectrum, pilots.pilot_keys([KEY]), size)
    best = min(odd, key=lambda item: item.log10_p)
    assert geometry.describe(best.matrix).scale == pytest.approx(1.8, rel=0.005)
    assert len([item for item in odd if item.family.name == "odd_cut"]) == 1


def test_a_cut_out_of_an_unusual_size_is_looked_at_with_its_pixels_kept() -> None:
    size, lines, left, top = (480, 300), 488, 40, 60
    pixel = tile.SHORT_SIDE / lines
    middle = ((left + size[0] / 2) * pixel % tile.TILE, (top + size[1] / 2) * pixel % tile.TILE)
    spectrum = transform(synthetic(np.eye(2) * min(size) / lines, middle, strength=0.2, width=size[0], height=size[1]))
    found = geometry.cropped(spectrum, pilots.pilot_keys([KEY]), size)
    assert {item.family.name for item in found} == {"scale"}
    exact = [item for item in found if abs(item.matrix[0, 0] - min(size) / lines) < 1e-9]
    assert any(np.abs(np.array(item.shift) - middle).max() < 1e-6 for item in exact)
    climbed = geometry.cropped(spectrum, pilots.pilot_keys([KEY]))
    cuts = {round(min(size) / item.matrix[0, 0], 6) for item in found[len(climbed):]}
    assert all(number % 8 == 0 and abs(number / lines - 1) < 0.02 for number in cuts)


def test_a_crop_whose_scale_climbed_away_is_looked_at_with_all_line_numbers_near_it() -> None:
    """A strong crop has large steps of scale: the refined one may be nearer to another multiple of 8 lines."""
    size, lines = (314, 314), 1048
    middle = ((40 + 157) * tile.SHORT_SIDE / lines % tile.TILE,) * 2
    spectrum = transform(synthetic(np.eye(2) * 314 / lines, middle, strength=0.5, width=314, height=314))
    found = geometry.cropped(spectrum, pilots.pilot_keys([KEY]), size)
    cuts = {round(314 / item.matrix[0, 0]) for item in found if abs(314 / item.matrix[0, 0] / 8 % 1) < 1e-9}
    assert {1040, 1048, 1056} >= cuts > {1048}


@pytest.mark.parametrize(("degrees", "aspect"), [(5.0, 1.0), (-9.0, 1.0), (0.0, 0.75), (0.0, 1.33)])
def test_rotations_and_squeezes_are_recovered(degrees: float, aspect: float) -> None:
    matrix = np.linalg.inv(picture_matrix(1.1, degrees, False, aspect))
    spectrum = transform(synthetic(matrix, (20.0, 90.0), strength=0.8))
    best = min(geometry.warped(spectrum, pilots.pilot_keys([KEY])), key=lambda candidate: candidate.log10_p)
    assert best.log10_p < decision.THRESHOLD_LOG10_P
    place = geometry.describe(best.matrix)
    assert place.rotation == pytest.approx(degrees, abs=0.5)
    assert place.aspect == pytest.approx(aspect, rel=0.02)


def test_a_hypothesis_that_stands_out_from_its_neighbours_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a picture lend power to many hypotheses at once; the mark's own may have less, but stands alone."""
    score = np.tile(10 * np.exp(-((np.arange(60)[:, None] - 10) / 20) ** 2), 60)
    score[50, 20] += 5
    grid = np.zeros((60, 60, 2, 2))
    grid[..., 0, 0] = np.arange(3600).reshape(60, 60)
    monkeypatch.setattr(comb, "_power_map", lambda plane: None)
    monkeypatch.setattr(comb, "_comb", lambda maps, matrices, **_: score.ravel()[matrices[:, 0, 0].astype(int)])
    spectrum = transform(Evidence((np.zeros((8, 8), np.float32),) * 3, 8, 8, 1, 0, 0))
    found = set(comb.ranked(spectrum, [grid[:40], grid[40:]], 10, reach=32)[:, 0, 0].astype(int))
    assert 50 * 60 + 20 in found
    assert len(found) <= 10
    assert sum(place // 60 == 10 for place in found) >= 5


def test_chance_is_not_underestimated() -> None:
    """Over 60 keys on noise, the smallest p-value of a family is about 1 in 60, not less."""
    spectrum = transform(synthetic(np.eye(2), (0.0, 0.0), strength=0.0))
    keys = [Key(f"k{number}", bytes([number] * 32), KEY.created) for number in range(60)]
    found = geometry.uncropped(spectrum, pilots.pilot_keys(keys))
    assert min(candidate.log10_p for candidate in found) > -4


def test_a_picture_without_any_power_is_no_fault() -> None:
    blank = Evidence((np.zeros((32, 48), np.float32), *(np.zeros((16, 24), np.float32),) * 2), 48, 32, 1, 0.0, 0.0)
    spectrum = transform(blank)
    for candidate in geometry.uncropped(spectrum, pilots.pilot_keys([KEY])):
        assert candidate.log10_p == 0
        assert decode.read_payload(decode.project_candidate(spectrum, candidate), KEY).payload is None


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
    assert found.planes[0].shape == (EVIDENCE_LINES, 768)
    assert found.planes[1].shape == (EVIDENCE_LINES // 2, 384)
    assert (found.width, found.height) == (columns, rows)
    spectrum = np.fft.rfft2(found.planes[0])
    assert np.unravel_index(np.argmax(np.abs(spectrum)), spectrum.shape) == (5, 6)


def test_independent_shifts_grow_with_the_highest_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the frequency, four times the peaks; and more than the pilots' own resolution alone would say."""
    before = pilots.independent_shifts()
    plan = tile.layout()
    pilots.independent_shifts.cache_clear()
    monkeypatch.setattr(tile, "layout", lambda: replace(plan, kx=2 * plan.kx, ky=2 * plan.ky))
    try:
        assert pilots.independent_shifts() == pytest.approx(4 * before)
    finally:
        pilots.independent_shifts.cache_clear()
    assert pilots.GRID**2 < before < tile.TILE**2
