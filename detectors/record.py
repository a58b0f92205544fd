"""The record of one file (schema ``genwm.record/1``): what was read, what it amounts to, and how it was found out.

A file that cannot be read is a record too, with an error in it: a run over many files yields one record for each.
Times are seconds; ``log10_p`` is the base-10 logarithm of a p-value corrected for everything that was searched. Fields
may be added; none changes its name or meaning without a new schema. ``docs/schema/record-1.json`` is these models as
JSON Schema.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from genwm.keys import Key
from genwm.text import escaped

SCHEMA = "genwm.record/1"

Verdict = Literal["watermark_detected", "likely_synthetic", "inconclusive", "no_evidence", "error"]
VERDICTS: tuple[Verdict, ...] = ("watermark_detected", "likely_synthetic", "inconclusive", "no_evidence", "error")


class _Model(BaseModel):
    # Fields that a later version has added are left out, so that one goes on with the journal or database of the other.
    model_config = ConfigDict(extra="ignore", frozen=True)


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

    def in_words(self) -> str:
        """What was done, as far as it can be seen."""
        sized = f"mark {self.scale:.2f} times as large as in an uncut copy"
        changes = [sized] if abs(self.scale - 1) > 0.005 else []
        way = "clockwise" if self.rotation > 0 else "counter-clockwise"
        changes += [f"turned by {abs(self.rotation):.1f} degrees {way}"] if abs(self.rotation) > 0.1 else []
        changes += [f"stretched {self.aspect:.2f} times in width"] if abs(self.aspect - 1) > 0.01 else []
        changes += ["mirrored"] if self.flip else []
        return ", ".join(changes) or "size and orientation unchanged"


class SegmentRecord(_Model):
    """A marked stretch of time in seconds; ``payload`` is null where it is too weak to read."""

    start: float
    end: float
    key: str
    payload: str | None
    log10_p: float

    def in_words(self) -> str:
        """What marks it."""
        return f"key {self.key}, payload {self.payload or 'too weak to read'}"


class WatermarkRecord(_Model):
    """The watermark; ``payload`` is 16 hex digits, null where the mark is present but too weak to read."""

    status: Literal["detected", "not_detected", "inconclusive"]
    key: str | None
    payload: str | None
    log10_p: float
    geometry: GeometryRecord | None
    segments: tuple[SegmentRecord, ...] = ()


class SuspectRecord(_Model):
    """A stretch of time in seconds that the classifier looked at, the probability that a generator made it, and the
    part of the picture: top, left, height and width in pixels, as displayed."""

    start: float
    end: float
    probability: float
    place: tuple[int, int, int, int] | None = None


class SyntheticRecord(_Model):
    """The classifier. 1 always encodes 'synthetic'; ``false_positive_rate`` is the share of the camera footage it was
    calibrated on that scores as high, null where the file could not be judged (a still, a few frames): ``probability``
    is 0.5 then. ``channels`` says what each cue adds to the score, towards synthetic where positive."""

    status: Literal["likely_synthetic", "inconclusive", "no_evidence"]
    probability: float
    model: str
    segments: tuple[SuspectRecord, ...] = ()
    false_positive_rate: float | None = None
    calibration: str | None = None
    channels: dict[str, float] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether the classifier could judge the file; else ``probability`` says nothing."""
        return self.false_positive_rate is not None


class ProvenanceRecord(_Model):
    """What signed metadata and the registry say. ``declares_generated`` is null where there is no manifest, or none
    that says what made the content; ``names_payload`` is that of the watermark of ours which the manifest names."""

    c2pa: Literal["not_checked", "absent", "valid", "valid_untrusted", "invalid"] = "not_checked"
    registry: Literal["not_checked", "match", "transplant", "unknown"] = "not_checked"
    signer: str | None = None
    declares_generated: bool | None = None
    names_payload: str | None = None


class ErrorRecord(_Model):
    """A stable code and one plain sentence."""

    code: str
    message: str


class Record(_Model):
    """One file.

    ``watermark`` is null where no mark was looked for, ``synthetic`` where no classifier is installed, both where
    there is an error. ``settings`` is the digest of what it was scanned with: same bytes, same digest, same record.
    ``duplicate_of`` is the path of the file with the same bytes whose record this one repeats.
    """

    schema_: Literal["genwm.record/1"] = Field(default="genwm.record/1", alias="schema")
    input: InputRecord
    watermark: WatermarkRecord | None = None
    synthetic: SyntheticRecord | None = None
    provenance: ProvenanceRecord = ProvenanceRecord()
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: ErrorRecord | None = None
    policy: str | None = None
    settings: str | None = None
    duplicate_of: str | None = None
    timing: dict[str, float]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, line: str | bytes) -> Record:
        """The record of one line of JSON. Errors: pydantic.ValidationError."""
        return cls.model_validate_json(line)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a record."""
    schema = Record.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}


def verify_file(path: str | os.PathLike[str], *, keys: Sequence[Key], timeline: bool = False) -> Record:
    """Reads the mark of one file, and nothing else. Whatever is wrong with the file ends up in the record's ``error``.

    ``timeline`` also finds which seconds are marked, and searches everywhere for them. Raises KeyMissingError where
    ``keys`` is empty.
    """
    from detectors.scan import Settings, scan
    from genwm.errors import KeyMissingError

    if not keys:
        raise KeyMissingError("Expected at least one key to verify with, got none; make one with genwm keys new NAME.")
    return scan(path, Settings(keys=tuple(keys), timeline=timeline, everywhere=timeline, detectors=("watermark",)))


def printable(text: str) -> str:
    """One line that JSON can hold: file names of other encodings come as lone surrogates."""
    return " ".join(escaped(text).split())
