"""The root command: what it lists, how fast, and what each kind of failure looks like."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path

import click
import pytest

import genwm
from genwm import cli
from genwm.errors import GenwmError, MissingExtraError, is_disk_full
from genwm.extras import require

HEAVY = ("numpy", "scipy", "torch", "av", "pydantic", "rich", "detectors", "eval", "data")


@click.command()
@click.argument("how")
@click.option("--json", "as_json", is_flag=True)
@click.pass_context
def misbehave(ctx: click.Context, how: str, as_json: bool) -> None:
    """A command that fails as it is told."""
    failures: dict[str, Callable[[], BaseException]] = {
        "expected": lambda: MissingExtraError("Expected a,\n  got b; do c."),
        "unexpected": lambda: ZeroDivisionError("a fault"),
        "name": lambda: MissingExtraError(f"Expected {os.fsdecode(bytes([110, 255]))}"),
        "interrupt": KeyboardInterrupt,
        "abort": click.Abort,
        "file": lambda: click.FileError("x", "no such file"),
    }
    if how == "status":
        ctx.exit(3)
    if how == "pipe":
        for _ in range(20_000):
            click.echo("a line")
    elif how != "fine":
        raise failures[how]()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installed commands, and `misbehave`."""
    real = entry_points(group=cli.GROUP)
    extra = EntryPoint("misbehave", f"{__name__}:misbehave", cli.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: misbehave if self.name == "misbehave" else _no_load(self))
    monkeypatch.setattr(cli, "entry_points", lambda **query: EntryPoints([*real, extra]).select(**query))
    monkeypatch.delenv("GENWM_DEBUG", raising=False)


def _no_load(entry: EntryPoint) -> None:
    raise AssertionError(f"{entry.name} was imported")


def test_help_lists_every_command_without_importing_any(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == sorted([*cli.SUMMARIES, "misbehave"])


def test_every_command_of_this_distribution_has_a_summary() -> None:
    ours = [entry.name for entry in entry_points(group=cli.GROUP) if entry.dist and entry.dist.name == "genwm"]
    assert sorted(cli.SUMMARIES) == sorted(set(ours))


def test_help_starts_fast_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from genwm.cli import run; status = run(['--help']);"
        f"heavy = set({HEAVY!r}) & set(sys.modules); assert not heavy, heavy; sys.exit(status)"
    )
    for _ in range(10):  # processor time, the best of ten tries: a busy machine does not fail the test
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        if took_s < 0.3:
            return
    pytest.fail(f"the help took {took_s} s")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"genwm {genwm.__version__}\n"


@pytest.mark.parametrize("arguments", [["no-such-command"], ["misbehave"], ["misbehave", "fine", "--no-such-option"]])
def test_a_wrong_call_exits_2_on_stderr(
    commands: None, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error[usage]: ")
    assert captured.err.endswith(" --help\n")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["keys"]])
def test_a_call_without_a_command_says_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    path = " ".join(["genwm", *arguments])
    assert capsys.readouterr().err == f"error[usage]: Missing command; see {path} --help\n"


def test_a_prompt_without_quotes_is_told_how_to_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["generate", "a", "red", "car", "-o", "x.mp4"]) == 2
    assert "(red car); put several words that belong together in quotes" in capsys.readouterr().err


def test_a_wrong_call_with_json(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_an_expected_error_is_one_line_with_its_code(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", "expected"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error[missing-extra]: Expected a, got b; do c.\n"


def test_an_expected_error_with_json_is_on_both_streams(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", "expected", "--json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": {"code": "missing-extra", "message": "Expected a, got b; do c."}}
    assert captured.err.startswith("error[missing-extra]: ")


def test_an_unexpected_error_hides_its_traceback(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", "unexpected"]) == 2
    shown = capsys.readouterr().err
    assert shown == "error[internal]: ZeroDivisionError: a fault; set GENWM_DEBUG=1 for the traceback\n"


def test_debugging_shows_the_traceback(
    commands: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENWM_DEBUG", "1")
    assert cli.run(["misbehave", "unexpected"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error[internal]: ZeroDivisionError: a fault\n")


@pytest.mark.parametrize(
    ("how", "status"), [("fine", 0), ("status", 3), ("interrupt", 130), ("abort", 130), ("file", 2)]
)
def test_exit_statuses(commands: None, how: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", how]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-m", "genwm", "--help"]
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["keys", "list", "--json"], ["keys", "nope", "--json"],
                                       ["keys", "new", "studio", "--json"]])  # fmt: skip
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "genwm", *arguments], stdout=full, stderr=subprocess.PIPE,
                              text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    told = "error[disk-full]: Expected room for the results, in their file or on standard output"
    assert done.stderr.count(told) == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


_SLOW = """
import os, signal, sys, time
from pathlib import Path
import click
from genwm import cli
from genwm.output import atomic_output

@click.command()
@click.argument("folder")
@click.argument("name")
@click.option("--fork", is_flag=True)
def slow(folder, name, fork):
    with atomic_output(Path(folder) / "out.txt") as part:
        Path(part).write_text("half")
        if fork:
            told, tell = os.pipe()
            child = os.fork()
            if not child:
                os.write(tell, b".")  # what comes before the child is under way is lost
            if child:
                os.read(told, 1)
                os.kill(child, getattr(signal, name))
                raise SystemExit(os.waitpid(child, 0)[1])
        print("ready", flush=True)
        if fork:
            time.sleep(60)  # a handler of Python's would wait for it where the signal comes just before
        for _ in range(1200):
            time.sleep(0.05)

for usual in (signal.SIGTERM, signal.SIGHUP):  # whatever ran the tests may have them ignored, as nohup does
    signal.signal(usual, signal.SIG_DFL)
cli.LazyGroup.get_command = lambda self, ctx, name: slow
sys.exit(cli.run(["slow", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_process_that_is_told_to_end_tidies_up(tmp_path: Path, name: str, status: int) -> None:
    command = [sys.executable, "-c", _SLOW, str(tmp_path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(os.listdir(tmp_path)) == 1
        process.send_signal(getattr(signal, name))
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (status, "")
    assert os.listdir(tmp_path) == []


def test_a_forked_child_ends_by_the_signal_itself(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _SLOW, str(tmp_path), "SIGTERM", "--fork"], timeout=60, check=False)
    assert done.returncode == signal.SIGTERM


def test_signals_are_as_they_were_after_a_run(commands: None) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    assert cli.run(["misbehave", "fine"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(("name", "left_alone"), [("misbehave", False), ("serve", True)])
def test_the_service_has_the_signals_to_itself(
    commands: None, monkeypatch: pytest.MonkeyPatch, name: str, left_alone: bool
) -> None:
    seen = []

    @click.command()
    def look() -> None:
        seen.append(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: look)
    assert cli.run([name]) == 0
    assert seen == [left_alone]


def test_a_name_in_another_encoding_is_escaped(commands: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["misbehave", "name", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error[missing-extra]: Expected n\\xff\n"
    assert json.loads(captured.out)["error"]["message"] == r"Expected n\xff"


def test_without_a_standard_output_the_status_is_the_commands() -> None:
    done = subprocess.run(["/bin/sh", "-c", 'exec "$0" -m genwm --version >&-', sys.executable], stderr=subprocess.PIPE,
                          text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_main_leaves_with_the_status(commands: None) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["misbehave", "status"])
    assert stop.value.code == 3


def test_require_returns_what_is_installed() -> None:
    assert require("json", "generate") is json


def test_require_names_the_command_that_installs() -> None:
    with pytest.raises(MissingExtraError, match=r'no_such_package.*pip install "genwm\[serve\]"'):
        require("no_such_package", "serve")


def test_a_library_that_the_system_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    lacks = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "linked_to_gl.py").write_text(f"raise ImportError({lacks!r})\n")
    with pytest.raises(MissingExtraError, match=r"libGL\.so\.1, which linked_to_gl needs.*libgl1"):
        require("linked_to_gl", "tracks")
    there = "libtorch.so: failed to map segment from shared object"  # as below a mount that runs nothing
    for name, fault in (("faulty", "cannot import name: shared"), ("unmapped", there)):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError({fault!r})\n")
        with pytest.raises(ImportError, match=fault):
            require(name, "tracks")


def test_public_names_are_sorted_and_complete() -> None:
    assert genwm.__all__ == sorted(genwm.__all__)
    assert set(genwm.__all__) <= set(dir(genwm))


@pytest.mark.parametrize("name", genwm.__all__)
def test_public_names_resolve(name: str) -> None:
    assert getattr(genwm, name) is not None


def test_public_names_are_the_originals() -> None:
    assert genwm.GenwmError is GenwmError
    with pytest.raises(AttributeError, match="no_such_name"):
        genwm.no_such_name  # noqa: B018


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True),
                                            (errno.EACCES, False)])  # fmt: skip
def test_want_of_room_is_told_from_other_failures(code: int, full: bool) -> None:
    assert is_disk_full(OSError(code, os.strerror(code))) is full
    assert not is_disk_full(ValueError())
