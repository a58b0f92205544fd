"""The command."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from eval import tables
from eval.false_alarms.summary import markdown, summarize, write_summary
from eval.false_alarms.table import run
from eval.false_alarms.trials import ClipResult
from genwm.errors import GenwmError, InputError


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of unmarked clips, with or without manifest.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file of results; continued if there.")
@click.option("--keys", default=1000, show_default=True, type=click.IntRange(1), help="Keys a clip.")
@click.option("--search-keys", default=20, show_default=True, type=click.IntRange(0), help="Of these, searched fully.")
@click.option("--max-frames", default=72, show_default=True, type=click.IntRange(1), help="The detector's budget.")
@click.option("--label", "labels", multiple=True, help="Only clips of this label; may be given again [default: all].")
@click.option("--min-short-side", default=0, show_default=True, type=click.IntRange(0),
              help="Leave out clips of fewer lines on the short side.")
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, a fair sample of all.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1),
              help="Clips that are measured at a time.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Chooses keys, payloads and places of attacks.")
@click.option("--summary-only", is_flag=True, help="Measure nothing: sum up the rows of --out.")
def false_alarms(videos: Path | None, out: Path, summary_only: bool, **options: Any) -> None:
    """Read unmarked clips with random keys; write rows, and a summary beside them (.md and .summary.csv)."""
    started = time.monotonic()

    def report(done: int, total: int, result: ClipResult) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        outcome = result.message or f"least log10 p {result.min_log10_p:.2f}, {result.seconds:.0f} s"
        click.echo(f"{done}/{total} clips, {left / 60:.0f} min left: {result.clip}: {outcome}", err=True)

    try:
        if not summary_only:
            if videos is None:
                raise InputError("Expected a folder of clips, got none; give one with --videos")
            run(videos, out, progress=report, **options)
        summary = summarize(out)
        text = markdown(summary)
        write_summary(summary, out.with_suffix(".summary.csv"))
        with tables.writing(out):
            out.with_suffix(".md").write_text(text, encoding="utf-8")
    except GenwmError as error:
        click.echo(f"error[{error.code}]: {error}", err=True)
        sys.exit(2)
    click.echo(text, err=True)
