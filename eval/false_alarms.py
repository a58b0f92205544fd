"""False alarms: clips that nobody marked, read with random keys, and the p-values that come out against uniform.

    python -m eval.false_alarms --videos DIR --out false-alarms.csv

What can be computed without a key (frames, evidence, spectra) is computed once a clip; the keys are then tried against
it in batches, with the detector's own functions and its own decision. All keys are tried at the known geometries
(level ``known``), the first few of each clip in the whole search (level ``all``).

Beside ``OUT.csv``, one row a clip and key, stand ``OUT.clips.csv``, one row a clip (it says which clips are done),
``OUT.summary.csv`` and ``OUT.md``.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import partial, reduce
from multiprocessing import get_context
from operator import add
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr
from scipy.stats import beta, chi2

from detectors import watermark as reader
from eval import tables
from eval.corpus import Video, list_videos
from genwm.errors import GenwmError, InputError, NotFoundError, OutputError
from genwm.keys import Key
from genwm.lattice import geometry
from genwm.lattice.decision import HINT_LOG10_P, SHARES, THRESHOLD_LOG10_P
from genwm.lattice.decode import Projection, project_candidate
from genwm.lattice.evidence import Accumulator, Evidence
from genwm.lattice.geometry import Candidate
from genwm.lattice.spectrum import Spectrum, transform
from genwm.lattice.zoom import zoomed
from genwm.video import probe

#: Families tried with every key, and those that only the whole search tries.
KNOWN = ("unchanged", "flipped", "near", "aspect")
SEARCHED = ("scale", "warp", "zoom")
FAMILIES = KNOWN + SEARCHED
COLUMNS = (
    "clip", "key", "level", *(f"z_{name}" for name in FAMILIES), *(f"log10_p_{name}" for name in FAMILIES),
    "log10_p", "decision", "payload",
)  # fmt: skip
#: Keys tried at once: bounds the memory.
BATCH = 100
#: How far the p-value may be from the one that read_watermark itself reports.
_AGREEMENT = 0.02
_Candidates = dict[int, list[Candidate]]


@dataclass(frozen=True, slots=True)
class Look:
    """One look of the detector: the evidence that it has so far, and whether the whole search runs on it."""

    evidence: tuple[Evidence, ...]
    spectrum: Spectrum
    thorough: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What one random key gave on one clip.

    Attributes:
        key: number of the key.
        level: 'known' (known geometries) or 'all' (the whole search).
        z, family_log10_p: by family, on the last look, the one with all the evidence; the p-value is the family's own
            with its share of the error budget, before the looks are counted. Families that were not tried are missing.
        log10_p: of the detector's decision over all looks and over the families of ``level``.
        decision: 'detected', 'inconclusive' or 'not_detected'.
        payload: 16 hex digits if a payload was "read", else empty.
    """

    key: int
    level: str
    z: dict[str, float]
    family_log10_p: dict[str, float]
    log10_p: float
    decision: str
    payload: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipResult:
    """One clip: what was tried on it and what came out. ``tests_*`` is the number of tests that each family claims."""

    clip: str
    label: str = ""
    group: str = ""
    short_side: int = 0
    frames: int = 0
    looks: int = 0
    keys: int = 0
    search_keys: int = 0
    max_frames: int = 0
    seed: int = 0
    detected: int = 0
    inconclusive: int = 0
    min_log10_p: float = 0.0
    tests_unchanged: float = math.nan
    tests_flipped: float = math.nan
    tests_near: float = math.nan
    tests_aspect: float = math.nan
    tests_scale: float = math.nan
    tests_warp: float = math.nan
    tests_zoom: float = math.nan
    seconds: float = 0.0
    cpu_s: float = 0.0
    versions: str = ""
    error: str = ""
    message: str = ""

    def tests(self, family: str) -> float:
        return float(getattr(self, f"tests_{family}"))


# The measurement.


def random_key(video: Video, number: int, seed: int) -> Key:
    """Key ``number`` for a clip: a hash of seed, clip and number, so that a run can be repeated."""
    text = f"genwm eval/false-alarms/{seed}/{video.sha256 or video.id}/{number}"
    return Key(f"random-{number}", hashlib.sha256(text.encode()).digest(), "2026-01-01T00:00:00+00:00")


def looks_of(path: str | os.PathLike[str], *, max_frames: int, threads: int = 1) -> list[Look]:
    """The looks that ``read_watermark`` takes at an unmarked file: key frames, a first stretch, all the evidence."""
    info = probe(path)
    looks: list[Look] = []

    def look(evidence: Sequence[Evidence], *, thorough: bool = False) -> None:
        if evidence:
            looks.append(Look(tuple(evidence), transform(reduce(add, evidence)), thorough))

    if not info.is_still:
        keyed = Accumulator(group_frames=4)
        for frame in reader._key_frames(path, info, threads, min(reader.KEY_FRAMES, max_frames), []):
            keyed.add(frame)
        look(keyed.take())
    collected, evidence = reader._collector(info, max_frames), []
    for number, frame in enumerate(reader._stretches(path, info, threads, max_frames, []), start=1):
        collected.add(frame)
        if number == reader.FIRST_LOOK_FRAMES:
            evidence = collected.take()
            look(evidence)
    look(reader._same_size([*evidence, *collected.take()]), thorough=True)
    return looks


def try_keys(
    looks: Sequence[Look], keys: Sequence[Key], *, search_keys: int
) -> Iterator[tuple[Trial, list[Candidate]]]:
    """Tries every key by itself at the known geometries, and the first ``search_keys`` in the whole search.

    Yields what each key gave and the candidates of the last look. The first numbers of ``keys`` count from 0.
    """
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        searched = min(max(search_keys - start, 0), len(batch))
        signs = geometry.pilot_keys(batch)
        known = [_by_key(geometry.uncropped(look.spectrum, signs)) for look in looks]
        crops: _Candidates = {}
        warps: _Candidates = {}
        zooms: dict[int, list[tuple[Candidate, Callable[[], Projection]]]] = {}
        if searched:
            last, few = looks[-1], signs[:searched]
            crops = _by_key(geometry.cropped(last.spectrum, few))
            warps = _by_key(geometry.warped(last.spectrum, few))
            for candidate, projection in zoomed(last.evidence, few):
                zooms.setdefault(candidate.key, []).append((replace(candidate, key=0), projection))
        for number, key in enumerate(batch):
            whole = number < searched
            search = reader._Search([key], [signs[number]])
            candidates: list[Candidate] = []
            for look, found in zip(looks, known, strict=True):
                still = partial(project_candidate, look.spectrum)
                candidates = list(found[number])
                if search._weigh(candidates, still, looks=reader.LOOKS):
                    break
                if look.thorough and whole:
                    moving = zooms.get(number, [])
                    projections = {id(candidate): make for candidate, make in moving}
                    zoom_candidates = [candidate for candidate, _ in moving]
                    candidates += crops.get(number, []) + warps.get(number, []) + zoom_candidates
                    _ = (
                        search._weigh(crops.get(number, []), still)
                        or search._weigh(warps.get(number, []), still)
                        or search._weigh(zoom_candidates, lambda item, of=projections: of[id(item)]())  # type: ignore[misc]
                    )
            yield _trial(start + number, "all" if whole else "known", candidates, search.best), candidates


def _by_key(candidates: Iterable[Candidate]) -> _Candidates:
    """Candidates by key, each as if its key had been tried alone."""
    found: _Candidates = defaultdict(list)
    for candidate in candidates:
        found[candidate.key].append(replace(candidate, key=0))
    return found


def _trial(number: int, level: str, candidates: Sequence[Candidate], best: reader._Finding) -> Trial:
    z: dict[str, float] = {}
    for candidate in candidates:
        z[candidate.family.name] = max(candidate.z, z.get(candidate.family.name, -math.inf))
    families = {candidate.family.name: candidate.family for candidate in candidates}
    decision = (
        "detected" if best.log10_p <= THRESHOLD_LOG10_P
        else "inconclusive" if best.log10_p <= HINT_LOG10_P
        else "not_detected"
    )  # fmt: skip
    log10_p = {name: families[name].log10_p(value) for name, value in z.items()}
    payload = "" if best.payload is None else f"{best.payload:016x}"
    return Trial(number, level, z, log10_p, best.log10_p, decision, payload)


def measure(video: Video, *, keys: int, search_keys: int, max_frames: int, seed: int) -> tuple[ClipResult, list[Trial]]:
    """Tries ``keys`` random keys on one clip. What fails is a result with an error and no trials."""
    result = ClipResult(
        clip=video.id, label=video.label, group=video.group, short_side=video.short_side, keys=keys,
        search_keys=search_keys, max_frames=max_frames, seed=seed, versions=tables.versions("av", "numpy"),
    )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        looks = looks_of(video.path, max_frames=max_frames)
        if not looks:
            raise InputError(f"Expected frames in {video.path}, got none; leave the file out")
        ring = [random_key(video, number, seed) for number in range(keys)]
        trials: list[Trial] = []
        tests: dict[str, Any] = {}
        for trial, candidates in try_keys(looks, ring, search_keys=search_keys):
            trials.append(trial)
            tests |= {f"tests_{candidate.family.name}": float(candidate.family.tests) for candidate in candidates}
        if search_keys:
            _check(video, ring[0], trials[0], max_frames)
    except Exception as error:  # one clip is one row, whatever happens
        code, message = tables.failure(error, limit=300)
        return replace(result, error=code, message=message), []
    return replace(
        result,
        frames=sum(item.frames for item in looks[-1].evidence),
        looks=len(looks),
        detected=sum(trial.decision == "detected" for trial in trials),
        inconclusive=sum(trial.decision == "inconclusive" for trial in trials),
        min_log10_p=min(trial.log10_p for trial in trials),
        seconds=round(time.perf_counter() - wall, 2),
        cpu_s=round(time.process_time() - cpu, 2),
        **tests,
    ), trials  # fmt: skip


def _check(video: Video, key: Key, trial: Trial, max_frames: int) -> None:
    """The numbers are worth something only if they are those of the detector that ships."""
    reading = reader.read_watermark(video.path, keys=[key], max_frames=max_frames, threads=1)
    if abs(reading.log10_p - trial.log10_p) > _AGREEMENT:
        raise GenwmError(
            f"Expected log10 p {reading.log10_p:.3f} as from read_watermark, got {trial.log10_p:.3f}; "
            "bring eval/false_alarms.py into line with detectors/watermark.py"
        )


# The tables.


def run(
    videos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    keys: int = 1000,
    search_keys: int = 20,
    max_frames: int = 72,
    labels: Sequence[str] = (),
    min_short_side: int = 0,
    limit: int | None = None,
    processes: int = 1,
    seed: int = 0,
    progress: Callable[[int, int, ClipResult], None] | None = None,
) -> list[ClipResult]:
    """Tries random keys on every clip of a folder and returns the results of all clips in the tables, old and new.

    Args:
        videos, min_short_side: see :func:`eval.corpus.list_videos`. Every clip must be unmarked.
        out: CSV file of the rows; continued if it is there. A clip is written when it is finished, and only then.
        keys: random keys a clip at the known geometries.
        search_keys: how many of them are also tried in the whole search, about 0.3 s each.
        max_frames: the detector's frame budget.
        labels: only clips with one of these labels in the manifest; empty: all.
        processes: workers, a clip each.

    Errors: those of list_videos; OutputError (the tables are of another run, or cannot be written), DiskFullError.
    """
    if search_keys > keys:
        raise InputError(f"Expected at most {keys} keys for the search, got {search_keys}; raise the number of keys")
    listed = list_videos(videos, min_short_side=min_short_side, seed=seed)
    listed = [video for video in listed if not labels or video.label in labels][:limit]
    if not listed:
        raise InputError(f"Expected clips with label {' or '.join(labels)} in {videos}, got none; choose another label")
    rows, clips = Path(out), _clips_path(Path(out))
    settings = {"keys": keys, "search_keys": search_keys, "max_frames": max_frames, "seed": seed}
    done = {result.clip for result in _prepare(rows, clips, settings)}
    left = [video for video in listed if video.id not in done]
    work = partial(measure, keys=keys, search_keys=search_keys, max_frames=max_frames, seed=seed)
    for count, (result, trials) in enumerate(_measured(work, left, processes), start=1):
        # Rows first: a clip whose line is in the table of clips has all its rows.
        tables.append(rows, (_values(result.clip, trial) for trial in trials))
        tables.append(clips, [_clip_values(result)])
        if progress:
            progress(count, len(left), result)
    return read_clips(rows)


def _measured(
    work: Callable[[Video], tuple[ClipResult, list[Trial]]], videos: Sequence[Video], processes: int
) -> Iterator[tuple[ClipResult, list[Trial]]]:
    if processes <= 1 or len(videos) <= 1:
        yield from map(work, videos)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, videos)


def _clips_path(rows: Path) -> Path:
    return rows.with_suffix(".clips.csv")


def _prepare(rows: Path, clips: Path, settings: dict[str, int]) -> list[ClipResult]:
    """Makes the tables, or takes out what a kill has left unfinished; returns the clips that are done."""
    done = _read_clips(clips) or []
    for result in done:
        if any(getattr(result, name) != value for name, value in settings.items()):
            raise OutputError(f"Expected results of a run with {settings} in {clips}, got others; choose another name")
    names = {result.clip for result in done}
    kept = (line.values() for line in _read_rows(rows) or () if line["clip"] in names)
    tables.rewrite(rows, COLUMNS, kept)
    tables.rewrite(clips, [field.name for field in fields(ClipResult)], map(_clip_values, done))
    return done


def _read_rows(path: Path) -> Iterator[dict[str, str]] | None:
    other = OutputError(f"Expected a table of false alarms in {path}, got another; choose another name")
    return tables.read(path, COLUMNS, refusal=other)


def _values(clip: str, trial: Trial) -> list[object]:
    def column(values: dict[str, float]) -> list[str]:
        return [f"{values[name]:.4f}" if name in values else "" for name in FAMILIES]

    return [clip, trial.key, trial.level, *column(trial.z), *column(trial.family_log10_p), f"{trial.log10_p:.4f}",
            trial.decision, trial.payload]  # fmt: skip


def _clip_values(result: ClipResult) -> list[object]:
    return ["" if isinstance(value, float) and math.isnan(value) else value for value in asdict(result).values()]


def read_clips(rows: str | os.PathLike[str]) -> list[ClipResult]:
    """The clips that are done, from the table beside ``rows``. Errors: NotFoundError, OutputError (another table)."""
    path = _clips_path(Path(rows))
    results = _read_clips(path)
    if results is None:
        raise NotFoundError(f"Expected a table of clips at {path}, got none; run the measurement first")
    return results


def _read_clips(path: Path) -> list[ClipResult] | None:
    kinds = {field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(ClipResult)}
    other = OutputError(f"Expected a table of clips in {path}, got another; choose another name")
    lines = tables.read(path, tuple(kinds), refusal=other)
    if lines is None:
        return None
    results = {}
    for line in lines:
        known: dict[str, Any] = {name: kinds[name](text or "nan" if kinds[name] is float else text)
                                 for name, text in line.items()}  # fmt: skip
        results[line["clip"]] = ClipResult(**known)
    return list(results.values())


@dataclass(frozen=True, slots=True)
class Sample:
    """All trials of finished clips as columns, ``n`` in all.

    Attributes:
        clip: int ``(n,)``, index into ``clips``.
        key: int ``(n,)``.
        whole: bool ``(n,)``, whether the whole search was run.
        z: float ``(n,)`` by family, nan where not tried.
        log10_p: float ``(n,)``, of the decision.
    """

    clips: tuple[ClipResult, ...]
    clip: NDArray[np.int64]
    key: NDArray[np.int64]
    whole: NDArray[np.bool_]
    z: dict[str, NDArray[np.float64]]
    log10_p: NDArray[np.float64]

    def family_log10_p(self, family: str) -> NDArray[np.float64]:
        """p-values of one family by itself, base 10, not capped at 1: tests x tail, without its share of the budget."""
        tests, z = self._tried(family)
        return np.asarray(log_ndtr(-z) / math.log(10) + np.log10(tests), dtype=np.float64)

    def exposure(self, family: str) -> NDArray[np.float64]:
        """-T log(1 - tail(z)) for T claimed tests: exponential of rate 1 if z is the best of T independent ones."""
        tests, z = self._tried(family)
        return np.asarray(-tests * log_ndtr(z), dtype=np.float64)

    def _tried(self, family: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tests = np.array([clip.tests(family) for clip in self.clips])[self.clip]
        tried = np.isfinite(self.z[family])
        return tests[tried], self.z[family][tried]


def read_sample(rows: str | os.PathLike[str]) -> Sample:
    """The trials of ``rows`` that belong to finished clips."""
    clips = tuple(result for result in read_clips(rows) if not result.error)
    index = {result.clip: number for number, result in enumerate(clips)}
    wanted = ("clip", "key", "level", *(f"z_{name}" for name in FAMILIES), "log10_p")
    table = _read_rows(Path(rows))
    if table is None:
        raise NotFoundError(f"Expected a table of false alarms at {rows}, got none; run the measurement first")
    lines = [[line[name] for name in wanted] for line in table if line["clip"] in index]
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(wanted)
    numbers = {name: np.array([float(text or "nan") for text in column])
               for name, column in zip(wanted, columns, strict=True) if name not in ("clip", "level")}  # fmt: skip
    return Sample(
        clips=clips,
        clip=np.array([index[name] for name in columns[0]], dtype=np.int64),
        key=numbers["key"].astype(np.int64),
        whole=np.array([level == "all" for level in columns[2]], dtype=np.bool_),
        z={name: numbers[f"z_{name}"] for name in FAMILIES},
        log10_p=numbers["log10_p"],
    )


# The statistics.


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRow:
    """How often ``what`` had p <= 10^-k: measured against claimed. The interval is Clopper and Pearson's, 95 %; where
    ``hits`` is 0, ``high`` is 3 / n by the rule of three (95 %, one-sided). ``ratio`` is rate / 10^-k."""

    what: str
    k: int
    tests: int
    hits: int
    rate: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How many independent tests a family's best correlation is really worth, as a factor of the number it claims.

    ``tail`` is the share of the sample, the largest values, that the figure is fitted to (1: all of it); ``claimed``
    and ``effective`` are numbers of tests of the median clip.
    """

    family: str
    tail: float
    hits: int
    factor: float
    low: float
    high: float
    claimed: float
    effective: float


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion (Clopper and Pearson, Biometrika 26, 1934); rule of three where there is no hit."""
    if hits == 0:
        return 0.0, min(1.0, 3 / count) if count else 1.0
    low = float(beta.ppf(0.025, hits, count - hits + 1))
    return low, float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0


def tail_rows(what: str, log10_p: NDArray[np.float64]) -> list[TailRow]:
    """Measured against claimed at 10^-1, 10^-2, ... down to the first that the sample is too small for."""
    count = len(log10_p)
    result = []
    for k in range(1, math.floor(math.log10(count)) + 2 if count else 1):
        hits = int(np.sum(log10_p <= -k))
        low, high = clopper_pearson(hits, count)
        scale = 10.0**k
        result.append(TailRow(what=what, k=k, tests=count, hits=hits, rate=hits / count, low=low, high=high,
                              ratio=hits / count * scale, ratio_low=low * scale, ratio_high=high * scale))  # fmt: skip
    return result


def calibrations(
    family: str, exposure: NDArray[np.float64], claimed: float, *, tails: Sequence[float] = (1.0, 0.1, 0.01)
) -> list[Calibration]:
    """Fits the number of tests to ``exposure`` as from ``Sample.exposure``.

    The best of f T independent tests has an exponential exposure of rate f. The rate is estimated by maximum
    likelihood from the values below the quantile ``tail``, the others censored there; its 95 % interval is that of a
    Poisson count.
    """
    values = np.sort(exposure)
    result = []
    for tail in tails:
        hits = math.floor(tail * len(values))
        if hits < 10:
            continue
        below = values[:hits]
        total = float(below.sum() + (len(values) - hits) * below[-1])
        low, high = (float(chi2.ppf(level, 2 * count)) / (2 * total)
                     for level, count in ((0.025, hits), (0.975, hits + 1)))  # fmt: skip
        factor = hits / total
        result.append(Calibration(family=family, tail=tail, hits=hits, factor=factor, low=low, high=high,
                                  claimed=claimed, effective=factor * claimed))  # fmt: skip
    return result


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run showed. ``known`` and ``whole`` count decisions: trials, detected, inconclusive, payloads."""

    clips: int
    errors: tuple[ClipResult, ...]
    known: dict[str, int]
    whole: dict[str, int]
    tails: tuple[TailRow, ...]
    calibration: tuple[Calibration, ...]
    worst: tuple[tuple[str, int, float, str], ...]
    expected_ratio: float


def summarize(rows: str | os.PathLike[str], *, worst: int = 10) -> Summary:
    """Sums up the tables of a run."""
    sample = read_sample(rows)
    tails = tail_rows("decision, whole search", sample.log10_p[sample.whole])
    tails += tail_rows("decision, known geometries alone", sample.log10_p[~sample.whole])
    fitted: list[Calibration] = []
    for family in FAMILIES:
        values = sample.family_log10_p(family)
        claimed = np.array([clip.tests(family) for clip in sample.clips])
        claimed = claimed[np.isfinite(claimed)]
        if len(values):
            tails += tail_rows(family, values)
            fitted += calibrations(family, sample.exposure(family), float(np.median(claimed)))
    order = np.argsort(sample.log10_p, kind="stable")[:worst]
    listed = tuple(
        (sample.clips[sample.clip[i]].clip, int(sample.key[i]), float(sample.log10_p[i]), _loudest(sample, int(i)))
        for i in order
    )
    return Summary(
        clips=len(sample.clips),
        errors=tuple(result for result in read_clips(rows) if result.error),
        known=_counts(sample.log10_p[~sample.whole]),
        whole=_counts(sample.log10_p[sample.whole]),
        tails=tuple(tails),
        calibration=tuple(fitted),
        worst=listed,
        expected_ratio=_expected_ratio(sample, fitted),
    )


def _counts(log10_p: NDArray[np.float64]) -> dict[str, int]:
    return {
        "trials": len(log10_p),
        "detected": int(np.sum(log10_p <= THRESHOLD_LOG10_P)),
        "inconclusive": int(np.sum((log10_p <= HINT_LOG10_P) & (log10_p > THRESHOLD_LOG10_P))),
    }


def _loudest(sample: Sample, row: int) -> str:
    """The family with the least p-value on the last look."""
    clip = sample.clips[sample.clip[row]]
    scores = {
        name: float(log_ndtr(-z)) + math.log(clip.tests(name) / SHARES[name])
        for name in FAMILIES
        if math.isfinite(z := float(sample.z[name][row]))
    }
    return min(scores, key=lambda name: scores[name]) if scores else ""


def _expected_ratio(sample: Sample, fitted: Sequence[Calibration]) -> float:
    """Measured over claimed of the whole decision far out in the tail, as the families' calibration predicts it: each
    one's share of the budget x its factor x the looks that try it / the looks that are counted. Payloads are left
    out."""
    factors = {item.family: item.factor for item in fitted}  # the last is the one furthest out
    looks = float(np.mean([clip.looks for clip in sample.clips])) if sample.clips else 0.0
    return sum(
        SHARES[name] * factor * (looks / reader.LOOKS if name in KNOWN else 1) for name, factor in factors.items()
    )


def markdown(summary: Summary) -> str:
    """The summary for people."""
    return "\n".join(_paragraphs(summary)) + "\n"


def _paragraphs(summary: Summary) -> Iterator[str]:
    known, whole = summary.known, summary.whole
    trials = known["trials"] + whole["trials"]
    detected = known["detected"] + whole["detected"]
    yield "# False alarms on unmarked clips\n"
    yield (
        f"{summary.clips} clips x random keys: {whole['trials']} trials of the whole search, {known['trials']} more at "
        f"the known geometries ({', '.join(KNOWN)}). Detections at the default threshold (10^{THRESHOLD_LOG10_P:g}): "
        f"**{detected}** of {trials}. Inconclusive (10^{HINT_LOG10_P:g}): {whole['inconclusive']} of {whole['trials']} "
        f"and {known['inconclusive']} of {known['trials']}. Clips that could not be read: {len(summary.errors)}.\n"
    )
    if trials:
        yield "## What this sample can and cannot show\n"
        yield _limits(summary, trials, detected)
    yield "## Measured against claimed\n"
    yield (
        "Share of trials with p <= 10^-k, 95 % Clopper-Pearson interval (no hit: up to 3/n, rule of three), and "
        "measured / claimed. Below 1 the p-values are cautious, above 1 they promise too much. A family's row is its "
        "own p-value on all the evidence, without its share of the error budget.\n"
    )
    yield "| p-value of | 10^-k | hits / trials | share [95 %] | measured / claimed [95 %] | within 2x |"
    yield "|---|---|---|---|---|---|"
    for row in summary.tails:
        agrees = "yes" if 0.5 <= row.ratio <= 2 else "open" if row.ratio_low <= 2 and row.ratio_high >= 0.5 else "no"
        yield (
            f"| {row.what} | 10^-{row.k} | {row.hits} / {row.tests} | {row.rate:.2g} [{row.low:.2g}, {row.high:.2g}] | "
            f"{row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}] | {agrees} |"
        )
    if summary.calibration:
        yield "\n## Effective number of tests\n"
        yield (
            "The number of independent tests whose best would be distributed as what was measured, fitted to all "
            "values and to the largest 10 % and 1 %. Detection happens far out: a family's last row counts most.\n"
        )
        yield "| family | fitted to | claimed | effective | effective / claimed [95 %] |"
        yield "|---|---|---|---|---|"
        for item in summary.calibration:
            yield (
                f"| {item.family} | {100 * item.tail:g} % ({item.hits}) | {item.claimed:.4g} | {item.effective:.4g} | "
                f"{item.factor:.3g} [{item.low:.3g}, {item.high:.3g}] |"
            )
        yield (
            "\nFrom these factors, the shares of the budget and the looks: measured / claimed of the whole decision "
            f"far out should be {summary.expected_ratio:.2g}, payloads left out.\n"
        )
    yield "## Smallest p-values\n"
    yield "| clip | key | log10 p | loudest family |"
    yield "|---|---|---|---|"
    for clip, key, log10_p, family in summary.worst:
        yield f"| {clip} | {key} | {log10_p:.2f} | {family} |"
    if summary.errors:
        yield "\n## Clips that could not be read\n"
        yield from (f"- {result.clip}: {result.error}: {result.message}" for result in summary.errors)


def _limits(summary: Summary, trials: int, detected: int) -> str:
    whole = summary.whole["trials"]
    bound = f"at most 3 / {whole} = {3 / whole:.1e} (95 %)" if whole and not summary.whole["detected"] else (
        f"{summary.whole['detected']} / {whole}")  # fmt: skip
    depth = max((row.k for row in summary.tails if row.hits >= 10), default=0)
    rest = "" if detected else f", and at most 3 / {trials} = {3 / trials:.1e} over all trials"
    return (
        f"Counting alone, the false-alarm rate of the whole search a clip and key is {bound}{rest}; the claimed 10^-6 "
        "is beyond what counting so few trials can show. What supports it is the distribution: with at least ten hits "
        f"it is measured down to 10^-{depth} (the best-covered family), and from there on it rests on the tail of a "
        "sum of independent fair signs, which the keys are, whatever the picture. Keys are drawn anew for every clip, "
        f"so trials on one clip are independent given the clip; the {summary.clips} clips say how alike clips are, "
        "not what a clip unlike all of them would do. Trials at known geometries say nothing about crops, turns and "
        "zooms, and no trial here says anything about pictures made to deceive.\n"
    )


def write_summary(summary: Summary, path: str | os.PathLike[str]) -> None:
    """Both tables of the summary as one CSV file: measured against claimed, then effective tests."""
    header = ("table", "what", "k_or_tail", "trials", "hits", "value", "low", "high")
    lines: list[Iterable[object]] = []
    lines += [("measured/claimed", row.what, row.k, row.tests, row.hits, f"{row.ratio:.4g}", f"{row.ratio_low:.4g}",
               f"{row.ratio_high:.4g}") for row in summary.tails]  # fmt: skip
    lines += [("effective/claimed", item.family, item.tail, "", item.hits, f"{item.factor:.4g}", f"{item.low:.4g}",
               f"{item.high:.4g}") for item in summary.calibration]  # fmt: skip
    tables.rewrite(Path(path), header, lines)


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of unmarked clips, with or without manifest.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file of results; continued if there.")
@click.option("--keys", default=1000, show_default=True, type=click.IntRange(1), help="Keys a clip.")
@click.option("--search-keys", default=20, show_default=True, type=click.IntRange(0), help="Of these, searched fully.")
@click.option("--max-frames", default=72, show_default=True, type=click.IntRange(1), help="The detector's budget.")
@click.option("--label", "labels", multiple=True, help="Only clips of this label; may be given again [default: all].")
@click.option("--min-short-side", default=0, show_default=True, type=click.IntRange(0))
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, a fair sample of all.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--summary-only", is_flag=True, help="Measure nothing: sum up the rows of --out.")
def false_alarms(videos: Path | None, out: Path, summary_only: bool, **options: Any) -> None:
    """Read unmarked clips with random keys; write rows, and a summary beside them (.md and .summary.csv)."""
    started = time.monotonic()

    def report(done: int, total: int, result: ClipResult) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        outcome = result.message or f"least log10 p {result.min_log10_p:.2f}, {result.seconds:.0f} s"
        click.echo(f"{done}/{total} clips, {left / 60:.0f} min left: {result.clip}: {outcome}", err=True)

    try:
        if not summary_only:
            if videos is None:
                raise InputError("Expected a folder of clips, got none; give one with --videos")
            run(videos, out, progress=report, **options)
        summary = summarize(out)
        text = markdown(summary)
        write_summary(summary, out.with_suffix(".summary.csv"))
        with tables.writing(out):
            out.with_suffix(".md").write_text(text, encoding="utf-8")
    except GenwmError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(2)
    click.echo(text, err=True)


if __name__ == "__main__":
    false_alarms()
