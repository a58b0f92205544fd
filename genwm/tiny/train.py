"""Makes the embedded pipeline from nothing: ``python -m genwm.tiny.train``.

Render clips, fit the autoencoder's components, train its decoder, encode the training clips, train the text encoder,
train the denoiser, export, evaluate. Each step keeps its state in the work folder and goes on from there; a CUDA GPU is
used if there is one. ``--warm-start`` begins with the shipped weights instead of untrained ones.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from genwm.tiny import EMBEDDED

#: Polishing: share of the learning rates, and the weight of the loss of flicker, with which a quarter of an 8-bit level
#: counts half as much as pixels do.
POLISHING, FLICKER = 0.4, 15.0


@click.command()
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path("tiny-work"), show_default=True,
              help="Folder for what is rendered and for checkpoints.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to export to [default: the "
              "package's].")
@click.option("--results", type=click.Path(path_type=Path), help="Evaluate and write RESULTS.csv and RESULTS.json.")
@click.option("--clips", default=600, show_default=True, help="Rendered clips for the autoencoder.")
@click.option("--latents", default=3000, show_default=True, help="Clips for the denoiser.")
@click.option("--autoencoder-steps", default=5600, show_default=True)
@click.option("--text-steps", default=400, show_default=True)
@click.option("--denoiser-steps", default=8600, show_default=True, help="With --warm-start, 0 keeps the shipped one.")
@click.option("--autoencoder-minutes", default=math.inf, help="End the decoder's training then [default: no limit].")
@click.option("--denoiser-minutes", default=math.inf, help="End the denoiser's training then [default: no limit].")
@click.option("--decoder-batch", default=2, show_default=True, help="Sets of windows in a step of the decoder: 8 or "
              "more on a GPU.")
@click.option("--denoiser-batch", default=16, show_default=True, help="Clips in a step of the denoiser: 64 or more on "
              "a GPU.")
@click.option("--compile", "compiled", is_flag=True, help="Compile the denoiser: about 1.5 times as many steps on a "
              "CPU; asks for a C++ compiler.")
@click.option("--threads", default=0, help="CPU threads [default: all].")
@click.option("--warm-start", is_flag=True, help="Begin the denoiser with the shipped weights; keeps the shipped "
              "encoders, for the denoiser has learned their latents and hidden states.")
@click.option("--polish-steps", default=0, help="With --warm-start: train the shipped decoder further, at "
              f"{POLISHING} of the learning rates and against flicker.")
def main(work: Path, out: Path | None, results: Path | None, clips: int, latents: int, autoencoder_steps: int,
         text_steps: int, denoiser_steps: int, autoencoder_minutes: float, denoiser_minutes: float, decoder_batch: int,
         denoiser_batch: int, compiled: bool, threads: int, warm_start: bool, polish_steps: int) -> None:
    """Train the embedded pipeline."""
    import torch

    from genwm.tiny import autoencoder, denoiser, export, text
    from genwm.tiny.data import rendered
    from genwm.tiny.evaluate import evaluate
    from genwm.tiny.latents import collect, normalise

    if not warm_start and (polish_steps or not denoiser_steps):
        raise click.UsageError("Expected --warm-start with --polish-steps or --denoiser-steps 0, got none; add it.")
    if threads:
        torch.set_num_threads(threads)
    work.mkdir(parents=True, exist_ok=True)
    words, start = text.tokenizer(), None
    if warm_start:
        shipped = export.parts()
        vae, encoder, start = shipped["vae"], shipped["text_encoder"], shipped["transformer"]
        if polish_steps:
            vae = autoencoder.train(work, *rendered(work, clips), steps=polish_steps, minutes=autoencoder_minutes,
                                    times=decoder_batch, model=vae, pace=POLISHING, flicker=FLICKER)
    else:
        vae = autoencoder.train(work, *rendered(work, clips), steps=autoencoder_steps, minutes=autoencoder_minutes,
                                times=decoder_batch)
        encoder = text.train(work, steps=text_steps)
    model: Any = start
    if denoiser_steps or start is None:
        kept, covered = collect(work, vae, latents)
        model = denoiser.train(work, normalise(vae, kept, refit=start is None), covered, encoder, words,
                               steps=denoiser_steps, minutes=denoiser_minutes, size=denoiser_batch, model=start,
                               compiled=compiled)
    folder = out or EMBEDDED
    export.export(vae, model, encoder, words, folder)
    if results is not None:
        from genwm.pipelines import load

        click.echo(json.dumps(evaluate(load(folder, dtype="float32").pipe, results)))


if __name__ == "__main__":
    main()
