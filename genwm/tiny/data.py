"""What the embedded pipeline is trained on: two streets, a camera that stands still, mostly one moving object.

The renderer can do more (`scenes`). The restriction makes what has to be learned small enough for hours on a CPU.
Every clip follows from its number alone, so that nothing but numbers needs to be kept.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genwm.tiny.backdrop import Camera
from genwm.tiny.scenes import COLOURS, DIRECTIONS, KINDS, WEATHERS, Box, Mover, Scene, caption, render
from genwm.workers import end_with_parent

FRAMES, WIDTH, HEIGHT, FPS = 25, 512, 320, 25.0
#: Seed of the street of each layout; every weather falls on it.
STREETS = {"across": 11, "along": 22}
#: Clips of these numbers and above are never trained on.
HELD_OUT_FROM = 10_000_000
_SECOND_MOVER = 0.0  # of the scenes that have more than one, the share that keeps two


class Example(NamedTuple):
    """A scene and its caption."""

    scene: Scene
    caption: str


def held_out(mover: Mover) -> bool:
    """Whether an object's colour, kind and direction together are kept from training: about one combination in ten."""
    place = list(COLOURS).index(mover.colour) + 3 * KINDS.index(mover.kind) + 5 * DIRECTIONS.index(mover.direction)
    return place % 10 == 7


def example(number: int) -> Example:
    """The clip of a number: for training below `HELD_OUT_FROM`, else for evaluation: there, even numbers have a first
    object whose combination was never trained on, odd numbers only combinations that were."""
    rng = np.random.default_rng([2026, number])
    testing = number >= HELD_OUT_FROM
    while True:
        scene = Scene.sample(rng)
        keep = 2 if len(scene.movers) > 1 and rng.random() < _SECOND_MOVER else 1
        movers = scene.movers[:1] if testing else scene.movers[:keep]
        unseen = testing and number % 2 == 0
        wanted = held_out(movers[0]) if unseen else not any(held_out(mover) for mover in movers)
        if wanted:
            break
    scene = replace(scene, camera=Camera(), movers=movers, seed=STREETS[scene.layout])
    return Example(scene, caption(scene, rng))


def clip(number: int) -> tuple[Example, NDArray[np.uint8], list[list[Box]]]:
    """An example, its frames ``(25, 320, 512, 3)`` uint8 RGB and the boxes in each."""
    made = example(number)
    frames, boxes = render(made.scene, FRAMES, WIDTH, HEIGHT, FPS)
    return made, frames, boxes


def clips(numbers: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8], list[list[Box]]]]:
    """Number, frames and boxes of each, in order, drawn by as many processes as there are cores."""
    processes = min(os.cpu_count() or 1, len(numbers))
    if processes < 2:
        yield from ((number, *clip(number)[1:]) for number in numbers)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), end_with_parent) as pool:
        ahead: deque[Future[tuple[Example, NDArray[np.uint8], list[list[Box]]]]] = deque()
        for place, number in enumerate(numbers):  # a few ahead, for a clip takes 12 MB
            while place + len(ahead) < len(numbers) and len(ahead) <= 2 * processes:
                ahead.append(pool.submit(clip, numbers[place + len(ahead)]))
            yield number, *ahead.popleft().result()[1:]


def attributes(scene: Scene) -> dict[str, int]:
    """What a caption may say of a scene, each as a class: of the weather, the layout and the objects."""
    found = {"weather": WEATHERS.index(scene.weather)}
    for place in range(2):
        mover = scene.movers[place] if place < len(scene.movers) else None
        found |= {
            f"kind{place}": 0 if mover is None else 1 + KINDS.index(mover.kind),
            f"colour{place}": 0 if mover is None else 1 + list(COLOURS).index(mover.colour),
            f"direction{place}": 0 if mover is None else 1 + DIRECTIONS.index(mover.direction),
        }
    return found


def rendered(folder: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The first ``count`` training clips, kept in ``folder``: frames ``(count, 25, 320, 512, 3)`` uint8 RGB and boxes
    of their first two objects ``(count, 25, 2, 4)`` in pixels (x0, y0, x1, y1), all 0 where there is none. Goes on
    where it stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = opened(folder / "frames.npy", np.uint8, (count, FRAMES, HEIGHT, WIDTH, 3))
    places = opened(folder / "boxes.npy", np.float32, (count, FRAMES, 2, 4))
    for number, pictures, found in clips([number for number in range(count) if not places[number].any()]):
        frames[number] = pictures
        for time, boxes in enumerate(found):
            for box in boxes:
                places[number, time, box.track] = box[2:6]
    return frames, places


def opened(path: Path, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array in a file, for reading and writing; a new one of zeros where there is none of this shape."""
    if path.is_file():
        found: NDArray[Any] = np.lib.format.open_memmap(path, mode="r+")
        if found.shape == shape:
            return found
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
