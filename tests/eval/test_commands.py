"""``genwm eval``: one group, nothing imported before it is called, errors as one line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from data import fetch
from eval.commands import COMMANDS, group
from eval.commands.telling import at_work, check_measured, check_table, duration, often_s, reporter, show_json, told
from eval.corpus import default_videos, list_videos
from genwm.cli import run
from genwm.errors import FetchError, InputError, OutputError
from tests.clips import make_clip


def test_the_help_lists_what_is_installed_and_imports_nothing() -> None:
    code = (
        "import sys; from genwm.cli import run; run(['eval', '--help']);"
        "print(sorted({'numpy', 'av', 'torch', 'scipy', 'eval.robustness', 'eval.report'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name in ("robustness", "quality", "false-alarms", "speed", "compare", "report"):
        assert f"  {name}" in done.stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "detector"])
def test_every_command_has_help(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "--" in result.output


def test_a_command_that_is_not_there_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "nonsense"]) == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "option"), [("speed", "--long-seconds"), ("robustness", "--max-seconds")])
def test_numbers_are_numbers(command: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", command, option, "nan"]) == 2
    assert f"Invalid value for '{option}': nan is not a number" in capsys.readouterr().err


def test_errors_are_one_line_and_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "nowhere")
    with pytest.raises(SystemExit) as stop:
        run(["eval", "robustness", "--videos", missing, "--out", str(tmp_path / "out.csv"), "--json"])
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.err.startswith("error[not-found]: Expected a folder of videos")
    assert json.loads(output.out)["error"]["code"] == "not-found"


def test_what_is_mostly_quick_is_told_of_when_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 5.0, 6.0, 10.0])
    report = reporter("clips", every_s=5.0, clock=lambda: next(times))
    for count in range(1, 5):
        report(count, 8, f"{count}.mp4")
    assert capsys.readouterr().err.splitlines() == ["2/8 clips, 15 s left: 2.mp4", "4/8 clips, 10 s left: 4.mp4"]


def test_what_is_at_work_is_told_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([100.0, 160.0])
    report = at_work(clock=lambda: next(times))
    for done in (0, 0, 40):
        report(done, 133)
    assert capsys.readouterr().err.splitlines() == ["0/133 rows", "40/133 rows, 2 min left"]


def test_few_lines_go_to_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    often = {}
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        often[terminal] = often_s()
    assert often[False] >= 10 * often[True]


def test_told_passes_results_and_ends_on_errors() -> None:
    @told
    def command(as_json: bool, wrong: bool = False) -> int:
        if wrong:
            raise InputError("Expected more, got less; give more")
        return 7

    assert command(as_json=False) == 7
    with pytest.raises(SystemExit):
        command(as_json=False, wrong=True)


def test_json_has_no_infinity(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"psnr": math.inf, "rows": [(1.5, math.nan)], "met": True, "clip": "a"})
    assert json.loads(capsys.readouterr().out) == {"psnr": None, "rows": [[1.5, None]], "met": True, "clip": "a"}


def test_one_row_without_an_error_is_enough(tmp_path: Path) -> None:
    check_measured([], tmp_path)
    check_measured(["", "not-media: no"], tmp_path)
    with pytest.raises(InputError, match=r"nothing but errors \(2\) in .*, the first 'not-media: no'; "):
        check_measured(["not-media: no", "truncated: no"], tmp_path)


def test_what_stands_beside_a_table_never_takes_its_place(tmp_path: Path) -> None:
    check_table(tmp_path / "rows.csv", ".md")
    check_table(tmp_path / "rows", ".md")
    with pytest.raises(OutputError, match=r"does not end in \.md, got .*; call it rows\.csv"):
        check_table(tmp_path / "rows.md", ".md")


@pytest.mark.parametrize("name", ["detector", "false-alarms", "quality", "robustness"])
def test_a_table_that_its_summary_would_replace_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["eval", name, "--videos", str(tmp_path / "none"), "--out", str(tmp_path / "rows.md")])
    assert "error[bad-output]" in capsys.readouterr().err
    assert not list(tmp_path.glob("rows*"))


def test_durations_are_as_exact_as_they_need_to_be() -> None:
    assert [duration(seconds) for seconds in (3.4, 89, 91, 3600)] == ["3 s", "89 s", "2 min", "60 min"]


def test_public_clips_are_the_default_and_scenes_stand_in_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache" / "clips"
    monkeypatch.setattr(fetch, "default_folder", lambda: folder)

    def fails(clips: list[fetch.Clip], where: Path) -> list[fetch.Outcome]:
        where.mkdir(parents=True, exist_ok=True)
        error = FetchError("Expected a network, got none; connect")
        return [fetch.Outcome(clip=clip, path=where / clip.name, status="failed", error=error) for clip in clips]

    monkeypatch.setattr(fetch, "fetch_clips", fails)
    monkeypatch.setattr("eval.corpus.made_scenes", lambda where: where)
    said: list[str] = []
    assert default_videos(said.append) == folder.with_name("scenes")
    assert any("Expected a network" in line for line in said)
    assert "scenes made on the spot" in said[-1]

    def brings(clips: list[fetch.Clip], where: Path) -> list[fetch.Outcome]:
        return [fetch.Outcome(clip=clip, path=where / clip.name, status="present") for clip in clips]

    monkeypatch.setattr(fetch, "fetch_clips", brings)
    assert default_videos() == folder


@pytest.mark.parametrize("name", ["robustness", "quality", "false-alarms", "detector", "speed", "publish"])
@pytest.mark.parametrize("package", ["jinja2", "markdown_it", "matplotlib"])
def test_a_page_that_cannot_be_made_is_told_before_anything_is_measured(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    make_clip(tmp_path / "one.mp4", width=320, height=256, frames=4)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    videos = [] if name == "speed" else ["--videos", str(tmp_path)]
    page = [] if name == "publish" else ["--html"]
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "out.csv"), *videos, *page])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error[missing-extra]: Expected the optional package {package}, got none")
    assert 'pip install "genwm[report]"' in result.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["one.mp4"]


def test_a_preset_gives_way_to_what_is_asked(tmp_path: Path) -> None:
    """The quick set on one tiny clip, with other attacks, methods and no limit on the size."""
    pytest.importorskip("matplotlib", reason="pages are not tested: they need the extra 'report'")
    pytest.importorskip("pycvvdp", reason="quality beside a run is not tested: it needs the extra 'quality'")
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips" / "one.mp4", width=320, height=256, frames=4)
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"this is no video at all")
    out = tmp_path / "run.csv"
    options = ["--quick", "--attacks", "none,hflip+h264.crf28", "--methods", "lattice.balanced", "--processes", "1"]
    arguments = ["--videos", str(tmp_path / "clips"), "--out", str(out), "--min-short-side", "0", "--html", "--json"]
    command = group.get_command(click.Context(group), "robustness")
    assert command is not None
    result = CliRunner().invoke(command, [*options, *arguments])
    assert result.exit_code == 0, result.output
    rows = list_videos(tmp_path / "clips")
    assert len(rows) == 2
    assert {cell["attack"] for cell in json.loads(result.stdout)} == {"none", "hflip+h264.crf28"}
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "ColorVideoVDP, JOD" in page
    assert "not-media" in page
    assert "Time and memory" in page
