"""What the search needs of Fourier transforms and smoothing, by NumPy alone.

SciPy has all of it, and its transforms are several times faster; but importing it takes longer than the search of a
marked file, and ``genwm verify`` of one file is a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: How a plane goes on beyond an edge, by NumPy's names: its other end, its last sample, its mirror image.
Edge = Literal["wrap", "edge", "symmetric"]


@cache
def fast_length(least: int) -> int:
    """The smallest length from ``least`` on that has no prime factor above 5: transforms of it are fast."""
    length = max(least, 1)
    while _without_small_factors(length) != 1:
        length += 1
    return length


def _without_small_factors(number: int) -> int:
    for prime in (2, 3, 5):
        while number % prime == 0:
            number //= prime
    return number


def half_spectrum(plane: NDArray[np.float32], size: tuple[int, int], *, workers: int = 2) -> NDArray[np.complex64]:
    """The Fourier transform of a plane float32 ``(rows, columns)``, which zeros fill up to ``size``: complex64
    ``(size[0], size[1] // 2 + 1)``, the half of a real plane's spectrum that is not a mirror image."""
    rows, columns = size
    across = _in_parts(lambda part: np.fft.rfft(part, n=columns, axis=1), plane, workers)
    turned = np.ascontiguousarray(across.astype(np.complex64, copy=False).T)
    down = _in_parts(lambda part: np.fft.fft(part, n=rows, axis=1), turned, workers)
    return np.ascontiguousarray(down.astype(np.complex64, copy=False).T)


def _in_parts(work: Callable[[NDArray[Any]], NDArray[Any]], plane: NDArray[Any], workers: int) -> NDArray[Any]:
    """What ``work`` makes of a plane row by row, on several threads: NumPy lets go of the interpreter meanwhile."""
    ends = np.linspace(0, len(plane), min(workers, len(plane)) + 1).astype(int)
    if len(ends) == 2:
        return work(plane)
    with ThreadPoolExecutor(workers) as pool:
        return np.concatenate(list(pool.map(work, [plane[start:stop] for start, stop in pairwise(ends)])))


def box_mean(plane: NDArray[np.floating], window: int, edges: Sequence[Edge]) -> NDArray[np.floating]:
    """Means over boxes of ``window`` x ``window`` samples (odd) around each sample of a plane ``(rows, columns)``, of
    any size from 1 x 1 on; ``edges`` of the first and of the second axis."""
    sums = plane
    for axis, edge in enumerate(edges):
        beyond = [(0, 0), (0, 0)]
        beyond[axis] = (window // 2, window // 2)
        padded = np.moveaxis(np.pad(sums, beyond, mode=edge), axis, 0)
        count = plane.shape[axis]
        total = padded[:count].copy()
        for start in range(1, window):
            total += padded[start : start + count]
        sums = np.moveaxis(total, 0, axis)
    return sums * plane.dtype.type(1 / window**2)
