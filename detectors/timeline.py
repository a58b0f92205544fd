"""Which seconds of a file are marked, and with what payload.

The file is cut into cells of half a second, each projected on the lattice where the whole file's search found it.
Payloads
are decoded from windows of cells; each cell is then explained by one of them or by none, with as few changes as the
evidence allows (Viterbi).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.decision import SHARES, THRESHOLD_LOG10_P, any_of, log10_tail
from genwm.lattice.decode import Projection, project_candidate, read_payload, self_normalised
from genwm.lattice.evidence import WORKING_LINES, Accumulator, of_one_size
from genwm.lattice.geometry import Candidate
from genwm.lattice.spectrum import transform
from genwm.payload import BITS
from genwm.video import Source, read_planes

CELL_S = 0.5
#: Log-likelihood a change of state costs: e^-8 a cell.
CHANGE_COST = 8.0
_WINDOWS = (2, 4, 8, 16, 32)
_MOST_WINDOWS = 400
#: A window in which a known payload stands out this much is explained by it and not decoded again. Two payloads that
#: share a window each leave less of the other.
_EXPLAINED = 12.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A marked stretch of time.

    Attributes:
        start, stop: seconds from the start of the file.
        key: name of the key.
        payload: its 64 bits, None where too weak to read.
        log10_p: corrected p-value of the stretch, base 10.
    """

    start: float
    stop: float
    key: str
    payload: int | None
    log10_p: float


@dataclass(slots=True)
class _Cell:
    start_s: float
    stop_s: float
    values: NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a cell may carry: a reference to correlate with, and how many were tried for it (its base-10 logarithm)."""

    key: Key
    payload: int | None
    reference: NDArray[np.complex64]
    log10_tests: float


def timeline_of(
    source: Source,
    *,
    keys: Sequence[Key],
    hint: Candidate | None,
    payload: int | None,
    looks: float,
    threads: int = 2,
) -> tuple[Segment, ...]:
    """Marked segments on the grid that the whole file's reading found, of every key, in order of time.

    ``hint`` is the place where the mark was found, in one of ``looks`` looks; empty without one. ``payload`` is what
    was read there, if anything.
    """
    if hint is None:
        return ()
    cells = _cells(source, hint, threads)
    if not cells:
        return ()
    values = np.stack([cell.values for cell in cells])
    marks = _marks(values, keys, hint, payload, looks)
    references = np.stack([mark.reference for mark in marks])
    states = _explain(np.stack([self_normalised(values, reference) for reference in references]))
    segments = []
    start = 0
    for end in range(1, len(cells) + 1):
        if end < len(cells) and states[end] == states[start]:
            continue
        if states[start]:
            mark = marks[states[start] - 1]
            first, last = _trimmed(values, mark.reference, start, end)
            log10_p = log10_tail(_joined(values, mark.reference, first, last)) + mark.log10_tests
            log10_p = any_of(log10_p, len(cells) ** 2 * len(marks))
            if first < last and log10_p <= THRESHOLD_LOG10_P:
                segments.append(Segment(cells[first].start_s, cells[last - 1].stop_s, mark.key.name, mark.payload,
                                        log10_p))
        start = end
    return tuple(segments)


def _marks(values: NDArray[np.complex64], keys: Sequence[Key], hint: Candidate, payload: int | None, looks: float
           ) -> list[_Mark]:
    """What a cell can carry: each payload of each key that some window of cells gives; the found key's pilots alone if
    it gives none; the pilots of another key if they stand out somewhere."""
    marks: list[_Mark] = []
    for number, key in enumerate(keys):
        own = number == hint.key
        found, highest, windows = _payloads(values, key, payload if own else None, len(keys))
        # A payload was chosen among 2^64; a place, if for this key, among all that the search tried.
        marks += [_Mark(key, each, _weighted(tile.signs(key, each)), BITS * math.log10(2)) for each in found]
        log10_tests = math.log10(len(keys))
        if own:
            log10_tests += math.log10(hint.family.tests / SHARES[hint.family.name] * looks)
        if not found and (own or any_of(log10_tail(highest) + log10_tests, windows) <= THRESHOLD_LOG10_P):
            marks.append(_Mark(key, None, _weighted(_pilots(key)), log10_tests))
    return marks


def _pilots(key: Key) -> NDArray[np.complex128]:
    """A key's signs where they are pilots, else 0: complex ``(n,)``."""
    plan = tile.layout()
    signs = np.zeros(len(plan.kx), dtype=np.complex128)
    signs[plan.pilot] = tile.pilot_signs(key)
    return signs


def _chips(key: Key, payload: int) -> NDArray[np.complex64]:
    """What a payload alone decides: pilots, which all payloads share, would make one explain another."""
    return _weighted(np.where(tile.layout().pilot, 0, tile.signs(key, payload)))


def _weighted(signs: NDArray[np.complex128]) -> NDArray[np.complex64]:
    """Signs times the expected weights: complex64 ``(n,)``, 0 where a coefficient has no say."""
    return np.asarray(signs * tile.layout().weight, dtype=np.complex64)


def _joined(values: NDArray[np.complex64], reference: NDArray[np.complex64], start: int, end: int) -> float:
    """Correlation of a stretch as a whole. Cells of a still picture repeat each other: only their sum may be tested."""
    if start >= end:
        return 0.0
    return float(self_normalised(values[start:end].sum(axis=0)[None], reference)[0])


def _trimmed(values: NDArray[np.complex64], reference: NDArray[np.complex64], start: int, end: int) -> tuple[int, int]:
    """Cuts ends off a stretch that do not carry the mark by themselves, however long: a still, unmarked picture can
    lean
    towards the mark by luck, the same in every cell."""
    strength = float(np.median(self_normalised(values[start:end], reference)))
    changed = True
    while changed and start < end:
        changed = False
        size = (end - start) // 2 or 1
        while size >= 1:
            enough = min(4.0, strength / 2)
            if _joined(values, reference, end - size, end) < enough:
                end, changed = end - size, True
                break
            if _joined(values, reference, start, start + size) < enough:
                start, changed = start + size, True
                break
            size //= 2
    return start, end


def rewound(source: Source) -> Source:
    """The source, a file object put back to its start: each reading opens it anew."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    return source


def _cells(source: Source, hint: Candidate, threads: int) -> list[_Cell]:
    cells: list[_Cell] = []
    collected = Accumulator(group_frames=32)
    edge, last_s, step_s = CELL_S, 0.0, 0.04

    def close(start_s: float, stop_s: float) -> None:
        if evidence := collected.take():
            values = project_candidate(transform(reduce(add, of_one_size(evidence))), hint).values
            cells.append(_Cell(start_s, stop_s, values.astype(np.complex64)))

    for frame in read_planes(rewound(source), max_short_side=WORKING_LINES, threads=threads):
        if frame.time_s >= edge - 1e-6:
            close(edge - CELL_S, edge)
            edge = math.floor(frame.time_s / CELL_S + 1e-6) * CELL_S + CELL_S
        collected.add(frame)
        step_s = frame.time_s - last_s if frame.time_s > last_s else step_s
        last_s = frame.time_s
    close(edge - CELL_S, last_s + step_s)
    return cells


def _payloads(values: NDArray[np.complex64], key: Key, known: int | None, keys: int) -> tuple[list[int], float, int]:
    """Payloads that windows of cells decode to, the one already known first; the windows' highest correlation with the
    pilots of this key, one of so many; and how many windows there are."""
    windows: list[tuple[int, int]] = []
    for size in sorted(_WINDOWS, reverse=True):
        if size > max(len(values), min(_WINDOWS)):
            continue
        starts = range(0, max(len(values) - size, 0) + 1, size // 2)
        # Long windows are all tried; of the short ones of a long file no more than the budget.
        windows += [(start, size) for start in starts[:: max(1, len(starts) // _MOST_WINDOWS)]]
    pilots, highest = tile.pilot_signs(key), 0.0
    found = [] if known is None else [known]
    references = [_chips(key, payload) for payload in found]
    for start, size in windows:
        part = values[start : start + size]
        joined = Projection(part.sum(axis=0).astype(np.complex128) / math.sqrt(len(part)))
        pilot_z = joined.pilot_z(pilots)
        highest = max(highest, pilot_z)
        if pilot_z < 4:
            continue
        row = joined.values[None].astype(np.complex64)
        if any(self_normalised(row, reference)[0] > _EXPLAINED for reference in references):
            continue
        decoded = read_payload(joined, key)
        if decoded.payload is None or decoded.payload in found:
            continue
        if any_of(decoded.log10_p, len(windows) * keys) <= THRESHOLD_LOG10_P:
            found.append(decoded.payload)
            references.append(_chips(key, decoded.payload))
    return found, highest, len(windows)


def _explain(z: NDArray[np.float64]) -> list[int]:
    """State of each cell, 0 for unmarked, k for row k - 1 of ``z`` ``(payloads, cells)``."""
    strength = [max(float(np.median(row[row > 4])) if (row > 4).any() else 4.0, 3.0) for row in z]
    # Log-likelihood ratio of N(mu, 1) against N(0, 1); a weak cell of a marked stretch has half the usual z.
    gains = np.stack([np.zeros(z.shape[1])] + [row * mu / 2 - mu**2 / 8 for row, mu in zip(z, strength, strict=True)])
    score = gains[:, 0].copy()
    back = np.zeros(gains.shape, dtype=np.int64)
    for cell in range(1, gains.shape[1]):
        best = int(np.argmax(score))
        move = score[best] - CHANGE_COST > score
        back[:, cell] = np.where(move, best, np.arange(len(score)))
        score = np.where(move, score[best] - CHANGE_COST, score) + gains[:, cell]
    states = [int(np.argmax(score))]
    for cell in range(gains.shape[1] - 1, 0, -1):
        states.append(int(back[states[-1], cell]))
    return states[::-1]
