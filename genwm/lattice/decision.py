"""From correlation to p-value: what chance would do, counted over everything that was tried.

Without a mark the signs of a key are independent of the picture, so a self-normalised correlation with them is a sum of
fair random signs: its tail is at most Gaussian up to a small constant (Bentkus and Dzindzalieta 2015). The search tries
many hypotheses; each family of them gets a share of the error budget, fixed in advance, and within a family every
candidate counts (weighted Bonferroni, Holm 1979). Likely edits (no change, a resize) are few hypotheses, so they are
found at a lower correlation than a crop at an unknown scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from genwm.gaussian import log_tail

#: Shares of the error budget, one a family of hypotheses. Their sum is at most 1.
SHARES = {
    "unchanged": 0.10,
    "flipped": 0.05,
    "recoloured": 0.05,
    "near": 0.05,
    "aspect": 0.05,
    "cut": 0.10,
    "odd_cut": 0.10,
    "scale": 0.25,
    "warp": 0.10,
    "zoom": 0.05,
    "payload": 0.10,
}

#: Independent tests that a family's correlated hypotheses are worth, a share of their number. Neighbours are the less
#: alike the further out in the tail one looks: random keys on unmarked clips give about half of these where one in a
#: hundred exceeds; these hold at 10^-6.
EFFECTIVE = {
    "unchanged": 1.0, "flipped": 1.0, "recoloured": 1.0, "near": 0.15, "aspect": 0.7, "cut": 0.8, "odd_cut": 0.8,
    "scale": 1.5, "warp": 2.0, "zoom": 0.3,
}  # fmt: skip

#: Family-wise false-alarm rate a file and key set below which a mark counts as detected.
THRESHOLD_LOG10_P = -6.0
#: Above the threshold but below this the reading is 'inconclusive'.
HINT_LOG10_P = -3.0


@dataclass(frozen=True, slots=True)
class Family:
    """A family of hypotheses that were tried.

    Attributes:
        name: key of ``SHARES``.
        hypotheses: how many its maximum was taken over.
    """

    name: str
    hypotheses: float

    @property
    def tests(self) -> float:
        """How many independent hypotheses the maximum is worth."""
        return max(self.hypotheses * EFFECTIVE[self.name], 1.0)

    def log10_p(self, z: float) -> float:
        """Corrected p-value of the family's best correlation, base 10, at most 0."""
        return min(0.0, log10_tail(z) + math.log10(self.tests / SHARES[self.name]))


def log10_tail(z: float) -> float:
    """log10 of the upper tail of the standard normal distribution beyond ``z``."""
    return log_tail(z) / math.log(10)


def any_of(log10_p: float, count: float) -> float:
    """Bonferroni: the p-value of the best of ``count`` tests, or of one that has 1 / ``count`` of the error budget;
    base 10, at most 0."""
    return min(0.0, float(log10_p) + math.log10(max(count, 1)))
