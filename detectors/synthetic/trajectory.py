"""Channel 'trajectory': how the embedding of the picture moves from frame to frame.

After D3 (deviation of second differences) and ReStraV (distances and turning angles of the path).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEATURES = 14


def trajectory_features(path: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(FEATURES,)`` numbers of embeddings ``(frames, numbers)``, at least four, of frames evenly apart in time."""
    velocity = np.diff(path.astype(np.float64), axis=0)
    speed = np.linalg.norm(velocity, axis=1)
    scale = float(np.linalg.norm(path, axis=1).mean()) + 1e-6
    acceleration = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
    cosine = (velocity[1:] * velocity[:-1]).sum(axis=1) / np.maximum(speed[1:] * speed[:-1], 1e-9)
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    mean = float(speed.mean()) + 1e-6 * scale
    direct = float(np.linalg.norm(path[-1] - path[0])) / (speed.sum() + 1e-9)
    return np.array([
        np.log(mean / scale + 1e-4), speed.std() / mean, speed.min() / mean, speed.max() / mean,
        np.log(acceleration.mean() / scale + 1e-4), acceleration.std() / mean, acceleration.mean() / mean,
        acceleration.max() / mean, angle.mean(), angle.std(), angle.min(), angle.max(), direct,
        float(np.corrcoef(speed[1:], speed[:-1])[0, 1]) if speed.std() > 1e-9 else 0.0,
    ])  # fmt: skip
