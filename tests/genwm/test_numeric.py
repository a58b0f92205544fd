"""Transforms and smoothing of the search are SciPy's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from genwm.lattice.numeric import Edge, box_mean, fast_length, half_spectrum
from genwm.lattice.pilots import GRID, surfaces
from genwm.lattice.tile import layout
from tests.clips import make_clip

SHAPES = [(1, 1), (2, 3), (7, 40), (1, 9), (61, 33)]


def noise(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def test_lengths_are_the_next_without_a_large_prime_factor() -> None:
    assert [fast_length(length) for length in range(1, 3000)] == [
        fft.next_fast_len(length, real=True) for length in range(1, 3000)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_half_spectrum_is_that_of_an_independent_library(shape: tuple[int, int], workers: int) -> None:
    plane, size = noise(shape), (2 * shape[0], 2 * shape[1])
    found = half_spectrum(plane, size, workers=workers)
    assert found.dtype == np.complex64
    np.testing.assert_allclose(found, fft.rfft2(plane, s=size), atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("edges", "mode"), [
    (("wrap", "edge"), ("wrap", "nearest")), (("symmetric", "symmetric"), "reflect"), (("edge", "edge"), "nearest"),
])  # fmt: skip
@pytest.mark.parametrize("window", [3, 15])
def test_means_over_boxes_are_those_of_an_independent_library(
    shape: tuple[int, int], edges: tuple[Edge, Edge], mode: str | tuple[str, str], window: int
) -> None:
    plane = noise(shape)
    found = box_mean(plane, window, edges)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ndimage.uniform_filter(plane, window, mode=mode), atol=1e-5)


def test_a_correlation_surface_is_the_sum_of_the_pilots_waves() -> None:
    plan = layout()
    of_planes = [np.flatnonzero(plan.pilot & (plan.plane == plane)) for plane in range(3)]
    signed = [(noise((2, len(chosen))) + 1j * noise((2, len(chosen)))[::-1]).astype(np.complex64)
              for chosen in of_planes]  # fmt: skip
    places = np.arange(GRID)
    expected = np.zeros((2, GRID, GRID))
    for part, chosen in zip(signed, of_planes, strict=True):
        along_x, along_y = (np.exp(-2j * np.pi / GRID * np.outer(index[chosen], places))
                            for index in (plan.kx, plan.ky))  # fmt: skip
        expected += np.einsum("ni,ix,iy->nyx", part, along_x, along_y).real
    np.testing.assert_allclose(surfaces(signed), expected, atol=1e-3 * np.abs(expected).max())


def test_reading_a_mark_loads_no_scipy(tmp_path: Path) -> None:
    """It would cost a cold `genwm verify` more than the search of a marked file."""
    make_clip(tmp_path / "clip.mp4", width=256, height=240, frames=12, fps=12)
    code = (
        "import sys\n"
        "from detectors.watermark import read_watermark\n"
        "from genwm.keys import Key\n"
        f"found = read_watermark({str(tmp_path / 'clip.mp4')!r}, keys=[Key.generate('k')])\n"
        "print(found.status, [name for name in sys.modules if name.startswith('scipy')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split(maxsplit=1)[1].strip() == "[]"
