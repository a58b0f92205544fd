"""The classifier of synthetic video. Imports nothing heavy until a name is used.

A scan that decodes a file anyway feeds a collector and hands it over::

    collector = new_collector(probe(path))
    for planes in read_planes(path):   # every frame at native size
        collector.add(planes)
    reading = classify(collector)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genwm.lazy import lazily

if TYPE_CHECKING:
    from detectors.synthetic.canonical import Collector, Segment
    from detectors.synthetic.inference import SegmentReading, SyntheticReading, classify, new_collector
    from detectors.synthetic.model import Model, load_model

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

__getattr__, __dir__ = lazily(__name__, {
    "Collector": "detectors.synthetic.canonical",
    "Model": "detectors.synthetic.model",
    "Segment": "detectors.synthetic.canonical",
    "SegmentReading": "detectors.synthetic.inference",
    "SyntheticReading": "detectors.synthetic.inference",
    "classify": "detectors.synthetic.inference",
    "load_model": "detectors.synthetic.model",
    "new_collector": "detectors.synthetic.inference",
})
