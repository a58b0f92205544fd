"""The command line of a quality run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eval.baselines import BASELINES
from eval.commands.telling import (
    check_measured,
    check_pages,
    check_table,
    comparing,
    listing,
    show_json,
    told,
    write_html,
)
from eval.corpus import default_videos, list_videos
from eval.quality.measures import METRICS, USUAL, Metric
from eval.quality.reporting import DIGITS, failures_said, summary
from eval.quality.running import FRAMES, OURS, VALUES, Row, Settings, read_rows, run, typed
from eval.tables import put
from eval.workers import use_one_thread
from genwm.commands.telling import say, say_all

if TYPE_CHECKING:
    from genwm.marking import Profile, Strength


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips [default: public clips, or scenes].")
@click.option(
    "--out",
    default=Path("genwm-eval/quality.csv"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="CSV file, one row a clip and method.",
)
@click.option("--summary", "summary_path", type=click.Path(path_type=Path),
              help="Markdown file [default: OUT with .md].")
@click.option(
    "--strength", default="balanced", show_default=True, type=click.Choice(["invisible", "balanced", "strong"]),
    help="Of our mark.",
)
@click.option("--profile", default="colour", show_default=True, type=click.Choice(["colour", "luma"]),
              help="Planes that carry the mark.")
@click.option("--methods", default=OURS, show_default=True, callback=_names,
              help=f"Of {OURS}, {', '.join(BASELINES)}, or module:object.")
@click.option(
    "--metrics", default=",".join(USUAL), show_default=True, callback=_names, help=f"Of {', '.join(METRICS)}."
)
@click.option("--lines", type=click.IntRange(64), help="Scale larger clips down to so many lines before marking.")
@click.option("--clip", "names", multiple=True, help="Only this clip, by its path in the folder; may be given again.")
@click.option("--quick", is_flag=True, help="8 clips of at most 480 lines, PSNR, SSIM, ColorVideoVDP and flicker.")
@click.option("--full", is_flag=True, help="Every measure.")
@click.option("--html", is_flag=True, help="Also write one page (.html) beside --out.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--frames", default=FRAMES, show_default=True, type=click.IntRange(1), help="First frames of each clip.")
@click.option("--min-short-side", default=480, show_default=True, type=click.IntRange(0),
              help="Leave out clips of fewer lines on the short side.")
@click.option("--max-short-side", type=click.IntRange(1), help="Leave out clips of more lines on the short side.")
@click.option("--limit", type=click.IntRange(1), help="Only the first clips of the (fair) order.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1),
              help="Clips that are measured at a time.")
@click.option("--retry", is_flag=True, help="Measure rows with an error again.")
@click.option("--seed", default=0, show_default=True, help="Chooses keys, payloads and places of attacks.")
@click.option("--device", default="cpu", show_default=True, help="torch device of ColorVideoVDP.")
@told
def quality(
    *,
    videos: Path | None,
    out: Path,
    summary_path: Path | None,
    strength: Strength,
    profile: Profile,
    methods: tuple[str, ...],
    metrics: tuple[Metric, ...],
    frames: int,
    min_short_side: int,
    max_short_side: int | None,
    lines: int | None,
    names: tuple[str, ...],
    limit: int | None,
    processes: int,
    retry: bool,
    seed: int,
    device: str,
    quick: bool,
    full: bool,
    html: bool,
    as_json: bool,
) -> None:
    """Measure how visible marks are; write rows, and a summary beside them (.md).

    Rows that OUT has already are kept: the same command goes on after a kill, and baselines can be added on a subset
    with --methods and --limit.
    """
    check_table(out, ".md", ".html")
    if html:
        check_pages()
    if quick:
        metrics, limit, lines = ("psnr", "ssim", "jod", "flicker"), limit or 8, lines or 480
    metrics = METRICS if full else metrics
    videos = videos or default_videos(say)
    clips = list_videos(videos, min_short_side=min_short_side, max_short_side=max_short_side, progress=listing())
    clips = [clip for clip in clips if not names or clip.id in names][:limit]
    settings = Settings(
        strength=strength,
        profile=profile,
        metrics=metrics,
        frames=frames,
        seed=seed,
        device=device,
        lines=lines,
        videos=str(videos),
    )
    use_one_thread()
    run(clips, out, methods=methods, settings=settings, processes=processes, retry=retry, on_row=_show,
        checking=comparing())
    rows = read_rows(out)
    text = summary(rows)
    summary_path = summary_path or out.with_suffix(".md")
    put(summary_path, text)
    say_all(text)
    if html:
        write_html(out, text)
    check_measured([row["error"] and f"{row['error']}: {row['message']}" for row in rows], out)
    if as_json:
        show_json([typed(row) for row in rows])


def _show(row: Row) -> None:
    values = ", ".join(f"{name} {float(row[name]):.{DIGITS[name]}f}" for name in VALUES if row.get(name))
    told = "; ".join(filter(None, ["" if row["error"] else values, *failures_said(row)]))
    say(f"{row['method']} {row['clip']} ({row['seconds']} s): {told}")
