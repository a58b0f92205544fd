"""What the commands of the suite share: errors as one line, progress with the time left."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from genwm.errors import GenwmError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def told(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Ends a command with one line and status 2 where an error of the tree is raised, whether it runs under ``genwm``
    or as a module of its own; with ``as_json`` also with an object on stdout."""

    @functools.wraps(command)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except GenwmError as error:
            click.echo(f"error[{error.code}]: {error}", err=True)
            if kwargs.get("as_json"):
                click.echo(json.dumps({"error": {"code": error.code, "message": str(error)}}))
            sys.exit(2)

    return wrapped


def reporter(what: str = "clips") -> Callable[[int, int, str], None]:
    """Prints a line for each thing that is done, with the time left at the pace so far."""
    start = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        left = (time.monotonic() - start) / done * (total - done)
        click.echo(f"{done}/{total} {what}, {duration(left)} left: {name}", err=True)

    return report


def duration(seconds: float) -> str:
    """Seconds in words that are as exact as they need to be."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def say(text: str) -> None:
    click.echo(text, err=True)
