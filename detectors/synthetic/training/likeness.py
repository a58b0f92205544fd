"""What a new generator's few clips have in common that camera footage has not: one direction a channel.

With a handful of clips, a fit of the whole classifier to them moves little, or forgets. Here the classifier stays as it
is, and what looks more like the new generator than camera footage does is raised; nothing is ever lowered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from detectors.synthetic.fusion import CUT, Head, Likeness
from detectors.synthetic.training.fit import Data, centred, group_folds, shrunk, standardised

Floats = NDArray[np.float64]
#: Channels that are looked at, where a model has them: the others say too little of one generator.
CHANNELS = ("appearance", "texture")
SHRINKAGE = 0.35
#: Weight of differences between sources of footage, beside those within: what tells one source from another, as faces
#: do, must not tell footage from a generator.
BETWEEN = 0.2


@dataclass(frozen=True, slots=True)
class _Space:
    """Of one channel of known clips: standardisation, covariance within sources and families and its factor, and the
    centre of camera footage."""

    mean: Floats
    deviation: Floats
    covariance: Floats
    factor: tuple[Floats, bool]
    footage: Floats

    @classmethod
    def of(cls, known: Data, name: str) -> _Space:
        mean, deviation, scaled = standardised(known, name)
        real = known.labels == 0
        footage = np.average(scaled[real], axis=0, weights=known.weights[real])
        rows, groups = centred(known, scaled)
        apart = np.stack([np.sqrt(weight) * (centre - footage) for label, weight, centre in groups if label == 0])
        covariance = shrunk((rows * known.weights[:, None]).T @ rows + BETWEEN * apart.T @ apart, SHRINKAGE)
        return cls(mean, deviation, covariance, cho_factor(covariance), footage)

    def head(self, fresh: Floats) -> Head:
        """From footage to the clips ``(clips, numbers)``, at a deviation of 1 within a source."""
        centre = np.clip((fresh - self.mean) / self.deviation, -CUT, CUT).mean(axis=0)
        direction = cho_solve(self.factor, centre - self.footage)
        direction /= np.sqrt(direction @ self.covariance @ direction) + 1e-12
        return Head(mean=self.mean, deviation=self.deviation, weights=direction, bias=-float(direction @ self.footage))


class Known:
    """Clips that a model knows, ready to be compared with any new generator's."""

    def __init__(self, known: Data, *, folds: int = 8, seed: int = 0) -> None:
        channels = [name for name in CHANNELS if name in known.features] or list(known.features)
        self._known = known
        self._folds = group_folds(known.labels, known.groups, folds, seed + 100)
        self._all = {name: _Space.of(known, name) for name in channels}
        self._without = [{name: _Space.of(known.take(self._folds != fold), name) for name in channels}
                         for fold in range(folds)]  # fmt: skip

    def likeness(self, clips: Sequence[Mapping[str, Floats]]) -> tuple[Likeness, Floats]:
        """Of the clips (features a channel), and the known clips' likeness to them ``(known,)`` by fits that saw
        nothing of their source or family: camera footage has mean 0, deviation 1 there."""
        fresh = {name: np.stack([clip[name] for clip in clips]) for name in self._all}
        values = np.zeros(len(self._known))
        for fold, spaces in enumerate(self._without):
            own = self._folds == fold
            for name, space in spaces.items():
                values[own] += space.head(fresh[name]).logits(self._known.features[name][own])
        footage = values[self._known.labels == 0]
        middle, spread = float(footage.mean()), float(footage.std()) + 1e-12
        heads = {}
        for name, space in self._all.items():
            head = space.head(fresh[name])
            heads[name] = Head(mean=head.mean, deviation=head.deviation, weights=head.weights / spread,
                               bias=(head.bias - middle / len(self._all)) / spread)  # fmt: skip
        return Likeness(heads=heads), (values - middle) / spread
