"""Running the service until it is told to stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable

import click
import uvicorn
from fastapi import FastAPI

from detectors.scan import Pool, Settings
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.errors import ServiceError
from detectors.service.runner import Scanner
from detectors.service.tokens import list_tokens


def run(config: Config, settings: Settings, host: str, port: int,
        make_scanner: Callable[[Settings, int | None], Scanner] = Pool) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is under way. Port 0 takes a free one, said on stderr.

    Errors: ServiceError (the port is taken, another server has the folder), KeyMissingError.
    """
    app = create_app(config, settings, make_scanner)
    listener = _listen(host, port)
    where = listener.getsockname()[1]
    click.echo(f"Serving on http://{host if ':' not in host else f'[{host}]'}:{where} (review page: /review)", err=True)
    if not list_tokens(app.state.database):
        click.echo("There is no token yet: make one with 'genwm serve token new NAME --role review'.", err=True)
    for words in settings.warnings():
        click.echo(f"Warning: {words}.", err=True)
    server = _Server(app, uvicorn.Config(
        app, log_level="info", access_log=False, server_header=False, date_header=True, lifespan="on",
        timeout_keep_alive=15, timeout_graceful_shutdown=int(config.grace_s), backlog=2048))
    with contextlib.closing(listener):
        server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Lets scans and webhooks end while open connections do, so that all of them share the seconds of grace."""

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.genwm.stop()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ServiceError(f"Expected to listen on {host} port {port}, got '{error.strerror or error}'; stop what uses "
                           "it, or choose another with --port") from None
