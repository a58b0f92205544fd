"""Small pictures of what was done to a clip, as data URLs: original, marked, what the mark changed, and each attack."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eval.attacks import Clip, attack_named
from eval.attacks.color import rgb_of
from eval.corpus import Video
from eval.methods import known_method
from eval.robustness.runner import maker_of, rng_of, secrets_of, upright
from genwm.video import Planes, read_planes, read_rgb

FRAMES, FACTOR, WIDTH, HEIGHT = 8, 16, 264, 176


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Data URLs of pictures at most 264 x 176: the frame, marked by each method, ``FACTOR`` times the change about
    grey, and after each attack on the first method (None where it failed).
    Methods that are not here, or cannot mark it, are left out."""

    clip: str
    original: str
    marked: dict[str, str]
    change: dict[str, str]
    attacked: dict[str, str | None]


def thumbnails(
    video: Video, methods: Sequence[str], attacks: Sequence[str], *, lines: int | None = None, seed: int = 0
) -> Thumbnails:
    """Marks and attacks the first frames of a clip and shows the middle one. Errors: those of read_planes."""

    def original() -> list[Planes]:
        with read_planes(video.path, max_frames=FRAMES, threads=1) as reader:
            shown = upright(reader, lines=lines)
            return [replace(one, y=one.y.copy(), u=one.u.copy(), v=one.v.copy()) for one in shown]

    key, _, payload, _ = secrets_of(video, seed)
    frames = original()
    plain = rgb_of(frames[len(frames) // 2])
    marked: dict[str, str] = {}
    change: dict[str, str] = {}
    attacked: dict[str, str | None] = {}
    for method in methods:
        watermark = known_method(method)
        if watermark is None:
            continue
        try:
            made = list(watermark.mark(frames, key, payload))
        except Exception:  # a package that is not here, a foreign method's fault: the page is worth more than a picture
            continue
        first = not marked
        rgb = rgb_of(made[len(made) // 2])
        marked[method] = picture(rgb)
        change[method] = picture(np.clip(128 + FACTOR * (rgb.astype(np.int16) - plain), 0, 255).astype(np.uint8))
        if first:
            clip = Clip(made, Fraction(25), maker_of(video, watermark, seed, original))
            for name in attacks:
                attacked[name] = _attacked(clip, video, name, seed)
    return Thumbnails(clip=video.id, original=picture(plain), marked=marked, change=change, attacked=attacked)


def _attacked(clip: Clip, video: Video, name: str, seed: int) -> str | None:
    try:
        attack = attack_named(name)
        file = attack.apply(clip, rng_of(video, attack, seed))
        with read_rgb(file, threads=1) as reader:
            frames = [frame for _, frame in reader]
        return picture(frames[len(frames) // 2])
    except Exception:  # what failed is in the rows; the page is worth more than one picture
        return None


def picture(rgb: NDArray[np.uint8]) -> str:
    """RGB uint8 ``(height, width, 3)`` as a JPEG that fits into ``WIDTH`` x ``HEIGHT``, never enlarged."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    image.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "jpeg", quality=82, subsampling="4:4:4")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
