"""Which seconds of a file are marked, and with what payload.

The file is cut into cells of half a second, each projected on the lattice where the whole file's search found it.
Payloads are decoded from windows of cells; each cell is then explained by one of them or by none, with as few changes
as the evidence allows (Viterbi). What stays unexplained is searched anew, a few seconds at a time: another clip may
have been cut in, whose mark has another place or size. The cells are then explained on all the lattices found.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
from numpy.typing import NDArray

from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.decision import SHARES, THRESHOLD_LOG10_P, any_of, log10_tail
from genwm.lattice.decode import Projection, project_candidate, read_payload, self_normalised
from genwm.lattice.evidence import WORKING_LINES, Accumulator, of_one_size
from genwm.lattice.geometry import Candidate
from genwm.lattice.perspective import straightened
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
#: Unexplained stretches that are searched: their length in seconds, the least of it, and how many at most of a file.
STRETCH_S, _LEAST_STRETCH_S, _MOST_STRETCHES = 5.0, 1.0, 12
#: Lattices that cells are projected on, at most.
_MOST_GRIDS = 4


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


@dataclass(frozen=True, slots=True)
class Grid:
    """A lattice that was found: where, what was read there (if anything), and as one of how many ``looks``."""

    place: Candidate
    payload: int | None
    looks: float


#: A stretch (start and stop in seconds) -> the lattice found there, if any.
Look = Callable[[float, float], Grid | None]


@dataclass(slots=True)
class _Cell:
    """``values``: complex64 ``(grids, n)``."""

    start_s: float
    stop_s: float
    values: NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a cell may carry: a reference to correlate with, on which grid, and how many were tried for it (its base-10
    logarithm)."""

    key: Key
    payload: int | None
    grid: int
    reference: NDArray[np.complex64]
    log10_tests: float


def timeline_of(source: Source, *, keys: Sequence[Key], found: Grid | None, look: Look, threads: int = 2
                ) -> tuple[Segment, ...]:
    """Marked segments, of every key, in order of time; empty where the whole file's reading ``found`` no lattice.

    ``look`` searches a stretch that no lattice explains. Each such search counts in the p-value of what it finds.
    """
    if found is None:
        return ()
    grids = [found]
    cells = _cells(source, grids, threads)
    segments = _segments(cells, keys, grids)
    stretches = _unexplained(cells, segments)
    for start_s, stop_s in stretches:
        if len(grids) == _MOST_GRIDS:
            break
        other = look(start_s, stop_s)
        if other is not None and not any(_same(other.place, grid.place) for grid in grids):
            grids.append(replace(other, looks=other.looks * len(stretches)))
    if len(grids) == 1:
        return segments
    return _segments(_cells(source, grids, threads), keys, grids)


def _segments(cells: Sequence[_Cell], keys: Sequence[Key], grids: Sequence[Grid]) -> tuple[Segment, ...]:
    if not cells:
        return ()
    values = np.stack([cell.values for cell in cells], axis=1)
    marks = [mark for number in range(len(grids)) for mark in _marks(values[number], keys, grids[number], number)]
    states = _explain(np.stack([self_normalised(values[mark.grid], mark.reference) for mark in marks]))
    segments: list[Segment] = []
    start = 0
    for end in range(1, len(cells) + 1):
        if end < len(cells) and states[end] == states[start]:
            continue
        if states[start]:
            mark = marks[states[start] - 1]
            own = values[mark.grid]
            first, last = _trimmed(own, mark.reference, start, end)
            log10_p = log10_tail(_joined(own, mark.reference, first, last)) + mark.log10_tests
            log10_p = any_of(log10_p, len(cells) ** 2 * len(marks))
            if first < last and log10_p <= THRESHOLD_LOG10_P:
                segments.append(Segment(cells[first].start_s, cells[last - 1].stop_s, mark.key.name, mark.payload,
                                        log10_p))
        start = end
    return _joint(segments)


def _joint(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one key and payload, read on two lattices, as one."""
    joint: list[Segment] = []
    for segment in segments:
        last = joint[-1] if joint else None
        if last and (last.key, last.payload, last.stop) == (segment.key, segment.payload, segment.start):
            joint[-1] = replace(last, stop=segment.stop, log10_p=min(last.log10_p, segment.log10_p))
        else:
            joint.append(segment)
    return tuple(joint)


def _unexplained(cells: Sequence[_Cell], segments: Sequence[Segment]) -> list[tuple[float, float]]:
    """Stretches, start and stop in seconds, that no segment covers: none longer than ``STRETCH_S``, and of many those
    spread over all."""
    if not cells:
        return []
    edges = [cells[0].start_s, *(edge for part in segments for edge in (part.start, part.stop)), cells[-1].stop_s]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return spread_over([part for gap in gaps for part in stretches_of(*gap)], _MOST_STRETCHES)


def stretches_of(start_s: float, stop_s: float) -> list[tuple[float, float]]:
    """A time cut up into equal stretches of at most ``STRETCH_S``; none where it is too short to be searched."""
    if stop_s - start_s < _LEAST_STRETCH_S:
        return []
    return list(pairwise(np.linspace(start_s, stop_s, math.ceil((stop_s - start_s) / STRETCH_S) + 1).tolist()))


def spread_over(stretches: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    chosen = np.linspace(0, len(stretches) - 1, min(len(stretches), most)).round().astype(int)
    return [stretches[number] for number in chosen]


def _same(one: Candidate, other: Candidate) -> bool:
    """Whether two places are one lattice, read from the same planes: less than a pixel apart where the picture ends."""
    shift = np.abs(np.subtract(one.shift, other.shift))
    return bool((one.corners, one.planes) == (other.corners, other.planes)
                and np.abs(one.matrix - other.matrix).max() < 1 / tile.SHORT_SIDE
                and np.minimum(shift, tile.TILE - shift).max() < 1)  # fmt: skip


def _marks(values: NDArray[np.complex64], keys: Sequence[Key], grid: Grid, number: int) -> list[_Mark]:
    """What a cell can carry on a grid: each payload of each key that some window of cells gives; the found key's
    pilots alone if it gives none; the pilots of another key if they stand out somewhere."""
    marks: list[_Mark] = []
    family = grid.place.family
    for place, key in enumerate(keys):
        own = place == grid.place.key
        found, highest, windows = _payloads(values, key, grid.payload if own else None, len(keys))
        # A payload was chosen among 2^64; a place, if for this key, among all that the search tried.
        log10_tests = BITS * math.log10(2) + math.log10(grid.looks)
        marks += [_Mark(key, each, number, _weighted(tile.signs(key, each)), log10_tests) for each in found]
        log10_tests = math.log10(len(keys))
        if own:
            log10_tests += math.log10(family.tests / SHARES[family.name] * grid.looks)
        if not found and (own or any_of(log10_tail(highest) + log10_tests, windows) <= THRESHOLD_LOG10_P):
            marks.append(_Mark(key, None, number, _weighted(_pilots(key)), log10_tests))
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
    lean towards the mark by luck, the same in every cell."""
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


def _cells(source: Source, grids: Sequence[Grid], threads: int) -> list[_Cell]:
    cells: list[_Cell] = []
    collected = Accumulator(group_frames=32)
    edge, last_s, step_s = CELL_S, 0.0, 0.04

    def close(start_s: float, stop_s: float) -> None:
        if evidence := collected.take():
            whole = reduce(add, of_one_size(evidence))
            # Each outline once: most grids have none.
            spectra = {corners: transform(straightened(whole, corners) if corners else whole)
                       for corners in {grid.place.corners for grid in grids}}  # fmt: skip
            values = np.stack([project_candidate(spectra[grid.place.corners], grid.place).values for grid in grids])
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
