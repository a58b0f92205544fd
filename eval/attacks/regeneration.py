"""Making the picture anew from what a viewer sees of it: smoothing, sharpening, still-image codecs, an autoencoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from eval.attacks.color import planes_of, replaced, rgb_of
from eval.attacks.model import Edit, each
from eval.attacks.photometry import blurred, bytes_of
from genwm.errors import InputError
from genwm.extras import require
from genwm.video import Planes

if TYPE_CHECKING:
    from genwm.decoding import Layout

#: Frames that an autoencoder of video regenerates at a time, at least: they fit into memory at 720 lines.
WINDOW = 17


def resharpened(planes: Planes, *, sigma: float, amount: float) -> Planes:
    """Blurred by ``sigma`` samples, then what a second blur takes away is added ``amount`` times (unsharp mask)."""
    soft = blurred(planes, sigma=sigma)
    softer = blurred(soft, sigma=sigma)

    def plane(name: str) -> NDArray[np.uint8]:
        base = getattr(soft, name).astype(np.float32)
        return bytes_of(base + amount * (base - getattr(softer, name)))

    return replaced(planes, plane("y"), plane("u"), plane("v"))


def median_filtered(planes: Planes, *, size: int) -> Planes:
    """The median of ``size`` x ``size`` samples, of about half that on the halved colour planes."""
    small = max(3, size // 2 | 1)
    y, u, v = (
        ndimage.median_filter(plane, width, mode="nearest")
        for plane, width in ((planes.y, size), (planes.u, small), (planes.v, small))
    )
    return replaced(planes, y, u, v)


def denoised(planes: Planes, *, sigma: float) -> Planes:
    """An adaptive (Wiener) filter over 5 x 5 samples, which smooths where the local deviation is near ``sigma`` levels
    and keeps edges: J. S. Lim, Two-Dimensional Signal and Image Processing (1990), eq. 9.44-9.46."""

    def plane(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        values = samples.astype(np.float32)
        mean = ndimage.uniform_filter(values, 5, mode="nearest")
        power = np.maximum(ndimage.uniform_filter(values * values, 5, mode="nearest") - mean * mean, 1e-3)
        kept = np.maximum(power - sigma * sigma, 0) / power
        return bytes_of(mean + kept * (values - mean))

    return replaced(planes, plane(planes.y), plane(planes.u), plane(planes.v))


def as_jpeg(planes: Planes, *, quality: int) -> Planes:
    """The frame as a JPEG of that quality, 4:2:0, and back."""
    file = BytesIO()
    Image.fromarray(rgb_of(planes)).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    return planes_of(np.asarray(Image.open(file).convert("RGB")), planes)


def resharpen(sigma: float, amount: float) -> Edit:
    return each(partial(resharpened, sigma=sigma, amount=amount))


def median(size: int) -> Edit:
    return each(partial(median_filtered, size=size))


def denoise(sigma: float) -> Edit:
    return each(partial(denoised, sigma=sigma))


def jpeg_frames(quality: int) -> Edit:
    return each(partial(as_jpeg, quality=quality))


def autoencode(folder: str | Path) -> Edit:
    """Encodes and decodes the clip by the autoencoder in ``folder`` (config.json and weights of one of diffusers' whose
    layout is known), the mean of its latent, in float32 on the CPU; one of video takes `WINDOW` frames at a time. Sides
    are cut to a multiple of what it takes."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        return _regenerated(_autoencoder(str(folder)), frames), fps

    return edit


def check_autoencoder(folder: str) -> None:
    """Raises InputError where a folder has no autoencoder."""
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"Expected a folder with an autoencoder's config.json at {folder}, got none; give its path")


def _regenerated(coder: _Coder, frames: Sequence[Planes]) -> Iterator[Planes]:
    for start in range(0, len(frames), coder.length):
        part = frames[start : start + coder.length]
        pictures = np.stack([rgb_of(frame) for frame in part])
        missing = coder.length - len(part)  # at the end the last frame stands still
        made = coder(np.concatenate([pictures, np.repeat(pictures[-1:], missing, axis=0)]))
        yield from (planes_of(picture, frame) for picture, frame in zip(made, part, strict=False))


@dataclass(frozen=True, slots=True)
class _Coder:
    """An autoencoder, called with RGB uint8 ``(length, height, width, 3)``; it gives the same, regenerated."""

    model: Any
    layout: Layout
    length: int
    step: int

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import torch

        height, width = (side // self.step * self.step for side in pictures.shape[1:3])
        if not height or not width:
            raise InputError(f"Expected pictures of at least {self.step} x {self.step} for this autoencoder, got "
                             f"{pictures.shape[2]} x {pictures.shape[1]}; use larger clips")  # fmt: skip
        offset, scale = (torch.tensor(each).view(3, 1, 1, 1) for each in (self.layout.offset, self.layout.scale))
        values = torch.from_numpy(pictures[:, :height, :width].transpose(3, 0, 1, 2).copy()).float() / 255
        values = (values - offset) / scale
        values = values[None] if self.layout.video else values.transpose(0, 1)
        with torch.inference_mode():
            decoded = self.layout.arranged(self.model.decode(self.model.encode(values).latent_dist.mode()).sample)
        made = (decoded[0] if self.layout.video else decoded.transpose(0, 1)) * scale + offset
        levels: NDArray[np.uint8] = (made.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
        return levels


@lru_cache(maxsize=1)
def _autoencoder(folder: str) -> _Coder:
    require("torch", "generate")
    diffusers = require("diffusers", "generate")
    check_autoencoder(folder)
    from genwm.decoding import LAYOUTS

    name = str(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("_class_name"))
    layout = LAYOUTS.get(name)
    if layout is None or not hasattr(diffusers, name):
        raise InputError(f"Expected one of diffusers' autoencoders in {folder}, got {name}; give another folder")
    model: Any = getattr(diffusers, name).from_pretrained(folder, local_files_only=True).eval()
    every = int(getattr(model, "temporal_compression_ratio", 1))
    return _Coder(model, layout, 1 + -(-(WINDOW - 1) // every) * every if layout.video else 1,
                  int(getattr(model, "spatial_compression_ratio", 8)))  # fmt: skip
