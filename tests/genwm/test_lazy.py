"""Public names that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import detectors
import genwm
from detectors import synthetic
from genwm import video


@pytest.mark.parametrize("package", [genwm, video, detectors, synthetic])
def test_every_public_name_is_there_and_listed(package: object) -> None:
    names = set(package.__all__)  # type: ignore[attr-defined]
    assert all(getattr(package, name) is not None for name in names)
    assert names <= set(dir(package))


@pytest.mark.parametrize("package", [genwm, video, detectors, synthetic])
def test_other_names_are_missed_by_name(package: object) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):  # type: ignore[attr-defined]
        _ = package.nothing  # type: ignore[attr-defined]


def test_what_is_not_asked_for_is_not_imported() -> None:
    code = ("import sys, genwm, detectors; print('genwm.keys' in sys.modules, 'numpy' in sys.modules); "
            "genwm.Key; print('genwm.keys' in sys.modules, 'Key' in vars(genwm), 'torch' in sys.modules)")  # fmt: skip
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", "False", "True", "True", "False"]
