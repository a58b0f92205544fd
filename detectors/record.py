"""One file -> one record, the object that ``genwm verify --json`` prints a line of (schema ``genwm.record/1``).

A file that cannot be read is a record too, with an error in it: a run over many files yields one record for each.
Times are seconds; ``log10_p`` is the base-10 logarithm of a p-value corrected for everything that was searched.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from genwm import __version__
from genwm.errors import GenwmError
from genwm.keys import VERSION, Key

if TYPE_CHECKING:
    from detectors.watermark import Reading

SCHEMA = "genwm.record/1"

Verdict = Literal["watermark_detected", "likely_synthetic", "inconclusive", "no_evidence", "error"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputRecord(_Model):
    """The file; what could not be found out is null. ``width`` and ``height`` are as displayed."""

    path: str
    sha256: str | None = None
    bytes: int | None = None
    container: str | None = None
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    duration: float | None = None
    frames_read: int = 0


class GeometryRecord(_Model):
    """What was done to the marked picture: size of the mark relative to an uncropped copy, degrees clockwise, mirrored
    or not, horizontal over vertical stretch."""

    scale: float
    rotation: float
    flip: bool
    aspect: float


class SegmentRecord(_Model):
    """A marked stretch of time in seconds; ``payload`` is null where it is too weak to read."""

    start: float
    end: float
    key: str
    payload: str | None
    log10_p: float


class WatermarkRecord(_Model):
    """The watermark; ``payload`` is 16 hex digits, null where the mark is present but too weak to read."""

    status: Literal["detected", "not_detected", "inconclusive"]
    key: str | None
    payload: str | None
    log10_p: float
    geometry: GeometryRecord | None
    segments: tuple[SegmentRecord, ...] = ()


class ProvenanceRecord(_Model):
    """What signed metadata and the registry say; neither is looked at yet."""

    c2pa: Literal["not_checked", "absent", "valid", "valid_untrusted", "invalid"] = "not_checked"
    registry: Literal["not_checked", "match", "transplant", "unknown"] = "not_checked"


class ErrorRecord(_Model):
    """A stable code and one plain sentence."""

    code: str
    message: str


class Record(_Model):
    """One file. ``watermark`` is null for an error; ``synthetic`` is null as long as there is no classifier."""

    schema_: Literal["genwm.record/1"] = Field(default="genwm.record/1", alias="schema")
    input: InputRecord
    watermark: WatermarkRecord | None = None
    synthetic: None = None
    provenance: ProvenanceRecord = ProvenanceRecord()
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    timing: dict[str, float]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return self.model_dump_json(by_alias=True)


def verify_file(path: str | os.PathLike[str], *, keys: Sequence[Key], timeline: bool = False) -> Record:
    """Reads the mark of one file. Whatever is wrong with the file ends up in the record's ``error``.

    ``timeline`` also finds which seconds are marked. Raises KeyMissingError where ``keys`` is empty.
    """
    from detectors.watermark import read_watermark

    started = time.perf_counter()
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    versions = {"genwm": __version__, "watermark": VERSION.decode()}
    failure: ErrorRecord | None = None
    reading: Reading | None = None
    try:
        reading = read_watermark(path, keys=keys, timeline=timeline)
    except GenwmError as error:
        if not keys:
            raise
        failure = ErrorRecord(code=error.code, message=_printable(str(error)))
    except Exception as error:  # a fault of ours must not stop the other files
        if os.environ.get("GENWM_DEBUG", "0") not in ("", "0"):
            traceback.print_exc(file=sys.stderr)
        failure = ErrorRecord(code="internal", message=_printable(f"{type(error).__name__}: {error}"))
    read = time.perf_counter()
    sha256, size = _fingerprint(path)
    ended = time.perf_counter()
    timing = {"hash": round(ended - read, 4), "total": round(ended - started, 4)}
    if reading is None:
        return Record(
            input=InputRecord(path=name, sha256=sha256, bytes=size),
            verdict="error",
            error=failure,
            timing={"decode": 0.0, **timing},
            versions=versions,
        )
    info = reading.info
    return Record(
        input=InputRecord(
            path=name,
            sha256=sha256,
            bytes=size,
            container=info.container,
            codec=info.codec,
            width=info.width,
            height=info.height,
            fps=_rounded(info.fps),
            duration=_rounded(info.duration_s),
            frames_read=reading.frames_read,
        ),
        watermark=_watermark(reading),
        verdict=_VERDICTS[reading.status],
        reasons=(_reason(reading, keys),),
        warnings=tuple(_printable(text) for text in reading.warnings),
        timing={part: round(reading.timing[part], 4) for part in ("decode", "search")} | timing,
        versions=versions,
    )


_VERDICTS: dict[str, Verdict] = {
    "detected": "watermark_detected",
    "inconclusive": "inconclusive",
    "not_detected": "no_evidence",
}


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


def _reason(reading: Reading, keys: Sequence[Key]) -> str:
    tried = f"{len(keys)} key{'s' if len(keys) != 1 else ''}"
    chance = f"10^{_logarithm(reading.log10_p):g}"
    if reading.status == "detected":
        payload = "its payload is too weak to read" if reading.payload is None else f"payload {_hex(reading.payload)}"
        return f"The mark of key {reading.key} is in the picture, {payload}; chance explains it with p = {chance}."
    if reading.status == "inconclusive":
        return (f"There is a hint of a mark, which chance explains with p = {chance}: too likely to call it "
                "detected; try a longer or better copy.")
    return (f"No mark of the {tried} tried was found. That is no evidence that the video was not generated: it may "
            "come from elsewhere, or have lost its mark.")


def _fingerprint(path: str | os.PathLike[str]) -> tuple[str | None, int | None]:
    """sha256 and size of a regular file; nothing else is opened, for a pipe or device may never end."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None, None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), status.st_size
    except (OSError, ValueError):
        return None, None


def _hex(payload: int | None) -> str | None:
    return None if payload is None else f"{payload:016x}"


def _logarithm(value: float) -> float:
    return round(value, 2) + 0.0  # no minus zero


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _printable(text: str) -> str:
    """File names of other encodings come as lone surrogates, which JSON cannot hold."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
