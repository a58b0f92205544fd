"""The watermarks under test behind one interface: this project's own, other people's that run here, and the figures
that others have published, which are kept apart from what was run."""

from eval.methods.foreign import Foreign
from eval.methods.lattice import Lattice
from eval.methods.model import Outcome, Watermark, bits_in, is_keyed
from eval.methods.perframe import PerFrame, bits_of
from eval.methods.published import Published, read_published
from eval.methods.registry import (
    DEFAULT_METHODS,
    METHODS,
    QUICK_METHODS,
    is_foreign,
    known_method,
    method_id,
    method_named,
    methods_named,
)

__all__ = [
    "DEFAULT_METHODS",
    "METHODS",
    "QUICK_METHODS",
    "Foreign",
    "Lattice",
    "Outcome",
    "PerFrame",
    "Published",
    "Watermark",
    "bits_in",
    "bits_of",
    "is_foreign",
    "is_keyed",
    "known_method",
    "method_id",
    "method_named",
    "methods_named",
    "read_published",
]
