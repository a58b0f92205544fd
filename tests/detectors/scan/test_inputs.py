"""What to scan: every name stands for its files, none twice, none left out in silence."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detectors.scan.inputs import expand
from detectors.scan.objects import fetch
from genwm.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.mp4", "a.mkv", "deep/er/c.mp4", "deep/d.txt", ".hidden.mp4", ".cache/e.mp4", "we[1]rd.mp4"):
        path = tmp_path / "up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_stands_for_all_but_hidden_files(folder: Path) -> None:
    assert list(expand(["up"])) == ["up/a.mkv", "up/b.mp4", "up/we[1]rd.mp4", "up/deep/d.txt", "up/deep/er/c.mp4"]
    assert list(expand(["up"], only=["*.mkv", "*.txt"])) == ["up/a.mkv", "up/deep/d.txt"]


def test_a_folder_that_cannot_be_listed_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "scandir", refusing("up/deep"))
    assert list(expand(["up"])) == ["up/a.mkv", "up/b.mp4", "up/we[1]rd.mp4", "up/deep"]
    assert list(expand(["up"], only=["*.mkv"])) == ["up/a.mkv", "up/deep"]
    with pytest.raises(InputError, match=r"list the folder up/deep, got 'Permission denied'"):
        fetch("up/deep")


def refusing(folder: str) -> Callable[[str], Any]:
    """``os.scandir`` as whoever may not read that folder has it; tests may run as one who may."""
    real = os.scandir

    def scandir(path: str) -> Any:
        if os.fspath(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    return scandir


def test_links_to_folders_are_told_and_not_followed(folder: Path) -> None:
    (folder / "up" / "loop").symlink_to(".")
    (folder / "up" / "deep" / "away").symlink_to("/")
    (folder / "up" / "link.mp4").symlink_to("b.mp4")
    said: list[str] = []
    found = list(expand(["up", "up"], warn=said.append))
    assert found == ["up/a.mkv", "up/b.mp4", "up/link.mp4", "up/we[1]rd.mp4", "up/deep/d.txt", "up/deep/er/c.mp4"]
    assert said == ["2 links to folders were not followed (up/loop, ...); name the folders to scan what they hold"]
    (folder / "named").symlink_to("up/deep")
    assert list(expand(["named"])) == ["named/d.txt", "named/er/c.mp4"]


def test_files_of_results_are_no_uploads(folder: Path) -> None:
    found = list(expand(["up"], skip=[Path("up/b.mp4"), folder / "up" / "deep"]))
    assert found == ["up/a.mkv", "up/we[1]rd.mp4"]


def test_a_file_of_results_is_no_upload_even_where_the_shell_names_it(folder: Path) -> None:
    (folder / "alias").symlink_to("up/b.mp4")
    for name in ("up/b.mp4", "./up/../up/b.mp4", "alias"):
        assert list(expand([name, "up/a.mkv"], skip=[Path("up/b.mp4")])) == ["up/a.mkv"]


def test_patterns(folder: Path) -> None:
    assert list(expand(["up/*.mp4"])) == ["up/b.mp4", "up/we[1]rd.mp4"]
    assert list(expand(["up/**/*.mp4"])) == ["up/b.mp4", "up/deep/er/c.mp4", "up/we[1]rd.mp4"]
    assert list(expand(["up/we[1]rd.mp4"])) == ["up/we[1]rd.mp4"]


def test_a_pattern_that_ends_at_a_folder_stands_for_its_files(folder: Path) -> None:
    every = list(expand(["up"]))
    for pattern in ("u*", "up/**", "up/*", f"{folder}/u[p]"):
        assert sorted(os.path.relpath(path, folder) for path in expand([pattern])) == sorted(every)
    assert list(expand(["up/*/"])) == ["up/deep/d.txt", "up/deep/er/c.mp4"]
    assert list(expand(["u*"], only=["*.txt"])) == ["up/deep/d.txt"]
    assert list(expand(["up/*/er/c.mp4", "up/*/none.mp4"])) == ["up/deep/er/c.mp4", "up/*/none.mp4"]
    assert list(expand(["up/.h*"])) == ["up/.hidden.mp4"]
    assert list(expand(["up/**"], skip=["up/deep", "up/b.mp4"])) == ["up/a.mkv", "up/we[1]rd.mp4"]


@pytest.mark.parametrize("pattern", ["up/**/*.mp4", "up/*/*", "up/**", "up/d*/*.mp4"])
def test_patterns_pass_on_folders_that_cannot_be_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.setattr(os, "scandir", refusing("up/deep"))
    assert "up/deep" in list(expand([pattern]))


def test_patterns_follow_no_links_to_folders(folder: Path) -> None:
    (folder / "up" / "loop").symlink_to(".")
    (folder / "up" / "deep" / "away").symlink_to("/")
    said: list[str] = []
    assert list(expand(["up/**/*.mp4"], warn=said.append)) == ["up/b.mp4", "up/deep/er/c.mp4", "up/we[1]rd.mp4"]
    assert said == ["2 links to folders were not followed (up/deep/away, ...); name the folders to scan what they hold"]
    assert list(expand(["up/l*/*.mkv"])) == ["up/l*/*.mkv"]
    (folder / "named").symlink_to("up")
    assert list(expand(["named/*.mkv", "up/*/../loop/a.mkv"])) == ["named/a.mkv", "up/deep/../loop/a.mkv"]


def test_what_is_not_there_is_passed_on(folder: Path) -> None:
    assert list(expand(["none.mp4", "up/*.avi", ".hidden.mp4"])) == ["none.mp4", "up/*.avi", ".hidden.mp4"]


def test_each_path_once(folder: Path) -> None:
    assert list(expand(["up/b.mp4", "up/b.mp4", "up/*.mp4"])) == ["up/b.mp4", "up/we[1]rd.mp4"]


@pytest.mark.parametrize("content", [
    b"up/b.mp4\nnone\r\n\nup/deep/er\n", b"up/b.mp4\0none\0up/deep/er\0", b"up/b.mp4\r\nnone\r\nup/deep/er",
])
def test_lists_on_standard_input(folder: Path, content: bytes) -> None:
    assert list(expand(["-"], listed=io.BytesIO(content))) == ["up/b.mp4", "none", "up/deep/er/c.mp4"]


def test_names_that_are_no_text(folder: Path) -> None:
    odd = b"up/odd-\xff.mp4"
    assert [os.fsencode(name) for name in expand(["-"], listed=io.BytesIO(odd + b"\n"))] == [odd]
    for name in ("two\nlines.mp4", "return.mp4\r", "\r"):
        assert list(expand(["-"], listed=io.BytesIO(name.encode() + b"\0"))) == [name]
    assert list(expand(["-"], listed=io.BytesIO(b"-\n"))) == ["-"]


def test_a_list_of_windows_begins_with_its_first_path(folder: Path) -> None:
    listed = io.BytesIO(b"\xef\xbb\xbfup/b.mp4\r\nup/a.mkv\r\n")
    assert list(expand(["-"], listed=listed)) == ["up/b.mp4", "up/a.mkv"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_list_in_utf16_is_refused(folder: Path, encoding: str) -> None:
    """Its zero bytes would make names of its letters, and '/' is the whole machine."""
    with pytest.raises(InputError, match="Expected a list of paths in UTF-8, got one in UTF-16"):
        list(expand(["-"], listed=io.BytesIO("\ufeffup/b.mp4\n".encode(encoding))))


def test_a_link_that_goes_while_it_is_looked_at_costs_no_other_file(folder: Path, monkeypatch: pytest.MonkeyPatch
                                                                    ) -> None:
    (folder / "up" / "link.mp4").symlink_to("b.mp4")

    def gone(path: str) -> str:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "readlink", gone)
    for name in ("up", "up/*"):
        assert {"up/a.mkv", "up/link.mp4"} < set(expand([name], skip=[folder / "records.jsonl"]))
    assert list(expand(["up/link.mp4"])) == ["up/link.mp4"]
