"""What platforms and people do to a clip, one step after the other. The steps are typical, not any company's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import partial

import numpy as np

from eval.attacks.color import replaced
from eval.attacks.geometry import even, resize, resized
from eval.attacks.model import Edit, Encode, chained, each, recoded
from eval.attacks.overlays import caption
from eval.attacks.photometry import bytes_of, gamma, noise
from eval.attacks.temporal import to_rate
from eval.attacks.warps import upright
from genwm.video import Planes


def fitted(planes: Planes, *, lines: int) -> Planes:
    """The frame with a short side of ``lines``; a smaller one is left as it is."""
    height, width = planes.y.shape
    scale = lines / min(height, width)
    return planes if scale >= 1 else resized(planes, width=even(width * scale), height=even(height * scale))


def fit(lines: int) -> Edit:
    return each(partial(fitted, lines=lines))


def moire(depth: float) -> Edit:
    """The beat of a camera's and a screen's raster: two slanted gratings that multiply luma by up to 1 +- ``depth``,
    with random periods of 4 to 12 samples, for the whole clip."""

    def edit(frames: Sequence[Planes], fps: Fraction, rng: np.random.Generator) -> tuple[Iterable[Planes], Fraction]:
        height, width = frames[0].y.shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        gain = np.ones((height, width), np.float32)
        for _ in range(2):
            angle, period, phase = rng.uniform(0, np.pi), rng.uniform(4, 12), rng.uniform(0, 2 * np.pi)
            place = np.float32(np.cos(angle)) * columns + np.float32(np.sin(angle)) * rows
            gain += np.float32(depth / 2) * np.sin(place * np.float32(2 * np.pi / period) + np.float32(phase))

        def seen(frame: Planes) -> Planes:
            black = 0 if frame.full_range else 16
            luma = bytes_of((frame.y.astype(np.float32) - black) * gain + black)
            return replaced(frame, luma, frame.u, frame.v)

        return map(seen, frames), fps

    return edit


def _encode(codec: str, crf: float) -> Encode:
    return Encode(codec=codec, crf=crf, preset={"h264": "medium", "vp9": "4"}[codec])  # type: ignore[arg-type]


#: Name -> steps before the last encode, the last encode, description.
CHAINS: dict[str, tuple[Edit, Encode, str]] = {
    "chain.short-video": (
        chained(fit(720), recoded(_encode("h264", 28)), each(upright), caption(top=0.7, bottom=0.8)),
        _encode("h264", 28),
        "at most 720 lines at H.264 CRF 28, cut to 9:16, a caption, H.264 CRF 28 again",
    ),
    "chain.messenger": (
        chained(fit(480), to_rate(Fraction(24))),
        Encode(codec="h264", preset="veryfast", bitrate_kbps=800, gop_s=5),
        "at most 480 lines, 24 frames a second, H.264 at 800 kbit/s",
    ),
    "chain.repost": (
        chained(recoded(_encode("h264", 26)), fit(540), recoded(_encode("vp9", 40))),
        _encode("h264", 30),
        "H.264 CRF 26, at most 540 lines at VP9 CRF 40, H.264 CRF 30",
    ),
    "chain.screen": (
        chained(
            resize(0.87, 0.87),
            gamma(1.1),
            moire(0.04),
            to_rate(Fraction(60)),
            noise(3),
        ),
        _encode("h264", 26),
        "a recorded screen: resampled to .87, gamma 1.1, moire, 60 frames a second, noise of 3 levels, H.264 CRF 26",
    ),
}
