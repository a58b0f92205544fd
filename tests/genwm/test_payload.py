"""The payload code: what is sent is read through noise, and what was not sent is not."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from genwm import payload as code
from genwm.errors import PayloadError
from genwm.payload import CHIPS, decode, encode, soft_correlation

payloads = st.integers(0, 2**64 - 1)


def received(payload: int, z: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(CHIPS)
    return encode(payload) * (z / math.sqrt(CHIPS)) + noise


def test_the_code_is_pinned():
    """A change here makes every mark ever made unreadable."""
    assert CHIPS == 2560
    chips = np.concatenate([encode(payload) for payload in (0, 1, 0x0123456789ABCDEF, 2**64 - 1)])
    assert chips.dtype == np.int8
    assert hashlib.sha256(chips.tobytes()).hexdigest() == (
        "c53b70c565b992dd01a153aeec3c25713985226de5e9539cfcd1aaee400c6c8b"
    )


@given(payloads)
@settings(max_examples=20, deadline=None)
def test_encode_agrees_with_the_definition(payload: int):
    word = payload << code.CHECK_BITS
    rest = word
    while rest.bit_length() > code.CHECK_BITS:
        rest ^= code._CHECK_POLYNOMIAL << (rest.bit_length() - 1 - code.CHECK_BITS)
    bits = [int(bit) for bit in f"{word | rest:0{code.STEPS}b}"]
    chips = []
    for step in range(code.STEPS):
        register = sum(bits[step - delay] << delay for delay in range(code.MEMORY + 1))  # negative steps wrap round
        chips += [1 - 2 * ((register & taps).bit_count() % 2) for taps in code._GENERATORS]
    assert encode(payload).tolist() == chips


@given(payloads, payloads)
@settings(deadline=None)
def test_words_are_far_apart(one: int, two: int):
    if one != two:
        assert np.mean(encode(one) != encode(two)) > 0.2


def test_words_that_differ_in_few_bits_are_far_apart():
    base = 0x0123456789ABCDEF
    chips = encode(base)
    for first, second in itertools.combinations_with_replacement(range(0, 64, 3), 2):
        other = base ^ (1 << first) ^ (1 << second if second != first else 0)
        assert np.mean(encode(other) != chips) > 0.17


@given(payloads, st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_reads_through_noise(payload: int, seed: int):
    decoded = decode(received(payload, 18, seed))
    assert decoded.payload == decoded.best == payload
    assert decoded.z == pytest.approx(soft_correlation(received(payload, 18, seed), payload))
    assert decoded.log10_p < -20


@pytest.mark.parametrize("payload", [0, 1, 2**63, 2**64 - 1])
def test_reads_its_own_words(payload: int):
    decoded = decode(encode(payload))
    assert decoded.payload == payload
    assert decoded.z == pytest.approx(math.sqrt(CHIPS))


def test_reads_with_a_third_of_the_chips_erased():
    rng = np.random.default_rng(1)
    for seed in range(5):
        soft = received(seed, 20, seed) * (rng.permutation(CHIPS) >= CHIPS // 3)
        assert decode(soft).payload == seed


def test_reads_with_a_fifth_of_the_steps_erased_at_once():
    soft = received(77, 24, 3).reshape(code.STEPS, code.RATE)
    soft[10:26] = 0
    assert decode(soft.ravel()).payload == 77


def test_weights_are_used():
    """Three quarters of the chips are loud noise; their small weight is what makes the rest readable."""
    rng = np.random.default_rng(2)
    sigma = np.where(rng.permutation(CHIPS) < CHIPS // 4, 1.0, 30.0)
    amplitudes = encode(5) * 0.6 + rng.standard_normal(CHIPS) * sigma
    assert decode(amplitudes).payload is None
    assert decode(amplitudes / sigma**2).payload == 5


def test_scale_does_not_matter():
    soft = received(9, 15, 0)
    for scale in (1e-30, 1e30):
        scaled = decode(soft * scale)
        assert scaled.payload == 9
        assert scaled.z == pytest.approx(decode(soft).z)
    assert decode(soft.astype(np.float32)).payload == 9


@pytest.mark.parametrize("z", [0, 5, 8])
def test_weak_marks_give_no_payload(z: float):
    for seed in range(10):
        decoded = decode(received(3, z, seed))
        assert decoded.payload is None
        assert decoded.log10_p > code.LOG10_P_MAX


def test_another_keys_scramble_gives_no_payload():
    scramble = np.random.default_rng(4).choice([-1, 1], CHIPS)
    assert decode(encode(6) * scramble).payload is None
    assert decode(received(6, 40, 0) * scramble).payload is None


def test_constant_and_inverted_chips_give_no_payload():
    assert decode(-encode(6)).payload is None
    assert decode(-np.ones(CHIPS)).payload is None


def test_near_the_limit_the_sent_word_wins_or_nothing_does():
    outcomes = [decode(received(1234, 12.5, seed)) for seed in range(40)]
    assert all(decoded.payload in (None, 1234) for decoded in outcomes)
    assert sum(decoded.best == 1234 for decoded in outcomes) >= 37


def test_nothing_received_is_no_payload():
    assert decode(np.zeros(CHIPS)) == code.Decoded(None, None, 0.0, 0.0)
    one = np.zeros(CHIPS)
    one[7] = 1
    assert decode(one).payload is None
    assert soft_correlation(np.zeros(CHIPS), 1) == 0


@pytest.mark.parametrize("soft", [np.zeros(3), np.zeros((CHIPS, 1)), np.full(CHIPS, np.nan), np.full(CHIPS, np.inf)])
def test_bad_soft_values_are_refused(soft: np.ndarray):
    with pytest.raises(PayloadError, match=r"^Expected .*, got .*; .*\.$"):
        decode(soft)


@pytest.mark.parametrize("payload", [-1, 2**64, 1.0, "1", None, True])
def test_bad_payloads_are_refused(payload: object):
    with pytest.raises(PayloadError, match=r"^Expected .*, got .*; .*\.$"):
        encode(payload)  # type: ignore[arg-type]


def test_tail_of_equal_signs_is_binomial():
    n = 500
    for heads in (260, 300, 350, 420, 490):
        exact = binom.logsf(heads - 1, n, 0.5) / math.log(10)
        # The approximation is for continuous sums: half a lattice step is the usual correction.
        assert code._log10_tail(np.ones(n), 2 * heads - n - 1) == pytest.approx(exact, rel=0.02, abs=0.01)


def test_tail_of_unequal_signs_is_their_share():
    values = np.random.default_rng(5).uniform(0.2, 1, 18)
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    sums = signs @ values
    for quantile in (0.9, 0.99, 0.999, 0.9999):
        score = float(np.quantile(sums, quantile))
        exact = math.log10(np.mean(sums >= score))
        assert code._log10_tail(values, score) == pytest.approx(exact, abs=0.12)
    assert code._log10_tail(values, values.sum()) == pytest.approx(-18 * math.log10(2))
    assert code._log10_tail(values, -1) == 0


def test_tail_is_below_hoeffdings_bound_and_falls():
    values = np.random.default_rng(6).standard_normal(CHIPS)
    values /= np.linalg.norm(values)
    scores = np.linspace(0.5, np.abs(values).sum() * 0.999, 60)
    tails = [code._log10_tail(values, score) for score in scores]
    assert np.all(np.diff(tails) < 0)
    assert all(tail <= -(score**2) / 2 / math.log(10) + 1e-9 for tail, score in zip(tails, scores, strict=True))
