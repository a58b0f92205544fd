"""What a mark costs an encoder: the bit rate that marked frames need more than unmarked ones, at the same fidelity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from scipy.interpolate import PchipInterpolator

from eval.attacks.model import Encode
from genwm.errors import InputError
from genwm.video import Planes, read_planes

CRFS = (22, 27, 32, 37)
Point = tuple[float, float]


def rate_points(frames: Sequence[Planes], fps: Fraction, *, crfs: Sequence[float] = CRFS) -> list[Point]:
    """x264 (preset medium) at each CRF: (kbit/s, PSNR in dB of the decoded frames against these; 6 Y, 1 U, 1 V)."""
    points = []
    for crf in crfs:
        file = Encode(codec="h264", crf=crf, preset="medium").write(frames, fps)
        errors = np.zeros(3)
        for one, other in zip(frames, read_planes(file, threads=1), strict=True):
            for place, name in enumerate("yuv"):
                difference = getattr(one, name).astype(np.int32) - getattr(other, name)
                errors[place] += np.square(difference).mean() / len(frames)
        psnr = [10 * math.log10(255**2 / max(error, 1e-9)) for error in errors]
        kbps = file.getbuffer().nbytes * 8 / 1000 / (len(frames) / float(fps))
        points.append((kbps, (6 * psnr[0] + psnr[1] + psnr[2]) / 8))
    return points


def bd_rate(anchor: Sequence[Point], test: Sequence[Point]) -> float:
    """Bjontegaard's mean difference of bit rate in percent between two curves of (kbit/s, dB), positive where ``test``
    needs more: log rate over quality, piecewise cubic, over the qualities that both reach.

    G. Bjontegaard, VCEG-M33 (2001); piecewise cubic as in JCTVC-L1100. Raises InputError where nothing is shared."""
    curves = []
    for points in (anchor, test):
        rates, qualities = zip(*sorted(points, key=lambda point: point[1]), strict=True)
        curves.append((PchipInterpolator(qualities, np.log(rates)), qualities[0], qualities[-1]))
    low, high = max(curve[1] for curve in curves), min(curve[2] for curve in curves)
    if not low < high:
        raise InputError(f"Expected curves that share qualities, got {low:.1f} to {high:.1f} dB; use other CRFs")
    areas = [float(curve.integrate(low, high)) for curve, _, _ in curves]
    return 100 * (math.exp((areas[1] - areas[0]) / (high - low)) - 1)
