"""A watermark of somebody else's module: its bits stand as blocks in the top left corner."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from eval.methods import Outcome
from genwm.keys import Key
from genwm.video import Planes, read_planes

MAGIC = 0b10110010


@dataclass(frozen=True)
class Corner:
    """Marks in place, decides by eight bits of the key, or by eight of its own where it is not ``keyed``. ``gives``
    says whether it returns a number, bits, or bits without a decision."""

    name: str = "corner"
    strength: str = "default"
    profile: str = "own"
    bits: int = 64
    keyed: bool = True
    gives: str = "payload"
    damage: int = 0

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        text = f"{key.secret[0] if self.keyed else MAGIC:08b}{(payload ^ self.damage) % (1 << self.bits):0{self.bits}b}"
        blocks = np.array([int(bit) for bit in text]).reshape(-1, 8) * 160 + 40
        for one in frames:
            one.y[: 8 * len(blocks), :64] = np.kron(blocks, np.ones((8, 8)))
            yield one

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        y = next(read_planes(file, threads=1)).y[: 8 + self.bits, :64]
        bits = tuple(int(one) for one in (y.reshape(-1, 8, 8, 8).mean(axis=(1, 3)).ravel() > 120))
        sign, message = int("".join(map(str, bits[:8])), 2), bits[8:]
        names = [key.name for key in keys if key.secret[0] == sign] if self.keyed else [""] * (sign == MAGIC)
        if self.gives == "bits":
            return Outcome(None, message=message)
        if self.gives == "message":
            return Outcome(bool(names), names[0] if names else "", message=message)
        return Outcome(True, names[0], int("".join(map(str, message)), 2)) if names else Outcome(False)


CORNER = Corner(name="lattice", strength="balanced", profile="colour")  # as another's own tags may be
KEYLESS = Corner(bits=32, keyed=False)
UNDECIDED = Corner(gives="bits")
NOTHING = 7
