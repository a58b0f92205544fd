"""Marks: what is written, and the objects that write it on torch tensors and, without torch, on decoded frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from genwm.errors import InputError, KeyMissingError
from genwm.extras import require
from genwm.keys import Key
from genwm.lattice import embed, tile
from genwm.payload import encode
from genwm.video import Planes, YUVFrame
from genwm.video.model import UPRIGHT, Orientation

if TYPE_CHECKING:
    from torch import Tensor

Strength = Literal["invisible", "balanced", "strong"]
Profile = Literal["colour", "luma"]

STRENGTHS: dict[str, float] = {"invisible": 0.7, "balanced": 1.0, "strong": 1.52}
#: Factors of the Y, U and V tiles. 'luma' is for comparison with published luma marks at 45 dB RGB PSNR.
PROFILES: dict[str, tuple[float, float, float]] = {"colour": (1.0, 1.0, 1.0), "luma": (1.72, 0.0, 0.0)}

MAX_SIZE_GAIN = 1.4
_OVERSAMPLING = 4
_NYQUIST = 0.45  # cycles per pixel
#: How far beyond [0, 1] values may be, as where a picture was sharpened; every how many rows and columns are checked.
_OVERSHOOT, _SAMPLED = 0.5, 8


@dataclass(frozen=True)
class Mark:
    """What to write.

    Attributes:
        key: the secret key; a retired one is refused.
        payload: 64 bits, 0 <= payload < 2^64.
        strength: 'invisible', 'balanced' or 'strong'.
        profile: 'colour' writes in luma and both colour differences, 'luma' in luma alone.

    Raises:
        InputError: no Key, another strength or profile.
        PayloadError: another payload.
        KeyMissingError: a retired key.
    """

    key: Key
    payload: int
    strength: Strength = "balanced"
    profile: Profile = "colour"

    def __post_init__(self) -> None:
        if not isinstance(self.key, Key):
            raise InputError(f"Expected a Key, got a {type(self.key).__name__}; get one from Keyring.load().get(NAME).")
        encode(self.payload)  # raises PayloadError
        if self.strength not in get_args(Strength):
            raise InputError(f"Expected strength to be one of {get_args(Strength)}, got {self.strength!r}; choose one.")
        if self.profile not in get_args(Profile):
            raise InputError(f"Expected profile to be one of {get_args(Profile)}, got {self.profile!r}; choose one.")
        if self.key.retired:
            raise KeyMissingError(f"Expected an active key, got {self.key.name!r}, which is retired; use another key.")


class Marker:
    """Writes one mark on pictures of one size; keeps the pattern.

    Args:
        mark: what to write.
        width, height: displayed size of the picture in square pixels.
    """

    def __init__(self, mark: Mark, width: float, height: float) -> None:
        if min(width, height) < 1:
            raise InputError(f"Expected a picture of at least 1 x 1 pixels, got {width} x {height}; check the input.")
        self.mark = mark
        self.canonical = tile.canonical_size(width, height)
        self._gain = STRENGTHS[mark.strength] * size_gain(width, height)
        self._waves = tile.waves(mark.key, mark.payload, planes=PROFILES[mark.profile],
                                 highest=_NYQUIST * min(width, height) / tile.SHORT_SIDE)
        self._patterns: dict[tuple[int, int, int, Orientation], NDArray[np.float32]] = {}
        self._rgb_patterns: dict[tuple[int, int, str], Tensor] = {}

    def rgb(self, frames: Tensor, *, in_place: bool = False) -> Tensor:
        """Marks RGB frames ``(N, 3, H, W)`` in [0, 1], any floating dtype; returns the same shape, dtype and device:
        new memory, or with ``in_place`` the frames themselves."""
        import torch

        if frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
            raise InputError(f"Expected floating RGB frames of shape (N, 3, H, W) in [0, 1], got {tuple(frames.shape)} "
                             f"of {frames.dtype}; convert and rearrange them.")
        on_cpu = frames.device.type == "cpu"  # where NumPy does the same in half the time
        if in_place:
            marked = frames.detach()
        else:
            marked = _empty_like(frames) if on_cpu and frames.numel() else torch.empty_like(frames)
        if not frames.numel():
            return marked
        patterns = self._patterns_of_rgb(int(frames.shape[2]), int(frames.shape[3]), frames.device)
        # Frame by frame: the working memory stays that of one frame, however long the batch.
        for frame, target in zip(frames.detach(), marked, strict=True):
            source = frame.float()
            done = target if target.dtype == torch.float32 else source
            arrays: list[Any] = [part.numpy() if on_cpu else part for part in (source, done, patterns)]
            embed.add_to_rgb(arrays[0], arrays[1], arrays[2], self._gain)
            if done is not target:
                target.copy_(done)
        return marked

    def _patterns_of_rgb(self, rows: int, columns: int, device: Any) -> Tensor:
        """Patterns of Y, U and V at a picture's full resolution: float32 ``(3, rows, columns)`` on the device."""
        import torch

        key = (rows, columns, str(device))
        if key not in self._rgb_patterns:
            made = np.empty((3, rows, columns), np.float32)
            for plane in range(3):
                made[plane] = self._laid(plane, rows, columns)
            self._rgb_patterns[key] = torch.from_numpy(made).to(device)
        return self._rgb_patterns[key]

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
        rows, columns = planes[0].shape
        factor = embed.pool_factor(rows, columns)
        levels = embed.pooled(planes[0].astype(np.float32), factor)
        levels *= np.float32(1 / (unit * stretch[0]))
        levels += np.float32(16 if full_range else 0)
        differences = (embed.onto(levels, plane.astype(np.float32), factor, (rows, columns)) for plane in planes[1:])
        centred = [(found - 128 * unit) * (1 / (unit * stretch[1])) + 128 for found in differences]
        masks = embed.masks(levels, *embed.colours(levels, *centred))
        return [
            embed.add_to_samples(
                plane, self._pattern(number, plane.shape[0], plane.shape[1], orientation),
                masks[number] * (self._gain * unit * stretch[min(number, 1)]),
                (factor * plane.shape[0] / rows, factor * plane.shape[1] / columns), (1 << depth) - 1,
            )
            for number, plane in enumerate(planes)
        ]

    def _pattern(self, plane: int, rows: int, columns: int, orientation: Orientation = UPRIGHT
                 ) -> NDArray[np.float32]:
        """Pattern of one plane at its stored size, turned back from display to stored orientation."""
        key = (plane, rows, columns, orientation)
        if key not in self._patterns:
            shown = (columns, rows) if orientation.transpose else (rows, columns)
            image = self._laid(plane, *shown)
            image = image[:: -1 if orientation.flip_y else 1, :: -1 if orientation.flip_x else 1]
            if orientation.transpose:
                image = image.T
            self._patterns[key] = np.ascontiguousarray(image)
        return self._patterns[key]

    def _laid(self, plane: int, rows: int, columns: int) -> NDArray[np.float32]:
        return tile.laid(self._waves, plane, rows, columns, canonical=self.canonical, oversampling=_OVERSAMPLING)


def _empty_like(frames: Tensor) -> Tensor:
    """A new tensor on the CPU in memory of NumPy's, which asks the system for large pages: first use costs less."""
    import torch

    size = frames.element_size()
    return torch.from_numpy(np.empty((*frames.shape[:-1], frames.shape[-1] * size), np.uint8)).view(frames.dtype)


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

    Raises:
        InputError: no tensor, one of another shape or dtype or with values far outside [0, 1], or no Mark.
        MissingExtraError: without torch.
    """
    if not isinstance(frames, require("torch", "generate").Tensor):
        raise InputError(f"Expected a torch tensor of shape (N, 3, H, W), got a {type(frames).__name__}; convert it "
                         "with torch.as_tensor.")
    if not isinstance(mark, Mark):
        raise InputError(f"Expected a Mark, got a {type(mark).__name__}; make one with genwm.Mark.")
    if frames.ndim != 4:
        raise InputError(f"Expected frames of shape (N, 3, H, W), got {tuple(frames.shape)}; rearrange them.")
    _check_range(frames)
    return Marker(mark, frames.shape[3], frames.shape[2]).rgb(frames)


def _check_range(frames: Tensor) -> None:
    """InputError for values far outside [0, 1], which would be clipped to black and white; a sample is looked at."""
    sample = frames.detach()[..., ::_SAMPLED, ::_SAMPLED]
    if not sample.numel() or not sample.is_floating_point():
        return
    low, high = (float(value) for value in sample.float().aminmax())
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
        raise InputError(f"Expected frames with values in [0, 1], got {low:.4g} to {high:.4g}; divide them by 255, or "
                         "add 1 and halve them.")
