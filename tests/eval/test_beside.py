"""What stands beside a run: cost and quality of every method, of other modules too, on clips that could be measured."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from eval import tables
from eval.corpus import Video, list_videos
from eval.methods import methods_named
from eval.quality import read_rows as read_quality_rows
from eval.quality.reporting import summary
from eval.quality.running import COLUMNS
from eval.report import beside
from eval.report.beside import COST_COLUMNS, STEPS, Cost, cost, cost_path, measured_costs, read_costs
from eval.robustness import Row, read_rows, run
from eval.robustness.command import robustness
from tests.clips import audio_only, make_clip

FOREIGN = "tests.eval.foreign:KEYLESS"
OLD_MB = 1_000_000  # what no run of these can take, so that no measured figure passes for a stored one


def stored(step: str, clip: str) -> Cost:
    """A cost that an earlier run may have left, told from any measured one by its memory."""
    return Cost(method=FOREIGN, step=step, clip=clip, frames=8, wall_s=2, cpu_s=1, memory_mb=OLD_MB)


def test_costs_are_those_of_a_clip_that_could_be_measured(tmp_path: Path) -> None:
    """A file of sound alone comes first, and an earlier version has stored what it took to stop there."""
    videos, out = tmp_path / "videos", tmp_path / "out.csv"
    videos.mkdir()
    audio_only(videos / "a.mp4")
    make_clip(videos / "b.mp4", width=128, height=128, frames=3)
    listed = sorted(list_videos(videos), key=lambda video: video.id)
    rows = run(videos, out, attacks=["none"], methods=methods_named([FOREIGN]), min_short_side=0, processes=1)
    assert {row.clip: row.error for row in rows} == {"a.mp4": "no-video-stream", "b.mp4": ""}
    stale = [stored(step, "a.mp4") for step in STEPS]
    tables.prepare(cost_path(out), COST_COLUMNS)
    tables.append(cost_path(out), [asdict(one).values() for one in stale])
    assert measured_costs(out, rows) == []
    found = cost(out, listed, rows)
    assert [(one.method, one.step, one.clip, one.error) for one in found] == [
        (FOREIGN, step, "b.mp4", "") for step in STEPS
    ]
    assert all(one.wall_s > 0 and one.memory_mb > 1 for one in found)
    text = cost_path(out).read_text()
    assert cost(out, listed, rows) == read_costs(out) == found
    assert cost_path(out).read_text() == text  # what is there is kept


def small_run(folder: Path) -> tuple[list[Video], Path, list[Row]]:
    """The one clip that was measured, b.mp4, with somebody else's mark; the table, and its rows."""
    videos, out = folder / "videos", folder / "out.csv"
    videos.mkdir()
    make_clip(videos / "b.mp4", width=128, height=128, frames=3)
    rows = run(videos, out, attacks=["none"], methods=methods_named([FOREIGN]), min_short_side=0, processes=1)
    return list_videos(videos), out, rows


def test_a_step_that_stops_has_no_cost(tmp_path: Path) -> None:
    listed, out, rows = small_run(tmp_path)
    rows = [replace(row, sha256="") for row in rows]  # as of an older table, which any file of the name fits
    listed[0].path.write_bytes(b"no video")
    assert [(one.error, one.memory_mb) for one in cost(out, listed, rows)] == [("error", 0), ("error", 0)]
    make_clip(listed[0].path, width=128, height=128, frames=3)
    assert [one.error for one in cost(out, listed, rows)] == ["", ""]  # measured again


def test_a_kill_between_the_steps_leaves_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, out, rows = small_run(tmp_path)

    def measured(method: str, step: str, *_: object) -> Cost:
        if step == killed:
            raise KeyboardInterrupt
        return stored(step, "b.mp4")

    monkeypatch.setattr(beside, "_cost", measured)
    killed = "read"
    with pytest.raises(KeyboardInterrupt):
        cost(out, listed, rows)
    assert read_costs(out) == []
    killed = ""
    assert len(cost(out, listed, rows)) == 2
    assert len(cost_path(out).read_text().splitlines()) == 3


def test_costs_of_another_file_of_the_name_are_not_the_clips(tmp_path: Path) -> None:
    listed, out, rows = small_run(tmp_path)
    old = [stored(step, "b.mp4") for step in STEPS]
    names = [field.name for field in fields(Cost) if field.name != "sha256"]
    tables.rewrite(cost_path(out), names, ([getattr(one, name) for name in names] for one in old))
    assert cost(out, listed, rows) == old  # of a table without hashes nothing is known
    other = [replace(one, sha256="0" * 16) for one in old]
    tables.rewrite(cost_path(out), COST_COLUMNS, (asdict(one).values() for one in other))
    assert measured_costs(out, rows) == []
    found = cost(out, listed, rows)
    assert [(one.step, one.sha256, one.memory_mb == OLD_MB) for one in found] == [
        (step, rows[0].sha256, False) for step in STEPS
    ]
    make_clip(listed[0].path, width=128, height=128, frames=4)
    cost_path(out).unlink()
    assert cost(out, list_videos(listed[0].path.parent), rows) == []  # that file is in none of the rows


def test_a_foreign_watermark_has_quality_cost_pictures_and_commands(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("pycvvdp", reason="quality beside a run is not tested: it needs the extra 'quality'")
    videos, out = tmp_path / "videos", tmp_path / "run.csv"
    videos.mkdir()
    make_clip(videos / "one.mp4", width=320, height=256, frames=4)
    methods = f"lattice.balanced,{FOREIGN}"
    arguments = ["--videos", str(videos), "--out", str(out), "--methods", methods, "--attacks", "none", "--html"]
    result = CliRunner().invoke(robustness, [*arguments, "--min-short-side", "0", "--processes", "1"])
    assert result.exit_code == 0, result.output
    assert [row.exact for row in read_rows(out)] == [1, 1]
    document = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [one["method"] for one in document["overall"]] == ["lattice.balanced", FOREIGN]
    assert set(document["quality"]) == {"lattice.balanced", FOREIGN}
    seen = {name: values["jod_fhd"]["value"] for name, values in document["quality"].items()}
    assert seen[FOREIGN] < seen["lattice.balanced"]  # its blocks are plain to see
    assert [(one["method"], one["error"]) for one in document["costs"]] == [
        (name, "") for name in ("lattice.balanced", FOREIGN) for _ in STEPS
    ]
    assert [one["method"] for one in document["matched"]["jod_fhd"]] == [FOREIGN]
    assert {row["method"]: row["error"] for row in read_quality_rows(tmp_path / "run.quality.csv")} == {
        "genwm": "", FOREIGN: "",
    }  # fmt: skip
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert f'alt="marked by {FOREIGN}"' in page
    assert f'alt="what {FOREIGN} changed"' in page


def test_the_summary_of_quality_says_which_methods_mark_planes() -> None:
    blank = dict.fromkeys(COLUMNS, "") | {"frames": "24", "clip": "a"}
    text = summary([blank | {"method": name} for name in ("genwm", "dwtDct")])
    assert "genwm is measured after rounding" in text
    text = summary([blank | {"method": name} for name in (FOREIGN, "genwm", "dwtDct")])
    assert f"methods other than genwm and {FOREIGN} on the first 24" in text
    assert f"genwm and {FOREIGN} are measured after rounding" in text
