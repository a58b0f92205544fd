"""The command line of a robustness run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from eval.attacks import ATTACKS
from eval.robustness.runner import run
from eval.robustness.summary import markdown, summarize, write_summary
from eval.robustness.table import read_rows
from eval.tables import writing
from genwm.errors import GenwmError, InputError


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips, with or without a manifest.csv.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file of results; continued if there.")
@click.option("--attacks", help="Ids separated by commas [default: the published table]; 'list' prints them.")
@click.option("--max-frames", default=72, show_default=True, type=click.IntRange(1), help="Frames of each clip.")
@click.option("--max-seconds", type=click.FloatRange(0, min_open=True), help="Seconds instead of frames.")
@click.option("--strength", default="balanced", show_default=True)
@click.option("--profile", default="colour", show_default=True)
@click.option("--min-short-side", default=480, show_default=True, type=click.IntRange(0))
@click.option("--max-short-side", type=click.IntRange(1))
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, a fair sample of all.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--retry-errors", is_flag=True, help="Measure again what ended in an error.")
@click.option("--summary-only", is_flag=True, help="Measure nothing: sum up the rows of --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def robustness(
    videos: Path | None,
    out: Path,
    attacks: str | None,
    summary_only: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Mark, attack and read every clip of a folder; write rows, and a summary beside them (.md and .summary.csv)."""
    if attacks == "list":
        for attack in ATTACKS.values():
            click.echo(f"{attack.id:28} {attack.description} ({attack.source})")
        return
    try:
        if summary_only:
            rows = read_rows(out)
        elif videos is None:
            raise InputError("Expected a folder of clips, got none; give one with --videos")
        else:
            ids = attacks.split(",") if attacks else None
            rows = run(videos, out, attacks=ids, progress=_reporter(), **options)
        cells = summarize(rows)
        text = markdown(cells)
        write_summary(cells, out.with_suffix(".summary.csv"))
        with writing(out):
            out.with_suffix(".md").write_text(text, encoding="utf-8")
    except GenwmError as error:
        click.echo(f"{error.code}: {error}", err=True)
        sys.exit(2)
    click.echo(text, err=True)
    if as_json:
        click.echo(json.dumps([asdict(cell) for cell in cells]))


def _reporter() -> Callable[[int, int, str], None]:
    """Prints a line after each clip, with the time left at the pace so far."""
    start = time.monotonic()

    def report(done: int, total: int, name: str) -> None:
        left = (time.monotonic() - start) / done * (total - done)
        click.echo(f"{done}/{total} clips, {left / 60:.0f} min left: {name}", err=True)

    return report
