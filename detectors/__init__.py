"""genwm's detectors: what finds synthetic video. Imports nothing heavy until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genwm.lazy import lazily

if TYPE_CHECKING:
    from detectors.record import Record
    from detectors.scan import Settings, scan
    from detectors.watermark import Reading, read_watermark

__all__ = ["Reading", "Record", "Settings", "read_watermark", "scan"]

__getattr__, __dir__ = lazily(__name__, {
    "Reading": "detectors.watermark",
    "Record": "detectors.record",
    "Settings": "detectors.scan",
    "read_watermark": "detectors.watermark",
    "scan": "detectors.scan",
})
