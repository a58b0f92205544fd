"""Whitening against independent references: filters of SciPy, transforms of NumPy, least squares window by window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from genwm.lattice import whitening
from genwm.lattice.whitening import (
    BLOCK,
    CALM_POWER,
    CLIP,
    COLOUR_WINDOW,
    GUIDE_NOISE,
    LEVELLED_NOISE,
    LUMA_WINDOW,
    MODEL_WINDOW,
    SMALL_COLOUR_WINDOW,
    high_pass,
    levelled,
    whiten_colours,
    whiten_luma,
)
from tests.clips import scene


def textures(rows: int, columns: int, count: int, seed: int = 1) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return [rng.random((rows, columns), np.float32) * 100 + 60 for _ in range(count)]


def box(plane: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    return np.asarray(ndimage.uniform_filter(plane, window))


def evened(residual: NDArray[np.float64], window: int, noise: float, power: float) -> NDArray[np.float64]:
    deviation = np.sqrt(box(residual**2, window) + noise)
    return np.asarray(np.clip(residual / deviation, -CLIP, CLIP) * deviation**-power)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 60)])
def test_flat_pictures_are_no_evidence(shape: tuple[int, int]) -> None:
    flat = np.full(shape, 77, np.float32)
    assert not any(plane.any() for plane in whiten_luma(flat))
    assert not any(plane.any() for plane in whiten_colours(flat, flat, flat))


def test_whitening_is_bounded_and_blind_to_brightness_and_contrast() -> None:
    picture = scene(96, 64, 1)[0, :, :, 1].astype(np.float32) * 8
    darker = whiten_luma(0.5 * picture + 40, noise=whitening.LUMA_NOISE / 4)
    for white, same in zip(whiten_luma(picture), darker, strict=True):
        assert np.abs(white).max() <= CLIP
        assert 0.3 < white.std() < 1.5
        np.testing.assert_allclose(same, white, atol=2e-3)


@pytest.mark.parametrize("window", [5, 9])
def test_high_pass_is_what_a_filter_of_scipy_gives(window: int) -> None:
    (picture,) = textures(70, 900, 1)
    wide = np.pad(picture, window, mode="edge").astype(np.float64)
    expected = (wide - box(wide, window))[window:-window, window:-window]
    np.testing.assert_allclose(high_pass(picture, window), expected, atol=1e-3)


def test_spectra_without_a_bound_on_noise_are_left_as_they_are_but_for_their_magnitude() -> None:
    """With noise that outweighs everything, levelling is one division: the tapers add up to 1."""
    (picture,) = textures(61, 83, 1)
    picture -= picture.mean()
    noise = 1e12
    energy = BLOCK**2 / 4  # of a taper: the mean of a sine's square is a half, in either direction
    expected = picture * BLOCK / np.sqrt(noise * energy)
    np.testing.assert_allclose(levelled(picture, noise=noise), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_levelling_brings_every_coefficient_to_one_magnitude() -> None:
    """Against sums of blocks, one at a time, by NumPy."""
    (picture,) = textures(48, 64, 1)
    picture[:, 20:23] += 90  # an edge
    side = np.sin(np.pi * (np.arange(BLOCK) + 0.5) / BLOCK)
    taper = np.outer(side, side)
    hop = BLOCK // 2
    wide = np.pad(picture, ((hop, BLOCK), (hop, BLOCK)), mode="edge").astype(np.float64)
    expected = np.zeros_like(wide)
    for row in range(0, 48 + hop, hop):
        for column in range(0, 64 + hop, hop):
            part = np.s_[row : row + BLOCK, column : column + BLOCK]
            spectrum = np.fft.fft2(wide[part] * taper)
            spectrum /= np.sqrt(np.abs(spectrum) ** 2 + 4.0 * np.sum(taper**2))
            expected[part] += BLOCK * np.fft.ifft2(spectrum).real * taper
    inner = expected[hop : hop + 48, hop : hop + 64]
    np.testing.assert_allclose(levelled(picture, noise=4.0), inner, atol=1e-3)


def test_a_wave_counts_as_much_beside_a_strong_texture_as_alone() -> None:
    """What the levelling is for: a texture of one direction takes little from a faint wave of another."""
    y, x = np.mgrid[:128, :192].astype(np.float32)
    wave = np.cos(2 * np.pi * y / 10)
    stripes = 40 * np.cos(2 * np.pi * x / 7)
    noise = np.random.default_rng(0).normal(0, 2, (128, 192)).astype(np.float32)

    def kept(whiten: Callable[[NDArray[np.float32]], NDArray[Any]]) -> float:
        alone, beside = (float(np.mean(whiten(picture) * wave)) for picture in (noise + wave, noise + wave + stripes))
        return beside / alone

    assert kept(lambda picture: whiten_luma(picture, noise=0.1)[0]) > 0.5
    assert kept(lambda picture: evened(picture - box(picture, LUMA_WINDOW), LUMA_WINDOW, 0.1, 0.0)) < 0.2


def test_luma_is_high_passed_levelled_and_evened() -> None:
    (picture,) = textures(90, 700, 1)
    residual = high_pass(picture, LUMA_WINDOW)
    white, plain = whiten_luma(picture, noise=4.0)
    flat = np.pad(levelled(residual, noise=4.0), 8, mode="edge").astype(np.float64)
    np.testing.assert_allclose(white, evened(flat, LUMA_WINDOW, LEVELLED_NOISE, 0.0)[8:-8, 8:-8], atol=1e-3)
    np.testing.assert_allclose(plain, residual / np.hypot(residual, 2), atol=1e-5)


def test_plain_luma_ends_where_the_picture_ends() -> None:
    picture = np.full((80, 90), 128, np.float32)
    picture[24:56, 30:60] = textures(32, 30, 1)[0]
    _, plain = whiten_luma(picture)
    assert plain[24:56, 30:60].std() > 0.5
    reach = LUMA_WINDOW // 2
    plain[24 - reach : 56 + reach, 30 - reach : 60 + reach] = 0
    assert not plain.any()


@pytest.mark.parametrize("window", [COLOUR_WINDOW, SMALL_COLOUR_WINDOW])
def test_colours_lose_what_least_squares_explains(window: int) -> None:
    """Against a ridge regression of each window by NumPy."""
    luma, blue, red = textures(40, 50, 3)
    blue += 0.6 * luma
    red += 0.4 * luma - 0.7 * blue
    halo = 13
    residuals = []
    for plane in (luma, blue, red):
        wide = np.pad(plane, halo, mode="edge").astype(np.float64)
        residuals.append(wide - box(wide, window))
    reach = MODEL_WINDOW // 2
    left = np.zeros((2, *residuals[0].shape))
    for row in range(reach, left.shape[1] - reach):
        for column in range(reach, left.shape[2] - reach):
            part = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
            light, *colours = (residual[part].ravel() for residual in residuals)
            for number in (0, 1):
                guides = np.stack([light, colours[1 - number]])
                ridge = np.diag(np.array(GUIDE_NOISE) * MODEL_WINDOW**2)
                slopes = np.linalg.solve(guides @ guides.T + ridge, guides @ colours[number])
                here = [residuals[0][row, column], residuals[2 - number][row, column]]
                left[number, row, column] = residuals[1 + number][row, column] - slopes @ here
    white = whiten_colours(luma, blue, red, noise=2.0, window=window)
    for number in (0, 1):
        expected = evened(left[number], window, 2.0, CALM_POWER)[halo:-halo, halo:-halo]
        np.testing.assert_allclose(white[number], expected, atol=2e-3)


def test_the_colours_of_a_picture_without_any_other_variation_are_left_as_they_are() -> None:
    """Guides that say nothing explain nothing."""
    (blue,) = textures(40, 50, 1)
    flat = np.full_like(blue, 128)
    white, nothing = whiten_colours(flat, blue, flat, noise=2.0)
    wide = np.pad(blue, 16, mode="edge").astype(np.float64)
    expected = evened(wide - box(wide, COLOUR_WINDOW), COLOUR_WINDOW, 2.0, CALM_POWER)[16:-16, 16:-16]
    np.testing.assert_allclose(white, expected, atol=1e-3)
    assert not nothing.any()


def test_a_mark_of_its_own_survives_in_colours_that_luma_explains() -> None:
    """What the model is for: the picture's colours follow its light, the mark does not."""
    rng = np.random.default_rng(3)
    luma = ndimage.gaussian_filter(rng.normal(0, 60, (160, 240)), 2).astype(np.float32) * 4 + 128
    y, x = np.mgrid[:160, :240]
    mark = np.cos(2 * np.pi * (x / 14 + y / 21)).astype(np.float32)
    blue, red = 0.5 * luma + mark, 0.3 * luma + 40
    explained, _ = whiten_colours(luma, blue, red)
    unexplained, _ = whiten_colours(np.full_like(luma, 128), blue, np.full_like(luma, 128))
    assert np.mean(explained * mark) > 3 * np.mean(unexplained * mark)
