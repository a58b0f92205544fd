"""What a watermark under test is: something that marks frames and reads files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import NamedTuple, Protocol

from genwm.keys import Key
from genwm.video import Planes


class Outcome(NamedTuple):
    """What a reader says about one file. ``detected`` is its own decision, None where it makes none, and ``key`` the
    name of the key found.

    ``payload`` is the message of a mark that was found; ``message`` are bits that are read from anything, most
    significant first. Where there is a message and no decision, the runner compares it with what was embedded and
    decides for the method at the same false-positive rate.
    """

    detected: bool | None
    key: str = ""
    payload: int | None = None
    log10_p: float | None = None
    scale: float | None = None
    rotation: float | None = None
    flip: bool | None = None
    aspect: float | None = None
    frames_read: int | None = None
    message: tuple[int, ...] | None = None


class Watermark(Protocol):
    """A watermark under test. Implementations are picklable, for clips are measured in other processes; ``name``,
    ``strength`` and ``profile`` tell its rows from others'.

    Two more attributes may be left out: ``bits``, the length of the message (64), and ``keyed``, whether the key plays
    a part (True). One that is not keyed names no key in what it finds.
    """

    @property
    def name(self) -> str: ...
    @property
    def strength(self) -> str: ...
    @property
    def profile(self) -> str: ...

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        """The frames of one clip, marked with a 64-bit payload (or with its lowest bits, where fewer fit)."""

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        """What is in the file (video or still image), given the keys to try."""


def bits_in(watermark: Watermark) -> int:
    """The length of its message in bits."""
    return int(getattr(watermark, "bits", 64))


def is_keyed(watermark: Watermark) -> bool:
    """Whether only the right key finds its mark."""
    return bool(getattr(watermark, "keyed", True))
