"""A model on disk: a folder with ``manifest.json`` and the ONNX files that it names by sha256."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.features import CHANNELS, FORM, Networks
from detectors.synthetic.fusion import Fusion
from detectors.synthetic.networks import Network
from genwm.errors import InputError, NotFoundError
from genwm.hashing import sha256_of

SCHEMA = f"genwm.classifier/{FORM}"
MANIFEST = "manifest.json"
#: Of the clips that a model was fitted on: sha256, label, group, logit out of fold.
CLIPS_TABLE = "clips.csv"
CLIP_COLUMNS = ("sha256", "label", "group", "logit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the statement of an error rate rests on: the out-of-fold logits of camera footage.

    ``id`` names the set; ``reals`` are its clips' logits, sorted; ``sources`` counts where they come from;
    ``thresholds`` are logits by target false-positive rate.
    """

    id: str
    reals: NDArray[np.float64]
    sources: int
    thresholds: dict[str, float]

    @property
    def least_rate(self) -> float:
        """The lowest false-positive rate that any clip can be given, the clip counted with the set's: see
        `share_as_high`."""
        return 1 / (1 + self.reals.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A classifier that is ready to run. ``manifest`` is all that its file says; ``threads``: of segments that are
    read at a time."""

    id: str
    networks: Networks
    fusion: Fusion
    calibration: Calibration
    folder: Path
    manifest: dict[str, Any]
    threads: int = 1

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(self.fusion.weights)


def shipped_folder() -> Path:
    """The model that comes with the package."""
    return Path(str(resources.files("detectors.synthetic") / "weights"))


def load_model(folder: str | os.PathLike[str] | None = None, *, threads: int = 2) -> Model:
    """Reads a model's folder (default: the shipped one), and checks every file that its manifest names.

    Errors: NotFoundError (no model there), InputError (damaged, or not a model that this version can run).
    """
    path = shipped_folder() if folder is None else Path(folder)
    return _load(str(path.absolute()), _stamp(path), threads)


def _stamp(folder: Path) -> int:
    try:
        return os.stat(folder / MANIFEST).st_mtime_ns
    except OSError:
        raise NotFoundError(
            f"Expected a classifier's {MANIFEST} in {folder}, got none; give the folder that 'genwm train detector' "
            "or 'genwm adapt' wrote"
        ) from None


@cache
def _load(name: str, stamp: int, threads: int) -> Model:
    folder = Path(name)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"schema {manifest['schema']!r}")
        files = {part: _checked(folder, entry) for part, entry in manifest["files"].items()}
        fusion = Fusion.from_json(manifest["fusion"])
        if not set(fusion.weights) <= set(CHANNELS):
            raise ValueError(f"channels {sorted(set(fusion.weights) - set(CHANNELS))}")
        given = manifest["calibration"]
        calibration = Calibration(id=given["id"], reals=np.sort(np.asarray(given["reals"], np.float64)),
                                  sources=int(given["sources"]), thresholds=dict(given["thresholds"]))  # fmt: skip
        loaded = {part: Network(file) for part, file in files.items() if file.suffix == ".onnx"}
        networks = Networks(embedding=loaded["embedding"], residual=loaded.get("residual"))
        return Model(id=manifest["id"], networks=networks, fusion=fusion, calibration=calibration, folder=folder,
                     manifest=manifest, threads=threads)  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"Expected a classifier of schema {SCHEMA} in {folder}, got {type(error).__name__} {error}; "
            "install or train it again"
        ) from None


def clips_of(model: Model) -> list[dict[str, str]]:
    """The clips that a model was fitted on or adapted to, with the columns of its table. Errors: InputError (no such
    table: nobody could say any more which clips flatter it)."""
    table = model.folder / CLIPS_TABLE
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        rows = [{}]
    if any(tuple(row) != CLIP_COLUMNS or None in row.values() for row in rows):
        raise InputError(f"Expected a table of clips ({', '.join(CLIP_COLUMNS)}) in {table}, got none or another; "
                         "install the model again")  # fmt: skip
    return rows


def fitted(model: Model) -> dict[str, str]:
    """Group of each clip that a model was fitted on or adapted to, by its sha256."""
    return {row["sha256"]: row["group"] for row in clips_of(model)}


def _checked(folder: Path, entry: dict[str, str]) -> Path:
    path = folder / entry["name"]
    try:
        found = sha256_of(path)
    except OSError as error:
        raise InputError(f"Expected a readable {path}, got '{error.strerror}'; install the model again") from None
    if found != entry["sha256"]:
        wanted = entry["sha256"]
        raise InputError(f"Expected {path} with sha256 {wanted[:12]}..., got {found[:12]}...; install the model again")
    return path
