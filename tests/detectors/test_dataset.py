"""Data sets of generated clips: what is written, and that a detector trained on it finds objects in held-out clips."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detectors.commands.dataset import dataset
from detectors.dataset import (
    LabelledClip,
    LabelledFrame,
    export,
    label_lines,
    rendered_clips,
    split_clips,
    tracked_clips,
)
from genwm import cli
from genwm.errors import InputError, NotFoundError, OutputExistsError
from genwm.tiny.scenes import KINDS
from tests.clips import make_clip

# The smallest detector that learns this in seconds: two scales, a tenth of the width of YOLO's smallest.
TINY = """
nc: 5
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C2f, [64, True]]
  - [-1, 1, Conv, [96, 3, 2]]
  - [-1, 1, C2f, [96, True]]
  - [-1, 1, SPPF, [96, 5]]
head:
  - [[4, 7], 1, Detect, [nc]]
"""


def _clip(source: str, *boxes: tuple[str, float, float, float, float]) -> LabelledClip:
    return LabelledClip(source, [LabelledFrame(0.0, np.zeros((50, 100, 3), np.uint8), boxes)] * 2)


def test_labels_are_shares_of_the_picture() -> None:
    frame = LabelledFrame(0.0, np.zeros((50, 100, 3), np.uint8), (
        ("car", 10, 10, 30, 20), ("bus", -10, 40, 50, 80), ("tree", 0, 0, 9, 9), ("car", 200, 0, 300, 10)))
    assert label_lines(frame, {"car": 0, "bus": 1}) == [
        "0 0.200000 0.300000 0.200000 0.200000", "1 0.250000 0.900000 0.500000 0.200000"]


def test_splits_are_by_clip_and_repeatable(tmp_path: Path) -> None:
    clips = [_clip(f"clip {number}", ("car", 10, 10, 30, 20)) for number in range(10)]
    done = export(clips, tmp_path / "set", names=("car",), seed=3)
    assert done.clips == {"train": 7, "val": 2, "test": 1}
    assert done.frames == {"train": 14, "val": 4, "test": 2}
    owners: dict[str, set[str]] = {}
    for picture in (tmp_path / "set" / "images").rglob("*.jpg"):
        label = tmp_path / "set" / "labels" / picture.parent.name / f"{picture.stem}.txt"
        assert label.read_text().startswith("0 ")
        owners.setdefault(picture.stem.split("-")[0], set()).add(picture.parent.name)
    assert all(len(splits) == 1 for splits in owners.values())
    with (tmp_path / "set" / "clips.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert {row["clip"]: {row["split"]} for row in rows} == owners
    assert split_clips(10, val=0.2, test=0.1, seed=3) == split_clips(10, val=0.2, test=0.1, seed=3)
    assert split_clips(10, val=0.2, test=0.1, seed=3) != split_clips(10, val=0.2, test=0.1, seed=4)


@pytest.mark.parametrize(("count", "val", "test"), [(1, 0.2, 0.0), (2, 0.2, 0.1), (9, 0.9, 0.1), (9, 0.0, 0.1)])
def test_shares_that_leave_nothing_to_train_on_are_refused(count: int, val: float, test: float) -> None:
    with pytest.raises(InputError, match="Expected"):
        split_clips(count, val=val, test=test, seed=0)


def test_whatever_a_clip_is_called_it_is_one_row_and_no_formula(tmp_path: Path) -> None:
    clips = [_clip(name, ("car", 1, 1, 9, 9)) for name in ("=1+1.mp4", "latin\udce9.mp4", "new\nline.mp4")]
    export(clips, tmp_path / "set", names=["car"], test=0)
    with (tmp_path / "set" / "clips.csv").open(encoding="utf-8", newline="") as table:
        assert [row["source"] for row in csv.DictReader(table)] == ["'=1+1.mp4", r"latin\xe9.mp4", "new\nline.mp4"]


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken() -> Iterator[LabelledFrame]:
        yield LabelledFrame(0.0, np.zeros((8, 8, 3), np.uint8), ())
        raise InputError("Expected a clip, got none; make one")

    with pytest.raises(InputError):
        export([LabelledClip("x", broken())] * 3, tmp_path / "set", names=("car",))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").mkdir()
    with pytest.raises(OutputExistsError):
        export([_clip("a")] * 3, tmp_path / "set", names=("car",))


def test_the_command_renders_scenes(tmp_path: Path) -> None:
    out = tmp_path / "set"
    arguments = ["export", str(out), "--scenes", "4", "--frames", "2", "--width", "96", "--height", "64", "--test", "0"]
    result = CliRunner().invoke(dataset, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    written = json.loads(result.stdout)
    assert (written["schema"], written["names"]) == ("genwm.dataset/1", list(KINDS))
    assert written["frames"] == {"train": 6, "val": 2}
    assert sum(written["boxes"].values()) > 0
    assert CliRunner().invoke(dataset, ["export", str(tmp_path / "b")]).exit_code == 2


def test_clips_with_tracks_become_a_data_set(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=128, height=96, frames=6)
    boxes = [[index, 10 + index, 20, 42 + index, 52, 0.9] for index in range(6)]
    document = {"schema": "genwm.tracks/1", "input": {"path": str(tmp_path / "clip.mp4")},
                "times": [index / 25 for index in range(6)], "tracks": [{"kind": "person", "boxes": boxes}]}
    (clip,) = tracked_clips({"here": document}, frames=3)
    frames = list(clip.frames)
    assert [frame.boxes[0][1] for frame in frames] == [10, 12, 15]
    assert frames[0].rgb.shape == (96, 128, 3)
    out, lines = tmp_path / "set", tmp_path / "tracks.jsonl"
    with lines.open("w") as file:
        for seed in range(3):
            make_clip(tmp_path / f"{seed}.mp4", width=128, height=96, frames=6, seed=seed)
            file.write(json.dumps({**document, "input": {"path": str(tmp_path / f"{seed}.mp4")}}) + "\n")
    result = CliRunner().invoke(dataset, ["export", str(out), "--tracks", str(lines), "--test", "0"])
    assert result.exit_code == 0, result.output
    assert 'names:\n  0: "person"\n' in (out / "data.yaml").read_text()
    with pytest.raises(NotFoundError, match=r"clip of here at .*gone\.mp4"):
        tracked_clips({"here": {**document, "input": {"path": str(tmp_path / "gone.mp4")}}})


def test_a_clip_comes_once_and_as_it_was_analysed(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", width=128, height=96, frames=2)
    shutil.copy(tmp_path / "clip.mp4", tmp_path / "copy.mp4")
    sha256 = hashlib.sha256((tmp_path / "clip.mp4").read_bytes()).hexdigest()
    one, other = ({"schema": "genwm.tracks/1", "input": {"path": str(tmp_path / name), "sha256": sha256},
                   "times": [0, 0.04], "tracks": []} for name in ("clip.mp4", "copy.mp4"))
    assert len(tracked_clips({"here": one})) == 1
    for again in (one, other):
        with pytest.raises(InputError, match=r"^Expected each clip once, got the bytes of .* in here and in there;"):
            tracked_clips({"here": one, "there": again})
    make_clip(tmp_path / "clip.mp4", width=128, height=96, frames=2, seed=1)
    with pytest.raises(InputError, match="as it was analysed, got other bytes; analyse it again"):
        tracked_clips({"here": one})


def test_a_data_set_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one object"):
        export(rendered_clips(3, frames=1, width=64, height=64), tmp_path / "set", names=())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "shares", "says"), [
    (1, (0.2, 0.1), r"at least 3 clips \(one to train on, 1 to validate on, 1 to test on\), got 1; add some$"),
    (1, (0.2, 0.0), r"at least 2 clips \(one to train on, 1 to validate on\), got 1; add some$"),
    (2, (0.2, 0.1), r"got 2; add some, or give --test 0$"),
    (5, (0.95, 0.0), r"got 5; add some, or a smaller --val$"),
])  # fmt: skip
def test_too_few_clips_are_told_what_helps(count: int, shares: tuple[float, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        split_clips(count, val=shares[0], test=shares[1], seed=0)


@pytest.mark.parametrize("line", [
    b"{", b"\xff", b"[1]", b"3", b'{"schema": "other"}', b'{"schema": "genwm.tracks/1"}', b"[" * 100_000,
    *(b'{"schema": "genwm.tracks/1", "input": {"path": "clip.mp4"}, "times": [0], "tracks": [%s]}' % track
      for track in (b"1", b"{}", b'{"boxes": []}', b'{"kind": "car", "boxes": [[1]]}',
                    b'{"kind": "car", "boxes": [[0, "left", 0, 0, 0, 1]]}',
                    b'{"kind": "car", "boxes": [[Infinity, 0, 0, 0, 0, 1]]}')),
])  # fmt: skip
def test_a_bad_line_of_tracks_is_named(
    tmp_path: Path, line: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("clip.mp4").touch()
    good = {"schema": "genwm.tracks/1", "input": {"path": "clip.mp4"}, "times": [0], "tracks": []}
    Path("good.json").write_text(json.dumps(good))
    Path("bad.json").write_bytes(json.dumps(good).encode() + b"\n\n" + line + b"\n")
    assert cli.run(["dataset", "export", "set", "--tracks", "good.json", "--tracks", "bad.json"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error[bad-input]: Expected what 'genwm analyze --json' prints in line 3 of bad.json, got ")
    assert not Path("set").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny detector trained for a few epochs on rendered scenes, and the data set."""
    pytest.importorskip("ultralytics", exc_type=ImportError,
                        reason="training on a data set is not tested: it needs the extra 'tracks', and libGL")
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("yolo")
    export(rendered_clips(44, frames=4, width=160, height=96), folder / "set", names=KINDS, test=0)
    (folder / "tiny.yaml").write_text(TINY)
    model = YOLO(str(folder / "tiny.yaml"), task="detect")
    model.train(data=str(folder / "set" / "data.yaml"), epochs=10, imgsz=160, batch=8, workers=0, device="cpu", seed=0,
                optimizer="AdamW", lr0=0.005, warmup_epochs=1, mosaic=0.2, close_mosaic=2, scale=0.3, amp=False,
                val=False, single_cls=True, plots=False, verbose=False, project=str(folder / "runs"))
    return model, folder


@pytest.mark.filterwarnings("ignore")  # ultralytics and what it imports warn of their own affairs
def test_a_detector_trained_on_it_finds_objects_in_held_out_clips(trained: tuple[Any, Path]) -> None:
    from ultralytics import YOLO

    model, folder = trained
    options = {"data": str(folder / "set" / "data.yaml"), "imgsz": 160, "workers": 0, "device": "cpu", "plots": False,
               "verbose": False, "project": str(folder / "runs"), "single_cls": True}
    learned = model.val(**options).box.map50
    untrained = YOLO(str(folder / "tiny.yaml"), task="detect").val(**options).box.map50
    assert learned > 0.15
    assert untrained < 0.02


@pytest.mark.filterwarnings("ignore")
def test_it_follows_an_object_through_a_clip(trained: tuple[Any, Path], tmp_path: Path) -> None:
    from detectors.tracks import track, write_annotated
    from genwm.tiny.scenes import Scene, render
    from genwm.video import read_rgb, write_video

    model, _ = trained
    best = 0.0
    for number in range(1000, 1004):  # clips that were in no split
        scene = render(Scene.sample(np.random.default_rng([0, number])), frames=10, width=160, height=96, fps=12)
        write_video(tmp_path / "clip.mp4", scene.frames, fps=12, crf=12, preset="veryfast")
        found = track(tmp_path / "clip.mp4", model, confidence=0.1, size=160)
        assert len(found.times_s) == 10
        best = max([best, *(_overlap(each, scene.boxes) for each in found.tracks if len(each.boxes) >= 5)])
    assert best > 0.5
    document = found.to_json()
    assert document["model"]["licence"] == "AGPL-3.0"
    assert json.loads(json.dumps(document))["schema"] == "genwm.tracks/1"
    write_annotated(found, tmp_path / "out.mp4")
    with read_rgb(tmp_path / "out.mp4") as reader:
        assert sum(1 for _ in reader) == 10


def _overlap(track: Any, boxes: list[Any]) -> float:
    """Mean over a track of the best intersection over union with an object of the same frame."""
    best = []
    for box in track.boxes:
        values = [0.0]
        for true in boxes[box.index]:
            wide = min(box.x1, true.x1) - max(box.x0, true.x0)
            high = min(box.y1, true.y1) - max(box.y0, true.y0)
            shared = max(0.0, wide) * max(0.0, high)
            areas = (box.x1 - box.x0) * (box.y1 - box.y0) + (true.x1 - true.x0) * (true.y1 - true.y0)
            values.append(shared / (areas - shared))
        best.append(max(values))
    return float(np.mean(best))
