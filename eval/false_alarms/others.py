"""Random keys against one clip, with the reader of any other watermark that decides for itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

from eval import tables
from eval.corpus import Video
from eval.false_alarms.trials import ClipResult, Trial, random_key
from eval.methods import Watermark, is_keyed, method_named
from genwm.errors import InputError
from genwm.lattice.decision import HINT_LOG10_P


def measure_method(video: Video, *, method: str, keys: int, seed: int) -> tuple[ClipResult, list[Trial]]:
    """Reads one clip with ``keys`` random keys, each by itself; once, where keys play no part. What fails is a result
    with an error and no trials: also a method that makes no decision, of which there is nothing to learn so. It gives
    a message whatever it reads, and how many of its bits chance gets right is known beforehand."""
    result = ClipResult(
        clip=video.id, label=video.label, group=video.group, short_side=video.short_side, keys=keys, search_keys=keys,
        seed=seed, method=method, versions=tables.versions("av", "numpy"), sha256=video.content,
    )  # fmt: skip
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        trials = list(_trials(video, method_named(method), keys, seed))
    except Exception as error:  # one clip is one row, whatever happens
        code, message = tables.failure(error, limit=300)
        return replace(result, error=code, message=message), []
    claimed = [trial.log10_p for trial in trials if not math.isnan(trial.log10_p)]
    return replace(
        result,
        looks=1,
        detected=sum(trial.decision == "detected" for trial in trials),
        inconclusive=sum(trial.decision == "inconclusive" for trial in trials),
        min_log10_p=min(claimed, default=math.nan),
        seconds=round(time.perf_counter() - wall, 2),
        cpu_s=round(time.process_time() - cpu, 2),
    ), trials


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
