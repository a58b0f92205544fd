"""python -m eval.quality --videos DIR --out FILE.csv [--summary FILE.md]"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eval.baselines import BASELINES
from eval.corpus import list_videos
from eval.quality.measures import METRICS, Metric
from eval.quality.reporting import DIGITS, summary
from eval.quality.running import FRAMES, OURS, VALUES, Row, Settings, read_rows, run
from eval.tables import writing
from eval.workers import use_one_thread
from genwm.errors import GenwmError

if TYPE_CHECKING:
    from genwm.marking import Profile, Strength


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.option("--videos", required=True, type=click.Path(path_type=Path), help="Folder of clips.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file, one row a clip and method.")
@click.option("--summary", "summary_path", type=click.Path(path_type=Path), help="Markdown file; else standard output.")
@click.option(
    "--strength", default="balanced", show_default=True, type=click.Choice(["invisible", "balanced", "strong"])
)
@click.option("--profile", default="colour", show_default=True, type=click.Choice(["colour", "luma"]))
@click.option("--methods", default=OURS, show_default=True, callback=_names, help=f"Of {OURS}, {', '.join(BASELINES)}.")
@click.option("--metrics", default=",".join(METRICS), show_default=True, callback=_names)
@click.option("--frames", default=FRAMES, show_default=True, type=click.IntRange(1), help="First frames of each clip.")
@click.option("--min-short-side", default=480, show_default=True, type=click.IntRange(0))
@click.option("--max-short-side", type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1), help="Only the first clips of the (fair) order.")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1))
@click.option("--retry", is_flag=True, help="Measure rows with an error again.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="torch device of ColorVideoVDP.")
def main(
    *,
    videos: Path,
    out: Path,
    summary_path: Path | None,
    strength: Strength,
    profile: Profile,
    methods: tuple[str, ...],
    metrics: tuple[Metric, ...],
    frames: int,
    min_short_side: int,
    max_short_side: int | None,
    limit: int | None,
    processes: int,
    retry: bool,
    seed: int,
    device: str,
) -> None:
    """Measures how visible marks are. Rows that OUT has already are kept: the same command goes on after a kill, and
    baselines can be added on a subset with --methods and --limit."""
    try:
        clips = list_videos(videos, min_short_side=min_short_side, max_short_side=max_short_side)[:limit]
        settings = Settings(
            strength=strength, profile=profile, metrics=metrics, frames=frames, seed=seed, device=device
        )
        use_one_thread()
        run(
            clips, out, methods=methods, settings=settings, processes=processes, retry=retry, on_row=_show
        )
        text = summary(read_rows(out))
        if summary_path:
            with writing(summary_path):
                summary_path.write_text(text, encoding="utf-8")
        else:
            click.echo(text)
    except GenwmError as error:
        click.echo(f"error[{error.code}]: {error}", err=True)
        sys.exit(2)


def _show(row: Row) -> None:
    values = ", ".join(f"{name} {float(row[name]):.{DIGITS[name]}f}" for name in VALUES if row[name])
    click.echo(f"{row['method']} {row['clip']} ({row['seconds']} s): {row['error'] or values}", err=True)


if __name__ == "__main__":
    main()
