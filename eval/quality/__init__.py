"""How visible a mark is: measures between reference and test frames, and the runner that takes them on many clips.

PSNR flatters a low-frequency mark, so it never stands alone: libvmaf and ColorVideoVDP are beside it. VMAF of identical
frames can be less than 100, so its identity value is reported too; ColorVideoVDP's scale ends at 10 JOD for identical
frames, and one JOD less means that 75 % of viewers see which is better.
"""

from eval.quality.coding import bd_rate, rate_points
from eval.quality.colorvideovdp import DISPLAYS, jod
from eval.quality.measures import METRICS, USUAL, Footage, flicker, measure, ms_ssim, psnr, ssim, vmaf
from eval.quality.reporting import summary
from eval.quality.running import Settings, read_rows, run

__all__ = [
    "DISPLAYS",
    "METRICS",
    "USUAL",
    "Footage",
    "Settings",
    "bd_rate",
    "flicker",
    "jod",
    "measure",
    "ms_ssim",
    "psnr",
    "rate_points",
    "read_rows",
    "run",
    "ssim",
    "summary",
    "vmaf",
]
