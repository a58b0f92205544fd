"""This project's own mark as a watermark under test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from eval.methods.model import Outcome
from genwm.keys import Key
from genwm.video import Planes


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """The lattice mark in one of its strengths and profiles, read with the detector's defaults."""

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
