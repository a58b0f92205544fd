"""The classifier of synthetic video. Imports nothing heavy until a name is used.

A scan that decodes a file anyway feeds a collector and hands it over::

    collector = new_collector(probe(path))
    for planes in read_planes(path):   # every frame at native size
        collector.add(planes)
    reading = classify(collector)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.synthetic.canonical import Collector, Segment
    from detectors.synthetic.inference import SegmentReading, SyntheticReading, classify, new_collector
    from detectors.synthetic.model import Model, load_model

_HOMES = {
    "Collector": "canonical",
    "Model": "model",
    "Segment": "canonical",
    "SegmentReading": "inference",
    "SyntheticReading": "inference",
    "classify": "inference",
    "load_model": "model",
    "new_collector": "inference",
}
__all__ = [
    "Collector",
    "Model",
    "Segment",
    "SegmentReading",
    "SyntheticReading",
    "classify",
    "load_model",
    "new_collector",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'detectors.synthetic' has no attribute {name!r}")
    value = getattr(import_module(f"detectors.synthetic.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
