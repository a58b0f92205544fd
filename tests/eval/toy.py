"""What the tests of robustness share: a toy in the place of the watermark, clips for it, and their run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from eval.methods import Outcome
from eval.robustness import Row, run
from genwm.keys import Key
from genwm.video import Planes, read_planes
from tests.clips import make_clip

TWO = ("h264.crf40", "still.jpeg80")


@dataclass(frozen=True)
class Toy:
    """Writes key and payload into the top left corner, in blocks that survive compression; nothing else is like it."""

    name: str = "toy"
    strength: str = "balanced"
    profile: str = "colour"
    wrong_bits: int = 0
    log: Path | None = None

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        bits = [int(bit) for bit in f"{payload ^ self.wrong_bits:064b}{key.secret[0]:08b}"]
        for one in frames:
            y = one.y.copy()
            y[:72, :64] = np.kron(np.array(bits).reshape(9, 8) * 160 + 40, np.ones((8, 8)))
            yield replace(one, y=y)

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        if self.log:
            with self.log.open("a") as log:
                log.write(f"{len(file.getvalue())}\n")
        frame = next(read_planes(file, threads=1))
        blocks = frame.y[:72, :64].reshape(9, 8, 8, 8).mean(axis=(1, 3)).ravel() > 120
        value = int("".join(str(int(bit)) for bit in blocks), 2)
        found = [key for key in keys if key.secret[0] == value & 255]
        if not found:
            return Outcome(False, log10_p=-0.5)
        return Outcome(True, found[0].name, value >> 8, -20.0, 1.0, 0.0, False, 1.0, 1)


def three_clips(folder: Path) -> Path:
    """Of 160 or 176 x 128, two of them in a folder of their own."""
    (folder / "a").mkdir()
    for name, seed, width in (("a/one.mp4", 1, 160), ("a/two.mp4", 2, 176), ("three.mp4", 3, 160)):
        make_clip(folder / name, width=width, height=128, frames=6, seed=seed)
    return folder


def measure(videos: Path, out: Path, toy: Toy | None = None, **options: object) -> list[Row]:
    settings: dict[str, object] = {"attacks": TWO, "max_frames": 4, "min_short_side": 0, "processes": 1, **options}
    return run(videos, out, methods=[toy or Toy()], **settings)  # type: ignore[arg-type]
