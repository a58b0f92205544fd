"""The 64-bit payload and its error-correcting code.

A payload gets ``CHECK_BITS`` parity bits (a cyclic redundancy check) and goes through a tail-biting convolutional code
of ``2^MEMORY`` states and rate 1 / ``RATE``. The check does more than detect errors: it removes the codewords that
short error events of the inner code would put too close to each other, so that a wrong payload is rarer than a missed
one at every strength of the mark.

``decode`` runs the Viterbi algorithm twice round the circular trellis. Where the best path fails the check it lists the
path's near rivals. It accepts a payload only if chance cannot explain it. ``docs/payload.md`` has the measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genwm.errors import PayloadError
from genwm.gaussian import log_tail

__all__ = ["CHIPS", "Decoded", "decode", "encode", "soft_correlation"]

BITS = 64
CHECK_BITS = 16
MEMORY = 14
RATE = 32
STEPS = BITS + CHECK_BITS
CHIPS = STEPS * RATE

#: A payload is accepted where the p-value over all 2^64 payloads is below the first of these, or the second where the
#: best path failed the check and a rival passed it: there a near neighbour of the truth is likelier.
LOG10_P_MAX = -9.7
LOG10_P_MAX_LISTED = -12.0

# Taps of the outputs (bit 0 weighs the newest input) and of the check: of 300 random draws the one with the smallest
# union bound over its 1,024 shortest neighbours (python -m eval.payload_curve search). The highest and the lowest tap
# are set in each generator, which quarters the work of the decoder.
_GENERATORS = (
    25645, 16885, 20113, 26645, 31541, 25291, 26615, 26773, 31947, 32115, 19483, 25827, 32669, 25393, 17743, 32759,
    22901, 22645, 20583, 29817, 23503, 18877, 19423, 25291, 22017, 26751, 17531, 21373, 21621, 27939, 16875, 21863,
)  # fmt: skip
_CHECK_POLYNOMIAL = 95757

_HALF = 1 << (MEMORY - 1)
_TURNS = 2 * STEPS
_EDGE = 24  # steps at either end of the unrolled trellis that are not trusted


@dataclass(frozen=True)
class Decoded:
    """What ``decode`` found.

    Attributes:
        payload: the 64-bit payload, or None where chance could explain it.
        best: the most likely payload, accepted or not; None where no path passed the check.
        z: correlation of the best codeword with the soft values, divided by their root sum of squares.
        log10_p: base-10 logarithm of the chance that any of the 2^64 payloads reaches this by luck, at most 0.
    """

    payload: int | None
    best: int | None
    z: float
    log10_p: float


def encode(payload: int) -> NDArray[np.int8]:
    """The codeword of a payload: int8 ``(CHIPS,)``, each -1 or +1; chip ``step * RATE + output``.

    Raises:
        PayloadError: ``payload`` is no integer in [0, 2^64).
    """
    if isinstance(payload, bool) or not isinstance(payload, int | np.integer) or not 0 <= int(payload) < 1 << BITS:
        raise PayloadError(f"Expected a payload of 64 bits, an integer from 0 to 2^64 - 1, got {payload!r}; "
                           "write one such as 0x0123456789ABCDEF.")
    word = int(payload) << CHECK_BITS
    word |= _remainder(word)
    bits = np.array([[word >> (STEPS - 1 - step) & 1 for step in range(STEPS)]], dtype=np.uint8)
    chips: NDArray[np.int8] = _chips(bits)[0]
    return chips


def decode(soft: NDArray[np.floating]) -> Decoded:
    """The payload behind soft chips.

    Args:
        soft: float ``(CHIPS,)``, any scale, positive where a chip is rather +1: log-likelihood ratios, or amplitudes
            times weights; 0 for an erased chip.

    Raises:
        PayloadError: another shape, or values that are not finite.
    """
    values = np.asarray(soft, dtype=np.float64)
    if values.shape != (CHIPS,) or not np.isfinite(values).all():
        raise PayloadError(f"Expected {CHIPS} finite soft values, got an array of shape {values.shape}; "
                           "give one value a chip, 0 where a chip is erased.")
    norm = float(np.sqrt(np.sum(values**2)))
    if norm == 0:
        return Decoded(None, None, 0.0, 0.0)
    values = values / norm
    candidates, listed = _candidates(values)
    if not len(candidates):
        return Decoded(None, None, 0.0, 0.0)
    scores = _chips(candidates) @ values
    winner = int(np.argmax(scores))
    best = int("".join(map(str, candidates[winner, :BITS])), 2)
    z = float(scores[winner])
    log10_p = min(0.0, BITS * math.log10(2) + _log10_tail(values, z))
    limit = LOG10_P_MAX_LISTED if listed else LOG10_P_MAX
    return Decoded(best if log10_p <= limit else None, best, z, log10_p)


def soft_correlation(soft: NDArray[np.floating], payload: int) -> float:
    """Correlation of a known payload's codeword with soft chips, over the root sum of their squares (0 for all 0)."""
    values = np.asarray(soft, dtype=np.float64)
    norm = float(np.sqrt(np.sum(values**2)))
    return float(encode(payload) @ values) / norm if norm else 0.0


def _remainder(word: int) -> int:
    for shift in range(word.bit_length() - CHECK_BITS - 1, -1, -1):
        if word >> (shift + CHECK_BITS) & 1:
            word ^= _CHECK_POLYNOMIAL << shift
    return word


@lru_cache(maxsize=1)
def _outputs() -> NDArray[np.int8]:
    """Signs of each output for each register content: int8 ``(2^(MEMORY + 1), RATE)``; the newest bit is the lowest."""
    taps = np.array(_GENERATORS)
    signs = np.ones((1, RATE), dtype=np.int8)
    for bit in range(MEMORY + 1):
        flips = (1 - 2 * (taps >> bit & 1)).astype(np.int8)
        signs = np.concatenate([signs, signs * flips])
    return signs


@lru_cache(maxsize=1)
def _inner_signs() -> NDArray[np.float32]:
    """Outputs of registers whose newest and oldest bits are 0: float32 ``(2^(MEMORY - 1), RATE)``.

    Either of these two bits flips all outputs, because every generator has both taps.
    """
    return _outputs()[: 1 << MEMORY : 2].astype(np.float32)


@lru_cache(maxsize=1)
def _syndromes() -> NDArray[np.int64]:
    """Remainder of each step's bit under the check polynomial: int64 ``(STEPS,)``."""
    return np.array([_remainder(1 << (STEPS - 1 - step)) for step in range(STEPS)], dtype=np.int64)


def _chips(bits: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Circular convolution: uint8 ``(N, STEPS)`` bits to int8 ``(N, CHIPS)`` signs."""
    registers = sum(np.roll(bits, delay, axis=1).astype(np.int64) << delay for delay in range(MEMORY + 1))
    chips: NDArray[np.int8] = _outputs()[registers].reshape(len(bits), CHIPS)
    return chips


def _candidates(values: NDArray[np.float64]) -> tuple[NDArray[np.uint8], bool]:
    """Words that pass the check, uint8 ``(N, STEPS)``, and whether they are rivals of the best path, not that itself.

    A rival leaves the best path once: for each place where another branch could have merged into it, the best such.
    """
    survivors, end = _viterbi(values)
    found = _valid(_trace(survivors, end, np.zeros((1, _TURNS), dtype=bool)))
    if len(found):
        return found, False
    return _valid(_trace(survivors, end, np.eye(_TURNS, dtype=bool)[_EDGE:])), True


def _viterbi(values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], int]:
    """Survivors of two turns round the trellis, bool ``(2 STEPS, 2^MEMORY)`` (the oldest bit of each state's
    predecessor), and the best end state. The start is open: the first turn only finds where the circle closes."""
    branches = values.reshape(STEPS, RATE).astype(np.float32) @ _inner_signs().T
    survivors = np.empty((_TURNS, _HALF, 2), dtype=bool)
    metrics = np.zeros((_HALF, 2), dtype=np.float32)
    fresh = np.empty_like(metrics)
    for turn in range(_TURNS):
        branch = branches[turn % STEPS]
        low, high = metrics.reshape(2, _HALF)
        for newest, gain in ((0, branch), (1, -branch)):
            stay, come = low + gain, high - gain
            np.greater(come, stay, out=survivors[turn, :, newest])
            np.maximum(stay, come, out=fresh[:, newest])
        metrics, fresh = fresh, metrics
    return survivors.reshape(_TURNS, 2 * _HALF), int(np.argmax(metrics))


def _trace(survivors: NDArray[np.bool_], end: int, flips: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Paths back from ``end`` that take the rejected branch where ``flips`` says so: uint8 ``(N, 2 STEPS)`` bits."""
    paths = np.empty(flips.shape, dtype=np.uint8)
    states = np.full(len(flips), end, dtype=np.int32)
    for turn in range(_TURNS - 1, -1, -1):
        paths[:, turn] = states & 1
        oldest = survivors[turn][states] ^ flips[:, turn]
        states = (states >> 1) | (oldest.astype(np.int32) << (MEMORY - 1))
    return paths


def _valid(paths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One turn of each path, read in three places, that passes the check: uint8 ``(N, STEPS)``, distinct."""
    words = np.concatenate([np.roll(paths[:, start : start + STEPS], start, axis=1)
                            for start in (_EDGE, STEPS // 2, STEPS - _EDGE)])
    syndromes = np.bitwise_xor.reduce(words * _syndromes(), axis=1)
    return np.unique(words[syndromes == 0], axis=0)


def _log10_tail(values: NDArray[np.float64], score: float) -> float:
    """log10 of P(sum of +-values >= score) over fair independent signs.

    The saddle-point approximation (Daniels 1987): with K(t) = sum log cosh(t a) and t such that K'(t) = s,
    P ~ exp(K - t s + t^2 K'' / 2) Phi(-t sqrt(K'')).
    """
    if score <= 0:
        return 0.0
    size = np.abs(values)
    size = size[size > 0]
    if score >= size.sum() * (1 - 1e-12):
        return -len(size) * math.log10(2)
    tilt = score
    low, high = 0.0, math.inf
    for _ in range(100):
        slope = float(np.sum(size * np.tanh(tilt * size)))
        low, high = (tilt, high) if slope < score else (low, tilt)
        curve = float(np.sum((size / np.cosh(np.minimum(tilt * size, 300))) ** 2))
        step = (score - slope) / curve if curve > 0 else math.inf
        following = tilt + step
        if not low < following < high:
            following = 2 * tilt if math.isinf(high) else (low + high) / 2
        if abs(following - tilt) <= 1e-9 * tilt:
            break
        tilt = following
    scaled = tilt * size
    cumulant = float(np.sum(scaled + np.log1p(np.exp(-2 * scaled)) - math.log(2)))
    curve = float(np.sum((size / np.cosh(np.minimum(scaled, 300))) ** 2))
    spread = tilt * math.sqrt(curve)
    return (cumulant - tilt * score + spread**2 / 2 + log_tail(spread)) / math.log(10)
