"""The denoiser: a small transformer over the latents of a whole clip, trained by flow matching.

A sample at level s in (0, 1) is x = (1 - s) latent + s noise; the network tells noise - latent (Lipman et al., ICLR
2023).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LTXVideoTransformer3DModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from genwm.tiny import text, training
from genwm.tiny.autoencoder import CELL, GROUP, LATENT_CHANNELS
from genwm.tiny.data import FPS, example
from genwm.tiny.scenes import caption

HEADS, HEAD_WIDTH, LAYERS = 6, 32, 6
CAPTION = 32  # tokens that captions are padded to: more than the longest has
MUON_RATE, ADAM_RATE = 3e-3, 2e-3
DECAY = 0.998
FOCUS = 6.0  # weight of the error where an object covers a latent whole, on top of 1
UNCONDITIONAL = 0.1  # share of samples that see no caption, for classifier-free guidance
CONTINUED = 0.2  # share of batches in which the first latent frames are given, for image- and video-to-video
_ROPE_BASE, _ROPE_THETA = (20.0, 2048.0, 2048.0), 10000.0  # as LTXVideoTransformer3DModel has them
#: Where the heads of the first blocks look before training, in latent frames, rows and columns.
_NEIGHBOURS = ((0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1), (-1, 0, 0), (1, 0, 0))


def build(seed: int = 0, *, heads: int = HEADS, layers: int = LAYERS, caption_width: int = text.WIDTH,
          channels: int = LATENT_CHANNELS) -> LTXVideoTransformer3DModel:
    """An untrained denoiser."""
    torch.manual_seed(seed)
    width = heads * HEAD_WIDTH
    model = LTXVideoTransformer3DModel(
        in_channels=channels, out_channels=channels, num_attention_heads=heads, attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=width, num_layers=layers, caption_channels=caption_width,
    )
    with torch.no_grad():
        model.proj_out.weight.zero_()
        model.proj_out.bias.zero_()
        for place, block in enumerate(model.transformer_blocks):
            block.scale_shift_table[2] += 0.5
            block.scale_shift_table[5] += 0.5
            if place < 3:
                _look_around(block.attn1, width, place * heads)
    return model


def _look_around(attention: torch.nn.Module, width: int, first: int) -> None:
    """Biases queries and keys so that each head begins by looking at one neighbour.

    The model knows of positions by rotary embeddings alone, so only of differences between them. With heads that miss
    their neighbour at the borders, it sees from the first step where the picture ends, and soon where everything is.
    """
    count = width // 6
    frequencies = _ROPE_THETA ** torch.linspace(0, 1, count) * math.pi
    steps = torch.tensor((GROUP / FPS / _ROPE_BASE[0], CELL / _ROPE_BASE[1], CELL / _ROPE_BASE[2]))
    key = 2.5 * torch.randn(width).sign()
    pairs = key.view(-1, 2)
    query = torch.empty_like(pairs)
    for head in range(width // HEAD_WIDTH):
        offset = torch.tensor(_NEIGHBOURS[(first + head) % len(_NEIGHBOURS)])
        angles = (frequencies[:, None] * (offset * steps)[None]).flatten()
        angles = torch.cat([torch.zeros(width // 2 - len(angles)), angles])
        own = slice(head * HEAD_WIDTH // 2, (head + 1) * HEAD_WIDTH // 2)
        cos, sin = angles[own].cos(), angles[own].sin()
        query[own, 0] = pairs[own, 0] * cos - pairs[own, 1] * sin
        query[own, 1] = pairs[own, 1] * cos + pairs[own, 0] * sin
    attention.to_q.bias.copy_(query.flatten())
    attention.to_k.bias.copy_(key)


def train(work: Path, latents: NDArray[np.float16], covered: NDArray[np.float16], encoder: T5EncoderModel,
          words: PreTrainedTokenizerFast, *, steps: int, size: int, seed: int = 3, minutes: float = math.inf,
          model: LTXVideoTransformer3DModel | None = None, compiled: bool = False) -> LTXVideoTransformer3DModel:
    """Trains on normalised latents ``(N, C, f, h, w)`` of the training clips 0 to N - 1 and the share of each that
    objects cover ``(N, f, h, w)``, ``size`` clips a step, or goes on with what is in ``work``. Returns the averaged
    weights.

    ``compiled``: by torch.compile, which asks for a C++ compiler and gives back its two minutes in the first hour."""
    where = training.device()
    denoiser = (model or build(seed, caption_width=encoder.config.d_model, channels=latents.shape[1])).to(where).train()
    optimiser = training.Both(denoiser, lambda name, value: "transformer_blocks" in name and "table" not in name,
                              MUON_RATE, lambda value: ADAM_RATE)
    average = training.Average(denoiser, DECAY)
    forward: Any = torch.compile(denoiser) if compiled else denoiser
    scenes = [example(number).scene for number in range(len(latents))]

    def step(number: int, progress: float) -> dict[str, float]:
        rng = np.random.default_rng([seed, number])
        torch.manual_seed(number)
        chosen = rng.integers(len(latents), size=size)
        clean = torch.from_numpy(latents[chosen]).float().flatten(2).transpose(1, 2).to(where)
        texts = ["" if rng.random() < UNCONDITIONAL else caption(scenes[one], rng) for one in chosen]
        with torch.no_grad():
            hidden, mask = text.outputs(encoder, words, texts, masked=bool(number % 2), length=CAPTION)
        given = int(rng.integers(1, latents.shape[2])) if rng.random() < CONTINUED else 0
        known = given * latents.shape[3] * latents.shape[4]
        levels = _levels(rng, size)[:, None].to(where)
        if given:
            levels = levels.repeat(1, clean.shape[1])
            levels[:, :known] = 0
        noise = torch.randn(clean.shape).to(where)
        spread = levels[..., None]
        # Of the kernels for attention this one is the fastest with so few tokens on a CPU, backwards above all.
        with torch.autocast(where.type, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            out = forward((1 - spread) * clean + spread * noise, hidden, 1000 * levels, mask,
                          video_coords=coordinates(latents.shape[2:], size, from_pixels=bool(given)).to(where),
                          return_dict=False)[0]
        # Backdrops are few and soon known; what a prompt speaks of is small.
        weight = 1 + FOCUS * torch.from_numpy(covered[chosen]).float().flatten(1)[:, known:, None].to(where)
        error = (out.float() - (noise - clean))[:, known:].square()
        loss = (weight * error).mean() / weight.mean()
        loss.backward()
        optimiser.step(training.rate(number, progress, warm_up=50))
        average.update()
        return {"loss": float(loss.detach())}

    parts = {"model": denoiser, "optimiser": optimiser, "average": average}
    training.run(work / "denoiser.pt", parts, steps, step, minutes=minutes)
    average.apply()
    return denoiser.eval()


def _levels(rng: np.random.Generator, size: int) -> Tensor:
    """Noise levels, more of them in the middle (logit-normal; Esser et al., ICML 2024) and some everywhere."""
    middle = 1 / (1 + np.exp(-rng.normal(0.3, 1.0, size)))
    return torch.from_numpy(np.where(rng.random(size) < 0.7, middle, rng.random(size)).astype(np.float32))


def coordinates(shape: tuple[int, ...], size: int, *, from_pixels: bool) -> Tensor:
    """Seconds and pixels ``(B, 3, tokens)`` of latents of ``shape`` (f, h, w), as the pipelines tell them to the model.

    LTXPipeline counts latent frames (``from_pixels`` False); LTXConditionPipeline the frames that they stand for,
    of which the first latent frame has one.
    """
    scales = zip(shape, (GROUP, CELL, CELL), strict=True)
    axes = [torch.arange(count, dtype=torch.float32) * scale for count, scale in scales]
    if from_pixels:
        axes[0] = (axes[0] + 1 - GROUP).clamp(min=0)
    axes[0] = axes[0] / FPS
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    return grid[None].repeat(size, 1, 1)
