"""Heat maps on their way from a worker to a page."""

from __future__ import annotations

import re

import pytest

from detectors.heat import checked, document, shapes

PARTS = ((0.0, 0.0, 0.5, 0.25, 0.9), (0.0, 0.25, 0.5, 0.75, 0.6), (0.5, 0.0, 0.5, 1.0, 0.2))


def test_the_hotter_the_more_filled_and_the_cool_not_at_all() -> None:
    drawn = re.findall(r'x="([\d.]+)%" y="([\d.]+)%" width="([\d.]+)%" height="([\d.]+)%" fill-opacity="([\d.]+)"',
                       shapes(PARTS))  # fmt: skip
    assert [[float(number) for number in shape] for shape in drawn] == [[0, 0, 25, 50, 0.65], [25, 0, 75, 50, 0.26]]
    assert shapes(PARTS) in document(PARTS)


def test_what_comes_from_a_worker_is_checked() -> None:
    assert checked([list(part) for part in PARTS]) == PARTS
    for parts in ([[0, 0, 1, 1]], [[0, 0, 1, 1, 1.5]], [[0, 0, 1, 1, float("nan")]], [["<", 0, 1, 1, 0]], [3]):
        with pytest.raises((ValueError, TypeError)):
            checked(parts)  # type: ignore[arg-type]
