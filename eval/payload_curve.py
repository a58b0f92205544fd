"""Measures the payload code on simulated channels and draws the curve of ``docs/payload.md``.

    python -m eval.payload_curve            # every part, about fifteen minutes on one core
    python -m eval.payload_curve limits plot

The rows of the curve are kept as they are measured, and a run that was stopped goes on; delete the file to begin anew.

The channel: soft = z / sqrt(CHIPS) * chips + unit Gaussian noise, so the sent codeword correlates z times the noise.
With N0 = 2 (noise variance 1) and 64 payload bits, Eb / N0 = z^2 / 128. Results go to docs/results.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from eval import tables
from genwm import payload as code
from genwm.errors import InputError

RESULTS = Path("docs/results")
CURVE = RESULTS / "payload-curve.csv"
CHECKS = RESULTS / "payload-checks.csv"
PLOT = RESULTS / "payload-curve.png"
K = code.BITS

# (channel, z, frames): most frames where the error rates cross 1e-3.
POINTS = (
    ("gaussian", 10.5, 1000), ("gaussian", 11.5, 1000), ("gaussian", 12.0, 1500), ("gaussian", 12.5, 3000),
    ("gaussian", 13.0, 5000), ("gaussian", 13.4, 20000), ("gaussian", 13.8, 5000), ("gaussian", 14.2, 20000),
    ("gaussian", 14.6, 10000), ("30 % erased", 13.4, 3000), ("30 % erased", 14.4, 3000),
)  # fmt: skip
CURVE_FIELDS = ("channel", "z", "ebn0_db", "frames", "raw_errors", "missed", "wrong", "cpu_ms_a_frame")
CHECK_FIELDS = ("check", "value", "unit", "meaning")


def ebn0_db(z: float) -> float:
    return 10 * math.log10(z**2 / (2 * K))


def z_of(db: float) -> float:
    return math.sqrt(2 * K * 10 ** (db / 10))


def converse(z: float, log10_false: float = 0.0) -> float:
    """The least error rate of any code of 2^64 words at z (Polyanskiy, Poor, Verdu 2011, minimum energy a bit).

    With ``log10_false``, the least of any code and decoder that accept something in pure noise at that rate at most.
    """
    return float(norm.sf(z - norm.isf(10.0 ** (log10_false - K * math.log10(2)))))


def achievable(z: float) -> float:
    """The error rate of 2^64 orthogonal words under maximum likelihood: what is known to be possible."""
    noise = np.linspace(-9, 9, 6001)
    wrong = -np.expm1(-np.exp(norm.logsf(z + noise) + K * math.log(2)))
    return float(np.sum(norm.pdf(noise) * wrong) * (noise[1] - noise[0]))


def crossing_db(rate: Callable[[float], float], target: float = 1e-3) -> float:
    """Eb/N0 in dB at which a falling error rate reaches ``target``, by bisection."""
    low, high = 8.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) > target else (low, middle)
    return ebn0_db(low)


def measured_crossing_db(rows: list[dict[str, str]], column: str, target: float = 1e-3) -> float:
    """The same for measured rows: straight between neighbours in z and log rate; nan where they do not cross."""
    points = [(float(row["z"]), int(row[column]) / int(row["frames"])) for row in rows if row["channel"] == "gaussian"]
    points = sorted((z, rate) for z, rate in points if rate > 0)
    for (z0, r0), (z1, r1) in pairwise(points):
        if r0 >= target > r1:
            return ebn0_db(z0 + (z1 - z0) * math.log(r0 / target) / math.log(r0 / r1))
    return math.nan


def limits() -> list[tuple[str, float, str, str]]:
    rate = K / code.CHIPS
    q = float(norm.isf(1e-3))
    # Normal approximation of the minimum energy: K ln 2 = E - q sqrt(2 E) + ln(E) / 2, E in units of N0.
    energy = 80.0
    for _ in range(200):
        energy = K * math.log(2) + q * math.sqrt(2 * energy) - math.log(energy) / 2
    return [
        ("shannon", 10 * math.log10(math.log(2)), "dB", "Shannon limit, any rate, endless words"),
        ("shannon_rate", 10 * math.log10((4**rate - 1) / (2 * rate)), "dB", "Shannon limit at this code's rate"),
        ("converse", crossing_db(converse), "dB", "no code of 64 bits reaches 1e-3 below this"),
        ("normal", 10 * math.log10(energy / K), "dB", "normal approximation, 64 bits at 1e-3"),
        ("achievable", crossing_db(achievable), "dB", "orthogonal words, 64 bits at 1e-3"),
        ("converse_rule", crossing_db(lambda z: converse(z, code.LOG10_P_MAX)), "dB",
         "no code of 64 bits misses fewer than 1e-3 below this and accepts noise at the rule's rate"),
    ]  # fmt: skip


def frame(rng: np.random.Generator, channel: str, z: float) -> tuple[int, NDArray[np.float64]]:
    payload = int(rng.integers(0, 1 << 64, dtype=np.uint64))
    soft = code.encode(payload).astype(np.float64)
    noise = rng.standard_normal(code.CHIPS)
    if channel == "30 % erased":
        kept = rng.permutation(code.CHIPS) >= round(0.3 * code.CHIPS)
        return payload, (soft * (z / math.sqrt(kept.sum())) + noise) * kept
    return payload, soft * (z / math.sqrt(code.CHIPS)) + noise


def continue_curve(path: Path, share: float = 1.0) -> None:
    """Adds the rows that a table of the curve does not have yet, each as soon as it is measured.

    Errors: InputError (another table); those of `eval.tables.writing`.
    """
    refusal = InputError(f"Expected the table of the payload curve at {path}, got another; move it away.")
    there = tables.read(path, CURVE_FIELDS, refusal=refusal)
    done = {(row["channel"], float(row["z"]), int(row["frames"])) for row in there or ()}
    tables.prepare(path, CURVE_FIELDS)
    for row in curve(share, done):
        tables.append(path, [row])


def curve(share: float = 1.0, done: Collection[tuple[str, float, int]] = ()) -> Iterator[tuple[object, ...]]:
    """The rows of the curve, as they are measured, but for those (channel, z, frames) that are done."""
    for number, (channel, z, frames) in enumerate(POINTS):
        frames = max(1, round(frames * share))
        if (channel, z, frames) in done:
            continue
        rng = np.random.default_rng([2026, number])
        raw = missed = wrong = 0
        start = time.process_time()
        for _ in range(frames):
            payload, soft = frame(rng, channel, z)
            decoded = code.decode(soft)
            raw += decoded.best != payload
            missed += decoded.payload is None
            wrong += decoded.payload not in (None, payload)
        cost = 1000 * (time.process_time() - start) / frames
        yield channel, z, f"{ebn0_db(z):.3f}", frames, raw, missed, wrong, f"{cost:.1f}"


def noise_only(frames: int) -> list[tuple[str, float, str, str]]:
    """Decodes of pure noise, and the p-value of the best path over all 2^STEPS words that it could have been.

    Its quantiles must not fall below uniform ones: that shows the tail that acceptance relies on to be safe where it is
    used. (They lie above, because in noise the decoder seldom finds the very best word.)
    """
    rng = np.random.default_rng(2027)
    accepted, chances = 0, []
    for _ in range(frames):
        values = rng.standard_normal(code.CHIPS)
        values /= np.linalg.norm(values)
        accepted += code.decode(values).payload is not None
        survivors, end = code._viterbi(values)
        path = code._trace(survivors, end, np.zeros((1, 2 * code.STEPS), dtype=bool))[:, code.STEPS // 2 :]
        word = np.roll(path[:, : code.STEPS], code.STEPS // 2, axis=1)
        tail = code._log10_tail(values, float((code._chips(word) @ values)[0]))
        chances.append(-math.expm1(-(10 ** (tail + code.STEPS * math.log10(2)))))
    return [
        ("noise_frames", frames, "frames", "decodes of pure noise"),
        ("noise_accepted", accepted, "frames", "of which gave a payload"),
        *((f"noise_p{q}", float(np.quantile(chances, q / 100)), "", f"quantile {q} % of the best path's p-value")
          for q in (1, 10, 50)),
    ]  # fmt: skip


def threshold(log10_p: float) -> float:
    """z in units of the noise at which Gaussian noise alone has this p-value over 2^64 words."""
    return float(norm.isf(10.0 ** (log10_p - K * math.log10(2))))


def pair(relative: NDArray[np.float64] | float, limit: float) -> NDArray[np.float64]:
    """Chance that a word at this relative distance from the sent one wins and passes ``limit``, at the worst z.

    Both correlations are Gaussian with means (1 - 2 d) z and z; the nearest point with the wrong one first and above
    the limit is (limit, limit), least far at z = limit: Q(limit sqrt(d / (1 - d))).
    """
    relative = np.minimum(relative, 1 - 1e-9)
    return np.asarray(norm.sf(limit * np.sqrt(relative / (1 - relative))))


def neighbour_bound(limit: float) -> float:
    """Union bound over words near the sent one, for an average code of this memory.

    An error event of s steps flips all chips of its first and last step and half of those between; there are
    2^(s - MEMORY - 2) of them at each of STEPS places. Single events pass the check from MEMORY + CHECK_BITS + 1 steps
    on, pairs of events at any length, each time one in 2^CHECK_BITS.
    """
    counts = np.zeros((2, code.CHIPS + 1))  # of single events by weight: those that can pass the check, all
    for span in range(code.MEMORY + 1, code.STEPS + 1):
        weights = np.arange((span - 2) * code.RATE + 1)
        found = code.STEPS * 2.0 ** max(span - code.MEMORY - 2, 0) * binom.pmf(weights, weights[-1], 0.5)
        counts[int(span <= code.MEMORY + code.CHECK_BITS) :, weights + 2 * code.RATE] += found
    half = code.CHIPS // 2  # heavier pairs are as unlikely as any other word
    counts = counts[:, : half + 1]
    pairs = np.convolve(counts[1], counts[1])[: half + 1] / 2
    near = pair(np.arange(half + 1) / code.CHIPS, limit)
    return float(np.sum((counts[0] + pairs) * near)) / float(1 << code.CHECK_BITS)


def event(quotient: int) -> tuple[int, float]:
    """A difference of two valid words, the check polynomial times ``quotient``: its bits, its relative distance."""
    word = 0
    for shift in range(quotient.bit_length()):
        if quotient >> shift & 1:
            word ^= code._CHECK_POLYNOMIAL << shift
    bits = np.array([[word >> (code.STEPS - 1 - step) & 1 for step in range(code.STEPS)]], dtype=np.uint8)
    return word, float(np.mean(code._chips(bits) < 0))


def neighbours(trials: int) -> list[tuple[str, float, str, str]]:
    """What near neighbours add to wrong payloads, at the strength of the mark where it is worst.

    The union bound counts every received vector in which a wrong word beats the sent one. Few of these are accepted:
    where two words tie, invalid paths between them beat both. How few is measured on vectors drawn at the tie.
    """
    rng = np.random.default_rng(2028)
    exact = [event(2 * i + 1)[1] for i in range(1 << 10)]
    rows = [
        ("nearest", min(exact), "", "least relative distance of 1,024 shortest neighbours"),
    ]
    top, listed = threshold(code.LOG10_P_MAX), threshold(code.LOG10_P_MAX_LISTED)
    sum_exact = code.STEPS * float(np.sum(pair(np.array(exact), top)))
    rows.append(("short_events", sum_exact, "", "union bound of these, at the worst z"))
    degrees = np.repeat(np.arange(34), 40)
    quotients = [(1 << int(n)) | int(rng.integers(0, 1 << int(n))) | 1 for n in degrees]
    pool = [event(quotient) for quotient in quotients]
    total = 0.0
    for name, limit, want in (("best path", top, False), ("listed", listed, True)):
        weights = np.array([2.0**n * pair(d, limit) for n, (_, d) in zip(degrees, pool, strict=True)])
        picks = rng.choice(len(pool), size=trials, p=weights / weights.sum())
        hits = sum(_tied_wrong(rng, *pool[pick], limit=limit, listed=want) for pick in picks)
        bound = neighbour_bound(limit)
        upper = (hits + 2 + 2 * math.sqrt(hits + 1)) / trials  # about 97.5 % confidence
        rows.append((f"bound, {name}", bound, "", "union bound over near neighbours at the worst z"))
        rows.append((f"accepted, {name}", hits / trials, "", f"share of {trials} ties that the decoder accepts so"))
        total += bound * min(1.0, upper)
    rows.append(("wrong_worst_z", total, "", "wrong payloads a decode at the worst z, upper limit"))
    # Away from the worst z the chance falls as exp(-(z - limit)^2 / 2), whose integral is sqrt(2 pi).
    mean = total * math.sqrt(2 * math.pi) / 10
    rows.append(("wrong_mean", mean, "", "the same, mean over marks spread evenly over 10 units of z about it"))
    return rows


def _tied_wrong(rng: np.random.Generator, word: int, distance: float, *, limit: float, listed: bool) -> bool:
    """Draws a received vector in which a wrong word beats the sent one just above ``limit``; is the wrong one found?"""
    payload = int(rng.integers(0, 1 << 64, dtype=np.uint64))
    word <<= int(rng.integers(0, code.STEPS - word.bit_length() + 1))
    rival = payload ^ (word >> code.CHECK_BITS)
    pair_of = np.stack([code.encode(payload), code.encode(rival)]) / math.sqrt(code.CHIPS)
    above = rng.exponential((1 - distance) / (distance * limit))
    lead = rng.exponential((2 - 2 * distance) / ((1 - 2 * distance) * limit)) if distance < 0.5 else 0.0
    noise = rng.standard_normal(code.CHIPS)
    target = np.array([limit + above - lead, limit + above])
    noise += pair_of.T @ np.linalg.solve(pair_of @ pair_of.T, target - pair_of @ noise)
    words, was_listed = code._candidates(noise / np.linalg.norm(noise))
    if was_listed != listed or not len(words):
        return False
    chips = code._chips(words)
    return bool(np.array_equal(chips[np.argmax(chips @ noise)], code.encode(rival)))


def search(draws: int) -> None:
    """Draws generators and check polynomials at random and prints the best: how those of genwm.payload were found.

    Best: the least union bound over the 1,024 shortest neighbours (``event``). Draws differ little, so few are enough.
    """
    rng = np.random.default_rng(2029)
    registers = np.arange(2 << code.MEMORY)
    limit = threshold(code.LOG10_P_MAX)
    best = math.inf
    for _ in range(draws):
        # Every generator has its first and last tap, and so has the check.
        taps = rng.integers(0, 1 << (code.MEMORY - 1), code.RATE) * 2 + 1 + (1 << code.MEMORY)
        check = int(rng.integers(0, 1 << (code.CHECK_BITS - 1))) * 2 + 1 + (1 << code.CHECK_BITS)
        flips = np.zeros(len(registers), dtype=np.int64)
        for tap in taps:
            parity = registers & tap
            for shift in (16, 8, 4, 2, 1):
                parity = parity ^ (parity >> shift)
            flips += parity & 1
        words = np.zeros(1 << 10, dtype=np.int64)
        for shift in range(code.CHECK_BITS + 1):
            words ^= (check >> shift & 1) * (np.arange(1, 2 << 10, 2) << shift)
        weights = np.zeros(len(words), dtype=np.int64)
        # A register holds its newest input lowest; reading the word from its low end gives the mirrored registers of
        # the mirrored code, so the word is read from its high end.
        for step in range(code.CHECK_BITS + 11 + code.MEMORY):
            weights += flips[(words >> (code.CHECK_BITS + 10 - step) if step <= code.CHECK_BITS + 10
                              else words << (step - code.CHECK_BITS - 10)) & (len(registers) - 1)]
        bound = code.STEPS * float(np.sum(pair(weights / code.CHIPS, limit)))
        if bound < best:
            best = bound
            print(f"{bound:.3g} nearest {weights.min() / code.CHIPS:.4f} check {check} generators {taps.tolist()}")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def merge_checks(rows: list[tuple[str, float, str, str]]) -> None:
    """Replaces the rows of the same names in the table of checks and keeps the others."""
    table = {row["check"]: tuple(row[name] for name in CHECK_FIELDS) for row in read(CHECKS)} if CHECKS.exists() else {}
    table |= {row[0]: (row[0], f"{row[1]:.6g}", *row[2:]) for row in rows}
    tables.rewrite(CHECKS, CHECK_FIELDS, table.values())


def plot() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), dpi=90, layout="constrained")
    db = np.linspace(-1.8, 3, 200)
    curves: tuple[tuple[str, str, Callable[[float], float]], ...] = (
        ("no code is below (64 bits)", "k:", converse),
        ("orthogonal words", "k--", achievable),
        ("no decoder with this rule is below", "C1:", lambda z: converse(z, code.LOG10_P_MAX)),
    )
    for label, style, function in curves:
        axes.semilogy(db, [function(z_of(x)) for x in db], style, label=label, linewidth=1)
    axes.axvline(10 * math.log10(math.log(2)), color="0.6", linewidth=1, label="Shannon limit")
    rows = [row for row in read(CURVE) if row["channel"] == "gaussian"]
    for column, style, label in (("raw_errors", "C0o-", "decoder, raw"), ("missed", "C1s-", "missed, with the rule")):
        points = [(float(row["ebn0_db"]), int(row[column]) / int(row["frames"])) for row in rows]
        axes.semilogy(*zip(*[point for point in points if point[1] > 0], strict=True), style, label=label, markersize=4)
    axes.set(xlabel="Eb/N0 (dB)", ylabel="frame-error rate", xlim=(-1.8, 3), ylim=(1e-5, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    with tables.replacing(PLOT) as part:
        figure.savefig(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ("limits", "curve", "noise", "neighbours", "plot")
    parts = (*everything, "search")
    parser.add_argument("parts", nargs="*", default=everything, metavar="PART", help=f"any of {', '.join(parts)}")
    parser.add_argument("--share", type=float, default=1.0, help="share of the frames to simulate, for a quick look")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"Expected parts among {', '.join(parts)}, got {', '.join(sorted(unknown))}; name one of these.")
    if "search" in options.parts:
        search(round(300 * options.share))
    if "limits" in options.parts:
        merge_checks(limits())
    if "neighbours" in options.parts:
        merge_checks(neighbours(round(3000 * options.share)))
    if "noise" in options.parts:
        merge_checks(noise_only(round(3000 * options.share)))
    if "curve" in options.parts:
        continue_curve(CURVE, options.share)
    if "plot" in options.parts:
        plot()
        rows = read(CURVE)
        found = (
            ("measured_raw", measured_crossing_db(rows, "raw_errors"), "dB", "decoder alone at 1e-3"),
            ("measured_rule", measured_crossing_db(rows, "missed"), "dB", "missed payloads, with the rule, at 1e-3"),
        )
        merge_checks([row for row in found if not math.isnan(row[1])])  # absent where the rows do not reach 1e-3


if __name__ == "__main__":
    main()
