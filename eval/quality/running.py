"""The measures of many clips: one CSV row a clip and method, resumable."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval import tables
from eval.attacks.chains import fitted
from eval.attacks.color import planes_of
from eval.attacks.geometry import cut_even
from eval.baselines import BASELINES, baseline
from eval.corpus import Video
from eval.methods import is_foreign, method_named, methods_named
from eval.quality.coding import bd_rate, rate_points
from eval.quality.colorvideovdp import load_package
from eval.quality.measures import METRICS, USUAL, Footage, Metric, measure, vmaf
from eval.resuming import check_clips, check_settings, mended
from eval.workers import finished
from genwm.errors import DecodeError, InputError
from genwm.extras import require
from genwm.keys import Key
from genwm.video import Planes, VideoInfo, read_planes

if TYPE_CHECKING:  # it imports torch, which the workers shall do
    from genwm.marking import Profile, Strength

OURS = "genwm"
FRAMES = 72

_FIRST = ("luma_psnr", "rgb_psnr", "ssim", "vmaf", "vmaf_identity", "jod_fhd", "jod_4k")
VALUES = (*_FIRST, "msssim", "flicker", "bdrate")
ADDED = ("lines", "msssim", "flicker", "bdrate", "command", "sha256", "failed")  # since the first tables
COLUMNS = (
    *("clip", "label", "group", "family", "width", "height", "short_side", "fps", "frames", "rgb_frames"),
    *("method", "strength", "profile", "seed"),
    *_FIRST,
    *("seconds", "versions", "error", "message"),
    *ADDED,
)
_COUNTS = ("width", "height", "short_side", "frames", "rgb_frames", "seed", "lines")
_IDENTITY = ("clip", "method", "strength", "profile", "seed", "lines")

#: The columns that say whether a metric was measured.
_COLUMN_OF: dict[Metric, str] = {metric: metric for metric in METRICS} | {"psnr": "luma_psnr", "jod": "jod_fhd"}
_PACKAGES = ("python", "av", "numpy", "scipy", "torch", "cvvdp", "imageio-ffmpeg", "invisible-watermark")

Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one run measures; ``frames`` bounds luma measures, `JOD_FRAMES` those of RGB. Clips of more than ``lines``
    are scaled down before they are marked; ``videos`` is the folder, for the command that measures a row again."""

    strength: Strength = "balanced"
    profile: Profile = "colour"
    metrics: tuple[Metric, ...] = USUAL
    frames: int = FRAMES
    seed: int = 0
    device: str = "cpu"
    lines: int | None = None
    videos: str = ""

    def identity(self, clip: str, method: str) -> tuple[str, ...]:
        """What tells one row from another. Other people's methods have one strength and no profile."""
        strength, profile = (self.strength, self.profile) if method == OURS else ("default", "")
        return clip, method, strength, profile, str(self.seed), str(self.lines or "")

    def command(self, clip: str, method: str) -> str:
        """The command line that measures a row again."""
        options = f"--clip {shlex.quote(clip)} --methods {shlex.quote(method)}"
        options += f" --strength {self.strength} --profile {self.profile}"
        size = f" --lines {self.lines}" if self.lines else ""
        rest = f"--metrics {','.join(self.metrics)} --frames {self.frames} --seed {self.seed} --min-short-side 0"
        return f"genwm eval quality --videos {shlex.quote(self.videos)} {options} {rest}{size} --out row.csv"


def run(
    videos: Sequence[Video],
    out: Path,
    *,
    methods: Sequence[str] = (OURS,),
    settings: Settings | None = None,
    processes: int = 1,
    retry: bool = False,
    on_row: Callable[[Row], None] | None = None,
    checking: Callable[[int, int, str], None] | None = None,
) -> int:
    """Measures every method on every clip, in the order given, and appends one row each to the CSV file ``out``.

    Rows that are there already are not measured again, but for those with an error where the file is another by now, or
    with ``retry``; a line torn by a kill is dropped; each row is on the disk before the next is written. Of a row that
    lacks metrics that are asked for, these are measured; all that it has too, where it is by other versions of the
    code; it never loses a figure. A metric that fails is named in the row's ``failed``, and measured again with
    ``retry``; a row in which nothing could be measured has ``error``. ``on_row`` gets what was measured, ``checking``
    the clips of ``out`` while they are compared with the files, as in `eval.resuming.check_clips`. Returns the number
    of rows added. Raises InputError (unknown method, a file of other columns), DiskFullError, OutputError (also where
    the rows are of another seed, another number of frames, or other clips of the same names), MissingExtraError.
    """
    settings = settings or Settings()
    _check_names(methods, settings.metrics)
    rows = read_rows(out)
    again = mended(videos, ((row["clip"], row["sha256"]) for row in rows if row["error"]))
    kept = [row for row in rows if not (row["error"] and (retry or row["clip"] in again))]
    asked = {"seed": settings.seed, "frames": settings.frames}
    check_settings(out, asked, ({"seed": row["seed"], "frames": _options(row).get("--frames")} for row in kept))
    check_clips(out, videos, ((row["clip"], row["sha256"]) for row in kept), progress=checking)
    there = {_identity(row): row for row in kept}
    jobs, needed = [], set[str](settings.metrics)
    for video in videos:
        lacking = {method: _lacking(there.get(settings.identity(video.id, method)), settings.metrics, retry=retry)
                   for method in methods}  # fmt: skip
        left = {method: metrics for method, metrics in lacking.items() if metrics}
        if left:
            needed = needed.union(*left.values())
            jobs.append(partial(_measure_clip, video, left, settings))
    _require_packages(methods, needed)
    if out.exists() and not tables.has_columns(out, COLUMNS):
        tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in read_rows(out)))
    tables.prepare(out, COLUMNS)
    added = 0
    for measured_rows in finished(jobs, processes):
        for row in measured_rows:
            whole = _joined(there.get(_identity(row)), row, settings)
            if whole:
                tables.append(out, [[whole[name] for name in COLUMNS]])
                added += 1
            if on_row:
                on_row(row)
    return added


def _identity(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in _IDENTITY)


def _options(row: Row) -> dict[str, str]:
    """The options of the command that measures a row again; of the first tables, which had none, nothing is known."""
    with suppress(ValueError):
        return dict(pairwise(shlex.split(row["command"])))
    return {}


def _metrics(row: Row) -> frozenset[str]:
    """What was measured for a row, or failed: all, where that is not known."""
    if told := _options(row).get("--metrics"):
        return frozenset(told.split(","))
    return frozenset(METRICS if row["error"] else (metric for metric, column in _COLUMN_OF.items() if row[column]))


def failures(row: Row) -> dict[str, str]:
    """The metrics that failed in a row that has others: what each says, 'code: message'."""
    with suppress(ValueError):
        return dict(json.loads(row["failed"]))
    return {}


def _lacking(row: Row | None, asked: Sequence[Metric], *, retry: bool) -> tuple[Metric, ...]:
    """The metrics that are to be measured so that a row has those asked for: what it lacks, and with ``retry`` what
    failed in it; all that it has too, where nothing can be added to it."""
    if row is None:
        return tuple(asked)
    wanted = set(asked) - _metrics(row).difference(failures(row) if retry else ())
    if wanted and not _can_grow(row, tables.versions(*_PACKAGES)):
        wanted |= _metrics(row)  # type: ignore[arg-type]
    return tuple(metric for metric in METRICS if metric in wanted)


def _can_grow(row: Row, versions: str) -> bool:
    """Whether figures by those versions, of the clip as it is, may stand in a row beside those that it has."""
    return not row["error"] and row["versions"] == versions and row["sha256"] != ""


def _joined(before: Row | None, row: Row, settings: Settings) -> Row | None:
    """What a table is to say of a clip and method once ``row`` was measured; None where it is to stay as it is."""
    if before is None or before["error"]:
        return row
    if not _can_grow(before, row["versions"]):
        return None if row["error"] or any(before[name] and not row[name] for name in VALUES) else row
    if row["error"] and not row["failed"]:  # not one metric was tried
        return None
    measured = _metrics(row)
    failed = {metric: text for metric, text in failures(before).items() if metric not in measured} | failures(row)
    metrics = tuple(metric for metric in METRICS if metric in _metrics(before) | measured)
    return before | {
        **{name: row[name] or before[name] for name in VALUES},
        "failed": json.dumps(failed) if failed else "",
        "command": replace(settings, metrics=metrics).command(row["clip"], row["method"]),
        "seconds": f"{float(before['seconds']) + float(row['seconds']):.2f}",
    }


def _measure_clip(video: Video, left: Mapping[str, tuple[Metric, ...]], settings: Settings) -> list[Row]:
    """One row for each method of ``left``, with the metrics that are named there."""
    rows = []
    clip = _Clip(video, settings)
    for method, metrics in left.items():
        started = time.perf_counter()
        identity = dict(zip(_IDENTITY, settings.identity(video.id, method), strict=True))
        command = replace(settings, metrics=metrics).command(video.id, method)
        row = clip.facts | identity | {"versions": tables.versions(*_PACKAGES), "command": command}
        try:
            row |= clip.measured(method, metrics)
        except Exception as error:  # one clip never stops the others
            row["error"], row["message"] = tables.failure(error)
        rows.append({**dict.fromkeys(COLUMNS, ""), **row, "seconds": f"{time.perf_counter() - started:.2f}"})
    return rows


class _Clip:
    """One clip, read when it is first measured; ``facts`` are the columns about it."""

    def __init__(self, video: Video, settings: Settings) -> None:
        self._video, self._settings = video, settings
        self.facts: Row = {
            "clip": video.id,
            "label": video.label,
            "group": video.group,
            "family": video.family,
            "sha256": video.content,
            **_size_columns(video.width, video.height),
        }

    @cached_property
    def _read(self) -> tuple[list[Planes], VideoInfo]:
        with read_planes(self._video.path, max_frames=self._settings.frames, threads=1) as reader:
            # The arrays belong to the decoder until they are copied.
            lines = self._settings.lines
            shown = (one if lines is None else fitted(one, lines=lines) for one in reader)
            planes = [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in shown]
            assert reader.info is not None
        shape = planes[0].y.shape
        if any(frame.y.shape != shape for frame in planes):
            raise DecodeError("Expected frames of one size, got a clip that changes size; cut it there first")
        height, width = shape
        self.facts |= _size_columns(width, height)
        self.facts |= {"fps": f"{_fps(reader.info):.4f}"}
        return planes, reader.info

    @cached_property
    def _own(self) -> _Reference:
        return _Reference(Footage.from_planes(self._read[0]))

    @cached_property
    def _as_rgb(self) -> _Reference:
        return _Reference(Footage.from_rgb(self._own.footage.rgb, space=self._read[0][0].color_space))

    def measured(self, method: str, metrics: Sequence[Metric]) -> Row:
        """The columns of one method, once its frames are made and measured. A metric that fails takes nothing from the
        others; where all do, the first one's error is the row's."""
        (planes, info), settings = self._read, self._settings
        if method not in BASELINES:
            reference = self._own
            clip = self._video.id
            marked_planes = (
                mark_planes(planes, info, clip, settings)
                if method == OURS
                else list(method_named(method).mark(planes, *_secrets(clip, settings)))
            )
            test = Footage.from_planes(marked_planes)
        else:
            reference = self._as_rgb
            bits = np.unpackbits(np.frombuffer(_draw(settings.seed, self._video.id, "bits", 4), np.uint8))
            marked = baseline(method).embed(reference.footage.rgb, bits)
            test = Footage.from_rgb(marked, space=planes[0].color_space)
            marked_planes = [planes_of(one, like) for one, like in zip(marked, planes, strict=False)]
        values: dict[str, float] = {}
        failed: dict[str, tuple[str, str]] = {}
        for metric in metrics:
            try:
                values |= measure(reference.footage, test, fps=_fps(info), metrics=[metric], device=settings.device)
                if metric == "vmaf":
                    values["vmaf_identity"] = reference.vmaf_identity
                elif metric == "bdrate":
                    values["bdrate"] = _bd_rate(planes[: len(marked_planes)], marked_planes, _fps(info))
            except Exception as error:
                failed[metric] = tables.failure(error)
        row = self.facts | {"frames": str(len(test.luma)), "rgb_frames": str(len(test.rgb))}
        row |= {name: f"{value:.4f}" for name, value in values.items()}
        if failed:
            row["failed"] = json.dumps({metric: ": ".join(told) for metric, told in failed.items()})
        if failed and not values:
            row["error"], row["message"] = next(iter(failed.values()))
        return row


@dataclass(frozen=True)
class _Reference:
    """Unmarked frames. Other people's methods mark frame by frame and alike, slowly, so the first frames, as RGB, are
    reference enough for them."""

    footage: Footage

    @cached_property
    def vmaf_identity(self) -> float:
        return vmaf(self.footage.luma, self.footage.luma)


def _fps(info: VideoInfo) -> float:
    return info.fps or 25.0


def _bd_rate(planes: Sequence[Planes], marked: Sequence[Planes], fps: float) -> float:
    """How much more rate x264 needs for marked frames, in percent; both cut to even sizes."""
    rate = Fraction(fps).limit_denominator(1001)
    return bd_rate(*(rate_points([cut_even(one) for one in frames], rate) for frames in (planes, marked)))


def mark_planes(planes: Sequence[Planes], info: VideoInfo, clip: str, settings: Settings) -> list[Planes]:
    """The frames with our mark, of a key and payload that depend on the seed and the clip's name alone."""
    from genwm.marking import Mark, Marker

    key, payload = _secrets(clip, settings)
    mark = Mark(key, payload=payload, strength=settings.strength, profile=settings.profile)
    height, width = planes[0].y.shape
    marker = Marker(mark, width, height)
    return [marker.planes(frame) for frame in planes]


def _secrets(clip: str, settings: Settings) -> tuple[Key, int]:
    key = Key("quality", _draw(settings.seed, clip, "key", 32), "2026-01-01T00:00:00+00:00")
    return key, int.from_bytes(_draw(settings.seed, clip, "payload", 8), "big")


def _draw(seed: int, clip: str, what: str, count: int) -> bytes:
    return hashlib.shake_256("\0".join((str(seed), clip, what)).encode()).digest(count)


def _size_columns(width: int, height: int) -> Row:
    return {"width": str(width), "height": str(height), "short_side": str(min(width, height))}


def _check_names(methods: Sequence[str], metrics: Sequence[str]) -> None:
    methods_named(name for name in methods if is_foreign(name))
    listed = [name for name in methods if not is_foreign(name)]
    for kind, names, known in (("method", listed, (OURS, *BASELINES)), ("metric", metrics, METRICS)):
        if wrong := [name for name in names if name not in known]:
            raise InputError(f"Expected a {kind} of {', '.join(known)}, got {wrong[0]!r}; choose one")


def _require_packages(methods: Sequence[str], metrics: Collection[str]) -> None:
    """Fails at once, rather than on every clip, where a package is missing."""
    if "vmaf" in metrics:
        require("imageio_ffmpeg", "quality")
    if "jod" in metrics:
        load_package()
    if any(method in BASELINES for method in methods):
        require("imwatermark", "baselines")
        require("onnxruntime", "baselines")


def typed(row: Row) -> dict[str, object]:
    """The row with its numbers as numbers, one that is not there as None, and with its `failures`."""
    numbers = dict.fromkeys(_COUNTS, int) | dict.fromkeys((*VALUES, "fps", "seconds"), float)
    found: dict[str, object] = {
        name: cell if name not in numbers else numbers[name](cell) if cell else None for name, cell in row.items()
    }
    return found | {"failed": failures(row)}


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file, the last one of each (clip, method, strength, profile, seed); none where there is no
    file. Torn and damaged lines are left out. Raises InputError for a file of other columns."""
    other = InputError(f"Expected the columns of a quality run in {path}, got others; choose another file")
    rows = tables.read(path, COLUMNS, refusal=other, added=ADDED) or ()
    return list({_identity(row): row for row in rows}.values())
