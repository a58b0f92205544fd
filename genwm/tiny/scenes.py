"""Street scenes: what is in them, a caption in plain English, and frames with boxes, all from a seed.

The world is in metres before a pinhole camera: x to the right, y up, z away. Everything is drawn from signed distances
or shifted by interpolation, so motion is smooth below a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import copysign, exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from genwm.errors import InputError
from genwm.tiny.backdrop import LOOKS, Backdrop, Camera, Look
from genwm.tiny.figures import SIZES, figure
from genwm.tiny.paint import Colour, Floats, extent, glow, paint, shadow

COLOURS: dict[str, Colour] = {
    "red": (0.8, 0.1, 0.11), "blue": (0.1, 0.27, 0.78), "green": (0.08, 0.56, 0.22), "yellow": (0.95, 0.8, 0.1),
    "white": (0.93, 0.93, 0.92), "black": (0.09, 0.09, 0.1), "orange": (0.95, 0.46, 0.06), "purple": (0.5, 0.16, 0.64),
}  # fmt: skip
KINDS = tuple(SIZES)
DIRECTIONS = ("left", "right", "toward", "away")
WEATHERS = tuple(LOOKS)
LAYOUTS = ("across", "along")

#: Metres a second across the picture; metres a second towards or away from the camera.
SPEEDS = {"car": ((3.2, 5.0), (5.0, 8.0)), "bus": ((3.0, 4.4), (5.0, 7.5)), "person": ((1.3, 2.0), (1.6, 2.3)),
          "ball": ((1.6, 2.8), (2.2, 3.6)), "bicycle": ((2.2, 3.4), (0.0, 0.0))}  # fmt: skip
#: Distance in metres of what moves across the picture at the near and the far place.
DISTANCES = {"car": (9.0, 12.2), "bus": (9.6, 12.4), "person": (6.6, 10.5), "ball": (6.4, 9.2), "bicycle": (7.6, 11.4)}
#: Distance in the middle of the clip, and metres beside the middle, of what moves towards or away.
DEPTHS = {"car": (11.0, 1.8), "bus": (14.0, 2.0), "person": (7.4, 1.4), "ball": (6.4, 1.0)}


@dataclass(frozen=True)
class Mover:
    """One moving object.

    Attributes:
        kind: a name in `KINDS`;  colour: a name in `COLOURS`.
        direction: where it goes: 'left', 'right', 'toward' (the camera) or 'away'; a bicycle goes left or right.
        place: 'near' or 'far' for what goes left or right, else 'left' or 'right'.
        speed: metres a second.
        x_m, z_m: where it is in the middle of the clip, metres right of and before the camera.
        phase_m: metres that it has travelled before; the position of wheels and legs.
        paint: RGB in [0, 1].
    """

    kind: str
    colour: str
    direction: str
    place: str
    speed: float
    x_m: float
    z_m: float
    phase_m: float
    paint: Colour

    @property
    def crosses(self) -> bool:
        return self.direction in ("left", "right")

    def at(self, time_s: float) -> tuple[float, float]:
        """x and z in metres, ``time_s`` seconds from the middle of the clip."""
        if self.crosses:
            return self.x_m + (self.speed if self.direction == "right" else -self.speed) * time_s, self.z_m
        # The size changes by the same factor in each second, so nothing ever passes through the camera.
        sense = -1 if self.direction == "toward" else 1
        return self.x_m, self.z_m * exp(sense * self.speed * time_s / self.z_m)


@dataclass(frozen=True)
class Scene:
    """What is in a clip.

    Attributes:
        weather: a name in `WEATHERS`;  layout: 'across' or 'along', how the street runs in the picture.
        movers: what moves; the first is what a caption speaks of first.
        camera: where it stands and how fast it slides.
        seed: of houses, trees, textures, and rain or snow.
    """

    weather: str
    layout: str
    movers: tuple[Mover, ...]
    camera: Camera
    seed: int

    @staticmethod
    def sample(rng: np.random.Generator) -> Scene:
        """A random scene with 1 to 3 moving objects."""
        kind = str(rng.choice(KINDS, p=(0.27, 0.15, 0.25, 0.17, 0.16)))
        direction = str(rng.choice(DIRECTIONS[:2] if kind == "bicycle" else DIRECTIONS))
        small = kind in ("person", "ball", "bicycle")
        crossing = direction in ("left", "right")
        layout = "across" if crossing and not (small and rng.random() < 0.25) else "along"
        camera = Camera(float(rng.uniform(1.64, 1.76)), float(rng.uniform(1.52, 1.68)), float(rng.uniform(0.4, 0.44)),
                        float(rng.choice([-1, 1]) * rng.uniform(0.12, 0.4)) if rng.random() < 0.4 else 0.0)
        if layout == "along":
            camera = replace(camera, speed=camera.speed / 3)
        movers = [_mover(rng, kind, direction, layout, ())]
        for _ in range(int(rng.choice(3, p=(0.7, 0.24, 0.06)))):
            other = str(rng.choice(KINDS if layout == "across" else ("car", "person", "ball", "bus")))
            way = str(rng.choice(DIRECTIONS[:2] if layout == "across" or other == "bicycle" else DIRECTIONS[2:]))
            found = (_mover(rng, other, way, layout, tuple(movers)) for _ in range(8))
            movers += [mover for mover in found if _all_seen([*movers, mover])][:1]
        return Scene(str(rng.choice(WEATHERS)), layout, tuple(movers), camera, int(rng.integers(2**31)))


def _mover(rng: np.random.Generator, kind: str, direction: str, layout: str, others: tuple[Mover, ...]) -> Mover:
    crosses = direction in ("left", "right")
    slow, fast = SPEEDS[kind][0 if crosses else 1]
    taken = {other.place for other in others}
    places = ("near", "far") if crosses else ("left", "right")
    free = [place for place in places if place not in taken] or list(places)
    place = str(rng.choice(free, p=(0.65, 0.35) if crosses and len(free) == 2 else None))
    if crosses:
        z = DISTANCES[kind][places.index(place)] * rng.uniform(0.97, 1.03) + (0.8 if layout == "along" else 0.0)
        x = rng.uniform(-0.06, 0.06) * z
    else:
        z, beside = DEPTHS[kind]
        z *= rng.uniform(0.94, 1.06)
        x = beside * rng.uniform(0.85, 1.15) * (-1 if place == "left" else 1)
    colour = str(rng.choice([name for name in COLOURS if name not in {other.colour for other in others}]))
    tint = np.clip(np.asarray(COLOURS[colour]) * rng.uniform(0.9, 1.06) + rng.uniform(-0.02, 0.02, 3), 0.03, 1)
    return Mover(kind, colour, direction, place, float(rng.uniform(slow, fast)), float(x), float(z),
                 float(rng.uniform(0, 3)), (float(tint[0]), float(tint[1]), float(tint[2])))


def _all_seen(movers: list[Mover]) -> bool:
    """Whether none is mostly hidden behind another, early, in the middle, and late."""
    for time_s in (-0.4, 0.0, 0.4):
        spans = []
        for mover in movers:
            x, z = mover.at(time_s)
            wide = SIZES[mover.kind][0 if mover.crosses else 1] / 2
            spans.append((z, (x - wide) / z, (x + wide) / z, SIZES[mover.kind][2] / z))
        for z, low, high, tall in spans:
            for other_z, other_low, other_high, other_tall in spans:
                overlap = min(high, other_high) - max(low, other_low)
                if other_z < z and overlap > 0.5 * (high - low) and other_tall > 0.6 * tall:
                    return False
    return True


class Box(NamedTuple):
    """One object in one frame: pixels from the upper left corner, x1 and y1 exclusive, clipped to the frame."""

    kind: str
    colour: str
    x0: float
    y0: float
    x1: float
    y1: float
    track: int


class Rendered(NamedTuple):
    """uint8 ``(N, H, W, 3)`` RGB frames, and for each frame the boxes of what is at least 4 pixels wide and high."""

    frames: NDArray[np.uint8]
    boxes: list[list[Box]]


def render(scene: Scene, frames: int = 25, width: int = 512, height: int = 320, fps: float = 25.0) -> Rendered:
    """Draws a scene.

    Args:
        frames: 1 or more;  width, height: pixels, 64 or more;  fps: frames a second.

    Raises:
        InputError: a size, count or rate out of range.
    """
    if frames < 1 or min(width, height) < 64 or not fps > 0:
        raise InputError(f"Expected 1 frame or more of at least 64 x 64 pixels at a positive rate, got {frames} of "
                         f"{width} x {height} at {fps:g}; choose larger values.")
    look, camera = LOOKS[scene.weather], scene.camera
    half_s = (frames - 1) / fps / 2
    make = _backdrop if camera.speed == 0 else _backdrop.__wrapped__  # what slides is seldom asked for twice
    backdrop, still = make(camera, scene.layout, scene.weather, scene.seed, width, height, abs(camera.speed) * half_s)
    particles = _particles(scene, width, height)
    result = np.empty((frames, height, width, 3), np.uint8)
    boxes = []
    for index in range(frames):
        time_s = index / fps - half_s
        picture = still.copy() if camera.speed == 0 else backdrop.at(camera.speed * time_s)
        found = []
        for track, mover in sorted(enumerate(scene.movers), key=lambda pair: -pair[1].at(time_s)[1]):
            box = _draw(picture, mover, track, scene, look, time_s)
            if box.x1 - box.x0 >= 4 and box.y1 - box.y0 >= 4:
                found.append(box)
        particles.fall(picture, time_s)
        np.multiply(picture, 255, out=picture)
        result[index] = np.clip(picture, 0, 255, out=picture) + 0.5
        boxes.append(sorted(found, key=lambda box: box.track))
    return Rendered(result, boxes)


@lru_cache(maxsize=64)
def _backdrop(camera: Camera, layout: str, weather: str, seed: int, width: int, height: int, travel_m: float
              ) -> tuple[Backdrop, Floats]:
    """The backdrop, and the picture of it from the middle position."""
    backdrop = Backdrop(camera, layout, weather, seed, width, height, travel_m)
    return backdrop, backdrop.at(0.0)


def _draw(picture: Floats, mover: Mover, track: int, scene: Scene, look: Look, time_s: float) -> Box:
    height, width, _ = picture.shape
    camera = scene.camera
    x, z = mover.at(time_s)
    scale = camera.scale(z, height)
    origin = width / 2 + (x - camera.speed * time_s) * scale, camera.ground_row(z, height)
    facing = {"toward": "front", "away": "back"}.get(mover.direction, "side")
    travelled = mover.phase_m + mover.speed * time_s
    shapes = figure(mover.kind, facing, mover.paint, travelled)
    left, bottom, right, top = extent(shapes)
    mirrored = mover.direction == "left"
    if mirrored:
        left, right = -right, -left
    lean = 0.25 if scene.weather == "sunny" else 0.0
    wide, middle = (right - left) / 2, (left + right) / 2
    shadow(picture, (origin[0] + (middle + lean * wide) * scale, origin[1]),
           (1.02 * wide * scale, max(0.1 * wide, 0.12) * scale), look.shadow)
    if scene.weather == "rain":
        paint(picture, shapes, origin, scale, light=look.object_light, mirrored=mirrored, reflected=True, opacity=0.14)
    paint(picture, shapes, origin, scale, light=look.object_light, mirrored=mirrored)
    if scene.weather == "night" and mover.kind in ("car", "bus") and mover.direction != "away":
        lamps = [(copysign(right, -1.0) if mirrored else right, 0.7)]
        if facing == "front":
            lamps = [(0.75 * left, 0.7), (0.75 * right, 0.7)]
        for lamp_x, lamp_y in lamps:
            glow(picture, (origin[0] + lamp_x * scale, origin[1] - lamp_y * scale), (0.7 * scale, 0.5 * scale),
                 (0.5, 0.46, 0.33))
    x0, x1 = np.clip([origin[0] + left * scale, origin[0] + right * scale], 0, width)
    y0, y1 = np.clip([origin[1] - top * scale, origin[1] - bottom * scale], 0, height)
    return Box(mover.kind, mover.colour, float(x0), float(y0), float(x1), float(y1), track)


class _Particles:
    """Rain drops or snow flakes: places (N, 2) and speeds (N, 2) in picture heights (and a second), and their look."""

    def __init__(self, places: Floats, speeds: Floats, streak_s: float, blur: float, colour: Colour, opacity: float
                 ) -> None:
        self._places, self._speeds, self._streak_s = places, speeds, streak_s
        self._blur, self._colour, self._opacity = blur, np.asarray(colour, np.float32), opacity

    def fall(self, picture: Floats, time_s: float) -> None:
        """Adds the particles to ``picture`` in place, each smeared over the time that the shutter is open."""
        if not len(self._places):
            return
        height, width, _ = picture.shape
        span = np.asarray([width / height + 0.2, 1.2])
        start = (self._places + self._speeds * time_s) % span - 0.1
        steps = np.linspace(0, self._streak_s, 12)[:, None, None]
        points = ((start + steps * self._speeds) * height).reshape(-1, 2)
        veil = np.zeros((height + 2, width + 2), np.float32)
        points = points[((points >= 0) & (points < (width, height))).all(1)]
        corner = points.astype(np.int64)
        part = points - corner
        for dx in (0, 1):
            for dy in (0, 1):
                weight = np.abs(1 - dx - part[:, 0]) * np.abs(1 - dy - part[:, 1])
                np.add.at(veil, (corner[:, 1] + dy, corner[:, 0] + dx), weight.astype(np.float32))
        veil = gaussian_filter(veil, self._blur * height / 320)[:height, :width]
        cover = np.clip(veil * self._opacity, 0, 0.85)[..., None]
        picture += cover * (self._colour - picture)


def _particles(scene: Scene, width: int, height: int) -> _Particles:
    rng = np.random.default_rng([scene.seed, 1])
    aspect = width / height + 0.2
    count = {"rain": 130, "snow": 110}.get(scene.weather, 0)
    places = rng.uniform(0, 1, (count, 2)) * (aspect, 1.2)
    unit = (height / 320) ** 2
    if scene.weather == "rain":
        speeds = np.stack([np.full(count, -0.25), rng.uniform(2.0, 2.8, count)], axis=1)
        return _Particles(places.astype(np.float32), speeds.astype(np.float32), 0.022, 0.7, (0.82, 0.86, 0.9),
                          0.35 * unit)
    speeds = np.stack([rng.uniform(-0.12, 0.06, count), rng.uniform(0.22, 0.5, count)], axis=1)
    return _Particles(places.astype(np.float32), speeds.astype(np.float32), 0.004, 1.3, (0.97, 0.98, 1.0), 0.75 * unit)


_ARTICLES = {"orange": "an"}
_NOUNS = {
    "car": ("{a} {colour} car",),
    "bus": ("{a} {colour} bus",),
    "person": ("a person in {colour}", "a person in {a} {colour} coat", "a man in {a} {colour} jacket",
               "a woman in {a} {colour} coat", "a pedestrian in {colour}", "someone in {a} {colour} jacket"),
    "ball": ("{a} {colour} ball", "a big {colour} ball"),
    "bicycle": ("{a} {colour} bicycle", "{a} {colour} bike", "a cyclist in {colour} on {a} {colour} bike"),
}  # fmt: skip
_VERBS = {
    "car": (("drives", "driving"), ("moves", "moving"), ("goes", "going")),
    "bus": (("drives", "driving"), ("moves", "moving"), ("goes", "going")),
    "person": (("walks", "walking"), ("goes", "going"), ("moves", "moving")),
    "ball": (("rolls", "rolling"), ("moves", "moving")),
    "bicycle": (("rides", "riding"), ("goes", "going"), ("moves", "moving")),
}
_WAYS = {
    "left": ("left", "to the left", "from right to left", "towards the left"),
    "right": ("right", "to the right", "from left to right", "towards the right"),
    "toward": ("toward the camera", "towards the camera", "towards us", "closer"),
    "away": ("away from the camera", "away", "into the distance", "away from us"),
}
_WEATHER_WORDS = {
    "sunny": ("in the sun", "on a sunny day", "under a blue sky", "in sunny weather"),
    "cloudy": ("on a cloudy day", "under a cloudy sky", "under a grey sky", "in cloudy weather"),
    "rain": ("in the rain", "on a rainy day", "on a wet street", "in rainy weather"),
    "snow": ("in the snow", "on a snowy day", "in winter", "in snowy weather"),
    "night": ("at night", "in the dark", "on a dark night", "at night under street lamps"),
}
_PLACES = {
    ("car", "near"): "in the near lane", ("car", "far"): "in the far lane", ("person", "near"): "on the near side",
    ("person", "far"): "on the far side", ("", "left"): "on the left side of the street",
    ("", "right"): "on the right side of the street",
}  # fmt: skip
_CAMERA_WORDS = {-1: ("the camera moves slowly to the left",), 0: ("the camera stands still", "a still camera"),
                 1: ("the camera moves slowly to the right",)}  # fmt: skip
_OPENINGS = ("", "a video of ", "a street where ", "a scene with ")


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """What is to be seen, in lower-case English without full stops; word order and detail vary with ``rng``."""

    def pick(options: tuple[str, ...]) -> str:
        return str(options[int(rng.integers(len(options)))])

    def noun(mover: Mover) -> str:
        return pick(_NOUNS[mover.kind]).format(a=_ARTICLES.get(mover.colour, "a"), colour=mover.colour)

    def place(mover: Mover) -> str:
        group = "" if not mover.crosses else "car" if mover.kind in ("car", "bus", "bicycle") else "person"
        return " " + _PLACES[group, mover.place] if rng.random() < 0.35 else ""

    def clause(mover: Mover, participle: bool) -> str:
        verb = _VERBS[mover.kind][int(rng.integers(len(_VERBS[mover.kind])))][participle]
        way = pick(_WAYS[mover.direction])
        if way in ("left", "right") and rng.random() < 0.2:
            return f"{noun(mover)} {verb}{place(mover)} {way}"
        return f"{noun(mover)} {verb} {way}{place(mover)}"

    opening = pick(_OPENINGS) if rng.random() < 0.3 else ""
    participle = opening in ("a video of ", "a scene with ") or rng.random() < 0.2
    movers = scene.movers if rng.random() < 0.9 else scene.movers[:1]
    text = pick((" and ", " while ")).join(clause(mover, participle) for mover in movers) if len(movers) < 3 \
        else ", ".join(clause(mover, participle) for mover in movers[:2]) + f" and {clause(movers[2], participle)}"
    text = opening + text
    if rng.random() < 0.85:
        weather = pick(_WEATHER_WORDS[scene.weather])
        text = f"{weather}, {text}" if rng.random() < 0.25 else f"{text} {weather}"
    if rng.random() < 0.25:
        side = 0 if scene.camera.speed == 0 else int(copysign(1, scene.camera.speed))
        text = f"{text}, {pick(_CAMERA_WORDS[side])}"
    return text


def vocabulary() -> list[str]:
    """Every word that a caption can contain, sorted."""
    phrases = [*COLOURS, *_ARTICLES.values(), *_OPENINGS, "and while ,", *_PLACES.values()]
    for options in (*_NOUNS.values(), *_WAYS.values(), *_WEATHER_WORDS.values(), *_CAMERA_WORDS.values()):
        phrases += options
    for verbs in _VERBS.values():
        phrases += [form for pair in verbs for form in pair]
    text = " ".join(phrases).replace("{a}", "a").replace("{colour}", "").replace(",", " , ")
    return sorted(set(text.split()))
