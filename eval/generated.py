"""Whether the payload of what pipelines generate survives: H.264 at CRF 30 and a random cut to .71 of each side.

    python -m eval.generated [--out docs/results/generated.csv] [--cpu-minutes 30] [--family NAME]

Every family of video pipelines that docs/coverage.md runs is built small from configuration with random weights, as the
tests build it, and makes a clip of 480 x 480 and 49 frames (the smallest of "480 lines or more, 49 frames or more")
with the decode hook on. The file is written as ``genwm generate`` writes it, cut at random places and encoded again,
and each copy is read blind: with the key alone. A row is one pipeline with one content:

* ``random weights``: what the pipeline makes, which is noise and texture, for it has learned nothing;
* ``scene``: the same run, but the decoder puts out a drawn moving scene (genwm.scenes), in its own tensor layout and
  value range, in place of its noise; the hook and what the pipeline does after it are the same;
* ``trained weights``: the pipeline that comes with genwm, at the nearest size that it makes, 512 x 512.

Cheap families come first. The same command goes on after a kill; an error is a row. Needs a checkout, for the families
are those of ``tests/``.
"""

from __future__ import annotations

import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass, fields
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from eval.attacks import Clip
from eval.attacks.geometry import crop
from eval.attacks.making import edited
from eval.commands.telling import check_table, told
from eval.tables import append, failure, prepare, put, read, rewrite, versions
from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.errors import InputError
from genwm.keys import Key
from genwm.marking import Mark

OUT = Path("docs/results/generated.csv")
SIDE, FRAMES, FPS = 480, 49, 16
KEPT, CRF, CUTS = 0.71, 30, 5
EMBEDDED = "embedded"
EMBEDDED_SIDE = 512  # 480 is no multiple of its 64
PROMPT = "a red car drives to the right on a sunny day"
_ATTACK = edited(f"crop.{KEPT:g}", crop(KEPT), f"cropped to {KEPT:g} of each side", kind="geometry", crf=CRF)

#: Families whose scheduler divides by half of its steps.
_NEED_TWO_STEPS = {"MochiPipeline"}
_LIBRARIES = ("torch", "diffusers", "av", "numpy")

Content = Literal["random weights", "scene", "trained weights"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pipeline with one content; the columns of the CSV file.

    Attributes:
        pipeline: class of diffusers; ``embedded`` is the one that comes with genwm.
        autoencoder: the classes that it can take.
        content: see the module.
        strength: of the mark.
        width, height, frames: of the generated file.
        kbps: of the generated file, 1000 bits a second.
        log10_p: of the generated file as it was written, read back with the key.
        cuts: copies that were cut and encoded.
        exact: how many of them gave back all 64 bits.
        detected: how many of them gave a detection.
        worst_log10_p: the weakest of their readings.
        cut_kbps: mean rate of the copies.
        cpu_s: of all of it.
        error: code and sentence, empty where there is none.
    """

    pipeline: str
    autoencoder: str
    content: str
    strength: str = "balanced"
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    kbps: int | None = None
    log10_p: float | None = None
    cuts: int | None = None
    exact: int | None = None
    detected: int | None = None
    worst_log10_p: float | None = None
    cut_kbps: int | None = None
    cpu_s: float | None = None
    error: str = ""
    versions: str = ""
    command: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


@click.command()
@click.option("--out", default=OUT, show_default=True, type=click.Path(path_type=Path), help="CSV file; continued.")
@click.option("--cpu-minutes", default=30.0, show_default=True, type=Number(0), help="Begin no row after.")
@click.option("--memory-gb", default=10.0, show_default=True, type=Number(1), help="More is an error's row.")
@click.option("--family", "only", multiple=True, help="Only this pipeline; may be given again.")
@click.option("--retry-errors", is_flag=True, help="Run again what ended in an error.")
@click.option("--summary-only", is_flag=True, help="Run nothing: write the table of --out again.")
@told
def generated(
    out: Path, cpu_minutes: float, memory_gb: float, only: tuple[str, ...], retry_errors: bool, summary_only: bool
) -> None:
    """Generate marked clips through every family of pipelines, cut and re-encode them, read them blind.

    Writes a CSV file and a table (.md) beside it.
    """
    check_table(out, ".md")
    rows = _rows(out, keep_errors=not retry_errors)
    if not summary_only:
        _limit_memory(memory_gb)
        done = {(row["pipeline"], row["content"]) for row in rows}
        for pipeline, autoencoder, content in _jobs(only):
            if (pipeline, content) in done:
                continue
            if time.process_time() > 60 * cpu_minutes:
                say(f"stopped after {cpu_minutes:g} CPU minutes; the same command goes on")
                break
            row = measure(pipeline, autoencoder, content)
            append(out, [astuple(row)])
            say(f"{pipeline}, {content}: {row.error or f'{row.exact} of {row.cuts} exact'}, {row.cpu_s} s")
    put(out.with_suffix(".md"), markdown(_rows(out, keep_errors=True)))


def measure(pipeline: str, autoencoder: str, content: Content) -> Row:
    """Generates, attacks and reads: one row, whatever happens."""
    started = time.process_time()
    key = Key("measured", hashlib.sha256(b"eval.generated").digest(), "2026-01-01T00:00:00+00:00")
    payload = int.from_bytes(hashlib.sha256(f"{pipeline} {content}".encode()).digest()[:8], "big")
    mark = Mark(key, payload)
    found: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            if pipeline == EMBEDDED:
                _generate_embedded(path, mark)
            else:
                _generate(pipeline, content, path, mark)
            found = _attacked(path, mark)
    except Exception as error:
        found = {"error": ": ".join(failure(error, limit=200))}
    return Row(pipeline=pipeline, autoencoder=autoencoder, content=content, **found, versions=versions(*_LIBRARIES),
               cpu_s=round(time.process_time() - started, 1), command=f"python -m eval.generated --family {pipeline}")


def _attacked(path: Path, mark: Mark) -> dict[str, Any]:
    """Cuts, encodes and reads the written file ``CUTS`` times: cells of the row."""
    from detectors.watermark import read_watermark
    from genwm.decoding import verify_written
    from genwm.video import probe, read_planes

    info = probe(path)
    written = verify_written(path, mark)
    clip = Clip(list(read_planes(path, threads=1)), Fraction(FPS))
    seconds = len(clip.frames) / FPS
    readings, sizes = [], []
    for number in range(CUTS):
        file = _ATTACK.apply(clip, np.random.default_rng([number, mark.payload]))
        sizes.append(len(file.getbuffer()))
        readings.append(read_watermark(file, keys=[mark.key], threads=1))
    return {
        "width": info.width, "height": info.height, "frames": len(clip.frames),
        "kbps": round(8 * path.stat().st_size / seconds / 1000), "log10_p": round(float(written.log10_p), 1),
        "cuts": CUTS, "exact": sum(reading.payload == mark.payload for reading in readings),
        "detected": sum(reading.status == "detected" for reading in readings),
        "worst_log10_p": round(max(float(reading.log10_p) for reading in readings), 1),
        "cut_kbps": round(8 * np.mean(sizes) / seconds / 1000),
    }  # fmt: skip


# --- the clips


def _jobs(only: tuple[str, ...]) -> Iterator[tuple[str, str, Content]]:
    """Pipeline, autoencoder and content: one pipeline for each autoencoder first, and the cheap before the dear."""
    coverage = _from_tests("coverage")
    listed = [row for row in coverage.rows() if row.how == "run"]
    names = [EMBEDDED, *(row.pipeline for row in listed)]
    if missing := sorted(set(only) - set(names)):
        raise InputError(f"Expected families among {', '.join(names)}, got {', '.join(missing)}; check the name.")
    measured = coverage.measured()

    def cost(row: Any) -> float:
        return float(measured[row.pipeline]["cpu_s"]) / int(measured[row.pipeline]["frames"])

    turns: dict[str, int] = {}
    order = []
    for row in sorted(listed, key=cost):
        turn = turns[row.autoencoders] = turns.get(row.autoencoders, 0) + 1
        order.append((turn, cost(row), row.pipeline, row.autoencoders))
    if not only or EMBEDDED in only:
        yield EMBEDDED, "AutoencoderKLLTXVideo", "trained weights"
    for _, _, pipeline, autoencoder in sorted(order):
        if not only or pipeline in only:
            yield pipeline, autoencoder, "random weights"
            yield pipeline, autoencoder, "scene"


def _from_tests(name: str) -> Any:
    """A module of tests/genwm/pipelines."""
    try:
        return import_module(f"tests.genwm.pipelines.{name}")
    except ModuleNotFoundError as error:
        raise InputError(f"Expected the families of tests/genwm/pipelines, got no module {error.name}; run this in a "
                         "checkout with genwm[generate] installed.") from None


def _generate(family: str, content: Content, path: Path, mark: Mark) -> None:
    """Runs a family's own pipeline with the hook on, and writes its clip."""
    from genwm.decoding import mark_decoder

    pipe, arguments = _from_tests("families").build(family)
    arguments = _longer(family, arguments)
    denoiser = getattr(pipe, "transformer", None)
    if denoiser is not None and "video_length" in denoiser.config:  # Latte's is built for one length
        pipe.transformer = type(denoiser).from_config({**denoiser.config, "video_length": FRAMES}).eval()
    decoder: AbstractContextManager[None] = _drawing(pipe.vae) if content == "scene" else nullcontext()
    with decoder, mark_decoder(pipe, mark):
        frames = _from_tests("coverage").frames_of(pipe(**arguments))
    _write(path, frames)


def _longer(family: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a family's short run at the size and length that are measured, in one step where one will do."""
    from genwm.pipelines import FRAME_COUNTS

    changed: dict[str, Any] = {"width": SIDE, "height": SIDE}
    changed |= {name: FRAMES for name in FRAME_COUNTS if name in arguments}
    if arguments["num_inference_steps"] == 2 and family not in _NEED_TWO_STEPS:
        changed["num_inference_steps"] = 1
    if "video" in arguments:
        changed["video"] = [arguments["video"][0].resize((SIDE, SIDE))] * FRAMES
    return {**arguments, **changed}


@contextmanager
def _drawing(vae: Any) -> Iterator[None]:
    """For the block, what ``vae`` decodes is overwritten by the next frames of a drawn scene."""
    import torch

    from genwm.decoding import LAYOUTS
    from genwm.latents import replaced
    from genwm.scenes import scene

    layout, decode = LAYOUTS[type(vae).__name__], vae.decode
    shown = 0

    def drawn(*args: Any, **kwargs: Any) -> Any:
        nonlocal shown
        result = decode(*args, **kwargs)
        pictures = layout.arranged(result if isinstance(result, torch.Tensor) else result[0])
        video = pictures if layout.video else pictures.transpose(0, 1)[None]
        count, height, width = video.shape[2:]
        clip = torch.from_numpy(scene(width, height, shown + count)[shown:]).permute(3, 0, 1, 2).float() / 255
        offset, scale = (torch.tensor(values).view(3, 1, 1, 1) for values in (layout.offset, layout.scale))
        video.copy_((clip - offset) / scale)
        shown += count
        return result

    with replaced(vae, "decode", drawn):
        yield


def _write(path: Path, frames: Any) -> None:
    """As ``genwm generate`` writes by default."""
    from genwm.video import write_video
    from genwm.video.encoding import encoder_for

    write_video(path, frames, fps=FPS, codec="h264", crf=encoder_for("h264").faithful, threads=1)


def _generate_embedded(path: Path, mark: Mark) -> None:
    from genwm.generation import Request, generate
    from genwm.pipelines import load
    from genwm.tiny import EMBEDDED as FOLDER

    request = Request(prompt=PROMPT, width=EMBEDDED_SIDE, height=EMBEDDED_SIDE, frames=FRAMES, steps=16, seed=1)
    _write(path, generate(load(FOLDER, device="cpu"), request, mark).frames)


def _limit_memory(gigabytes: float) -> None:
    """So that a family that needs more than there is ends in an error, not in the end of this process or another."""
    import torch

    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    resource.setrlimit(resource.RLIMIT_DATA, (int(gigabytes * 1e9), resource.getrlimit(resource.RLIMIT_DATA)[1]))


# --- the table


def _rows(out: Path, *, keep_errors: bool) -> list[dict[str, str]]:
    """The rows of ``out``, which is made where it is missing; without errors, they are taken out of the file."""
    refusal = InputError(f"Expected a table of generated clips in {out}, got another; choose another --out.")
    rows = list(read(out, COLUMNS, refusal=refusal) or ())
    prepare(out, COLUMNS)
    if keep_errors or not any(row["error"] for row in rows):
        return rows
    rows = [row for row in rows if not row["error"]]
    rewrite(out, COLUMNS, (row.values() for row in rows))
    return rows


def markdown(rows: list[dict[str, str]]) -> str:
    """The table of the results file, and what it adds up to."""
    good = [row for row in rows if not row["error"]]

    def sums(kept: Callable[[dict[str, str]], bool]) -> str:
        chosen = [row for row in good if kept(row)]
        exact, cuts = (sum(int(row[name]) for row in chosen) for name in ("exact", "cuts"))
        whole = sum(row["exact"] == row["cuts"] for row in chosen)
        return f"{exact} of {cuts} copies exact; {whole} of {len(chosen)} clips in every copy"

    lines = [
        "# Payload of generated clips after a cut and H.264", "",
        "Written by `python -m eval.generated`. Each clip is made with the decode hook on (strength balanced), written "
        f"as `genwm generate` writes it, cut to {KEPT:g} of each side at {CUTS} random places, encoded as H.264 at CRF "
        f"{CRF}, and read blind. *Random weights*: noise that an untrained pipeline makes. *Scene*: a drawn moving "
        "scene in the decoder's output instead. *Trained weights*: the pipeline that comes with genwm.", "",
        *(f"* {content}: {sums(lambda row, content=content: row['content'] == content)}"  # type: ignore[misc]
          for content in dict.fromkeys(row["content"] for row in good)),
        f"* errors: {len(rows) - len(good)}", "",
        "| pipeline | autoencoder | content | frames, size | kbit/s | exact | weakest log10 p |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["pipeline"], row["content"])):
        facts = (f"{row['frames']}, {row['width']}x{row['height']} | {row['kbps']}, {row['cut_kbps']} cut | "
                 f"{row['exact']} of {row['cuts']} | {row['worst_log10_p']}")
        lines.append(f"| {row['pipeline']} | {row['autoencoder']} | {row['content']} | "
                     f"{row['error'] + ' | | | ' if row['error'] else facts} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    generated()
