"""What the commands of the suite share: errors as one line, progress with the time left."""

from __future__ import annotations

import functools
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from genwm.commands.telling import say
from genwm.errors import GenwmError, InputError, OutputError
from genwm.extras import require

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
            say(f"error[{error.code}]: {error}")
            if kwargs.get("as_json"):
                click.echo(json.dumps({"error": {"code": error.code, "message": str(error)}}))
            sys.exit(2)

    return wrapped


def reporter(
    what: str = "clips", *, every_s: float = 0.0, clock: Callable[[], float] = time.monotonic
) -> Callable[[int, int, str], None]:
    """Prints a line for each thing that is done, with the time left at the pace so far; with ``every_s`` seconds, none
    before these are over and then one in each such time, for what is mostly quick."""
    start = said = clock()

    def report(done: int, total: int, name: str) -> None:
        nonlocal said
        now = clock()
        if now - said < every_s:
            return
        said = now
        say(f"{done}/{total} {what}, {duration((now - start) / done * (total - done))} left: {name}")

    return report


def at_work(*, clock: Callable[[], float] = time.monotonic) -> Callable[[int, int], None]:
    """Prints the rows that are written, of how many, and the time left at the pace since the first call, which prints
    nothing."""
    start: float | None = None

    def report(done: int, total: int) -> None:
        nonlocal start
        if start is None:
            start = clock()
            return
        left = f", {duration((clock() - start) / done * (total - done))} left" if done else ""
        say(f"{done}/{total} rows{left}")

    return report


def often_s() -> float:
    """Seconds between two lines on what is at work: few of them where they end up in a log."""
    return 15.0 if sys.stderr.isatty() else 300.0


def listing() -> Callable[[int, int, str], None]:
    """Tells of files that are looked into for want of a manifest: in large folders only."""
    return reporter("files looked into, since no manifest describes them", every_s=5.0)


def comparing() -> Callable[[int, int, str], None]:
    """Tells of clips that are compared with those of a table: of large folders only."""
    return reporter("clips compared with the table", every_s=5.0)


def duration(seconds: float) -> str:
    """Seconds in words that are as exact as they need to be."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def check_pages() -> None:
    """MissingExtraError where a page cannot be made for want of a package: to be known before anything is measured."""
    for package in ("jinja2", "markdown_it", "matplotlib"):
        require(package, "report")


def check_table(out: Path, *endings: str) -> None:
    """OutputError where what a command writes beside its table, under the table's name with one of these endings, would
    take the table's own place: to be known before anything is measured."""
    if out.suffix in endings:
        raise OutputError(f"Expected a table whose name does not end in {out.suffix}, got {out}, the name of what is "
                          f"written beside it; call it {out.with_suffix('.csv').name}")


def write_html(out: Path, text: str, plots: Sequence[str] = ()) -> None:
    """Writes a summary in Markdown, and plots as SVG elements, as a page beside ``out``.

    Errors: those of `eval.report.words.write_page`.
    """
    from eval.report.words import write_page

    page = out.with_suffix(".html")
    write_page(page, text, plots)
    say(f"wrote {page}")


def show_json(document: Any) -> None:
    """Prints a result on stdout, as `json_of` writes it."""
    click.echo(json_of(document))


def json_of(document: Any, *, indent: int | None = None) -> str:
    """A result as JSON. What is no number there, infinity and NaN, is null."""
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def check_measured(errors: Sequence[str], out: Path) -> None:
    """InputError where everything that a run measured ended in an error. ``errors`` has what each row of ``out`` says
    of its error, '' where it has none."""
    if errors and all(errors):
        raise InputError(f"Expected clips that can be measured, got nothing but errors ({len(errors)}) in {out}, the "
                         f"first '{errors[0]}'; give other clips")
