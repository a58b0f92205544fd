"""Text that comes from outside."""

from __future__ import annotations

import os

import pytest

from genwm.text import escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ünï €—日本  x", "ünï €—日本  x"),
        (os.fsdecode(b"n\xff.mp4"), r"n\xff.mp4"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_what_utf8_cannot_hold_is_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected
