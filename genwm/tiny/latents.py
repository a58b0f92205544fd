"""The training clips as latents, kept in one file with their mean and deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo
from numpy.typing import NDArray

from genwm.tiny import autoencoder
from genwm.tiny.data import FRAMES, HEIGHT, WIDTH, clip

_SHAPE = autoencoder.LATENT_CHANNELS, 1 + (FRAMES - 1) // autoencoder.GROUP, HEIGHT // autoencoder.CELL, \
    WIDTH // autoencoder.CELL


def collect(work: Path, vae: AutoencoderKLLTXVideo, count: int, frames: NDArray[np.uint8] | None = None
            ) -> NDArray[np.float16]:
    """Latents ``(count, C, f, h, w)`` of the training clips 0 to count - 1, as the encoder gives them; goes on where it
    stopped. ``frames``: the first of the clips, where they are at hand."""
    done = 0 if frames is None else len(frames)
    path = work / "latents.npy"
    if path.is_file():
        kept = np.lib.format.open_memmap(path, mode="r+")
    else:
        kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(count, *_SHAPE))
    for number in range(count):
        if not kept[number].any():
            pictures = frames[number] if frames is not None and number < done else clip(number)[1]
            kept[number] = autoencoder.encoded(vae, np.asarray(pictures)[None])[0].numpy()
    kept.flush()
    return np.asarray(kept)


def normalise(vae: AutoencoderKLLTXVideo, latents: NDArray[np.float16], *, refit: bool = True) -> NDArray[np.float16]:
    """Puts each channel's mean and scale into the autoencoder, where pipelines look for them, and returns the latents
    at that scale. ``refit`` False uses what is there.

    The scale is the root of the channel's deviation, times what brings the mean square of all to 1: channels that say
    much of the picture stay stronger than those that say little, as in pixels, but less so.
    """
    if refit:
        values = torch.from_numpy(latents).float().transpose(0, 1).flatten(1)
        deviation = values.std(1).clamp(min=1e-3)
        scale = deviation.sqrt()
        vae.latents_mean.copy_(values.mean(1))
        vae.latents_std.copy_(scale * (deviation / scale).square().mean().sqrt())
    shape = 1, -1, 1, 1, 1
    mean, divisor = vae.latents_mean.cpu().numpy().reshape(shape), vae.latents_std.cpu().numpy().reshape(shape)
    return np.asarray((latents - mean) / divisor, np.float16)
