"""The video autoencoder: 64 x 64 pixels x 8 frames to one vector, by causal convolutions in space and time."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from genwm.tiny import components, training

LATENT_CHANNELS = 64
CELL, GROUP = 64, 8  # pixels and frames that one latent vector stands for
#: Of the residual blocks; of the other weights, divided by the inputs that each sums up, for else one step of a wide
#: convolution moves its output by as much as the picture; of biases.
MUON_RATE, ADAM_RATE, BIAS_RATE = 5e-4, 4e-3, 1.2e-4
FITTED_ON = 150  # clips
DECAY = 0.995  # of the average of the decoder's weights, which is what is kept
NOISE = 0.05  # on the latents, whose root mean square is about 1, for the denoiser will not be exact
STILL = 0.01  # second difference in time up to which a place counts as still
#: Frames, height and width in cells, batch: most steps see small windows, whole clips come last.
WINDOWS = ((9, 3, 3, 2), (17, 3, 3, 1), (25, 5, 8, 1))


def build(seed: int = 0, *, widths: tuple[int, int, int, int] = (48, 128, 256, 256), channels: int = LATENT_CHANNELS,
          width: int = 256, layers: tuple[int, int, int, int] = (1, 1, 1, 1)) -> AutoencoderKLLTXVideo:
    """An untrained autoencoder.

    Args:
        widths: channels of the encoder from the finest level to the coarsest; it has no residual blocks.
        channels: of the latents;  width: of the decoder's coarsest level, where capacity costs little time; each finer
            level has half.
        layers: residual blocks of the decoder from the finest level to the coarsest.
    """
    torch.manual_seed(seed)
    levels = len(widths) - 1
    yes, no = (True,) * levels, (False,) * (levels + 1)
    return AutoencoderKLLTXVideo(
        latent_channels=channels, patch_size=CELL >> levels,
        block_out_channels=widths, down_block_types=("LTXVideo095DownBlock3D",) * levels,
        downsample_type=("spatiotemporal",) * levels, layers_per_block=(0,) * (levels + 1),
        spatio_temporal_scaling=yes, encoder_causal=True,
        decoder_block_out_channels=tuple(width >> level for level in reversed(range(levels))),
        decoder_layers_per_block=layers, decoder_spatio_temporal_scaling=yes, decoder_inject_noise=no,
        upsample_residual=(False,) * levels, upsample_factor=(2,) * levels, decoder_causal=False,
    )  # fmt: skip


def train(work: Path, frames: NDArray[np.uint8], boxes: NDArray[np.float32], *, steps: int, seed: int = 1,
          minutes: float = math.inf, times: int = 1, model: AutoencoderKLLTXVideo | None = None, pace: float = 1.0,
          flicker: float = 0.0) -> AutoencoderKLLTXVideo:
    """Fits the components and trains the decoder on clips and boxes as from `data.rendered`, or goes on with what is in
    ``work``; on ``times`` as many windows at once as `WINDOWS` says, at ``pace`` times the learning rates, with
    ``flicker`` as the weight of that loss. The encoder stays linear, so that latents can be collected before the
    decoder is done."""
    where = training.device()
    vae = model or fitted(work, frames, seed)
    vae.encoder.requires_grad_(False)
    vae = vae.to(where).train()
    optimiser = training.Both(vae.decoder, lambda name, value: "resnets" in name, MUON_RATE,
                              lambda value: ADAM_RATE / value[0].numel() if value.ndim > 1 else BIAS_RATE)
    average = training.Average(vae.decoder, DECAY)

    def step(number: int, progress: float) -> dict[str, float]:
        rng = np.random.default_rng([seed, number])
        torch.manual_seed(number)
        pictures, weights = batch(rng, frames, boxes, progress, times)
        pictures, weights = pictures.to(where), weights.to(where)
        with torch.no_grad():
            latents = vae.encode(pictures).latent_dist.mean
            latents = latents + NOISE * torch.randn_like(latents)
        with torch.autocast(where.type, torch.bfloat16):
            out = vae.decode(latents).sample
        parts = losses(out.float(), pictures, weights, flicker)
        torch.stack(list(parts.values())).sum().backward()
        optimiser.step(pace * training.rate(number, progress, warm_up=50, fall=0.5))
        average.update()
        return {name: float(value.detach()) for name, value in parts.items()}

    parts = {"model": vae, "optimiser": optimiser, "average": average}
    training.run(work / "autoencoder.pt", parts, steps, step, minutes=minutes)
    average.apply()
    return vae.eval()


def fitted(work: Path, frames: NDArray[np.uint8], seed: int = 0) -> AutoencoderKLLTXVideo:
    """The autoencoder of components alone, from ``work`` or made anew."""
    path = work / "components"
    if not path.is_dir():
        vae = build(seed)
        components.fit(vae, frames[:FITTED_ON])
        vae.save_pretrained(path)
    return AutoencoderKLLTXVideo.from_pretrained(path)


def batch(rng: np.random.Generator, frames: NDArray[np.uint8], boxes: NDArray[np.float32], progress: float,
          times: int = 1) -> tuple[Tensor, Tensor]:
    """Windows of clips ``(B, 3, T, H, W)`` in [-1, 1], and the weight of each pixel ``(B, 1, T, H, W)``: more on what
    moves. Most windows contain some of it."""
    shares = (0.9, 0.1, 0.0) if progress < 0.6 else (0.5, 0.4, 0.1)
    length, rows, columns, size = WINDOWS[int(rng.choice(3, p=shares))]
    length = min(length, frames.shape[1])
    rows, columns = min(rows, frames.shape[2] // CELL), min(columns, frames.shape[3] // CELL)
    cut, weights = [], []
    for _ in range(times * size):
        number = int(rng.integers(len(frames)))
        start = GROUP * int(rng.integers((frames.shape[1] - length) // GROUP + 1))
        middle = boxes[number, start + length // 2, 0]
        spots = []
        for low, high, cells, total in ((middle[1], middle[3], rows, frames.shape[2] // CELL),
                                        (middle[0], middle[2], columns, frames.shape[3] // CELL)):
            aimed = int((low + high) / 2 / CELL) - int(rng.integers(cells))
            anywhere = int(rng.integers(total - cells + 1))
            spots.append(CELL * int(np.clip(aimed if rng.random() < 0.8 else anywhere, 0, total - cells)))
        y, x = spots
        height, width = rows * CELL, columns * CELL
        cut.append(np.asarray(frames[number, start : start + length, y : y + height, x : x + width]))
        weight = np.ones((length, height, width), np.float32)
        for time in range(length):
            for x0, y0, x1, y1 in boxes[number, start + time].astype(int):
                weight[time, max(y0 - y, 0) : max(y1 - y + 1, 0), max(x0 - x, 0) : max(x1 - x + 1, 0)] = 3.0
        weights.append(weight)
    pictures = torch.from_numpy(np.stack(cut)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return pictures.contiguous(memory_format=torch.channels_last_3d), torch.from_numpy(np.stack(weights))[:, None]


def losses(out: Tensor, target: Tensor, weights: Tensor, flicker: float = 0.0) -> dict[str, Tensor]:
    """Weighted mean absolute differences: of pixels, of differences between neighbours in space, and in time (where the
    target moves or the output does without it); and with ``flicker`` as its weight, how far local colour, where it
    should stand still, is from what it was before and is after: the eye sees it go up and down by far less than it sees
    in any picture."""
    def mean(values: Tensor, weight: Tensor) -> Tensor:
        return (values.abs() * weight).sum() / (weight.sum() * values.shape[1])

    gap = out - target
    edges = mean(gap.diff(dim=4), weights[..., 1:]) + mean(gap.diff(dim=3), weights[..., 1:, :])
    coarse = functional.avg_pool3d(gap, (1, 8, 8))
    result = {"pixels": mean(gap, weights), "edges": 0.25 * edges, "coarse": mean(coarse, weights[..., ::8, ::8])}
    if gap.shape[2] > 1:
        result["motion"] = 0.5 * mean(gap.diff(dim=2), weights[:, :, 1:])
    if flicker and gap.shape[2] > 2:
        missed, wanted = (functional.avg_pool3d(clip, (1, 16, 16), stride=(1, 8, 8)).diff(dim=2, n=2).abs()
                          for clip in (gap, target))
        still = wanted < STILL  # elsewhere motion, which is hard enough, would have all the weight
        result["flicker"] = flicker * (missed * still).sum() / still.sum().clamp(min=1)
    return result


def thin(vae: AutoencoderKLLTXVideo) -> AutoencoderKLLTXVideo:
    """A copy whose encoder computes the same with only those weights that can differ from 0: of a convolution that has
    none around its middle (all that `components.fit` makes), the middle."""
    copied = copy.deepcopy(vae)
    for owner in copied.encoder.modules():
        conv = getattr(owner, "conv", None)
        if isinstance(conv, nn.Conv3d) and conv.kernel_size == (3, 3, 3):
            around = conv.weight.detach().clone()
            around[:, :, -1, 1, 1] = 0
            if not around.any():
                owner.conv = _Middle(conv)
    return copied


class _Middle(nn.Module):
    """A causal convolution, whose input is padded by two frames before, by its last weight in time alone."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight.detach()[:, :, -1:, 1:2, 1:2], conv.bias

    def forward(self, values: Tensor) -> Tensor:
        return functional.conv3d(values[:, :, 2:], self.weight, self.bias)


@torch.no_grad()
def encoded(vae: AutoencoderKLLTXVideo, frames: NDArray[np.uint8]) -> Tensor:
    """Mean latents ``(B, C, f, h, w)``, float32, not yet normalised, of clips ``(B, T, H, W, 3)`` uint8. Not in
    bfloat16, whose rounding of the first component is as large as the last ones."""
    where = next(vae.parameters()).device
    pictures = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).to(where).float() / 127.5 - 1
    latents: Tensor = vae.encode(pictures.contiguous(memory_format=torch.channels_last_3d)).latent_dist.mean
    return latents.float().cpu()


@torch.no_grad()
def decoded(vae: AutoencoderKLLTXVideo, latents: Tensor) -> NDArray[np.uint8]:
    """The inverse of `encoded`."""
    where = next(vae.parameters()).device
    with torch.autocast(where.type, torch.bfloat16):
        out: Any = vae.decode(latents.to(where)).sample
    levels = ((out.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(levels.permute(0, 2, 3, 4, 1).cpu().numpy())


