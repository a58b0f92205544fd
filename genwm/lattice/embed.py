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
LUMA_FLOOR, LUMA_CAP = 0.3, 8.0
CHROMA_FLOOR, CHROMA_CAP = 0.4, 5.0
DARK_GAIN, DARK_LEVEL = 0.5, 60.0


def box(image: Tensor, size: int) -> Tensor:
    """Box mean of ``(N, 1, H, W)``, edges replicated."""
    pad = size // 2
    mode = "replicate" if min(image.shape[-2:]) > 0 else "constant"
    wide = functional.pad(image, (pad, pad, pad, pad), mode=mode)
    # Two one-dimensional means cost far less than a square one.
    return functional.avg_pool2d(functional.avg_pool2d(wide, (1, size), stride=1), (size, 1), stride=1)


def visibility(luma: Tensor) -> Tensor:
    """How much change the eye forgives: float32 ``(N, 1, h, w)`` on a coarse grid of about ``MASK_LINES`` lines.

    Args:
        luma: float32 ``(N, 1, H, W)`` in 8-bit limited-range levels, full resolution.

    The mask grows with local activity, (rms of a high-pass / 4 levels)^0.7, and shrinks in the dark: contrast masking
    and the luminance threshold of just-noticeable-difference models (Watson 1993; Chou and Li 1995), with constants
    fitted by ColorVideoVDP (docs/watermark.md).
    """
    factor = max(1, round(min(luma.shape[-2:]) / MASK_LINES))
    small = functional.avg_pool2d(luma, factor, ceil_mode=True, count_include_pad=False) if factor > 1 else luma
    mean = box(small, RESIDUAL_WINDOW)
    activity = box((small - mean).square_(), ACTIVITY_WINDOW).add_(0.01).sqrt_()
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


def add_to_plane(plane: Tensor, pattern: Tensor, mask: Tensor, gain: Tensor) -> Tensor:
    """plane + gain x mask x pattern: ``(N, 1, H, W)``, ``(H, W)``, ``(N, 1, h, w)``, ``(N, 1, 1, 1)``."""
    return torch.addcmul(plane, enlarged(mask, *plane.shape[-2:]) * gain, pattern)


def add_to_rgb(frames: Tensor, patterns: Tensor, gain: Tensor) -> Tensor:
    """Adds the three patterns to RGB.

    Args:
        frames: ``(N, 3, H, W)`` RGB in [0, 1], any floating dtype and device.
        patterns: float32 ``(3, H, W)``, Y, U, V in 8-bit limited-range levels.
        gain: float32 ``(N, 1, 1, 1)``.

    Returns:
        ``(N, 3, H, W)`` like ``frames``, clamped to [0, 1].
    """
    values = frames.float()
    weights = values.new_tensor(LUMA_FROM_RGB).view(1, 3, 1, 1)
    mask = visibility((values * weights).sum(dim=1, keepdim=True) * LUMA_RANGE + 16)
    luma_mask = enlarged(mask, *frames.shape[-2:]) * (gain / LUMA_RANGE)
    colour_mask = enlarged(chroma_mask(mask), *frames.shape[-2:]) * (gain / CHROMA_RANGE)
    luma, blue, red = patterns
    marked = torch.empty_like(values)
    for channel, (_, from_blue, from_red) in enumerate(RGB_FROM_YCBCR):
        colour = from_blue * blue + from_red * red
        marked[:, channel : channel + 1] = (
            values[:, channel : channel + 1] + luma_mask * luma + colour_mask * colour
        ).clamp_(0, 1)
    return marked.to(frames.dtype)
