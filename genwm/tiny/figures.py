"""What moves in the scenes: lists of shapes in metres, facing right, the origin on the ground below the middle."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

from genwm.tiny.paint import Colour, Shape, box

TYRE: Colour = (0.07, 0.07, 0.08)
RIM: Colour = (0.62, 0.64, 0.67)
GLASS: Colour = (0.16, 0.22, 0.28)
TROUSERS: Colour = (0.17, 0.18, 0.25)
SHOES: Colour = (0.12, 0.1, 0.09)
SKIN: Colour = (0.78, 0.58, 0.46)
HAIR: Colour = (0.2, 0.13, 0.09)
LAMP: Colour = (1.0, 0.95, 0.75)
REAR_LAMP: Colour = (0.75, 0.08, 0.06)
TRIM: Colour = (0.13, 0.13, 0.15)

#: Length across the picture when seen from the side, width when seen from the front or back, and height, in metres.
SIZES = {"car": (4.2, 1.85, 1.5), "bus": (7.6, 2.5, 3.0), "person": (0.8, 0.65, 1.78), "ball": (0.8, 0.8, 0.8),
         "bicycle": (1.75, 0.7, 1.72)}  # fmt: skip


def dim(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def figure(kind: str, facing: str, colour: Colour, travelled: float) -> list[Shape]:
    """Shapes of one object.

    Args:
        kind: a key of `SIZES`.
        facing: 'side', 'front' or 'back'; a bicycle is drawn from the side only.
        colour: RGB in [0, 1] of what gives the object its colour.
        travelled: metres since some start; turns wheels and balls, and moves legs.
    """
    return _FIGURES[kind, facing](colour, travelled)


def _wheel(x: float, radius: float, travelled: float) -> list[Shape]:
    angle = -travelled / radius
    spokes = [Shape(((x - 0.5 * radius * cos(a), radius - 0.5 * radius * sin(a)),
                     (x + 0.5 * radius * cos(a), radius + 0.5 * radius * sin(a))), 0.07 * radius, dim(RIM, 0.55))
              for a in (angle, angle + pi / 2)]
    return [Shape(((x, radius),), radius, TYRE, shade=0.1), Shape(((x, radius),), 0.62 * radius, RIM), *spokes]


def _car_side(colour: Colour, travelled: float) -> list[Shape]:
    return [
        Shape(((-1.55, 0.85), (1.3, 0.85), (0.55, 1.38), (-0.95, 1.38)), 0.1, colour, shade=0.12),
        box(-2.1, 0.28, 2.1, 0.98, colour, round_by=0.2, shade=0.22),
        Shape(((-1.38, 0.93), (-0.32, 0.93), (-0.32, 1.35), (-0.9, 1.35)), 0.02, GLASS, shade=0.45),
        Shape(((-0.18, 0.93), (1.12, 0.93), (0.5, 1.35), (-0.18, 1.35)), 0.02, GLASS, shade=0.45),
        box(-2.0, 0.26, 2.0, 0.38, TRIM, round_by=0.05),
        Shape(((-0.25, 0.42), (-0.25, 0.9)), 0.012, dim(colour, 0.6)),
        Shape(((-0.55, 0.8), (-0.38, 0.8)), 0.02, dim(colour, 0.6)),
        box(1.86, 0.64, 2.08, 0.8, LAMP, round_by=0.06, light=0.8),
        box(-2.09, 0.66, -1.93, 0.84, REAR_LAMP, round_by=0.05, light=0.5),
        *_wheel(-1.3, 0.34, travelled),
        *_wheel(1.3, 0.34, travelled),
    ]


def _car_end(colour: Colour, front: bool) -> list[Shape]:
    shapes = [
        box(-0.85, 0.0, -0.55, 0.5, TYRE, round_by=0.06),
        box(0.55, 0.0, 0.85, 0.5, TYRE, round_by=0.06),
        Shape(((-0.78, 0.85), (0.78, 0.85), (0.58, 1.4), (-0.58, 1.4)), 0.09, colour, shade=0.12),
        box(-0.92, 0.25, 0.92, 0.96, colour, round_by=0.18, shade=0.22),
        Shape(((-0.7, 0.96), (0.7, 0.96), (0.54, 1.36), (-0.54, 1.36)), 0.02, GLASS, shade=0.45),
        box(-0.8, 0.24, 0.8, 0.4, TRIM, round_by=0.06),
    ]
    if front:
        lamps = [Shape(((s * 0.68, 0.68),), 0.12, LAMP, light=0.8) for s in (-1, 1)]
        return [*shapes, box(-0.4, 0.5, 0.4, 0.68, TRIM, round_by=0.05), *lamps]
    lamps = [box(s * 0.74 - 0.13, 0.66, s * 0.74 + 0.13, 0.8, REAR_LAMP, round_by=0.04, light=0.5) for s in (-1, 1)]
    return [*shapes, box(-0.25, 0.5, 0.25, 0.62, (0.85, 0.85, 0.8), round_by=0.02), *lamps]


def _bus_side(colour: Colour, travelled: float) -> list[Shape]:
    panes = [box(-3.55 + 1.12 * i, 1.55, -2.57 + 1.12 * i, 2.45, GLASS, round_by=0.08, shade=0.4) for i in range(6)]
    return [
        box(-3.8, 0.32, 3.8, 2.95, colour, round_by=0.22, shade=0.16),
        box(-3.6, 2.72, 3.6, 2.86, dim(colour, 0.75), round_by=0.05),
        *panes,
        box(3.2, 0.9, 3.72, 2.45, GLASS, round_by=0.1, shade=0.4),
        box(1.98, 0.5, 2.96, 1.45, dim(GLASS, 1.3), round_by=0.06, shade=0.3),
        box(-3.7, 1.15, 1.85, 1.27, dim(colour, 0.65)),
        box(-3.7, 0.3, 3.7, 0.46, TRIM, round_by=0.06),
        box(3.66, 0.6, 3.8, 0.85, LAMP, round_by=0.05, light=0.8),
        box(-3.8, 0.7, -3.68, 1.0, REAR_LAMP, round_by=0.04, light=0.5),
        *_wheel(-2.3, 0.48, travelled),
        *_wheel(1.5, 0.48, travelled),
    ]


def _bus_end(colour: Colour, front: bool) -> list[Shape]:
    shapes = [
        box(-1.15, 0.0, -0.75, 0.6, TYRE, round_by=0.08),
        box(0.75, 0.0, 1.15, 0.6, TYRE, round_by=0.08),
        box(-1.25, 0.3, 1.25, 2.95, colour, round_by=0.2, shade=0.16),
        box(-1.2, 0.3, 1.2, 0.5, TRIM, round_by=0.08),
    ]
    if front:
        lamps = [Shape(((s * 0.92, 0.75),), 0.14, LAMP, light=0.8) for s in (-1, 1)]
        return [*shapes, box(-1.08, 1.3, 1.08, 2.4, GLASS, round_by=0.12, shade=0.4),
                box(-0.7, 2.55, 0.7, 2.78, TRIM, round_by=0.05), *lamps]
    lamps = [box(s * 1.0 - 0.14, 0.75, s * 1.0 + 0.14, 1.05, REAR_LAMP, round_by=0.05, light=0.5) for s in (-1, 1)]
    return [*shapes, box(-0.85, 1.7, 0.85, 2.4, GLASS, round_by=0.12, shade=0.4),
            box(-0.7, 0.8, 0.7, 1.3, dim(colour, 0.8), round_by=0.05), *lamps]


def _person_side(colour: Colour, travelled: float) -> list[Shape]:
    step = sin(2 * pi * travelled / 1.5)
    lift = max(cos(2 * pi * travelled / 1.5), 0.0), max(-cos(2 * pi * travelled / 1.5), 0.0)

    def leg(swing: float, up: float, shade: float) -> list[Shape]:
        foot = 0.34 * swing, 0.07 + 0.1 * up
        knee = 0.17 * swing + 0.1 * up, 0.5 + 0.03 * up
        return [Shape(((0.0, 0.9), knee), 0.09, dim(TROUSERS, shade)), Shape((knee, foot), 0.075, dim(TROUSERS, shade)),
                Shape(((foot[0] - 0.02, foot[1] - 0.02), (foot[0] + 0.13, foot[1] - 0.02)), 0.05, SHOES)]

    def arm(swing: float, shade: float) -> list[Shape]:
        elbow = 0.14 * swing, 1.1
        hand = 0.27 * swing + 0.05, 0.88
        return [Shape(((0.0, 1.38), elbow), 0.065, dim(colour, shade)), Shape((elbow, hand), 0.055, dim(colour, shade)),
                Shape((hand,), 0.055, SKIN)]

    return [
        *arm(step, 0.7),
        *leg(-step, lift[1], 0.75),
        *leg(step, lift[0], 1.0),
        Shape(((-0.09, 0.82), (0.1, 0.82), (0.1, 1.38), (-0.08, 1.38)), 0.12, colour, shade=0.15),
        box(-0.05, 1.44, 0.06, 1.56, SKIN),
        Shape(((0.02, 1.65),), 0.125, SKIN),
        Shape(((-0.03, 1.69), (0.03, 1.71)), 0.105, HAIR),
        *arm(-step, 0.85),
    ]


def _person_end(colour: Colour, travelled: float, front: bool) -> list[Shape]:
    step = sin(2 * pi * travelled / 1.5)
    legs = [shape for side, up in ((-1, max(step, 0.0)), (1, max(-step, 0.0))) for shape in (
        Shape(((side * 0.1, 0.88), (side * 0.1, 0.12 + 0.14 * up)), 0.09, dim(TROUSERS, 1 - 0.25 * up)),
        Shape(((side * 0.11, 0.06 + 0.14 * up),), 0.075, SHOES))]  # fmt: skip
    arms = [shape for side in (-1, 1) for shape in (
        Shape(((side * 0.25, 1.36), (side * 0.29, 0.95 + 0.05 * side * step)), 0.062, dim(colour, 0.85)),
        Shape(((side * 0.29, 0.89 + 0.05 * side * step),), 0.055, SKIN))]  # fmt: skip
    head = [Shape(((0.0, 1.64),), 0.12, SKIN), Shape(((-0.03, 1.71), (0.03, 1.71)), 0.085, HAIR)]
    if not front:
        head = [Shape(((0.0, 1.66),), 0.12, HAIR)]
    return [*legs, *arms, Shape(((-0.13, 0.85), (0.13, 0.85), (0.15, 1.36), (-0.15, 1.36)), 0.11, colour, shade=0.15),
            box(-0.05, 1.44, 0.05, 1.56, SKIN), *head]


def _ball(colour: Colour, travelled: float) -> list[Shape]:
    radius = 0.4
    angle = -travelled / radius
    spots = [Shape(((0.62 * radius * cos(angle + a), radius + 0.62 * radius * sin(angle + a)),), 0.2 * radius,
                   dim(colour, 0.72), shade=0.0) for a in (0.0, 2 * pi / 3, 4 * pi / 3)]
    return [Shape(((0.0, radius),), radius, colour, shade=0.3), *spots,
            Shape(((0.3 * radius, 1.45 * radius),), 0.16 * radius, (1.0, 1.0, 1.0), shade=0.0, opacity=0.55)]


def _ball_end(colour: Colour, travelled: float, sense: float) -> list[Shape]:
    radius = 0.4
    spots = []
    for start in (0.0, 2 * pi / 3, 4 * pi / 3):
        angle = sense * travelled / radius + start
        if cos(angle) > 0.1:  # the side that faces the camera
            spots.append(Shape(((0.2 * radius * cos(2 * start), radius - 0.75 * radius * sin(angle)),),
                               0.2 * radius * cos(angle), dim(colour, 0.72), shade=0.0))
    return [Shape(((0.0, radius),), radius, colour, shade=0.3), *spots,
            Shape(((0.3 * radius, 1.45 * radius),), 0.16 * radius, (1.0, 1.0, 1.0), shade=0.0, opacity=0.55)]


def _bicycle(colour: Colour, travelled: float) -> list[Shape]:
    radius, rear, front = 0.34, -0.52, 0.52
    turn = -travelled / 1.2
    hip, saddle, crank, head = (-0.2, 0.98), (-0.18, 0.9), (-0.05, 0.32), (0.4, 0.88)
    bar, shoulder = (0.44, 1.02), (0.14, 1.4)

    def wheel(x: float) -> list[Shape]:
        spin = -travelled / radius
        spokes = [Shape(((x - 0.31 * cos(a), radius - 0.31 * sin(a)), (x + 0.31 * cos(a), radius + 0.31 * sin(a))),
                        0.006, RIM, opacity=0.6) for a in (spin, spin + pi / 3, spin + 2 * pi / 3)]
        return [*spokes, Shape(((x, radius),), radius - 0.03, TYRE, line=0.03)]

    def leg(angle: float, shade: float) -> list[Shape]:
        foot = crank[0] + 0.17 * cos(angle), crank[1] + 0.17 * sin(angle)
        knee = (hip[0] + foot[0]) / 2 + 0.2, (hip[1] + foot[1]) / 2 + 0.07
        return [Shape((hip, knee), 0.085, dim(TROUSERS, shade)), Shape((knee, foot), 0.065, dim(TROUSERS, shade)),
                Shape((foot, (foot[0] + 0.12, foot[1])), 0.045, SHOES)]

    tubes = [(crank, saddle), (crank, head), (saddle, head), (crank, (rear, radius)), (saddle, (rear, radius)),
             (head, (front, radius)), (head, bar)]
    return [
        *wheel(rear), *wheel(front), *leg(turn + pi, 0.7),
        *[Shape(tube, 0.035, colour) for tube in tubes],
        Shape(((saddle[0] - 0.1, saddle[1] + 0.03), (saddle[0] + 0.1, saddle[1] + 0.03)), 0.035, TRIM),
        *leg(turn, 1.0),
        Shape((hip, shoulder), 0.15, colour, shade=0.15),
        Shape((shoulder, (0.32, 1.16)), 0.06, dim(colour, 0.85)), Shape(((0.32, 1.16), bar), 0.05, SKIN),
        Shape(((0.27, 1.58),), 0.12, SKIN), Shape(((0.22, 1.63), (0.29, 1.64)), 0.1, dim(colour, 0.8)),
    ]  # fmt: skip


_FIGURES: dict[tuple[str, str], Callable[[Colour, float], list[Shape]]] = {
    ("car", "side"): _car_side,
    ("car", "front"): lambda colour, _: _car_end(colour, True),
    ("car", "back"): lambda colour, _: _car_end(colour, False),
    ("bus", "side"): _bus_side,
    ("bus", "front"): lambda colour, _: _bus_end(colour, True),
    ("bus", "back"): lambda colour, _: _bus_end(colour, False),
    ("person", "side"): _person_side,
    ("person", "front"): lambda colour, travelled: _person_end(colour, travelled, True),
    ("person", "back"): lambda colour, travelled: _person_end(colour, travelled, False),
    ("ball", "side"): _ball,
    ("ball", "front"): lambda colour, travelled: _ball_end(colour, travelled, 1.0),
    ("ball", "back"): lambda colour, travelled: _ball_end(colour, travelled, -1.0),
    ("bicycle", "side"): _bicycle,
}
