"""Pairs that differ by nothing but a decoder's trace: footage, and the same footage through an autoencoder.

After the idea of WaveRep (Cozzolino and others): the coarse part of the picture is taken from the footage in both, so
that content cannot be learned. The coarse band here is a smooth low-pass: a Haar band would leave a grid of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detectors.synthetic.canonical import Stack, planes_of, reencoded
from detectors.synthetic.networks import rgb_of
from genwm.video import VideoCodec

#: Side of the pictures of a pair, and frames.
SIDE, FRAMES = 128, 4


def pan(picture: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8] | None:
    """A photograph (RGB uint8, height x width x 3) -> ``FRAMES`` frames of ``SIDE``, moved by whole pixels; a random
    blur stands for a camera's lens and codec. None where the photograph is too small."""
    reach = 3 * (FRAMES - 1)
    rows, columns = picture.shape[0] - SIDE - reach, picture.shape[1] - SIDE - reach
    if rows < 0 or columns < 0:
        return None
    top, left = int(generator.integers(rows + 1)), int(generator.integers(columns + 1))
    down, right = (int(step) for step in generator.integers(0, 4, 2))
    frames = np.stack([
        picture[top + down * i : top + down * i + SIDE, left + right * i : left + right * i + SIDE]
        for i in range(FRAMES)
    ])  # fmt: skip
    sigma = float(generator.uniform(0, 1.1))
    if sigma < 0.3:
        return frames
    taps = torch.exp(-0.5 * (torch.arange(-3, 4) / sigma) ** 2)
    kernel = torch.outer(taps, taps)[None, None].repeat(3, 1, 1, 1) / taps.sum() ** 2
    smooth = functional.conv2d(functional.pad(to_tensor(frames), (3, 3, 3, 3), mode="reflect"), kernel, groups=3)
    return from_tensor(smooth)


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """RGB uint8 ``(frames, height, width, 3)`` -> float ``(frames, 3, height, width)`` in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def from_tensor(frames: Tensor) -> NDArray[np.uint8]:
    scaled = ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).numpy())


def through(models: Sequence[nn.Module], frames: Tensor, generator: np.random.Generator) -> Tensor:
    """Frames through one or more autoencoders in turn, their coarse part put back, and, half of the time, the strength
    of their details too, so that a lack of detail alone tells nothing."""
    restored = frames
    with torch.inference_mode():
        for model in models:
            restored = model(restored, noise=float(generator.choice([0.0, 0.05, 0.15])))
        factor = int(generator.choice([4, 8]))
        coarse, restored_coarse = _coarse(frames, factor), _coarse(restored, factor)
        fine, restored_fine = frames - coarse, restored - restored_coarse
        if generator.random() < 0.5:
            restored_fine = restored_fine * (fine.std() / restored_fine.std().clamp_min(1e-4)).clamp(0.5, 2.5)
        return coarse + restored_fine


def _coarse(frames: Tensor, factor: int) -> Tensor:
    size = frames.shape[2:]
    small = functional.interpolate(frames, scale_factor=1 / factor, mode="bicubic", antialias=True)
    return functional.interpolate(small, size=size, mode="bicubic")


def delivered(frames: NDArray[np.uint8], settings: np.random.Generator) -> Stack:
    """Frames as they would arrive and be brought to canonical form: one random encode (H.264, H.265, VP9, AV1), now and
    then a resize and a second encode, then the canonical one. Equal generators deliver equally."""
    stack = Stack.of(list(map(planes_of, frames)))
    for _ in range(1 + (settings.random() < 0.3)):
        if settings.random() < 0.25:
            side = int(SIDE * settings.uniform(0.7, 1.1) / 2) * 2
            stack = stack.scaled(side, side)
        codec, low, high = _ENCODES[int(settings.choice(len(_ENCODES), p=_SHARES))]
        stack, _ = reencoded(stack, codec=codec, crf=float(settings.uniform(low, high)))
    return reencoded(stack)[0]


_ENCODES: tuple[tuple[VideoCodec, float, float], ...] = (
    ("h264", 16, 36), ("hevc", 18, 36), ("vp9", 20, 45), ("av1", 22, 48),
)  # fmt: skip
_SHARES = (0.6, 0.2, 0.1, 0.1)


def make_pairs(
    bases: Sequence[NDArray[np.uint8]], models: Sequence[nn.Module], *, per_base: int, seed: int
) -> Iterator[tuple[Stack, Stack]]:
    """``per_base`` pairs (footage, synthetic) a base of RGB frames, each delivered in one and the same way. The noise
    on the latents is drawn from torch's own generator, all else from ``seed``."""
    generator = np.random.default_rng(seed)
    for base in bases:
        frames = to_tensor(base)
        for _ in range(per_base):
            count = 1 + int(generator.random() < 0.25)
            chosen = [models[int(index)] for index in generator.choice(len(models), count, replace=False)]
            fake = from_tensor(through(chosen, frames, generator))
            delivery = int(generator.integers(2**63))
            yield (delivered(base, np.random.default_rng(delivery)), delivered(fake, np.random.default_rng(delivery)))


def frames_of(stack: Stack, generator: np.random.Generator) -> NDArray[np.uint8] | None:
    """``FRAMES`` frames of ``SIDE`` out of a native crop, as RGB uint8."""
    height, width = stack.y.shape[1:]
    if min(height, width) < SIDE or len(stack) < FRAMES:
        return None
    top, left = (int(generator.integers((side - SIDE) // 2 + 1)) * 2 for side in (height, width))
    start = int(generator.integers(len(stack) - FRAMES + 1))
    part = stack.cut(top, left, SIDE, SIDE)
    rgb = rgb_of(part, np.arange(start, start + FRAMES))
    return np.ascontiguousarray(np.rint(rgb).astype(np.uint8).transpose(0, 2, 3, 1))
