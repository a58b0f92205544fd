"""The search: which geometry of the lattice the evidence holds, and for which key; chance is counted honestly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from genwm.keys import Key
from genwm.lattice import comb, decision, decode, geometry, pilots, tile
from genwm.lattice.evidence import Evidence
from genwm.lattice.spectrum import LIMIT, transform
from tests.clips import KEY, PAYLOAD

OTHER = Key("other", bytes(range(1, 33)), KEY.created)
NOTHING = np.zeros((8, 8), np.float32)


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
    plain = Evidence((NOTHING,) * 3, width, height, 1, 0, 0, NOTHING)
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
    return Evidence((planes[0], planes[1], planes[2]), width, height, 1, 0.0, 0.0, planes[0])


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
    spectrum = transform(Evidence((NOTHING,) * 3, 8, 8, 1, 0, 0, NOTHING))
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
    luma, colour = np.zeros((32, 48), np.float32), np.zeros((16, 24), np.float32)
    blank = Evidence((luma, colour, colour), 48, 32, 1, 0.0, 0.0, luma)
    spectrum = transform(blank)
    for candidate in geometry.uncropped(spectrum, pilots.pilot_keys([KEY])):
        assert candidate.log10_p == 0
        assert decode.read_payload(decode.project_candidate(spectrum, candidate), KEY).payload is None


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
