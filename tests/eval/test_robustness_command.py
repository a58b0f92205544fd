"""``genwm eval robustness``, with a toy in the place of the watermark."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.attacks import DEFAULT
from eval.robustness import read_rows
from eval.robustness.command import robustness
from tests.clips import make_clip
from tests.eval.toy import TWO, measure, three_clips


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return three_clips(tmp_path_factory.mktemp("videos"))


def test_the_command_sums_up_a_table(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    measure(videos, out)
    result = CliRunner().invoke(robustness, ["--out", str(out), "--summary-only", "--json"])
    assert result.exit_code == 0, result.output
    assert [(cell["attack"], cell["clips"]) for cell in json.loads(result.stdout)] == [(name, 3) for name in TWO]
    assert (tmp_path / "out.md").read_text() in result.stderr
    with (tmp_path / "out.summary.csv").open(newline="") as file:
        assert [cell["present_rate"] for cell in csv.DictReader(file)] == ["100.00", "100.00"]


def test_the_command_lists_attacks_and_says_what_is_wrong(tmp_path: Path) -> None:
    out = str(tmp_path / "out.csv")
    listed = CliRunner().invoke(robustness, ["--out", out, "--attacks", "list"])
    assert all(name in listed.stdout for name in DEFAULT)
    wrong = ["--videos", str(tmp_path), "--attacks", "h264.crf23,nonsense"]
    for arguments, code in ((["--summary-only"], "not-found"), (wrong, "bad-input")):
        result = CliRunner().invoke(robustness, ["--out", out, *arguments])
        assert result.exit_code == 2
        assert result.stderr.startswith(f"error[{code}]: Expected ")


def test_a_folder_without_a_readable_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out.csv"
    arguments = ["--videos", str(tmp_path), "--out", str(out), "--attacks", ",".join(TWO), "--processes", "1"]
    result = CliRunner().invoke(robustness, [*arguments, "--json"])
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "bad-input")
    assert "nothing but errors (2)" in result.stderr.splitlines()[-1]
    assert "not-media: Expected a video" in result.stderr.splitlines()[-1]
    assert len(read_rows(out)) == 2  # one record each all the same
    make_clip(tmp_path / "good.mp4", width=320, height=256, frames=4)
    assert CliRunner().invoke(robustness, [*arguments, "--min-short-side", "0"]).exit_code == 0


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (["--quick", "--full"], "--quick and --full"),
        (["--full", "--quick"], "--quick and --full"),
        (["--quick", "--protocol", "videoseal-72"], "--quick and --protocol videoseal-72"),
    ],
)
def test_presets_that_contradict_each_other_are_refused(
    videos: Path, tmp_path: Path, options: list[str], got: str
) -> None:
    arguments = ["--videos", str(videos), "--out", str(tmp_path / "out.csv"), *options]
    result = CliRunner().invoke(robustness, arguments)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error[bad-input]: Expected one of --quick, --full and --protocol, got {got}; give one\n"
    )
    assert list(tmp_path.iterdir()) == []
