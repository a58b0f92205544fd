"""A video or still image -> a reading of its watermark: sampling, sequential test (`search`), timeline.

Evidence is looked at up to three times: key frames from all over the file (cheap, and the best in quality), a first
stretch, then the whole frame budget with the full geometric search. Each look counts in the p-value, and the first that
decodes a payload ends the reading, so a clear mark costs little and an absent one the whole budget.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.search import EARLY_LOOK, LONGEST_ASPECT, Finding, Search
from detectors.timeline import Grid, Segment, rewound, spread_over, stretches_of, timeline_of
from genwm.errors import InputError, KeyMissingError
from genwm.keys import Key
from genwm.lattice import geometry, pilots
from genwm.lattice.decision import HINT_LOG10_P, THRESHOLD_LOG10_P
from genwm.lattice.evidence import GROUP_FRAMES, WORKING_LINES, Accumulator, Evidence
from genwm.lattice.geometry import Geometry
from genwm.video import Planes, Select, Source, Span, VideoInfo, probe, read_planes
from genwm.video.decoding import UNREAD, unread_from

Status = Literal["detected", "not_detected", "inconclusive"]

#: Below this short side the top of the mark's band is lost.
SMALL_LINES = 256
FRAME_BUDGET = 256
KEY_FRAMES = 8
FIRST_LOOK_FRAMES = 32
ALL_FRAMES = 128
MAX_GROUPS = 8
#: Where every stretch of a file may be searched, all of them together have this share of the error budget, the looks
#: the rest; and how many stretches are at most.
EVERYWHERE, MOST_STRETCHES = 1 / 8, 60


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found.

    Attributes:
        status: 'detected' where the corrected p-value is at most 10^-6, 'inconclusive' where it is below 10^-3, else
            'not_detected'.
        key: name of the key, None without a detection.
        payload: the 64 bits, None where present but too weak to read.
        log10_p: base-10 logarithm of the p-value, corrected for all hypotheses, keys and looks; at most 0.
        geometry: scale, rotation, flip and aspect of the mark in the picture, None without a detection.
        perspective: whether the picture stands in perspective; geometry is then that of the picture made straight.
        negative: whether the picture is the marked one with light and dark, and all hues, inverted.
        segments: marked stretches of time, filled by ``timeline=True``; a still image has none.
        frames_read: frames that were decoded and used, each counted once.
        warnings: plain sentences.
        timing: seconds of 'decode' (reading and summing), 'search' and 'total'.
        info: what the file says about its video.
    """

    status: Status
    key: str | None
    payload: int | None
    log10_p: float
    geometry: Geometry | None
    segments: tuple[Segment, ...]
    frames_read: int
    warnings: tuple[str, ...]
    timing: dict[str, float]
    info: VideoInfo
    perspective: bool = False
    negative: bool = False


def read_watermark(
    source: Source | NDArray[np.uint8],
    *,
    keys: Iterable[Key] | Key,
    timeline: bool = False,
    everywhere: bool = False,
    max_frames: int = FRAME_BUDGET,
    threads: int = 2,
    tap: Callable[[Planes], None] | None = None,
) -> Reading:
    """Reads the mark of a video or still image.

    Args:
        source: path, or binary file object that can seek; or frames, uint8 ``(frames, height, width, 3)`` RGB, which
            are taken as 25 a second.
        keys: keys to try, retired ones included; or one key.
        timeline: also say which seconds are marked, by which payload; reads the whole file once more, or twice.
        everywhere: where the frames that are sampled show no mark, search the file stretch by stretch, five seconds at
            a time (``MOST_STRETCHES`` of them at most, spread over it): a short marked part of a long clip shows so.
            It costs about a second for each, and an eighth of the error budget.
        max_frames: frames to use at most; the cost of a long video is bounded by it.
        threads: threads of the decoder, at most 4.
        tap: called with each frame of a file of at most ``ALL_FRAMES`` frames, at full size and in order of time, as
            far as the search decodes it, so that another detector need not decode it again.

    Raises:
        KeyMissingError: no keys.
        InputError: the file cannot be read, see ``genwm.errors``; a source or keys of another type, an array of
            another shape; ``max_frames`` below 1.
    """
    keys = _as_keys(keys)
    if not isinstance(max_frames, int) or max_frames < 1:
        raise InputError(f"Expected max_frames of at least 1, got {max_frames!r}; let it use more frames.")
    source = _as_file(source)
    if not keys:
        raise KeyMissingError("Expected at least one key to verify with, got none; make one with genwm keys new NAME.")
    started = time.perf_counter()
    warnings: list[str] = []
    info, keyed_frames = opened(source, threads, min(KEY_FRAMES, max_frames), warnings)
    search = Search(keys, pilots.pilot_keys(keys), (info.width, info.height), 1 - EVERYWHERE if everywhere else 1.0)
    frames = 0
    if min(info.width, info.height) < SMALL_LINES:
        warnings.append(
            f"the picture's short side is {min(info.width, info.height)} pixels; "
            f"below {SMALL_LINES} a mark may be missed"
        )
    if max(info.width, info.height) > LONGEST_ASPECT * min(info.width, info.height):
        warnings.append(
            f"the picture is over {LONGEST_ASPECT} times as long as wide; a mark that was cut or turned may be missed"
        )
    decided = False
    used: set[float] = set()  # times of frames
    if not info.is_still:
        keyed = key_collector()
        for frame in keyed_frames:
            keyed.add(frame)
            frames += 1
        decided = search.look(keyed.take(), thorough=False)
    if not decided:
        frames = 0
        collected = collector(info, max_frames)
        evidence: list[Evidence] = []
        for frame in stretches(source, info, threads, max_frames, warnings, tap):
            collected.add(frame)
            used.add(frame.time_s)
            frames += 1
            if frames == FIRST_LOOK_FRAMES and search.glimpsed:
                evidence = collected.take()
                decided = search.look(evidence, thorough=False)
                if decided:
                    break
        if not decided:
            evidence += collected.take()
            decided = search.look(evidence, thorough=True)
    finding, looks = search.best, EARLY_LOOK / search.share  # the strictest look
    if everywhere and not info.is_still and finding.log10_p > THRESHOLD_LOG10_P:
        other, other_looks = _elsewhere(source, search, info, threads, warnings, used)
        frames = max(frames, len(used))
        if other.log10_p < finding.log10_p:
            finding, looks = other, other_looks
    status: Status = (
        "detected" if finding.log10_p <= THRESHOLD_LOG10_P
        else "inconclusive" if finding.log10_p <= HINT_LOG10_P
        else "not_detected"
    )
    found = finding.candidate if status == "detected" else None
    if found and found.corners:
        warnings.append("the picture stands in perspective; geometry is that of the picture made straight")
    negative = found is not None and found.planes == geometry.NEGATIVE
    if negative:
        warnings.append("the picture is a negative of the marked one")
    segments: tuple[Segment, ...] = ()
    if timeline and not info.is_still:
        segments = timeline_of(
            source, keys=keys, found=Grid(found, finding.payload, looks) if found else None,
            look=partial(_look_again, source, search, info, threads), threads=threads,
        )
    total = time.perf_counter() - started
    return Reading(
        status=status,
        key=keys[found.key].name if found else None,
        payload=finding.payload if found else None,
        log10_p=finding.log10_p,
        geometry=geometry.describe(found.matrix) if found else None,
        segments=segments,
        frames_read=frames,
        warnings=tuple(warnings),
        timing={"decode": total - search.seconds, "search": search.seconds, "total": total},
        info=info,
        perspective=bool(found and found.corners),
        negative=negative,
    )


def _elsewhere(source: Source, earlier: Search, info: VideoInfo, threads: int, warnings: list[str], used: set[float]
               ) -> tuple[Finding, float]:
    """What a search of the file stretch by stretch finds first, or the best that it finds; and as one of how many looks
    that counts. Adds the times of the frames that it looks at to ``used``."""
    every = stretches_of(0.0, info.duration_s or 0.0)
    chosen = spread_over(every, MOST_STRETCHES)
    if len(chosen) < len(every):
        warnings.append(f"{len(chosen)} of {len(every)} stretches of the file were searched")
    best = Finding()
    for start_s, stop_s in chosen:
        found = _search_part(source, earlier, info, threads, start_s, stop_s, share=EVERYWHERE / len(chosen),
                             used=used)
        best = min(best, found, key=lambda each: each.log10_p)
        if best.log10_p <= THRESHOLD_LOG10_P:
            break
    return best, EARLY_LOOK * len(chosen) / EVERYWHERE


def _look_again(source: Source, earlier: Search, info: VideoInfo, threads: int, start_s: float, stop_s: float
                ) -> Grid | None:
    """The lattice in a stretch of the file that the ``earlier`` search's does not explain, if there is one."""
    best = _search_part(source, earlier, info, threads, start_s, stop_s)
    if best.candidate is None or best.log10_p > THRESHOLD_LOG10_P:
        return None
    return Grid(best.candidate, best.payload, EARLY_LOOK)


def _search_part(source: Source, earlier: Search, info: VideoInfo, threads: int, start_s: float, stop_s: float, *,
                 share: float = 1.0, used: set[float] | None = None) -> Finding:
    collected = collector(info, FRAME_BUDGET)
    for frame in _frames(source, [], select="all", span=Span(start_s, stop_s, FRAME_BUDGET), threads=threads):
        collected.add(frame)
        if used is not None:
            used.add(frame.time_s)
    search = Search(earlier.keys, earlier.signs, earlier.size, share)
    search.look(collected.take(), thorough=True)
    earlier.seconds += search.seconds
    return search.best


def _as_keys(keys: Iterable[Key] | Key) -> tuple[Key, ...]:
    given = (keys,) if isinstance(keys, Key) else tuple(keys) if isinstance(keys, Iterable) else None
    if given is None or not all(isinstance(key, Key) for key in given):
        raise InputError(f"Expected a Key or a sequence of Keys, got a {type(keys).__name__}; get them from "
                         "Keyring.load().keys().")  # fmt: skip
    return given


def _as_file(source: Source | NDArray[np.uint8]) -> Source:
    """The source itself where it can be read as a file, over and over."""
    if isinstance(source, np.ndarray):
        return _written(source)
    if not isinstance(source, str | os.PathLike) and not _is_binary_file(source):
        raise InputError("Expected a path, a binary file that can seek, or frames of shape (frames, height, width, 3) "
                         f"and type uint8, got a {type(source).__name__}; open the file in mode 'rb', read a stream "
                         "into io.BytesIO, or make one NumPy array of the frames.")  # fmt: skip
    return source


def _is_binary_file(source: object) -> bool:
    file: Any = source
    try:
        return file.seekable() and isinstance(file.read(0), bytes)
    except (AttributeError, TypeError, OSError, ValueError):  # no file, or one that is closed or only written to
        return False


def _written(frames: NDArray[np.uint8]) -> Source:
    """Frames as a file in memory, without loss but for the 4:2:0 that nearly every video has: so they are read as any
    other."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise InputError(f"Expected frames of shape (frames, height, width, 3) and type uint8, got {frames.shape} and "
                         f"{frames.dtype}; convert them")  # fmt: skip
    from genwm.video import write_video

    file = io.BytesIO()
    write_video(file, frames, fps=25, codec="ffv1", container="matroska", threads=1)
    file.seek(0)
    return file


def opened(source: Source, threads: int, count: int, warnings: list[str]) -> tuple[VideoInfo, Iterator[Planes]]:
    """What the file says about its video, and its ``key_frames``: the first of them says it, so that no frame is
    decoded for that alone. Errors: those of ``probe``."""
    reader = read_planes(rewound(source), max_short_side=WORKING_LINES, select="key", max_frames=count, threads=threads)
    first = next(reader, None)
    info = reader.info
    if first is None or info is None:
        info = probe(rewound(source))
        return info, key_frames(source, info, threads, count, warnings)
    if info.is_still:
        reader.close()
        return info, iter([first])

    def frames() -> Iterator[Planes]:
        with reader:
            yield first
            if _is_short(info):
                yield from reader
            warnings.extend(reader.warnings)
        if not _is_short(info):
            yield from _spread_key_frames(source, info, threads, count, warnings, last_s=first.time_s)

    return info, frames()


def key_frames(source: Source, info: VideoInfo, threads: int, count: int, warnings: list[str]) -> Iterator[Planes]:
    """Up to ``count`` key frames: all of a short file, else spread over it."""
    if _is_short(info):
        yield from _frames(source, warnings, select="key", span=Span(max_frames=count), threads=threads)
    else:
        yield from _spread_key_frames(source, info, threads, count, warnings)


def _is_short(info: VideoInfo) -> bool:
    return info.duration_s is None or info.duration_s <= 30


def _spread_key_frames(source: Source, info: VideoInfo, threads: int, count: int, warnings: list[str], *,
                       last_s: float = -1.0) -> Iterator[Planes]:
    """The first key frame of each of ``count`` equal parts; ``last_s``: time of one that is known already."""
    for number in range(count):
        start_s = (info.duration_s or 0) * number / count
        if start_s <= last_s:
            continue  # key frames are rare: it would be the same one again
        for frame in _frames(source, warnings, select="key", span=Span(start_s, None, 1), threads=threads):
            last_s = frame.time_s
            yield frame


def stretches(source: Source, info: VideoInfo, threads: int, count: int, warnings: list[str],
              tap: Callable[[Planes], None] | None = None) -> Iterator[Planes]:
    """``count`` frames: the whole of a short file; of a long one, four stretches spread over it."""
    length = _length(info)
    # What no other frame refers to holds little of the mark and is half of the decoding: a long file can do without.
    select: Select = "all" if length <= ALL_FRAMES else "reference"
    parts = 1 if length <= count * 1.25 else min(4, max(count, 1))
    starts_s = [(info.duration_s or 0) * number / parts for number in range(parts)]
    spans = [Span(start_s, stop_s, count // parts) for start_s, stop_s in zip_longest(starts_s, starts_s[1:])]
    return _frames(source, warnings, select=select, span=spans, threads=threads, tap=tap if select == "all" else None)


def _frames(source: Source, warnings: list[str], *, select: Select, span: Span | Sequence[Span], threads: int,
            tap: Callable[[Planes], None] | None = None) -> Iterator[Planes]:
    """Frames of one or several stretches of the file. Behind its beginning, one that cannot be read is a warning: the
    header may promise too much."""
    reader = read_planes(rewound(source), max_short_side=WORKING_LINES, select=select, span=span, threads=threads,
                         tap=tap)
    start_s = span.start_s if isinstance(span, Span) else span[0].start_s
    with reader:
        try:
            yield from reader
        except InputError:
            if start_s <= 0:
                raise
            if not any(text.startswith(UNREAD) for text in warnings):  # which holds for all that comes later
                warnings.append(unread_from(start_s))
        finally:
            warnings.extend(text for text in reader.warnings if text not in warnings)


def key_collector() -> Accumulator:
    """Of the first look, at key frames from all over the file."""
    return Accumulator(group_frames=5, picked=True)


def collector(info: VideoInfo, max_frames: int) -> Accumulator:
    """Groups long enough that whitening them costs no more than eight do."""
    return Accumulator(group_frames=max(GROUP_FRAMES, -(-min(_length(info), max_frames) // MAX_GROUPS)))


def _length(info: VideoInfo) -> int:
    """Frames of the file, by its own claims."""
    return int((info.duration_s or 0) * (info.fps or 25))


__all__ = ["Reading", "Segment", "read_watermark"]
