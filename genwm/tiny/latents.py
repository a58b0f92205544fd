"""The training clips as latents, kept in one file with their mean and deviation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo
from numpy.typing import NDArray

from genwm.tiny import autoencoder
from genwm.tiny.data import FRAMES, HEIGHT, WIDTH, clips, opened
from genwm.tiny.scenes import Box

_SHAPE = autoencoder.LATENT_CHANNELS, 1 + (FRAMES - 1) // autoencoder.GROUP, HEIGHT // autoencoder.CELL, \
    WIDTH // autoencoder.CELL


def collect(work: Path, vae: AutoencoderKLLTXVideo, count: int) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Of the training clips 0 to count - 1: latents ``(count, C, f, h, w)`` as the encoder gives them, and the share of
    each latent's pixels that objects cover, ``(count, f, h, w)`` in [0, 1]. Goes on where it stopped."""
    kept = opened(work / "latents.npy", np.float16, (count, *_SHAPE))
    covered = opened(work / "covered.npy", np.float16, (count, *_SHAPE[1:]))
    encoder = autoencoder.thin(vae)
    for number, pictures, boxes in clips([number for number in range(count) if not kept[number].any()]):
        covered[number] = cover(boxes)
        kept[number] = autoencoder.encoded(encoder, pictures[None])[0].numpy()
    kept.flush()
    covered.flush()
    return np.asarray(kept), np.asarray(covered)


def cover(boxes: list[list[Box]]) -> NDArray[np.float32]:
    """The share of each latent's pixels ``(f, h, w)``, in the frame where it is largest, that boxes cover."""
    shares = np.zeros((len(boxes), *_SHAPE[2:]), np.float32)
    for time, found in enumerate(boxes):
        for box in found:
            rows, columns = (np.clip((np.asarray(high) - np.arange(count) * autoencoder.CELL) / autoencoder.CELL, 0, 1)
                             - np.clip((np.asarray(low) - np.arange(count) * autoencoder.CELL) / autoencoder.CELL, 0, 1)
                             for low, high, count in ((box.y0, box.y1, _SHAPE[2]), (box.x0, box.x1, _SHAPE[3])))
            shares[time] = np.maximum(shares[time], rows[:, None] * columns)
    later = shares[1:].reshape(-1, autoencoder.GROUP, *_SHAPE[2:]).max(1)
    return np.concatenate([shares[:1], later])


def normalise(vae: AutoencoderKLLTXVideo, latents: NDArray[np.float16], *, refit: bool = True) -> NDArray[np.float16]:
    """Puts each channel's mean and scale into the autoencoder, where pipelines look for them, and returns the latents
    at that scale. ``refit`` False uses what is there.

    One scale brings the mean square of all to 1: `components.fit` has evened out the channels as far as it should.
    """
    if refit:
        values = torch.from_numpy(latents).float().transpose(0, 1).flatten(1)
        vae.latents_mean.copy_(values.mean(1))
        vae.latents_std.fill_(float(values.var(1).mean().sqrt()))
    shape = 1, -1, 1, 1, 1
    mean, divisor = vae.latents_mean.cpu().numpy().reshape(shape), vae.latents_std.cpu().numpy().reshape(shape)
    return np.asarray((latents - mean) / divisor, np.float16)
