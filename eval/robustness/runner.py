"""The run: clips are marked, attacked and read, a clip at a time in each worker."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO
from zlib import crc32

import numpy as np

from eval.attacks import Attack, Clip, Maker, attack_named, attacks_named
from eval.attacks.chains import fitted
from eval.attacks.geometry import cut_even, scaled
from eval.corpus import Video, list_videos
from eval.methods import Outcome, Watermark, bits_in, is_keyed, known_method, method_id, methods_named
from eval.resuming import check_clips, check_settings
from eval.robustness.table import Row, append_row, drop_errors, prepare, read_rows, rows_so_far
from eval.tables import failure, one_line, versions
from eval.workers import finished, ticking
from genwm.errors import DiskFullError, InputError, MissingExtraError, NotFoundError, OutputError, is_disk_full
from genwm.keys import Key
from genwm.video import Planes, Span, read_planes

#: Chance of a method without a decision of its own to be called present, an unmarked clip at a time.
FALSE_POSITIVE_LOG10 = -6.0


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The attacks on one clip with one watermark that are still to be measured. ``command`` is the beginning of the
    command line that measures a row again."""

    video: Video
    attacks: tuple[str, ...]
    watermark: Watermark
    max_frames: int | None
    max_seconds: float | None
    lines: int | None
    seed: int
    out: Path
    command: str

    @property
    def span(self) -> str:
        return span_of(self.max_frames, self.max_seconds, self.lines)

    def key(self, attack: str) -> tuple[str, ...]:
        """`Row.key` of the row that one attack will give, without reading the file."""
        watermark = self.watermark
        return self.video.id, attack, watermark.name, watermark.strength, watermark.profile, self.span

    def blank(self, attack: str) -> Row:
        video, watermark = self.video, self.watermark
        return Row(
            clip=video.id,
            label=video.label,
            group=video.group,
            family=video.family,
            short_side=video.short_side,
            frames=0,
            span=self.span,
            attack=attack,
            watermark=watermark.name,
            strength=watermark.strength,
            profile=watermark.profile,
            seed=self.seed,
            versions=versions("av", "numpy", *_PACKAGES.get(watermark.name, ())),
            command=self._command(attack),
            sha256=video.content,
        )

    def _command(self, attack: str) -> str:
        watermark = self.watermark
        method = method_id(watermark.name, watermark.strength, watermark.profile)
        if known_method(method) != watermark:
            return ""  # an object that was passed: no command line has it
        span = f"--max-frames {self.max_frames}" if self.max_seconds is None else f"--max-seconds {self.max_seconds:g}"
        size = f" --lines {self.lines}" if self.lines else ""
        options = f"--clip {shlex.quote(self.video.id)} --attacks {shlex.quote(attack)} --methods {shlex.quote(method)}"
        return f"{self.command} {options} {span}{size} --seed {self.seed} --out row.csv"


def span_of(max_frames: int | None, max_seconds: float | None, lines: int | None) -> str:
    """How much of a clip is marked, as rows say it: see `Row`. Seconds win over frames."""
    much = f"{max_frames}f" if max_seconds is None else f"{max_seconds:g}s"
    return f"{much}@{lines}" if lines else much


_INVISIBLE = ("invisible-watermark", "onnxruntime")
_PACKAGES = {
    "dwtDct": _INVISIBLE, "dwtDctSvd": _INVISIBLE, "rivaGan": _INVISIBLE, "blind": ("blind-watermark",)
}  # fmt: skip


def run(
    videos: str | os.PathLike[str],
    out_csv: str | os.PathLike[str],
    *,
    attacks: Iterable[str] | None = None,
    methods: Sequence[Watermark] | None = None,
    max_frames: int = 72,
    max_seconds: float | None = None,
    lines: int | None = None,
    min_short_side: int = 480,
    max_short_side: int | None = None,
    clips: Sequence[str] = (),
    processes: int = 2,
    limit: int | None = None,
    seed: int = 0,
    retry_errors: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    checking: Callable[[int, int, str], None] | None = None,
    listing: Callable[[int, int, str], None] | None = None,
    working: Callable[[int, int], None] = lambda done, total: None,
    every_s: float = 60.0,
) -> list[Row]:
    """Measures every attack on every clip of a folder and returns all rows of ``out_csv``, old and new.

    Args:
        videos, min_short_side, max_short_side: see :func:`eval.corpus.list_videos`.
        attacks: ids and sets of :mod:`eval.attacks`; None: the published table.
        methods: what is measured; None: this project's own mark at its default.
        max_frames: how many frames from the start of each clip are marked and attacked.
        max_seconds: instead of ``max_frames``, all frames of the first so many seconds.
        lines: clips with a larger short side are scaled down to so many lines before they are marked.
        clips: only the clips of these ids.
        processes: workers, a clip each; 1 measures in this process.
        limit: only the first so many clips of the interleaved order.
        retry_errors: measures again what ended in an error.
        progress: called with the clips done, the clips to do and what was done last.
        checking: the same, while the clips that ``out_csv`` has are compared with the files.
        listing: the same, while files are looked into for want of a manifest.
        working: called with the rows written and the rows to write: at the start and then every ``every_s`` seconds,
            from another thread.

    Rows that ``out_csv`` has are not measured again; a line that a kill has torn is dropped. What fails on one clip is
    a row with an error, never the end of the run. Errors: those of list_videos; InputError (an unknown attack);
    NotFoundError (an unknown clip); OutputError, DiskFullError (``out_csv`` cannot be written, is another table, or
    has rows of another seed or of other clips of the same names).
    """
    wanted = tuple(attack.id for attack in attacks_named(attacks))
    subjects = methods_named(["lattice.balanced"]) if methods is None else methods
    listed = list_videos(videos, min_short_side=min_short_side, max_short_side=max_short_side, seed=seed,
                         progress=listing)  # fmt: skip
    if missing := sorted(set(clips) - {video.id for video in listed}):
        raise NotFoundError(f"Expected clips of {os.fspath(videos)}, got {', '.join(missing)}; check their names")
    listed = [video for video in listed if not clips or video.id in clips][:limit]
    out = Path(out_csv)
    kept = [row for row in rows_so_far(out) if not (retry_errors and row.error)]
    check_settings(out, {"seed": seed}, ({"seed": row.seed} for row in kept))
    failed = {row.clip for row in kept} - {row.clip for row in kept if not row.error}
    check_clips(out, listed, ((row.clip, row.sha256) for row in kept), retried=failed, progress=checking)
    if retry_errors:
        drop_errors(out)
    done = {row.key for row in prepare(out)}
    jobs = []
    for video in listed:
        for subject in subjects:
            job = _Job(
                video=video,
                attacks=wanted,
                watermark=subject,
                max_frames=None if max_seconds is not None else max_frames,
                max_seconds=max_seconds,
                lines=lines,
                seed=seed,
                out=out,
                command=f"genwm eval robustness --videos {shlex.quote(os.fspath(videos))} --min-short-side 0",
            )
            left = tuple(attack for attack in wanted if job.key(attack) not in done)
            if left:
                jobs.append(replace(job, attacks=left))
    before, total = out.stat().st_size, sum(len(job.attacks) for job in jobs)
    working(0, total)
    with ticking(lambda: working(_rows_since(out, before), total), every_s):
        for count, name in enumerate(finished([partial(_measure, job) for job in jobs], processes), start=1):
            if progress:
                progress(count, len(jobs), name)
    return read_rows(out)


def _rows_since(out: Path, place: int) -> int:
    """How many rows, a line each, the table has behind that many bytes."""
    with out.open("rb") as file:
        file.seek(place)
        return file.read().count(b"\n")


def _measure(job: _Job) -> str:
    """Marks one clip, appends one row for each attack on it and returns what was measured."""
    try:
        with tempfile.TemporaryFile() as store:
            _attack_all(job, store)
    except (DiskFullError, OutputError, MissingExtraError):
        raise  # the table cannot be written, or a package is not there: nothing is gained by going on
    except ImportError as error:
        name = job.watermark.name
        raise MissingExtraError(f"Expected the packages of {name}, got '{one_line(error)}'; install them") from None
    except Exception as error:
        if is_disk_full(error):  # rows that say so would keep the clip from being measured once there is room
            raise DiskFullError(
                f"Expected room on the disk for temporary files in {tempfile.gettempdir()}, got none left; free some "
                "space, or name another folder in TMPDIR, and run again"
            ) from None
        for attack in job.attacks:
            append_row(job.out, _failed(job.blank(attack), error))
    watermark = job.watermark
    return f"{job.video.id}, {method_id(watermark.name, watermark.strength, watermark.profile)}"


def _attack_all(job: _Job, store: IO[bytes]) -> None:
    key, decoy, payload, keys_reversed = secrets_of(job.video, job.seed)
    keys = (decoy, key) if keys_reversed else (key, decoy)
    reader = read_planes(job.video.path, span=Span(0.0, job.max_seconds, job.max_frames), threads=1)
    start = time.perf_counter()
    with reader:
        frames = _kept(job.watermark.mark(upright(reader, lines=job.lines), key, payload), store)
    mark_ms = 1000 * (time.perf_counter() - start) / len(frames)
    rate = reader.info.fps if reader.info and reader.info.fps else 25.0
    clip = Clip(
        frames, Fraction(rate).limit_denominator(1001), maker_of(job.video, job.watermark, job.seed, _source(job))
    )
    short_side = min(frames[0].y.shape)
    for name in job.attacks:
        row = replace(job.blank(name), frames=len(frames), short_side=short_side, mark_ms_per_frame=round(mark_ms, 3))
        try:
            row = _attacked(row, clip, attack_named(name), job, keys, key, payload)
        except (ImportError, MissingExtraError, DiskFullError):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            row = _failed(row, error)
        append_row(job.out, row)


def _source(job: _Job) -> Callable[[], Iterator[Planes]]:
    """The clip without a mark, read again."""

    def frames() -> Iterator[Planes]:
        with read_planes(job.video.path, span=Span(0.0, job.max_seconds, job.max_frames), threads=1) as reader:
            yield from upright(reader, lines=job.lines)

    return frames


def maker_of(video: Video, watermark: Watermark, seed: int, original: Callable[[], Iterable[Planes]]) -> Maker:
    """What attackers who can mark have: the clip's key and payload, and another key and payload."""
    key, _, payload, _ = secrets_of(video, seed)
    other = Video(path=video.path, id=f"{video.id}/other")
    other_key, _, other_payload, _ = secrets_of(other, seed)
    return Maker(
        same=lambda frames: watermark.mark(frames, key, payload),
        other=lambda frames: watermark.mark(frames, other_key, other_payload),
        original=original,
    )


def _attacked(row: Row, clip: Clip, attack: Attack, job: _Job, keys: Sequence[Key], key: Key, payload: int) -> Row:
    rng = rng_of(job.video, attack, job.seed)
    start = time.perf_counter()
    file = attack.apply(clip, rng)
    attacked = time.perf_counter()
    row = replace(row, bytes=file.getbuffer().nbytes, attack_s=round(attacked - start, 3))
    outcome = job.watermark.read(file, keys)
    read_s = round(time.perf_counter() - attacked, 3)
    row = _judged(row, outcome, job.watermark, key, payload)
    return replace(
        row,
        scale=None if outcome.scale is None else round(float(outcome.scale), 5),
        rotation=None if outcome.rotation is None else round(float(outcome.rotation), 4),
        flip=None if outcome.flip is None else int(outcome.flip),
        aspect=None if outcome.aspect is None else round(float(outcome.aspect), 5),
        frames_read=outcome.frames_read,
        read_s=read_s,
    )


def _judged(row: Row, outcome: Outcome, watermark: Watermark, key: Key, payload: int) -> Row:
    """A row with what was found, and how much of it is right.

    A method that gives a message and no decision is called present where so many right bits are chance with 10^-6 or
    less. Whoever decides so must know the message beforehand, which is more than a reader of uploads knows.
    """
    message, given, bits = outcome.message, outcome.payload, bits_in(watermark)
    if message:
        given, bits = sum(int(bit) << place for place, bit in enumerate(reversed(message))), len(message)
    right = None if given is None else bits - ((given ^ payload) & ((1 << bits) - 1)).bit_count()
    exact, log10_p = right == bits, outcome.log10_p
    if message and right is not None and outcome.detected is None:
        log10_p = chance_log10(right, bits)
        present = right_key = log10_p <= FALSE_POSITIVE_LOG10
    else:
        present = bool(outcome.detected)
        right_key = present and (outcome.key == key.name or not (outcome.key or is_keyed(watermark)))
        exact = exact and right_key
    claimed = given is not None and not (message and outcome.detected is False)  # bits of what it says is not there
    return replace(
        row,
        present=int(present),
        right_key=int(right_key),
        exact=int(exact),
        wrong_payload=int(claimed and right != bits),
        bit_accuracy=None if right is None else right / bits,
        bits=bits,
        log10_p=None if log10_p is None else round(float(log10_p), 3),
    )


def chance_log10(right: int, bits: int) -> float:
    """Base-10 logarithm of the chance that at least ``right`` of so many fair coins agree with a message."""
    from scipy.stats import binom

    return float(binom.logsf(right - 1, bits, 0.5)) / math.log(10)


def rng_of(video: Video, attack: Attack, seed: int) -> np.random.Generator:
    """The random draws of one attack on one clip."""
    return np.random.default_rng([seed, crc32(video.id.encode()), crc32(attack.id.encode())])


def secrets_of(video: Video, seed: int) -> tuple[Key, Key, int, bool]:
    """Key, decoy, 64-bit payload, and whether the decoy comes first: drawn from the clip and the seed."""
    name = f"{seed}/{video.sha256 or video.id}"

    def draw(what: str) -> bytes:
        return hashlib.sha256(f"genwm eval/{what}/{name}".encode()).digest()

    created = "2026-01-01T00:00:00+00:00"
    # The names are drawn too, so that nothing but the secret can tell the two apart.
    key, decoy = (Key(f"k{draw(what + ' name').hex()[:12]}", draw(what), created) for what in ("key", "decoy"))
    return key, decoy, int.from_bytes(draw("payload")[:8], "big"), bool(draw("order")[0] & 1)


def upright(frames: Iterable[Planes], *, lines: int | None = None) -> Iterator[Planes]:
    """Frames of square pixels and even size, as sites make them, with a short side of at most ``lines``; a clip ends
    where its size changes."""
    shape: tuple[int, ...] | None = None
    for planes in frames:
        if shape is None:
            shape = planes.y.shape
        elif planes.y.shape != shape:
            return
        planes = cut_even(planes)
        if abs(planes.pixel_aspect - 1) > 0.002:
            planes = scaled(planes, x=planes.pixel_aspect, y=1)
            planes.pixel_aspect = 1.0
        yield planes if lines is None else fitted(planes, lines=lines)


def _kept(frames: Iterable[Planes], store: IO[bytes]) -> list[Planes]:
    """The frames with their samples in a file: seconds of 4K would not fit into memory twice."""
    kept = []
    for planes in frames:
        for plane in (planes.y, planes.u, planes.v):
            store.write(np.ascontiguousarray(plane).tobytes())
        empty = np.empty(0, np.uint8)
        kept.append((replace(planes, y=empty, u=empty, v=empty), planes.y.shape, planes.u.shape))
    if not kept:
        raise InputError("Expected at least one frame of the clip, got none; choose a longer span")
    store.flush()
    samples = np.memmap(store, np.uint8, "r")
    result, place = [], 0
    for planes, luma, chroma in kept:
        views = []
        for shape in (luma, chroma, chroma):
            size = shape[0] * shape[1]
            views.append(np.asarray(samples[place : place + size]).reshape(shape))
            place += size
        result.append(replace(planes, y=views[0], u=views[1], v=views[2]))
    return result


def _failed(row: Row, error: Exception) -> Row:
    code, message = failure(error, limit=300)
    return replace(row, error=code, message=message)
