"""The protocol: what every clip becomes before it is scored, and what could still give the classes away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import RATE, Segment, canonical
from detectors.synthetic.inference import score
from detectors.synthetic.model import Model, fitted, load_model
from eval.detector.measures import auc
from genwm.errors import InputError
from genwm.extras import require
from genwm.video import VideoInfo, write_video

Floats = NDArray[np.float64]
#: Segments of a clip as they were delivered -> a logit, higher for synthetic.
Scorer = Callable[[Sequence[Segment]], float]


@dataclass(frozen=True, slots=True)
class NamedScorer:
    """A scorer with its name; ``seen`` are the sha256 sums of the clips that it was fitted on."""

    name: str
    score: Scorer
    seen: frozenset[str] = frozenset()


def load_scorer(name: str | None = None) -> NamedScorer:
    """The shipped model (no name), the model in a folder, or ``module:function``: a function of the path of a video
    file in canonical form that returns a probability in [0, 1].

    Errors: NotFoundError, InputError.
    """
    if name and ":" in name and not Path(name).exists():
        module, _, function = name.partition(":")
        try:
            found = getattr(import_module(module), function)
        except Exception as error:  # what a foreign module raises
            raise InputError(f"Expected a function module:function, got {name} ({error}); check its name") from None
        if not callable(found):
            kind = type(found).__name__
            raise InputError(f"Expected a function module:function, got {name}, which is of {kind}; check its name")
        return NamedScorer(name, through_files(found))
    model = load_model(name, threads=1)
    return NamedScorer(model.id, of_model(model), fitted_on(model))


def of_model(model: Model) -> Scorer:
    return lambda segments: float(score(segments, model)[1].mean())


def fitted_on(model: Model) -> frozenset[str]:
    """sha256 sums of the clips that a model was fitted on."""
    return frozenset(fitted(model))


def through_files(function: Callable[[str], float]) -> Scorer:
    """A scorer of files as a scorer of segments: it gets the canonical crops, one after the other, as one MP4 file."""

    def run(segments: Sequence[Segment]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            frames = (planes for segment in segments for planes in canonical(segment).crop.planes())
            write_video(path, frames, fps=RATE, crf=0, threads=1)
            answer = function(str(path))
        try:
            value = float(answer)
        except (TypeError, ValueError):
            value = float("nan")
        if not 0 <= value <= 1:
            raise InputError(f"Expected a probability in [0, 1] from the scorer, got {answer!r}; let it return one")
        return float(np.log(max(value, 1e-6) / max(1 - value, 1e-6)))

    return run


def facts_of(info: VideoInfo, size: int) -> list[float]:
    """What a container says without a look at its pixels: length, rate, size, frames, bits a second and pixel, sound,
    codec."""
    length_s, fps = info.duration_s or 0.0, info.fps or 0.0
    pixels = info.width * info.height
    codecs = {"h264": 0, "hevc": 1, "vp9": 2, "av1": 3, "mpeg4": 4}
    density = 8 * size / max(length_s, 0.1) / max(pixels, 1)
    return [length_s, fps, info.width, info.height, info.frame_count or length_s * fps, density, float(info.has_audio),
            codecs.get(info.codec, 5)]  # fmt: skip


def canonical_facts(segments: Sequence[Segment]) -> list[float]:
    """The same of canonical segments: frames, rate, size of the crop, bits a second and pixel; no sound, one codec."""
    first = canonical(segments[0])
    height, width = first.crop.y.shape[1:]
    density = 8 * first.encoded_bytes * RATE / len(first.crop) / (height * width)
    return [len(first.crop) / RATE, RATE, width, height, len(first.crop), density, 0.0, 0.0]


def probe(facts: Iterable[Sequence[float]], labels: Sequence[int], groups: Sequence[str], *, seed: int = 0) -> float:
    """How well container facts alone separate the classes: AUC of a random forest's out-of-fold probabilities, folds
    by group, mean of three divisions. Near .5 is what the protocol has to bring about.

    Errors: MissingExtraError (scikit-learn).
    """
    from detectors.synthetic.training.fit import group_folds

    ensemble = require("sklearn.ensemble", "train")
    rows, truth, names = np.asarray(list(facts), np.float64), np.asarray(labels, np.int64), np.asarray(groups, np.str_)
    count = min(8, *(len(np.unique(names[truth == one])) for one in (0, 1)))
    areas = []
    for repeat in range(3):
        folds = group_folds(truth, names, count, seed + repeat)
        out = np.zeros(len(truth))
        for fold in np.unique(folds):
            inside = folds != fold
            forest = ensemble.RandomForestClassifier(
                200, min_samples_leaf=3, class_weight="balanced", random_state=seed
            )
            forest.fit(rows[inside], truth[inside])
            out[~inside] = forest.predict_proba(rows[~inside])[:, 1]
        areas.append(auc(truth, out))
    return float(np.mean(areas))


__all__ = ["NamedScorer", "Scorer", "canonical_facts", "facts_of", "fitted_on", "load_scorer", "of_model",
           "probe", "through_files"]  # fmt: skip
