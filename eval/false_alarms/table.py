"""A run over a folder of clips, and the tables that it writes and reads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from eval import tables
from eval.corpus import Video, list_videos
from eval.false_alarms.others import measure_method
from eval.false_alarms.trials import COLUMNS, FAMILIES, OURS, ClipResult, Trial, measure
from eval.methods import method_named
from eval.resuming import check_clips, check_settings, mended
from eval.workers import finished
from genwm.errors import InputError, NotFoundError, OutputError

#: Columns of the table of clips since the first ones.
ADDED = frozenset({"sha256", "method"})


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
    method: str = OURS,
    progress: Callable[[int, int, ClipResult], None] | None = None,
    checking: Callable[[int, int, str], None] | None = None,
    listing: Callable[[int, int, str], None] | None = None,
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
        method: id of another watermark that decides for itself, whose reader is tried instead, with all keys.
        progress: called with the clips done, the clips to do and what came out.
        checking: the same with a clip's name, while the clips of the tables are compared with the files.
        listing: the same, while files are looked into for want of a manifest.

    Errors: those of list_videos; OutputError (the tables are of another run, or cannot be written), DiskFullError.
    """
    other = method != OURS
    if other:
        method_named(method)
    elif search_keys > keys:
        raise InputError(f"Expected at most {keys} keys for the search, got {search_keys}; raise the number of keys")
    listed = list_videos(videos, min_short_side=min_short_side, seed=seed, progress=listing)
    listed = [video for video in listed if not labels or video.label in labels][:limit]
    if not listed:
        raise InputError(f"Expected clips with label {' or '.join(labels)} in {videos}, got none; choose another label")
    rows, clips = Path(out), _clips_path(Path(out))
    settings = {"keys": keys, "seed": seed, "search_keys": keys if other else search_keys,
                "max_frames": 0 if other else max_frames}
    done = {result.clip for result in prepare(rows, clips, settings | {"method": method}, listed, checking)}
    left = [video for video in listed if video.id not in done]
    jobs = [partial(measure_method, video, method=method, keys=keys, seed=seed) if other
            else partial(measure, video, **settings) for video in left]
    for count, (result, trials) in enumerate(finished(jobs, processes), start=1):
        # Rows first: a clip whose line is in the table of clips has all its rows.
        tables.append(rows, (values_of(result.clip, trial) for trial in trials))
        tables.append(clips, [values_of_clip(result)])
        if progress:
            progress(count, len(left), result)
    return read_clips(rows)


def _clips_path(rows: Path) -> Path:
    return rows.with_suffix(".clips.csv")


def prepare(
    rows: Path,
    clips: Path,
    settings: Mapping[str, object],
    videos: Sequence[Video] = (),
    checking: Callable[[int, int, str], None] | None = None,
    listing: Callable[[int, int, str], None] | None = None,
) -> list[ClipResult]:
    """Makes the tables, or takes out what a kill has left unfinished; returns the clips that are done.

    A clip without rows is not: a checkout has the table of the clips, but not that of the rows, which is too large. Nor
    is one that ended in an error and was `mended`.
    """
    there = {line["clip"] for line in _read_rows(rows) or ()}
    known = _read_clips(clips) or []
    again = mended(videos, ((result.clip, result.sha256) for result in known if result.error))
    done = [result for result in known if result.clip not in again and (result.error or result.clip in there)]
    check_settings(clips, settings, map(asdict, done))
    check_clips(clips, videos, ((result.clip, result.sha256) for result in done), progress=checking)
    names = {result.clip for result in done}
    kept = (line.values() for line in _read_rows(rows) or () if line["clip"] in names)
    tables.rewrite(rows, COLUMNS, kept)
    tables.rewrite(clips, [field.name for field in fields(ClipResult)], map(values_of_clip, done))
    return done


def _read_rows(path: Path) -> Iterator[dict[str, str]] | None:
    other = OutputError(f"Expected a table of false alarms in {path}, got another; choose another name")
    return tables.read(path, COLUMNS, refusal=other)


def values_of(clip: str, trial: Trial) -> list[object]:
    def column(values: dict[str, float]) -> list[str]:
        return [f"{values[name]:.4f}" if name in values else "" for name in FAMILIES]

    return [clip, trial.key, trial.level, *column(trial.z), *column(trial.family_log10_p), f"{trial.log10_p:.4f}",
            trial.decision, trial.payload]  # fmt: skip


def values_of_clip(result: ClipResult) -> list[object]:
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
    lines = tables.read(path, tuple(kinds), refusal=other, added=ADDED)
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
        log10_p: float ``(n,)``, of the decision, nan where it has none.
        decision: str ``(n,)``: 'detected', 'inconclusive' or 'not_detected'.
    """

    clips: tuple[ClipResult, ...]
    clip: NDArray[np.int64]
    key: NDArray[np.int64]
    whole: NDArray[np.bool_]
    z: dict[str, NDArray[np.float64]]
    log10_p: NDArray[np.float64]
    decision: NDArray[np.str_]

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
    texts = ("clip", "level", "decision")
    wanted = ("clip", "key", "level", *(f"z_{name}" for name in FAMILIES), "log10_p", "decision")
    table = _read_rows(Path(rows))
    if table is None:
        raise NotFoundError(f"Expected a table of false alarms at {rows}, got none; run the measurement first")
    lines = [[line[name] for name in wanted] for line in table if line["clip"] in index]
    columns = list(zip(*lines, strict=True)) if lines else [()] * len(wanted)
    numbers = {name: np.array([float(text or "nan") for text in column])
               for name, column in zip(wanted, columns, strict=True) if name not in texts}  # fmt: skip
    return Sample(
        clips=clips,
        clip=np.array([index[name] for name in columns[0]], dtype=np.int64),
        key=numbers["key"].astype(np.int64),
        whole=np.array([level == "all" for level in columns[2]], dtype=np.bool_),
        z={name: numbers[f"z_{name}"] for name in FAMILIES},
        log10_p=numbers["log10_p"],
        decision=np.array(columns[-1], dtype=np.str_),
    )
