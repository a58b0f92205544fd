"""The command line of a robustness run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from eval.attacks import ATTACKS, SETS
from eval.commands.telling import (
    at_work,
    check_measured,
    check_pages,
    check_table,
    comparing,
    listing,
    often_s,
    reporter,
    show_json,
    told,
)
from eval.corpus import default_videos, list_videos
from eval.methods import DEFAULT_METHODS, METHODS, QUICK_METHODS, methods_named
from eval.robustness.runner import run, span_of
from eval.robustness.summary import markdown, summarize, write_summary
from eval.robustness.table import Row, read_rows
from eval.tables import put, versions_said
from genwm.commands.numbers import Number
from genwm.commands.telling import say, say_all
from genwm.errors import GenwmError, InputError

OUT = Path("genwm-eval/robustness.csv")
#: What the short words stand for; whatever is given by hand wins.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"attacks": "quick", "methods": ",".join(QUICK_METHODS), "limit": 8, "max_frames": 48, "lines": 480},
    "full": {"attacks": "full", "methods": ",".join(name for name in METHODS if not name.startswith("rivaGan"))},
    "videoseal-72": {"attacks": "videoseal-72", "max_frames": 72},
}
_USUAL = {"methods": ",".join(DEFAULT_METHODS), "max_frames": 72}


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips [default: public clips, or scenes].")
@click.option("--out", default=OUT, show_default=True, type=click.Path(path_type=Path), help="CSV file; continued.")
@click.option("--quick", is_flag=True, help="20 attacks, 3 methods, 8 clips of 48 frames: minutes.")
@click.option("--full", is_flag=True, help="Every attack on every clip with every method but rivaGan.")
@click.option("--protocol", type=click.Choice(["videoseal-72"]), help="Another evaluation's own list and length.")
@click.option("--attacks", help=f"Ids or sets ({', '.join(SETS)}) with commas [default: table]; 'list' prints them.")
@click.option("--methods",
              help="Ids, or module:object, with commas [default: lattice.balanced]; 'list' prints the ids.")
@click.option("--max-frames", type=click.IntRange(1), help="First frames of each clip [default: 72].")
@click.option("--max-seconds", type=Number(0, min_open=True), help="Seconds instead of frames.")
@click.option("--lines", type=click.IntRange(64), help="Scale larger clips down to so many lines before marking.")
@click.option("--min-short-side", default=480, show_default=True, type=click.IntRange(0),
              help="Leave out clips of fewer lines on the short side.")
@click.option("--max-short-side", type=click.IntRange(1), help="Leave out clips of more lines on the short side.")
@click.option("--clip", "clips", multiple=True, help="Only this clip, by its path in the folder; may be given again.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1),
              help="Clips that are measured at a time.")
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, a fair sample of all.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0),
              help="Chooses keys, payloads and places of attacks.")
@click.option("--retry-errors", is_flag=True, help="Measure again what ended in an error.")
@click.option("--summary-only", is_flag=True, help="Measure nothing: sum up the rows of --out.")
@click.option("--html", is_flag=True, help="Measure quality and cost too, and write one page (.html) beside --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@told
def robustness(
    videos: Path | None,
    out: Path,
    quick: bool,
    full: bool,
    protocol: str | None,
    attacks: str | None,
    methods: str | None,
    summary_only: bool,
    html: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Mark, attack and read every clip of a folder; write rows, and a summary beside them (.md and .summary.csv).

    Rows are written as they are measured: the same command goes on after a kill.
    """
    if attacks == "list" or methods == "list":
        _list(attacks == "list")
        return
    presets = {"--quick": quick and "quick", "--full": full and "full", f"--protocol {protocol}": protocol}
    chosen = {option: name for option, name in presets.items() if name}
    if len(chosen) > 1:
        raise InputError(f"Expected one of --quick, --full and --protocol, got {' and '.join(chosen)}; give one")
    check_table(out, ".md", ".html", ".json")
    if html:
        check_pages()
    asked = {"attacks": attacks, "methods": methods, **options}
    by_hand = {name: value for name, value in asked.items() if value is not None}
    given: dict[str, Any] = _USUAL | PRESETS.get(next(iter(chosen.values()), ""), {}) | by_hand
    if given.get("max_seconds") is not None and options["max_frames"] is not None:
        raise InputError("Expected --max-frames or --max-seconds, got both; give one of them")
    subjects = methods_named(str(given.pop("methods")).split(","))
    names = str(given.pop("attacks", "table")).split(",")
    span = None
    if summary_only:
        rows = read_rows(out)
    else:
        span = span_of(given["max_frames"], given.get("max_seconds"), given.get("lines"))
        videos = videos or default_videos(say)
        rows = run(videos, out, attacks=names, methods=subjects, progress=reporter("clips x methods"),
                   checking=comparing(), listing=listing(), working=at_work(), every_s=often_s(), **given)
    cells = summarize(rows)
    mixed = versions_said(row.versions for row in rows)
    text = markdown(cells) + (f"\n{mixed}\n" if mixed else "")
    write_summary(cells, out.with_suffix(".summary.csv"))
    put(out.with_suffix(".md"), text)
    say_all(text)
    if html:
        _page(out, videos, rows, given, span)
    check_measured([row.error and f"{row.error}: {row.message}" for row in rows], out)
    if as_json:
        show_json([asdict(cell) for cell in cells])


def _page(out: Path, videos: Path | None, rows: list[Row], given: dict[str, Any], span: str | None) -> None:
    """Quality and cost of the methods in the rows, beside them, and the page of all."""
    from eval.report.beside import measure_beside
    from eval.report.measures import of_span
    from eval.report.page import write_page

    rows = of_span(rows, span)
    if videos is not None:
        measured = {row.clip for row in rows}
        listed = [video for video in list_videos(videos) if video.id in measured]
        try:
            measure_beside(out, listed, rows, lines=given.get("lines"), processes=given["processes"])
        except GenwmError as error:  # a missing package: the page says that it is not there
            say(f"not measured: {error}")
    write_page(out, videos=videos, span=span)
    say(f"wrote {out.with_suffix('.html')}")


def _list(attacks: bool) -> None:
    if attacks:
        for name, members in SETS.items():
            click.echo(f"{name:28} the set of {len(members)}")
        for attack in ATTACKS.values():
            click.echo(f"{attack.id:28} {attack.description} ({attack.source})")
    else:
        for name in METHODS:
            click.echo(name)
