"""How well a detector of synthetic video tells generators from cameras: the protocol, its measures, its report."""

from eval.detector.command import detector

__all__ = ["detector"]
