"""The command."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from eval.commands.telling import (
    check_measured,
    check_pages,
    check_table,
    comparing,
    duration,
    listing,
    show_json,
    told,
    write_html,
)
from eval.corpus import default_videos
from eval.false_alarms.summary import markdown, summarize, write_summary
from eval.false_alarms.table import run
from eval.false_alarms.trials import OURS, ClipResult
from eval.tables import put
from genwm.commands.telling import say, say_all
from genwm.text import counted

SCHEMA = "genwm.eval.false-alarms/1"


@click.command()
@click.option("--videos", type=click.Path(path_type=Path),
              help="Folder of unmarked clips, with or without manifest [default: public clips, or scenes].")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file of results; continued if there.")
@click.option("--method", default=OURS, show_default=True, help="Ours, or module:object of another watermark that "
              "decides for itself: its reader is tried with --keys keys a clip.")
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
@click.option("--html", is_flag=True, help="Also write one page (.html) beside --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@told
def false_alarms(
    videos: Path | None, out: Path, summary_only: bool, html: bool, as_json: bool, **options: Any
) -> None:
    """Read unmarked clips with random keys; write rows, and a summary beside them (.md and .summary.csv)."""
    check_table(out, ".md", ".html")
    if html:
        check_pages()
    started = time.monotonic()

    def report(done: int, total: int, result: ClipResult) -> None:
        left = (time.monotonic() - started) / done * (total - done)
        found = f"{result.detected} found, least log10 p {result.min_log10_p:.2f}, {result.seconds:.0f} s"
        outcome = result.message or found
        say(f"{done} of {counted(total, 'clip')}, {duration(left)} left: {result.clip}: {outcome}")

    if not summary_only:
        run(videos or default_videos(say), out, progress=report, checking=comparing(), listing=listing(), **options)
    summary = summarize(out)
    text = markdown(summary)
    write_summary(summary, out.with_suffix(".summary.csv"))
    put(out.with_suffix(".md"), text)
    say_all(text)
    if html:
        write_html(out, text)
    if not summary.clips:
        check_measured([f"{one.error}: {one.message}" for one in summary.errors], out)
    if as_json:
        show_json({"schema": SCHEMA, **asdict(summary)})
