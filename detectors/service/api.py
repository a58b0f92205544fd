"""The HTTP API under ``/v1``, health and metrics."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ValidationError
from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool

from detectors.record import Record, Verdict, printable
from detectors.service import decisions, scans
from detectors.service.errors import ForbiddenError, NotFinishedError, ServiceError
from detectors.service.models import (
    CONTROL,
    NO_CONTROL,
    AppealRequest,
    ErrorBody,
    Health,
    LogEntry,
    LogPage,
    ReviewRates,
    ScanPage,
    ScanState,
    SubmitFields,
    SubmitPath,
)
from detectors.service.paths import resolve
from detectors.service.scans import Filter, Review, Status, Submission
from detectors.service.state import State, state_of
from detectors.service.tokens import Token, check_token
from detectors.service.uploads import read_json, receive
from detectors.service.webhooks import check_url

_Asked = TypeVar("_Asked", bound=BaseModel)
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 409, 413, 415, 422, 429, 503, 507)
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: _ERRORS[status] for status in (401, 422, *statuses)}


_BEARER = HTTPBearer(auto_error=False, description="A token from 'genwm serve token new NAME'.")


def _token(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> Token:
    return check_token(state_of(request).database, "" if given is None else given.credentials.strip())


def _reviewer(token: Annotated[Token, Depends(_token)]) -> Token:
    if not token.reviews:
        raise ForbiddenError("Expected a token of the role 'review', got one that only submits; ask for a review token")
    return token


Caller = Annotated[Token, Depends(_token)]
Reviewer = Annotated[Token, Depends(_reviewer)]
Shared = Annotated[State, Depends(state_of)]
#: A number of the decision log: PostgreSQL compares its column with 32 bits only.
Number = Annotated[int, Query(ge=0, le=2**31 - 1)]


def check_text(request: Request) -> None:
    """Refuses control characters in parameters, in the address or behind it."""
    for name, value in (*request.path_params.items(), *request.query_params.multi_items()):
        if CONTROL.search(value):
            raise RequestValidationError([{"type": "control_characters", "loc": (name,), "msg": NO_CONTROL,
                                           "input": value}])


def _check_query(request: Request, token: Caller) -> None:
    """Refuses parameters that the route does not know or has twice: a filter that is spelt wrongly, or overruled by
    another, must not list something else."""
    check_text(request)
    counts = Counter(name for name, _ in request.query_params.multi_items())
    if twice := [name for name, count in counts.items() if count > 1]:
        raise RequestValidationError([{"type": "repeated", "loc": ("query", twice[0]), "msg": "one value, not several",
                                       "input": ", ".join(request.query_params.getlist(twice[0]))}])
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    if unknown := [name for name in request.query_params if name not in known]:
        raise RequestValidationError([{"type": "extra_forbidden", "loc": ("query", name)} for name in unknown])


router = APIRouter(prefix="/v1", dependencies=[Depends(_check_query)])
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {
                "type": "object", "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"},
                               **SubmitFields.model_json_schema()["properties"]},
            }},
            "application/json": {"schema": SubmitPath.model_json_schema()},
        },
    }
}


@router.post("/scans", status_code=202, response_model=ScanState, openapi_extra=_BODY,
             responses={200: {"model": ScanState, "description": "Submitted before under this idempotency key."},
                        **_errors(400, 403, 404, 409, 413, 415, 429, 503, 507)})
async def submit(
    request: Request, response: Response, token: Caller, state: Shared,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> ScanState:
    """Submits a file: an upload, or the path of a file below one of the server's roots. Once this is answered, the
    scan survives whatever happens to the server. The same idempotency key with the same request gives the same scan."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        asked = _validated(SubmitPath, await read_json(request.stream(), '{"path": "clip.mp4"}'))
        given = await run_in_threadpool(_of_path, state, asked, idempotency_key)
    else:
        # Asked again once it is here; now so that whoever may not submit fills no disk.
        await run_in_threadpool(scans.check_room, state.database, token, idempotency_key,
                                max_queue=state.config.max_queue)
        given = await _of_upload(request, state, idempotency_key)
    row, created = await run_in_threadpool(_queued, state, token, given)
    if not created:
        response.status_code = 200
    if created and given.uploaded:
        state.metrics.uploaded.inc(given.bytes or 0)
    state.runner.wake()
    response.headers["Location"] = f"/v1/scans/{row.id}"
    return ScanState.of(row)


def _queued(state: State, token: Token, given: Submission) -> tuple[Row[Any], bool]:
    """Queues a submission, or lets go of its upload; runs to its end whatever becomes of the request."""
    kept = False
    try:
        row, kept = scans.submit(state.database, token, given, max_queue=state.config.max_queue)
    finally:
        if given.uploaded and not kept:
            Path(given.path).unlink(missing_ok=True)
    return row, kept


def _of_path(state: State, asked: SubmitPath, key: str | None) -> Submission:
    if asked.webhook is not None:
        check_url(asked.webhook, state.config)
    path = resolve(asked.path, state.config.roots)
    return Submission(name=printable(asked.path), path=str(path), uploaded=False, reference=asked.reference,
                      webhook=asked.webhook, idempotency_key=key)


async def _of_upload(request: Request, state: State, key: str | None) -> Submission:
    config, length = state.config, request.headers.get("content-length", "")
    upload = await receive(
        request.stream(), request.headers.get("content-type", ""), config.uploads / scans.new_id(),
        limit=config.max_upload_bytes, min_free=config.min_free_bytes, length=int(length) if length.isdecimal() else 0)
    try:
        fields = _validated(SubmitFields, upload.fields)
        if fields.webhook is not None:
            check_url(fields.webhook, config)
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise
    return Submission(name=upload.name, path=str(upload.path), uploaded=True, sha256=upload.sha256, bytes=upload.bytes,
                      reference=fields.reference, webhook=fields.webhook, idempotency_key=key)


def _validated(model: type[_Asked], document: dict[str, Any]) -> _Asked:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ServiceError(describe_fault(error.errors(include_url=False)[0])) from None


def describe_fault(fault: Any) -> str:
    """One sentence about the first thing that pydantic found wrong."""
    place = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "header")) or "the request"
    if fault["type"] == "extra_forbidden":
        return f"Expected only known fields, got {place!r}; check its spelling"
    return f"Expected another value for {place!r} ({fault['msg']}), got {str(fault.get('input'))[:80]!r}; correct it"


Time = Annotated[datetime | None, Query(description="UTC where it names no zone.")]


def _seconds(time: datetime | None) -> float | None:
    """Seconds since 1970, of any year."""
    if time is None:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


@router.get("/scans", responses=_errors())
def list_scans(
    token: Caller, state: Shared, status: Status | None = None, verdict: Verdict | None = None,
    review: Review | None = None, sha256: Annotated[str | None, Query(pattern="^[0-9A-Fa-f]{64}$")] = None,
    reference: str | None = None, since: Time = None, until: Time = None,
    before: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="'next' of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> ScanPage:
    """Scans, newest first: those of this token, or everybody's for a token that reviews."""
    wanted = Filter(
        token_id=token.sees_only, status=status, verdict=verdict, review=None if review is None else (review,),
        sha256=sha256 and sha256.lower(), reference=reference, before=before,
        since=_seconds(since), until=_seconds(until))
    rows, following = scans.page(state.database, wanted, limit)
    return ScanPage(items=[ScanState.of(row) for row in rows], next=following)


@router.get("/scans/{scan_id}", responses=_errors(404))
def scan_state(scan_id: str, token: Caller, state: Shared) -> ScanState:
    """Where a scan stands."""
    return ScanState.of(scans.get(state.database, scan_id, token.sees_only))


@router.get("/scans/{scan_id}/record", response_model=Record, responses=_errors(404, 409))
def scan_record(scan_id: str, token: Caller, state: Shared) -> Response:
    """The record of a finished scan."""
    row = scans.get(state.database, scan_id, token.sees_only)
    return Response(_record_of(row), media_type="application/json")


def _record_of(row: Row[Any]) -> str:
    if row.status == "failed":
        raise NotFinishedError(f"Expected a scan with a record, got one that failed ({row.error_code}); submit again")
    if row.record is None:
        raise NotFinishedError(f"Expected a finished scan, got one that is {row.status}; ask again later")
    return str(row.record)


@router.get("/scans/{scan_id}/decisions", responses=_errors(403, 404))
def scan_decisions(scan_id: str, token: Reviewer, state: Shared) -> list[LogEntry]:
    """What reviewers decided about one scan, oldest first."""
    scans.get(state.database, scan_id)
    return [LogEntry.of(entry) for entry in decisions.history(state.database, scan_id)]


@router.post("/scans/{scan_id}/appeals", status_code=201, responses=_errors(400, 403, 404, 409, 413),
             openapi_extra={"requestBody": {"required": True, "content": {
                 "application/json": {"schema": AppealRequest.model_json_schema()}}}})
async def appeal(scan_id: str, request: Request, token: Reviewer, state: Shared) -> LogEntry:
    """Reopens a decided scan."""
    # Read here, so that nothing is taken in for callers that may not appeal, and no more than an appeal needs.
    asked = _validated(AppealRequest, await read_json(request.stream(), '{"note": "I filmed it"}'))
    return await run_in_threadpool(_appealed, state, scan_id, token, asked)


def _appealed(state: State, scan_id: str, token: Token, asked: AppealRequest) -> LogEntry:
    scans.get(state.database, scan_id)
    return LogEntry.of(decisions.appeal(state.database, scan_id, token.name, asked.note, seen=asked.seen))


@router.get("/decisions", responses=_errors(403))
def decision_log(
    token: Reviewer, state: Shared, after: Number = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> LogPage:
    """The decision log, oldest first."""
    found = decisions.entries(state.database, after, limit + 1)
    return LogPage(items=[LogEntry.of(entry) for entry in found[:limit]],
                   next=found[limit - 1].number if len(found) > limit else None)


@router.get("/decisions/rates", responses=_errors(403))
def decision_rates(token: Reviewer, state: Shared) -> ReviewRates:
    """Decisions, appeals and the overturn rate."""
    return ReviewRates.of(decisions.rates(state.database))


health = APIRouter()


@health.get("/health/live")
def live() -> Health:
    """The process answers."""
    return Health(status="ok")


@health.get("/health/ready", responses={503: {"model": Health}})
def ready(response: Response, state: Shared) -> Health:
    """The database answers, the queue moves, webhooks are sent, and the disk has room."""
    if problems := state.problems():
        response.status_code = 503
        return Health(status="failing", problems=problems)
    return Health(status="ok")


@health.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **_errors()})
def metrics(token: Caller, state: Shared) -> Response:
    """Prometheus metrics; any token may read them."""
    return Response(state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


