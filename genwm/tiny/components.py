"""A start for the autoencoder: principal components, level by level, and the regressions that undo them.

Trained from random weights, such a network spends hours on finding out that its output depends on its input. Here each
level of the encoder keeps the principal components of what the level below gives it, and each level of the decoder is
the least-squares estimate of the same level of the encoder from the one above, so that training starts from a linear
transform that already reconstructs, and adds what is not linear. Residual blocks start as the identity.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLLTXVideo
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_SAMPLES = 40_000
_RIDGE = 3e-4
#: Clips that are enough for the regressions from the coarsest level to the pixels: the finer, the more samples in each.
_CLIPS = (10_000, 60, 20, 20)
#: Latents get the root of their components' deviation times this (a mean square of about 1), so that a decoder's first
#: layer, and a denoiser, see all of them, the strong ones more.
_EVEN = 9.0
_QUIET = 1 / 64  # of all that comes before the encoder's last normalisation: half precision ends at 65504
_GAIN = 3.0  # of components over what the downsampling's own mean adds to them
#: A channel that keeps the last normalisation and activation nearly linear, in deviations of all others together: the
#: encoder's, which stays as it is, more than the decoder's, which learns.
_CONSTANT = {"encoder": 40.0, "decoder": 4.0}


@torch.no_grad()
def fit(vae: AutoencoderKLLTXVideo, frames: NDArray[np.uint8], seed: int = 0) -> None:
    """Sets all weights from some clips ``(N, T, H, W, 3)`` uint8."""
    rng = np.random.default_rng(seed)
    for name, value in vae.named_parameters():
        if "conv2" in name:
            value.zero_()
    levels, latents = _fit_encoder(vae.encoder, frames, rng)
    _fit_decoder(vae.decoder, latents, levels, frames, rng)


def _patches(frames: NDArray[np.uint8], patch: int) -> Tensor:
    """A clip ``(T, H, W, 3)`` as ``(1, 3 p p, T, H / p, W / p)`` in [-1, 1], in the model's order of channels, which
    numbers the pixels of a patch by columns first."""
    picture = torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    order = torch.arange(3 * patch * patch).view(3, patch, patch).transpose(1, 2).flatten()
    return functional.pixel_unshuffle(picture, patch)[:, order].transpose(0, 1)[None]


def _fit_encoder(encoder: Any, frames: NDArray[np.uint8], rng: np.random.Generator
                 ) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Sets the encoder; returns for each level, the finest first, each clip's components ``(1, C, f, h, w)``, and the
    latents."""
    patch = encoder.patch_size
    _project(encoder.conv_in.conv, [_patches(one, patch) for one in frames[: _CLIPS[-1]]], rng, gain=_QUIET)
    now = [encoder.conv_in(_patches(one, patch)) for one in frames[: _CLIPS[-1]]]
    levels = []
    for block in encoder.down_blocks:
        levels.append(now)
        _project(block.downsamplers[0].conv.conv, now, rng, gain=_GAIN)
        if block is encoder.down_blocks[-1]:
            spread = torch.cat([block(one).flatten(2)[0].T for one in now]).var(0).sum().sqrt()
            block.downsamplers[0].conv.conv.bias[-1] += _CONSTANT["encoder"] * float(spread) / 8**0.5
        if block is encoder.down_blocks[0]:  # the finest level of all clips would not fit into memory
            now = [block(encoder.conv_in(_patches(one, patch))) for one in frames]
        else:
            now = [block(one) for one in now]
    last = [functional.silu(encoder.norm_out(one.movedim(1, -1)).movedim(-1, 1)) for one in now]
    conv = encoder.conv_out.conv
    keep = conv.out_channels - 1
    _project(conv, last, rng, count=keep)
    deviation = torch.cat([encoder.conv_out(one)[:, :keep].flatten(2)[0].T for one in last]).std(0)
    scale = torch.cat([_EVEN / deviation.sqrt(), torch.ones(1)])
    conv.weight *= scale[:, None, None, None, None]
    conv.bias *= scale
    conv.weight[-1], conv.bias[-1] = 0, -5.0  # the deviation of the posterior: small and the same everywhere
    return levels, [encoder.conv_out(one)[:, :keep] for one in last]


def _project(conv: torch.nn.Conv3d, inputs: list[Tensor], rng: np.random.Generator, *, count: int | None = None,
             gain: float = 1.0) -> None:
    """Makes a causal convolution give the first principal components of its input at the same place and time."""
    count = min(count or conv.out_channels, inputs[0].shape[1])
    rows = _rows(inputs, rng).double()
    mean = rows.mean(0)
    _, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean))
    components = vectors.flip(1)[:, :count].T.float() * gain
    conv.weight.zero_()
    conv.bias.zero_()
    conv.weight[:count, :, -1, 1, 1] = components
    conv.bias[:count] = -components @ mean.float()


def _rows(inputs: list[Tensor], rng: np.random.Generator) -> Tensor:
    """Samples ``(n, C)`` of all places and times. Half of them are chosen by how much changes there: what moves is
    small, and would have few components among those of what stands still, which a decoder can learn by heart."""
    rows = torch.cat([one[0].flatten(1).T for one in inputs])
    if len(rows) <= _SAMPLES:
        return rows
    change = torch.cat([functional.pad(one[0].diff(dim=1), (0, 0, 0, 0, 1, 0)).norm(dim=0).flatten() for one in inputs])
    chance = torch.Generator().manual_seed(len(rows))
    moving = torch.multinomial(change.double() + 1e-9, _SAMPLES // 2, generator=chance)
    anywhere = torch.from_numpy(rng.choice(len(rows), _SAMPLES // 2, replace=False))
    return rows[torch.cat([moving, anywhere])]


def _fit_decoder(decoder: Any, latents: list[Tensor], levels: list[list[Tensor]],
                 frames: NDArray[np.uint8], rng: np.random.Generator) -> None:
    conv = decoder.conv_in.conv
    for channel in range(min(conv.out_channels, conv.in_channels)):  # the rest stay as they are: random mixtures
        conv.weight[channel] = 0
        conv.weight[channel, channel, 1, 1, 1] = 1 / 3
        conv.bias[channel] = 0
    now = [decoder.conv_in(one) for one in latents]
    for block, target, clips in zip(decoder.up_blocks, reversed(levels), _CLIPS, strict=False):
        now, target = now[:clips], target[:clips]
        finest = block is decoder.up_blocks[-1]
        width = block.upsamplers[0].conv.conv.out_channels // 8
        spread = torch.cat([one.flatten() for one in target]).std()
        wanted = [one[:, :width] / spread for one in _leading(target, width - int(finest), rng)]
        _regress(block.upsamplers[0].conv.conv, now, [_folded(one) for one in wanted], rng)
        if finest:  # a constant channel before the last normalisation
            power = sum(float(one.var(dim=(0, 2, 3, 4)).sum()) for one in wanted) / len(wanted)
            upsampling = block.upsamplers[0].conv.conv
            upsampling.weight[-8:], upsampling.bias[-8:] = 0, _CONSTANT["decoder"] * power**0.5
        # residual blocks do nothing yet
        now = [block.upsamplers[0](one) for one in now[: _CLIPS[-1] if finest else None]]
    last = [functional.silu(decoder.norm_out(one.movedim(1, -1)).movedim(-1, 1)) for one in now]
    pixels = [_patches(one, decoder.patch_size) for one in frames[: len(last)]]
    _regress(decoder.conv_out.conv, last, pixels, rng)


def _leading(values: list[Tensor], count: int, rng: np.random.Generator) -> list[Tensor]:
    """The first ``count`` principal components of ``(1, C, f, h, w)`` tensors."""
    rows = _rows(values, rng).double()
    mean = rows.mean(0)
    _, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean))
    basis = vectors.flip(1)[:, :count].float()
    return [torch.einsum("bcfhw,ck->bkfhw", one - mean.float()[None, :, None, None, None], basis) for one in values]


def _folded(values: Tensor) -> Tensor:
    """``(1, C, f, h, w)`` to the ``(1, 8 C, ...)`` of half the size that an upsampling makes it from. The first frame
    has no pair, so that the pair's other half is told twice."""
    padded = torch.cat([values[:, :, :1], values], dim=2)
    split = padded.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def _regress(conv: torch.nn.Conv3d, inputs: list[Tensor], targets: list[Tensor], rng: np.random.Generator) -> None:
    """Makes a convolution the least-squares estimate of ``targets`` (all, or its first channels) from ``inputs``."""
    square, product, count = torch.zeros(1), torch.zeros(1), 0
    share = max(1, _SAMPLES // len(inputs))
    for one, wanted in zip(inputs, targets, strict=True):
        padded = functional.pad(torch.cat([one[:, :, :1], one, one[:, :, -1:]], dim=2), (1, 1, 1, 1))
        around = padded.unfold(2, 3, 1).unfold(3, 3, 1).unfold(4, 3, 1)[0]  # C f h w 3 3 3
        places = int(np.prod(around.shape[1:4]))
        chosen = torch.from_numpy(rng.choice(places, min(share, places), replace=False))
        t, y, x = chosen // (around.shape[2] * around.shape[3]), chosen // around.shape[3] % around.shape[2], \
            chosen % around.shape[3]
        rows = around[:, t, y, x].transpose(0, 1).flatten(1)
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
        out = wanted[0, :, t, y, x].T
        square = square + rows.T @ rows
        product = product + rows.T @ out
        count += len(rows)
    size = len(square) - 1
    ridge = _RIDGE * square.diagonal()[:-1].mean() * torch.cat([torch.ones(size), torch.zeros(1)])
    weights = torch.linalg.solve((square + torch.diag(ridge)).double(), product.double()).float().T
    conv.weight.zero_()
    conv.bias.zero_()
    conv.weight[: len(weights)] = weights[:, :-1].view(len(weights), *conv.weight.shape[1:])
    conv.bias[: len(weights)] = weights[:, -1]
