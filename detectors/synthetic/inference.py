"""A clip -> what the classifier says about it. Needs no torch."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import LEAST_FRAMES, LEAST_SIDE, RATE, Collector, Segment, collect
from detectors.synthetic.deliveries import DELIVERIES, MILD
from detectors.synthetic.features import segment_features
from detectors.synthetic.fusion import probability, share_as_high
from detectors.synthetic.model import Model, load_model
from genwm.errors import InputError
from genwm.video import VideoInfo, probe
from genwm.video.model import Source

Status = Literal["likely_synthetic", "inconclusive", "no_evidence"]
Frames = NDArray[np.uint8]

#: False-positive targets of 'likely_synthetic' and of 'inconclusive'.
TARGET, HINT = 0.01, 0.05
#: Segments of a clip that are looked at, evenly spread; fewer where it is too short for so many.
SEGMENTS = 8
#: Segments on which a likely verdict is tried again after mild re-deliveries.
TRIED_AGAIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentReading:
    """One run of frames: its time in the clip, its probability, and its place ``(top, left, height, width)`` of the
    part that was looked at in native pixels."""

    start_s: float
    stop_s: float
    probability: float
    place: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticReading:
    """What the classifier says. It never says 'real': 'no_evidence' is silence.

    Attributes:
        status: 'likely_synthetic' where fewer than `TARGET` of camera footage scores as high, also after mild
            re-deliveries; 'inconclusive' up to `HINT`, where a re-delivery flips the verdict, or where the clip cannot
            be judged; else 'no_evidence'.
        probability: calibrated for as many synthetic clips as real ones; the mean of the segments' logits. 0.5 where
            the clip cannot be judged.
        false_positive_rate: share of the calibration set's camera footage that scores as high; None: not judged.
        model: id of the model; ``calibration``: id of the set of clips that its rates rest on.
        segments: the runs of frames that were looked at.
        channels: what each channel adds to the logit, towards synthetic where positive.
        redeliveries: logit after each mild re-delivery that was tried.
        reasons: in plain sentences; ``timing``: seconds by part.
    """

    status: Status
    probability: float
    logit: float
    false_positive_rate: float | None
    model: str
    calibration: str
    segments: tuple[SegmentReading, ...] = ()
    channels: Mapping[str, float] = field(default_factory=dict)
    redeliveries: Mapping[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    timing: Mapping[str, float] = field(default_factory=dict)


def classify(
    source: Source | Frames | Collector,
    *,
    fps: float | None = None,
    model: Model | None = None,
    info: VideoInfo | None = None,
    stability: bool = True,
    threads: int = 2,
) -> SyntheticReading:
    """Whether a generator made this clip.

    ``source`` is a path or binary stream; or RGB frames uint8 ``(frames, height, width, 3)`` with their ``fps`` (None:
    unknown); or a `Collector` (see `new_collector`) that a scan has fed while it decoded, so that the file is decoded
    once. ``model`` defaults to the shipped one; ``info`` spares probing the file again. ``stability`` tries a likely
    verdict again after a re-encode, at 0.75 of the size and without 5 % of the sides.

    Errors: those of ``genwm.video.probe`` for files; InputError (frames of another shape or rate, no model).
    """
    started = time.perf_counter()
    model = load_model(threads=threads) if model is None else model
    collector, warnings, reason = _collected(source, fps, info, threads)
    segments = collector.segments()
    decoded_s = time.perf_counter() - started
    if not segments:
        return _unknown(model, reason or _too_little(collector), warnings, decoded_s)
    reading = replace(judge(segments, model, stability=stability), warnings=tuple(warnings))
    return replace(reading, timing={"decode": decoded_s, **reading.timing})


def new_collector(info: VideoInfo) -> Collector:
    """A collector for a file that someone else decodes: feed it every frame with ``add`` (`Planes`) or ``add_rgb``, in
    order of time and at native size, then hand it to `classify`."""
    return Collector(info.fps, info.duration_s, count=SEGMENTS)


def judge(segments: Sequence[Segment], model: Model, *, stability: bool = True) -> SyntheticReading:
    """The reading of segments as they were delivered, at least one."""
    started = time.perf_counter()
    contributions, logits = score(segments, model)
    logit = float(logits.mean())
    scored_s = time.perf_counter() - started
    reals = model.calibration.reals
    rate = share_as_high(logit, reals)
    retried: dict[str, float] = {}
    if rate <= TARGET and stability:
        count = min(TRIED_AGAIN, len(segments))
        middle = [segments[index] for index in np.linspace(0, len(segments) - 1, count).round().astype(int)]
        for name in MILD:
            retried[name] = float(score(list(map(DELIVERIES[name], middle)), model)[1].mean())
            if share_as_high(retried[name], reals) > TARGET:
                break
    weakest = max((share_as_high(value, reals) for value in retried.values()), default=rate)
    flipped = rate <= TARGET < weakest
    status: Status = "likely_synthetic" if rate <= TARGET else "inconclusive" if rate <= HINT else "no_evidence"
    if flipped:
        status = "inconclusive"
    return SyntheticReading(
        status=status,
        probability=probability(logit),
        logit=logit,
        false_positive_rate=rate,
        model=model.id,
        calibration=model.calibration.id,
        segments=tuple(
            SegmentReading(start_s=segment.start_s, stop_s=segment.stop_s, probability=probability(float(value)),
                           place=(*segment.origin, *segment.crop.y.shape[1:]))
            for segment, value in zip(segments, logits, strict=True)
        ),
        channels={name: float(values.mean()) for name, values in contributions.items()},
        redeliveries=retried,
        reasons=_reasons(status, rate, retried if flipped else {}, model),
        timing={"score": scored_s, "redeliveries": time.perf_counter() - started - scored_s},
    )


def score(
    segments: Sequence[Segment], model: Model
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Contributions by channel and logits, ``(segments,)`` each, of segments as they were delivered."""
    features = features_of(segments, model)
    return model.fusion.contributions(features), model.fusion.logits(features)


def features_of(segments: Sequence[Segment], model: Model) -> dict[str, NDArray[np.float64]]:
    """The features of segments as they were delivered, ``(segments, numbers)`` a channel, `Model.threads` at a time."""
    with ThreadPoolExecutor(max(1, model.threads)) as pool:  # encoders and networks run outside the interpreter's lock
        rows = list(pool.map(lambda segment: segment_features(segment, model.networks, model.channels)[0], segments))
    return {name: np.stack([row[name] for row in rows]) for name in model.channels}


def _collected(
    source: Source | Frames | Collector, fps: float | None, info: VideoInfo | None, threads: int
) -> tuple[Collector, list[str], str]:
    """The frames of a source, warnings, and why it cannot be judged where that is clear."""
    if isinstance(source, Collector):
        return source, [], ""
    if isinstance(source, np.ndarray):
        if source.ndim != 4 or source.shape[-1] != 3 or source.dtype != np.uint8:
            raise InputError("Expected RGB frames uint8 (frames, height, width, 3), got "
                             f"{source.dtype} {source.shape}; convert them first")  # fmt: skip
        if fps is not None and not 0 < fps < np.inf:
            raise InputError(f"Expected frames a second above 0, got {fps:g}; give the clip's, or None if unknown")
        length_s = None if fps is None else len(source) / fps
        collector = Collector(fps, length_s, count=SEGMENTS)
        for index, frame in enumerate(source):
            collector.add_rgb(index / (25.0 if fps is None else fps), frame)
        return collector, [], ""
    if not isinstance(source, str | os.PathLike) and not hasattr(source, "read"):
        raise InputError("Expected a path, a binary stream, an array of RGB frames or a Collector, got "
                         f"{type(source).__name__}; give one of them")  # fmt: skip
    info = probe(source) if info is None else info
    collector = new_collector(info)
    if info.is_still:
        return collector, [], "It is a still image; the classifier reads moving pictures only."
    return collector, collect(source, collector, threads=threads), ""


def _too_little(collector: Collector) -> str:
    if 0 < collector.largest_side < LEAST_SIDE:
        return f"Its pictures have {collector.largest_side} lines or columns; the classifier needs {LEAST_SIDE}."
    return (f"It has fewer than {LEAST_FRAMES} frames in a row that differ, of about {RATE:g} a second; the classifier "
            "needs so many.")  # fmt: skip


def _unknown(model: Model, reason: str, warnings: Sequence[str], decoded_s: float) -> SyntheticReading:
    return SyntheticReading(status="inconclusive", probability=0.5, logit=0.0, false_positive_rate=None, model=model.id,
                            calibration=model.calibration.id, reasons=(reason,), warnings=tuple(warnings),
                            timing={"decode": decoded_s})  # fmt: skip


def _reasons(status: Status, rate: float, flipped: Mapping[str, float], model: Model) -> tuple[str, ...]:
    clips, sources = model.calibration.reals.size, model.calibration.sources
    share = f"{rate:.1%} of camera footage scores as high ({clips} clips of {sources} sources, counted with itself)"
    if flipped:
        name = min(flipped, key=lambda key: flipped[key])
        return (f"It scores like synthetic video, but no longer once it is {MILD[name]}.",)
    if status == "likely_synthetic":
        return (f"At most {share}, and mild re-deliveries change nothing.",)
    return (f"About {share}.",)


__all__ = ["SegmentReading", "SyntheticReading", "classify", "judge", "new_collector", "score"]
