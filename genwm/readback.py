"""Reading a mark back from the file that it was just written to.

Nothing has happened to the picture yet, so only the unchanged grid is looked at, for one key: far less work than the
blind search of ``detectors``, which this package must not import. The pilots must stand out as well as the payload be
read, so that a mark that passes here is found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from genwm.keys import Key
from genwm.lattice import tile
from genwm.lattice.decision import THRESHOLD_LOG10_P, any_of, log10_tail
from genwm.lattice.decode import project, read_payload
from genwm.lattice.evidence import WORKING_LINES, Accumulator, Evidence, of_one_size
from genwm.lattice.spectrum import transform
from genwm.video import Source, read_planes

#: Frames after which the evidence is looked at, as long as the payload is not read: each look counts in the p-value.
LOOKS = (16, 64, 256)
#: A little more than the blind search asks for before it decodes: it cuts the frames into other groups.
PILOT_Z = 6.0


@dataclass(frozen=True, slots=True)
class Readback:
    """What a file holds.

    Attributes:
        payload: the 64 bits, None where they cannot be read, or only by one who knows where to look.
        log10_p: base-10 logarithm of the chance that no mark is there, corrected for the looks; at most 0.
        frames_read: frames that were decoded and used.
    """

    payload: int | None
    log10_p: float
    frames_read: int


def read_back(source: Source, key: Key, *, threads: int = 2) -> Readback:
    """Reads the payload of ``key`` from the first frames of an unedited copy, no more of them than it needs.

    Errors: those of :func:`genwm.video.probe`.
    """
    collected = Accumulator()
    evidence: list[Evidence] = []
    best = Readback(None, 0.0, 0)
    frames = 0
    with read_planes(source, max_short_side=WORKING_LINES, max_frames=LOOKS[-1], threads=threads) as reader:
        for frame in reader:
            collected.add(frame)
            frames += 1
            if frames in LOOKS:
                evidence += collected.take()
                best = _look(evidence, key, frames)
                if best.payload is not None:
                    return best
    if frames and frames not in LOOKS:
        best = _look(evidence + collected.take(), key, frames)
    return best


def _look(evidence: Sequence[Evidence], key: Key, frames: int) -> Readback:
    spectrum = transform(reduce(add, of_one_size(evidence)))
    projection = project(spectrum, np.eye(2), (spectrum.width / 2 % tile.TILE, spectrum.height / 2 % tile.TILE))
    decoded = read_payload(projection, key)
    # Pilots and payload are two tests, and each look is another chance.
    pilot_z = projection.pilot_z(tile.pilot_signs(key))
    pilot_p = any_of(log10_tail(pilot_z), 2 * len(LOOKS))
    payload_p = any_of(decoded.log10_p, 2 * len(LOOKS))
    payload = decoded.payload if payload_p <= THRESHOLD_LOG10_P and pilot_z >= PILOT_Z else None
    return Readback(payload, min(pilot_p, payload_p if payload is not None else 0.0), frames)
