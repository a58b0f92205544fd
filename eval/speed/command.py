"""``genwm eval speed``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from eval.commands.telling import check_pages, show_json, told, write_html
from eval.speed.benchmarks import BENCHMARKS, Settings
from eval.speed.report import describe, markdown, run
from eval.tables import put
from genwm.commands.numbers import Number
from genwm.commands.telling import say


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON file of results; replaced.")
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Only this one; may be given again.")
@click.option("--width", default=1280, show_default=True, type=click.IntRange(64), help="Of the clip, in pixels.")
@click.option("--height", default=720, show_default=True, type=click.IntRange(64), help="Of the clip, in pixels.")
@click.option("--short-seconds", "short_s", default=10.0, show_default=True, type=Number(1),
              help="Length of the clip that is verified, in seconds.")
@click.option("--long-seconds", "long_s", default=60.0, show_default=True, type=Number(0),
              help="Length of the clip that memory is compared on, in seconds; 0: none.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1),
              help="Times that each is measured; the median counts.")
@click.option("--html", is_flag=True, help="Also write one page (.html) beside --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@told
def speed(out: Path, only: tuple[str, ...], html: bool, as_json: bool, **options: Any) -> None:
    """Measure speed and memory on clips made on the spot; every limit that is missed is named."""
    if html:
        check_pages()
    report = run(Settings(**options), only=only, progress=lambda item: say(describe(item)))
    put(out, json.dumps(report, indent=1) + "\n")
    if html:
        write_html(out, markdown(report))
    if as_json:
        show_json(report)
