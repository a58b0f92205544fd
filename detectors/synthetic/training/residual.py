"""Channel 'residual': a small timm trunk on high-pass residuals of native pixels, trained from scratch on pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detectors.synthetic.canonical import Stack
from detectors.synthetic.networks import yuv_of

Pictures = NDArray[np.uint8]
TRUNK = "test_resnet"
#: Side of a training patch, and pairs of patches a step.
PATCH, PAIRS = 64, 16

# High-pass filters: second differences across, down, both (Fridrich and Kodovsky 2012), and a 5 x 5 one.
_ACROSS = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, -2, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
_BOTH = [[0, 0, 0, 0, 0], [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], [0, 0, 0, 0, 0]]
_WIDE = [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]]


class ResidualNetwork(nn.Module):
    """Y, U, V ``(frames, 3, height, width)`` in 0..255 -> a map of logits ``(frames, height / 8, width / 8)`` and an
    embedding ``(frames, numbers)``: means of the last layer."""

    def __init__(self) -> None:
        import timm

        super().__init__()
        across, both, wide = (torch.tensor(kernel, dtype=torch.float32) for kernel in (_ACROSS, _BOTH, _WIDE))
        kernels = torch.stack([across / 2, across.T / 2, both / 4, wide / 12, both / 4, both / 4])[:, None]
        self.register_buffer("kernels", kernels)
        trunk: Any = timm.create_model(TRUNK, in_chans=len(kernels), num_classes=0, global_pool="")
        trunk.conv1[0].stride = (1, 1)  # every pixel counts: the cue lies at the finest scale
        trunk.layer4[0].conv1.stride = (1, 1)
        trunk.layer4[0].downsample[0] = nn.Identity()
        self.trunk: nn.Module = trunk
        self.head = nn.Conv2d(trunk.num_features, 1, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        y, u, v = frames[:, :1], frames[:, 1:2], frames[:, 2:3]
        luma = functional.conv2d(y, cast(Tensor, self.kernels)[:4])
        chroma = functional.conv2d(torch.cat([u, v], 1), cast(Tensor, self.kernels)[4:], groups=2)
        features = self.trunk(torch.tanh(torch.cat([luma, chroma], 1) / 6))
        return self.head(features)[:, 0], features.mean((2, 3))


def train_network(
    pairs: Sequence[tuple[Stack, Stack]], *, steps: int, seed: int, progress: Callable[[str], None] = lambda text: None
) -> ResidualNetwork:
    """Trains on equal patches of both members of each pair (footage 0, synthetic 1), turned and mirrored."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = ResidualNetwork()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.15)
    frames = [tuple(yuv_of(stack, np.arange(len(stack))).astype(np.uint8) for stack in pair) for pair in pairs]
    average = 0.7
    for step in range(steps):
        chosen = [frames[int(index)] for index in generator.integers(len(frames), size=PAIRS)]
        patches = torch.from_numpy(np.stack([_patch(pair, generator) for pair in chosen]).astype(np.float32))
        labels = torch.tensor([0.0, 1.0]).repeat(PAIRS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(patches.flatten(0, 1))[0].float().mean((1, 2))
        loss = functional.binary_cross_entropy_with_logits(logits, labels * 0.9 + 0.05)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        average += 0.02 * (float(loss.detach()) - average)
        if step % 100 == 99:
            progress(f"residual network: step {step + 1} of {steps}, loss {average:.3f}")
    return model.eval()


def _patch(pair: tuple[Pictures, ...], generator: np.random.Generator) -> Pictures:
    """The same patch of both members: uint8 ``(2, 3, PATCH, PATCH)``."""
    index = int(generator.integers(min(map(len, pair))))
    height, width = pair[0].shape[2:]
    top, left = int(generator.integers(height - PATCH + 1)), int(generator.integers(width - PATCH + 1))
    patch = np.stack([member[index, :, top : top + PATCH, left : left + PATCH] for member in pair])
    if generator.random() < 0.5:
        patch = patch[..., ::-1]
    return np.ascontiguousarray(patch)
