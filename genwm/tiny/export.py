"""The parts as one folder in diffusers' format, in half precision, in files of at most 15 MB."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXPipeline, LTXVideoTransformer3DModel
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from genwm.errors import InputError
from genwm.tiny import EMBEDDED

MANIFEST = "manifest.json"


def export(vae: AutoencoderKLLTXVideo, denoiser: LTXVideoTransformer3DModel, encoder: T5EncoderModel,
           words: PreTrainedTokenizerFast, folder: Path = EMBEDDED, *, shift: float = 1.0) -> None:
    """Writes the pipeline and ``manifest.json``, the SHA-256 of each file. ``shift`` > 1 spends more of the steps at
    high noise.

    Raises:
        InputError: a weight that half precision cannot hold.
    """
    for part in (vae, denoiser, encoder):
        for name, value in part.named_parameters():
            if not torch.isfinite(value.half()).all():
                raise InputError(f"Expected weights of at most 65504 in {name} of {type(part).__name__}, got "
                                 f"{float(value.abs().max()):g}; scale that layer down.")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    pipe = LTXPipeline(scheduler, vae, encoder, words, denoiser)
    for part in (vae, denoiser, encoder):
        part.to("cpu", torch.float16)
    # The old folder stays until the new one is whole.
    written = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(written, ignore_errors=True)
    pipe.save_pretrained(written, max_shard_size="15MB")
    for part in (vae, denoiser, encoder):
        part.to(torch.float32)
    for config in written.glob("*/config.json"):
        _forget_origin(config)
    (written / MANIFEST).write_text(json.dumps(digests(written), indent=2) + "\n", encoding="utf-8")
    if folder.is_dir():
        shutil.rmtree(folder)
    written.rename(folder)


def _forget_origin(config: Path) -> None:
    """Takes the folder that a part was loaded from, a path of the machine that trained it, out of its configuration."""
    values = json.loads(config.read_text(encoding="utf-8"))
    if values.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def digests(folder: Path = EMBEDDED) -> dict[str, str]:
    """SHA-256 of every file of a folder but the manifest itself, by relative path."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST}


def parts(folder: Path = EMBEDDED) -> dict[str, Any]:
    """The parts of a written folder in single precision, to train on: ``vae``, ``transformer``, ``text_encoder``,
    ``tokenizer``."""
    return {
        "vae": AutoencoderKLLTXVideo.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        "transformer": LTXVideoTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
        "text_encoder": T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        "tokenizer": PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
    }
