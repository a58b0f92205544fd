"""Marks: what is written, and the objects that write it on tensors and on decoded frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

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

STRENGTHS: dict[str, float] = {"invisible": 0.6, "balanced": 1.0, "strong": 1.5}
#: Factors of the Y, U and V tiles. 'luma' is for comparison with published luma marks at 45 dB RGB PSNR.
PROFILES: dict[str, tuple[float, float, float]] = {"colour": (1.0, 1.0, 1.0), "luma": (0.86, 0.0, 0.0)}

#: Gain of the first frames of a shot, where every encoder puts a key frame; 1 afterwards.
ONSET: tuple[float, ...] = ()
#: Mean absolute difference of thumbnails, in 8-bit levels, above which a new shot begins.
SHOT_CHANGE = 18.0
_THUMBNAIL = 24
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
    """Writes one mark on one clip, frame after frame.

    Keeps the pattern at the clip's size and the state of the current shot; use a new one for each clip.

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
        self._tiles = tile.tiles(mark.key, mark.payload, oversampling=_OVERSAMPLING, planes=PROFILES[mark.profile])
        self._patterns: dict[tuple[int, int, int, Orientation], Tensor] = {}
        self._thumbnail: Tensor | None = None
        self._frame_of_shot = 0

    def rgb(self, frames: Tensor) -> Tensor:
        """Marks RGB frames ``(N, 3, H, W)`` in [0, 1], any floating dtype; returns the same shape, dtype and device."""
        if frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
            raise InputError(f"Expected floating RGB frames of shape (N, 3, H, W) in [0, 1], got {tuple(frames.shape)} "
                             f"of {frames.dtype}; convert and rearrange them.")
        if not len(frames):
            return frames.clone()
        rows, columns = int(frames.shape[2]), int(frames.shape[3])
        weights = torch.tensor(embed.LUMA_FROM_RGB, device=frames.device, dtype=torch.float32).view(1, 3, 1, 1)
        small = torch.nn.functional.adaptive_avg_pool2d(frames.float(), _THUMBNAIL)
        gain = self._gains((small * weights).sum(dim=1) * embed.LUMA_RANGE)
        patterns = torch.stack([self._pattern(plane, rows, columns) for plane in range(3)]).to(frames.device)
        return embed.add_to_rgb(frames, patterns, gain.to(frames.device))

    def planes(self, frame: Planes) -> Planes:
        """Marks one 8-bit 4:2:0 frame in display orientation; returns a new frame with its own arrays."""
        y, u, v = self._yuv((frame.y, frame.u, frame.v), 8, frame.full_range)
        return replace(frame, y=y, u=u, v=v)

    def yuv(self, frame: YUVFrame) -> YUVFrame:
        """Marks one frame at its stored depth, subsampling and orientation; returns a new frame."""
        y, u, v = self._yuv((frame.y, frame.u, frame.v), frame.bit_depth, frame.full_range, frame.orientation)
        return replace(frame, y=y, u=u, v=v)

    def _yuv(self, planes: tuple[NDArray[np.integer], ...], depth: int, full_range: bool, orientation: Orientation = UPRIGHT
             ) -> list[NDArray[np.integer]]:
        unit = float(1 << (depth - 8))
        top = float((1 << depth) - 1)
        stretch = (255 / embed.LUMA_RANGE, 255 / embed.CHROMA_RANGE) if full_range else (1.0, 1.0)
        luma = torch.from_numpy(planes[0].astype(np.float32)).to(self.device)[None, None]
        levels = luma / unit if depth > 8 else luma
        if full_range:
            levels = levels * (embed.LUMA_RANGE / 255) + 16
        gain = self._gains(torch.nn.functional.adaptive_avg_pool2d(levels, _THUMBNAIL)[0])
        mask = embed.visibility(levels)
        colour = embed.chroma_mask(mask)
        result: list[NDArray[np.integer]] = []
        for number, plane in enumerate(planes):
            samples = luma if number == 0 else torch.from_numpy(plane.astype(np.float32)).to(self.device)[None, None]
            marked = embed.add_to_plane(
                samples,
                self._pattern(number, *plane.shape, orientation=orientation),
                colour if number else mask,
                gain * (unit * stretch[1 if number else 0]),
            )
            result.append(marked.round_().clamp_(0, top)[0, 0].cpu().numpy().astype(plane.dtype))
        return result

    def _gains(self, thumbnails: Tensor) -> Tensor:
        """Gain of each frame ``(N, 1, 1, 1)``, from thumbnails ``(N, h, w)`` in 8-bit levels."""
        base = STRENGTHS[self.mark.strength]
        gains = []
        for thumbnail in thumbnails:
            if self._thumbnail is None or float((thumbnail - self._thumbnail).abs().mean()) > SHOT_CHANGE:
                self._frame_of_shot = 0
            gains.append(base * (ONSET[self._frame_of_shot] if self._frame_of_shot < len(ONSET) else 1.0))
            self._thumbnail = thumbnail
            self._frame_of_shot += 1
        return torch.tensor(gains, dtype=torch.float32, device=thumbnails.device).view(-1, 1, 1, 1)

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
