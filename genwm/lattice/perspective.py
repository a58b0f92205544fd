"""A picture in perspective on a plain ground: its outline says how it was projected, so that it can be made straight.

In perspective the mark has another scale and slant at every place, which is more than a search could try and count. But
a plain ground holds no evidence, so the four sides of the picture show in it, without any key; and the places of the
corners are all that a projection is free to choose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genwm.lattice.evidence import Evidence
from genwm.lattice.numeric import box_mean

Floats = NDArray[np.float64]
#: Points (x, y): top left, top right, bottom right, bottom left.
Corners = Sequence[tuple[float, float]]
Outline = tuple[tuple[float, float], ...]

#: Power over its 90th percentile below which evidence is ground: what an encoder leaves on it differs.
_GROUNDS = (0.03, 0.1, 0.2, 0.3)
#: Samples that whitening carries evidence of a side over it: measured, the same for every picture.
_REACH = 2.5
#: Samples of evidence at the sides that a picture's edge, and no mark, has made: luma, colours.
_MARGINS = (6, 5, 5)
#: Distance in samples of points that lie on a line, lines that are tried, and the least share of a side's points on it.
_CLOSE, _TRIES, _SUPPORT = 1.5, 300, 0.5
#: What is closer to an upright rectangle than this, in short sides of the frame, is left to the search for cuts; and
#: the least length of a side in lengths of the frame.
_LEAST_SLANT, _LEAST_SIDE = 0.015, 0.2
#: Share of the frame that is ground at least; of the ground, what may hold evidence, and of the picture, what must.
_LEAST_GROUND, _MOST_OUTSIDE, _LEAST_INSIDE = 0.03, 0.15, 0.25


def homography(source: Corners, target: Corners) -> tuple[float, ...]:
    """The eight numbers a..h of x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (g x + h y + 1) that
    take four points (x, y) of ``source`` to those of ``target``."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return tuple(float(value) for value in solved)


def outline(evidence: Evidence) -> Outline | None:
    """Corners of a picture in perspective, in parts of the frame's width and height; None where no four slanted sides
    on a plain ground are seen."""
    plane = evidence.plain
    height, width = plane.shape
    if min(height, width) < 64:
        return None
    coarse = plane[4::8, 4::8] ** 2
    if np.mean(coarse < _GROUNDS[0] * np.percentile(coarse, 90)) < _LEAST_GROUND:
        return None
    power = box_mean(plane * plane, 3, ("symmetric", "symmetric"))
    strong = np.percentile(power, 90)
    found = [_quadrilateral(power > ground * strong) for ground in _GROUNDS]
    support, corners = max(found, key=lambda one: one[0])
    return tuple((float(x) / width, float(y) / height) for x, y in corners) if support else None


def _quadrilateral(held: NDArray[np.bool_]) -> tuple[float, Floats]:
    """Corners ``(4, 2)`` of the quadrilateral that holds the evidence, in samples, and how well its worst side is
    seen, in 0..1; 0 where there is none."""
    sides = [line for points in _profiles(held) if (line := _line(points)) is not None]
    if len(sides) < 4:
        return 0.0, np.zeros((4, 2))
    outer = _meetings(sides) + 0.5
    # Beyond the frame's own border no evidence can reach.
    corners = _inwards(outer, np.clip(_gaps(outer, held) - 0.5, 0, _REACH))
    return (0.0, outer) if corners is None else (_seen(corners, held), corners)


def straightened(evidence: Evidence, corners: Corners) -> Evidence:
    """The evidence of the picture whose ``corners`` these are (see `outline`), as if it filled the frame."""
    from scipy import ndimage  # takes long to import, and few files need it

    planes = []
    for plane, margin in zip(evidence.planes, _MARGINS, strict=True):
        height, width = plane.shape
        frame = [(0, 0), (width, 0), (width, height), (0, height)]
        a, b, c, d, e, f, g, h = homography(frame, [(x * width, y * height) for x, y in corners])
        y, x = np.mgrid[0:height, 0:width] + 0.5
        depth = g * x + h * y + 1
        places = np.stack([(d * x + e * y + f) / depth - 0.5, (a * x + b * y + c) / depth - 0.5])
        straight = ndimage.map_coordinates(plane, places, order=1, output=np.float32)
        inner = slice(margin, max(margin, height - margin)), slice(margin, max(margin, width - margin))
        framed = np.zeros_like(straight)
        framed[inner] = straight[inner]
        planes.append(framed)
    return replace(evidence, planes=(planes[0], planes[1], planes[2]))


def _profiles(held: NDArray[np.bool_]) -> list[Floats]:
    """Outermost samples that hold evidence, of the top, right, bottom and left side: each float ``(n, 2)``, the place
    along the side and that across it."""
    height, width = held.shape
    columns, rows = np.flatnonzero(held.any(axis=0)), np.flatnonzero(held.any(axis=1))
    tall, wide = held[:, columns], held[rows]
    sides = (
        (columns, tall.argmax(axis=0)), (rows, width - 1 - wide[:, ::-1].argmax(axis=1)),
        (columns, height - 1 - tall[::-1].argmax(axis=0)), (rows, wide.argmax(axis=1)),
    )  # fmt: skip
    return [np.stack(side, axis=1).astype(np.float64) for side in sides]


def _line(points: Floats) -> tuple[float, float] | None:
    """Slope and height of the line that most points lie on (RANSAC; Fischler and Bolles 1981), fitted to them."""
    along, across = points.T
    if len(along) < 32:
        return None
    pairs = np.random.default_rng(0).integers(len(along), size=(_TRIES, 2))
    run = along[pairs[:, 1]] - along[pairs[:, 0]]
    pairs, run = pairs[np.abs(run) > len(along) / 10], run[np.abs(run) > len(along) / 10]
    if not len(run):
        return None
    slopes = (across[pairs[:, 1]] - across[pairs[:, 0]]) / run
    heights = across[pairs[:, 0]] - slopes * along[pairs[:, 0]]
    close = np.abs(slopes[:, None] * along + heights[:, None] - across) < _CLOSE
    near = close[np.argmax(close.sum(axis=1))]
    for _ in range(2):
        slope, height = np.polyfit(along[near], across[near], 1)
        near = np.abs(slope * along + height - across) < _CLOSE
        if near.sum() < 16:
            return None
    return float(slope), float(height)


def _meetings(sides: Sequence[tuple[float, float]]) -> Floats:
    """Where the top and bottom lines, y = a x + b, meet the left and right ones, x = c y + d: ``(4, 2)``."""
    top, right, bottom, left = sides
    corners = []
    for (a, b), (c, d) in ((top, left), (top, right), (bottom, right), (bottom, left)):
        y = (a * d + b) / (1 - a * c) if abs(1 - a * c) > 1e-6 else np.inf
        corners.append((c * y + d, y))
    return np.array(corners)


def _inwards(corners: Floats, distances: Floats) -> Floats | None:
    """A quadrilateral whose sides (top, right, bottom, left) lie that much further in; None where there is none, or no
    convex one."""
    ahead = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(*ahead.T)
    if not np.isfinite(corners).all() or lengths.min() < 4 * _REACH:
        return None
    along = ahead / lengths[:, None]
    before = np.roll(along, 1, axis=0)
    turns = before[:, 0] * along[:, 1] - before[:, 1] * along[:, 0]  # sines of the angles, clockwise as rows go down
    if turns.min() < 0.3:
        return None
    # A corner moves along each of its sides by what the other one moves in.
    own, other = distances, np.roll(distances, 1)
    return np.asarray(corners + (other[:, None] * along - own[:, None] * before) / turns[:, None])


def _gaps(corners: Floats, held: NDArray[np.bool_]) -> Floats:
    """Mean distances of the sides (top, right, bottom, left) from the frame's, in samples."""
    height, width = held.shape
    (_, top), (right, _), (_, bottom), (left, _) = (corners[pair].mean(axis=0) for pair in ([0, 1], [1, 2], [2, 3],
                                                                                           [3, 0]))  # fmt: skip
    return np.array([top, width - right, height - bottom, left])


def _seen(corners: Floats, held: NDArray[np.bool_]) -> float:
    """How well a quadrilateral's worst side is seen: the share of it where evidence ends. 0 where that is too little,
    or it does not lie in the frame, slanted, with the evidence inside."""
    height, width = held.shape
    size = np.array([width, height], float)
    if (corners < -_CLOSE).any() or (corners > size + _CLOSE).any():
        return 0.0
    ahead = np.roll(corners, -1, axis=0) - corners
    if (np.hypot(*ahead.T) < _LEAST_SIDE * np.array([width, height, width, height])).any():
        return 0.0
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    upright = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if np.abs(corners - upright).max() < _LEAST_SLANT * min(height, width):
        return 0.0
    outward = np.stack([ahead[:, 1], -ahead[:, 0]], axis=1) / np.hypot(*ahead.T)[:, None]
    places = np.linspace(0.1, 0.9, 65)[:, None, None]
    on_sides = corners + places * ahead
    beyond, within = (_at(held, on_sides + step * outward) for step in (2 * _REACH + 1, -1))
    # The frame's own border is no witness; one side alone is a horizon, a wall, the edge of the sky.
    at_border = _gaps(corners, held) < _CLOSE
    if at_border.sum() > 2:
        return 0.0
    support = float((within & ~beyond).mean(axis=0)[~at_border].min())
    if support < _SUPPORT:
        return 0.0
    y, x = np.mgrid[0:height:4, 0:width:4] + 0.5
    distance = np.max([(x - px) * nx + (y - py) * ny for (px, py), (nx, ny) in zip(corners, outward, strict=True)],
                      axis=0)  # fmt: skip
    coarse = held[::4, ::4]
    outside, inside = distance > 2 * _REACH + 1, distance < 0
    if coarse[inside].mean() < _LEAST_INSIDE or (outside.any() and coarse[outside].mean() > _MOST_OUTSIDE):
        return 0.0
    return support


def _at(held: NDArray[np.bool_], places: Floats) -> NDArray[np.bool_]:
    """Whether evidence is held at places (x, y); outside of the frame there is none."""
    x, y = np.floor(places).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (y >= 0) & (x < held.shape[1]) & (y < held.shape[0])
    found = held[np.clip(y, 0, held.shape[0] - 1), np.clip(x, 0, held.shape[1] - 1)]
    return np.asarray(found & inside)
