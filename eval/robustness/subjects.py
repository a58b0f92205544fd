"""The watermarks that can be measured, behind one interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from genwm.keys import Key
from genwm.video import Planes


class Outcome(NamedTuple):
    """What a reader says about one file. ``detected`` is its default decision; ``key`` the name of the key found."""

    detected: bool
    key: str = ""
    payload: int | None = None
    log10_p: float | None = None
    scale: float | None = None
    rotation: float | None = None
    flip: bool | None = None
    aspect: float | None = None
    frames_read: int | None = None


class Watermark(Protocol):
    """A watermark under test. Implementations are picklable, for clips are measured in other processes."""

    @property
    def name(self) -> str: ...
    @property
    def strength(self) -> str: ...
    @property
    def profile(self) -> str: ...

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        """The frames of one clip, marked with a 64-bit payload."""

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        """What is in the file (video or still image), given the keys to try."""


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """This project's own mark."""

    strength: str = "balanced"
    profile: str = "colour"
    name: str = "lattice"

    def mark(self, frames: Iterable[Planes], key: Key, payload: int) -> Iterator[Planes]:
        from genwm.marking import Mark, Marker

        marker: Marker | None = None
        for planes in frames:
            if marker is None:
                height, width = planes.y.shape
                strength: Any = self.strength  # Mark checks both, and names the choices
                profile: Any = self.profile
                marker = Marker(Mark(key, payload, strength=strength, profile=profile), width, height)
            yield marker.planes(planes)

    def read(self, file: BytesIO, keys: Sequence[Key]) -> Outcome:
        from detectors.watermark import read_watermark

        reading = read_watermark(file, keys=keys, threads=1)
        geometry = reading.geometry
        return Outcome(
            detected=reading.status == "detected",
            key=reading.key or "",
            payload=reading.payload,
            log10_p=reading.log10_p,
            scale=geometry.scale if geometry else None,
            rotation=geometry.rotation if geometry else None,
            flip=geometry.flip if geometry else None,
            aspect=geometry.aspect if geometry else None,
            frames_read=reading.frames_read,
        )
