"""The clips of a data folder, and their features, kept in a folder between runs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.deliveries import DELIVERIES
from detectors.synthetic.features import CHANNELS, Networks, segment_features
from detectors.synthetic.inference import SEGMENTS
from genwm.errors import GenwmError, InputError, NotFoundError

Features = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip of a manifest. ``label``: 1 synthetic, 0 camera footage; ``group``: what must not be split: the
    generator's family, or the footage's source; ``generator`` is empty for footage."""

    path: Path
    id: str
    label: int
    group: str
    generator: str
    sha256: str


def list_clips(folder: str | os.PathLike[str]) -> list[Clip]:
    """The real and synthetic clips that ``manifest.csv`` of a folder names (columns path, label, group, family,
    sha256); other labels are left out. Errors: NotFoundError, InputError."""
    manifest = Path(folder) / "manifest.csv"
    if not manifest.is_file():
        raise NotFoundError(f"Expected a manifest.csv in {folder}, got none; docs/models/synthetic.md has its columns")
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if row.get("label") in ("real", "synthetic")]
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"Expected a CSV file in UTF-8 at {manifest}, got another; save it as that") from None
    if "path" not in (reader.fieldnames or ()):
        raise InputError(f"Expected a column 'path' in {manifest}, got none; docs/models/synthetic.md has its columns")
    if not {0, 1} <= {int(row["label"] == "synthetic") for row in rows}:
        raise InputError(f"Expected real and synthetic clips in {manifest}, got {len(rows)} of one kind; add the other")
    return [
        Clip(
            path=Path(folder) / row["path"],
            id=row["path"],
            label=int(row["label"] == "synthetic"),
            group=(row.get("family") if row["label"] == "synthetic" else row.get("group")) or row["path"],
            generator=row.get("generator") or row.get("group") or "" if row["label"] == "synthetic" else "",
            sha256=row.get("sha256") or "",
        )
        for row in rows
    ]


class FeatureStore:
    """Features by clip and delivery, computed once and kept in ``folder``."""

    def __init__(self, folder: Path, networks: Networks, channels: Sequence[str] = CHANNELS) -> None:
        self._folder, self._networks, self._channels = folder, networks, tuple(channels)
        folder.mkdir(parents=True, exist_ok=True)

    def features(self, clip: Clip, delivery: str = "none", *, segments: int = SEGMENTS) -> Features:
        """A vector a segment for every channel, ``(segments, numbers)``; empty where the clip cannot be judged."""
        key = hashlib.sha256(json.dumps([clip.sha256 or str(clip.path), delivery, segments]).encode()).hexdigest()[:24]
        path = self._folder / f"{key}.npz"
        found: Features = {}
        if path.is_file():
            with np.load(path) as stored:
                found = {name: stored[name] for name in stored.files}
        if missing := [name for name in self._channels if name not in found]:
            found |= self._computed(clip, delivery, segments, missing)
            part = path.with_suffix(".part.npz")
            arrays: dict[str, Any] = dict(found)
            np.savez(part, **arrays)
            os.replace(part, path)
        asked = {name: found[name] for name in self._channels}
        return asked if all(len(values) for values in asked.values()) else {}

    def _computed(self, clip: Clip, delivery: str, count: int, channels: Sequence[str]) -> Features:
        try:
            segments = read_segments(clip.path, count=count, threads=1)
        except GenwmError:
            segments = []
        rows = [segment_features(DELIVERIES[delivery](segment), self._networks, channels)[0] for segment in segments]
        return {name: np.stack([row[name] for row in rows]) if rows else np.zeros((0, 0)) for name in channels}


def table(
    store: FeatureStore, clips: Iterable[Clip], delivery: str, *, segments: int = SEGMENTS,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[list[Clip], list[Features]]:
    """The clips that can be judged, with their features."""
    kept, features = [], []
    for number, clip in enumerate(clips):
        found = store.features(clip, delivery, segments=segments)
        if found:
            kept.append(clip)
            features.append(found)
        if number % 25 == 24:
            progress(f"features ({delivery}): {number + 1} clips")
    return kept, features
