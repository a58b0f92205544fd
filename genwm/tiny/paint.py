"""Anti-aliased shapes on float canvases, from signed distances.

Every figure is a list of rounded convex outlines. An outline covers a pixel by its distance to the pixel's centre, in
pixels, clipped to one pixel: edges move smoothly with sub-pixel motion, as no resampling takes place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Point = tuple[float, float]
Floats = NDArray[np.float32]


class Shape(NamedTuple):
    """A rounded convex outline in metres: x to the right, y up.

    Attributes:
        points: one point (a disc), two (a capsule), or a convex polygon, counter-clockwise.
        radius: what is added around the points.
        colour: RGB in [0, 1].
        line: half the width of a line along the outline; 0 fills the outline.
        shade: how much brighter than its middle the top of the shape is, as a fraction of the colour.
        light: brightness of its own that no weather dims, 0 to 1.
        opacity: 0 to 1.
    """

    points: tuple[Point, ...]
    radius: float
    colour: Colour
    line: float = 0.0
    shade: float = 0.2
    light: float = 0.0
    opacity: float = 1.0

    @property
    def reach(self) -> float:
        return self.radius + self.line


def box(x0: float, y0: float, x1: float, y1: float, colour: Colour, *, round_by: float = 0.0, shade: float = 0.2,
        light: float = 0.0, opacity: float = 1.0) -> Shape:
    """A rectangle with corners rounded by ``round_by``, its outer edges at the given coordinates."""
    x0, y0, x1, y1 = x0 + round_by, y0 + round_by, x1 - round_by, y1 - round_by
    return Shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), round_by, colour, 0.0, shade, light, opacity)


def extent(shapes: Iterable[Shape]) -> tuple[float, float, float, float]:
    """Smallest x0, y0, x1, y1 in metres that holds all the shapes."""
    corners = [(min(x for x, _ in s.points) - s.reach, min(y for _, y in s.points) - s.reach,
                max(x for x, _ in s.points) + s.reach, max(y for _, y in s.points) + s.reach) for s in shapes]
    x0, y0, x1, y1 = zip(*corners, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def paint(
    canvas: Floats,
    shapes: Iterable[Shape],
    origin: Point,
    scale: float,
    *,
    light: Sequence[float] = (1.0, 1.0, 1.0),
    mirrored: bool = False,
    reflected: bool = False,
    opacity: float = 1.0,
) -> None:
    """Paints shapes in order onto ``canvas`` in place.

    Args:
        canvas: float32 ``(H, W, 3)`` RGB, or ``(H, W, 4)`` RGB premultiplied by the alpha in the last channel.
        origin: pixel (x, y) of the shapes' origin.
        scale: pixels a metre.
        light: factors of red, green and blue.
        mirrored: turn left and right round.
        reflected: turn upside down, as on wet ground.
        opacity: 0 to 1, of all shapes.
    """
    height, width, channels = canvas.shape
    sign_x, sign_y = (-scale if mirrored else scale), (scale if reflected else -scale)
    for shape in shapes:
        left, bottom, right, top = extent([shape])
        columns = sorted((origin[0] + sign_x * left, origin[0] + sign_x * right))
        rows = sorted((origin[1] + sign_y * bottom, origin[1] + sign_y * top))
        c0, c1 = max(int(columns[0]) - 1, 0), min(int(columns[1]) + 2, width)
        r0, r1 = max(int(rows[0]) - 1, 0), min(int(rows[1]) + 2, height)
        if c0 >= c1 or r0 >= r1:
            continue
        x = ((np.arange(c0, c1, dtype=np.float32) + 0.5 - origin[0]) / sign_x)[None, :]
        y = ((np.arange(r0, r1, dtype=np.float32) + 0.5 - origin[1]) / sign_y)[:, None]
        away = distance(x.astype(np.float32), y.astype(np.float32), shape.points) - shape.radius
        if shape.line:
            away = np.abs(away) - shape.line
        cover = np.clip(0.5 - away * scale, 0, 1)[..., None] * np.float32(shape.opacity * opacity)
        height_in = (y - (bottom + top) / 2) / max(top - bottom, 1e-6)
        lit = [c * (shape.light + (1 - shape.light) * lamp) for c, lamp in zip(shape.colour, light, strict=True)]
        colour = np.ones((r1 - r0, 1, channels), np.float32)
        colour[..., :3] = np.asarray(lit, np.float32) * (1 + 2 * shape.shade * height_in)[..., None]
        region = canvas[r0:r1, c0:c1]
        region += cover * (colour - region)


def distance(x: Floats, y: Floats, points: Sequence[Point]) -> Floats:
    """Signed distance to a point, a segment or a convex counter-clockwise polygon; negative inside.

    Args:
        x: ``(1, W)``;  y: ``(H, 1)``, in the unit of ``points``.
    """
    if len(points) == 1:
        return np.asarray(np.hypot(x - points[0][0], y - points[0][1]))
    if len(points) == 4 and points[0][1] == points[1][1] and points[1][0] == points[2][0] \
            and points[2][1] == points[3][1] and points[3][0] == points[0][0]:
        across = np.abs(x - (points[0][0] + points[1][0]) / 2) - (points[1][0] - points[0][0]) / 2
        along = np.abs(y - (points[0][1] + points[2][1]) / 2) - (points[2][1] - points[0][1]) / 2
        outside: Floats = np.hypot(np.maximum(across, 0), np.maximum(along, 0))
        return np.asarray(outside + np.minimum(np.maximum(across, along), 0))
    edges = list(zip(points, (*points[1:], points[0]), strict=True))[: len(points) if len(points) > 2 else 1]
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    inside = np.full(nearest.shape, len(points) > 2)
    for (ax, ay), (bx, by) in edges:
        ex, ey = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        t = np.clip((wx * ex + wy * ey) / max(ex * ex + ey * ey, 1e-12), 0, 1)
        np.minimum(nearest, (wx - t * ex) ** 2 + (wy - t * ey) ** 2, out=nearest)
        inside &= ex * wy >= ey * wx
    nearest = np.sqrt(nearest)
    return np.where(inside, -nearest, nearest)


def shadow(canvas: Floats, centre: Point, radii: Point, strength: float) -> None:
    """Darkens a soft ellipse of ``canvas`` in place by at most ``strength`` (a fraction); lengths in pixels."""
    height, width, _ = canvas.shape
    (cx, cy), (rx, ry) = centre, radii
    c0, c1 = max(int(cx - 1.4 * rx), 0), min(int(cx + 1.4 * rx) + 2, width)
    r0, r1 = max(int(cy - 1.4 * ry), 0), min(int(cy + 1.4 * ry) + 2, height)
    if c0 >= c1 or r0 >= r1 or strength <= 0:
        return
    x = ((np.arange(c0, c1, dtype=np.float32) + 0.5 - cx) / rx)[None, :]
    y = ((np.arange(r0, r1, dtype=np.float32) + 0.5 - cy) / ry)[:, None]
    fade = np.clip((1.4 - np.hypot(x, y)) / 0.8, 0, 1)
    canvas[r0:r1, c0:c1, :3] *= (1 - strength * fade * fade * (3 - 2 * fade))[..., None]


def glow(canvas: Floats, centre: Point, radii: Point, colour: Colour) -> None:
    """Adds soft light of ``colour`` to an ellipse of ``canvas`` in place; lengths in pixels."""
    height, width, _ = canvas.shape
    (cx, cy), (rx, ry) = centre, radii
    c0, c1 = max(int(cx - rx), 0), min(int(cx + rx) + 2, width)
    r0, r1 = max(int(cy - ry), 0), min(int(cy + ry) + 2, height)
    if c0 >= c1 or r0 >= r1:
        return
    x = ((np.arange(c0, c1, dtype=np.float32) + 0.5 - cx) / rx)[None, :]
    y = ((np.arange(r0, r1, dtype=np.float32) + 0.5 - cy) / ry)[:, None]
    fade = np.clip(1 - (x * x + y * y), 0, 1) ** 2
    canvas[r0:r1, c0:c1, :3] += fade[..., None] * np.asarray(colour, np.float32)
