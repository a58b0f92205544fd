"""``genwm eval report`` and ``genwm eval compare``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from eval.commands.telling import told
from eval.report.compare import compared, markdown
from eval.report.compare_page import document, settings, terminal
from eval.report.compare_page import write_page as write_comparison
from eval.robustness import read_rows
from eval.tables import put
from genwm.commands.telling import say, say_all
from genwm.errors import InputError


@click.command()
@click.argument("rows", type=click.Path(path_type=Path))
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of the clips, for the pictures.")
@click.option("--title", default="", help="Heading of the page.")
@click.option("--span", help="Only rows of this span, such as 72f or 10s@480 [default: all, which must have one].")
@click.option("--json", "as_json", is_flag=True, help="Print what the page says as JSON.")
@told
def report(rows: Path, videos: Path | None, title: str, span: str | None, as_json: bool) -> None:
    """Make one HTML page, JSON and CSV of ROWS, the CSV file of a robustness run.

    What stands beside it (ROWS.quality.csv, ROWS.cost.csv) is on the page too.
    """
    from eval.report.page import write_page

    page = write_page(rows, videos=videos, title=title, span=span)
    say(f"wrote {page}, {page.with_suffix('.json').name} and {page.with_suffix('.measures.csv').name}")
    if as_json:
        click.echo(page.with_suffix(".json").read_text(encoding="utf-8"), nl=False)


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File of the comparison: a page (.html) or Markdown.")
@click.option("--title", default="", help="Heading of the page.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@told
def compare(a: Path, b: Path, out: Path | None, title: str, as_json: bool) -> None:
    """Compare two robustness runs (CSV files), attack by attack, on the clips that both have.

    What got worse comes first. Runs of one method each are compared whatever the methods are; with more, by name.
    """
    before, after = read_rows(a), read_rows(b)
    found, made = compared(before, after), settings(before, after)
    if not found.changes:
        raise InputError(f"Expected rows of the same clips, attacks and methods in {a} and {b}, got none; check both")
    say_all(terminal(found, made))
    if out and out.suffix.lower() == ".html":
        write_comparison(out, found, made, a=str(a), b=str(b), title=title)
    elif out:
        put(out, markdown(found, str(a), str(b)))
    if out:
        say(f"wrote {out}")
    if as_json:
        click.echo(json.dumps(document(found, made)))
