"""Many small image autoencoders of random shape, briefly trained: each leaves the traces of its own decoder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from genwm.tiny import EMBEDDED

Upsampler = Literal["nearest", "bilinear", "transposed", "shuffle"]
UPSAMPLERS: tuple[Upsampler, ...] = get_args(Upsampler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What an autoencoder looks like. ``stride``: pixels per latent, 4, 8 or 16; ``latent``: channels of a latent;
    ``width``: channels at full size; ``kernel``: of the decoder's convolutions."""

    stride: int
    latent: int
    width: int
    upsampler: Upsampler
    kernel: int
    residual: bool


def random_shape(generator: np.random.Generator, number: int) -> Shape:
    """The ``number``-th of a family of shapes: strides and up-samplers take turns, the rest is drawn."""
    return Shape(
        stride=(8, 4, 8, 16)[number % 4],
        latent=int(generator.choice([4, 8, 16])) * (2 if number % 4 == 3 else 1),
        width=int(generator.choice([12, 16, 24])),
        upsampler=UPSAMPLERS[(number + number // 4) % len(UPSAMPLERS)],
        kernel=int(generator.choice([3, 3, 5])),
        residual=bool(generator.random() < 0.5),
    )


class Autoencoder(nn.Module):
    """RGB ``(batch, 3, height, width)`` in [-1, 1], sides multiples of the stride, and back."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        levels = shape.stride.bit_length() - 1
        widths = [min(64, shape.width * 2**level) for level in range(levels + 1)]
        down: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for narrow, wide in pairwise(widths):
            down += [nn.SiLU(), nn.Conv2d(narrow, wide, 3, stride=2, padding=1)]
        self.encoder = nn.Sequential(*down, nn.SiLU(), nn.Conv2d(widths[-1], shape.latent, 1))
        up: list[nn.Module] = [nn.Conv2d(shape.latent, widths[-1], 3, padding=1)]
        for wide, narrow in zip(widths[:0:-1], widths[-2::-1], strict=True):
            up += [nn.SiLU(), _upsampling(shape, wide, narrow)]
            if shape.residual:
                up.append(_Residual(narrow, shape.kernel))
        self.decoder = nn.Sequential(*up, nn.SiLU(), nn.Conv2d(widths[0], 3, shape.kernel, padding=shape.kernel // 2))

    def forward(self, pictures: Tensor, noise: float = 0.0) -> Tensor:
        """``noise``: deviations of noise on the latents, as a sampler leaves it."""
        latents = self.encoder(pictures)
        if noise:
            latents = latents + noise * latents.std() * torch.randn_like(latents)
        restored: Tensor = self.decoder(latents)
        return restored


class VideoAutoencoder(nn.Module):
    """The shipped generator's own autoencoder of video, called as the others are: with frames of one clip, in order."""

    def __init__(self) -> None:
        from diffusers import AutoencoderKLLTXVideo

        super().__init__()
        kind: Any = AutoencoderKLLTXVideo
        self.inner: Any = kind.from_pretrained(EMBEDDED, subfolder="vae", torch_dtype=torch.float32)
        self.inner.eval()

    def forward(self, pictures: Tensor, noise: float = 0.0) -> Tensor:
        """It takes 1 + 8 n frames: others are played there and back until they suffice."""
        count, step = len(pictures), self.inner.temporal_compression_ratio
        cycle = [*range(count), *range(count - 2, 0, -1)]
        order = [cycle[index % len(cycle)] for index in range(1 + step * -(-(count - 1) // step))]
        latents = self.inner.encode(pictures[order].transpose(0, 1)[None]).latent_dist.mode()
        if noise:
            latents = latents + noise * latents.std() * torch.randn_like(latents)
        restored: Tensor = self.inner.decode(latents).sample[0].transpose(0, 1)[:count]
        return restored


class _Residual(nn.Module):
    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, kernel, padding=kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.inner(x)
        return x + inner


def _upsampling(shape: Shape, wide: int, narrow: int) -> nn.Module:
    if shape.upsampler == "transposed":
        return nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1)
    convolution = nn.Conv2d(wide, narrow * (4 if shape.upsampler == "shuffle" else 1), shape.kernel,
                            padding=shape.kernel // 2)  # fmt: skip
    if shape.upsampler == "shuffle":
        return nn.Sequential(convolution, nn.PixelShuffle(2))
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=shape.upsampler), convolution)


def train_autoencoder(shape: Shape, pictures: Tensor, *, steps: int, side: int = 64, batch: int = 12) -> Autoencoder:
    """Trains on random square crops of ``pictures``, RGB in [-1, 1]; draws from torch's own generator."""
    model = Autoencoder(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (batch,))
        top, left = (int(torch.randint(room - side + 1, (1,))) for room in pictures.shape[2:])
        target = pictures[chosen, :, top : top + side, left : left + side]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            restored = model(target).float()
        loss = functional.l1_loss(restored, target) + functional.l1_loss(_details(restored), _details(target))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


def _details(pictures: Tensor) -> Tensor:
    """Differences between neighbouring columns: what an absolute error alone blurs away."""
    return pictures[..., 1:] - pictures[..., :-1]
