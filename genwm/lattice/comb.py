"""The key-less pass: of many geometries, those under which the evidence has power on the lattice's lines.

The lattice is public, so its lines stand out under the right geometry whatever the key; only what is correlated with a
key later counts in the p-value.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genwm.lattice import tile
from genwm.lattice.numeric import box_mean
from genwm.lattice.spectrum import PlaneSpectrum, Spectrum, frequencies

#: Hypotheses on either axis whose mean a hypothesis is compared with.
NEIGHBOURS = 15


def ranked(spectrum: Spectrum, grids: Sequence[NDArray[np.float64]], count: int, *, reach: int) -> NDArray[np.float64]:
    """Up to ``count`` hypotheses with the most power on the lattice's lines, without any key: float64 ``(n, 2, 2)``.

    Half of them have the most power of all, half the most above what their neighbours have: lines of the picture lend
    power to many hypotheses alike, the mark to few.

    Args:
        grids: float64 ``(rows, columns, 2, 2)``, see ``spectrum``; neighbours stand beside one another.
        reach: lattice indices of the luma that are looked at stay below it.
    """
    maps = [_power_map(plane) for plane in spectrum.planes]
    hypotheses = np.concatenate([grid.reshape(-1, 2, 2) for grid in grids])
    # A quarter of the lines tells which hypotheses are worth looking at in full.
    rough = _comb(maps, hypotheses, every=4, reach=reach)
    ends = np.cumsum([grid.shape[0] * grid.shape[1] for grid in grids])
    usual = np.concatenate([
        box_mean(power.reshape(grid.shape[:2]), NEIGHBOURS, ("edge", "edge")).ravel()
        for power, grid in zip(np.split(rough, ends[:-1]), grids, strict=True)
    ])
    likely = np.union1d(_highest(rough, 32 * count), _highest(rough - usual, 32 * count))
    power = _comb(maps, hypotheses[likely], every=1, reach=reach)
    chosen = np.union1d(_highest(power, count // 2), _highest(power - usual[likely], count // 2))
    return np.asarray(hypotheses[likely[chosen]], np.float64)


@lru_cache(maxsize=1)
def _comb_lines(reach: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Lattice indices (n, 2), planes and weights of the lines that the key-less pass looks at: the low, strong ones,
    which stay in place between two hypotheses."""
    plan = tile.layout()
    chosen = np.concatenate([
        np.flatnonzero(plan.plane > 0),
        np.flatnonzero((plan.plane == 0) & (np.hypot(plan.kx, plan.ky) < reach))[::3],
    ])
    index = np.stack([plan.kx, plan.ky], axis=1)[chosen].astype(np.float64)
    return index, plan.plane[chosen], plan.weight[chosen] ** 2


def _highest(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the ``count`` highest scores, the highest first."""
    count = min(count, len(scores))
    chosen = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
    return chosen[np.argsort(scores[chosen])[::-1]]


def _comb(maps: Sequence[tuple[NDArray[np.float32], tuple[float, float]]], matrices: NDArray[np.float64], *, every: int,
          reach: int) -> NDArray[np.float64]:
    """Mean power on every ``every``-th line of the lattice over what chance gives: float ``(n,)``."""
    index, planes, weight = (column[::every] for column in _comb_lines(reach))

    def part(block: NDArray[np.float64]) -> NDArray[np.float64]:
        score = np.zeros(len(block))
        for number, (power, (cycles_x, cycles_y)) in enumerate(maps):
            mine = planes == number
            fx, fy = frequencies(index[mine], block)
            fx *= np.float32(cycles_x)
            fy *= np.float32(cycles_y)
            fx += np.float32(power.shape[1] // 2 + 0.5)
            fy += np.float32(power.shape[0] // 2 + 0.5)
            place = np.clip(fy, 0, power.shape[0] - 1).astype(np.int32)
            place *= power.shape[1]
            place += np.clip(fx, 0, power.shape[1] - 1).astype(np.int32)
            score += power.ravel()[place] @ weight[mine].astype(np.float32)
        return score

    blocks = np.array_split(matrices, max(1, len(matrices) // 512))
    with ThreadPoolExecutor(2) as pool:
        return np.asarray(np.concatenate(list(pool.map(part, blocks))) / weight.sum(), np.float64)


def _power_map(plane: PlaneSpectrum) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Whitened power minus its mean over the whole frequency plane, zero frequency in the middle, at the resolution
    of the unpadded picture; and the map's cells per cycle per nominal pixel, (x, y)."""
    power = plane.bins.real**2 + plane.bins.imag**2
    power -= power.mean()
    rows, columns = power.shape[0] // 2 * 2, power.shape[1] // 2 * 2
    # Neighbouring bins of the padded spectrum are averaged in pairs, centred on the coarse bin.
    power = (power + np.roll(power, 1, axis=0))[:rows:2, :]
    right = np.empty((power.shape[0], columns // 2), np.float32)
    right[:] = power[:, :columns:2]
    right[:, 1:] += power[:, 1 : columns - 1 : 2]
    right *= 0.25
    half = right.shape[0] // 2
    right = np.roll(right, half, axis=0)
    whole = np.concatenate([_reflected(right, half)[:, :0:-1], right], axis=1)
    whole[[0, -1]] = 0
    whole[:, [0, -1]] = 0
    return whole, (plane.size[1] / 2 * plane.step[0], plane.size[0] / 2 * plane.step[1])


def _reflected(right: NDArray[np.float32], centre: int) -> NDArray[np.float32]:
    """Rows mirrored about the row of zero frequency."""
    return np.roll(right[::-1], 2 * centre + 1 - right.shape[0], axis=0)
