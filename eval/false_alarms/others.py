"""Random keys against one clip, with the reader of any other watermark that decides for itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO

from eval.corpus import Video
from eval.false_alarms.trials import ClipResult, Trial, of_clip, random_key
from eval.methods import Watermark, is_keyed, method_named
from genwm.errors import InputError
from genwm.lattice.decision import HINT_LOG10_P


def measure_method(video: Video, *, method: str, keys: int, seed: int) -> tuple[ClipResult, list[Trial]]:
    """Reads one clip with ``keys`` random keys, each by itself; once, where keys play no part. What fails is a result
    with an error and no trials: also a method that makes no decision, of which there is nothing to learn so. It gives
    a message whatever it reads, and how many of its bits chance gets right is known beforehand."""
    return of_clip(video, lambda: (list(_trials(video, method_named(method), keys, seed)), {"looks": 1}), keys=keys,
                   search_keys=keys, seed=seed, method=method)


def _trials(video: Video, watermark: Watermark, keys: int, seed: int) -> Iterator[Trial]:
    data = video.path.read_bytes()
    for number in range(keys if is_keyed(watermark) else 1):
        outcome = watermark.read(BytesIO(data), [random_key(video, number, seed)])
        if outcome.detected is None:
            raise InputError(
                f"Expected a method that decides whether there is a mark, got {watermark.name}, which gives a message "
                "whatever it reads; see its row of unmarked+h264.crf23 in genwm eval robustness"
            )
        log10_p = math.nan if outcome.log10_p is None else outcome.log10_p
        decision = "detected" if outcome.detected else "inconclusive" if log10_p <= HINT_LOG10_P else "not_detected"
        payload = "" if outcome.payload is None else f"{outcome.payload:016x}"
        yield Trial(number, "all", {}, {}, log10_p, decision, payload)
