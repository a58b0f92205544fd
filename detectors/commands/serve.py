"""``genwm serve``: the HTTP service, its tokens, and its decision log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from platformdirs import user_data_dir

from genwm.commands.numbers import Number
from genwm.errors import GenwmError
from genwm.extras import require
from genwm.text import counted

if TYPE_CHECKING:
    from detectors.service.config import Config
    from detectors.service.database import Database

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.group(invoke_without_command=True)
@click.option("--data", "folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              envvar="GENWM_SERVE_DATA", help="Where everything is kept [default: the user's data folder].")
@click.option("--files", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Uploads and pictures, shared by servers that share a database [default: in --data].")
@click.option("--database", metavar="URL", envvar="GENWM_SERVE_DATABASE",
              help="SQLAlchemy URL, such as postgresql+psycopg://user@host/name [default: SQLite in DIR].")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to listen on.")
@click.option("--root", "roots", type=click.Path(exists=True, file_okay=False, path_type=Path), multiple=True,
              metavar="DIR", help="Take the paths of files below DIR too; may be given more than once.")
@click.option("--max-upload", type=click.IntRange(1), default=2048, show_default=True, metavar="MIB",
              help="Largest file taken.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Scanning processes [default: one a core].")
@click.option("--policy", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Policy of the verdicts.")
@click.option("--key", "names", metavar="NAME", multiple=True,
              help="Key to look for; may be given more than once [default: every key, retired ones too].")
@click.option("--model", type=click.Path(exists=True, file_okay=False), metavar="DIR",
              help="Classifier, such as genwm adapt writes [default: the shipped one].")
@click.option("--trust", type=click.Path(exists=True, dir_okay=False), metavar="PEM",
              help="Authorities whose manifests (C2PA) count as trusted.")
@click.option("--no-timeline", is_flag=True, help="Do not look for which seconds are marked: quicker.")
@click.option("--everywhere", is_flag=True, help="Where the sampled frames show no mark, search a file stretch by "
              "stretch: slower.")
@click.option("--webhook-host", "webhook_hosts", metavar="HOST", multiple=True,
              help="Host that webhooks may go to (hooks.example.com, *.example.com, *); may be given more than once.")
@click.option("--webhook-private", is_flag=True, help="Allow webhooks to private and loopback addresses.")
@click.option("--keep-days", type=Number(0, min_open=True), default=90.0, show_default=True, metavar="DAYS",
              help="Delete uploads and pictures after so long; records and decisions stay.")
@click.option("--http-cookies", is_flag=True,
              help="Let reviewers log in over plain HTTP [default: only where --host is this machine].")
@click.pass_context
def serve(ctx: click.Context, /, folder: Path | None, database: str | None, **options: Any) -> None:
    """Scan files over HTTP, and review what was found.

    The API lies under /v1, the reviewers' pages under /review; both need a token: 'genwm serve token new NAME'.
    Options come before the name of a subcommand: 'genwm serve --data DIR token list'.
    """
    for module in ("sqlalchemy", "fastapi", "uvicorn", "jinja2", "python_multipart", "prometheus_client"):
        require(module, "serve")
    from detectors.service.config import MIB, Config

    host = options["host"]
    ctx.obj = Config(
        folder=folder or Path(user_data_dir("genwm")) / "serve",
        files=options["files"],
        database=database,
        roots=options["roots"],
        max_upload_bytes=options["max_upload"] * MIB,
        workers=options["workers"],
        webhook_hosts=options["webhook_hosts"],
        webhook_private=options["webhook_private"],
        keep_days=options["keep_days"],
        secure_cookies=not (options["http_cookies"] or host in _LOOPBACK),
    )
    if ctx.invoked_subcommand is None:
        from detectors.scan import Settings
        from detectors.service.runner import PICTURES
        from detectors.service.serving import run

        settings = Settings.load(key_names=options["names"], policy=options["policy"],
                                 timeline=not options["no_timeline"], everywhere=options["everywhere"],
                                 pictures=PICTURES, model=options["model"], trust=options["trust"])
        run(ctx.obj, settings, host, options["port"])


def _database(config: Config) -> Database:
    from detectors.service.database import Database

    config.prepare()
    return Database(config.url)


@serve.group()
def token() -> None:
    """Make, list and revoke API tokens."""


@token.command("new")
@click.argument("name")
@click.option("--role", type=click.Choice(("submit", "review")), default="submit", show_default=True,
              help="submit: hand in files and see one's own; review: see and decide everything.")
@click.option("--hourly", type=click.IntRange(1), metavar="N", help="Submissions allowed in an hour.")
@click.option("--json", "as_json", is_flag=True, help="Print an object.")
@click.pass_obj
def token_new(config: Config, name: str, role: Any, hourly: int | None, as_json: bool) -> None:
    """Make a token and print it: it cannot be shown again."""
    from detectors.service.tokens import find_token, new_token
    from detectors.service.webhooks import secret_of

    database = _database(config)
    made = new_token(database, name, role, hourly)
    secret = secret_of(config.secret(), find_token(database, name).id)
    if as_json:
        click.echo(json.dumps({"name": name, "role": role, "hourly": hourly, "token": made, "webhook_secret": secret}))
    else:
        click.echo(made)
        click.echo(f"Keep it now: it cannot be shown again. Its webhooks are signed with {secret}", err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one object a line.")
@click.pass_obj
def token_list(config: Config, as_json: bool) -> None:
    """List tokens, revoked ones too; never their secrets."""
    from detectors.service.pages import when
    from detectors.service.tokens import list_tokens

    for found in list_tokens(_database(config)):
        if as_json:
            click.echo(json.dumps({"name": found.name, "role": found.role, "hourly": found.hourly,
                                   "created": found.created, "revoked": found.revoked}))
        else:
            state = f"revoked {when(found.revoked)}" if found.revoked else f"made {when(found.created)}"
            click.echo(f"{found.name}: {found.role}, {state}", err=True)


@token.command("revoke")
@click.argument("name")
@click.pass_obj
def token_revoke(config: Config, name: str) -> None:
    """Revoke a token, and end the sessions that were opened with it."""
    from detectors.service.tokens import revoke_token

    revoke_token(_database(config), name)
    click.echo(f"{name} is revoked.", err=True)


@token.command("secret")
@click.argument("name")
@click.pass_obj
def token_secret(config: Config, name: str) -> None:
    """Print the secret that a token's webhooks are signed with."""
    from detectors.service.tokens import find_token
    from detectors.service.webhooks import secret_of

    found = find_token(_database(config), name)
    click.echo(secret_of(config.secret(), found.id))


@serve.command("log")
@click.option("--json", "as_json", is_flag=True, help="Print the entries, one object a line.")
@click.pass_context
def decision_log(ctx: click.Context, as_json: bool) -> None:
    """Check the chain of the decision log, and print it. Exit status 2: an entry was changed, dropped or inserted."""
    from dataclasses import asdict

    from detectors.service.decisions import audit, entries

    database = _database(ctx.obj)
    after = 0
    while as_json and (found := entries(database, after)):
        for entry in found:
            click.echo(json.dumps(asdict(entry)))
        after = found[-1].number
    checked = audit(database)
    if checked.broken_at is not None:
        raise _BrokenLogError(f"Expected entry {checked.broken_at} of the decision log to follow from the one before, "
                              "got another; restore the database from a backup and find out who changed it")
    click.echo(f"log whole, {counted(checked.entries, 'entry', 'entries')}; the last hash is {checked.head}", err=True)


class _BrokenLogError(GenwmError):
    code = "broken-log"
