"""Intervals of 95 % by clip: what a sample of clips says about clips like them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959964
DRAWS = 2000


def wilson(hits: int, count: int, *, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 % by default: (low, high) in [0, 1]; (0, 1) of nothing.

    E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927)."""
    if count == 0:
        return 0.0, 1.0
    rate, square = hits / count, z * z / count
    middle = (rate + square / 2) / (1 + square)
    half = z * math.sqrt(rate * (1 - rate) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    values: Sequence[float],
    statistic: Callable[..., NDArray[np.floating]] = np.mean,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile bootstrap interval of 95 % of a statistic over clips, one value a clip: (low, high).

    ``statistic`` takes ``axis``, as np.mean and np.median do. One value, or none, has no interval: both ends are that
    value, or nan. B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13."""
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        value = float(sample[0]) if len(sample) else math.nan
        return value, value
    chosen = np.random.default_rng(seed).integers(len(sample), size=(draws, len(sample)))
    low, high = np.quantile(statistic(sample[chosen], axis=1), (0.025, 0.975))
    return float(low), float(high)
