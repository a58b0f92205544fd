"""``genwm demo``: it works, it says what it does, and it touches nothing else."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from detectors.commands import demo
from genwm import cli
from genwm.video import probe


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A demo of a second of a smaller picture."""
    for name, value in {"WIDTH": 640, "HEIGHT": 360, "FRAMES": 24, "CRF": 24}.items():
        monkeypatch.setattr(demo, name, value)


def test_the_payload_comes_back(
    tmp_path: Path, own_keyring: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["demo", "--drawn", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["exact"] is True
    assert told["record"]["watermark"]["payload"] == told["payload"]
    assert told["record"]["watermark"]["geometry"]["scale"] == pytest.approx(1.25, abs=0.02)
    assert told["record"]["synthetic"]["model"] == "synthetic-6"
    assert told["payload"] in err
    for step in ("1. making", "2. marking", "3. cutting", "4. scanning", "all 64 bits came back"):
        assert step in err
    folder = tmp_path / "genwm-demo"
    assert "from the pictures alone" in (folder / "demo.html").read_text()
    assert {"clip.mp4", "marked.mp4", "attacked.mp4", "demo-keyring.json", "demo.html"} <= set(os.listdir(folder))
    assert stat.S_IMODE((folder / "demo-keyring.json").stat().st_mode) == 0o600
    assert (probe(folder / "attacked.mp4").width, probe(folder / "attacked.mp4").height) == (512, 288)
    assert os.listdir(tmp_path) == ["genwm-demo"]
    assert not own_keyring.exists()


def test_it_can_be_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    assert cli.run(["demo", "--drawn", "--out", str(out)]) == 0
    (out / "notes.txt").write_text("mine")
    assert cli.run(["demo", "--drawn", "--out", str(out)]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["clip.mp4", "marked.mp4", "attacked.mp4", "demo.html"])
def test_files_of_someone_else_are_not_replaced(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("mine")
    assert cli.run(["demo", "--drawn", "--out", str(tmp_path)]) == 2
    assert "error[output-exists]: Expected an empty folder, or that of an earlier demo" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_folder_name_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", "--drawn", "--out", str(tmp_path / ("x" * 300))]) == 2
    assert "error[bad-output]: Expected to make the folder" in capsys.readouterr().err


def test_a_prompt_without_words_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["demo", "--prompt", " ", "--out", str(tmp_path / "new")]) == 2
    assert "error[bad-input]: Expected a prompt" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_lost_payload_is_told_by_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "CRF", 51)
    assert cli.run(["demo", "--drawn", "--out", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["exact"] is False
    assert "did not come back" in err


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.run(["demo", "--out", str(tmp_path / "file" / "folder"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bad-output"
