"""The search of a file's evidence for a mark: look after look, family after family, each with its share of the error.

A look that is not thorough asks only whether the picture is the marked one, unchanged but for likely edits; the
thorough one goes on to cuts, warps, pictures in perspective and slow zooms. The first payload that decodes ends a look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from genwm.blas import one_blas_thread
from genwm.keys import Key
from genwm.lattice import geometry
from genwm.lattice.decision import HINT_LOG10_P, SHARES, THRESHOLD_LOG10_P, any_of
from genwm.lattice.decode import Projection, project_candidate, read_payload
from genwm.lattice.evidence import Evidence, of_one_size
from genwm.lattice.geometry import Candidate
from genwm.lattice.perspective import Outline, outline, straightened
from genwm.lattice.spectrum import Spectrum, transform
from genwm.lattice.zoom import Zoom, zoomed

#: Above this long side over short side only whole pictures are looked for, not cuts or turns.
LONGEST_ASPECT = 8
#: A look counts as one of so many: the inverse of its share of the error budget. The last has most of the evidence and
#: so most of the budget; the two before it only save time.
EARLY_LOOK, LAST_LOOK = 6.0, 1.5
#: Where a picture in perspective is seen, one half of the share of warps is that of its search (`geometry.uncropped`,
#: whose families have .30 for themselves), the other half stays with the warps. That it is seen depends on no key.
FRAMED, WARPED_BESIDE = 6.0, 2.0
#: Without even this much in the key frames, the second look is spared.
GLIMPSE_LOG10_P = -0.7
#: A pilot this weak has no decodable payload: the payload carries about twice the pilots' energy and needs z > 10.
DECODABLE_Z = 5.5
#: Payloads decoded in one search at most: a few where no mark has shown yet, many where one has and is to be read.
_FEW_DECODES, _MANY_DECODES = 8, 64


@dataclass(frozen=True, slots=True)
class Finding:
    """The best explanation so far."""

    log10_p: float = 0.0
    candidate: Candidate | None = None
    payload: int | None = None


@dataclass(slots=True)
class Search:
    """Keys, their pilots, the picture's displayed size in pixels, the share of the error budget that this search has,
    and the best finding over all looks."""

    keys: Sequence[Key]
    signs: list[NDArray[np.complex128]]
    size: tuple[int, int]
    share: float = 1.0
    best: Finding = field(default_factory=Finding)
    seconds: float = 0.0

    @property
    def glimpsed(self) -> bool:
        """Whether a look before the last is worth its time."""
        return self.best.log10_p <= GLIMPSE_LOG10_P

    def look(self, evidence: Sequence[Evidence], *, thorough: bool) -> bool:
        """Examines the evidence; True once a payload was read."""
        started = time.perf_counter()
        try:
            with one_blas_thread():
                return self._look(evidence, thorough)
        finally:
            self.seconds += time.perf_counter() - started

    def _look(self, evidence: Sequence[Evidence], thorough: bool) -> bool:
        evidence = of_one_size(evidence)
        if not evidence:
            return False
        total = reduce(add, evidence)
        if not thorough:
            return self._uncropped(transform(total), thorough=False)
        # What needs no spectrum of the whole is made beside the first searches; where these decide, what has begun by
        # then is waited for and not used.
        with ThreadPoolExecutor(1) as beside:
            corners = beside.submit(outline, total)
            # A strip has so many tiles that the full search, whose steps shrink with the length, would never end.
            is_strip = max(total.width, total.height) > LONGEST_ASPECT * min(total.width, total.height)
            moving = None if is_strip else beside.submit(zoomed, evidence, self.signs)
            try:
                return self._thoroughly(transform(total), corners, moving)
            finally:
                if moving is not None:
                    moving.cancel()

    def _uncropped(self, whole: Spectrum, *, thorough: bool) -> bool:
        return self.weigh(geometry.uncropped(whole, self.signs, squeezes=thorough),
                          partial(project_candidate, whole), looks=looks_counted(thorough))  # fmt: skip

    def _thoroughly(self, whole: Spectrum, outlined: Future[Outline | None], zooms: Future[list[Zoom]] | None) -> bool:
        """All searches, those of cuts, warps and zooms only with ``zooms``; True once a payload was read."""
        if self._uncropped(whole, thorough=True):
            return True
        still = partial(project_candidate, whole)
        corners = outlined.result()
        if corners is not None:
            framed = transform(straightened(whole.evidence, corners))
            candidates = [replace(item, corners=corners) for item in geometry.uncropped(framed, self.signs)]
            if self.weigh(candidates, partial(project_candidate, framed), looks=FRAMED):
                return True
        if zooms is None:
            return False
        cuts = geometry.cut(whole, self.signs, self.size)
        if self.weigh([*cuts, *geometry.cropped(whole, self.signs, self.size)], still):
            return True
        if self.weigh(geometry.warped(whole, self.signs), still, looks=1 if corners is None else WARPED_BESIDE):
            return True
        moving = zooms.result()
        projections = {id(candidate): projection for candidate, projection in moving}
        return self.weigh([candidate for candidate, _ in moving], lambda candidate: projections[id(candidate)]())

    def weigh(self, candidates: Sequence[Candidate], project: Callable[[Candidate], Projection], *, looks: float = 1
               ) -> bool:
        trials = len(self.keys) * looks / self.share
        ordered = sorted(candidates, key=lambda candidate: candidate.log10_p)
        for candidate in ordered:
            log10_p = any_of(candidate.log10_p, trials)
            if log10_p < self.best.log10_p and self.best.payload is None:
                self.best = Finding(log10_p, candidate)
        many = self.best.log10_p <= THRESHOLD_LOG10_P
        promising = [
            candidate for candidate in ordered if candidate.z >= DECODABLE_Z or candidate.log10_p <= HINT_LOG10_P
        ][: _MANY_DECODES if many else _FEW_DECODES]
        # Of several that decode, the one that supposes least is the picture's geometry: a neighbour may fit by luck.
        for rank, candidate in sorted(enumerate(promising), key=lambda entry: entry[1].supposed):
            decoded = read_payload(project(candidate), self.keys[candidate.key])
            if decoded.payload is None:
                continue
            # Every candidate that may be decoded, in any of the four searches, counts: the first has half of the
            # payload's share of the error budget, the next ones 1/6, 1/12, ...: together no more than all of it.
            chance = any_of(decoded.log10_p - np.log10(SHARES["payload"]), trials * 4 * (rank + 1) * (rank + 2))
            if chance <= THRESHOLD_LOG10_P:
                self.best = Finding(min(chance, any_of(candidate.log10_p, trials)), candidate, decoded.payload)
                return True
        return False


def looks_counted(thorough: bool) -> float:
    """As one of how many looks the last (thorough) or an earlier one counts."""
    return LAST_LOOK if thorough else EARLY_LOOK
