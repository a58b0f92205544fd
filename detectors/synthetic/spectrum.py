"""Channel 'spectrum': power spectra and noise residuals of native pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from detectors.synthetic.canonical import Stack

#: Rings of equal width between the mean and half a cycle per pixel.
RINGS = 24
FEATURES = 2 * RINGS + 14

_LAPLACE = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], np.float32) / 4


def spectrum_features(crop: Stack, *, every: int = 3) -> NDArray[np.float64]:
    """``(FEATURES,)`` numbers of one segment's crop: log power in rings of the luma's spectrum and of the spectrum of
    its change between neighbouring frames, each relative to their mean; power on the axes and the diagonals and at
    the frequencies where decoders of stride 8 and 4 leave peaks; moments of the high-pass residual, how alike it is
    in neighbouring frames, and its power in the chroma. Every ``every``-th frame is used, with the one after it."""
    rows: list[NDArray[np.float64]] = []
    for index in range(0, len(crop) - 1, every):
        now, after = crop.y[index].astype(np.float32), crop.y[index + 1].astype(np.float32)
        power = _power(now)
        rings, change = _rings(power), _rings(_power(after - now))
        residual, later = ndimage.convolve(now, _LAPLACE), ndimage.convolve(after, _LAPLACE)
        scale = float(residual.std()) + 0.05
        shape = np.clip(residual / scale, -8, 8)
        chroma = [float(np.log(ndimage.convolve(plane[index].astype(np.float32), _LAPLACE).std() + 0.05))
                  for plane in (crop.u, crop.v)]  # fmt: skip
        rows.append(np.concatenate([
            rings - rings.mean(), change - change.mean(), _places(power),
            [np.log(scale), float((shape**4).mean()), float((np.abs(residual) < 0.5).mean()),
             float(np.log(np.percentile(np.abs(residual), 95) + 0.05)),
             float((residual * later).mean()) / (scale * (float(later.std()) + 0.05)),
             change.mean() - rings.mean(), *chroma],
        ]))  # fmt: skip
    return np.asarray(np.mean(rows, axis=0))


def _power(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of a plane under a Hann window, ``(height, width // 2 + 1)``."""
    height, width = plane.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectrum = np.asarray(fft.rfft2((plane - plane.mean()) * window), np.complex128)
    return np.asarray(np.abs(spectrum) ** 2 / (height * width) + 1e-3)


def _radius(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    down, right = np.abs(fft.fftfreq(height))[:, None], fft.rfftfreq(width)[None, :]
    return np.hypot(down, right), down + 0 * right, right + 0 * down


def _rings(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the mean power in each ring."""
    radius, _, _ = _radius(power.shape[0], 2 * (power.shape[1] - 1))
    ring = np.minimum((radius * 2 * RINGS).astype(int), RINGS)
    total = np.bincount(ring.ravel(), power.ravel(), RINGS + 1)[:RINGS]
    count = np.bincount(ring.ravel(), minlength=RINGS + 1)[:RINGS]
    return np.asarray(np.log(total / np.maximum(count, 1) + 1e-3))


def _places(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Six log ratios: power on the axes, on the diagonals, and near 1/8, 1/4, 3/8 and 1/2 cycle per pixel on the axes,
    each over that of the ring around."""
    radius, down, right = _radius(power.shape[0], 2 * (power.shape[1] - 1))
    high = (radius > 0.15) & (radius < 0.5)
    axis = np.minimum(down, right) < 0.02
    diagonal = np.abs(down - right) < 0.02
    values = [power[high & axis].mean() / power[high & ~axis].mean(),
              power[high & diagonal].mean() / power[high & ~diagonal].mean()]  # fmt: skip
    for place in (0.125, 0.25, 0.375, 0.48):
        peak = axis & (np.abs(radius - place) < 0.012)
        around = axis & (np.abs(radius - place) < 0.05) & ~peak
        values.append(power[peak].mean() / power[around].mean())
    return np.asarray(np.log(np.asarray(values, np.float64)))
