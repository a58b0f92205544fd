"""Pilots: what the evidence holds at their frequencies under a hypothesis, and how that correlates with a key's signs.

For a hypothesis (a matrix, see ``spectrum``) the whitened spectrum is sampled at the pilots' frequencies, which no key
is needed for; times a key's signs, one small inverse FFT gives the correlation at every shift of the grid. Divided by
its ``spread`` it is the self-normalised statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.spectrum import Spectrum, frequencies, sample

#: Points a side of a correlation surface: enough for the pilots, whose lattice indices stay below 32.
GRID = 64


@dataclass(frozen=True, slots=True)
class _Pilots:
    """Pilot coefficients plane after plane, and where each sits in a correlation surface's half spectrum."""

    index: tuple[NDArray[np.float64], ...]  # (n, 2) lattice indices (kx, ky)
    weight: tuple[NDArray[np.float32], ...]
    order: tuple[NDArray[np.int64], ...]  # position among the layout's pilots
    cells: tuple[NDArray[np.int64], ...]
    mirrored: tuple[NDArray[np.bool_], ...]


@lru_cache(maxsize=1)
def _pilots() -> _Pilots:
    plan = tile.layout()
    planes, kx, ky, weight = (column[plan.pilot] for column in (plan.plane, plan.kx, plan.ky, plan.weight))
    parts: list[tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64],
                      NDArray[np.bool_]]] = []
    for plane in range(3):
        chosen = np.flatnonzero(planes == plane)
        x, y = kx[chosen], ky[chosen]
        # irfft2 sums over exp(+2 pi i k t / GRID) and takes the other half as conjugates.
        mirrored = x < 0
        column, row = np.abs(x), np.where(mirrored, -y, y) % GRID
        parts.append((np.stack([x, y], axis=1).astype(np.float64), weight[chosen].astype(np.float32), chosen,
                      row * (GRID // 2 + 1) + column, mirrored))
    return _Pilots(*(tuple(column) for column in zip(*parts, strict=True)))


def sample_pilots(spectrum: Spectrum, matrices: NDArray[np.float64], *, exact: bool = False
                  ) -> list[NDArray[np.complex64]]:
    """Weighted, whitened spectrum at the pilots: a complex64 ``(len(matrices), pilots of the plane)`` a plane."""
    pilots = _pilots()
    found = []
    for plane, index, weight in zip(spectrum.planes, pilots.index, pilots.weight, strict=True):
        if min(plane.size) < 8:  # left out
            found.append(np.zeros((len(matrices), len(index)), np.complex64))
            continue
        fx, fy = frequencies(index, matrices)
        values = sample(plane, fx, fy, exact=exact)
        values *= weight
        found.append(values)
    return found


def spread(samples: Sequence[NDArray[np.complex64]]) -> NDArray[np.float64]:
    """Standard deviation of the correlation over random signs: float ``(n,)``; never zero."""
    power = sum(np.sum(part.real**2 + part.imag**2, axis=-1, dtype=np.float64) for part in samples)
    return np.sqrt(np.maximum(power / 2, 1e-30))


def sign_pilots(samples: Sequence[NDArray[np.complex64]], signs: NDArray[np.complex128]) -> list[NDArray[np.complex64]]:
    """Samples of ``sample_pilots`` with a key's signs taken off."""
    return [part * signs[order].conj().astype(np.complex64)
            for part, order in zip(samples, _pilots().order, strict=True)]


def surfaces(signed: Sequence[NDArray[np.complex64]]) -> NDArray[np.float32]:
    """Correlation at each shift: float32 ``(n, GRID, GRID)``, index (y, x) in steps of TILE / GRID canonical pixels."""
    pilots = _pilots()
    count = len(signed[0])
    half = np.zeros((count, GRID * (GRID // 2 + 1)), dtype=np.complex64)
    for part, cells, mirrored in zip(signed, pilots.cells, pilots.mirrored, strict=True):
        # correlation(t) = Re sum part exp(-2 pi i k t): the conjugate goes to +k, the value itself to -k.
        half[:, cells] += np.where(mirrored, part, part.conj())
    cube = half.reshape(count, GRID, GRID // 2 + 1)
    edge = cube[:, :, 0]
    mirror = np.roll(edge[:, ::-1], 1, axis=1).conj()
    cube[:, :, 0] = edge + mirror
    # The other columns stand for both halves already, so every term counts twice: divide by two.
    waves, across = _waves()
    parts: NDArray[np.float32] = np.matmul(waves, cube).view(np.float32).reshape(-1, len(across)) @ across
    return parts.reshape(count, GRID, GRID)


@lru_cache(maxsize=1)
def _waves() -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
    """Half of the inverse transform of a half spectrum ``(GRID, GRID // 2 + 1)``, as products of matrices, which are as
    fast as a Fourier transform so short: of its columns, then of its rows, real and imaginary parts side by side."""
    points = np.arange(GRID)
    waves = np.exp(2j * np.pi / GRID * np.outer(points, points))
    counted = np.r_[0.5, np.ones(GRID // 2 - 1), 0.5]  # all but the first and the last column stand for two
    # The real part of a product of complex numbers: real parts by cosines, imaginary ones by negative sines.
    across = np.stack([waves.real, -waves.imag], axis=1)[: GRID // 2 + 1] * counted[:, None, None]
    return waves.astype(np.complex64), across.reshape(-1, GRID).astype(np.float32)


def correlate_at(signed: Sequence[NDArray[np.complex64]], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of each hypothesis at the same shifts: float ``(n, m)``.

    Args:
        signed: samples with the signs taken off, complex64 ``(n, pilots of the plane)`` a plane.
        shifts: float ``(m, 2)``, (x, y) in canonical pixels.
    """
    total = np.zeros((len(signed[0]), len(shifts)))
    for part, index in zip(signed, _pilots().index, strict=True):
        phase = (index @ shifts.T) * (-2 * np.pi / tile.TILE)
        total += part.real @ np.cos(phase).astype(np.float32) - part.imag @ np.sin(phase).astype(np.float32)
    return total


def turned(samples: Sequence[NDArray[np.complex64]], shifts: NDArray[np.float64]) -> list[NDArray[np.complex64]]:
    """Samples of each hypothesis turned to its own shift, ``(n, 2)``: what ``in_step`` adds up needs no further turn,
    whatever the key."""
    found = []
    for part, index in zip(samples, _pilots().index, strict=True):
        # Lattice indices are few integers: the turns of each are made once and looked up.
        reach = int(np.abs(index).max(initial=0))
        turns = np.exp((-2j * np.pi / tile.TILE) * shifts[:, :, None] * np.arange(-reach, reach + 1))
        along_x, along_y = turns.astype(np.complex64).transpose(1, 0, 2)
        kx, ky = index.astype(np.int64).T + reach
        found.append(part * np.take(along_x, kx, axis=1) * np.take(along_y, ky, axis=1))
    return found


def in_step(turned_samples: Sequence[NDArray[np.complex64]], signs: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Correlation of each hypothesis at the shift its samples were ``turned`` to, over the first planes, as many as
    are given: float ``(n,)``."""
    total = np.zeros(len(turned_samples[0]))
    for part, order in zip(turned_samples, _pilots().order[: len(turned_samples)], strict=True):
        total += (part @ signs[order].conj().astype(np.complex64)).real
    return total


def correlate_on_grid(signed: Sequence[NDArray[np.complex64]], xs: NDArray[np.float64], ys: NDArray[np.float64]
                       ) -> NDArray[np.float64]:
    """``correlate_at`` for all shifts (x, y) of a grid: float ``(n, len(ys), len(xs))``."""
    total = np.zeros((len(signed[0]), len(ys), len(xs)))
    for part, index in zip(signed, _pilots().index, strict=True):
        turn_x, turn_y = (
            np.exp(np.outer(index[:, axis], values) * (-2j * np.pi / tile.TILE)).astype(np.complex64)
            for axis, values in enumerate((xs, ys))
        )
        for row in range(len(ys)):
            total[:, row] += ((part * turn_y[:, row]) @ turn_x).real
    return total


@lru_cache(maxsize=1)
def independent_shifts() -> float:
    """How many independent shifts the highest peak of a correlation surface is worth at the threshold.

    A smooth Gaussian field over an area A exceeds a high level z about A sqrt(det L) z^2 / (2 pi) times as often as one
    normal variable does, where L is the covariance of its gradient (Adler and Taylor 2007, expected Euler
    characteristic); here L is the mean square angular frequency of the pilots, on either axis, and z is 7.
    """
    plan = tile.layout()
    power = plan.weight[plan.pilot] ** 2
    angular = (2 * np.pi / tile.TILE) ** 2 * (plan.kx[plan.pilot] ** 2 + plan.ky[plan.pilot] ** 2) / 2
    return float(tile.TILE**2 * np.sum(power * angular) / np.sum(power) * 7**2 / (2 * np.pi))


def pilot_keys(keys: Sequence[Key]) -> list[NDArray[np.complex128]]:
    """Pilot signs of each key, in order."""
    return [tile.pilot_signs(key) for key in keys]
