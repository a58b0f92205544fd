"""The payload curve: rows are kept as they are measured, and agree with theory where it is known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from eval import payload_curve
from genwm.errors import InputError

POINTS = (("gaussian", 20.0, 3), ("gaussian", 1.0, 2), ("30 % erased", 20.0, 2))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_that_was_stopped_goes_on_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curve.csv"
    monkeypatch.setattr(payload_curve, "POINTS", POINTS)
    whole = [tuple(map(str, row))[:-1] for row in payload_curve.curve()]
    monkeypatch.setattr(payload_curve, "POINTS", POINTS[:2])
    payload_curve.continue_curve(path)
    first = path.read_text()
    with path.open("a") as file:
        file.write("30 % erased,20.0,3.0")  # as a kill leaves it
    monkeypatch.setattr(payload_curve, "POINTS", POINTS)
    payload_curve.continue_curve(path)
    assert path.read_text().startswith(first)
    assert [tuple(row.values())[:-1] for row in rows(path)] == whole


def test_strong_words_are_read_and_noise_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curve.csv"
    monkeypatch.setattr(payload_curve, "POINTS", POINTS)
    payload_curve.continue_curve(path)
    strong, noise, erased = rows(path)
    assert (strong["missed"], strong["wrong"], erased["missed"]) == ("0", "0", "0")
    assert (noise["missed"], noise["wrong"], noise["raw_errors"]) == ("2", "0", "2")


def test_another_table_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="got another"):
        payload_curve.continue_curve(path)
    assert path.read_text() == "a,b\n1,2\n"


def test_limits_are_those_of_the_literature() -> None:
    found = {name: value for name, value, *_ in payload_curve.limits()}
    assert math.isclose(found["shannon"], 10 * math.log10(math.log(2)))
    # Two words, one of which is right: the converse of a single bit is a simple test between two hypotheses.
    z = payload_curve.z_of(found["converse"])
    assert math.isclose(norm.sf(z - norm.isf(2.0**-64)), 1e-3, rel_tol=1e-6)
    assert found["shannon"] < found["converse"] < found["achievable"] < found["normal"]


def test_the_channel_has_the_signal_that_it_names() -> None:
    rng = np.random.default_rng(1)
    for channel in ("gaussian", "30 % erased"):
        found = []
        for _ in range(200):
            payload, soft = payload_curve.frame(rng, channel, 13.0)
            chips = payload_curve.code.encode(payload).astype(float) * (soft != 0)
            found.append(chips @ soft / math.sqrt((soft != 0).sum()))
        assert abs(np.mean(found) - 13.0) < 4 / math.sqrt(200)
        assert 0.8 < np.std(found) < 1.2
