"""``genwm keys``: the keyring on the command line. Results go to stdout as JSON, words for people to stderr."""

from __future__ import annotations

import json
from typing import Any

import click

from genwm.commands.telling import say
from genwm.keys import Key, Keyring


@click.group()
def keys() -> None:
    """Make, list, retire and rotate the secret keys that marks are made with.

    The keyring is the file named by GENWM_KEYRING, or keyring.json in your configuration folder.
    """


@keys.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the new key's public record as JSON.")
def new(name: str, as_json: bool) -> None:
    """Make the key NAME. The newest key that is not retired is the one that embeds."""
    ring = Keyring.load()
    _report(ring.new(name), ring, "made", as_json)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, oldest key first.")
def list_(as_json: bool) -> None:
    """List the keys. Secrets are never printed."""
    ring = Keyring.load()
    listed = ring.keys()
    if as_json:
        click.echo(json.dumps([_record(key) for key in listed]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "id", "created", "state")
    active = ring.keys(include_retired=False)
    for key in listed:
        state = "retired" if key.retired else "default" if key is active[-1] else "active"
        table.add_row(key.name, key.id, key.created, state)
    Console(stderr=True).print(table if listed else f"no keys in {ring.path}", soft_wrap=True)


@keys.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the retired key's public record as JSON.")
def retire(name: str, as_json: bool) -> None:
    """Retire the key NAME: it still verifies and no longer embeds."""
    ring = Keyring.load()
    _report(ring.retire(name), ring, "retired", as_json)


@keys.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the successor's public record as JSON.")
def rotate(name: str, as_json: bool) -> None:
    """Retire the active key NAME and make its successor: studio, then studio-2, studio-3 and so on."""
    ring = Keyring.load()
    _report(ring.rotate(name), ring, f"retired {name} and made", as_json)


def _record(key: Key) -> dict[str, Any]:
    return {"name": key.name, "id": key.id, "created": key.created, "retired": key.retired}


def _report(key: Key, ring: Keyring, verb: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_record(key)))
    else:
        say(f"{verb} {key.name} (id {key.id}) in {ring.path}")
