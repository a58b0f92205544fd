"""A model that also knows a new generator: heads, fusion and calibration again, from under a minute of its clips and
the features that the model keeps of the clips it was fitted on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.features import segment_features
from detectors.synthetic.fusion import Fusion
from detectors.synthetic.inference import HINT, TARGET
from detectors.synthetic.model import Model
from detectors.synthetic.training.fit import Data, Recipe, fit_fusion, group_folds, out_of_fold
from detectors.synthetic.training.recipe import threshold, write_model
from genwm.errors import InputError, NotVerifiedError, OutputError
from genwm.video import probe

Floats = NDArray[np.float64]
#: At most so many seconds of a new generator are taken in; segments that are read of each clip.
SECONDS, SEGMENTS = 60.0, 6
#: A new generator's clips weigh as many times a known family's.
EMPHASIS = 3.0
#: What an adapted model may lose on the other generators' AUC.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the before/after table: AUC against the footage, and the share of clips at or above the threshold
    for `TARGET` that held before."""

    what: str
    clips: int
    auc_before: float | None
    auc_after: float | None
    alarms_before: float
    alarms_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The table, seconds of video that were taken in, and why the model is refused ('' where it is not)."""

    rows: tuple[Row, ...]
    seconds: float
    refusal: str


def adapt(
    clips: Sequence[str | os.PathLike[str]], model: Model, output: str | os.PathLike[str], *, name: str,
    held_out: Sequence[str | os.PathLike[str]] = (), seed: int = 0,
) -> Adapted:  # fmt: skip
    """Fits ``model`` to the generator called ``name`` from ``clips`` (their first `SECONDS` in all) and writes the
    result to ``output``, unless it is refused.

    Judged out of fold: footage and known generators by fits that saw nothing of their source or family, the new
    generator on ``held_out`` clips or, without any, on each of its own clips by fits without it. It is refused where
    more footage is above the threshold that held before than `TARGET` allows, or the other generators lose more than
    `TOLERANCE` of their AUC.

    Errors: InputError (clips that cannot be read or judged), OutputError, NotVerifiedError (refused; the table is in
    its ``args[1]``).
    """
    if Path(output).exists():
        raise OutputError(f"Expected no folder at {output} yet, got one; choose another name")
    known = _known(model)
    recipe = _recipe(model, seed)
    seconds, new = _features(clips, model, SECONDS)
    _, held = _features(held_out, model, float("inf")) if held_out else (0.0, [])
    group = f"new:{name}"
    trained = _joined(known, new, group)
    size = len(known)
    reals = known.labels == 0
    before = out_of_fold(known, recipe)[0]
    after = _scores(known, new, group, recipe)
    bar = threshold(before[reals], TARGET)  # the old one: what the new model would set off today
    if held:
        fusions = fit_fusion(known, recipe), fit_fusion(trained, recipe)
        fresh = [np.array([float(fusion.logits(row)) for row in held]) for fusion in fusions]
        what = "new generator, held-out clips"
    else:
        fusion = fit_fusion(known, recipe)
        fresh = [np.array([float(fusion.logits(row)) for row in new]), _left_out(known, new, group, recipe)]
        what = "new generator, each clip by a fit without it"

    def row(label: str, old: Floats, now: Floats, areas: bool = True) -> Row:
        return Row(
            what=label, clips=len(old),
            alarms_before=float((old >= bar).mean()), alarms_after=float((now >= bar).mean()),
            auc_before=_auc(before[reals], old) if areas else None,
            auc_after=_auc(after[reals], now) if areas else None,
        )  # fmt: skip

    rows = (row(what, fresh[0], fresh[1]), row("other generators", before[~reals], after[~reals]),
            row("camera footage", before[reals], after[reals], areas=False))  # fmt: skip
    adapted = Adapted(rows=rows, seconds=seconds, refusal=_refusal(rows))
    if adapted.refusal:
        raise NotVerifiedError(adapted.refusal, adapted)
    _write(model, trained, fit_fusion(trained, recipe), after[:size][reals], Path(output), name, adapted)
    return adapted


def _refusal(rows: Sequence[Row]) -> str:
    """Why not to write the model, '' where there is nothing against it."""
    new, others, footage = rows
    if new.auc_before is not None and new.auc_after is not None and new.auc_after <= new.auc_before:
        return (f"Expected the AUC on the new generator to rise above {new.auc_before:.2f}, got {new.auc_after:.2f}; "
                "give more clips of it, or keep the model that there is")  # fmt: skip
    if footage.alarms_after > TARGET:
        return (f"Expected at most {TARGET:.0%} of {footage.clips} real clips above the threshold, got "
                f"{footage.alarms_after:.1%}; give clips of the generator alone, no footage among them")  # fmt: skip
    if others.auc_before is not None and others.auc_after is not None:
        lost = others.auc_before - others.auc_after
        if lost > TOLERANCE:
            return (f"Expected the AUC of the other generators to lose at most {TOLERANCE}, got {lost:.3f}; give more "
                    "and more varied clips of the new generator")  # fmt: skip
    return ""


def _scores(known: Data, new: Sequence[Mapping[str, Floats]], group: str, recipe: Recipe) -> Floats:
    """Out-of-fold logits of the known clips by fits that all saw the new ones."""
    folds = group_folds(known.labels, known.groups, recipe.folds, recipe.seed + 100)
    result = np.zeros(len(known))
    for fold in np.unique(folds):
        fusion = fit_fusion(_joined(known.take(folds != fold), new, group), recipe)
        result[folds == fold] = fusion.logits({key: known.features[key][folds == fold] for key in fusion.weights})
    return result


def _left_out(known: Data, new: Sequence[Mapping[str, Floats]], group: str, recipe: Recipe) -> Floats:
    """The logit of each new clip by a fit on the others; of a single clip by a fit without any."""
    logits = []
    for index, clip in enumerate(new):
        others = [row for number, row in enumerate(new) if number != index]
        logits.append(float(fit_fusion(_joined(known, others, group), recipe).logits(clip)))
    return np.array(logits)


def _joined(known: Data, new: Sequence[Mapping[str, Floats]], group: str) -> Data:
    if not new:
        return known
    fresh = Data.of(new, [1] * len(new), [group] * len(new), [EMPHASIS] * len(new))
    return Data(
        features={key: np.concatenate([values, fresh.features[key]]) for key, values in known.features.items()},
        labels=np.concatenate([known.labels, fresh.labels]), groups=np.concatenate([known.groups, fresh.groups]),
        emphasis=np.concatenate([known.emphasis, fresh.emphasis]),
    )  # fmt: skip


def _features(
    paths: Sequence[str | os.PathLike[str]], model: Model, most_s: float
) -> tuple[float, list[dict[str, Floats]]]:
    """Mean features of each clip, and the seconds that were read; clips past ``most_s`` seconds are left out."""
    seconds, rows = 0.0, []
    for path in paths:
        if seconds >= most_s:
            break
        segments = read_segments(path, count=SEGMENTS, info=probe(path))
        if not segments:
            raise InputError(f"Expected a clip that can be judged, got {path}, too short or too small; leave it out")
        found = [segment_features(segment, model.networks, model.channels)[0] for segment in segments]
        rows.append({key: np.mean([row[key] for row in found], axis=0) for key in model.channels})
        seconds += sum(segment.stop_s - segment.start_s for segment in segments)
    return seconds, rows


def _known(model: Model) -> Data:
    """The clips that a model was fitted on, as it keeps them."""
    with np.load(model.folder / "memory.npz") as stored:
        features = {key: stored[f"x_{key}"].astype(np.float64) for key in model.channels}
        labels, groups = stored["labels"].astype(np.int64), stored["groups"].astype(np.str_)
    return Data(features=features, labels=labels, groups=groups, emphasis=np.ones(len(labels)))


def _recipe(model: Model, seed: int) -> Recipe:
    channels = model.manifest["recipe"]["channels"]
    return Recipe(shrinkages={key: channels[key] for key in model.channels}, repeats=1, seed=seed)


def _auc(reals: Floats, synthetic: Floats) -> float:
    """How often a synthetic clip scores above a real one, ties counted as half."""
    difference = synthetic[:, None] - reals[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _write(
    model: Model, data: Data, fusion: Fusion, reals: Floats, target: Path, name: str, adapted: Adapted
) -> None:  # fmt: skip
    manifest = {key: value for key, value in model.manifest.items() if key not in ("files", "fusion", "calibration")}
    old = model.manifest["calibration"]
    manifest |= {
        "id": f"{model.id}+{name}",
        "adapted": [*manifest.get("adapted", []), {
            "generator": name, "seconds": round(adapted.seconds, 1),
            "table": [{field: getattr(row, field) for field in Row.__slots__} for row in adapted.rows]}],
        "calibration": {**old, "id": f"{old['id']}+{name}", "reals": [round(float(v), 4) for v in np.sort(reals)],
                        "thresholds": {f"{rate:g}": threshold(reals, rate) for rate in (TARGET, HINT)}},
        "fusion": fusion.to_json(),
    }  # fmt: skip
    files = {key: model.folder / entry["name"] for key, entry in model.manifest["files"].items() if key != "memory"}
    table = (model.folder / "clips.csv").read_text(encoding="utf-8")
    memory = [{key: values[index] for key, values in data.features.items()} for index in range(len(data))]
    write_model(target, manifest, files, {"clips.csv": table}, (memory, data.labels.tolist(), data.groups.tolist()))

