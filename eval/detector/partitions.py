"""How much the partition of the clips into folds decides: the classifier's ranks out of fold in many partitions.

    python -m eval.detector.partitions DATA --work MODEL.work --out docs/results/detector-partitions.csv

``genwm train detector`` judges every clip by heads that saw nothing of its source or family, in one partition that its
seed makes. Any other is as good. The work folder that the training leaves spares reading the clips again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors.synthetic.training.corpus import list_clips, table
from detectors.synthetic.training.fit import Data, Recipe, sums_out_of_fold
from detectors.synthetic.training.recipe import SHRINKAGES, Settings, features_in, recipe_for, rows_to_fit
from eval.commands.telling import check_table, reporter, told
from eval.detector.measures import auc, tpr_at
from eval.detector.summary import ENOUGH, RATES, families_of
from eval.tables import put, rewrite
from genwm.commands.telling import say

FIELDS = ("seed", "auc", "family_mean", "worst_family", "worst_family_auc", "found_at_1_percent", "found_above_all")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Work folder of a training on DATA.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="CSV table, a row a "
              "partition; the same as Markdown beside it.")
@click.option("--partitions", default=16, show_default=True, type=click.IntRange(2))
@told
def main(data: Path, work: Path, out: Path, partitions: int) -> None:
    """Judge the clips of DATA out of fold in many partitions."""
    check_table(out, ".md")
    settings, clips = Settings(), list_clips(data)
    store, _ = features_in(work, data, clips, tuple(SHRINKAGES), settings, say)
    kept, plain = table(store, clips, "none", progress=say)
    rows = judged(rows_to_fit(store, kept, plain, say), recipe_for(tuple(SHRINKAGES), settings), len(kept), partitions,
                  reporter("partitions"))  # fmt: skip
    rewrite(out, FIELDS, ((f"{value:.4f}" if isinstance(value, float) else value for value in map(row.get, FIELDS))
                          for row in rows))  # fmt: skip
    put(out.with_suffix(".md"), markdown(rows))


def judged(
    data: Data, recipe: Recipe, count: int, partitions: int, tell: Callable[[int, int, str], None]
) -> list[dict[str, int | float | str]]:
    """A row of `FIELDS` for each of the seeds from 0 on: figures of the first ``count`` rows of ``data``, the clips as
    they came."""
    rows = []
    for seed in range(partitions):
        sums = sums_out_of_fold(data, recipe, seed)[:count]
        rows.append({"seed": seed, **figures(data.labels[:count], sums, data.groups[:count])})
        tell(seed + 1, partitions, f"AUC {rows[-1]['auc']:.3f}")
    return rows


def figures(labels: NDArray[np.int64], scores: ArrayLike, groups: NDArray[np.str_]) -> dict[str, float | str]:
    """AUC of all clips; mean over the families, each against all footage, and the worst of `ENOUGH` clips or more; and
    what is found with at most 1 % of the footage above the threshold, and with none."""
    values = np.asarray(scores, np.float64)
    families = families_of(labels, values, groups)
    worst = min((row for row in families if row["clips"] >= ENOUGH), key=lambda row: row["auc"],
                default=min(families, key=lambda row: row["auc"]))  # fmt: skip
    found = tpr_at(labels, values, RATES[0])
    return {"auc": auc(labels, values), "family_mean": float(np.mean([row["auc"] for row in families])),
            "worst_family": str(worst["family"]), "worst_family_auc": worst["auc"],
            "found_at_1_percent": float("nan") if found is None else found,
            "found_above_all": float((values[labels == 1] > values[labels == 0].max()).mean())}  # fmt: skip


def markdown(rows: list[dict[str, int | float | str]]) -> str:
    """Mean, deviation and range of each figure over the partitions."""
    lines = ["# The classifier out of fold, in many partitions", "",
             f"{len(rows)} partitions of sources and families into folds; every clip is judged by heads that saw "
             f"nothing of its group. Worst family: of those with {ENOUGH} clips or more.", "",
             "| figure | mean | deviation | range |", "|---|---|---|---|"]  # fmt: skip
    for name in FIELDS:
        if name not in ("seed", "worst_family"):
            values = np.array([float(row[name]) for row in rows])
            lines.append(f"| {name.replace('_', ' ')} | {values.mean():.3f} | {values.std(ddof=1):.3f} | "
                         f"{values.min():.3f} to {values.max():.3f} |")  # fmt: skip
    worst = sorted({str(row["worst_family"]) for row in rows})
    return "\n".join([*lines, "", f"Worst families: {', '.join(worst)}."]) + "\n"


if __name__ == "__main__":
    main()
