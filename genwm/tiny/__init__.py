"""The embedded default pipeline: the renderer of its training data, its parts, and the recipe that trains it."""

from pathlib import Path

#: Folder of the shipped pipeline.
EMBEDDED = Path(__file__).parent / "weights"
