"""False alarms: clips that nobody marked, read with random keys, and the p-values that come out against uniform.

    python -m eval.false_alarms --videos DIR --out false-alarms.csv

What can be computed without a key (frames, evidence, spectra) is computed once a clip; the keys are then tried against
it in batches, with the detector's own functions and its own decision. All keys are tried at the known geometries
(level ``known``), the first few of each clip in the whole search (level ``all``).

Beside ``OUT.csv``, one row a clip and key, stand ``OUT.clips.csv``, one row a clip (it says which clips are done),
``OUT.summary.csv`` and ``OUT.md``.
"""

from eval.false_alarms.command import false_alarms
from eval.false_alarms.summary import calibrations, clopper_pearson, markdown, summarize, tail_rows
from eval.false_alarms.table import run
from eval.false_alarms.trials import KNOWN, ClipResult, Trial, looks_of, measure, random_key, try_keys

__all__ = [
    "KNOWN",
    "ClipResult",
    "Trial",
    "calibrations",
    "clopper_pearson",
    "false_alarms",
    "looks_of",
    "markdown",
    "measure",
    "random_key",
    "run",
    "summarize",
    "tail_rows",
    "try_keys",
]
