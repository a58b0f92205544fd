"""The measurements of large scans, on small ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from detectors import read_watermark
from eval.scanning import main, make_files
from tests.clips import KEY


def test_files_differ_in_their_bytes_and_a_third_is_marked(tmp_path: Path) -> None:
    files = make_files(tmp_path, 5, KEY, seconds=0.5, size=(456, 256))
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in files}) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in files]
    found = [read_watermark(path, keys=[KEY]) for path in files[:4]]
    assert [reading.payload for reading in found] == [1, None, None, 1]
    assert {reading.warnings for reading in found} == {()}


def test_a_killed_scan_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GENWM_KEYRING", "")  # given back when the test ends: the measurement sets its own
    result = CliRunner().invoke(main, ["kills", "--files", "6", "--kills", "2", "--out", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    measured = json.loads((tmp_path / "out.json").read_text())
    assert (measured["files"], measured["records"], measured["lost"], measured["repeated"]) == (6, 6, 0, 0)
    assert measured["verdicts"] == {"no_evidence": 4, "watermark_detected": 2}
    assert len(measured["kills"]) == 2
