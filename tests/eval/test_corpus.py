"""Which clips are measured, and in which order."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.synthetic.training.corpus import list_clips
from eval.corpus import Video, interleaved, list_videos, size_class
from eval.robustness import run
from genwm.errors import InputError
from tests.eval.toy import Toy, three_clips


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_clips(tmp_path_factory.mktemp("videos"))


def test_clips_come_from_the_manifest_if_there_is_one(videos: Path, tmp_path: Path) -> None:
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "group", "family", "width", "height", "sha256"])
        writer.writerow(["x/a.mp4", "real", "g", "f", 640, 480, "ab"])
        writer.writerow(["b.mp4", "", "", "", "", "", ""])
        writer.writerow(["c.mp4", "real", "g", "f", 320, 240, ""])
    listed = {video.id: video for video in list_videos(tmp_path, min_short_side=480)}
    assert set(listed) == {"x/a.mp4", "b.mp4"}  # a size that is not known is no reason to leave a clip out
    first = listed["x/a.mp4"]
    assert (first.path, first.label, first.short_side, first.sha256) == (tmp_path / "x/a.mp4", "real", 480, "ab")
    assert {video.id for video in list_videos(tmp_path, max_short_side=300)} == {"b.mp4", "c.mp4"}


def test_a_folder_without_a_manifest_is_searched(videos: Path) -> None:
    listed = {video.id: (video.group, video.width, video.height) for video in list_videos(videos)}
    assert listed == {"a/one.mp4": ("a", 160, 128), "a/two.mp4": ("a", 176, 128), "three.mp4": ("", 160, 128)}


def test_files_without_a_manifest_are_told_of_as_they_are_opened(videos: Path, tmp_path: Path) -> None:
    told = list[tuple[int, int, str]]()
    list_videos(videos, progress=lambda *words: told.append(words))
    assert [words[:2] for words in told] == [(count, len(told)) for count in range(1, len(told) + 1)]
    assert "three.mp4" in [name for _, _, name in told]


def test_a_link_that_leads_nowhere_is_a_row_and_a_folder_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "loop.mkv").symlink_to("loop.mkv")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "linked.mp4").symlink_to(tmp_path / "folder.mp4")
    assert {video.id for video in list_videos(tmp_path)} == {"gone.mp4", "loop.mkv"}
    rows = run(tmp_path, tmp_path / "out.csv", attacks=["none"], methods=[Toy()], processes=1)
    assert {row.clip for row in rows} == {"gone.mp4", "loop.mkv"}
    assert all(row.error and "Expected a" in row.message for row in rows)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    seed=st.integers(0, 9),
    share=st.floats(0, 1),
)
def test_every_beginning_is_a_fair_sample(counts: list[int], seed: int, share: float) -> None:
    clips = [
        Video(path=Path(), id=f"{family}/{number}", family=str(family), width=720, height=720)
        for family, count in enumerate(counts)
        for number in range(count)
    ]
    order = interleaved(clips, seed=seed)
    assert sorted(one.id for one in order) == sorted(one.id for one in clips)
    assert order == interleaved(reversed(clips), seed=seed)
    part = Counter(one.family for one in order[: round(share * len(order))])
    for family, count in enumerate(counts):
        assert abs(part[str(family)] - share * count) <= 1 + len(counts) * count / len(clips)


@pytest.mark.parametrize(
    ("lines", "name"),
    [(2160, "720+"), (720, "720+"), (719, "480-719"), (480, "480-719"), (479, "240-479"), (239, "under 240")],
)
def test_size_classes(lines: int, name: str) -> None:
    assert size_class(lines) == name


@pytest.mark.parametrize("listing", [list_videos, list_clips])
def test_a_manifest_in_another_encoding_is_told(listing: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes("path,label\ncafé.mp4,real\n".encode("latin-1"))
    with pytest.raises(InputError, match="Expected a CSV file in UTF-8"):
        listing(tmp_path)
