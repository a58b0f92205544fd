"""genwm's detectors: what finds synthetic video. Imports nothing heavy until a name is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.watermark import Reading, read_watermark

__all__ = ["Reading", "read_watermark"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'detectors' has no attribute {name!r}")
    value = getattr(import_module("detectors.watermark"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
