"""What goes wrong, told: the switch for tracebacks, and a full disk."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from genwm.errors import debugging, is_disk_full


@pytest.mark.parametrize(("value", "asked"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_debugging_is_what_the_environment_says_now(
    value: str | None, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENWM_DEBUG", raising=False)
    if value is not None:
        monkeypatch.setenv("GENWM_DEBUG", value)
    assert debugging() is asked


def test_errors_cost_nothing_to_import() -> None:
    script = ("import sys; from genwm.errors import debugging; "
              "heavy = {'click', 'numpy', 'av', 'torch'} & set(sys.modules); assert not heavy, heavy")  # fmt: skip
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_from_other_failures(number: int) -> None:
    assert is_disk_full(OSError(number, "no room"))
    assert not is_disk_full(OSError(errno.EACCES, "not allowed"))
    assert not is_disk_full(ValueError("no number"))
