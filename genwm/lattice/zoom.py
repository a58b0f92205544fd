"""Slow zooms: an editor's push-in enlarges the mark a little with every frame, so it does not add up as it stands.

Colour differences carry the mark at low frequencies, which stay in step over a group of frames even while it grows.
Each group gets its own spectrum and is read at its own scale; the scale runs linearly in time from or to the whole
picture, about its centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from genwm.lattice import tile
from genwm.lattice.decision import Family
from genwm.lattice.decode import Projection, project
from genwm.lattice.evidence import Evidence
from genwm.lattice.geometry import Candidate
from genwm.lattice.pilots import correlate_at, sample_pilots, sign_pilots, spread
from genwm.lattice.spectrum import Spectrum, transform

MAX_ZOOM = 0.35
RATE_STEP = 0.006
MAX_GROUPS = 10
#: A zoom, and how to project its evidence on the moving lattice.
Zoom = tuple[Candidate, Callable[[], Projection]]


def zoomed(groups: Sequence[Evidence], signs: Sequence[NDArray[np.complex128]]) -> list[Zoom]:
    """The best zoom for each key; nothing for fewer than 2 groups."""
    if len(groups) < 2:
        return []
    spectra = [transform(_colour_only(group)) for group in _merged(groups)]
    times = np.array([(item.evidence.start_s + item.evidence.stop_s) / 2 for item in spectra])
    first, last = spectra[0].evidence.start_s, spectra[-1].evidence.stop_s
    if last - first < 1e-3:
        return []
    progress = np.clip((times - first) / (last - first), 0, 1)
    rates = np.arange(RATE_STEP, MAX_ZOOM, RATE_STEP)
    # Zooming in starts from the whole picture, zooming out ends with it.
    tracks = np.concatenate([1 + rates[:, None] * progress, 1 + rates[:, None] * (1 - progress)])
    family = Family("zoom", 3 * len(tracks))
    heights = _heights(spectra, tracks, signs)
    found: list[Zoom] = []
    for number, sign in enumerate(signs):
        track = tracks[int(np.argmax(heights[number]))]
        reach = (track - 1) / max(float((track - 1).max()), RATE_STEP)
        finer = np.stack([track + factor * RATE_STEP * reach for factor in (-0.5, -0.25, 0.0, 0.25, 0.5)])
        fine = _heights(spectra, finer, [sign])[0]
        track = finer[int(np.argmax(fine))]
        centre = (spectra[0].width / 2 % tile.TILE, spectra[0].height / 2 % tile.TILE)
        candidate = Candidate(number, np.eye(2) / float(track.mean()), centre, float(fine.max()), family)
        found.append((candidate, partial(_projection, spectra, track, sign)))
    return found


def _merged(groups: Sequence[Evidence]) -> list[Evidence]:
    parts = np.array_split(np.arange(len(groups)), min(len(groups), MAX_GROUPS))
    return [reduce(add, [groups[index] for index in part]) for part in parts]


def _colour_only(evidence: Evidence) -> Evidence:
    nothing = np.zeros((2, 2), dtype=np.float32)
    return replace(evidence, planes=(nothing, evidence.planes[1], evidence.planes[2]))


def _heights(spectra: Sequence[Spectrum], tracks: NDArray[np.float64], signs: Sequence[NDArray[np.complex128]]
             ) -> NDArray[np.float64]:
    """Self-normalised correlation of all groups together, each at its own scale: float ``(keys, tracks)``."""
    # All groups carry the same signs, so their samples are added up first: the spread over random signs is that of
    # the sum.
    parts = [
        sample_pilots(spectrum, np.eye(2) / tracks[:, group, None, None], exact=True)
        for group, spectrum in enumerate(spectra)
    ]
    samples = [sum(plane[1:], start=plane[0]) for plane in zip(*parts, strict=True)]
    deviation = spread(samples)
    centre = np.array([[spectra[0].width / 2, spectra[0].height / 2]])
    return np.stack([correlate_at(sign_pilots(samples, sign), centre)[:, 0] / deviation for sign in signs])


def _projection(spectra: Sequence[Spectrum], track: NDArray[np.float64], sign: NDArray[np.complex128]) -> Projection:
    """Sum of the groups' projections, each weighted by how clearly its pilots stand out."""
    centre = (spectra[0].width / 2, spectra[0].height / 2)
    parts = [project(spectrum, np.eye(2) / scale, centre) for spectrum, scale in zip(spectra, track, strict=True)]
    weights = np.maximum([part.pilot_z(sign) for part in parts], 0.5)
    weights = weights / np.sqrt(np.sum(weights**2))
    values = np.sum([weight * part.values for weight, part in zip(weights, parts, strict=True)], axis=0)
    return Projection(values)
