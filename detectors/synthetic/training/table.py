"""The table of out-of-fold scores that training writes and ``genwm eval detector`` sums up."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from genwm.output import atomic_output

FOLD_COLUMNS = ("clip", "sha256", "label", "group", "generator", "delivery", "segments", "logit", "apart",
                "channels")  # fmt: skip


def write_folds(path: str | os.PathLike[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Writes rows of `FOLD_COLUMNS`, as a whole. Errors: OutputError."""
    with atomic_output(Path(path), overwrite=True) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FOLD_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
