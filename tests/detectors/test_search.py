"""What a search makes of candidates, and how its looks share the error budget."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.search import EARLY_LOOK, LAST_LOOK, Search
from genwm import Key
from genwm.lattice.decision import Family
from genwm.lattice.geometry import Candidate
from genwm.payload import Decoded
from tests.clips import KEY, PAYLOAD


@pytest.mark.parametrize(("log10_p", "read"), [(-13.0, True), (-9.8, False)])
def test_a_mark_that_shows_is_read_at_a_later_place_if_chance_cannot_explain_it(
    log10_p: float, read: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fortieth candidate is decoded where a mark has shown, and counts as one of 40 times 41."""
    tried: list[Candidate] = []

    def decode(candidate: Candidate, key: Key) -> Decoded:
        tried.append(candidate)
        return Decoded(PAYLOAD, PAYLOAD, 12.0, log10_p) if candidate.shift == (39.0, 0.0) else Decoded(None, None, 0, 0)

    monkeypatch.setattr("detectors.search.read_payload", decode)
    shown, hidden = (
        [Candidate(0, np.eye(2), (float(place), 0.0), z - place / 1000, Family("scale", 1e4)) for place in range(80)]
        for z in (9.0, 5.6)
    )
    search = Search([KEY], [], (100, 100))
    assert search.weigh(shown, lambda candidate: candidate) is read  # type: ignore[arg-type,return-value]
    assert search.best.payload == (PAYLOAD if read else None)
    assert len(tried) == (40 if read else 64)
    tried.clear()
    assert not Search([KEY], [], (100, 100)).weigh(hidden, lambda candidate: candidate)  # type: ignore[arg-type,return-value]
    assert len(tried) == 8


def test_a_search_with_a_share_of_the_budget_pays_for_it() -> None:
    place = Candidate(0, np.eye(2), (0.0, 0.0), 5.4, Family("scale", 1e4))
    whole, part = Search([KEY], [], (100, 100)), Search([KEY], [], (100, 100), share=1 / 8)
    for search in (whole, part):
        search.weigh([place], lambda candidate: candidate)  # type: ignore[arg-type,return-value]
    assert part.best.log10_p == pytest.approx(whole.best.log10_p + np.log10(8), abs=0.02)


def test_the_looks_share_the_error_budget() -> None:
    assert 2 / EARLY_LOOK + 1 / LAST_LOOK <= 1
