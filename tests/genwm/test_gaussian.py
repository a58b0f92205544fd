"""The normal tail is SciPy's, near and far."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import log_ndtr

from genwm.gaussian import log_tail


@pytest.mark.parametrize("z", [*np.linspace(-9, 45, 217), -40.0, 24.999999, 25.0, 300.0, 1e5])
def test_the_logarithm_of_the_tail_is_that_of_an_independent_library(z: float) -> None:
    assert log_tail(z) == pytest.approx(float(log_ndtr(-z)), rel=1e-12, abs=1e-300)


def test_no_number_of_deviations_is_out_of_range() -> None:
    assert log_tail(math.inf) == -math.inf
    assert log_tail(-math.inf) == 0.0
    assert log_tail(0.0) == pytest.approx(math.log(0.5))
