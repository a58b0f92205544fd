"""Sizes and frame counts that a pipeline can make: what its autoencoder and its denoiser take in whole steps.

Pipelines round what they cannot make, most of them without a word, and some fail deep inside. ``check`` refuses it
before the work; ``as_asked`` refuses what comes out differently all the same.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genwm.errors import SizeError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

#: What families call the factors of their autoencoders.
_IN_SPACE = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor",
             "vae_scale_factor")
_IN_TIME = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
#: Read from diffusers 0.42: it cuts what it has decoded to the frames that were asked for.
_CUT_TO_COUNT = frozenset({"AllegroPipeline"})
#: Sides that frames may be scaled to.
LEAST_SHOWN, MOST_SHOWN = 64, 4096


@dataclass(frozen=True)
class Steps:
    """The numbers ``first + size * n`` for n = 0, 1, 2, ..., those above 0 of them."""

    size: int
    first: int = 0

    def nearest(self, value: int) -> tuple[int, ...]:
        """The one or two of them next to ``value``, in order."""
        below = value - (value - self.first) % self.size
        return tuple(dict.fromkeys(one for one in (below, below + self.size if below != value else value) if one > 0))

    def __contains__(self, value: int) -> bool:
        return value > 0 and (value - self.first) % self.size == 0

    def __str__(self) -> str:
        return f"{self.size}n + {self.first}" if self.first else f"multiples of {self.size}"


def side_steps(pipe: Any) -> Steps:
    """Widths and heights, in pixels, that a pipeline of diffusers makes as they are asked for."""
    denoiser = getattr(pipe, "transformer", None) or getattr(pipe, "transformer_2", None)
    patch = getattr(getattr(denoiser, "config", None), "patch_size", None) or 1
    # A patch is one number for both sides, or (frames, rows, columns) with rows as many as columns.
    factor = (_first_of(pipe, _IN_SPACE) or 1) * (patch if isinstance(patch, int) else patch[-1])
    return Steps(math.lcm(factor, _own_factor(type(pipe))))


def frame_steps(pipe: Any) -> Steps:
    """Frame counts that a pipeline of diffusers makes as they are asked for.

    The autoencoders in time are causal: the first frame has a latent frame of its own, each other one holds as many as
    the factor says. Where they are decoded in batches of latent frames (CogVideoX), whole batches follow the first.
    """
    factor = _first_of(pipe, _IN_TIME) or 1
    if factor == 1 or type(pipe).__name__ in _CUT_TO_COUNT:
        return Steps(1)
    batch = getattr(pipe.vae, "num_latent_frames_batch_size", 1)
    return Steps(factor * (batch if type(pipe.vae).__name__ == "AutoencoderKLCogVideoX" else 1), 1)


def check(pipe: Any, width: int | None, height: int | None, frames: int | None) -> None:
    """SizeError, with the nearest that work, for what ``pipe`` would round; None is not checked."""
    sides = side_steps(pipe)
    _refuse(type(pipe).__name__, {"--width": (width, sides), "--height": (height, sides),
                                  "--frames": (frames, frame_steps(pipe))})


def as_asked(
    name: str, frames: Iterator[NDArray[np.uint8]], width: int | None, height: int | None, count: int | None
) -> Iterator[NDArray[np.uint8]]:
    """The same ``frames``; SizeError as soon as they are of another size or number than was asked for."""
    made = 0
    for frame in frames:
        rows, columns = frame.shape[:2]
        if (columns, rows) != (width or columns, height or rows):
            raise SizeError(f"Expected {name} to make frames of {width or columns}x{height or rows}, got "
                            f"{columns}x{rows}; ask for that size, or leave --width and --height out.")
        made += 1
        yield frame
    if count is not None and made != count:
        raise SizeError(f"Expected {name} to make {count} frames, got {made}; ask for a count that it makes, or leave "
                        "--frames out.")


def check_shown(width: int, height: int) -> None:
    """SizeError for what frames cannot be scaled to: an odd side, which 4:2:0 has no place for, or one below 64."""
    if width % 2 or height % 2 or min(width, height) < LEAST_SHOWN or max(width, height) > MOST_SHOWN:
        near = (min(max(side + side % 2, LEAST_SHOWN), MOST_SHOWN) for side in (width, height))
        raise SizeError(f"Expected even sides from {LEAST_SHOWN} to {MOST_SHOWN} for a clip that is scaled, got "
                        f"{width}x{height}; use --size {'x'.join(map(str, near))}.")


def fitted(frames: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Frames ``(N, 3, H, W)`` in [0, 1] cut about the middle to the shape of ``size`` (width, height) and scaled to it,
    bicubic and without aliases; as they are where it is None or theirs."""
    from torch.nn.functional import interpolate

    rows, columns = frames.shape[-2:]
    if size is None or size == (columns, rows):
        return frames
    x, y, across, down = _middle(columns, rows, size)
    cut = frames[..., y : y + down, x : x + across]
    return interpolate(cut, size[::-1], mode="bicubic", antialias=True).clamp_(0.0, 1.0)


def placed(picture: Image, size: tuple[int, int], shown: tuple[int, int] | None = None) -> Image:
    """What a clip of ``size`` (width, height) starts from: the picture cut about the middle to that shape, for
    pipelines squeeze what has another. With ``shown`` it is cut to the shape of that, put where ``fitted`` will cut it
    out again, and mirrored around."""
    from PIL.Image import fromarray

    x, y, across, down = _middle(*picture.size, shown or size)
    cut = picture.crop((x, y, x + across, y + down))
    if shown is None:
        return cut
    x, y, across, down = _middle(*size, shown)
    around = ((y, size[1] - down - y), (x, size[0] - across - x), (0, 0))
    return fromarray(np.pad(np.asarray(cut.resize((across, down))), around, "symmetric"))


def _middle(columns: int, rows: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of the largest part about the middle that has the shape (width, height)."""
    width, height = shape
    scale = max(width / columns, height / rows)
    across, down = (max(1, min(most, round(side / scale))) for most, side in ((columns, width), (rows, height)))
    return (columns - across) // 2, (rows - down) // 2, across, down


def _refuse(name: str, asked: dict[str, tuple[int | None, Steps]]) -> None:
    wrong = [(option, value, steps) for option, (value, steps) in asked.items()
             if value is not None and value not in steps]
    if wrong:
        rules = " and ".join(f"{option} in {steps}" for option, _, steps in wrong)
        got = " and ".join(str(value) for _, value, _ in wrong)
        near = " and ".join(f"{option} {' or '.join(map(str, steps.nearest(value)))}" for option, value, steps in wrong)
        raise SizeError(f"Expected {rules}, which is what {name} can make, got {got}; use {near}.")


def _own_factor(kind: type) -> int:
    """What a pipeline's own check asks sides to be divisible by, whatever its parts are: a number in its code."""
    own = getattr(kind, "check_inputs", None)
    return math.lcm(*map(int, re.findall(r"\b(?:height|width) % (\d+)", inspect.getsource(own) if own else "")))


def _first_of(pipe: Any, names: tuple[str, ...]) -> int | None:
    return next((int(value) for name in names if (value := getattr(pipe, name, None))), None)
