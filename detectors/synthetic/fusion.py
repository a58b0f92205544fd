"""From channel features to one calibrated logit: a logistic regression a channel, one over the channels. NumPy only.

Everything is linear in the standardised features, so a clip's logit is the mean of its segments' logits, and a sum of
one contribution a channel and a constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
#: Standardised features are cut at so many deviations: an odd clip must not buy certainty with one odd number.
CUT = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Logistic regression on one channel: ``logit = weights . clip((x - mean) / deviation) + bias``."""

    mean: Floats
    deviation: Floats
    weights: Floats
    bias: float

    def logits(self, features: ArrayLike) -> Floats:
        """Features ``(..., numbers)`` -> logits ``(...)``."""
        scaled = np.clip((np.asarray(features, np.float64) - self.mean) / self.deviation, -CUT, CUT)
        return np.asarray(scaled @ self.weights + self.bias)

    def to_json(self) -> dict[str, Any]:
        return {"mean": _rounded(self.mean), "deviation": _rounded(self.deviation), "weights": _rounded(self.weights),
                "bias": self.bias}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(mean=np.asarray(data["mean"], np.float64), deviation=np.asarray(data["deviation"], np.float64),
                   weights=np.asarray(data["weights"], np.float64), bias=float(data["bias"]))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Heads by channel, the weight of each channel's logit, and a constant; the sum is a calibrated logit."""

    heads: Mapping[str, Head]
    weights: Mapping[str, float]
    bias: float

    def contributions(self, features: Mapping[str, ArrayLike]) -> dict[str, Floats]:
        """What each channel adds to the logit, ``(segments,)`` each, of features ``(segments, numbers)`` a channel."""
        return {name: weight * self.heads[name].logits(features[name]) for name, weight in self.weights.items()}

    def logits(self, features: Mapping[str, ArrayLike]) -> Floats:
        """The logit of each segment, ``(segments,)``."""
        return np.asarray(sum(self.contributions(features).values(), np.float64(0)) + self.bias)

    def to_json(self) -> dict[str, Any]:
        channels = {name: {"weight": self.weights[name], **head.to_json()} for name, head in self.heads.items()}
        return {"channels": channels, "bias": self.bias}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        channels = data["channels"]
        return cls(heads={name: Head.from_json(channel) for name, channel in channels.items()},
                   weights={name: float(channel["weight"]) for name, channel in channels.items()},
                   bias=float(data["bias"]))  # fmt: skip


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
