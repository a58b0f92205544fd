"""genwm marks video with a keyed, blind watermark; the package ``detectors`` finds the mark again.

Names are imported when they are first used, so ``import genwm`` costs nothing and reading a mark never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genwm.decoding import mark_decoder
    from genwm.errors import GenwmError
    from genwm.keys import Key, Keyring
    from genwm.marking import Mark, mark_frames

__all__ = ["GenwmError", "Key", "Keyring", "Mark", "__version__", "mark_decoder", "mark_frames"]

__version__ = "0.1.0"

_HOMES = {
    "GenwmError": "genwm.errors",
    "Key": "genwm.keys",
    "Keyring": "genwm.keys",
    "Mark": "genwm.marking",
    "mark_decoder": "genwm.decoding",
    "mark_frames": "genwm.marking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'genwm' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
