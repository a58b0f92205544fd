"""One file -> one record, in this process. For files that nobody vouches for, see ``detectors.scan.pool``."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detectors.heat import Part
from detectors.record import (
    ErrorRecord,
    GeometryRecord,
    InputRecord,
    ProvenanceRecord,
    Record,
    SegmentRecord,
    SuspectRecord,
    SyntheticRecord,
    WatermarkRecord,
    printable,
)
from detectors.scan.settings import Settings, versions
from detectors.verdict import RATE_DIGITS, judge, unreachable
from detectors.watermark import read_watermark
from genwm.errors import ChangedError, GenwmError, InputError, TooLargeError, debugging
from genwm.text import escaped_name
from genwm.video import Planes, Span, VideoInfo, probe, read_rgb

if TYPE_CHECKING:
    from detectors.watermark import Reading
    from genwm.registry import Finding

#: Lines of an evidence picture.
PICTURE_LINES = 240
#: Pictures that get a heat map, of files that the classifier says something of.
HEAT_MAPS = 2
#: Frames that a registered clip is compared by.
REGISTRY_FRAMES = 6
#: Degrees beyond which the pictures of a turned copy cannot be compared.
_TURNED = 3


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Which bytes a path names: sha256 and size of a regular file, both None for anything else (a pipe or device may
    never end); ``stamp`` changes when the file does."""

    sha256: str | None = None
    bytes: int | None = None
    stamp: tuple[int, ...] = ()


def fingerprint(path: str | os.PathLike[str]) -> Fingerprint:
    """Hashes a file's content. Never raises: what cannot be read has no fingerprint."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Fingerprint()
        with open(path, "rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            return Fingerprint(hashlib.file_digest(file, "sha256").hexdigest(), stamp[0], stamp)
    except (OSError, ValueError):
        return Fingerprint()


@dataclass(frozen=True, slots=True)
class Picture:
    """An evidence picture: seconds from the start, a JPEG of at most `PICTURE_LINES` lines, and the classifier's heat
    map where it was asked for one (``detectors.synthetic.explain``)."""

    time_s: float
    jpeg: bytes
    heat: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Scanned:
    """A file's record with the evidence pictures that the settings ask for."""

    record: Record
    pictures: tuple[Picture, ...] = ()


def scan(path: str | os.PathLike[str], settings: Settings | None = None) -> Record:
    """Asks every detector about one file, a video or still image; whatever is wrong with it is in the record's error.

    The file is read in this process, without limits on time and memory: use `Pool` for files of strangers.
    ``settings`` default to the user's keyring and the shipped policy.

    Raises KeyringError, KeyMissingError (nothing to look for), InputError for anything but a path and `Settings`.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"Expected the path of a file, got a {type(path).__name__}; write it to a file first, or look "
                         "for marks in frames with read_watermark.")
    if not isinstance(settings, Settings | None):
        raise InputError(f"Expected Settings, got a {type(settings).__name__}; make them with Settings.load.")
    settings = Settings.load() if settings is None else settings
    settings.check()
    return examine(path, settings).record


def examine(
    path: str | os.PathLike[str], settings: Settings, *, known: Fingerprint | None = None, threads: int = 2
) -> Scanned:
    """`scan` with evidence pictures. ``known`` spares hashing the content again; ``threads`` are the decoder's."""
    started = time.perf_counter()
    if known is None:
        known = fingerprint(path)
    timing = {"decode": 0.0, "hash": time.perf_counter() - started}
    name = name_of(path)
    pictures: tuple[Picture, ...] = ()
    try:
        record = _examined(path, name, settings, known, timing, threads)
        pictures = _pictures(path, record, settings, threads)
    except GenwmError as error:
        record = failed(name, error.code, str(error), settings, known)
    except MemoryError:
        record = failed(name, "memory-limit", out_of_memory(name), settings, known)
    except Exception as error:  # a fault of ours must not stop the other files
        if debugging():
            traceback.print_exc(file=sys.stderr)
        record = failed(name, "internal", f"{type(error).__name__}: {error}", settings, known)
    timing["total"] = time.perf_counter() - started
    rounded = {part: round(spent, 4) for part, spent in timing.items()}
    return Scanned(record.model_copy(update={"timing": rounded}), pictures)


def failed(
    name: str, code: str, message: str, settings: Settings, known: Fingerprint, *, seconds: float = 0.0
) -> Record:
    """The record of a file that could not be read."""
    return Record(
        input=InputRecord(path=name, sha256=known.sha256, bytes=known.bytes),
        verdict="error",
        error=ErrorRecord(code=code, message=printable(message)),
        policy=settings.policy.name,
        settings=settings.digest,
        timing={"decode": 0.0, "total": round(seconds, 4)},
        versions=versions(settings),
    )


def renamed(record: Record, old: str, new: str, *, path: str | None = None) -> Record:
    """A record under another name of its file, also where words name it; ``old`` is how the words call it, and ``path``
    what stands for ``new`` in the record itself."""
    def said(text: str) -> str:
        return text.replace(old, new)

    error = record.error and record.error.model_copy(update={"message": said(record.error.message)})
    return record.model_copy(update={
        "input": record.input.model_copy(update={"path": new if path is None else path}), "error": error,
        "reasons": tuple(map(said, record.reasons)), "warnings": tuple(map(said, record.warnings)),
    })


def out_of_memory(name: str) -> str:
    """What the record of a file that needs too much memory says."""
    return (f"Expected {name} to be readable within the memory limit, got one that needs more; scale it down first, or "
            "raise the limit")


def name_of(path: str | os.PathLike[str]) -> str:
    """A path as JSON can hold it, each path another way."""
    return escaped_name(os.fsdecode(path))


def _examined(
    path: str | os.PathLike[str],
    name: str,
    settings: Settings,
    known: Fingerprint,
    timing: dict[str, float],
    threads: int,
) -> Record:
    info = probe(path)
    if info.coded_width * info.coded_height > settings.limits.pixels:
        raise TooLargeError(
            f"Expected a picture of at most {settings.limits.pixels / 1e6:g} megapixels in {name}, got "
            f"{info.coded_width} x {info.coded_height}; scale it down first, or raise the limit"
        )
    warnings: list[str] = []
    reading: Reading | None = None
    shared = _Shared(info) if settings.asks("synthetic") and settings.asks("watermark") else None
    if not settings.keys:
        warnings.append("no mark was looked for: there is no key to look with")
    if settings.asks("watermark"):
        reading = read_watermark(
            path, keys=settings.keys, timeline=settings.timeline, everywhere=settings.everywhere,
            max_frames=settings.limits.frames, threads=threads, tap=None if shared is None else shared.add,
        )
        warnings += reading.warnings
        timing.update({part: reading.timing[part] for part in ("decode", "search")})
    mark = None if reading is None else _watermark(reading)
    with _timed(timing, "synthetic"):
        synthetic = _synthetic(path, settings, info, shared, warnings, threads)
    with _timed(timing, "provenance"):
        provenance = _provenance(path, settings, reading, warnings, threads)
    if known.stamp and _stamp_of(path) != known.stamp:
        raise ChangedError(f"Expected {name} to stay as it is while it is read, got another content; scan it again "
                           "once it is complete")
    judgement = judge(mark, synthetic, provenance, settings.policy, keys=len(settings.keys))
    return Record(
        input=_input(name, known, info, 0 if reading is None else reading.frames_read),
        watermark=mark,
        synthetic=synthetic,
        provenance=provenance,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        contradictions=judgement.contradictions,
        warnings=tuple(printable(text) for text in warnings),
        policy=settings.policy.name,
        settings=settings.digest,
        timing=timing,
        versions=versions(settings),
    )


def _input(name: str, known: Fingerprint, info: VideoInfo, frames_read: int) -> InputRecord:
    return InputRecord(
        path=name,
        sha256=known.sha256,
        bytes=known.bytes,
        container=info.container,
        codec=info.codec,
        width=info.width,
        height=info.height,
        fps=_rounded(info.fps),
        duration=_rounded(info.duration_s),
        frames_read=frames_read,
    )


def _watermark(reading: Reading) -> WatermarkRecord:
    place = reading.geometry
    return WatermarkRecord(
        status=reading.status,
        key=reading.key,
        payload=_hex(reading.payload),
        log10_p=_logarithm(reading.log10_p),
        geometry=None if place is None else GeometryRecord(
            scale=round(place.scale, 4), rotation=round(place.rotation, 3) + 0.0, flip=place.flip,
            aspect=round(place.aspect, 4),
        ),
        segments=tuple(
            SegmentRecord(start=round(part.start, 3), end=round(part.stop, 3), key=part.key, payload=_hex(part.payload),
                          log10_p=_logarithm(part.log10_p))
            for part in reading.segments
        ),
    )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _stamp_of(path: str | os.PathLike[str]) -> tuple[int, ...]:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return ()


class _Shared:
    """Frames that the search for the mark decodes, kept for the classifier as it wants them."""

    def __init__(self, info: VideoInfo) -> None:
        from detectors.synthetic import new_collector

        self.collector = new_collector(info)
        self._expected = round((info.duration_s or 0) * (info.fps or 0))
        self._count = 0

    def add(self, frame: Planes) -> None:
        self._count += 1
        self.collector.add(frame)

    @property
    def complete(self) -> bool:
        """Whether the classifier has all that it would read itself: else the search stopped early, or jumped."""
        return self._count > 0 and (self.collector.full or self._count >= self._expected > 0)


def _synthetic(
    path: str | os.PathLike[str],
    settings: Settings,
    info: VideoInfo,
    shared: _Shared | None,
    warnings: list[str],
    threads: int,
) -> SyntheticRecord | None:
    """What the classifier says. A fault of it is a warning: the mark that was found must not be lost with it."""
    if not settings.asks("synthetic"):
        return None
    from detectors.synthetic import classify, load_model

    source = shared.collector if shared is not None and shared.complete else path
    try:
        model = load_model(settings.model, threads=threads)
        said = classify(source, model=model, info=info, threads=threads)
    except MemoryError:
        raise
    except Exception as error:
        if not settings.asks("watermark"):
            raise
        warnings.append(f"the classifier failed: {type(error).__name__}: {error}")
        return None
    warnings += [text for text in said.warnings if text not in warnings]
    if (words := unreachable(settings.policy, model.calibration.least_rate)) is not None:
        warnings.append(words)
    rate = said.false_positive_rate
    down, across = info.display_scale
    return SyntheticRecord(
        status=said.status, probability=round(said.probability, 4), model=said.model, calibration=said.calibration,
        false_positive_rate=None if rate is None else round(rate, RATE_DIGITS), reasons=said.reasons,
        channels={name: round(value, 3) for name, value in said.channels.items()},
        segments=tuple(
            SuspectRecord(start=round(part.start_s, 3), end=round(part.stop_s, 3),
                          probability=round(part.probability, 4),
                          place=_scaled(part.place, down, across))
            for part in said.segments
        ),
    )  # fmt: skip


def _scaled(place: tuple[int, int, int, int], down: float, across: float) -> tuple[int, int, int, int]:
    top, left, height, width = place
    return round(top * down), round(left * across), round(height * down), round(width * across)


def _provenance(
    path: str | os.PathLike[str],
    settings: Settings,
    reading: Reading | None,
    warnings: list[str],
    threads: int,
) -> ProvenanceRecord:
    """What the manifest says, and what the registry says of the payload that was read."""
    said: dict[str, Any] = {}
    if "provenance" not in settings.detectors:
        return ProvenanceRecord()
    if settings.asks("provenance"):
        from genwm.provenance import read

        manifest = read(path, trust=settings.trust)
        said = {"c2pa": manifest.status, "signer": manifest.signer, "declares_generated": manifest.declares_generated}
        if manifest.binding is not None:
            said["names_payload"] = manifest.binding.payload
        if manifest.reason:
            warnings.append(f"the manifest does not hold: {manifest.reason}")
    where = settings.registry_path()
    if where is not None and reading is not None and reading.payload is not None and reading.key is not None:
        key_id = next(key.id for key in settings.keys if key.name == reading.key)
        try:
            said["registry"] = looked_up(path, reading, where, key_id, threads=threads).status
        except InputError as error:
            warnings.append(f"the registry was not asked: {error}")
    return ProvenanceRecord(**said)


def looked_up(
    path: str | os.PathLike[str], reading: Reading, registry: str | os.PathLike[str], key_id: str, *, threads: int = 1
) -> Finding:
    """What a registry file says of a clip by the payload that was read from it and by how it looks: a picture that was
    turned, cut or framed so that it cannot be compared may be the registered clip all the same. Errors: those of
    `genwm.registry.Registry`."""
    from genwm.registry import Registry

    geometry = reading.geometry
    assert reading.payload is not None
    assert geometry is not None
    frames = [255 - rgb if reading.negative else rgb
              for _, rgb in _glimpses(path, _spread(reading.info.duration_s, REGISTRY_FRAMES), threads)]
    distorted = reading.perspective or abs(geometry.rotation) > _TURNED
    return Registry(registry).lookup(reading.payload, frames, key_id=key_id, distorted=distorted, scale=geometry.scale)


@contextmanager
def _timed(timing: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timing[part] = time.perf_counter() - started


def _pictures(path: str | os.PathLike[str], record: Record, settings: Settings, threads: int) -> tuple[Picture, ...]:
    """Evidence pictures: of the moments that the classifier looked at, the most suspicious first, then of others."""
    moments = _moments(record, settings.pictures)
    heat = _heat_maps(path, record, settings, threads)
    return tuple(Picture(round(time_s, 3), _jpeg(rgb), heat.get(time_s, ()))
                 for time_s, rgb in _glimpses(path, moments, threads, max_lines=PICTURE_LINES))  # fmt: skip


def _heat_maps(
    path: str | os.PathLike[str], record: Record, settings: Settings, threads: int
) -> dict[float, tuple[Part, ...]]:
    """Heat maps by the time of their frame: of the most suspicious moments, where the classifier has any suspicion (a
    map costs as much as a segment that the classifier reads)."""
    hottest = sorted(_suspicious(record, min(HEAT_MAPS, settings.pictures)))
    if not hottest or record.synthetic is None or record.synthetic.status == "no_evidence":
        return {}
    from detectors.synthetic.explain import heat_map
    from detectors.synthetic.model import load_model

    with suppress(Exception):  # nor is a map less a reason to lose the record, as where memory runs out
        model = load_model(settings.model, threads=threads)
        return {time_s: heat_map(rgb, model) for time_s, rgb in _glimpses(path, hottest, threads)}
    return {}


def _suspicious(record: Record, count: int) -> list[float]:
    """The middles of at most ``count`` stretches that the classifier looked at, the most suspicious first."""
    looked_at = () if record.synthetic is None else record.synthetic.segments
    return [(part.start + part.end) / 2 for part in sorted(looked_at, key=lambda part: -part.probability)[:count]]


def _moments(record: Record, count: int) -> list[float]:
    """Seconds to take pictures at, in order: the middle of what the classifier looked at, the most suspicious first,
    then always the one that is farthest from all others."""
    moments = _suspicious(record, count)
    if not moments:
        return _spread(record.input.duration, count)
    last_s = (record.input.duration or 0.0) - 1.5 / (record.input.fps or 25.0)  # behind it there may be no frame
    others = [time_s for time_s in _spread(record.input.duration, 4 * count) if time_s <= last_s]
    while others and len(moments) < count:
        farthest = max(others, key=lambda other: min(abs(other - moment) for moment in moments))
        moments.append(farthest)
        others.remove(farthest)
    return sorted(moments)


def _spread(duration_s: float | None, count: int) -> list[float]:
    """Moments spread evenly over a file, each in the middle of its share; of a still the only one."""
    if not duration_s:
        return [0.0] * min(count, 1)
    return [duration_s * (number + 0.5) / count for number in range(count)]


def _glimpses(
    path: str | os.PathLike[str], moments: Sequence[float], threads: int, *, max_lines: int | None = None
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """RGB frames of at most ``max_lines`` on the short side, the first at or after each moment (in order), each once;
    the first of a file that ends before all of them."""
    # A picture less is no reason to lose the record: some files are damaged only where a picture would be.
    last_s: float | None = None
    for spans in ([Span(time_s, None, 1) for time_s in moments], [Span(max_frames=1)]):
        if moments and last_s is None:
            with suppress(Exception), read_rgb(path, max_short_side=max_lines, span=spans, threads=threads) as file:
                for time_s, rgb in file:
                    if time_s != last_s:
                        yield time_s, rgb
                    last_s = time_s


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=80)
    return file.getvalue()


def _hex(payload: int | None) -> str | None:
    return None if payload is None else f"{payload:016x}"


def _logarithm(value: float) -> float:
    return round(value, 2) + 0.0  # no minus zero


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
