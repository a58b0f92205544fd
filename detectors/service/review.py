"""The reviewers' pages, rendered on the server: queue, clip, decision log."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from sqlalchemy import Row
from starlette.concurrency import run_in_threadpool

from detectors.record import Record
from detectors.service import decisions, scans
from detectors.service.api import Number, check_text
from detectors.service.errors import ForbiddenError, ServiceError, UnknownScanError
from detectors.service.pages import Timeline, render
from detectors.service.paths import resolve
from detectors.service.scans import Filter
from detectors.service.state import State, state_of
from detectors.service.tokens import Session, log_in, log_out, session_of
from detectors.service.uploads import read_limited

_PAGE = 25
_FORM_BYTES = 32 * 1024
_VIEWS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "open": ("To review", ("open",)), "appealed": ("Appeals", ("appealed",)), "decided": ("Decided", ("decided",)),
    "all": ("All scans", None),
}  # fmt: skip
_MEDIA_TYPES = {"webm": "video/webm"}
_MEDIA_HEADERS = {"Content-Security-Policy": "default-src 'none'; media-src 'self'; sandbox",
                  "Cache-Control": "no-store"}

_EMPTY = dict.fromkeys(("form", "action", "reason", "note"), "")

router = APIRouter(include_in_schema=False, dependencies=[Depends(check_text)])
Shared = Annotated[State, Depends(state_of)]


class LoginNeededError(ForbiddenError):
    """Nobody is logged in: the page sends them to the login."""


def cookie_name(state: State) -> str:
    """Browsers let no other site and no plain connection set a cookie whose name begins with ``__Host-``."""
    return "__Host-genwm" if state.config.secure_cookies else "genwm"


def _session(request: Request, state: Shared) -> Session:
    session = session_of(state.database, request.cookies.get(cookie_name(state)))
    if session is None:
        raise LoginNeededError("Expected a reviewer who is logged in, got none; log in with a review token")
    return session


Reviewer = Annotated[Session, Depends(_session)]


async def _form(request: Request) -> dict[str, str]:
    body = await read_limited(request.stream(), _FORM_BYTES)
    return {name: values[-1] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


Form = Annotated[dict[str, str], Depends(_form)]


def _check_csrf(session: Session, form: Mapping[str, str]) -> None:
    if not hmac.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
        raise ForbiddenError("Expected a form of this session, got another; go back, reload the page and send it again")


@router.get("/")
def home() -> Response:
    return RedirectResponse("/review", 303)


@router.get("/review/login")
def login_page() -> HTMLResponse:
    return HTMLResponse(render("login.html", problem=None))


@router.post("/review/login")
def login(request: Request, form: Form, state: Shared) -> Response:
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise ForbiddenError("Expected the login form of this server, got another site's; open the login page")
    try:
        cookie = log_in(state.database, form.get("token", "").strip(), state.config.session_s)
    except ServiceError as error:
        words = "This token is not valid here." if error.status == 401 else str(error)
        return HTMLResponse(render("login.html", problem=words), error.status)
    response = RedirectResponse("/review", 303)
    response.set_cookie(cookie_name(state), cookie, max_age=int(state.config.session_s), path="/", httponly=True,
                        samesite="strict", secure=state.config.secure_cookies)
    return response


@router.post("/review/logout")
def logout(request: Request, form: Form, session: Reviewer, state: Shared) -> Response:
    _check_csrf(session, form)
    log_out(state.database, request.cookies.get(cookie_name(state)))
    response = RedirectResponse("/review/login", 303)
    response.delete_cookie(cookie_name(state), path="/", secure=state.config.secure_cookies)
    return response


@router.get("/review")
def queue(
    session: Reviewer, state: Shared, view: str = "open", verdict: str = "", find: str = "", before: str | None = None
) -> HTMLResponse:
    find = find.strip()
    view = view if view in _VIEWS else "open"
    wanted = Filter(review=_VIEWS[view][1], verdict=verdict or None, named=find or None, before=before)
    rows, following = scans.page(state.database, wanted, _PAGE)
    counts = scans.counts(state.database)
    more = following and "/review?" + urlencode({"view": view, "verdict": verdict, "find": find, "before": following})
    tabs = [(name, words, sum(counts["review"].get(part, 0) for part in parts) if parts else
             sum(counts["status"].values())) for name, (words, parts) in _VIEWS.items()]
    return HTMLResponse(render(
        "queue.html", session=session, rows=rows, more=more, view=view, verdict=verdict, find=find, tabs=tabs,
        waiting=counts["status"].get("queued", 0) + counts["status"].get("running", 0),
        rates=decisions.rates(state.database)))


@router.get("/review/log")
def decision_log(session: Reviewer, state: Shared, after: Number = 0) -> HTMLResponse:
    found = decisions.entries(state.database, after, _PAGE)
    names = scans.names(state.database, {entry.scan_id for entry in found})
    rates = decisions.rates(state.database)
    newest = max(state.database.counted[0] - _PAGE, 0)  # by its number: of a log that was cut, fewer are left
    pages = [("First", 0), ("Earlier", max(min(after, newest + _PAGE) - _PAGE, 0))] if after else []
    pages += [("Later", min(after + _PAGE, newest)), ("Newest", newest)] if after < newest else []
    return HTMLResponse(render(
        "log.html", session=session, entries=found, names=names, rates=rates, audit=decisions.audit(state.database),
        pages=pages))


@router.get("/review/scans/{scan_id}")
def clip(scan_id: str, session: Reviewer, state: Shared) -> HTMLResponse:
    return _clip_page(scan_id, session, state)


def _clip_page(
    scan_id: str, session: Session, state: State, problem: ServiceError | None = None,
    form: Mapping[str, str] | None = None,
) -> HTMLResponse:
    history = decisions.history(state.database, scan_id)  # before the row, so that no form has seen more than it shows
    row = scans.get(state.database, scan_id)
    record = None if row.record is None else Record.from_json(row.record)
    following, _ = scans.page(state.database, Filter(review=("open", "appealed"), before=scan_id), 1)
    return HTMLResponse(render(
        "clip.html", session=session, row=row, record=record, timeline=record and Timeline.of(record),
        pictures=[(number, time_s, (state.config.evidence / row.id / f"{number}.svg").is_file())
                  for number, time_s in enumerate(json.loads(row.pictures))], history=history,
        seen=history[-1].number if history else 0,
        actions=decisions.ACTIONS, reasons=decisions.REASONS, problem=problem, form={**_EMPTY, **(form or {})},
        following=following[0].id if following else None,
        pretty=None if record is None else json.dumps(json.loads(row.record), indent=2),
    ), 200 if problem is None else problem.status)


@router.post("/review/scans/{scan_id}/decision")
def decide(scan_id: str, form: Form, session: Reviewer, state: Shared) -> Response:
    return _change(scan_id, form, session, state, "decision")


@router.post("/review/scans/{scan_id}/appeal")
def appeal(scan_id: str, form: Form, session: Reviewer, state: Shared) -> Response:
    return _change(scan_id, form, session, state, "appeal")


def _change(scan_id: str, form: Mapping[str, str], session: Session, state: State, kind: str) -> Response:
    _check_csrf(session, form)
    scans.get(state.database, scan_id)
    try:
        by, note, seen = session.token.name, form.get("note", ""), _seen(form)
        if kind == "decision":
            decisions.decide(state.database, scan_id, by, form.get("action", ""), form.get("reason", ""), note,
                             seen=seen)
        else:
            decisions.appeal(state.database, scan_id, by, note, seen=seen)
    except ServiceError as error:
        return _clip_page(scan_id, session, state, error, {**form, "form": kind})
    return RedirectResponse(f"/review/scans/{scan_id}", 303)


def _seen(form: Mapping[str, str]) -> int:
    text = form.get("seen", "")
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ServiceError("Expected a form that says which history it showed, got one that does not; reload the page "
                           "and send it again")
    return int(text)


@router.get("/review/scans/{scan_id}/pictures/{number}")
def picture(scan_id: str, number: int, session: Reviewer, state: Shared) -> Response:
    row = scans.get(state.database, scan_id)
    return _kept(row, state, number, "jpg", "image/jpeg")


@router.get("/review/scans/{scan_id}/pictures/{number}/heat")
def heat(scan_id: str, number: int, session: Reviewer, state: Shared) -> Response:
    return _kept(scans.get(state.database, scan_id), state, number, "svg", "image/svg+xml")


def _kept(row: Row[Any], state: State, number: int, suffix: str, media_type: str) -> Response:
    path = state.config.evidence / row.id / f"{number}.{suffix}"
    if not 0 <= number < len(json.loads(row.pictures)) or not path.is_file():
        raise UnknownScanError("Expected a picture that is still kept, got none; it was deleted after its time")
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "no-store"})


@router.get("/review/scans/{scan_id}/media")
async def media(scan_id: str, session: Reviewer, state: Shared) -> Response:
    row = await run_in_threadpool(scans.get, state.database, scan_id)
    path = await run_in_threadpool(_media_path, row, state)
    container = Record.from_json(row.record).input.container if row.record else None
    return FileResponse(path, media_type=_MEDIA_TYPES.get(container or "", "video/mp4"), headers=_MEDIA_HEADERS)


def _media_path(row: Row[Any], state: State) -> Path:
    # A path that was allowed once may lead elsewhere by now.
    path = Path(row.path) if row.uploaded else resolve(row.path, state.config.roots)
    if not row.media or not path.is_file():
        raise UnknownScanError("Expected a clip that is kept and that a browser plays, got none; see its pictures")
    return path
