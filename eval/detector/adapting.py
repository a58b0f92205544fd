"""What ``genwm adapt`` gains on a generator that a model never saw, for every family of generators in its memory.

    python -m eval.detector.adapting --videos DATA --out docs/results/adapt.csv

A family is taken out of the memory, the classifier is fitted to the rest, and then adapted to the family's clips: each
is judged by a fit to the others. Features come from the memory; of the clips only the lengths are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import FRAMES, RATE
from detectors.synthetic.inference import SEGMENTS
from detectors.synthetic.model import load_model
from detectors.synthetic.training.adapt import SECONDS, judge, memory, originals, recipe_of, refusal
from detectors.synthetic.training.fit import fit_and_judge
from eval.commands.telling import check_table, reporter, told
from eval.corpus import list_videos
from eval.tables import put, rewrite
from genwm.errors import InputError
from genwm.video import probe

LEAST = 6  # clips of a family
MOST_S = SEGMENTS * FRAMES / RATE  # of one clip that is looked at
FIELDS = ("family", "clips", "auc_before", "auc_after", "found_before", "found_after", "others_before", "others_after",
          "others_found_before", "others_found_after", "alarms_before", "alarms_after", "refusal")  # fmt: skip
WHATS = ("auc", "found", "others", "others_found", "alarms")
REACHED = 0.95  # AUC that is asked for


@click.command()
@click.option("--videos", required=True, type=click.Path(path_type=Path), help="Folder of the clips that the model was "
              "fitted on, with its manifest.csv.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV table, a row a "
              "family; the same as Markdown beside it.")
@click.option("--model", type=click.Path(path_type=Path), help="Folder of the model [default: ours].")
@told
def main(videos: Path, out: Path, model: Path | None) -> None:
    """Adapt a model to each family of its memory as if it were new."""
    check_table(out, ".md")
    tell, loaded = reporter("families"), load_model(model)
    everything, _ = memory(loaded)
    recipe = recipe_of(loaded, 0)
    seconds = lengths_s([row["sha256"] for row in originals(loaded)], videos)
    names, counts = np.unique(everything.groups[everything.labels == 1], return_counts=True)
    families = [str(name) for name in names[counts >= LEAST]]
    rows = []
    for done, name in enumerate(families, 1):
        own = (everything.groups == name) & (everything.labels == 1)
        known = everything.take(~own)
        # Each is judged by the others, which are a minute at most, whichever is left out.
        others_s = np.cumsum(seconds[own]) - np.minimum.accumulate(seconds[own])
        new = everything.take(own).rows()[: int((others_s <= SECONDS).sum())]
        fusion, (base,) = fit_and_judge(known, recipe)
        fresh, others, footage = judge(known, base.logits, {}, new, [], fusion, folds=recipe.folds, seed=recipe.seed,
                                       name=name).rows  # fmt: skip
        rows.append({
            "family": name, "clips": len(new), "auc_before": fresh.auc_before, "auc_after": fresh.auc_after,
            "found_before": fresh.alarms_before, "found_after": fresh.alarms_after, "others_before": others.auc_before,
            "others_after": others.auc_after, "others_found_before": others.alarms_before,
            "others_found_after": others.alarms_after, "alarms_before": footage.alarms_before,
            "alarms_after": footage.alarms_after, "refusal": refusal((fresh, others, footage)),
        })  # fmt: skip
        tell(done, len(families), f"{name}: AUC {fresh.auc_before:.3f} -> {fresh.auc_after:.3f}")
    write(rows, out)


def lengths_s(digests: Sequence[str], videos: Path) -> NDArray[np.float64]:
    """Seconds of each clip that the classifier looks at, about, ``(clips,)``. Errors: InputError (a clip that
    the folder does not hold), those of `probe`."""
    paths = {video.sha256: video.path for video in list_videos(videos)}
    if missing := set(digests) - paths.keys():
        raise InputError(f"Expected the clips that the model was fitted on in {videos}, got none with sha256 "
                         f"{min(missing)[:12]}...; give the folder that it was trained on")  # fmt: skip
    return np.array([min(MOST_S, probe(paths[digest]).duration_s or MOST_S) for digest in digests])


def write(rows: list[dict[str, object]], out: Path) -> None:
    """The table as CSV, and as Markdown with its means and medians."""
    # What a user has in the end: of a refused family, the model that there was.
    had = [{**row, **({f"{what}_after": row[f"{what}_before"] for what in WHATS} if row["refusal"] else {})}
           for row in rows]  # fmt: skip
    reached = sum(float(str(row["auc_after"])) >= REACHED for row in had)
    lines = ["# `genwm adapt` on families that the model never saw", "",
             f"Each clip is judged by a fit to the others of its family (at most {SECONDS:.0f} s). Found: at each "
             "model's own threshold for 1 %; others: AUC and share found of all other generators; alarms: footage "
             "above the threshold for 1 % that held before. A refused adaptation shows what it would have done; means "
             "and medians count the model that there was in its place.", "",
             f"AUC of {REACHED} or more in the end: {reached} of {len(rows)} families, "
             f"{sum(bool(row['refusal']) for row in rows)} adaptations refused.", "",
             "| family | clips | AUC | found | others | others found | alarms | refused |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip

    def changes(row: Mapping[str, object]) -> str:
        return " | ".join(f"{row[f'{what}_before']:.{digits}f} -> {row[f'{what}_after']:.{digits}f}"
                          for what, digits in zip(WHATS, (3, 2, 3, 3, 3), strict=True))  # fmt: skip

    lines += [f"| {row['family']} | {row['clips']} | {changes(row)} | {'yes' if row['refusal'] else 'no'} |"
              for row in rows]  # fmt: skip
    for label, measure in (("mean", np.mean), ("median", np.median)):
        both = {f"{what}_{when}": float(measure([float(str(row[f"{what}_{when}"])) for row in had]))
                for what in WHATS for when in ("before", "after")}  # fmt: skip
        lines.append(f"| {label} | | {changes(both)} | |")
    rewrite(out, FIELDS, ((f"{value:.4f}" if isinstance(value, float) else value
                           for value in map(row.get, FIELDS)) for row in rows))  # fmt: skip
    put(out.with_suffix(".md"), "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
