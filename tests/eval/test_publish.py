"""The tables that are put into the documentation, of rows whose answers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval.methods import read_published
from eval.report.matched import quality_by_method
from eval.report.page import write_page
from eval.report.publish import full_table, insert, protocol_table, publish, short_table
from eval.robustness import Row
from genwm.errors import OutputError
from tests.eval.rows import ATTACKS, found, known_rows, quality_row, write


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return known_rows()


def test_a_protocols_rows_stand_beside_what_others_published_of_it(rows: list[Row]) -> None:
    table = protocol_table([one for one in rows if one.watermark == "lattice"])
    head = next(line for line in table.splitlines() if line.startswith("| attack"))
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in table.splitlines() if line[:2] == "| "}
    assert "on 3 clips, first 24 frames" in table
    assert "Video Seal, MovieGen" in head
    assert cells["h264.crf40"][1:4] == ["2", "2", "0.83"]
    seal = [one for one in read_published() if one.name == "Video Seal"]
    assert cells["h264.crf40"][-1].strip(" |") == f"{seal[-1].accuracy['h264.crf40']:.2f}"
    assert set(cells) == {"attack", *ATTACKS}


def test_tables_are_put_between_their_marks(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- comparison: begin -->\nold\n<!-- comparison: end -->\n\nAfter.\n")
    for _ in range(2):
        insert(page, short_table(rows, {}))
    text = page.read_text()
    assert text.startswith("# Title\n\n<!-- comparison: begin -->\n| method |")
    assert text.endswith("<!-- comparison: end -->\n\nAfter.\n")
    assert "old" not in text
    assert "| lattice.balanced | 94 % [" in text
    assert "| dwtDct | 0 % [0, 56] | 0 % [0, 56] | 18 of 18 |" in text
    assert "Means over 6 attacks on 3 clips, first 24 frames" in text
    page.write_text("no marks")
    with pytest.raises(OutputError, match="comparison: begin"):
        insert(page, "text")


def test_figures_of_one_clip_are_published_without_an_interval() -> None:
    quality = quality_by_method([quality_row("a", "lattice.balanced", jod_fhd="9.8")])
    assert "| 9.80 |" in short_table([found("a")], quality)
    assert "| 100 % [21, 100] |" in short_table([found("a")], quality)


def test_rows_by_several_versions_are_told_of_wherever_they_are_summed_up(rows: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    mixed = [replace(one, versions="genwm 0.2.0; av 18") if one.clip == "a.mp4" else one for one in rows]
    sentence = "Rows by 2 versions of the code: genwm 0.1.0: 24, genwm 0.2.0: 12."
    ours = [one for one in mixed if one.watermark == "lattice"]
    for has, (either, table) in ((False, (rows, rows)), (True, (mixed, ours))):
        page = write_page(write(tmp_path / f"{has}.csv", list(either)))
        assert (sentence in page.read_text(encoding="utf-8")) is has
        assert (sentence in short_table(either, {})) is has
        assert ("Rows by 2 versions" in protocol_table(table[:1] + table[-1:])) is has


def test_publishing_says_that_rows_are_of_several_versions(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/evaluation.md"):
        (tmp_path / name).write_text("<!-- comparison: begin -->\n<!-- comparison: end -->\n")
    write(tmp_path / "run.csv", [rows[0], replace(rows[1], versions="genwm 0.2.0"), replace(rows[0], span="9f")])
    refused = CliRunner().invoke(publish, ["--no-run", "--out", "run.csv"])
    assert (refused.exit_code, refused.stderr[:47]) == (2, "error[bad-input]: Expected rows of one span, go")
    done = CliRunner().invoke(publish, ["--no-run", "--out", "run.csv", "--span", "24f"])
    assert done.exit_code == 0, done.output
    sentence = "Rows by 2 versions of the code: genwm 0.1.0: 1, genwm 0.2.0: 1."
    assert sentence in done.stderr
    assert all(sentence in (tmp_path / name).read_text() for name in ("run.html", "README.md", "docs/evaluation.md"))


def test_the_full_table_begins_with_what_ours_loses(rows: list[Row], tmp_path: Path) -> None:
    text = full_table(rows, [], tmp_path / "run.html")
    assert text.index("### Where ours is behind") < text.index("### Attack by attack")
    assert "| h264.crf40 | bit accuracy | 0.83 | 0.98 | Video Seal, Video Seal's" in text
    assert "| h264.crf40 | 67 [21, 94] / 67; 0.83 | 0 [0, 56] / 0; 0.50 |" in text
    assert "| combined.crf40 | 1.00 | 0.62 | 0.50 | 0.51 | 0.51 | 0.53 | 0.57 |" in text
