"""``genwm eval quality``, with noise in the place of the mark."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.quality import read_rows
from eval.quality.command import quality
from tests.eval.noise import mark_with_noise, two_clips


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_clips(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return mark_with_noise(monkeypatch)


def test_the_command_writes_rows_and_summary(folder: Path, marked: list[str], tmp_path: Path) -> None:
    out, page = tmp_path / "rows.csv", tmp_path / "page.md"
    arguments = ["--videos", str(folder), "--out", str(out), "--summary", str(page), "--metrics", "psnr"]
    result = CliRunner().invoke(quality, [*arguments, "--min-short-side", "0", "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert len(read_rows(out)) == 2
    assert page.read_text().startswith("# Quality of marked frames")


def test_the_command_prints_numbers_and_writes_a_page(folder: Path, marked: list[str], tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    out = tmp_path / "rows.csv"
    arguments = ["--videos", str(folder), "--out", str(out), "--metrics", "psnr"]
    arguments += ["--min-short-side", "0", "--limit", "1"]
    plain = CliRunner().invoke(quality, arguments)
    assert (plain.exit_code, plain.stdout) == (0, "")
    assert out.with_suffix(".md").read_text() in plain.stderr
    result = CliRunner().invoke(quality, [*arguments, "--html", "--json"])
    assert result.exit_code == 0, result.output
    (found,), (cells,) = json.loads(result.stdout), read_rows(out)
    assert found["luma_psnr"] == float(cells["luma_psnr"])
    assert found["width"] == int(cells["width"])
    assert found["vmaf"] is None
    assert found["clip"] == cells["clip"]
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "<h2>All clips measured</h2>" in page
    assert "://" not in page  # nothing from the network


def test_a_folder_without_a_readable_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "rows.csv"), "--metrics", "psnr"]
    result = CliRunner().invoke(quality, arguments)
    assert result.exit_code == 2
    assert "nothing but errors (1)" in result.stderr.splitlines()[-1]
    assert len(read_rows(tmp_path / "rows.csv")) == 1


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(quality, ["--videos", str(tmp_path / "none"), "--out", str(tmp_path / "rows.csv")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error[not-found]: Expected a folder")
    assert len(result.stderr.splitlines()) == 1
