"""Test footage made of NumPy alone: deterministic, and moving as real footage does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frames", "scene"]

Frames = NDArray[np.uint8]


def scene(width: int = 320, height: int = 256, frames: int = 24, seed: int = 0, *, speed: float = 1.0) -> Frames:
    """A camera pans over soft ground with fine texture, discs and a striped box cross it, and a caption stands still.

    Returns uint8 ``(frames, height, width, 3)`` RGB; the same for the same arguments. ``speed`` 0 stands still.
    """
    rng = np.random.default_rng(seed)
    margin = 64
    ground = _ground(rng, width + 2 * margin, height + 2 * margin)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = 12 * np.sin(rows / 3)[..., None]
    discs = [
        (rng.uniform(0.08, 0.2) * height, rng.uniform(0, 1, 2), rng.uniform(-2, 2, 2), rng.uniform(30, 225, 3))
        for _ in range(3)
    ]
    caption = rng.integers(0, 2, (3, max(4, width // 12))).repeat(4, axis=0).repeat(3, axis=1)[:, : width // 2]
    result = np.empty((frames, height, width, 3), np.uint8)
    for index in range(frames):
        moved = speed * index
        picture = _shifted(ground, margin + 20 * np.sin(moved / 9), margin + 1.3 * (moved % 40), height, width)
        for radius, place, velocity, colour in discs:
            y = (place[0] * height + velocity[0] * moved) % height
            x = (place[1] * width + velocity[1] * moved) % width
            near = np.s_[max(0, int(y - radius)) : int(y + radius) + 1, max(0, int(x - radius)) : int(x + radius) + 1]
            edge = np.clip(radius - np.hypot(rows[near] - y, columns[near] - x), 0, 1)[..., None]
            picture[near] = picture[near] * (1 - edge) + (colour + waves[near]) * edge
        top, left = height // 4, int(width * 0.6 + 2 * moved) % (width - width // 6)
        box = picture[top : top + height // 6, left : left + width // 6]
        box[:] = 70 + 110 * ((columns[: box.shape[0], : box.shape[1], None] // 4) % 2)
        under = picture[-20 : -20 + caption.shape[0], 8 : 8 + caption.shape[1]]
        under[caption[: under.shape[0], : under.shape[1]] > 0] = 235
        grain = np.random.default_rng((seed, index)).normal(0, 1.0, (height, width, 1))
        result[index] = np.clip(picture + grain, 0, 255)
    return result


def _ground(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Noise at several scales, coarse in colour and fine in brightness."""
    total = np.full((height, width, 3), (118, 112, 104), np.float32)
    for cell, brightness, colour in ((96, 30, 14), (32, 16, 8), (10, 9, 3), (4, 6, 0), (2, 4, 0)):
        shape = (height // cell + 2, width // cell + 2)
        layer = rng.normal(0, 1, (*shape, 1)) * brightness + rng.normal(0, 1, (*shape, 3)) * colour
        total += _enlarged(layer.astype(np.float32), cell)[:height, :width]
    return total


def _enlarged(grid: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Bilinear enlargement by a whole factor."""
    share = (np.arange(cell, dtype=np.float32) / np.float32(cell))[None, :, None, None]
    for axis in (0, 1):
        grid = np.moveaxis(grid, axis, 0)
        blend = grid[:-1, None] * (1 - share) + grid[1:, None] * share
        grid = np.moveaxis(blend.reshape(-1, *grid.shape[1:]), 0, axis)
    return grid


def _shifted(ground: NDArray[np.float32], top: float, left: float, height: int, width: int) -> NDArray[np.float32]:
    """A window of the ground at a fractional place, bilinear."""
    row, column = int(top), int(left)
    down, right = top - row, left - column
    window = ground[row : row + height + 1, column : column + width + 1]
    window = window[:-1] * (1 - down) + window[1:] * down
    return window[:, :-1] * (1 - right) + window[:, 1:] * right
