"""Speed and memory against their limits: marking, verifying over decoding alone, the search, cold starts.

    python -m eval.speed --out speed.json

The clips are made on the spot. Machines are shared, so every time is given twice, by the wall clock and in seconds of
processor time over all threads, and every comparison (a ratio) is measured in this one run. "Cold" is a fresh process
whose files are in the page cache.
"""

from eval.speed.benchmarks import BENCHMARKS, Clips, Settings, make_clips
from eval.speed.command import speed
from eval.speed.measuring import LIMITS, Child, Cost, Result, result, run_child, timed
from eval.speed.report import describe, markdown, run

__all__ = [
    "BENCHMARKS",
    "LIMITS",
    "Child",
    "Clips",
    "Cost",
    "Result",
    "Settings",
    "describe",
    "make_clips",
    "markdown",
    "result",
    "run",
    "run_child",
    "speed",
    "timed",
]
