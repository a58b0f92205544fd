"""How often a mark is found and read after each attack, over a folder of clips: ``python -m eval.robustness``.

Every (clip, attack) is one line of a CSV file that is written as soon as it is known, so a run may be killed at any
moment and goes on where it was. The detector knows neither the geometry, nor the payload, nor which of the keys that
it is given (the right one and a decoy, in random order) was used.
"""

from eval.intervals import wilson
from eval.robustness.runner import run
from eval.robustness.summary import FLOORS, Cell, Floor, markdown, summarize, write_summary
from eval.robustness.table import Row, read_rows

__all__ = [
    "FLOORS",
    "Cell",
    "Floor",
    "Row",
    "markdown",
    "read_rows",
    "run",
    "summarize",
    "wilson",
    "write_summary",
]
