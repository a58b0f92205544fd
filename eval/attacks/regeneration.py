"""Making the picture anew from what a viewer sees of it: smoothing, sharpening, still-image codecs, an autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

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
    """Encodes and decodes every frame by the image autoencoder in ``folder`` (diffusers' AutoencoderKL: config.json and
    weights), the mean of its latent, in float32 on the CPU. Sides are cut to a multiple of 8."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        coder = _autoencoder(str(folder))
        return (planes_of(coder(rgb_of(frame)), frame) for frame in frames), fps

    return edit


def check_autoencoder(folder: str) -> None:
    """Raises InputError where a folder has no autoencoder."""
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"Expected a folder with an autoencoder's config.json at {folder}, got none; give its path")


@lru_cache(maxsize=1)
def _autoencoder(folder: str) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """RGB uint8 ``(height, width, 3)`` -> the same, regenerated."""
    torch, diffusers = require("torch", "generate"), require("diffusers", "generate")
    check_autoencoder(folder)
    model: Any = diffusers.AutoencoderKL.from_pretrained(folder, local_files_only=True).eval()

    def coder(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = (side // 8 * 8 for side in rgb.shape[:2])
        values = torch.from_numpy(rgb[:height, :width].transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
        with torch.inference_mode():
            result = model.decode(model.encode(values).latent_dist.mode()).sample
        levels = (result[0].clamp(-1, 1) + 1) * 127.5
        array: NDArray[np.uint8] = levels.round().to(torch.uint8).permute(1, 2, 0).numpy()
        return array

    return coder
