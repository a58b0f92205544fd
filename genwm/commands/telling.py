"""What commands say to people."""

from __future__ import annotations

import click

from genwm.text import shown


def say(text: str) -> None:
    """A line on stderr. Names of files and what files say of themselves are strangers' text: nothing in it reaches the
    terminal as a command."""
    click.echo(shown(text), err=True)


def say_all(text: str) -> None:
    """Several lines that we made, a table for instance: each as `say` does."""
    for line in text.split("\n"):
        say(line)
