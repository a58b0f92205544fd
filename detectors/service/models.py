"""What the API speaks, as pydantic models: OpenAPI is made of them. Times are UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import Row

from detectors.record import ErrorRecord, Verdict
from detectors.service.decisions import Action, Entry, Rates
from detectors.service.scans import Review, Status

#: Databases hold no lone surrogate and PostgreSQL no NUL; the others only confuse whoever reads a list.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
NO_CONTROL = "characters that cannot be shown have no place in it"


def _plain(text: str) -> str:
    if CONTROL.search(text):
        raise PydanticCustomError("control_characters", NO_CONTROL)
    return text


_Reference = Annotated[str, Field(max_length=200), AfterValidator(_plain)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SubmitPath(_Model):
    """A file on the server, below one of its roots."""

    path: str = Field(min_length=1, max_length=4096)
    reference: _Reference | None = Field(default=None, description="Your own name for it; comes back with it.")
    webhook: str | None = Field(default=None, description="URL that is told when the scan is finished.")


class SubmitFields(_Model):
    """What may come beside an uploaded file."""

    reference: _Reference | None = None
    webhook: str | None = None


class ErrorBody(_Model):
    """Every answer that is not a success."""

    error: ErrorRecord


class ScanState(_Model):
    """Where a scan stands. ``error`` says why a scan failed for reasons of the server's; a file that cannot be read is
    done, with the verdict 'error'."""

    id: str
    status: Status
    name: str
    reference: str | None
    sha256: str | None
    bytes: int | None
    verdict: Verdict | None
    review: Review
    decision: Action | None = Field(description="What reviewers decided last.")
    created: datetime
    started: datetime | None
    finished: datetime | None
    error: ErrorRecord | None

    @classmethod
    def of(cls, row: Row[Any]) -> ScanState:
        error = None if row.error_code is None else ErrorRecord(code=row.error_code, message=row.error_message)
        created = utc(row.created)
        assert created is not None
        return cls(id=row.id, status=row.status, name=row.name, reference=row.reference, sha256=row.sha256,
                   bytes=row.bytes, verdict=row.verdict, review=row.review, decision=row.action, created=created,
                   started=utc(row.started), finished=utc(row.finished), error=error)


class ScanPage(_Model):
    """Scans, newest first; ``next`` is the ``before`` of the next page, null on the last."""

    items: list[ScanState]
    next: str | None


class AppealRequest(_Model):
    """Why a decision should be looked at again."""

    note: str = Field(min_length=1, max_length=2000)
    seen: int | None = Field(
        default=None, ge=0, description="Number of the scan's last entry that you have seen, 0 for none. Where there "
                                        "is a later one, the appeal is refused.")


class LogEntry(_Model):
    """An entry of the decision log."""

    number: int
    at: datetime
    scan_id: str
    by: str
    kind: Literal["decision", "appeal"]
    action: Action | None
    reason: str | None
    note: str
    verdict: str | None
    settings: str | None
    overturns: bool | None
    hash: str

    @classmethod
    def of(cls, entry: Entry) -> LogEntry:
        at = utc(entry.at)
        assert at is not None
        return cls(number=entry.number, at=at, scan_id=entry.scan_id, by=entry.by, kind=entry.kind, action=entry.action,
                   reason=entry.reason, note=entry.note, verdict=entry.verdict, settings=entry.settings,
                   overturns=entry.overturns, hash=entry.hash)


class LogPage(_Model):
    """Entries, oldest first; ``next`` is the ``after`` of the next page, null on the last."""

    items: list[LogEntry]
    next: int | None


class ReviewRates(_Model):
    """Counts over the whole decision log. ``overturn_rate`` is ``overturned / appeals_decided``."""

    decisions: dict[str, int]
    appeals: int
    appeals_decided: int
    overturned: int
    overturn_rate: float | None

    @classmethod
    def of(cls, rates: Rates) -> ReviewRates:
        return cls(decisions=rates.decisions, appeals=rates.appeals, appeals_decided=rates.appeals_decided,
                   overturned=rates.overturned, overturn_rate=rates.overturn_rate)


class Health(_Model):
    """``problems`` are sentences; empty where all is well."""

    status: Literal["ok", "failing"]
    problems: list[str] = []


def utc(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
