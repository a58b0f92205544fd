"""genwm's detectors: what finds synthetic video. Imports nothing heavy until a name is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.record import Record
    from detectors.scan import Settings, scan
    from detectors.watermark import Reading, read_watermark

_HOMES = {
    "Reading": "detectors.watermark",
    "Record": "detectors.record",
    "Settings": "detectors.scan",
    "read_watermark": "detectors.watermark",
    "scan": "detectors.scan",
}
__all__ = ["Reading", "Record", "Settings", "read_watermark", "scan"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detectors' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
