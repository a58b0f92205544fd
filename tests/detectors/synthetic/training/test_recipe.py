"""The whole recipe, from a folder of clips to a model that classifies; the embedding is the shipped one."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from detectors.synthetic import classify
from detectors.synthetic.inference import SEGMENTS
from detectors.synthetic.model import clips_of, load_model
from detectors.synthetic.training import recipe
from detectors.synthetic.training.recipe import LIMITS, Settings, Trained, train_detector
from detectors.synthetic.training.table import FOLD_COLUMNS
from genwm.errors import InputError, OutputError
from genwm.video import write_video
from tests.clips import scene

GROUPS = 3  # of either kind


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each of three sources and three families; what a generator made is noisy."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    rows = []
    for number in range(4 * GROUPS):
        synthetic, name = number % 2, f"{number}.mp4"
        frames = scene(128, 128, 16, seed=number)
        if synthetic:
            frames = np.clip(frames + noise.normal(0, 25, frames.shape), 0, 255).astype(np.uint8)
        write_video(folder / name, frames, fps=8, crf=18)
        group = f"g{number // 2 % GROUPS}"
        rows.append([name, "synthetic" if synthetic else "real", group, group, f"sha{number}"])
    write_manifest(folder, rows)
    return folder


def write_manifest(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "group", "family", "sha256"], *rows])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def shipped(path: Path, progress: object) -> Path:
        return Path(shutil.copyfile(load_model().folder / "embedding.onnx", path))

    monkeypatch.setattr(recipe, "_embedding", shipped)
    monkeypatch.setattr(recipe, "SCORED", (("none", 1), ("h264-30", 1)))


def trained(data: Path, folder: Path, work: Path) -> Trained:
    return train_detector(data, folder, work=work, settings=Settings(folds=GROUPS), model_id="small")


def test_a_folder_of_clips_becomes_a_model(data: Path, tmp_path: Path) -> None:
    made = trained(data, tmp_path / "model", tmp_path / "work")
    model = load_model(made.folder)
    assert model.id == "small"
    assert [row["sha256"] for row in clips_of(model)] == [f"sha{number}" for number in range(4 * GROUPS)]
    reals = [float(row["logit"]) for row in clips_of(model) if row["label"] == "0"]
    np.testing.assert_allclose(model.calibration.reals, sorted(reals), atol=1e-3)
    assert set(model.manifest["recipe"]["limits"].items()) == set(LIMITS.items())
    assert all(model.fusion.heads[name].limit == limit for name, limit in LIMITS.items() if name in model.channels)

    kept = {(row["delivery"], row["segments"]) for row in made.rows}
    assert kept == {("none", SEGMENTS), ("h264-40", 1), ("none", 1), ("h264-30", 1)}
    assert len(made.rows) == 4 * 4 * GROUPS
    assert set(made.rows[0]) == set(FOLD_COLUMNS)
    scores = [(float(str(row["logit"])), row["label"]) for row in made.rows if row["segments"] == SEGMENTS]
    assert min(score for score, label in scores if label) > max(score for score, label in scores if not label)

    readings = [classify(data / f"{number}.mp4", model=model, threads=1, stability=False) for number in (0, 1)]
    assert readings[0].logit < readings[1].logit

    again = trained(data, tmp_path / "again", tmp_path / "work")  # from the features that are kept
    assert (again.folder / "manifest.json").read_bytes() == (made.folder / "manifest.json").read_bytes()
    assert again.rows == made.rows
    with pytest.raises(OutputError, match="Expected no folder at"):
        trained(data, tmp_path / "model", tmp_path / "work")


def test_too_few_sources_or_families_are_told(data: Path, tmp_path: Path) -> None:
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    few = tmp_path / "few"
    shutil.copytree(data, few)
    write_manifest(few, [row for row in rows if row[1] == "real" or row[2] != "g0"])
    with pytest.raises(InputError, match=r"Expected clips of 3 sources and 3 families .*, got 3 and 2; add others"):
        trained(few, tmp_path / "model", tmp_path / "work")
    assert not (tmp_path / "model").exists()
