"""Channel 'motion': the motion vectors of the canonical encode."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from genwm.video.motion import read_motion

FEATURES = 20


def motion_features(data: bytes) -> NDArray[np.float64]:
    """``(FEATURES,)`` numbers of the canonical encode of one segment's crop, from its vectors on a grid of 8 pixels.

    Lengths are relative to their mean, so that fast and slow scenes compare. All zero where nothing is predicted.
    """
    field = read_motion(io.BytesIO(data))
    if len(field) < 3:
        return np.zeros(FEATURES)
    known = ~np.isnan(field[..., 0])
    motion = np.nan_to_num(field)
    length = np.hypot(motion[..., 0], motion[..., 1])
    mean = float(length.mean()) + 0.25
    flat = length / mean
    across, down = _step(motion, 2) / mean, _step(motion, 1) / mean
    later = motion[1:] - motion[:-1]
    accelerated = np.hypot(later[..., 0], later[..., 1]) / mean
    overall = motion.mean(axis=(1, 2))
    shake = overall[2:] - 2 * overall[1:-1] + overall[:-2]
    spectrum = np.abs(np.fft.rfft(length - length.mean(axis=0), axis=0)).mean(axis=(1, 2)) / mean
    bands = np.array([band.mean() if len(band) else 0.0 for band in np.array_split(spectrum[1:], 4)])
    values = [
        np.log(mean), float(known.mean()), float((length < 0.13).mean()), float((length > 8).mean()),
        flat.std(), np.percentile(flat, 90), across.mean(), down.mean(), across.std(), down.std(),
        accelerated.mean(), accelerated.std(), np.percentile(accelerated, 90),
        float(np.hypot(*shake.T).mean()) / mean, float(np.hypot(*overall.T).mean()) / mean,
        _alike(length[1:], length[:-1]),
    ]  # fmt: skip
    return np.concatenate([np.asarray(values, np.float64), np.log(bands + 1e-3)])


def _step(motion: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Length of the difference between neighbouring blocks along an axis."""
    difference = np.diff(motion, axis=axis)
    return np.asarray(np.hypot(difference[..., 0], difference[..., 1]))


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation of two fields, 0 where one of them is constant."""
    first, second = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm > 1e-6 else 0.0
