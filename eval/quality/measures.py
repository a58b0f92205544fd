"""How visible a change is: measures between reference and test frames.

Pure functions of ``(reference, test)``, arrays of one shape. Luma is uint8 ``(N, H, W)`` as stored (8-bit video
levels), RGB is uint8 ``(N, H, W, 3)``, sRGB-coded.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import statistics
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from eval.quality.arrays import RGB, Luma, check_frames
from eval.quality.colorvideovdp import DISPLAYS, jod
from genwm.errors import InputError
from genwm.extras import require
from genwm.video import Planes
from genwm.video.filters import to_rgb
from genwm.video.model import ColorSpace
from genwm.video.pixels import fill_plane, rgb_view

Metric = Literal["psnr", "ssim", "msssim", "vmaf", "jod", "flicker", "bdrate"]

METRICS: tuple[Metric, ...] = ("psnr", "ssim", "msssim", "vmaf", "jod", "flicker", "bdrate")
USUAL: tuple[Metric, ...] = ("psnr", "ssim", "vmaf", "jod", "flicker")  # without the slow and the seldom asked
JOD_FRAMES = 24


def psnr(reference: NDArray[np.uint8], test: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB over all frames together: 10 log10(255^2 / mean squared error).

    Luma or RGB, uint8 of any shape. Identical frames give infinity.
    """
    check_frames(reference, test)
    squares = sum(
        int(np.square(one.astype(np.int16) - other, dtype=np.int32).sum(dtype=np.int64))
        for one, other in zip(reference, test, strict=True)
    )
    return 10 * math.log10(255**2 * reference.size / squares) if squares else math.inf


def ssim(reference: Luma, test: Luma) -> float:
    """Structural similarity of luma, the mean over frames and over the pixels whose window lies inside the frame.

    Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004: Gaussian window 11 x 11 of sigma 1.5, K1 .01, K2 .03, 8 bits.
    """
    check_frames(reference, test, dimensions=3)
    height, width = reference.shape[1:]
    if min(height, width) < 11:
        raise InputError(f"Expected frames of 11 x 11 pixels or more for SSIM, got {width} x {height}; use larger ones")
    return statistics.fmean(_ssim(one, other) for one, other in zip(reference, test, strict=True))


def _ssim(reference: NDArray[np.generic], test: NDArray[np.generic]) -> float:
    return _similarity(reference, test)[0]


def _similarity(reference: NDArray[np.generic], test: NDArray[np.generic]) -> tuple[float, float]:
    """Of one frame of luma: SSIM, and its part without luminance (contrast and structure)."""
    offsets = np.arange(-5, 6, dtype=np.float32)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        down: NDArray[np.float32] = correlate1d(values, window, axis=0)[5:-5]
        across: NDArray[np.float32] = correlate1d(down, window, axis=1)[:, 5:-5]
        return across

    # Around mid grey, so that float32 loses nothing in the differences of squares.
    x, y = reference.astype(np.float32) - 128, test.astype(np.float32) - 128
    mean_x, mean_y = mean(x), mean(y)
    power = mean(x * x) + mean(y * y) - mean_x**2 - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + 128, mean_y + 128
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    structure = (2 * covariance + c2) / (power + c2)
    similarity = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1) * structure
    return float(similarity.mean(dtype=np.float64)), float(structure.mean(dtype=np.float64))


# Exponents of the five scales, finest first.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ms_ssim(reference: Luma, test: Luma) -> float:
    """Multi-scale structural similarity of luma, the mean over frames: SSIM's contrast and structure at five scales,
    halved by 2 x 2 means, and its luminance at the coarsest.

    Wang, Simoncelli, Bovik, Asilomar 2003. Raises InputError for frames under 176 lines or columns.
    """
    check_frames(reference, test, dimensions=3)
    height, width = reference.shape[1:]
    if min(height, width) < 11 << 4:
        raise InputError(f"Expected frames of 176 x 176 or more for MS-SSIM, got {width} x {height}; use larger ones")
    return statistics.fmean(_ms_ssim(one, other) for one, other in zip(reference, test, strict=True))


def _ms_ssim(reference: Luma, test: Luma) -> float:
    one: NDArray[np.float32] = reference.astype(np.float32)
    other: NDArray[np.float32] = test.astype(np.float32)
    result = 1.0
    for scale, weight in enumerate(_SCALES):
        whole, structure = _similarity(one, other)
        result *= max(0.0, whole if scale == len(_SCALES) - 1 else structure) ** weight
        one, other = _halved(one), _halved(other)
    return result


def _halved(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    even = luma[: luma.shape[0] // 2 * 2, : luma.shape[1] // 2 * 2]
    quarters: NDArray[np.float32] = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return quarters / np.float32(4)


def flicker(reference: Luma, test: Luma) -> float:
    """How much the change of luma changes from frame to frame: the root mean square, over pixels and pairs of frames,
    of the difference of two successive residuals (test - reference), in 8-bit levels. 0 for one frame, and for a mark
    that stands still."""
    check_frames(reference, test, dimensions=3)
    residuals = (one.astype(np.int16) - other for one, other in zip(test, reference, strict=True))
    powers = [
        float(np.square((after - before).astype(np.float32)).mean(dtype=np.float64))
        for before, after in pairwise(residuals)
    ]
    return math.sqrt(statistics.fmean(powers)) if powers else 0.0


def vmaf(reference: Luma, test: Luma) -> float:
    """VMAF (model v0.6.1, mean over frames, 0..100) by libvmaf, in the static FFmpeg of imageio-ffmpeg.

    VMAF sees luma alone. Report `vmaf(reference, reference)` beside it: identical frames give 97 to 100, by content.
    Raises MissingExtraError, InputError for frames that libvmaf refuses (under about 32 pixels a side).
    """
    check_frames(reference, test, dimensions=3)
    program: str = require("imageio_ffmpeg", "quality").get_ffmpeg_exe()
    height, width = reference.shape[1:]
    readers, writers = zip(os.pipe(), os.pipe(), strict=True)
    source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25"]
    command = [program, "-hide_banner", "-nostdin", "-threads", "1", "-filter_complex_threads", "1"]
    for reader in readers:  # the test comes first
        command += [*source, "-i", f"pipe:{reader}"]
    command += ["-lavfi", "[0:v][1:v]libvmaf=n_threads=1", "-f", "null", "-"]
    process = subprocess.Popen(
        command, pass_fds=readers, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    for reader in readers:
        os.close(reader)
    feeders = [
        threading.Thread(target=_feed, args=(writer, luma), daemon=True)
        for writer, luma in zip(writers, (test, reference), strict=True)
    ]
    for feeder in feeders:
        feeder.start()
    log = process.communicate()[1].decode(errors="replace")
    for feeder in feeders:
        feeder.join()
    found = re.search(r"VMAF score: ([0-9.]+)", log)
    if process.returncode or not found:
        last = log.strip().splitlines()[-1:] or ["nothing"]
        raise InputError(f"Expected a VMAF score of frames of {width} x {height}, got '{last[0]}'; use larger frames")
    return float(found[1])


def _feed(descriptor: int, luma: Luma) -> None:
    """Writes frames as 4:2:0 with grey chroma, which libvmaf does not look at."""
    height, width = luma.shape[1:]
    grey = bytes([128]) * (2 * ((height + 1) // 2) * ((width + 1) // 2))
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as pipe:
        for frame in luma:
            pipe.write(np.ascontiguousarray(frame).data)
            pipe.write(grey)


@dataclass(frozen=True)
class Footage:
    """The frames of one version of a clip: ``luma`` of all of them, ``rgb`` of the first `JOD_FRAMES`."""

    luma: Luma
    rgb: RGB

    @classmethod
    def from_planes(cls, planes: Sequence[Planes]) -> Footage:
        """Luma untouched; RGB by the frames' own matrix and range, chroma enlarged as players do."""
        if not planes:
            raise InputError("Expected at least one frame to measure, got none; check the clip")
        return cls(np.stack([frame.y for frame in planes]), _rgb(planes[:JOD_FRAMES]))

    @classmethod
    def from_rgb(cls, rgb: RGB, *, space: ColorSpace) -> Footage:
        """Luma from RGB by the matrix ``space``, video levels 16..235, rounded to 8 bits."""
        return cls(np.stack([_luma(frame, space) for frame in rgb]), rgb[:JOD_FRAMES])


def measure(
    reference: Footage,
    test: Footage,
    *,
    fps: float,
    metrics: Sequence[Metric] = METRICS,
    displays: Sequence[str] = DISPLAYS,
    device: str = "cpu",
) -> dict[str, float]:
    """The named measures by column of the results: luma_psnr and rgb_psnr (dB), ssim, msssim, flicker (levels), vmaf,
    jod_fhd and jod_4k. ``bdrate`` needs encodes: see :mod:`eval.quality.coding`.

    RGB measures cover the frames of ``rgb``, the others all frames.
    """
    values: dict[str, float] = {}
    if "psnr" in metrics:
        values["luma_psnr"] = psnr(reference.luma, test.luma)
        values["rgb_psnr"] = psnr(reference.rgb, test.rgb)
    if "ssim" in metrics:
        values["ssim"] = ssim(reference.luma, test.luma)
    if "msssim" in metrics:
        values["msssim"] = ms_ssim(reference.luma, test.luma)
    if "flicker" in metrics:
        values["flicker"] = flicker(reference.luma, test.luma)
    if "vmaf" in metrics:
        values["vmaf"] = vmaf(reference.luma, test.luma)
    if "jod" in metrics:
        scores = jod(reference.rgb, test.rgb, fps=fps, displays=displays, device=device)
        values |= {f"jod_{name.removeprefix('standard_')}": score for name, score in scores.items()}
    return values


# Red's and blue's share of luma, ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance).
_SHARES: dict[ColorSpace, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


def _luma(rgb: RGB, space: ColorSpace) -> Luma:
    red, blue = _SHARES[space]
    weights = np.array([red, 1 - red - blue, blue], np.float32) * (219 / 255)
    levels: NDArray[np.float32] = rgb.astype(np.float32) @ weights + 16
    return np.rint(levels).astype(np.uint8)


def _rgb(planes: Sequence[Planes]) -> RGB:
    height, width = planes[0].y.shape
    frames = np.empty((len(planes), height, width, 3), np.uint8)
    frame = VideoFrame(width, height, "yuv420p")
    convert = to_rgb(frame, (width, height), planes[0].color_space, planes[0].full_range, "h264")
    for index, source in enumerate(planes):
        frame = VideoFrame(width, height, "yuv420p")
        frame.pts = index
        for plane, samples in enumerate((source.y, source.u, source.v)):
            fill_plane(frame, plane, samples)
        for converted in convert(frame):
            frames[index] = rgb_view(converted)
    return frames
