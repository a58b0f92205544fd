"""The application: one server's parts put together, and what holds for every answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detectors.scan import Pool, Settings
from detectors.service import api, review
from detectors.service.api import describe_fault
from detectors.service.config import MIB, Config
from detectors.service.database import Database
from detectors.service.errors import ServiceError
from detectors.service.metrics import Metrics
from detectors.service.pages import HERE, render
from detectors.service.runner import Runner, Scanner
from detectors.service.state import State
from detectors.service.webhooks import Courier
from genwm import __version__

_log = logging.getLogger("genwm.serve")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                               "media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}  # fmt: skip
_METHODS = ("GET", "HEAD", "POST")
#: How much, and for how long, the rest of a refused body is taken in, so that its sender gets to read the refusal.
_DRAIN_BYTES, _DRAIN_S = 32 * MIB, 2.0
_CODES = {404: "not-found", 405: "method-not-allowed"}


def create_app(config: Config, settings: Settings, make_scanner: Callable[[Settings, int | None], Scanner] = Pool
               ) -> FastAPI:
    """The service as an ASGI application; its queue runs while the application's lifespan does.

    ``make_scanner`` makes what scans files. Errors: ServiceError, KeyMissingError.
    """
    settings.check()
    config.prepare()
    lock = _lock(config)
    database = Database(config.url)
    secret = config.secret()
    metrics = Metrics(database)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        scanner = make_scanner(settings, config.workers)
        runner = Runner(database, config, settings, scanner, metrics.finished)
        courier = Courier(database, config, secret, lambda result: metrics.deliveries.labels(result).inc())
        state = app.state.genwm = State(config, database, metrics, runner, courier)
        runner.start()
        courier.start()
        try:
            yield
        finally:
            deadline = state.stop()
            runner.close()
            scanner.close()
            courier.close(deadline)
            database.close()
            lock.close()

    app = FastAPI(title="genwm", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
                  redirect_slashes=False,  # a redirect would name the address behind the proxy, and lose the upload
                  description="Submits files for scanning, and answers what was found. See docs/api.md.",
                  separate_input_output_schemas=False)
    app.state.database = database
    app.include_router(api.router)
    app.include_router(api.health)
    app.include_router(review.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.add_exception_handler(ServiceError, _refused)
    app.add_exception_handler(RequestValidationError, _misformed)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_middleware(_Envelope, metrics=metrics)
    return app


def _lock(config: Config) -> Any:
    """Holds the data folder for one server: two would take each other's scans for lost. Errors: ServiceError."""
    file = open(config.folder / "lock", "a")  # noqa: SIM115  held open as long as the server runs
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise ServiceError(f"Expected a data folder of its own, got {config.folder}, which another server uses; "
                               "stop it, or choose another with --data") from None
    return file


def _wants_page(request: Request) -> bool:
    return request.url.path.startswith("/review")


def _answer(request: Request, status: int, code: str, message: str) -> Response:
    if _wants_page(request):
        return HTMLResponse(render("problem.html", message=message, code=code), status)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}, 503: {"Retry-After": "10"}}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers.get(status))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    if isinstance(error, review.LoginNeededError):
        return RedirectResponse("/review/login", 303)
    response = _answer(request, error.status, error.code, str(error))
    if error.status in (413, 415, 429, 503, 507):  # what is left of the body is taken in a little (_Envelope), then cut
        response.headers["Connection"] = "close"
    return response


async def _misformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(request, 422, "bad-request", describe_fault(error.errors()[0]))


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code not in _CODES:
        return _answer(request, error.status_code, "bad-request",
                       f"Expected a request that can be read, got another ({error.detail}); see /openapi.json")
    message = f"Expected a path and method of this API, got {request.method} {request.url.path}; see /openapi.json"
    return _answer(request, error.status_code, _CODES[error.status_code], message)


def _fault(request: Request, error: Exception) -> Response:
    trace = secrets.token_hex(4)
    _log.error("fault %s at %s %s", trace, request.method, request.url.path, exc_info=error)
    message = f"Expected to answer, got a fault of the server; its log has it under {trace}"
    return _answer(request, 500, "internal", message)


class _Envelope:
    """Security headers for every answer, a count of requests by route, an answer to faults of the server, and a way
    out for refusals of a body."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = closing = started = False

        async def receiving() -> Message:
            nonlocal taken
            message = await receive()
            taken = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal closing, started
            if message["type"] == "http.response.start":
                started = True
                given = {name.lower() for name, _ in message["headers"]}
                for name, value in _HEADERS.items():
                    if name.lower().encode() not in given:
                        message["headers"].append((name.lower().encode(), value.encode()))
                closing = (b"connection", b"close") in message["headers"]
                route = getattr(scope.get("route"), "path", "other")  # not the path itself: callers make those up
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.requests.labels(method, route, str(message["status"])).inc()
            elif closing and not taken and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await _drain(receiving)
                message = {"type": "http.response.body"}
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        except Exception as error:  # here, because what FastAPI answers by itself comes from outside of this
            if started:
                raise  # nothing can be said any more: the connection is cut
            await _fault(Request(scope), error)(scope, receiving, sending)


async def _drain(receive: Receive) -> None:
    """Takes in the rest of a body, within bounds: a connection that is closed with unread bytes is reset, and the
    answer that is on its way is lost."""
    size, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            while more and size < _DRAIN_BYTES:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body", False)
