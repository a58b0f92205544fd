"""The fuzzer: the same files for the same seed, and a record for each of them."""

from __future__ import annotations

import os
import random

import pytest

from eval.fuzz import FORMATS, Outcomes, Sample, damaged, fuzz, samples


def _priority() -> int | None:
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


@pytest.fixture(scope="module")
def whole() -> list[Sample]:
    before = _priority()
    made, missing = samples()
    assert _priority() == before  # SVT-AV1, run by root, would make everything else on the machine wait
    assert len(made) + len(missing) == len(FORMATS)
    assert len({(sample.container, sample.codec) for sample in made}) >= 30, missing
    return made


def test_a_seed_makes_the_same_wounds(whole: list[Sample]) -> None:
    contents = [sample.content for sample in whole]
    for number in range(50):
        content = contents[number % len(contents)]
        one, same, other = (damaged(content, contents, random.Random(seed)) for seed in (number, number, number + 1000))
        assert one == same
        assert one != other or one == content
    assert sum(damaged(contents[0], contents, random.Random(seed)) != contents[0] for seed in range(50)) >= 45


def test_every_damaged_file_gets_its_record(whole: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.fuzz.samples", lambda frame_count: (whole, []))
    outcomes = fuzz(len(whole), seed=7, workers=1)
    assert outcomes.counts.total() == len(whole)
    assert {name[:2] for name in outcomes.counts} == {(sample.container, sample.codec) for sample in whole}
    found = {outcome for _, _, outcome in outcomes.counts}
    assert not found & {"internal", "worker-failed", "worker-killed", "time-limit", "memory-limit"}
    assert {"watermark_detected"} < found


def test_outcomes_are_counted_by_format() -> None:
    one = Sample("mp4", "libx264", "mp4", b"")
    outcomes = Outcomes()
    for seconds in (1.0, 3.0, 2.0):
        outcomes.add(one, "truncated", seconds, classified=seconds > 1)
    assert list(outcomes.rows()) == [("mp4", "libx264", "truncated", 3, 2, 3.0)]
