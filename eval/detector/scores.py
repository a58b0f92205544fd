"""Scores of clips after deliveries: a CSV table that grows by a row at a time; a run may be killed and goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.deliveries import DELIVERIES
from detectors.synthetic.inference import SEGMENTS
from detectors.synthetic.training.table import FOLD_COLUMNS
from eval import tables
from eval.corpus import Video, list_videos
from eval.detector.protocol import NamedScorer, canonical_facts, facts_of
from genwm.errors import GenwmError, InputError
from genwm.video import probe

COLUMNS = ("scorer", "clip", "sha256", "label", "group", "generator", "delivery", "segments", "logit", "apart",
           "seen", "seconds", "facts", "canonical_facts", "error")  # fmt: skip
#: Columns that tables of earlier versions lack.
ADDED = ("apart",)
LABELS = ("real", "synthetic", "deepfake")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row. ``group``: source of footage or family of generators; ``seen``: the scorer was fitted on this clip, and
    the score is not out of fold; ``logit`` None: the clip cannot be judged, or ``error`` says what went wrong;
    ``apart``: out of fold, the logit by a calibration too that saw nothing of its group, else None."""

    scorer: str
    clip: str
    sha256: str
    label: str
    group: str
    generator: str
    delivery: str
    segments: int
    logit: float | None
    seen: bool
    apart: float | None = None
    seconds: float = 0.0
    facts: tuple[float, ...] = ()
    canonical_facts: tuple[float, ...] = ()
    error: str = ""

    def cells(self) -> tuple[object, ...]:
        return (self.scorer, self.clip, self.sha256, self.label, self.group, self.generator, self.delivery,
                self.segments, _cell(self.logit), _cell(self.apart), int(self.seen), f"{self.seconds:.3f}",
                _joined(self.facts), _joined(self.canonical_facts), self.error)  # fmt: skip


def read_scores(path: str | os.PathLike[str]) -> list[Score]:
    """The rows of a table. Errors: InputError (no such table)."""
    refusal = InputError(f"Expected a table of detector scores in {path}, got another file; choose another name")
    rows = tables.read(Path(path), COLUMNS, refusal=refusal, added=ADDED)
    try:
        return [
            Score(
                scorer=row["scorer"], clip=row["clip"], sha256=row["sha256"], label=row["label"], group=row["group"],
                generator=row["generator"], delivery=row["delivery"], segments=int(row["segments"] or 0),
                logit=_number(row["logit"]), apart=_number(row["apart"]), seen=row["seen"] == "1",
                seconds=float(row["seconds"] or 0), facts=_split(row["facts"]),
                canonical_facts=_split(row["canonical_facts"]), error=row["error"],
            )
            for row in rows or ()
        ]  # fmt: skip
    except ValueError:  # a cell that is no number
        raise refusal from None


def scores_of(scorer: str, path: str | os.PathLike[str]) -> list[Score]:
    """The rows of a table that is to hold one scorer's. Errors: InputError (no such table, or of another scorer)."""
    rows = read_scores(path)
    if others := {row.scorer for row in rows} - {scorer}:
        raise InputError(f"Expected a table of the scores of {scorer} in {path}, got those of {min(others)}; use a "
                         "table for each scorer")  # fmt: skip
    return rows


def write_scores(path: str | os.PathLike[str], scores: Iterable[Score]) -> None:
    """A whole table at once. Errors: OutputError, DiskFullError."""
    tables.rewrite(Path(path), COLUMNS, (score.cells() for score in scores))


def measure(
    folder: str | os.PathLike[str], out: str | os.PathLike[str], scorer: NamedScorer, *,
    deliveries: Sequence[str] = ("none",), segments: int = SEGMENTS, limit: int | None = None, seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> None:  # fmt: skip
    """Scores every labelled clip of a folder after every delivery that the table does not hold yet.

    Errors: NotFoundError, InputError (no labelled clips, an unknown delivery, another table or that of another
    scorer), OutputError.
    """
    if unknown := set(deliveries) - set(DELIVERIES):
        raise InputError(f"Expected deliveries of {', '.join(DELIVERIES)}, got {', '.join(sorted(unknown))}; "
                         "choose again")  # fmt: skip
    videos = [video for video in list_videos(folder, seed=seed) if video.label in LABELS][:limit]
    if not videos:
        raise InputError(f"Expected clips labelled {' or '.join(LABELS)} in {folder}, got none; its manifest.csv names "
                         "them (columns path, label, group, family)")  # fmt: skip
    rows = scores_of(scorer.name, out)
    done = {(row.clip, row.delivery, row.segments) for row in rows if not row.error}
    tables.prepare(Path(out), COLUMNS)
    if not tables.has_columns(Path(out), COLUMNS):
        write_scores(out, rows)  # with the columns that were added since
    for number, video in enumerate(videos, 1):
        missing = [name for name in deliveries if (video.id, name, segments) not in done]
        if missing:
            tables.append(Path(out), (row.cells() for row in _scored(video, missing, scorer, segments)))
        progress(number, len(videos), video.id)


def from_folds(
    path: str | os.PathLike[str], scorer: str, *, folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Score]:  # fmt: skip
    """The out-of-fold scores that 'genwm train detector' wrote, as rows; with the clips' ``folder`` also their
    container facts. Errors: InputError, NotFoundError."""
    refusal = InputError(f"Expected out-of-fold scores in {path}, got another file; choose what 'genwm train detector' "
                         "wrote beside the model")  # fmt: skip
    found = list(tables.read(Path(path), FOLD_COLUMNS, refusal=refusal, added=ADDED) or ())
    if not found:
        raise refusal
    facts: dict[str, dict[str, Any]] = {}
    if folder is not None:
        clips = sorted({row["clip"] for row in found})
        for number, clip in enumerate(clips, 1):
            facts[clip] = _facts(Path(folder) / clip)
            progress(number, len(clips), clip)
    try:
        return [
            Score(scorer=scorer, clip=row["clip"], sha256=row["sha256"], group=row["group"], generator=row["generator"],
                  label="synthetic" if row["label"] == "1" else "real", delivery=row["delivery"],
                  segments=int(row["segments"]), logit=float(row["logit"]), apart=_number(row["apart"]), seen=False,
                  **facts.get(row["clip"], {}))
            for row in found
        ]  # fmt: skip
    except ValueError:  # a cell that is no number
        raise refusal from None


def _facts(path: Path) -> dict[str, Any]:
    try:
        info = probe(path)
        parts = read_segments(path, count=SEGMENTS, threads=1, info=info)
        return {"facts": tuple(facts_of(info, path.stat().st_size)), "canonical_facts": tuple(canonical_facts(parts))}
    except (GenwmError, IndexError):
        return {}


def _scored(video: Video, deliveries: Sequence[str], scorer: NamedScorer, count: int) -> list[Score]:
    def row(delivery: str, logit: float | None = None, **more: object) -> Score:
        return Score(scorer=scorer.name, clip=video.id, sha256=video.sha256, label=video.label, delivery=delivery,
                     group=(video.family if video.label != "real" else video.group) or video.id,
                     generator="" if video.label == "real" else video.group, segments=count, logit=logit,
                     seen=video.sha256 in scorer.seen, **more)  # type: ignore[arg-type]  # fmt: skip

    try:
        info = probe(video.path)
        parts = read_segments(video.path, count=count, threads=1, info=info)
        if not parts:
            return [row(name) for name in deliveries]
        facts = {"facts": tuple(facts_of(info, video.path.stat().st_size)),
                 "canonical_facts": tuple(canonical_facts(parts))}  # fmt: skip
        rows = []
        for name in deliveries:
            started = time.perf_counter()
            logit = scorer.score([DELIVERIES[name](part) for part in parts])
            rows.append(row(name, logit, seconds=time.perf_counter() - started, **facts))
        return rows
    except Exception as error:  # one clip, or a foreign scorer's fault, must not stop the others
        return [row(name, error=": ".join(tables.failure(error, limit=200))) for name in deliveries]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _number(text: str) -> float | None:
    return float(text) if text else None


def _joined(values: Sequence[float]) -> str:
    return " ".join(f"{value:.6g}" for value in values)


def _split(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))
