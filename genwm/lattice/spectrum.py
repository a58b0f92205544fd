"""The spectrum of an evidence image, whitened, to be sampled wherever a geometry puts the lattice.

Coordinates: a *nominal* pixel is what a canonical pixel would be if the picture were uncropped, so a frame of any
resolution measures ``tile.SHORT_SIDE`` nominal pixels on its short side. A geometry is a matrix A with
canonical = A nominal + shift, and lattice frequency k / TILE appears at nominal frequency A^T k / TILE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genwm.lattice import tile
from genwm.lattice.evidence import Evidence
from genwm.lattice.numeric import box_mean, fast_length, half_spectrum

PADDING = 2.0
#: Greatest magnitude of a whitened coefficient, which has unit mean power without a mark: what stands out further is
#: the picture's, and would outweigh the rest.
LIMIT = 1.5
_BLOCK = 8


@dataclass(slots=True)
class PlaneSpectrum:
    """One plane's centred, whitened half spectrum.

    Attributes:
        bins: complex64 ``(rows, columns)``: the padded transform, the phase counted from the plane's centre, divided by
            the root of the local noise power, so that without a mark each bin has about unit mean power, and limited to
            ``LIMIT``.
        noise: float32, noise power (of the plain transform) a block of ``_BLOCK`` x ``_BLOCK`` bins.
        size: padded (rows, columns) in samples.
        step: nominal pixels a sample, (x, y).
    """

    bins: NDArray[np.complex64]
    noise: NDArray[np.float32]
    size: tuple[int, int]
    step: tuple[float, float]


@dataclass(slots=True)
class Spectrum:
    """Spectra of the three planes of an evidence image, and the picture's size in nominal pixels."""

    planes: tuple[PlaneSpectrum, PlaneSpectrum, PlaneSpectrum]
    width: float
    height: float
    evidence: Evidence


def transform(evidence: Evidence, *, workers: int = 2) -> Spectrum:
    """The spectrum of an evidence image."""
    width, height = tile.canonical_size(evidence.width, evidence.height)
    spectra = [_plane(plane, width, height, workers) for plane in evidence.planes]
    return Spectrum((spectra[0], spectra[1], spectra[2]), width, height, evidence)


def _plane(plane: NDArray[np.float32], width: float, height: float, workers: int) -> PlaneSpectrum:
    rows, columns = plane.shape
    size = (fast_length(int(rows * PADDING)), fast_length(int(columns * PADDING)))
    bins = half_spectrum(plane, size, workers=workers)
    power = bins.real**2 + bins.imag**2
    noise = _block_means(power, plane.size)
    gain = (1 / np.sqrt(noise)).astype(np.float32)
    turn_y = np.exp(2j * np.pi * np.fft.fftfreq(size[0]) * ((rows - 1) / 2)).astype(np.complex64)
    turn_x = np.exp(2j * np.pi * np.fft.rfftfreq(size[1]) * ((columns - 1) / 2)).astype(np.complex64)
    bins *= turn_y[:, None]
    bins *= turn_x
    gains = np.repeat(np.repeat(gain, _BLOCK, axis=0)[: bins.shape[0]], _BLOCK, axis=1)[:, : bins.shape[1]]
    np.sqrt(power, out=power)
    bins *= np.minimum(gains, np.float32(LIMIT) / np.maximum(power, np.float32(1e-30), out=power))
    return PlaneSpectrum(bins, noise, size, (width / columns, height / rows))


def _block_means(power: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Mean power a block, smoothed over its neighbours; never zero (a constant plane has no power at all)."""
    rows = np.add.reduceat(power, np.arange(0, power.shape[0], _BLOCK), axis=0)
    sums = np.add.reduceat(rows, np.arange(0, power.shape[1], _BLOCK), axis=1)
    tall = np.add.reduceat(np.ones(power.shape[0], np.float32), np.arange(0, power.shape[0], _BLOCK))
    wide = np.add.reduceat(np.ones(power.shape[1], np.float32), np.arange(0, power.shape[1], _BLOCK))
    means = box_mean(sums / (tall[:, None] * wide), 3, ("wrap", "edge"))
    floor = max(float(means.max()) * 1e-6, samples * 1e-12)
    floored: NDArray[np.float32] = np.maximum(means, np.float32(floor))
    return floored


def sample(
    plane: PlaneSpectrum, fx: NDArray[np.floating], fy: NDArray[np.floating], *, exact: bool = False
) -> NDArray[np.complex64]:
    """Whitened spectrum at frequencies in cycles per nominal pixel: complex64 of the frequencies' shape.

    Nearest bin, or with ``exact`` bilinear between bins. 0 beyond the plane's Nyquist frequency.
    """
    rows, columns = plane.size
    width = plane.bins.shape[1]
    x = np.asarray(fx, dtype=np.float32) * np.float32(plane.step[0] * columns)
    y = np.asarray(fy, dtype=np.float32) * np.float32(plane.step[1] * rows)
    negative = x < 0  # a real image's spectrum is conjugate under reflection; only one half is stored
    np.negative(y, out=y, where=negative)
    np.abs(x, out=x)
    inside = (x < np.float32(0.49 * columns)) & (np.abs(y) < np.float32(0.49 * rows))
    x *= inside
    y *= inside
    bins = plane.bins.ravel()
    if exact:
        left, top = np.floor(x), np.floor(y)
        wx, wy = x - left, y - top
        x0, y0 = left.astype(np.int32), top.astype(np.int32)
        upper, lower = y0 % rows * width + x0, (y0 + 1) % rows * width + x0
        above, below = (bins[row] + (bins[row + 1] - bins[row]) * wx for row in (upper, lower))
        values = above + (below - above) * wy
    else:
        y += np.float32(rows + 0.5)  # positive, so that truncation rounds
        place = y.astype(np.int32)
        place -= np.int32(rows) * (place >= rows)
        place *= np.int32(width)
        x += np.float32(0.5)
        place += x.astype(np.int32)
        values = bins[place]
    np.negative(values.imag, out=values.imag, where=negative)
    values *= inside
    return np.asarray(values, dtype=np.complex64)


def frequencies(index: NDArray[np.float64], matrices: NDArray[np.float64]
                 ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Nominal frequencies A^T k / TILE of lattice indices: two float32 ``(len(matrices), len(index))``."""
    thin = (index.T / tile.TILE).astype(np.float32)
    return matrices[:, :, 0].astype(np.float32) @ thin, matrices[:, :, 1].astype(np.float32) @ thin


def coefficients(spectrum: Spectrum, matrix: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Exact lattice coefficients under a geometry, not interpolated.

    Returns:
        Complex ``(n,)`` in layout order, the phase counted from the picture's centre, divided by the root of the noise
        power: unit mean power without a mark. 0 where the plane holds no such frequency.
    """
    plan = tile.layout()
    values = np.zeros(len(plan.kx), dtype=np.complex128)
    frequency = np.stack([plan.kx, plan.ky], axis=1) @ matrix / tile.TILE
    for index, plane in enumerate(spectrum.planes):
        mine = plan.plane == index
        fx, fy = frequency[mine, 0] * plane.step[0], frequency[mine, 1] * plane.step[1]
        inside = (np.abs(fx) < 0.49) & (np.abs(fy) < 0.49)
        image = spectrum.evidence.planes[index]
        raw = _lattice_sums(image, plan.kx[mine], plan.ky[mine], matrix, plane.step)
        row = np.rint(np.where(fx < 0, -fy, fy) * plane.size[0]).astype(np.int64) % plane.size[0] // _BLOCK
        column = np.rint(np.abs(fx) * plane.size[1]).astype(np.int64) // _BLOCK
        power = plane.noise[row, np.minimum(column, plane.noise.shape[1] - 1)]
        values[mine] = np.where(inside, raw / np.sqrt(power), 0)
    return values


def _lattice_sums(
    image: NDArray[np.float32],
    kx: NDArray[np.int64],
    ky: NDArray[np.int64],
    matrix: NDArray[np.float64],
    step: tuple[float, float],
) -> NDArray[np.complex128]:
    """sum over samples of image x exp(-2 pi i k . A (x - centre) / TILE): complex ``(len(kx),)``."""
    rows, columns = image.shape
    x = (np.arange(columns) - (columns - 1) / 2) * step[0]
    y = (np.arange(rows) - (rows - 1) / 2) * step[1]
    if abs(matrix[0, 1]) < 1e-12 and abs(matrix[1, 0]) < 1e-12:
        # No rotation: two thin matrix products.
        ks_x, at_x = np.unique(kx, return_inverse=True)
        ks_y, at_y = np.unique(ky, return_inverse=True)
        turn_y = -2 * np.pi / tile.TILE * matrix[1, 1] * np.outer(ks_y, y)
        turn_x = -2 * np.pi / tile.TILE * matrix[0, 0] * np.outer(x, ks_x)
        cos_sin = np.concatenate([np.cos(turn_y), np.sin(turn_y)]).astype(np.float32) @ image
        partial = cos_sin[: len(ks_y)] + 1j * cos_sin[len(ks_y) :]
        sums = partial @ np.exp(1j * turn_x).astype(np.complex64)
        return np.asarray(sums[at_y, at_x], dtype=np.complex128)
    # Any other geometry: fold the image into one period on a grid four times finer than a canonical pixel.
    fine = 4 * tile.TILE
    u = (matrix[0, 0] * x[None, :] + matrix[0, 1] * y[:, None]) * 4
    v = (matrix[1, 0] * x[None, :] + matrix[1, 1] * y[:, None]) * 4
    place = (np.floor(v).astype(np.int64) % fine) * fine + np.floor(u).astype(np.int64) % fine
    folded = np.bincount(place.ravel(), image.ravel(), fine * fine).reshape(fine, fine)
    spectrum = np.fft.fft2(folded)
    return np.asarray(spectrum[ky % fine, kx % fine] * np.exp(-1j * np.pi * (kx + ky) / fine))
