"""Counts, and text that comes from outside."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

import pytest

from genwm.text import chance, counted, escaped, escaped_name, quoted, shown, shown_lines


def test_a_count_has_the_noun_that_goes_with_it() -> None:
    assert [counted(count, "clip") for count in (0, 1, 2)] == ["0 clips", "1 clip", "2 clips"]
    assert (counted(1, "entry", "entries"), counted(3, "entry", "entries")) == ("1 entry", "3 entries")


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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (os.fsdecode(b"\xff.mp4"), r"\xff.mp4"),
        (r"\xff.mp4", r"\x5cxff.mp4"),
        (r"\x5cxff.mp4", r"\x5cx5cxff.mp4"),
        (r"\\xff", r"\\x5cxff"),
        (r"\ud800", r"\x5cud800"),
        (r"C:\video\xenon\under\x41\xFF.mp4", r"C:\video\xenon\under\x41\xFF.mp4"),
    ],
)
def test_names_stay_apart_and_readable(name: str, expected: str) -> None:
    assert escaped_name(name) == expected


def test_no_two_names_become_one() -> None:
    parts = ["\\", "x", "u", "5c", "ff", "8", "d800", "\udcff", "\ud800"]
    names = {"".join(chosen) for length in range(5) for chosen in itertools.product(parts, repeat=length)}
    assert len({escaped_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a \x1b]0;title\x07\x1b[31m.mp4", r"a \x1b]0;title\x07\x1b[31m.mp4"),
        ("\x9b2J\x7f\r\n\t", r"\x9b2J\x7f\r\n\t"),
        ("4pm.\u202eexe", r"4pm.\u202eexe"),
        (os.fsdecode(b"n\xff"), r"n\xff"),
        ("ünï €—日本 x", "ünï €—日本 x"),
    ],
)
def test_a_terminal_obeys_nothing_that_is_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("log10_p", "words"), [(-31.24, "10^-31.24"), (-6.0, "10^-6"), (-1234.567, "10^-1235"), (-0.75, "0.18"), (0.0, "1")]
)
def test_chances_are_powers_where_they_are_small(log10_p: float, words: str) -> None:
    assert chance(log10_p) == words


def test_lines_keep_their_ends_and_tabs_and_nothing_else() -> None:
    assert shown_lines("one\r\ntwo\t2\n\x1b[31m \u202eeno\r") == "one\ntwo\t2\n\\x1b[31m \\u202eeno\\r"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no shell to ask")
def test_a_quoted_name_is_the_file_again_where_a_shell_reads_it() -> None:
    names = [b"plain.mp4", b"a 'b' \"c\".mp4", b"-o", b"new\nline", b"car\rriage", b"\x1b[31m$(id)`id`",
             b"latin\xe9\xffa", b"\\xff", b"\\n'\xff\\", "evil\u202e4pm.exe".encode(), "日本.mp4".encode(), b"-\t-"]
    words = [quoted(escaped_name(os.fsdecode(name))) for name in names]
    assert all(shown(word) == word for word in words)
    said = subprocess.run(["bash", "-c", "printf '%s\\0' " + " ".join(words)], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [b"./" + name if name.startswith(b"-") else name for name in names]
