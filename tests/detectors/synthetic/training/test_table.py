"""The table of out-of-fold scores, from training to the evaluation that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.synthetic.training.table import FOLD_COLUMNS, write_folds
from eval.detector.scores import from_folds
from genwm.errors import OutputError

ROW: dict[str, object] = {
    "clip": 'a, "b".mp4', "sha256": "f" * 64, "label": 1, "group": "wan", "generator": "Wan 2.1", "delivery": "none",
    "segments": 3, "logit": "-1.2500", "channels": "spectrum=0.1 texture=-0.2",
}  # fmt: skip


def test_the_evaluation_reads_what_training_writes(tmp_path: Path) -> None:
    write_folds(tmp_path / "folds.csv", [ROW, ROW | {"clip": "é.mp4", "label": 0, "generator": ""}])
    synthetic, real = from_folds(tmp_path / "folds.csv", "ours")
    assert (synthetic.clip, synthetic.label, synthetic.group, synthetic.generator) == (
        'a, "b".mp4', "synthetic", "wan", "Wan 2.1",
    )  # fmt: skip
    assert (synthetic.logit, synthetic.segments, synthetic.delivery) == (-1.25, 3, "none")
    assert (real.clip, real.label, real.generator) == ("é.mp4", "real", "")


def test_a_table_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    write_folds(path, [ROW])
    before = path.read_bytes()
    assert before.splitlines()[0].decode() == ",".join(FOLD_COLUMNS)

    def torn() -> Iterator[dict[str, object]]:
        yield ROW
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folds(path, torn())
    with pytest.raises(ValueError, match="dict contains fields"):
        write_folds(path, [ROW | {"another": 1}])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OutputError):
        write_folds(tmp_path / "none" / "folds.csv", [ROW])
