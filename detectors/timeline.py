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
from genwm.lattice.decision import THRESHOLD_LOG10_P, any_of, log10_tail
from genwm.lattice.decode import Projection, project_candidate, read_payload
from genwm.lattice.evidence import Accumulator
from genwm.lattice.geometry import Candidate
from genwm.lattice.spectrum import transform
from genwm.video import Source, read_planes

CELL_S = 0.5
#: Log-likelihood a change of state costs: e^-8 a cell.
CHANGE_COST = 8.0
_WINDOWS = (2, 4, 8, 16, 32)


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
    projection: Projection


def timeline_of(
    source: Source, *, keys: Sequence[Key], hint: Candidate | None, working_lines: int, threads: int = 2
) -> tuple[Segment, ...]:
    """Marked segments, in order of time; empty without a ``hint``, the place where the mark was found."""
    if hint is None:
        return ()
    key = keys[hint.key]
    cells = _cells(source, hint, working_lines, threads)
    if not cells:
        return ()
    payloads = _payloads(cells, key)
    # One row a state: nothing, each payload, or (where none was read) the pilots alone.
    if payloads:
        z = np.array([[_known_z(cell.projection, key, payload) for cell in cells] for payload in payloads])
    else:
        pilots = tile.pilot_signs(key)
        z = np.array([[cell.projection.pilot_z(pilots) for cell in cells]])
    states = _explain(z)
    segments = []
    start = 0
    for end in range(1, len(cells) + 1):
        if end < len(cells) and states[end] == states[start]:
            continue
        if states[start]:
            mine = z[states[start] - 1, start:end]
            log10_p = any_of(log10_tail(float(mine.sum() / math.sqrt(len(mine)))), len(cells) ** 2 * len(z))
            if log10_p <= THRESHOLD_LOG10_P / 2:
                segments.append(Segment(cells[start].start_s, cells[end - 1].stop_s, key.name,
                                        payloads[states[start] - 1] if payloads else None, log10_p))
        start = end
    return tuple(segments)


def rewound(source: Source) -> Source:
    """The source, a file object put back to its start: each reading opens it anew."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
    return source


def _cells(source: Source, hint: Candidate, working_lines: int, threads: int) -> list[_Cell]:
    cells: list[_Cell] = []
    collected = Accumulator(group_frames=32)
    edge, last_s, step_s = CELL_S, 0.0, 0.04

    def close(start_s: float, stop_s: float) -> None:
        if evidence := collected.take():
            same = [item for item in evidence if item.planes[0].shape == evidence[0].planes[0].shape]
            cells.append(_Cell(start_s, stop_s, project_candidate(transform(reduce(add, same)), hint)))

    for frame in read_planes(rewound(source), max_short_side=working_lines, threads=threads):
        if frame.time_s >= edge - 1e-6:
            close(edge - CELL_S, edge)
            edge = math.floor(frame.time_s / CELL_S + 1e-6) * CELL_S + CELL_S
        collected.add(frame)
        step_s = frame.time_s - last_s if frame.time_s > last_s else step_s
        last_s = frame.time_s
    close(edge - CELL_S, last_s + step_s)
    return cells


def _payloads(cells: Sequence[_Cell], key: Key) -> list[int]:
    """Payloads that windows of cells decode to, most often found first."""
    windows = [
        (start, size)
        for size in _WINDOWS if size <= max(len(cells), _WINDOWS[0])
        for start in range(0, max(len(cells) - size, 0) + 1, size // 2)
    ]
    # Beyond an hour the short windows are thinned out: the bound on decodes is what a timeline may cost.
    windows = windows[:: max(1, len(windows) // 400)]
    found: dict[int, int] = {}
    covered = np.zeros(len(cells), dtype=bool)
    for start, size in windows:
        part = cells[start : start + size]
        if covered[start : start + size].all():
            continue
        values = np.sum([cell.projection.values for cell in part], axis=0) / math.sqrt(len(part))
        joined = Projection(values, part[0].projection.gain)
        if joined.pilot_z(tile.pilot_signs(key)) < 4:
            continue
        decoded, _ = read_payload(joined, key)
        if decoded.payload is not None and any_of(decoded.log10_p, len(windows)) <= THRESHOLD_LOG10_P:
            found[decoded.payload] = found.get(decoded.payload, 0) + 1
            covered[start : start + size] = True
    return sorted(found, key=lambda payload: -found[payload])


def _known_z(projection: Projection, key: Key, payload: int) -> float:
    """Self-normalised correlation with a mark whose payload is known: pilots and payload together."""
    weight = tile.layout().amplitude
    spread = math.sqrt(float(np.sum((weight * np.abs(projection.values)) ** 2)) / 2)
    return float(np.sum(weight * (projection.values * tile.signs(key, payload).conj()).real)) / max(spread, 1e-30)


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
