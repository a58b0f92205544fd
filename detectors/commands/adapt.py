"""``genwm adapt``: the classifier catches up with a new generator."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from genwm.commands.telling import say
from genwm.errors import NotVerifiedError
from genwm.extras import require


@click.command()
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the model, made anew.")
@click.option("--name", default="new-generator", show_default=True, help="What the generator is called.")
@click.option("--held-out", multiple=True, type=click.Path(path_type=Path), help="A clip to judge by; repeatable.")
@click.option("--model", type=click.Path(path_type=Path), help="Folder of the model to start from [default: ours].")
@click.option("--json", "as_json", is_flag=True, help="Print the table before and after as JSON.")
@click.pass_context
def adapt(
    ctx: click.Context, clips: tuple[Path, ...], output: Path, name: str, held_out: tuple[Path, ...],
    model: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Fit the classifier to the generator that made CLIPS, from at most a minute of them, and calibrate it again.

    Prints AUC and alarms before and after, on the new generator, the others and camera footage. The model is refused
    (exit 3) where it would raise false alarms above its target, forget other generators, or gain nothing.
    """
    require("sklearn", "train")
    from detectors.synthetic.model import load_model
    from detectors.synthetic.training.adapt import Adapted
    from detectors.synthetic.training.adapt import adapt as fit

    refusal = ""
    try:
        adapted = fit(clips, load_model(model), output, name=name, held_out=held_out)
    except NotVerifiedError as error:
        refused = error.args[1] if len(error.args) > 1 else None
        if not isinstance(refused, Adapted):
            raise
        adapted, refusal = refused, refused.refusal
    if as_json:
        click.echo(json.dumps(asdict(adapted)))
    say(f"{adapted.seconds:.0f} s of the new generator were read.")
    for note in adapted.notes:
        say(f"Note: {note}.")
    say(f"{'':<46}{'clips':>6}{'AUC':>16}{'above threshold':>22}")
    for row in adapted.rows:
        area = "-" if row.auc_before is None else f"{row.auc_before:.3f} -> {row.auc_after:.3f}"
        alarms = f"{row.alarms_before:.1%} -> {row.alarms_after:.1%}"
        say(f"{row.what:<46}{row.clips:>6}{area:>16}{alarms:>22}")
    say(f"Refused: {refusal}" if refusal else f"The model is in {output}; use it with --model.")
    if refusal:
        ctx.exit(3)
