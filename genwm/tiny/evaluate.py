"""Does the pipeline follow its prompts, and is its motion smooth? Measured on clips and captions kept from training.

``python -m genwm.tiny.evaluate --results docs/results/tiny`` measures the shipped pipeline.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from genwm.generation import rounded
from genwm.output import atomic_output
from genwm.steadying import steadied
from genwm.temporal import steadiness
from genwm.tiny import EMBEDDED
from genwm.tiny.checks import Asked, check
from genwm.tiny.data import FPS, FRAMES, HEIGHT, HELD_OUT_FROM, WIDTH, Example, clip, example

STEPS, GUIDANCE = 16, 3.0  # as `genwm generate` takes them for this pipeline
MOTION = "flicker", "warping_error", "unsteadiness"
FIELDS = ("number", "source", "caption", "combination", "kind", "colour", "direction", "weather", "holds",
          "colour_holds", "group_holds", "direction_holds", "seconds", *MOTION)


def generated(pipe: Any, numbers: list[int], *, steps: int = STEPS, guidance: float = GUIDANCE, batch: int = 4
              ) -> Iterator[tuple[int, Any, float]]:
    """Clips, tensors ``(25, 3, 320, 512)`` in [0, 1], that a pipeline makes from the examples' captions; the seed is
    the number. With the seconds that each took."""
    import torch

    for start in range(0, len(numbers), batch):
        part = numbers[start : start + batch]
        started = time.perf_counter()
        out = pipe(prompt=[example(number).caption for number in part], width=WIDTH, height=HEIGHT, num_frames=FRAMES,
                   frame_rate=int(FPS), num_inference_steps=steps, guidance_scale=guidance, output_type="pt",
                   generator=[torch.Generator().manual_seed(number) for number in part]).frames
        seconds = (time.perf_counter() - started) / len(part)
        for number, frames in zip(part, out, strict=True):
            yield number, frames.float(), seconds


def row(number: int, source: str, frames: NDArray[np.uint8], seconds: float, *, motion: bool = True) -> dict[str, Any]:
    """What is measured on one clip; the temporal measures, which take seconds, only if ``motion``."""
    made: Example = example(number)
    first = made.scene.movers[0]
    held = check(frames, Asked(first.colour, first.kind, first.direction))
    measured = asdict(steadiness(frames)) if motion else {}
    return {
        "number": number, "source": source, "caption": made.caption,
        "combination": "new" if number % 2 == 0 else "trained", "kind": first.kind, "colour": first.colour,
        "direction": first.direction, "weather": made.scene.weather, "holds": int(held.all),
        "colour_holds": int(held.colour), "group_holds": int(held.group), "direction_holds": int(held.direction),
        "seconds": round(seconds, 2),
    } | {name: round(measured[name], 6) if motion else None for name in MOTION}  # fmt: skip


def evaluate(pipe: Any, results: Path, *, count: int = 100, compared: int = 30, **settings: Any) -> dict[str, Any]:
    """Measures what is generated from ``count`` held-out prompts, steadied as `genwm generate` does, and writes
    ``results``.csv and .json.

    For the first ``compared`` prompts it also measures the motion, and the same of the frames as they were decoded, of
    what was rendered for them (the most that the check can grant), and of that through the autoencoder. Returns the
    summary that the JSON file has.
    """
    numbers = list(range(HELD_OUT_FROM, HELD_OUT_FROM + count))
    rows = []
    for number, frames, seconds in generated(pipe, numbers, **settings):
        also = number < numbers[0] + compared
        started = time.perf_counter()
        steady = list(steadied(frames))
        seconds += time.perf_counter() - started
        rows.append(row(number, "generated", np.stack([rounded(frame) for frame in steady]), seconds, motion=also))
        if also:
            rows.append(row(number, "decoded", np.stack([rounded(frame) for frame in frames]), 0.0))
    for number in numbers[:compared]:
        frames = clip(number)[1]
        rows.append(row(number, "rendered", frames, 0.0))
        rows.append(row(number, "autoencoded", through(pipe.vae, frames), 0.0))
    summary = summarise(rows) | {"settings": {"steps": STEPS, "guidance": GUIDANCE} | settings}
    with (atomic_output(results.with_suffix(".csv"), overwrite=True) as part,
          open(part, "w", encoding="utf-8", newline="") as file):
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with atomic_output(results.with_suffix(".json"), overwrite=True) as part:
        Path(part).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def through(vae: Any, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A clip encoded and decoded."""
    from genwm.tiny.autoencoder import decoded, encoded

    clip: NDArray[np.uint8] = decoded(vae, encoded(vae, frames[None]))[0]
    return clip


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares that hold, with 95 % intervals, and medians of the temporal measures, for each source."""
    result: dict[str, Any] = {}
    for source in dict.fromkeys(one["source"] for one in rows):
        own = [one for one in rows if one["source"] == source]
        shares = {}
        for name in ("holds", "colour_holds", "group_holds", "direction_holds"):
            shares[name] = share(sum(one[name] for one in own), len(own))
        for combination in ("new", "trained"):
            some = [one["holds"] for one in own if one["combination"] == combination]
            shares[f"holds_{combination}"] = share(sum(some), len(some))
        medians = {name: float(np.median([one[name] for one in own if one[name] is not None]))
                   for name in ("seconds", *MOTION)}
        result[source] = shares | {"median": medians}
    return result


def share(hits: int, count: int) -> dict[str, float]:
    """A share with its 95 % interval (Wilson, 1927)."""
    if count == 0:
        return {"hits": 0, "of": 0, "share": math.nan, "low": 0.0, "high": 1.0}
    z, p = 1.959964, hits / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return {"hits": hits, "of": count, "share": round(p, 4), "low": round(middle - half, 4),
            "high": round(middle + half, 4)}


@click.command()
@click.option("--results", type=click.Path(path_type=Path), required=True, help="Write RESULTS.csv and RESULTS.json.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads.")
def main(results: Path, threads: int) -> None:
    """Measure the embedded pipeline on prompts that it was not trained on."""
    import torch

    from genwm.pipelines import load

    torch.set_num_threads(threads)
    click.echo(json.dumps(evaluate(load(EMBEDDED, dtype="float32").pipe, results)))


if __name__ == "__main__":
    main()
