"""What the decode hook was tried on: every video pipeline of the installed diffusers is run, counted or listed.

    python -m tests.genwm.pipelines.coverage     # runs all families; writes docs/coverage.md and its CSV

A family is run when its pipeline, built small, wrote a file whose payload reads back. A class is counted with a run one
when introspection finds the same package, the same classes of autoencoders and no other call of ``decode``. The rest is
listed with a reason. A class that is none of the three fails ``tests/genwm/test_coverage.py``.
"""

from __future__ import annotations

import csv
import inspect
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from genwm.decoding import BLENDING_PIPELINES, mark_decoder, verify_written, video_pipelines
from genwm.marking import Mark
from tests.clips import KEY, PAYLOAD
from tests.genwm.pipelines import families

ROOT = Path(__file__).parents[3]
DOCS, RESULTS = ROOT / "docs" / "coverage.md", ROOT / "docs" / "results" / "coverage.csv"
MARK = Mark(KEY, PAYLOAD, "strong")

_AFTER = "it changes or combines what was decoded, and that was not tried"
#: Neither run nor counted, and why.
UNBUILT: dict[str, str] = {
    "Cosmos3OmniPipeline": "its transformer is a language model with its tokenizer",
    "EasyAnimateControlPipeline": "it calls a method of its own to decode that diffusers 0.42 does not define",
    "LTX2DFRPipeline": _AFTER,
    "LTX2DFRTemporalRefinePipeline": _AFTER,
    "LTX2HDRPipeline": _AFTER,
    "LTX2VideoDiffusionDecodePipeline": "its decoder takes minutes on a CPU at sizes at which marks read; it is marked "
                                        "on its own in tests/genwm/test_decoding_coverage.py",
    "SanaWMPipeline": "it needs camera paths and a text model of its own",
    "TextToVideoZeroSDXLPipeline": "it needs the two text encoders of SDXL",
    **dict.fromkeys(sorted(BLENDING_PIPELINES), "refused: it decodes tiles and blends the pictures"),
}


@dataclass(frozen=True)
class Decoding:
    """How a pipeline class decodes, by introspection.

    Attributes:
        package: of diffusers.pipelines.
        autoencoders: class names that its constructor takes as ``vae``.
        calls: what it decodes with, the latent's name left out.
    """

    package: str
    autoencoders: tuple[str, ...]
    calls: frozenset[str]


@cache
def decoding_of(kind: type) -> Decoding:
    """What introspection says of a pipeline class."""
    package = kind.__module__.removeprefix("diffusers.pipelines.").rpartition(".")[0]
    hint = get_type_hints(kind.__init__).get("vae")
    vaes = tuple(sorted(one.__name__ for one in (get_args(hint) or (hint,)) if inspect.isclass(one)))
    source = "".join(inspect.getsource(base) for base in kind.__mro__ if base.__module__.startswith(kind.__module__))
    calls = re.findall(r"self\.(\w+)\.decode\(", source)
    return Decoding(package, vaes, frozenset(calls) - {"tokenizer", "audio_vae", "sound_tokenizer"})


def counted_with(kind: type, run: Mapping[str, type]) -> str | None:
    """The family that is run and decodes as ``kind`` does, the one with the most of its name in common; or None."""
    own = decoding_of(kind)
    alike = [name for name, other in run.items()
             if other is not kind and own.calls and decoding_of(other) == own]
    return max(alike, key=lambda name: (len(_common(name, kind.__name__)), name), default=None)


def _common(one: str, other: str) -> str:
    size = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:size]


@dataclass(frozen=True)
class Row:
    """One pipeline class: ``how`` is 'run', 'counted' or 'listed', ``detail`` what it is counted with, or why not."""

    pipeline: str
    package: str
    autoencoders: str
    how: str
    detail: str


def rows() -> list[Row]:
    """One for each video pipeline of the installed diffusers; KeyError for a class that is covered in no way."""
    found = video_pipelines()
    run = {name: found[name] for name in families.shown()}
    result = []
    for name, kind in sorted(found.items()):
        decoding = decoding_of(kind)
        if name in run:
            how, detail = "run", ""
        elif name in UNBUILT:
            how, detail = "listed", UNBUILT[name]
        elif (other := counted_with(kind, run)) is not None:
            how, detail = "counted", other
        else:
            raise KeyError(f"Expected {name} to be run, counted or listed, got {decoding}; add it to families.py")
        result.append(Row(name, decoding.package, ", ".join(decoding.autoencoders), how, detail))
    return result


# --- one run


def frames_of(output: Any) -> NDArray[np.uint8]:
    """The frames of a pipeline's output, ``(N, H, W, 3)`` RGB."""
    import torch

    found = next(getattr(output, name) for name in ("frames", "videos", "video", "images") if hasattr(output, name))
    clip = torch.as_tensor(np.stack([np.asarray(one) for one in found]) if isinstance(found, list) else found)
    clip = clip[0] if clip.ndim == 5 else clip
    clip = clip if clip.shape[-1] == 3 else clip.permute(0, 2, 3, 1)
    rounded = (clip.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(rounded.numpy())


def run_family(name: str, path: Path) -> dict[str, Any]:
    """Builds and runs a family, writes its clip to ``path``, reads the mark back; errors are those of its parts."""
    from genwm.video import write_video

    started = time.process_time()
    pipe, arguments = families.build(name)
    with mark_decoder(pipe, MARK) as hook:
        frames = frames_of(pipe(**arguments))
    write_video(path, frames, fps=8, crf=16, threads=1)
    found = verify_written(path, MARK)
    return {"pipeline": name, "frames": len(frames), "size": f"{frames.shape[2]}x{frames.shape[1]}",
            "frames_marked": hook.frames_marked, "payload": f"{found.payload:016x}", "log10_p": round(found.log10_p),
            "cpu_s": round(time.process_time() - started, 1)}  # fmt: skip


# --- the table


def table(listed: Sequence[Row], measured: Mapping[str, Mapping[str, str]], version: str) -> str:
    """The text of docs/coverage.md."""
    counts = {how: sum(row.how == how for row in listed) for how in ("run", "counted", "listed")}
    lines = [
        "# What the decode hook covers", "",
        f"Written by `python -m tests.genwm.pipelines.coverage` for diffusers {version}; "
        "`tests/genwm/test_coverage.py` fails when a video pipeline of the installed diffusers is missing here.", "",
        f"Of {len(listed)} video pipeline classes {counts['run']} are *run*: built small from configuration, with "
        "random weights, and run through their own call with the hook on; the clip is written as H.264 at CRF 16, and "
        f"the payload of strength 'strong' reads back from the file. {counts['counted']} are *counted* with a class "
        "that is run: same package, same autoencoder classes, decoded by the same parts. "
        f"{counts['listed']} are *listed* with the reason why they are neither.",
        "Prompts are random embeddings where the pipeline takes such. Each autoencoder class is also marked on its "
        "own, tiled, sliced and in batches with one payload each: `tests/genwm/test_decoding_coverage.py`.", "",
        "| pipeline | autoencoder | how | frames, size | log10 p |", "|---|---|---|---|---|",
    ]
    for row in listed:
        found = measured.get(row.pipeline)
        how = {"run": "run", "counted": f"with {row.detail}", "listed": f"not run: {row.detail}"}[row.how]
        facts = f"{found['frames']}, {found['size']} | {found['log10_p']}" if found and row.how == "run" else " | "
        lines.append(f"| {row.pipeline} | {row.autoencoders} | {how} | {facts} |")
    return "\n".join(lines) + "\n"


def measured() -> dict[str, dict[str, str]]:
    """The rows of the results file, by pipeline."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return {row["pipeline"]: row for row in csv.DictReader(file)}


def main() -> None:
    import tempfile
    import warnings

    import diffusers
    import torch

    warnings.simplefilter("ignore")  # diffusers warns of its own plans
    torch.set_num_threads(1)
    listed = rows()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for row in listed:
            if row.how == "run":
                results.append(run_family(row.pipeline, Path(folder) / "clip.mp4"))
                print(results[-1], file=sys.stderr, flush=True)
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(results[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)
    DOCS.write_text(table(listed, measured(), diffusers.__version__), encoding="utf-8")


if __name__ == "__main__":
    main()
