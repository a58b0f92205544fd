"""One canonical segment -> the numbers of every channel."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic import motion, spectrum, trajectory
from detectors.synthetic.canonical import Segment, decoded, encoded, reencoded
from detectors.synthetic.networks import Network, rgb_of, yuv_of

#: Every channel that there is; a model names those it uses.
CHANNELS = ("spectrum", "motion", "appearance", "texture", "trajectory", "residual")

#: Raised whenever a channel's numbers come to mean something else: models and kept features of before are then refused
#: or made again, for their thresholds would hold for other numbers.
FORM = 2

_SMALL = np.arange(1, 12, 4)
_PATH = np.arange(0, 12, 2)
_CROP = np.arange(2, 12, 4)


@dataclass(frozen=True, slots=True)
class Networks:
    """``embedding`` takes RGB and gives the means and deviations of its layers; ``residual`` takes Y, U, V and gives a
    map of logits and an embedding."""

    embedding: Network
    residual: Network | None = None


def segment_features(
    segment: Segment, networks: Networks, channels: Collection[str]
) -> tuple[dict[str, NDArray[np.float64]], Segment]:
    """The features of a segment as it was delivered, a vector a channel, and its canonical form.

    'spectrum': power and residuals of the crop; 'motion': vectors of the crop's canonical encode; 'appearance' and
    'texture': mean embedding of the small picture, of the crop; 'trajectory': path of the embedding of the small
    picture; 'residual': the patch network on the crop (its embedding's mean).
    """
    data = encoded(segment.crop)
    crop = decoded(data)
    small = segment.small
    found: dict[str, NDArray[np.float64]] = {}
    if "spectrum" in channels:
        found["spectrum"] = spectrum.spectrum_features(crop)
    if "motion" in channels:
        found["motion"] = motion.motion_features(data)
    if {"appearance", "trajectory"} & set(channels):
        small = reencoded(segment.small)[0]
    if "appearance" in channels:
        found["appearance"] = networks.embedding(rgb_of(small, _SMALL))[0].mean(axis=0, dtype=np.float64)
    if "trajectory" in channels:
        found["trajectory"] = trajectory.trajectory_features(networks.embedding(rgb_of(small, _PATH))[0])
    if "texture" in channels:
        found["texture"] = networks.embedding(rgb_of(crop, _CROP))[0].mean(axis=0, dtype=np.float64)
    if "residual" in channels and networks.residual is not None:
        embedding = networks.residual(yuv_of(crop, _CROP))[1]
        found["residual"] = embedding.mean(axis=0, dtype=np.float64)
    return found, replace(segment, crop=crop, small=small, encoded_bytes=len(data))
