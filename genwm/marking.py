"""Marks: what is written, and the objects that write it on tensors and on decoded frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genwm.errors import InputError, KeyMissingError
from genwm.keys import Key
from genwm.lattice import embed, tile
from genwm.payload import encode
from genwm.video import Planes, YUVFrame
from genwm.video.model import UPRIGHT, Orientation

Strength = Literal["invisible", "balanced", "strong"]
Profile = Literal["colour", "luma"]

STRENGTHS: dict[str, float] = {"invisible": 0.7, "balanced": 1.0, "strong": 1.6}
#: Factors of the Y, U and V tiles. 'luma' is for comparison with published luma marks at 45 dB RGB PSNR.
PROFILES: dict[str, tuple[float, float, float]] = {"colour": (1.0, 1.0, 1.0), "luma": (1.72, 0.0, 0.0)}

MAX_SIZE_GAIN = 1.4
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Mark:
    """What to write.

    Attributes:
        key: the secret key; a retired one is refused.
        payload: 64 bits, 0 <= payload < 2^64.
        strength: 'invisible', 'balanced' or 'strong'.
        profile: 'colour' writes in luma and both colour differences, 'luma' in luma alone.
    """

    key: Key
    payload: int
    strength: Strength = "balanced"
    profile: Profile = "colour"

    def __post_init__(self) -> None:
        encode(self.payload)  # raises PayloadError
        if self.strength not in STRENGTHS:
            raise InputError(f"Expected strength to be one of {get_args(Strength)}, got {self.strength!r}; choose one.")
        if self.profile not in PROFILES:
            raise InputError(f"Expected profile to be one of {get_args(Profile)}, got {self.profile!r}; choose one.")
        if self.key.retired:
            raise KeyMissingError(f"Expected an active key, got {self.key.name!r}, which is retired; use another key.")


class Marker:
    """Writes one mark on pictures of one size; keeps the pattern.

    Args:
        mark: what to write.
        width, height: displayed size of the picture in square pixels.
        device: where tensors live.
    """

    def __init__(self, mark: Mark, width: float, height: float, *, device: torch.device | str = "cpu") -> None:
        if min(width, height) < 1:
            raise InputError(f"Expected a picture of at least 1 x 1 pixels, got {width} x {height}; check the input.")
        self.mark = mark
        self.canonical = tile.canonical_size(width, height)
        self.device = torch.device(device)
        self._gain = STRENGTHS[mark.strength] * size_gain(width, height)
        self._tiles = tile.tiles(mark.key, mark.payload, oversampling=_OVERSAMPLING, planes=PROFILES[mark.profile])
        self._patterns: dict[tuple[int, int, int, Orientation], Tensor] = {}
        self._rgb_patterns: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def rgb(self, frames: Tensor) -> Tensor:
        """Marks RGB frames ``(N, 3, H, W)`` in [0, 1], any floating dtype; returns the same shape, dtype and device."""
        if frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
            raise InputError(f"Expected floating RGB frames of shape (N, 3, H, W) in [0, 1], got {tuple(frames.shape)} "
                             f"of {frames.dtype}; convert and rearrange them.")
        if not len(frames):
            return frames.clone()
        size = int(frames.shape[2]), int(frames.shape[3])
        if size not in self._rgb_patterns:
            self._rgb_patterns[size] = embed.rgb_patterns(torch.stack([self._pattern(plane, *size) for plane in
            range(3)]))
        luma, colour = (pattern.to(frames.device) for pattern in self._rgb_patterns[size])
        if len(frames) == 1:
            return embed.add_to_rgb(frames, luma, colour, self._gain)
        # Frame by frame: the working memory stays that of one frame, however long the batch.
        marked = torch.empty_like(frames)
        for frame, place in zip(torch.split(frames, 1), torch.split(marked, 1), strict=True):
            place.copy_(embed.add_to_rgb(frame, luma, colour, self._gain))
        return marked

    def planes(self, frame: Planes) -> Planes:
        """Marks one 8-bit 4:2:0 frame in display orientation; returns a new frame with its own arrays."""
        y, u, v = self._yuv((frame.y, frame.u, frame.v), 8, frame.full_range, UPRIGHT)
        return replace(frame, y=y, u=u, v=v)

    def yuv(self, frame: YUVFrame) -> YUVFrame:
        """Marks one frame at its stored depth, subsampling and orientation; returns a new frame."""
        y, u, v = self._yuv((frame.y, frame.u, frame.v), frame.bit_depth, frame.full_range, frame.orientation)
        return replace(frame, y=y, u=u, v=v)

    def _yuv(self, planes: tuple[NDArray[Any], ...], depth: int, full_range: bool, orientation: Orientation
             ) -> list[NDArray[Any]]:
        unit = float(1 << (depth - 8))
        stretch = (255 / embed.LUMA_RANGE, 255 / embed.CHROMA_RANGE) if full_range else (1.0, 1.0)
        samples = [torch.from_numpy(plane.astype(np.float32)).to(self.device)[None, None] for plane in planes]
        levels = embed.pooled(samples[0]) / (unit * stretch[0]) + (16 if full_range else 0)
        mask = embed.visibility(levels)
        masks = mask, embed.chroma_mask(mask), embed.chroma_mask(mask)
        marked = []
        for number, (plane, mask) in enumerate(zip(samples, masks, strict=True)):
            pattern = self._pattern(number, int(plane.shape[2]), int(plane.shape[3]), orientation)
            values = embed.add_to_plane(plane, pattern, mask, self._gain * unit * stretch[min(number, 1)])
            values = values.round_().clamp_(0, (1 << depth) - 1)
            marked.append(values[0, 0].cpu().numpy().astype(planes[number].dtype))
        return marked

    def _pattern(self, plane: int, rows: int, columns: int, orientation: Orientation = UPRIGHT) -> Tensor:
        """Pattern of one plane at its stored size, turned back from display to stored orientation."""
        key = (plane, rows, columns, orientation)
        if key not in self._patterns:
            shown = (columns, rows) if orientation.transpose else (rows, columns)
            image = tile.pattern(self._tiles[plane], *shown, canonical=self.canonical)
            image = image[:: -1 if orientation.flip_y else 1, :: -1 if orientation.flip_x else 1]
            if orientation.transpose:
                image = image.T
            self._patterns[key] = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        return self._patterns[key]


def size_gain(width: float, height: float) -> float:
    """Gain that keeps visibility at 1:1 pixels about the same for all sizes.

    A larger picture shows the pattern coarser, where the eye is keener, and has more pixels to find it by: the gain
    falls with the root of the short side.
    """
    return float(min((tile.SHORT_SIDE / min(width, height)) ** 0.5, MAX_SIZE_GAIN))


def mark_frames(frames: Tensor, mark: Mark) -> Tensor:
    """Marks a clip.

    Args:
        frames: ``(N, 3, H, W)``, RGB in [0, 1], any floating dtype, any device; consecutive frames of one clip.
        mark: what to write.

    Returns:
        A tensor of the same shape, dtype and device, in [0, 1].
    """
    if frames.ndim != 4:
        raise InputError(f"Expected frames of shape (N, 3, H, W), got {tuple(frames.shape)}; rearrange them.")
    return Marker(mark, frames.shape[3], frames.shape[2], device=frames.device).rgb(frames)
