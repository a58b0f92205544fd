"""What stands still in the scenes: sky, houses, trees and ground, as layers that a moving camera shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates, zoom

from genwm.tiny.paint import Colour, Floats, Point, Shape, paint

WALLS: tuple[Colour, ...] = ((0.72, 0.66, 0.58), (0.62, 0.55, 0.5), (0.66, 0.67, 0.68), (0.56, 0.5, 0.47),
                             (0.75, 0.72, 0.66), (0.58, 0.6, 0.63))  # fmt: skip
ROOFS: tuple[Colour, ...] = ((0.36, 0.3, 0.29), (0.3, 0.31, 0.34), (0.42, 0.35, 0.32))
LEAVES: tuple[Colour, ...] = ((0.29, 0.38, 0.24), (0.33, 0.4, 0.25), (0.26, 0.34, 0.24))
BARK: Colour = (0.27, 0.22, 0.19)
SNOW: Colour = (0.9, 0.92, 0.95)
HOUSES_M = 24.0  # distance of the row of houses behind a street that runs across the picture
WALL_M = 7.0  # distance of the walls beside a street that runs away from the camera


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks level and may slide sideways.

    Attributes:
        focal: focal length in picture heights.
        height_m: height above the ground.
        horizon: row of the horizon as a fraction of the picture's height.
        speed: metres a second to the right.
    """

    focal: float = 1.7
    height_m: float = 1.6
    horizon: float = 0.42
    speed: float = 0.0

    def scale(self, distance_m: float, height: int) -> float:
        """Pixels a metre at a distance, in pictures of ``height`` rows."""
        return self.focal * height / distance_m

    def ground_row(self, distance_m: float, height: int) -> float:
        """Row in pixels at which the ground lies at a distance."""
        return self.horizon * height + self.scale(distance_m, height) * self.height_m


class Look(NamedTuple):
    """How a weather looks: colours of the sky and of the light, strength of clouds, haze and shadows in [0, 1]."""

    sky_top: Colour
    sky_low: Colour
    clouds: float
    cloud: Colour
    light: Colour
    object_light: Colour
    haze: float
    shadow: float


LOOKS: dict[str, Look] = {
    "sunny": Look((0.28, 0.5, 0.82), (0.72, 0.83, 0.93), 0.35, (0.97, 0.97, 0.98), (1.06, 1.03, 0.96),
                  (1.05, 1.02, 0.98), 0.25, 0.55),
    "cloudy": Look((0.62, 0.65, 0.7), (0.78, 0.8, 0.82), 0.8, (0.8, 0.81, 0.83), (0.86, 0.88, 0.9),
                   (0.92, 0.93, 0.95), 0.35, 0.3),
    "rain": Look((0.36, 0.4, 0.45), (0.52, 0.55, 0.59), 0.7, (0.45, 0.48, 0.52), (0.62, 0.66, 0.7),
                 (0.8, 0.82, 0.85), 0.6, 0.25),
    "snow": Look((0.68, 0.71, 0.75), (0.82, 0.84, 0.86), 0.5, (0.78, 0.8, 0.82), (0.88, 0.9, 0.94),
                 (0.9, 0.91, 0.95), 0.55, 0.22),
    "night": Look((0.02, 0.03, 0.08), (0.09, 0.1, 0.18), 0.3, (0.1, 0.11, 0.17), (0.22, 0.24, 0.32),
                  (0.72, 0.7, 0.72), 0.2, 0.4),
}  # fmt: skip


class Layer(NamedTuple):
    """Part of a backdrop: ``(rows, 2 * columns, channels)`` at twice the picture's columns; RGB, or RGBA premultiplied.

    ``shift`` (rows,) is how many pixels each row moves to the left when the camera moves a metre to the right.
    """

    pixels: Floats
    margin: int
    shift: Floats


class Backdrop:
    """The layers of one street in one weather, for pictures of one size.

    Args:
        layout: 'across' (the street runs from left to right) or 'along' (it runs away from the camera).
        travel_m: how far at most the camera will be from its middle position.
    """

    def __init__(self, camera: Camera, layout: str, weather: str, seed: int, width: int, height: int, travel_m: float
                 ) -> None:
        self._size = height, width
        rng = np.random.default_rng(seed)
        look = LOOKS[weather]
        nearest = camera.focal * camera.height_m / (1 - camera.horizon)
        far_shift = camera.scale(HOUSES_M if layout == "across" else 2 * HOUSES_M, height)
        ground_margin = int(travel_m * camera.scale(nearest, height)) + 2
        far_margin = int(travel_m * far_shift) + 2
        base = min(int(camera.ground_row(HOUSES_M, height)) + 2, height)
        sky = _sky(look, weather, rng, width, height)
        scenery = _scenery(camera, layout, weather, look, rng, width + 2 * far_margin, height)
        ground = _ground(camera, layout, weather, look, rng, width + 2 * ground_margin, height)
        first = height - len(ground)
        rows = np.arange(first, height, dtype=np.float32) + 0.5 - camera.horizon * height
        ground_shift = (rows / camera.height_m).astype(np.float32)
        self._sky = sky
        self._ground = first, Layer(ground, ground_margin, np.maximum(ground_shift, 0))
        rows_used = base if layout == "across" else height
        self._scenery = Layer(scenery[:rows_used], far_margin, np.full(rows_used, far_shift, np.float32))

    def at(self, camera_m: float) -> Floats:
        """The picture from a camera ``camera_m`` metres right of its middle: float32 ``(H, W, 3)`` RGB, near [0, 1]."""
        width = self._size[1]
        picture = self._sky.copy()
        first, ground = self._ground
        picture[first:] = _slid(ground, camera_m, width)
        scenery = _slid(self._scenery, camera_m, width)
        top = picture[: len(scenery)]
        top *= 1 - scenery[..., 3:]
        top += scenery[..., :3]
        return picture


def _slid(layer: Layer, camera_m: float, width: int) -> Floats:
    """A layer as seen from a moved camera. Columns are interpolated at twice the resolution and averaged in pairs, so
    that the sharpness hardly depends on the phase."""
    start = 2 * (layer.margin + layer.shift * np.float32(camera_m))
    whole = np.clip(np.floor(start).astype(np.int64), 0, layer.pixels.shape[1] - 2 * width - 1)
    part = (start - whole).astype(np.float32)[:, None, None]
    if np.ptp(whole) == 0:
        window = layer.pixels[:, whole[0] : whole[0] + 2 * width + 1]
    else:
        columns = whole[:, None] + np.arange(2 * width + 1)
        window = layer.pixels[np.arange(len(whole))[:, None], columns]
    # The mean of two neighbours after interpolation is a weighted sum of three samples.
    left, middle, right = window[:, 0:-1:2], window[:, 1::2], window[:, 2::2]
    blended: Floats = 0.5 * ((1 - part) * left + middle + part * right)
    return blended


def noise(rng: np.random.Generator, rows: int, columns: int, sigmas: tuple[float, ...]) -> Floats:
    """Smooth noise that tiles, ``(rows, columns)``, mean 0 and deviation 1: octaves of Gaussian-filtered noise."""
    total = np.zeros((rows, columns), np.float32)
    for sigma in sigmas:
        octave = gaussian_filter(rng.standard_normal((rows, columns)).astype(np.float32), sigma, mode="wrap")
        total += octave / octave.std()
    scaled: Floats = (total - total.mean()) / total.std()
    return scaled


def _sky(look: Look, weather: str, rng: np.random.Generator, width: int, height: int) -> Floats:
    rows = np.linspace(0, 2, height, dtype=np.float32).clip(0, 1)[:, None, None]
    picture = np.asarray(look.sky_top, np.float32) * (1 - rows) + np.asarray(look.sky_low, np.float32) * rows
    picture = np.repeat(picture, width, axis=1)
    unit = height / 320
    coarse = noise(rng, -(-height // 4), -(-width // 4), (8 * unit, 3.5 * unit, 1.6 * unit))
    field = zoom(coarse, 4, order=1, mode="grid-wrap", grid_mode=True)[:height, :width] * 1.05
    cover = np.clip((field - 1 + 1.6 * look.clouds) / 1.6, 0, 1)[..., None] * 0.85
    picture += cover * (np.asarray(look.cloud, np.float32) - picture)
    if weather == "night":
        paint(picture, [Shape(((rng.uniform(-0.8, 0.8), 0.0),), 0.035, (0.93, 0.92, 0.83), shade=0.0)],
              (width / 2, 0.12 * height), height)
    return picture


def _ground(camera: Camera, layout: str, weather: str, look: Look, rng: np.random.Generator, width: int, height: int
            ) -> Floats:
    """Ground rows from the horizon down, opaque, ``(rows, 2 * width, 3)``."""
    first = int(camera.horizon * height)
    v = (np.arange(first, height, dtype=np.float32) + 0.5 - camera.horizon * height)[:, None]
    z = camera.focal * camera.height_m * height / np.maximum(v, 0.4)
    per_row = np.minimum(z * z / (camera.focal * camera.height_m * height), 60)
    per_column = z / (camera.focal * height)
    x = (np.arange(2 * width, dtype=np.float32) / 2 + 0.25 - width / 2)[None, :] * per_column

    def band(values: Floats, low: float, high: float, blur: Floats) -> Floats:
        edge: Floats = np.clip((values - low) / blur + 0.5, 0, 1) * np.clip((high - values) / blur + 0.5, 0, 1)
        return edge

    def dashes(values: Floats, blur: Floats) -> Floats:
        return np.asarray(np.clip((1.5 - np.abs((values % 5.0) - 2.5)) / blur + 0.5, 0, 1) * np.clip(4 / blur, 0, 1))

    across, along = (z, x) if layout == "across" else (np.abs(x), z)
    blur_across, blur_along = (per_row, per_column) if layout == "across" else (per_column, per_row)
    road, walk, middle = ((7.4, 13.6), (5.0, 16.2), 10.6) if layout == "across" else ((-1.0, 3.6), (-1.0, 5.4), 0.0)
    grass: Colour = (0.42, 0.46, 0.31)
    pavement: Colour = (0.58, 0.56, 0.53)
    asphalt: Colour = (0.34, 0.34, 0.35)
    kerb: Colour = (0.7, 0.69, 0.66)
    if weather == "snow":
        grass, pavement, asphalt, kerb = SNOW, (0.82, 0.84, 0.87), (0.6, 0.61, 0.64), (0.86, 0.87, 0.9)
    if weather == "rain":
        asphalt, pavement = (0.27, 0.28, 0.3), (0.45, 0.44, 0.43)
    ground = np.broadcast_to(np.asarray(grass, np.float32), (*np.broadcast_shapes(x.shape, z.shape), 3)).copy()

    def fill(cover: Floats, colour: Colour, opacity: float = 1.0) -> None:
        nonlocal ground
        ground += (opacity * cover)[..., None] * (np.asarray(colour, np.float32) - ground)

    fill(band(across, walk[0] if layout == "along" else 0.0, walk[1], blur_across), pavement)
    joints = np.clip((0.03 - np.abs((along % 1.2) - 0.6)) / blur_along + 0.5, 0, 1) * np.clip(0.1 / blur_along, 0, 1)
    fill(joints * band(across, *walk, blur_across), (0.36, 0.35, 0.33), 0.5)
    fill(band(across, road[0] - 0.18, road[1] + 0.18, blur_across), kerb)
    fill(band(across, *road, blur_across), asphalt)
    line = band(across, middle - 0.09, middle + 0.09, blur_across)
    fill(line * dashes(along, blur_along), (0.86, 0.86, 0.82), 0.85 if weather != "snow" else 0.2)
    if weather == "snow":
        for centre in (9.2, 12.2) if layout == "across" else (1.0, 2.6):
            for side in (-0.7, 0.7) if layout == "across" else (0.0,):
                fill(band(across, centre + side - 0.16, centre + side + 0.16, np.maximum(blur_across, 0.15)),
                     (0.42, 0.43, 0.46), 0.55)
    tile = noise(rng, 256, 256, (1.0, 3.0, 9.0))
    where = np.stack([np.broadcast_to(z * 9, ground.shape[:2]), np.broadcast_to(x * 9, ground.shape[:2])])
    grain = map_coordinates(tile, where, order=1, mode="grid-wrap") * np.clip(0.12 / per_column, 0, 1) / (1 + per_row)
    broad = map_coordinates(tile, where / 12, order=1, mode="grid-wrap") / (1 + 0.3 * per_row)
    ground *= (1 + 0.035 * grain + 0.05 * broad)[..., None]
    ground *= np.asarray(look.light, np.float32)
    if weather == "rain":  # a wet street mirrors the sky
        ground += (np.clip(0.18 + z / 90 + 0.06 * broad, 0, 0.5))[..., None] * (np.asarray(look.sky_low) - ground)
    if weather == "night":
        pools = 0.5 + 0.5 * np.cos(2 * np.pi * (along - 2.0) / 9.0)
        ground *= (1 + 0.9 * pools * np.exp(-z / 30))[..., None] * np.asarray((1.1, 1.0, 0.85), np.float32)
    fog = (look.haze * (1 - np.exp(-z / 45)))[..., None]
    ground += fog * (np.asarray(look.sky_low, np.float32) - ground)
    return ground


def _scenery(camera: Camera, layout: str, weather: str, look: Look, rng: np.random.Generator, width: int, height: int
             ) -> Floats:
    """Houses, trees and lamps before the sky, ``(height, 2 * width, 4)``."""
    half = width / height / 2
    shapes = (_row_of_houses if layout == "across" else _street_of_houses)(camera, weather, rng, half)
    canvas = np.zeros((2 * height, 2 * width, 4), np.float32)
    paint(canvas, shapes, (width, 2 * camera.horizon * height), 2 * height, light=look.light)
    canvas = np.asarray((canvas[::2] + canvas[1::2]) / 2, np.float32)
    unit = height / 320
    texture = 1 + 0.03 * noise(rng, height, 2 * width, (0.7 * unit, 2.5 * unit)) \
        + 0.03 * noise(rng, height, 2 * width, (6 * unit,))
    alpha = canvas[..., 3:].copy()
    haze = np.asarray(look.sky_low, np.float32) * alpha
    canvas[..., :3] = canvas[..., :3] * texture[..., None]
    canvas[..., :3] += 0.45 * look.haze * (haze - canvas[..., :3])
    return canvas


def _project(camera: Camera, x: float, y: float, z: float) -> Point:
    return camera.focal * x / z, camera.focal * (y - camera.height_m) / z


def _pane(weather: str, rng: np.random.Generator) -> tuple[Colour, float]:
    """Colour of a window and its own light."""
    if weather == "night" and rng.random() < 0.4:
        return (0.95, 0.78, 0.42), 0.9
    return (0.22, 0.26, 0.31), 0.0


def _row_of_houses(camera: Camera, weather: str, rng: np.random.Generator, half: float) -> list[Shape]:
    """House fronts behind a street that runs across the picture, in picture heights from the horizon."""
    z = HOUSES_M
    reach = (half + 0.05) * z / camera.focal
    shapes: list[Shape] = []

    def panel(x0: float, y0: float, x1: float, y1: float, colour: Colour, light: float = 0.0, top: float = 0.0) -> None:
        corners = (x0, y0), (x1, y0), (x1 - top, y1), (x0 + top, y1)
        shapes.append(Shape(tuple(_project(camera, x, y, z) for x, y in corners), 0.0, colour, 0.0, 0.06, light))

    shapes += _hills(weather, rng, half)
    x = -reach - rng.uniform(0, 4)
    while x < reach:
        gap = rng.uniform(2.5, 5.0) if rng.random() < 0.45 else 0.0
        if gap:
            shapes += _tree(camera, weather, rng, x + gap / 2, z)
        x += gap
        wide, tall = rng.uniform(5, 9), rng.uniform(3.0, 5.4)
        wall, roof = WALLS[rng.integers(len(WALLS))], ROOFS[rng.integers(len(ROOFS))]
        panel(x, 0.0, x + wide, tall, wall)
        panel(x - 0.2, tall, x + wide + 0.2, tall + rng.uniform(0.9, 1.7), SNOW if weather == "snow" else roof,
              top=rng.uniform(0.3, 1.6))
        columns, floors = int(wide // 1.7), int(tall // 1.9) or 1
        door = rng.integers(columns)
        for column in range(columns):
            centre = x + wide * (column + 0.5) / columns
            for floor in range(floors):
                if floor == 0 and column == door:
                    panel(centre - 0.45, 0.0, centre + 0.45, 1.8, (0.3, 0.22, 0.18))
                    continue
                glass, light = _pane(weather, rng)
                y = 0.75 + floor * tall / floors
                panel(centre - 0.48, y - 0.06, centre + 0.48, y + 1.06, (0.8, 0.79, 0.76))
                panel(centre - 0.4, y, centre + 0.4, y + 1.0, glass, light)
        x += wide
    for place in np.arange(-reach + rng.uniform(0, 9), reach, 9.0):
        shapes += _lamp_post(camera, weather, float(place), z - 4)
    return shapes


def _street_of_houses(camera: Camera, weather: str, rng: np.random.Generator, half: float) -> list[Shape]:
    """House walls on both sides of a street that runs away from the camera."""
    shapes = _hills(weather, rng, half)
    nearest = max(WALL_M * camera.focal / (half + 0.1), 6.0)
    for side in (-1, 1):
        spans = []
        z = nearest - rng.uniform(0, 6)
        while z < 75:
            deep = rng.uniform(6, 11)
            spans.append((max(z, 4.0), z + deep, rng.random() < 0.8))
            z += deep
        for near, far, built in reversed(spans):
            def panel(z0: float, y0: float, z1: float, y1: float, colour: Colour, light: float = 0.0) -> None:
                corners = [_project(camera, side * WALL_M, y, z) for z, y in ((z0, y0), (z1, y0), (z1, y1), (z0, y1))]  # noqa: B023
                points = corners if side < 0 else corners[::-1]  # noqa: B023
                shapes.append(Shape(tuple(points), 0.0, colour, 0.0, 0.06, light))

            if not built:
                shapes.extend(_tree(camera, weather, rng, side * (WALL_M + 1), (near + far) / 2))
                continue
            tall = rng.uniform(3.2, 6.0)
            wall = WALLS[rng.integers(len(WALLS))]
            roof = SNOW if weather == "snow" else ROOFS[rng.integers(len(ROOFS))]
            # The gable that looks at the camera, then the wall beside the street.
            gable = [_project(camera, side * x, y, near) for x, y in
                     ((WALL_M, 0.0), (WALL_M + 9, 0.0), (WALL_M + 9, tall), (WALL_M + 4.5, tall + 2.2), (WALL_M, tall))]
            shapes.append(Shape(tuple(gable if side > 0 else gable[::-1]), 0.0,
                                (wall[0] * 0.85, wall[1] * 0.85, wall[2] * 0.85), shade=0.06))
            panel(near, 0.0, far, tall, wall)
            ridge = [_project(camera, side * x, y, z) for x, y, z in
                     ((WALL_M - 0.2, tall, near), (WALL_M - 0.2, tall, far), (WALL_M + 4, tall + 2, far),
                      (WALL_M + 4, tall + 2, near))]
            shapes.append(Shape(tuple(ridge if side < 0 else ridge[::-1]), 0.0, roof, shade=0.06))
            columns, floors = int((far - near) // 2.0), int(tall // 1.9) or 1
            for column in range(columns):
                for floor in range(floors):
                    glass, light = _pane(weather, rng)
                    z0 = near + (far - near) * (column + 0.28) / columns
                    z1 = near + (far - near) * (column + 0.72) / columns
                    y = 0.75 + floor * tall / floors
                    panel(z0, y, z1, y + 1.1, glass, light)
        for z in (40.0, 28.0, 20.0):
            if rng.random() < 0.5:
                shapes.extend(_tree(camera, weather, rng, side * 6.2, z))
            else:
                shapes.extend(_lamp_post(camera, weather, side * 5.6, z))
    return shapes


def _hills(weather: str, rng: np.random.Generator, half: float) -> list[Shape]:
    """Low hills on the horizon, which close the gaps between houses."""
    colour = (0.45, 0.5, 0.5) if weather != "snow" else (0.72, 0.75, 0.78)
    hills = []
    for _ in range(5):
        x, wide, tall = rng.uniform(-half, half), rng.uniform(0.25, 0.5), rng.uniform(0.04, 0.1)
        hills.append(Shape(((x - wide, -0.01), (x + wide, -0.01), (x + 0.35 * wide, tall), (x - 0.3 * wide, tall)), 0.0,
                           colour, shade=0.06))
    return hills


def _tree(camera: Camera, weather: str, rng: np.random.Generator, x: float, z: float) -> list[Shape]:
    tall = rng.uniform(3.4, 5.0)
    unit = camera.focal / z
    shapes = [Shape((_project(camera, x, 0.0, z), _project(camera, x, 0.7 * tall, z)), 0.14 * unit, BARK)]
    for _ in range(9):
        leaf = LEAVES[rng.integers(len(LEAVES))]
        if weather == "snow":
            leaf = (0.8, 0.83, 0.86) if rng.random() < 0.6 else (0.45, 0.47, 0.46)
        spot = _project(camera, x + rng.uniform(-0.9, 0.9), tall * rng.uniform(0.58, 1.0), z)
        shapes.append(Shape((spot,), rng.uniform(0.45, 0.85) * unit, leaf, shade=0.25))
    return shapes


def _lamp_post(camera: Camera, weather: str, x: float, z: float) -> list[Shape]:
    unit = camera.focal / z
    pole = Shape((_project(camera, x, 0.0, z), _project(camera, x, 3.9, z)), 0.06 * unit, (0.25, 0.26, 0.27))
    lit = 1.0 if weather == "night" else 0.0
    lamps = [Shape((_project(camera, x, 3.95, z),), 0.2 * unit, (1.0, 0.93, 0.72) if lit else (0.6, 0.6, 0.58),
                   light=lit)]
    if lit:
        lamps = [Shape((_project(camera, x, 3.95, z),), r * unit, (1.0, 0.85, 0.55), light=1.0, opacity=0.1)
                 for r in (1.1, 0.8, 0.55, 0.4)] + lamps
    return [pole, *lamps]


