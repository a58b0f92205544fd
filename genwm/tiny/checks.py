"""Does a clip show what was asked? Colour, kind and direction of what moves, measured on the pixels alone.

Motion is matched between frames some tenths of a second apart; what moves against the background is cut out, measured,
and named by its outline, its height against the horizon, and the hues inside. Nothing is learned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_erosion, binary_fill_holes, binary_opening, label

from genwm.errors import InputError
from genwm.temporal import Floats, best_match, match_costs, reduced_luma

GROUPS = {"car": "vehicle", "bus": "vehicle", "person": "person", "bicycle": "bicycle", "ball": "ball"}

_LINES = 80
_WINDOW = 5
_REACH = 21, 5
_STEP = 6  # frames between the pictures that are compared
_HORIZON = 0.42  # the row, as a fraction of the height, and the height of the camera in the scenes
_CAMERA_M = 1.6
_TALLEST_M = 5.0  # what would be taller does not stand on the ground: clouds, branches, mistaken matches
_HUES = (("red", 14.0), ("orange", 39.0), ("yellow", 75.0), ("green", 175.0), ("blue", 255.0), ("purple", 330.0),
         ("red", 360.0))  # fmt: skip
Mask = NDArray[np.bool_]


class Asked(NamedTuple):
    """What a prompt asks for; None where it does not say. ``kind`` is a key of `GROUPS`."""

    colour: str | None = None
    kind: str | None = None
    direction: str | None = None


class Seen(NamedTuple):
    """One moving object.

    Attributes:
        colour: a name, or 'grey' for what is none of the eight.
        kind: a key of `GROUPS`, the likeliest;  group: its group.
        direction: 'left', 'right', 'toward' or 'away'.
        area: share of the picture, in [0, 1];  width, height: fractions of the picture's height.
        drift: motion across, picture heights a frame;  growth: relative change of size a frame.
        height_m: height in metres, if it stands on the ground of the scenes.
    """

    colour: str
    kind: str
    group: str
    direction: str
    area: float
    width: float
    height: float
    drift: float
    growth: float
    height_m: float


class Held(NamedTuple):
    """Whether one and the same moving object has each property that was asked for; True where none was asked."""

    colour: bool
    kind: bool
    group: bool
    direction: bool

    @property
    def all(self) -> bool:
        """Colour, group and direction together."""
        return self.colour and self.group and self.direction


def check(frames: NDArray[np.uint8], asked: Asked) -> Held:
    """Compares a clip, uint8 ``(N, H, W, 3)`` RGB of at least 5 frames, with what was asked.

    Of several moving objects the one that meets most counts. Nothing holds in a clip in which nothing moves.
    """
    def compare(seen: Seen) -> Held:
        return Held(asked.colour in (None, seen.colour), asked.kind in (None, seen.kind),
                    asked.kind is None or GROUPS[asked.kind] == seen.group,
                    asked.direction in (None, seen.direction))

    return max((compare(seen) for seen in moving_objects(frames)), key=lambda held: (held.all, sum(held)),
               default=Held(False, False, False, False))


def moving_objects(frames: NDArray[np.uint8]) -> list[Seen]:
    """What moves in a clip, uint8 ``(N, H, W, 3)`` RGB of at least 5 frames, the largest first.

    Looks at three moments, so an object that is seen throughout is listed three times.

    Raises:
        InputError: too few frames, or another shape or type.
    """
    if len(frames) < 5:
        raise InputError(f"Expected at least 5 frames to see motion, got {len(frames)}; use a longer clip.")
    grey = reduced_luma(frames, _LINES)
    step = min(_STEP, (len(frames) - 1) // 4)
    middle = len(frames) // 2
    found: list[Seen] = []
    for centre in (middle - step, middle, middle + step):
        found += _at(frames[[centre - step, centre, centre + step]], grey[[centre - step, centre, centre + step]],
                     step)
    return sorted(found, key=lambda seen: -seen.area)


def _at(frames: NDArray[np.uint8], grey: Floats, step: int) -> list[Seen]:
    """What moves in the second of three frames that lie ``step`` frames apart; ``grey`` is their reduced luma."""
    before, now, after = grey
    motion, gain, motion_back, gain_back = *_motion(now, after), *_motion(now, before)
    excess = 2e-4
    speed, speed_back = np.hypot(*np.moveaxis(motion, -1, 0)), np.hypot(*np.moveaxis(motion_back, -1, 0))
    moves = (gain > excess) & (gain_back > excess) & (speed > 0.3) & (speed_back > 0.3)
    moves = binary_fill_holes(binary_closing(np.pad(moves, 4), np.ones((3, 3)), iterations=2)[4:-4, 4:-4])
    moves = binary_opening(moves, np.ones((3, 3)))
    velocity = np.asarray((motion - motion_back) / (2 * step), np.float32)
    strength = gain + gain_back
    names, count = label(moves)
    parts = [_core(names == name, np.minimum(gain, gain_back)) for name in range(1, count + 1)]
    seen = [_named(frames, mask, velocity, strength) for mask in _joined(parts, velocity, strength)]
    return [one for one in seen if one.height_m < _TALLEST_M]


def _joined(parts: list[Mask], velocity: Floats, strength: Floats) -> list[Mask]:
    """Regions of at least 25 pixels; those side by side that cross at one speed are one, with all that lies between: a
    plain flank looks the same wherever it is, so that only its ends are seen to move."""
    whole: list[Mask] = []
    for mask in sorted((part for part in parts if part.sum() >= 25), key=lambda part: int(np.nonzero(part)[1].min())):
        for place, other in enumerate(whole):
            drifts = [float(np.average(velocity[one][:, 0], weights=strength[one])) for one in (other, mask)]
            rows = [np.nonzero(one.any(1))[0][[0, -1]] for one in (other, mask)]
            common = min(rows[0][1], rows[1][1]) - max(rows[0][0], rows[1][0]) + 1
            tall = min(rows[0][1] - rows[0][0], rows[1][1] - rows[1][0]) + 1
            gap = np.nonzero(mask.any(0))[0][0] - np.nonzero(other.any(0))[0][-1]
            alike = abs(drifts[0] - drifts[1]) < 0.2 * max(abs(drifts[0]), abs(drifts[1]))
            if alike and abs(drifts[0]) > 0.3 and common > 0.5 * tall and gap < 1.5 * tall:
                both = other | mask
                whole[place] = np.logical_or.accumulate(both, 1) & np.logical_or.accumulate(both[:, ::-1], 1)[:, ::-1]
                break
        else:
            whole.append(mask)
    return whole


def _core(mask: Mask, gain: Floats) -> Mask:
    """A moving region without what moves along at a fraction of its contrast: reflections and soft shadows."""
    strong: Mask = mask & (gain > 0.025 * np.percentile(gain[mask], 95))
    strong = binary_closing(np.pad(strong, 4), np.ones((3, 3)), iterations=2)[4:-4, 4:-4]
    strong = binary_opening(binary_fill_holes(strong), np.ones((3, 3)))
    names, count = label(strong)
    if count == 0:
        return strong
    return np.asarray(names == 1 + np.bincount(names.ravel())[1:].argmax())


def _motion(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Motion against the background ``(H, W, 2)``, and by how much it explains the second picture better than the
    background's motion does, ``(H, W)``."""
    costs = match_costs(first, second, _REACH, _WINDOW)
    motion = best_match(costs, 4e-6)
    height, width = first.shape
    texture = np.abs(np.diff(first, axis=1, append=first[:, -1:])) > 0.02
    # A camera that slides moves what is far by one amount and the ground in proportion to its row below the horizon.
    rows = np.maximum(np.arange(height, dtype=np.float32) - _HORIZON * height, 0) / height
    basis = np.stack([np.ones(height, np.float32), rows], axis=1)
    still = texture & (np.abs(motion[..., 1]) < 1) & (np.abs(motion[..., 0]) < 6)
    row_of, target = np.nonzero(still)[0], motion[..., 0][still]
    model = np.zeros(2, np.float32)
    for _ in range(12):
        if len(target) < 20:
            break
        weight = 1 / np.maximum(np.abs(target - basis[row_of] @ model), 0.15)
        system = (basis[row_of] * weight[:, None]).T @ basis[row_of] + np.diag((1e-3, 1.0)) * len(target) * 0.01
        model = np.linalg.solve(system, (basis[row_of] * weight[:, None]).T @ target).astype(np.float32)
    camera = basis @ model
    whole = np.floor(camera).astype(int)
    part = (camera - whole)[:, None]
    index = np.clip(whole + _REACH[0], 0, costs.shape[1] - 2)
    level = costs[_REACH[1]]
    line = np.arange(height)
    background = (1 - part) * level[index, line] + part * level[index + 1, line]
    background = np.minimum(background, np.minimum(level[index, line], level[index + 1, line]))
    gain = background - costs.reshape(-1, height, width).min(0)
    relative = motion - np.stack([np.broadcast_to(camera[:, None], (height, width)), np.zeros((height, width))], -1)
    return relative.astype(np.float32), gain.astype(np.float32)


def _named(frames: NDArray[np.uint8], mask: Mask, velocity: Floats, strength: Floats) -> Seen:
    lines = mask.shape[0]
    rows, columns = np.nonzero(mask)
    y0, y1 = np.percentile(rows, (1.5, 98.5))
    x0, x1 = np.percentile(columns, (1.5, 98.5))
    margin = _WINDOW // 2 * 0.8  # windows that reach over the outline see its motion too
    width, height = max(x1 - x0 + 1 - 2 * margin, 1), max(y1 - y0 + 1 - 2 * margin, 1)
    weight = strength[mask]
    moved = velocity[mask]
    centre = np.asarray(((x0 + x1) / 2, (y0 + y1) / 2))
    offset = np.stack([columns, rows], -1) - centre
    drift = float(np.average(moved[:, 0], weights=weight))
    spread = offset - np.average(offset, axis=0, weights=weight)
    level = moved - np.average(moved, axis=0, weights=weight)
    growth = float((weight[:, None] * spread * level).sum() / max((weight[:, None] * spread**2).sum(), 1e-9))
    below = max(y1 + 1 - margin - _HORIZON * lines, 1.0)
    height_m = height / below * _CAMERA_M
    # What comes straight at the camera drifts away from the middle of the picture as it grows; the rest is crossing.
    crossing = drift - growth * (float(np.average(columns, weights=weight)) - mask.shape[1] / 2)
    direction = _direction(crossing / np.sqrt(width * height), growth)
    kind = _kind(width / height, height_m, direction in ("left", "right"))
    return Seen(_colour(frames, mask), kind, GROUPS[kind], direction, float(mask.mean()), width / lines, height / lines,
                drift / lines, growth, height_m)


def _kind(aspect: float, height_m: float, crosses: bool) -> str:
    if height_m < 1.05 and aspect < 1.7:
        return "ball"
    if aspect < (0.6 if crosses else 0.74):
        return "person"
    if height_m > 2.2:
        return "bus"
    return "bicycle" if crosses and aspect < 1.75 and height_m < 2 else "car"


def _direction(crossing: float, growth: float) -> str:
    if abs(growth) > 0.8 * abs(crossing):
        return "toward" if growth > 0 else "away"
    return "right" if crossing > 0 else "left"


def _colour(frames: NDArray[np.uint8], mask: Mask) -> str:
    """Name of the colour of what moves inside ``mask``, which is smaller than the frames by a whole factor."""
    rows, columns = mask.shape
    factor = frames.shape[1] // rows
    inner = binary_erosion(mask, np.ones((3, 3)))
    inner = inner if inner.sum() >= 12 else mask
    inner = inner.repeat(factor, 0).repeat(factor, 1)
    pixels = frames[:, : rows * factor, : columns * factor][:, inner].astype(np.float32) / 255
    # What is the same before and after is background, seen through or beside the object; unless it is nearly all.
    changed = np.abs(pixels[[0, 2]] - pixels[1]).max(2).min(0) > 0.06
    values = pixels[1][changed] if changed.mean() > 0.15 else pixels[1]
    high, low = values.max(1), values.min(1)
    chroma = high - low
    vivid = (chroma > 0.2) & (chroma > 0.5 * high)
    shares = {name: 0.0 for name, _ in _HUES}
    hue = _hue(values, high, chroma)
    below = 0.0
    for name, limit in _HUES:
        shares[name] += float((vivid & (hue >= below) & (hue < limit)).mean())
        below = limit
    strongest = max(shares, key=lambda name: shares[name])
    dark = float((high < 0.24).mean())
    light = float(((high > 0.58) & (chroma < 0.16)).mean())
    if shares[strongest] > 0.25 or shares[strongest] > max(0.1, 0.4 * light, 0.2 * dark):  # less may be lamps
        return strongest
    if max(light, dark) < 0.1:
        return "grey"
    return "white" if light > 0.5 * dark else "black"


def _hue(values: Floats, high: Floats, chroma: Floats) -> Floats:
    """Hue in degrees of RGB ``(N, 3)`` with given maximum and chroma ``(N,)``."""
    red, green, blue = values.T
    safe = np.maximum(chroma, 1e-6)
    sector = np.where(high == red, (green - blue) / safe % 6,
                      np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4))
    return np.asarray(60 * sector, np.float32)
