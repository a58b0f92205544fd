"""Adding the pattern to pixels: a perceptual mask times a static pattern, one multiply-add a sample. Torch, any device.

Levels are 8-bit levels of limited-range Y'CbCr throughout, the unit in which ``tile.BANDS`` are given.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LUMA_RANGE = 219.0
CHROMA_RANGE = 224.0
#: R, G, B over (Y', Cb, Cr) with Y' in [0, 1] and Cb, Cr in [-0.5, 0.5]: ITU-R BT.709-6, 3.2 and 3.3 inverted.
RGB_FROM_YCBCR = ((1.0, 0.0, 1.5748), (1.0, -0.187324, -0.468124), (1.0, 1.8556, 0.0))
LUMA_FROM_RGB = (0.2126, 0.7152, 0.0722)

MASK_LINES = 256
ACTIVITY_WINDOW, RESIDUAL_WINDOW = 5, 7
ACTIVITY_UNIT = 4.0
ACTIVITY_POWER = 0.7
LUMA_FLOOR, LUMA_CAP = 0.3, 2.0
CHROMA_FLOOR, CHROMA_CAP = 0.25, 1.0
DARK_GAIN, DARK_LEVEL = 0.5, 60.0


def box(image: Tensor, size: int) -> Tensor:
    """Box mean of ``(N, 1, H, W)``, edges replicated."""
    pad = size // 2
    rows, columns = image.shape[-2:]
    wide = functional.pad(image, (pad, pad, pad, pad), mode="replicate")
    # Sums of shifted views: for small windows several times faster than pooling on a CPU.
    across = wide[..., :columns].clone()
    for shift in range(1, size):
        across += wide[..., shift : shift + columns]
    down = across[..., :rows, :].clone()
    for shift in range(1, size):
        down += across[..., shift : shift + rows, :]
    return down.mul_(1 / size**2)


def pooled(image: Tensor) -> Tensor:
    """``(N, C, H, W)`` averaged down to a grid of about ``MASK_LINES`` lines, on which the mask is computed."""
    factor = max(1, round(min(image.shape[-2:]) / MASK_LINES))
    if factor == 1:
        return image
    return functional.avg_pool2d(image, factor, ceil_mode=True, count_include_pad=False)


def visibility(luma: Tensor) -> Tensor:
    """How much change the eye forgives: float32 ``(N, 1, h, w)``.

    Args:
        luma: float32 ``(N, 1, h, w)`` in 8-bit limited-range levels, already ``pooled``.

    The mask grows with local activity, (rms of a high-pass / ``ACTIVITY_UNIT``)^``ACTIVITY_POWER``, and shrinks in the
    dark: contrast masking and the luminance threshold of just-noticeable-difference models (Watson 1993; Chou and Li
    1995), with constants fitted by ColorVideoVDP (docs/watermark.md).
    """
    mean = box(luma, RESIDUAL_WINDOW)
    activity = box((luma - mean).square_(), ACTIVITY_WINDOW).add_(0.01).sqrt_()
    mask = (activity / ACTIVITY_UNIT).pow_(ACTIVITY_POWER).add_(LUMA_FLOOR).clamp_(LUMA_FLOOR, LUMA_CAP)
    return mask.mul_((DARK_GAIN + (1 - DARK_GAIN) / DARK_LEVEL * mean).clamp_(0, 1))


def enlarged(mask: Tensor, rows: int, columns: int) -> Tensor:
    """A coarse mask at a plane's resolution, ``(N, 1, rows, columns)``."""
    if mask.shape[-2:] == (rows, columns):
        return mask
    return functional.interpolate(mask, size=(rows, columns), mode="bilinear", align_corners=False)


def chroma_mask(mask: Tensor) -> Tensor:
    """The mask of both colour planes, from the luma's."""
    return mask.clamp(CHROMA_FLOOR, CHROMA_CAP)


def add_to_plane(plane: Tensor, pattern: Tensor, mask: Tensor, gain: float) -> Tensor:
    """plane + gain x mask x pattern: ``(N, 1, H, W)`` + float x ``(N, 1, h, w)`` x ``(H, W)``."""
    return torch.addcmul(plane, enlarged(mask, int(plane.shape[-2]), int(plane.shape[-1])), pattern, value=gain)


def rgb_patterns(patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Patterns Y, U, V ``(3, H, W)`` in 8-bit limited-range levels -> in RGB units: luma ``(H, W)`` and colour ``(3,
    H, W)``."""
    luma, blue, red = patterns
    colour = torch.stack([(cb * blue + cr * red) / CHROMA_RANGE for _, cb, cr in RGB_FROM_YCBCR])
    return luma / LUMA_RANGE, colour


def add_to_rgb(frames: Tensor, luma: Tensor, colour: Tensor, gain: float) -> Tensor:
    """Adds the patterns of ``rgb_patterns`` to RGB.

    Args:
        frames: ``(N, 3, H, W)`` RGB in [0, 1], any floating dtype and device.
        luma, colour: float32 ``(H, W)`` and ``(3, H, W)``.
        gain: amplitude.

    Returns:
        ``(N, 3, H, W)`` like ``frames``, clamped to [0, 1].
    """
    rows, columns = int(frames.shape[-2]), int(frames.shape[-1])
    weights = torch.tensor(LUMA_FROM_RGB, device=frames.device).view(1, 3, 1, 1) * LUMA_RANGE
    marked = frames.to(torch.float32, copy=True)
    mask = enlarged(visibility((pooled(marked) * weights).sum(dim=1, keepdim=True) + 16), rows, columns)
    marked.addcmul_(chroma_mask(mask), colour, value=gain)
    marked.add_(mask.mul_(luma), alpha=gain)
    return marked.clamp_(0, 1).to(frames.dtype)
