"""The tail of the standard normal distribution, where it is too small for a float as well."""

from __future__ import annotations

import math

#: From so many deviations on the asymptotic series is exact to the last digits; ``erfc`` would leave the floats at 37.
_FAR = 25.0
_TERMS = 6


def log_tail(z: float) -> float:
    """Natural logarithm of the chance that a standard normal variable exceeds ``z``; minus infinity at infinity.

    Far out by the asymptotic series of Mills' ratio (Abramowitz and Stegun 1964, 26.2.12). SciPy's ``log_ndtr(-z)`` is
    the same, but takes longer to import than the search of a marked file.
    """
    z = float(z)
    if z < 0:
        return math.log1p(-math.erfc(-z / math.sqrt(2)) / 2)
    if z < _FAR:
        return math.log(math.erfc(z / math.sqrt(2)) / 2)
    if math.isinf(z):
        return -math.inf
    series, term = 1.0, 1.0
    for number in range(1, _TERMS + 1):
        term *= -(2 * number - 1) / (z * z)
        series += term
    return -z * z / 2 - math.log(z * math.sqrt(2 * math.pi)) + math.log(series)
