"""The watermarks under test behind one interface: this project's own, other people's that run here, and the figures
that others have published, which are kept apart from what was run."""

from eval.methods.lattice import Lattice
from eval.methods.model import Outcome, Watermark
from eval.methods.perframe import PerFrame, bits_of
from eval.methods.published import Published, read_published
from eval.methods.registry import DEFAULT_METHODS, METHODS, QUICK_METHODS, method_id, methods_named

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "QUICK_METHODS",
    "Lattice",
    "Outcome",
    "PerFrame",
    "Published",
    "Watermark",
    "bits_of",
    "method_id",
    "methods_named",
    "read_published",
]
