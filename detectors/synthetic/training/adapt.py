"""A model that also knows a new generator: its likeness beside the heads that are there, and calibration again, from
under a minute of its clips and the features that the model keeps of the clips it was fitted on."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.fusion import Fusion, Likeness
from detectors.synthetic.inference import HINT, SEGMENTS, TARGET, features_of
from detectors.synthetic.model import CLIPS_TABLE, Model, clips_of, fitted
from detectors.synthetic.training.fit import Data, Recipe, calibration
from detectors.synthetic.training.likeness import Known
from detectors.synthetic.training.recipe import threshold, write_model
from genwm.errors import InputError, NotVerifiedError
from genwm.hashing import sha256_of
from genwm.output import check_folder
from genwm.video import probe

Floats = NDArray[np.float64]
Clips = list[dict[str, Floats]]
#: The sha256 of a file's bytes, and its path.
Named = tuple[str, Path]
#: At most so many seconds of a new generator are taken in.
SECONDS = 60.0
#: Shares of footage that may be less like a new generator where logits begin to rise, and by how much a deviation.
MARGINS, GAINS = (0.84, 0.9, 0.95, 0.97, 0.99), (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: What the groups of adapted generators begin with in a model's memory.
ADAPTED = "new:"
#: What an adapted model may lose on the other generators: of their AUC, and of the share of their clips that it finds.
TOLERANCE, FOUND_TOLERANCE = 0.01, 0.02
#: By how much the AUC on the new generator has to rise where no more of its clips are found: less is chance.
LEAST_GAIN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the before/after table: AUC against the footage, and the share of clips at or above each model's own
    threshold for `TARGET`; of footage, of which none is above its model's own, the threshold that held before."""

    what: str
    clips: int
    auc_before: float | None
    auc_after: float | None
    alarms_before: float
    alarms_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The table, seconds of video that were taken in, why the model is refused ('' where it is not), and notes for a
    person: clips that were left out, or that the model knew already."""

    rows: tuple[Row, ...]
    seconds: float
    refusal: str
    notes: tuple[str, ...] = ()


def adapt(
    clips: Sequence[str | os.PathLike[str]], model: Model, output: str | os.PathLike[str], *, name: str,
    held_out: Sequence[str | os.PathLike[str]] = (), seed: int = 0,
) -> Adapted:  # fmt: skip
    """Fits ``model`` to the generator called ``name`` from ``clips`` (their first `SECONDS` in all) and writes the
    result to ``output``, unless it is refused.

    The heads stay: logits rise with a clip's likeness to the new generator, and all are calibrated again. Judged out of
    fold: footage and known generators by the logits of fits that saw nothing of their source or family, the new
    generator on ``held_out`` clips or, without any, on each of its own clips by a likeness to the others. It is refused
    where more footage rises above the threshold that held before than `TARGET` allows, where of the other generators
    more than `TOLERANCE` of the AUC is lost or more than `FOUND_TOLERANCE` of the clips are no longer found, or where
    the new one gains nothing. Adapting to one ``name`` again adds to its clips. A clip counts once, whatever its names;
    notes say which were left out.

    Errors: InputError (clips that cannot be read or judged; a clip to learn from is also held out), OutputError,
    NotVerifiedError (refused; the table is in its ``args[1]``).
    """
    check_folder(output)
    if not name.strip():
        raise InputError(f"Expected a name of the generator, got {name!r}; give one")
    known, earlier = memory(model)
    footage = {row["sha256"] for row in clips_of(model) if row["label"] == "0"}
    chosen, judges, notes = told_apart(_named(clips), _named(held_out), fitted(model), name, footage)
    seconds, new = _features(list(chosen.values()), model, SECONDS)
    if unread := len(chosen) - len(new):
        notes += (f"clips past the first {SECONDS:.0f} s, left out: {unread}",)
    held = _features(list(judges.values()), model, float("inf"))[1]
    recipe = recipe_of(model, seed)
    result = judge(known, stored_logits(model, known), earlier, new, held, model.fusion, folds=recipe.folds,
                   seed=recipe.seed, name=name)  # fmt: skip
    adapted = Adapted(rows=result.rows, seconds=seconds, refusal=refusal(result.rows), notes=notes)
    if adapted.refusal:
        raise NotVerifiedError(adapted.refusal, adapted)
    _write(model, known, {**earlier, name: [*earlier.get(name, []), *new]}, result, Path(output), name, adapted,
           list(chosen)[: len(new)])  # fmt: skip
    return adapted


def told_apart(
    clips: Sequence[Named], held_out: Sequence[Named], fitted: Mapping[str, str], name: str,
    footage: Collection[str] = (),
) -> tuple[dict[str, Path], dict[str, Path], tuple[str, ...]]:  # fmt: skip
    """The clips to adapt to ``name`` from and those to judge by, by sha256, each once; and notes on the others.

    Args:
        fitted: group of each clip that the model knows, by its sha256.
        footage: sha256 of those among them that no generator made.

    Errors: InputError (a clip to learn from is also held out, or one that no generator made; the model was adapted to
    all before).
    """
    learnt: dict[str, Path] = {}
    judges: dict[str, Path] = {}
    for distinct, given in ((learnt, clips), (judges, held_out)):
        for digest, path in given:
            distinct.setdefault(digest, path)
    if both := learnt.keys() & judges.keys():
        raise InputError(f"Expected held-out clips that are not learnt from, got {judges[min(both)]} as both; hold out "
                         "others")  # fmt: skip
    if real := (learnt | judges).keys() & footage:
        raise InputError(f"Expected clips that {name} made, got {(learnt | judges)[min(real)]}, which the model "
                         "knows as camera footage; leave it out")  # fmt: skip
    fresh = {digest: path for digest, path in learnt.items() if fitted.get(digest) != f"{ADAPTED}{name}"}
    if not fresh:
        raise InputError(f"Expected a clip that the model was not adapted to as {name} before, got none; give others")
    counts = {
        "copies of other clips, left out": len(clips) + len(held_out) - len(learnt) - len(judges),
        "clips that the model was adapted to before, left out": len(learnt) - len(fresh),
        "clips that the model was fitted on, so that 'before' flatters it":
            sum(digest in fitted for digest in [*fresh, *judges]),
    }  # fmt: skip
    return fresh, judges, tuple(f"{what}: {count}" for what, count in counts.items() if count)


def _named(paths: Sequence[str | os.PathLike[str]]) -> list[Named]:
    """Each clip with the sha256 of its bytes. Errors: those of `probe`."""
    found = []
    for path in map(Path, paths):
        probe(path)
        found.append((sha256_of(path), path))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An adapted ``fusion``; of the known clips, out of fold, the logits ``base`` without any likeness and those of
    footage with it, ``reals``; and the table of both models."""

    fusion: Fusion
    base: Floats
    reals: Floats
    rows: tuple[Row, ...]


def judge(
    known: Data, base: Floats, earlier: Mapping[str, Clips], new: Clips, held: Clips, fusion: Fusion, *, folds: int,
    seed: int, name: str,
) -> Judged:  # fmt: skip
    """Adapts ``fusion``, fitted on ``known`` clips and adapted to ``earlier`` generators, to ``new`` clips, and judges
    it on ``held`` ones (none: on each new clip by the likeness to the others).

    From which likeness on, and how steeply, logits rise is what finds most of the new clips at the new threshold, each
    by the likeness to the others, among those of `MARGINS` and `GAINS` that are not refused.

    Args:
        base: logits of the known clips, out of fold and without any likeness, ``(known,)``.
        folds, seed: of the folds that a likeness is judged by.
    """
    space = Known(known, folds=folds, seed=seed)
    reals = known.labels == 0
    others = base
    for other in earlier.keys() - {name}:
        others = others + fusion.likenesses[other].raised(space.likeness(earlier[other])[1])
    before, more = others, earlier.get(name, [])
    if more:
        before = others + fusion.likenesses[name].raised(space.likeness(more)[1])
    rest = replace(fusion, likenesses={other: one for other, one in fusion.likenesses.items() if other != name})
    likeness, values = space.likeness([*more, *new])
    inside = _left_out(space, new, more)
    bar = threshold(before[reals], TARGET)

    def logits(clips: Clips) -> tuple[Floats, Floats]:
        old, plain = (np.array([float(one.logits(clip)) for clip in clips]) for one in (fusion, rest))
        return old, plain

    def rows(shape: Likeness, what: str, old: Floats, plain: Floats, found: Floats) -> tuple[Row, ...]:
        after = others + shape.raised(values)
        own_bar = threshold(after[reals], TARGET)

        def row(what: str, was: Floats, now: Floats) -> Row:
            return Row(what=what, clips=len(was), alarms_before=float((was >= bar).mean()),
                       alarms_after=float((now >= own_bar).mean()), auc_before=_auc(before[reals], was),
                       auc_after=_auc(after[reals], now))  # fmt: skip

        return (row(what, old, plain + shape.raised(found)),
                row("other generators", before[~reals], after[~reals]),
                Row(what="camera footage", clips=int(reals.sum()), auc_before=None, auc_after=None,
                    alarms_before=float((before[reals] >= bar).mean()),
                    alarms_after=float((after[reals] >= bar).mean())))  # fmt: skip

    shapes = [replace(likeness, margin=float(np.quantile(values[reals], margin)), gain=gain)
              for margin in MARGINS for gain in GAINS]  # fmt: skip
    judged = logits(new)
    tried = [(shape, rows(shape, "new generator, each clip by a fit without it", *judged, inside)) for shape in shapes]
    best, table = max(tried, key=lambda one: (not refusal(one[1]), one[1][0].alarms_after + (one[1][0].auc_after or 0),
                                              -one[0].gain))  # fmt: skip
    after = others + best.raised(values)
    factor, constant = _calibration(known, after, judged[1] + best.raised(inside))
    if held:
        outside = np.array([float(likeness.values(clip)) for clip in held])
        table = rows(best, "new generator, held-out clips", *logits(held), outside)
    likenesses = {key: replace(one, gain=factor * one.gain) for key, one in {**fusion.likenesses, name: best}.items()}
    adapted = Fusion(heads=fusion.heads, weights={key: factor * weight for key, weight in fusion.weights.items()},
                     bias=factor * fusion.bias + constant, likenesses=likenesses)  # fmt: skip
    return Judged(fusion=adapted, base=factor * base + constant, reals=factor * after[reals] + constant, rows=table)


def _calibration(known: Data, after: Floats, new: Floats) -> tuple[float, float]:
    """Factor and constant that make calibrated logits of those ``after`` likeness raised some, by a logistic regression
    over the known clips and the ``new`` ones, which weigh as one more family does. Order stays as it is."""
    every = Data(features={}, labels=np.concatenate([known.labels, np.ones(len(new), np.int64)]),
                 groups=np.concatenate([known.groups, np.full(len(new), ADAPTED)]),
                 emphasis=np.ones(len(known) + len(new)))  # fmt: skip
    factor, constant = calibration(np.concatenate([after, new]), every.labels, every.weights)
    return max(0.05, factor), constant


def _left_out(space: Known, new: Clips, more: Clips) -> Floats:
    """The likeness of each clip to the others and ``more``; without any, that of footage."""
    result = np.zeros(len(new))
    for index, clip in enumerate(new):
        rest = [row for number, row in enumerate(new) if number != index] + more
        if rest:
            result[index] = space.likeness(rest)[0].values(clip)
    return result


def refusal(rows: Sequence[Row]) -> str:
    """Why not to write the model, '' where there is nothing against it."""
    new, others, footage = rows
    if new.auc_before is not None and new.auc_after is not None and new.auc_after <= new.auc_before:
        return (f"Expected the AUC on the new generator to rise above {new.auc_before:.2f}, got {new.auc_after:.2f}; "
                "keep the model that there is, or give more clips of it")  # fmt: skip
    if new.alarms_after < new.alarms_before:
        return (f"Expected at least {new.alarms_before:.0%} of the new generator's clips to be found, as before, got "
                f"{new.alarms_after:.0%}; give more clips of it, or keep the model that there is")  # fmt: skip
    if new.auc_before is not None and new.auc_after is not None and new.alarms_after <= new.alarms_before and (
        new.auc_after < new.auc_before + LEAST_GAIN
    ):
        return (f"Expected more of the new generator's clips to be found, or an AUC higher by {LEAST_GAIN}, got "
                f"{new.alarms_after:.0%} found as before and an AUC higher by {new.auc_after - new.auc_before:.3f}; "
                "keep the model that there is, or give more clips of it")  # fmt: skip
    if footage.alarms_after > TARGET:
        return (f"Expected at most {TARGET:.0%} of {footage.clips} real clips above the threshold, got "
                f"{footage.alarms_after:.1%}; give clips of the generator alone, no footage among them")  # fmt: skip
    if others.auc_before is not None and others.auc_after is not None:
        lost = others.auc_before - others.auc_after
        if lost > TOLERANCE:
            return (f"Expected the AUC of the other generators to lose at most {TOLERANCE}, got {lost:.3f}; give more "
                    "and more varied clips of the new generator")  # fmt: skip
    if (forgotten := others.alarms_before - others.alarms_after) > FOUND_TOLERANCE:
        return (f"Expected at most {FOUND_TOLERANCE:.0%} of the other generators' clips to be found no longer, got "
                f"{forgotten:.1%}; give more and more varied clips of the new generator")  # fmt: skip
    return ""


def _features(
    paths: Sequence[str | os.PathLike[str]], model: Model, most_s: float
) -> tuple[float, list[dict[str, Floats]]]:
    """Mean features of each clip, and the seconds that were read; clips past ``most_s`` seconds are left out."""
    seconds, rows = 0.0, list[dict[str, Floats]]()
    for path in paths:
        segments = read_segments(path, count=SEGMENTS, info=probe(path))
        if not segments:
            raise InputError(f"Expected a clip that can be judged, got {path}, too short or too small; leave it out")
        length_s = sum(segment.stop_s - segment.start_s for segment in segments)
        if rows and seconds + length_s > most_s:
            break
        rows.append({key: values.mean(axis=0) for key, values in features_of(segments, model).items()})
        seconds += length_s
    return seconds, rows


def memory(model: Model) -> tuple[Data, dict[str, Clips]]:
    """The clips that a model was fitted on, as it keeps them, and those of each generator that it was adapted to.

    Errors: InputError (no such memory).
    """
    file = model.folder / "memory.npz"
    try:
        with np.load(io.BytesIO(file.read_bytes())) as stored:
            features = {key: stored[f"x_{key}"].astype(np.float64) for key in model.channels}
            labels, groups = stored["labels"].astype(np.int64), stored["groups"].astype(np.str_)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile):
        raise InputError(f"Expected what the model remembers of its clips in {file}, got something else; install the "
                         "model again") from None  # fmt: skip
    data = Data(features=features, labels=labels, groups=groups, emphasis=np.ones(len(labels)))
    fresh = np.char.startswith(groups, ADAPTED)
    earlier: dict[str, Clips] = {}
    for group in np.unique(groups[fresh]):
        earlier[str(group).removeprefix(ADAPTED)] = data.take(groups == group).rows()
    return data.take(~fresh), earlier


def originals(model: Model) -> list[dict[str, str]]:
    """The clips that a model was fitted on, without those that it was adapted to, with the columns of its table."""
    return [row for row in clips_of(model) if not row["group"].startswith(ADAPTED)]


def stored_logits(model: Model, known: Data) -> Floats:
    """Logits of the ``known`` clips of a model's memory, out of fold and without any likeness, as its training or last
    adaptation left them: its thresholds are those of the footage among them."""
    rows = originals(model)
    if [(row["label"], row["group"]) for row in rows] != [
        (str(label), str(group)) for label, group in zip(known.labels, known.groups, strict=True)
    ]:
        raise InputError(f"Expected in {model.folder / CLIPS_TABLE} a line for each of the {len(known)} clips that the "
                         f"model remembers, got {len(rows)} lines or others; train the model again")  # fmt: skip
    return np.array([float(row["logit"]) for row in rows])


def recipe_of(model: Model, seed: int) -> Recipe:
    """How the heads of a model were fitted."""
    recipe = model.manifest["recipe"]
    return Recipe(shrinkages={key: recipe["channels"][key] for key in model.channels},
                  limits=recipe.get("limits", {}), repeats=1, seed=seed)  # fmt: skip


def _auc(reals: Floats, synthetic: Floats) -> float:
    """How often a synthetic clip scores above a real one, ties counted as half."""
    difference = synthetic[:, None] - reals[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _write(
    model: Model, known: Data, adapted_to: Mapping[str, Clips], judged: Judged, target: Path, name: str,
    adapted: Adapted, digests: Sequence[str],
) -> None:  # fmt: skip
    manifest = {key: value for key, value in model.manifest.items() if key not in ("files", "fusion", "calibration")}
    old = model.manifest["calibration"]
    manifest |= {
        "id": f"{model.id}+{name}",
        "adapted": [*manifest.get("adapted", []), {
            "generator": name, "seconds": round(adapted.seconds, 1),
            "table": [{field: getattr(row, field) for field in Row.__slots__} for row in adapted.rows]}],
        "calibration": {**old, "id": f"{old['id']}+{name}",
                        "reals": [round(float(value), 4) for value in np.sort(judged.reals)],
                        "thresholds": {f"{rate:g}": threshold(judged.reals, rate) for rate in (TARGET, HINT)}},
        "fusion": judged.fusion.to_json(),
    }  # fmt: skip
    files = {key: model.folder / entry["name"] for key, entry in model.manifest["files"].items() if key != "memory"}
    lines, logits = clips_of(model), iter(judged.base)
    table = io.StringIO()
    # The clips adapted to, without a logit, are what a later run is told apart by.
    csv.writer(table, lineterminator="\n").writerows([
        list(lines[0]), *([*list(line.values())[:3], f"{next(logits):.4f}" if line["logit"] else ""] for line in lines),
        *([digest, 1, f"{ADAPTED}{name}", ""] for digest in digests),
    ])  # fmt: skip
    memory, labels, groups = known.rows(), known.labels.tolist(), known.groups.tolist()
    for generator, clips in adapted_to.items():
        memory += clips
        labels += [1] * len(clips)
        groups += [f"{ADAPTED}{generator}"] * len(clips)
    write_model(target, manifest, files, {CLIPS_TABLE: table.getvalue()}, (memory, labels, groups))
