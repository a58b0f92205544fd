"""The measurement of the registry: it sees what is right, and what is wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval import registered
from tests.clips import make_clip


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, seed in enumerate((0, 5, 9)):
        make_clip(folder / f"{number}.mp4", width=456, height=256, frames=16, seed=seed, preset="ultrafast")
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "manifest.csv").write_text("path,group\n0.mp4,a\n1.mp4,b\n2.mp4,c\nbroken.mp4,d\n")
    monkeypatch.setattr(registered, "EDITS", ("none", "crop.30+h264.crf23"))
    return folder


def run(videos: Path, out: Path) -> list[dict[str, str]]:
    done = CliRunner().invoke(registered.registered, ["--videos", str(videos), "--out", str(out)])
    assert done.exit_code == 0, done.output
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_copy_is_known_and_other_clips_are_not(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "registered.csv"
    rows = run(videos, out)
    said = {(row["clip"], row["edit"], row["other"]): row["registry"] for row in rows}
    for clip in ("0.mp4", "1.mp4", "2.mp4"):
        assert said[clip, "none", ""] == "match"
        assert said[clip, "crop.30+h264.crf23", ""] in ("", "unknown")
        others = {other: status for (one, edit, other), status in said.items() if (one, edit) == (clip, "another clip")}
        assert set(others) == {"0.mp4", "1.mp4", "2.mp4"} - {clip}
        assert set(others.values()) == {"transplant"}
    (broken,) = [row for row in rows if row["error"]]
    assert broken["clip"] == "broken.mp4"
    table = out.with_suffix(".md").read_text()
    assert "| none | 3 | 3 (44 to 100 %) | 0 (0 to 56 %) | 0 (0 to 56 %) |" in table
    assert "| another clip | 6 | 0 (0 to 39 %) | 0 (0 to 39 %) | 6 (61 to 100 %) |" in table
    assert run(videos, out) == rows
