"""From a found grid to the payload: coefficients turned back to the tile's origin, weighted, summed into soft chips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genwm import payload as code
from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.geometry import Candidate
from genwm.lattice.spectrum import LIMIT, Spectrum, coefficients


@dataclass(frozen=True, slots=True)
class Projection:
    """An evidence image projected on the lattice at a known geometry.

    Attributes:
        values: complex ``(n,)`` in layout order, turned back to the grid's origin; without a mark of about unit mean
            power before they were limited.
    """

    values: NDArray[np.complex128]

    def pilot_z(self, signs: NDArray[np.complex128]) -> float:
        """Self-normalised correlation with a key's pilots."""
        plan = tile.layout()
        return float(self_normalised(self.values[plan.pilot], plan.weight[plan.pilot] * signs))


def self_normalised(values: NDArray[np.complexfloating], reference: NDArray[np.complexfloating]
                    ) -> NDArray[np.floating]:
    """Correlation with a reference over the root sum of squares of its terms: a standard normal variable where the
    reference's signs are fair and independent of the values, whatever these are; 0 where there is nothing.

    Args:
        values: complex ``(..., n)``.
        reference: complex ``(n,)``, weight times sign; 0 where a coefficient has no say.
    """
    spread = np.sqrt((np.abs(values) ** 2) @ (np.abs(reference) ** 2) / 2)
    return np.asarray((values @ reference.conj()).real / np.maximum(spread, 1e-30))


def project(spectrum: Spectrum, matrix: NDArray[np.float64], shift: tuple[float, float], *, limit: float = LIMIT
            ) -> Projection:
    """Lattice coefficients of the evidence under a geometry, of a magnitude of at most ``limit``."""
    plan = tile.layout()
    values = coefficients(spectrum, matrix)
    values *= np.minimum(limit / np.maximum(np.abs(values), 1e-30), 1)
    turn = np.exp((-2j * np.pi / tile.TILE) * (plan.kx * shift[0] + plan.ky * shift[1]))
    return Projection(values * turn)


def measured_gain(projection: Projection, signs: NDArray[np.complex128]) -> NDArray[np.float64]:
    """How much of each band came through, learnt from the pilots: float ``(n,)`` gains.

    A band's gain is the expected weight times the mean correlation of its pilots, shrunk towards that of its plane, and
    that towards that of all, by their own uncertainty: a compressed copy keeps the low bands, a grey one no colour.
    Pilots say nothing about payload chips, so the payload's p-value stays valid.
    """
    plan = tile.layout()
    aligned = np.zeros(len(plan.kx))
    aligned[plan.pilot] = (projection.values[plan.pilot] * signs.conj()).real

    def fit(where: NDArray[np.bool_]) -> tuple[float, float]:
        """Least-squares factor from weight to correlation of the pilots there, and the inverse of its variance: of
        coefficients of unit power, 1 / (2 energy)."""
        weight, values = plan.weight[where & plan.pilot], aligned[where & plan.pilot]
        energy = float(weight @ weight)
        return float(weight @ values) / max(energy, 1e-30), 2 * energy

    def shrunk(where: NDArray[np.bool_], expected: float) -> float:
        """The factor there, towards an expected one whose prior is as wide as itself; all that where no pilots are."""
        factor, precision = fit(where)
        trust = precision / (precision + expected**-2)
        return max(trust * factor + (1 - trust) * expected, 0.05 * expected)

    overall = max(fit(np.isin(plan.plane, plan.plane[projection.values != 0]))[0], 1e-9)  # of planes that hold anything
    gain = np.zeros(len(plan.kx))
    for plane in range(len(tile.PLANES)):
        of_plane = shrunk(plan.plane == plane, overall)
        for band in np.unique(plan.band[plan.plane == plane]):
            mine = plan.band == band
            gain[mine] = shrunk(mine, of_plane) * plan.weight[mine]
    return gain


def soft_chips(projection: Projection, key: Key, gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Soft values of the payload's chips: float ``(code.CHIPS,)``, unscrambled, proportional to log-likelihood
    ratios."""
    plan = tile.layout()
    data = ~plan.pilot
    values = projection.values[data] * gain[data]
    parts = np.stack([values.real, values.imag], axis=1) * tile.scramble(key)
    sums: NDArray[np.float64] = np.bincount(plan.chip[data].ravel(), parts.ravel(), code.CHIPS).astype(np.float64)
    return sums


def read_payload(projection: Projection, key: Key) -> code.Decoded:
    """Decodes the payload of one projection."""
    return code.decode(soft_chips(projection, key, measured_gain(projection, tile.pilot_signs(key))))


def project_candidate(spectrum: Spectrum, candidate: Candidate) -> Projection:
    """``project`` at a candidate's geometry, with its weights of the planes."""
    found = project(spectrum, candidate.matrix, candidate.shift)
    return Projection(found.values * np.array(candidate.planes)[tile.layout().plane])
