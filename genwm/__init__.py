"""genwm marks video with a keyed, blind watermark; the package ``detectors`` finds the mark again.

Names are imported when they are first used, so ``import genwm`` costs nothing and reading a mark never loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genwm.lazy import lazily

if TYPE_CHECKING:
    from genwm.decoding import mark_decoder
    from genwm.errors import GenwmError
    from genwm.keys import Key, Keyring
    from genwm.marking import Mark, mark_frames

__all__ = ["GenwmError", "Key", "Keyring", "Mark", "__version__", "mark_decoder", "mark_frames"]

__version__ = "0.1.0"

__getattr__, __dir__ = lazily(__name__, {
    "GenwmError": "genwm.errors",
    "Key": "genwm.keys",
    "Keyring": "genwm.keys",
    "Mark": "genwm.marking",
    "mark_decoder": "genwm.decoding",
    "mark_frames": "genwm.marking",
})
