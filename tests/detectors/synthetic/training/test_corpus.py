"""The clips of a data folder: who they are grouped with, and their features, computed once."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from detectors.synthetic.canonical import read_segments
from detectors.synthetic.deliveries import DELIVERIES
from detectors.synthetic.features import Networks, segment_features
from detectors.synthetic.model import load_model
from detectors.synthetic.training.corpus import Clip, FeatureStore, list_clips, table
from detectors.synthetic.training.fit import group_folds
from genwm.errors import InputError, NotFoundError
from tests.clips import make_clip

COLUMNS = ("path", "label", "group", "family", "generator", "sha256")
CHANNELS = ("spectrum", "motion")


def manifest(folder: Path, *rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return folder


@pytest.fixture(scope="module")
def networks() -> Networks:
    return load_model(threads=1).networks


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    make_clip(tmp_path / "a.mp4", width=320, height=256, frames=14, fps=8)
    return Clip(path=tmp_path / "a.mp4", id="a.mp4", label=0, group="a", generator="", sha256="a")


def test_footage_is_grouped_by_source_and_what_is_made_by_the_generators_family(tmp_path: Path) -> None:
    manifest(
        tmp_path,
        ("r/1.mp4", "real", "shop", "", "", "1"),
        ("r/2.mp4", "real", "", "ignored", "", ""),
        ("s/1.mp4", "synthetic", "paper", "wan", "Wan 2.1", "3"),
        ("s/2.mp4", "synthetic", "paper", "svd", "", "4"),
        ("s/3.mp4", "synthetic", "paper", "", "", "5"),
        ("x/1.mp4", "face-swap", "shop", "", "", "6"),
    )
    found = {clip.id: clip for clip in list_clips(tmp_path)}
    assert {name: (clip.label, clip.group, clip.generator) for name, clip in found.items()} == {
        "r/1.mp4": (0, "shop", ""),
        "r/2.mp4": (0, "r/2.mp4", ""),  # by itself where nothing is known
        "s/1.mp4": (1, "wan", "Wan 2.1"),
        "s/2.mp4": (1, "svd", "paper"),
        "s/3.mp4": (1, "s/3.mp4", "paper"),
    }
    assert found["s/1.mp4"].path == tmp_path / "s" / "1.mp4"
    assert (found["s/1.mp4"].sha256, found["r/2.mp4"].sha256) == ("3", "")


def test_folds_of_a_folder_keep_its_sources_and_families_apart(tmp_path: Path) -> None:
    rows = [(f"{label}{number}.mp4", label, f"source{number % 5}", f"family{number % 7}", "", "")
            for label in ("real", "synthetic") for number in range(40)]  # fmt: skip
    clips = list_clips(manifest(tmp_path, *rows))
    folds = group_folds(np.array([clip.label for clip in clips]), np.array([clip.group for clip in clips]), 4, seed=0)
    seen = defaultdict(set)
    for clip, fold in zip(clips, folds, strict=True):
        seen[clip.group].add(int(fold))
    assert sorted(seen) == [*(f"family{number}" for number in range(7)), *(f"source{number}" for number in range(5))]
    assert all(len(places) == 1 for places in seen.values())
    assert set().union(*seen.values()) == set(range(4))


def test_a_folder_that_cannot_be_trained_on_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"manifest\.csv"):
        list_clips(tmp_path)
    with pytest.raises(InputError, match="real and synthetic"):
        list_clips(manifest(tmp_path, ("1.mp4", "real", "shop", "", "", "")))
    with pytest.raises(InputError, match="path"):
        list_clips(manifest(tmp_path, ("real",), ("synthetic",), columns=("label",)))


def test_features_are_those_of_the_segments_and_computed_once(clip: Clip, tmp_path: Path, networks: Networks) -> None:
    found = FeatureStore(tmp_path / "kept", networks, CHANNELS).features(clip, segments=1)
    (segment,) = read_segments(clip.path, count=1, threads=1)
    expected, _ = segment_features(DELIVERIES["none"](segment), networks, CHANNELS)
    assert set(found) == set(CHANNELS)
    for name in CHANNELS:
        # Not to the last digit: x264 does not encode one stack alike in every state of a process.
        assert np.corrcoef(found[name][0], expected[name])[0, 1] > 0.99
    clip.path.unlink()
    again = FeatureStore(tmp_path / "kept", networks, CHANNELS).features(clip, segments=1)
    for name in CHANNELS:
        np.testing.assert_array_equal(again[name], found[name])


def test_deliveries_are_kept_apart_and_a_further_channel_is_added(
    clip: Clip, tmp_path: Path, networks: Networks
) -> None:
    store = FeatureStore(tmp_path / "kept", networks, ("spectrum",))
    plain, poor = (store.features(clip, delivery, segments=1)["spectrum"] for delivery in ("none", "h264-40"))
    assert np.abs(plain - poor).max() > 0.01
    more = FeatureStore(tmp_path / "kept", networks, CHANNELS).features(clip, segments=1)
    np.testing.assert_array_equal(more["spectrum"], plain)
    assert more["motion"].shape[0] == 1
    assert set(store.features(clip, segments=1)) == {"spectrum"}  # whatever others have kept
    assert len(list((tmp_path / "kept").iterdir())) == 2  # a file a delivery, nothing half written beside it


def test_clips_that_cannot_be_judged_are_left_out(clip: Clip, tmp_path: Path, networks: Networks) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = Clip(path=tmp_path / "bad.mp4", id="bad.mp4", label=1, group="b", generator="", sha256="b")
    store = FeatureStore(tmp_path / "kept", networks, ("spectrum",))
    for _ in range(2):  # the second time from what is kept
        kept, features = table(store, [bad, clip], "none", segments=1)
        assert [one.id for one in kept] == ["a.mp4"]
        assert [one["spectrum"].ndim for one in features] == [2]
    said: list[str] = []
    assert table(store, [bad] * 25, "none", segments=1, progress=said.append) == ([], [])
    assert said == ["features (none): 25 clips"]
