"""From channel features to one calibrated logit: a linear head a channel, and their sum, calibrated. NumPy only.

It is linear in the standardised features, but for the limits of what a channel may add to a clip's logit; so a clip's
logit is the mean of its segments' logits, and a sum of one contribution a channel and a constant. What a limit takes
away and what an adapted model adds (`Likeness`) is the same for all segments of a clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
#: Standardised features are cut at so many deviations: an odd clip must not buy certainty with one odd number.
CUT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A line through one channel: ``score = weights . clip((x - mean) / deviation) + bias``. In a `Fusion` it has mean
    0 and deviation 1 over the clips that it was fitted on, and a clip's counts to ``limit`` either way."""

    mean: Floats
    deviation: Floats
    weights: Floats
    bias: float
    limit: float = float("inf")

    def logits(self, features: ArrayLike) -> Floats:
        """Features ``(..., numbers)`` -> logits ``(...)``."""
        scaled = np.clip((np.asarray(features, np.float64) - self.mean) / self.deviation, -CUT, CUT)
        return np.asarray(scaled @ self.weights + self.bias)

    def limited(self, scores: ArrayLike) -> Floats:
        """What a clip's score, or several clips', counts."""
        return np.clip(np.asarray(scores, np.float64), -self.limit, self.limit)

    def to_json(self) -> dict[str, Any]:
        return {"mean": _rounded(self.mean), "deviation": _rounded(self.deviation), "weights": _rounded(self.weights),
                "bias": self.bias, **({"limit": self.limit} if np.isfinite(self.limit) else {})}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(mean=np.asarray(data["mean"], np.float64), deviation=np.asarray(data["deviation"], np.float64),
                   weights=np.asarray(data["weights"], np.float64), bias=float(data["bias"]),
                   limit=float(data.get("limit", np.inf)))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How much more a clip is like one generator's clips than camera footage is, in deviations of camera footage: the
    sum of a linear head a channel. Beyond ``margin`` it raises a clip's logit, by ``gain`` a deviation."""

    heads: Mapping[str, Head]
    margin: float = 1.0
    gain: float = 2.0

    def values(self, features: Mapping[str, ArrayLike]) -> Floats:
        """Features ``(..., numbers)`` a channel -> likeness ``(...)``."""
        return np.asarray(sum((head.logits(features[name]) for name, head in self.heads.items()), np.float64(0)))

    def raised(self, values: ArrayLike) -> Floats:
        """What likeness adds to logits, 0 or more."""
        return np.asarray(self.gain * np.maximum(np.asarray(values, np.float64) - self.margin, 0))

    def to_json(self) -> dict[str, Any]:
        return {"margin": self.margin, "gain": self.gain,
                "channels": {name: head.to_json() for name, head in self.heads.items()}}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(heads={name: Head.from_json(head) for name, head in data["channels"].items()},
                   margin=float(data["margin"]), gain=float(data["gain"]))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Heads by channel, the weight of each channel's logit, and a constant; the sum is a calibrated logit. An adapted
    model has a `Likeness` for each generator that it was adapted to as well."""

    heads: Mapping[str, Head]
    weights: Mapping[str, float]
    bias: float
    likenesses: Mapping[str, Likeness] = field(default_factory=dict)

    def contributions(self, features: Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """What each channel adds to the logit, ``(segments,)`` each, of one clip's features ``(segments, numbers)`` a
        channel. A likeness, 'like NAME', is that of all segments together, for one alone says little, and a limit holds
        for their mean."""
        found = {}
        for name, weight in self.weights.items():
            scores = self.heads[name].logits(features[name])
            mean = scores.mean()
            found[name] = weight * (scores - (mean - self.heads[name].limited(mean)))
        for name, likeness in self.likenesses.items():
            values = likeness.values(features)
            found[f"like {name}"] = np.full_like(values, likeness.raised(values.mean()))
        return found

    def logits(self, features: Mapping[str, ArrayLike]) -> Floats:
        """The logit of each segment of one clip, ``(segments,)``."""
        return np.asarray(sum(self.contributions(features).values(), np.float64(0)) + self.bias)

    def sums(self, features: Mapping[str, ArrayLike]) -> Floats:
        """The sum of the channels' scores of many clips, ``(clips,)``, of features ``(clips, numbers)`` a channel: what
        is calibrated."""
        scores = (head.limited(head.logits(features[name])) for name, head in self.heads.items())
        return np.asarray(sum(scores, np.float64(0)))

    def calibrated(self, factor: float, constant: float) -> Self:
        """The same heads, whose sum is turned into a logit by this factor and constant: before there are likenesses."""
        return replace(self, weights=dict.fromkeys(self.weights, factor), bias=constant)

    def to_json(self) -> dict[str, Any]:
        channels = {name: {"weight": self.weights[name], **head.to_json()} for name, head in self.heads.items()}
        likenesses = {name: likeness.to_json() for name, likeness in self.likenesses.items()}
        return {"channels": channels, "bias": self.bias, **({"likenesses": likenesses} if likenesses else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        channels = data["channels"]
        return cls(heads={name: Head.from_json(channel) for name, channel in channels.items()},
                   weights={name: float(channel["weight"]) for name, channel in channels.items()},
                   bias=float(data["bias"]),
                   likenesses={name: Likeness.from_json(one)
                               for name, one in data.get("likenesses", {}).items()})  # fmt: skip


def probability(logit: float) -> float:
    """``1 / (1 + exp(-logit))``, without overflow."""
    return float(np.exp(-np.logaddexp(0.0, -logit)))


def share_as_high(logit: float, reals: ArrayLike) -> float:
    """The conformal p-value ``(1 + #{reals >= logit}) / (1 + n)`` of 'this is camera footage like that of the
    calibration set', whose logits ``reals`` are (Vovk, Gammerman and Shafer 2005): it is at most t for a share of at
    most t of such footage."""
    scores = np.asarray(reals, np.float64)
    return float((1 + np.count_nonzero(scores >= logit)) / (1 + scores.size))


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.6g}") for value in values]
