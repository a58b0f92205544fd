"""The run: clips are marked, attacked and read, a clip at a time in each worker."""

from __future__ import annotations

import hashlib
import os
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

from eval.attacks import ATTACKS, Attack, Clip, attacks_named
from eval.attacks.geometry import cut_even, scaled
from eval.corpus import Video, list_videos
from eval.robustness.subjects import Lattice, Watermark
from eval.robustness.table import Row, append_row, drop_errors, prepare, read_rows
from eval.tables import failure, versions
from eval.workers import finished
from genwm.errors import DiskFullError, InputError, MissingExtraError, OutputError
from genwm.keys import Key
from genwm.video import Planes, read_planes


@dataclass(frozen=True, kw_only=True)
class _Job:
    """The attacks on one clip that are still to be measured."""

    video: Video
    attacks: tuple[str, ...]
    watermark: Watermark
    max_frames: int | None
    max_seconds: float | None
    seed: int
    out: Path

    @property
    def span(self) -> str:
        return f"{self.max_frames}f" if self.max_seconds is None else f"{self.max_seconds:g}s"

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
            versions=versions("av", "numpy"),
        )


def run(
    videos: str | os.PathLike[str],
    out_csv: str | os.PathLike[str],
    *,
    attacks: Iterable[str] | None = None,
    max_frames: int = 72,
    max_seconds: float | None = None,
    strength: str = "balanced",
    profile: str = "colour",
    min_short_side: int = 480,
    max_short_side: int | None = None,
    processes: int = 2,
    limit: int | None = None,
    seed: int = 0,
    retry_errors: bool = False,
    watermark: Watermark | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Row]:
    """Measures every attack on every clip of a folder and returns all rows of ``out_csv``, old and new.

    Args:
        videos, min_short_side, max_short_side: see :func:`eval.corpus.list_videos`.
        attacks: ids of :data:`eval.attacks.ATTACKS`; None: the published table.
        max_frames: how many frames from the start of each clip are marked and attacked.
        max_seconds: instead of ``max_frames``, all frames of the first so many seconds.
        processes: workers, a clip each; 1 measures in this process.
        limit: only the first so many clips of the interleaved order.
        retry_errors: measures again what ended in an error.
        watermark: what is measured; None: this project's own at ``strength`` and ``profile``.
        progress: called with the clips done, the clips to do and the id of the last.

    Rows that ``out_csv`` has are not measured again; a line that a kill has torn is dropped. What fails on one clip is
    a row with an error, never the end of the run. Errors: those of list_videos; InputError (an unknown attack);
    OutputError, DiskFullError (``out_csv`` cannot be written or is another table).
    """
    wanted = tuple(attack.id for attack in attacks_named(attacks))
    subject = watermark or Lattice(strength=strength, profile=profile)
    listed = list_videos(videos, min_short_side=min_short_side, max_short_side=max_short_side, seed=seed)[:limit]
    out = Path(out_csv)
    if retry_errors:
        drop_errors(out)
    done = {row.key for row in prepare(out)}
    jobs = []
    for video in listed:
        job = _Job(
            video=video,
            attacks=wanted,
            watermark=subject,
            max_frames=None if max_seconds is not None else max_frames,
            max_seconds=max_seconds,
            seed=seed,
            out=out,
        )
        left = tuple(attack for attack in wanted if job.blank(attack).key not in done)
        if left:
            jobs.append(replace(job, attacks=left))
    for count, name in enumerate(finished([partial(_measure, job) for job in jobs], processes), start=1):
        if progress:
            progress(count, len(jobs), name)
    return read_rows(out)


def _measure(job: _Job) -> str:
    """Marks one clip, appends one row for each attack on it and returns its id."""
    try:
        with tempfile.TemporaryFile() as store:
            _attack_all(job, store)
    except (DiskFullError, OutputError, ImportError, MissingExtraError):
        raise  # the table cannot be written, or a package is not there: nothing is gained by going on
    except Exception as error:
        for attack in job.attacks:
            append_row(job.out, _failed(job.blank(attack), error))
    return job.video.id


def _attack_all(job: _Job, store: IO[bytes]) -> None:
    key, decoy, payload, keys_reversed = secrets_of(job.video, job.seed)
    keys = (decoy, key) if keys_reversed else (key, decoy)
    reader = read_planes(job.video.path, max_frames=job.max_frames, stop_s=job.max_seconds, threads=1)
    start = time.perf_counter()
    with reader:
        frames = _kept(job.watermark.mark(_upright(reader), key, payload), store)
    mark_ms = 1000 * (time.perf_counter() - start) / len(frames)
    rate = reader.info.fps if reader.info and reader.info.fps else 25.0
    clip = Clip(frames, Fraction(rate).limit_denominator(1001))
    short_side = min(frames[0].y.shape)
    for name in job.attacks:
        row = replace(job.blank(name), frames=len(frames), short_side=short_side, mark_ms_per_frame=round(mark_ms, 3))
        try:
            row = _attacked(row, clip, ATTACKS[name], job, keys, key, payload)
        except (ImportError, MissingExtraError):
            raise
        except Exception as error:
            row = _failed(row, error)
        append_row(job.out, row)


def _attacked(row: Row, clip: Clip, attack: Attack, job: _Job, keys: Sequence[Key], key: Key, payload: int) -> Row:
    rng = np.random.default_rng([job.seed, crc32(job.video.id.encode()), crc32(attack.id.encode())])
    start = time.perf_counter()
    file = attack.apply(clip, rng)
    attacked = time.perf_counter()
    row = replace(row, bytes=file.getbuffer().nbytes, attack_s=round(attacked - start, 3))
    outcome = job.watermark.read(file, keys)
    read_s = round(time.perf_counter() - attacked, 3)
    right_key = outcome.detected and outcome.key == key.name
    given = outcome.payload
    return replace(
        row,
        present=int(outcome.detected),
        right_key=int(right_key),
        exact=int(right_key and given == payload),
        wrong_payload=int(given is not None and given != payload),
        bit_accuracy=None if given is None else 1 - (given ^ payload).bit_count() / 64,
        log10_p=None if outcome.log10_p is None else round(float(outcome.log10_p), 3),
        scale=None if outcome.scale is None else round(float(outcome.scale), 5),
        rotation=None if outcome.rotation is None else round(float(outcome.rotation), 4),
        flip=None if outcome.flip is None else int(outcome.flip),
        aspect=None if outcome.aspect is None else round(float(outcome.aspect), 5),
        frames_read=outcome.frames_read,
        read_s=read_s,
    )


def secrets_of(video: Video, seed: int) -> tuple[Key, Key, int, bool]:
    """Key, decoy, 64-bit payload, and whether the decoy comes first: drawn from the clip and the seed."""
    name = f"{seed}/{video.sha256 or video.id}"

    def draw(what: str) -> bytes:
        return hashlib.sha256(f"genwm eval/{what}/{name}".encode()).digest()

    created = "2026-01-01T00:00:00+00:00"
    # The names are drawn too, so that nothing but the secret can tell the two apart.
    key, decoy = (Key(f"k{draw(what + ' name').hex()[:12]}", draw(what), created) for what in ("key", "decoy"))
    return key, decoy, int.from_bytes(draw("payload")[:8], "big"), bool(draw("order")[0] & 1)


def _upright(frames: Iterable[Planes]) -> Iterator[Planes]:
    """Frames of square pixels and even size, as sites make them; a clip ends where its size changes."""
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
        yield planes


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
