"""What a watermark under test is: something that marks frames and reads files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from typing import NamedTuple, Protocol

from genwm.keys import Key
from genwm.video import Planes


class Outcome(NamedTuple):
    """What a reader says about one file. ``detected`` is its own decision and ``key`` the name of the key found.

    A method that has no decision gives ``message``, the bits that it reads from anything, most significant first; the
    runner compares them with what was embedded and decides for it at the same false-positive rate.
    """

    detected: bool
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
    ``strength`` and ``profile`` tell its rows from others'."""

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
