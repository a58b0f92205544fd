"""The whole recipe of the shipped classifier, from a data folder to a model folder."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import Stack, read_segments
from detectors.synthetic.features import CHANNELS, FORM, Networks
from detectors.synthetic.inference import HINT, SEGMENTS, TARGET
from detectors.synthetic.model import CLIPS_TABLE, MANIFEST, SCHEMA
from detectors.synthetic.networks import Network
from detectors.synthetic.training.corpus import Clip, Features, FeatureStore, list_clips, table
from detectors.synthetic.training.fit import Data, OutOfFold, Recipe, channel_logits, fit_and_judge
from genwm import __version__
from genwm.errors import InputError
from genwm.output import atomic_folder, atomic_output, check_folder, output_errors

Progress = Callable[[str], None]
#: Shrinkage of each channel in use (docs/models/synthetic.md).
SHRINKAGES = {"appearance": 0.35, "texture": 0.35, "motion": 0.35}
#: Deviations to which a channel's score counts: few vectors can be odd without end, where an embedding cannot.
LIMITS = {"motion": 1.25}
#: Sources, and families, without which what is left out cannot be judged by a fit that has others left to judge by.
LEAST_GROUPS = 3
#: Deliveries that the heads also see, each with its emphasis beside clips as they come.
AUGMENTED = {"h264-40": 0.5}
#: Deliveries, each with the segments read, that out-of-fold scores are kept for beside what the heads are fitted on.
SCORED = (("none", 1), ("h264-23", 1), ("h264-30", 1), ("crop-0.6", 1), ("scale-0.5", 1))
LICENCE = "Apache-2.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Numbers of the recipe. ``held_for_network``: source of footage that the patch network is trained on, together
    with ``photos``, and that is left out of the calibration therefore."""

    seed: int = 20261124
    autoencoders: int = 12
    autoencoder_steps: int = 500
    pairs_per_base: int = 3
    network_steps: int = 6000
    folds: int = 19
    held_for_network: str = "panda70m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What `train_detector` made: the folder, and out-of-fold scores as rows of ``table.FOLD_COLUMNS``."""

    folder: Path
    rows: list[dict[str, object]]


def train_detector(
    data: str | os.PathLike[str], output: str | os.PathLike[str], *, work: str | os.PathLike[str],
    channels: Sequence[str] = tuple(SHRINKAGES), settings: Settings | None = None, model_id: str = "synthetic-6",
    progress: Progress = lambda text: None,
) -> Trained:  # fmt: skip
    """Trains on ``data`` (clips named by ``manifest.csv``, photographs under ``photos/``) and writes a model folder.

    ``work`` keeps what is slow to make (networks, features), so that a run that was stopped goes on. Everything is
    drawn from the seed. Errors: NotFoundError, InputError, OutputError, MissingExtraError.
    """
    settings = settings or Settings()
    target, place = Path(output), Path(work)
    check_folder(target)
    if unknown := set(channels) - set(CHANNELS):
        raise InputError(f"Expected channels of {', '.join(CHANNELS)}, got {', '.join(sorted(unknown))}; choose again")
    clips = list_clips(data)
    store, files = features_in(place, data, clips, channels, settings, progress)
    fitted = [clip for clip in clips if "residual" not in channels or not _held(clip, settings)]
    kept, plain = table(store, fitted, "none", progress=progress)
    sources, families = (len({clip.group for clip in kept if clip.label == label}) for label in (0, 1))
    if min(sources, families) < LEAST_GROUPS:
        raise InputError(f"Expected clips of {LEAST_GROUPS} sources and {LEAST_GROUPS} families of generators or more "
                         f"that can be judged, got {sources} and {families}; add others")  # fmt: skip
    return finish(store, kept, plain, files, target, channels, settings, model_id, progress)


def features_in(
    place: Path, data: str | os.PathLike[str], clips: Sequence[Clip], channels: Sequence[str], settings: Settings,
    progress: Progress,
) -> tuple[FeatureStore, dict[str, Path]]:  # fmt: skip
    """The features that a work folder keeps, and the networks in it that make them, made where there are none."""
    with output_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    files = {"embedding": _embedding(place / "embedding.onnx", progress)}
    if "residual" in channels:
        files["residual"] = _residual(Path(data), clips, place, settings, progress)
    loaded = {name: Network(file) for name, file in files.items()}
    networks = Networks(embedding=loaded["embedding"], residual=loaded.get("residual"))
    made_by = b"".join([*(file.read_bytes() for file in files.values()), b"form %d" % FORM])
    digest = hashlib.sha256(made_by).hexdigest()[:12]
    return FeatureStore(place / f"features-{digest}", networks, channels), files


def recipe_for(channels: Sequence[str], settings: Settings) -> Recipe:
    """How the heads of these channels are fitted."""
    return Recipe(shrinkages={name: SHRINKAGES.get(name, 0.35) for name in channels},
                  limits={name: LIMITS[name] for name in channels if name in LIMITS}, folds=settings.folds,
                  seed=settings.seed)  # fmt: skip


def rows_to_fit(
    store: FeatureStore, clips: Sequence[Clip], plain: Sequence[Features], progress: Progress
) -> Data:
    """What the heads are fitted on: the clips as they come, whose features are ``plain``, then after each delivery of
    `AUGMENTED`."""
    rows, emphasis = _means(plain), [1.0] * len(clips)
    for name, weight in AUGMENTED.items():
        rows += _means(table(store, clips, name, segments=1, progress=progress)[1])
        emphasis += [weight] * len(clips)
    times = 1 + len(AUGMENTED)
    return Data.of(rows, [clip.label for clip in clips] * times, [clip.group for clip in clips] * times, emphasis)


def finish(
    store: FeatureStore, clips: Sequence[Clip], plain: Sequence[Features], files: dict[str, Path], target: Path,
    channels: Sequence[str], settings: Settings, model_id: str, progress: Progress,
) -> Trained:  # fmt: skip
    """The part after the features: out-of-fold scores, calibration, final heads, the folder."""
    recipe = recipe_for(channels, settings)
    labels, groups = [clip.label for clip in clips], [clip.group for clip in clips]
    deliveries = [("none", SEGMENTS), *((name, 1) for name in AUGMENTED)]
    data = rows_to_fit(store, clips, plain, progress)
    others = [Data.of(_means(table(store, clips, name, segments=segments, progress=progress)[1]), labels, groups
                      ).features for name, segments in SCORED]  # fmt: skip
    progress("fitting on folds of sources and families")
    fusion, (fitted, *more) = fit_and_judge(data, recipe, others=others)
    scores = fitted.logits
    alone = channel_logits(data, recipe)
    count = len(clips)
    kept_rows = [
        _fold_row(clip, name, segments, fitted, start + index,
                  " ".join(f"{key}={alone[key][start + index]:.3f}" for key in alone))
        for start, (name, segments) in zip(range(0, len(data), count), deliveries, strict=True)
        for index, clip in enumerate(clips)
    ] + [
        _fold_row(clip, name, segments, values, index, "")
        for (name, segments), values in zip(SCORED, more, strict=True) for index, clip in enumerate(clips)
    ]  # fmt: skip
    reals = np.sort([score for score, label in zip(scores[:count], labels, strict=True) if label == 0])
    sources = sorted({clip.group for clip in clips if not clip.label})
    listed = "\n".join(sorted(clip.sha256 or clip.id for clip in clips))
    manifest: dict[str, Any] = {
        "schema": SCHEMA, "id": model_id, "licence": LICENCE, "made_with": f"genwm {__version__}",
        "recipe": {"command": "genwm train detector DATA -o MODEL", **asdict(settings),
                   "channels": dict(recipe.shrinkages), "limits": dict(recipe.limits), "augmented": AUGMENTED,
                   "repeats": recipe.repeats},
        "data": {"clips": count, "synthetic": sum(labels), "sources": len(sources), "list": CLIPS_TABLE,
                 "families": sorted({clip.group for clip in clips if clip.label})},
        "calibration": {
            "id": hashlib.sha256(listed.encode()).hexdigest()[:12], "sources": len(sources),
            "thresholds": {f"{rate:g}": threshold(reals, rate) for rate in (TARGET, HINT)},
            "reals": [round(float(value), 4) for value in reals],
        },
        "fusion": fusion.to_json(),
    }  # fmt: skip
    lines = ["sha256,label,group,logit"] + [
        f"{clip.sha256 or clip.id},{clip.label},{clip.group},{score:.4f}"
        for clip, score in zip(clips, scores[:count], strict=True)
    ]
    write_model(target, manifest, files, {CLIPS_TABLE: "\n".join(lines) + "\n"}, memory=(_means(plain), labels, groups))
    return Trained(folder=target, rows=kept_rows)


def _means(clips: Sequence[Features]) -> list[dict[str, NDArray[np.float64]]]:
    """The mean of each clip's segments."""
    return [{name: values.mean(axis=0) for name, values in features.items()} for features in clips]


def _fold_row(
    clip: Clip, delivery: str, segments: int, judged: OutOfFold, index: int, channels: str
) -> dict[str, object]:
    return {"clip": clip.id, "sha256": clip.sha256, "label": clip.label, "group": clip.group,
            "generator": clip.generator, "delivery": delivery, "segments": segments,
            "logit": f"{judged.logits[index]:.4f}", "apart": f"{judged.apart[index]:.4f}",
            "channels": channels}  # fmt: skip


def threshold(reals: NDArray[np.float64], rate: float) -> float:
    """The least logit whose conformal share is at most ``rate``, as high as the highest where the set is too small."""
    allowed = int(rate * (1 + reals.size)) - 1  # reals that may score as high
    return float(np.nextafter(np.sort(reals)[::-1][max(0, allowed)], np.inf))


def write_model(
    target: Path, manifest: dict[str, Any], files: dict[str, Path], texts: dict[str, str],
    memory: tuple[Sequence[Features], Sequence[int], Sequence[str]],
) -> None:  # fmt: skip
    """Writes a model folder as a whole: networks, the manifest that names them, tables, and the mean features of the
    clips that it was fitted on (half precision), from which `genwm adapt` goes on."""
    with atomic_folder(target) as part:
        entries = {}
        for key, file in files.items():
            shutil.copyfile(file, part / f"{key}.onnx")
            digest = hashlib.sha256((part / f"{key}.onnx").read_bytes()).hexdigest()
            entries[key] = {"name": f"{key}.onnx", "sha256": digest}
        for key, text in texts.items():
            (part / key).write_text(text, encoding="utf-8")
        features, labels, groups = memory
        arrays: dict[str, Any] = {
            f"x_{key}": np.stack([row[key] for row in features]).astype(np.float16) for key in features[0]
        }
        np.savez_compressed(part / "memory.npz", labels=np.asarray(labels), groups=np.asarray(groups), **arrays)
        entries["memory"] = {"name": "memory.npz",
                             "sha256": hashlib.sha256((part / "memory.npz").read_bytes()).hexdigest()}  # fmt: skip
        text = json.dumps({**manifest, "files": entries}, indent=1)
        (part / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _held(clip: Clip, settings: Settings) -> bool:
    return not clip.label and clip.group.startswith(settings.held_for_network)


def _embedding(path: Path, progress: Progress) -> Path:
    if not path.is_file():
        progress("exporting the embedding")
        from detectors.synthetic.training.embedding import Embedding
        from detectors.synthetic.training.export import export

        export(Embedding(), path, ["features"])
    return path


def _residual(data: Path, clips: Sequence[Clip], place: Path, settings: Settings, progress: Progress) -> Path:
    path = place / "residual.onnx"
    if not path.is_file():
        from detectors.synthetic.training.export import export
        from detectors.synthetic.training.residual import train_network

        pairs = _pairs(data, clips, place / "pairs.pkl", settings, progress)
        model = train_network(pairs, steps=settings.network_steps, seed=settings.seed, progress=progress)
        export(model, path, ["logits", "embedding"])
    return path


def _pairs(
    data: Path, clips: Sequence[Clip], path: Path, settings: Settings, progress: Progress
) -> list[tuple[Stack, Stack]]:
    """Pairs from photographs and from the held source, through autoencoders trained on the same pictures."""
    if path.is_file():
        with path.open("rb") as file:
            stored: list[tuple[Stack, Stack]] = pickle.load(file)
            return stored
    import torch
    from PIL import Image

    from detectors.synthetic.training import autoencoders, pairs

    generator = np.random.default_rng(settings.seed)
    photos = sorted((data / "photos").rglob("*.jpg"))
    bases = [pairs.pan(np.asarray(Image.open(photo).convert("RGB")), generator) for photo in photos]
    for clip in (clip for clip in clips if _held(clip, settings)):
        bases += [pairs.frames_of(segment.crop, generator) for segment in read_segments(clip.path, count=3, threads=1)]
    usable = [base for base in bases if base is not None]
    if len(usable) < 8:
        raise InputError(f"Expected photographs under {data / 'photos'} or clips of {settings.held_for_network}, got "
                         f"{len(usable)} that can be used; add some, or leave the channel 'residual' out")  # fmt: skip
    pictures = pairs.to_tensor(np.concatenate([base[:1] for base in usable]))
    models: list[torch.nn.Module] = [autoencoders.VideoAutoencoder()]
    for number in range(settings.autoencoders):
        shape = autoencoders.random_shape(generator, number)
        torch.manual_seed(settings.seed + number)
        models.append(autoencoders.train_autoencoder(shape, pictures, steps=settings.autoencoder_steps))
        progress(f"autoencoder {number + 1} of {settings.autoencoders}: {shape}")
    made = list(pairs.make_pairs(usable, models, per_base=settings.pairs_per_base, seed=settings.seed))
    with atomic_output(path, overwrite=True) as part, open(part, "wb") as target:
        pickle.dump(made, target, protocol=5)
    return made
