"""``genwm eval detector``."""

from __future__ import annotations

from pathlib import Path

import click

from detectors.synthetic.deliveries import DELIVERIES
from detectors.synthetic.inference import SEGMENTS
from eval.commands.telling import (
    check_measured,
    check_pages,
    check_table,
    json_of,
    reporter,
    show_json,
    told,
    write_html,
)
from genwm.commands.telling import say_all

_STANDARD = ("none", "h264-23", "h264-30", "h264-40", "crop-0.6", "scale-0.5")


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips with a manifest.csv that labels them.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV table of scores; continued if there.")
@click.option("--scorer", help="A model's folder, or module:function (path of a clip -> probability) [default: ours].")
@click.option("--delivery", "deliveries", multiple=True, type=click.Choice(list(DELIVERIES)),
              help=f"May be given again [default: {', '.join(_STANDARD)}].")  # fmt: skip
@click.option("--segments", default=SEGMENTS, show_default=True, type=click.IntRange(1, SEGMENTS),
              help="Runs of frames of a clip.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Only so many clips, a fair sample of all.")
@click.option("--include-seen", is_flag=True, help="Also judge clips that the scorer was fitted on.")
@click.option("--out-of-fold", "folds", type=click.Path(path_type=Path),
              help="Take the scores that 'genwm train detector' wrote instead of scoring; --videos adds the probe.")
@click.option("--summary-only", is_flag=True, help="Score nothing: sum up the rows of --out.")
@click.option("--html", is_flag=True, help="Also write one page (.html) beside --out.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@told
def detector(
    videos: Path | None, out: Path, scorer: str | None, deliveries: tuple[str, ...], segments: int, limit: int | None,
    include_seen: bool, folds: Path | None, summary_only: bool, html: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Score labelled clips after deliveries; measure the scores against the labels, grouped by source and family.

    Writes the table --out, and the summary beside it (.json and .md).
    """
    from eval.detector.page import markdown, plots
    from eval.detector.protocol import load_scorer
    from eval.detector.scores import from_folds, measure, read_scores, scores_of, write_scores
    from eval.detector.summary import summarize
    from eval.tables import put
    from genwm.errors import InputError, NotFoundError

    check_table(out, ".json", ".md", ".html")
    if html:
        check_pages()
    if summary_only and not out.exists():
        raise NotFoundError(f"Expected a table of detector scores at {out}, got nothing; check the path")
    if folds is not None and not summary_only:
        name = scorer or folds.name.split(".")[0]
        scores_of(name, out)  # another file, or another scorer's table, is not overwritten
        write_scores(out, from_folds(folds, name, folder=videos, progress=reporter()))
    elif not summary_only:
        if videos is None:
            raise InputError("Expected a folder of clips, got none; give one with --videos")
        measure(videos, out, load_scorer(scorer), deliveries=deliveries or _STANDARD, segments=segments, limit=limit,
                seed=seed, progress=reporter())  # fmt: skip
    rows = read_scores(out)
    check_measured([row.error for row in rows], out)
    summary = summarize(rows, include_seen=include_seen, seed=seed)
    text = markdown(summary)
    put(out.with_suffix(".json"), json_of(summary, indent=1) + "\n")
    put(out.with_suffix(".md"), text)
    say_all(text)
    if html:
        write_html(out, text, plots(summary))
    if as_json:
        show_json(summary)
