"""Files that are never half written: names, links, modes."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from genwm.errors import OutputError, OutputExistsError
from genwm.output import atomic_folder, atomic_output, check_folder


def write(target: Path, text: str = "new", *, overwrite: bool = False) -> None:
    with atomic_output(target, overwrite=overwrite) as part:
        Path(part).write_text(text)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "a.txt") as part:
        Path(part).write_text("new")
        assert not (tmp_path / "a.txt").exists()
        assert (Path(part).parent, Path(part).suffix) == (tmp_path, ".txt")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_longest_name_that_the_disk_takes(tmp_path: Path) -> None:
    name = "x" * 251 + ".mp4"
    write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_longer_name_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^Expected to write .*, got 'File name too long'; choose another name"):
        write(tmp_path / ("x" * 252 + ".mp4"))


def test_a_folder_that_takes_no_files_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)  # modes do not bind root
    with (pytest.raises(OutputError, match=r"^Expected to write .*, got 'Permission denied'; choose another name"),
          atomic_output(tmp_path / "a.txt")):
        pytest.fail("the work began")


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "a.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with pytest.raises(OutputExistsError):
        write(link)
    write(link, overwrite=True)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert os.listdir(tmp_path / "real") == ["a.txt"]


def test_a_link_that_leads_nowhere_is_something(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "none.txt")
    with pytest.raises(OutputExistsError, match="a link that leads nowhere"):
        write(link)
    assert link.is_symlink()
    write(link, overwrite=True)
    assert (tmp_path / "none.txt").read_text() == "new"


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(0o640)
    write(path, overwrite=True)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o640)


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="a device or pipe"):
        write(tmp_path / "pipe", overwrite=True)
    assert os.listdir(tmp_path) == ["pipe"]


def test_what_becomes_a_folder_meanwhile_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def overtaken() -> None:
        with atomic_output(path) as part:
            Path(part).write_text("new")
            path.mkdir()

    with pytest.raises(OutputError, match=r"^Expected to write .*, got 'Is a directory'; choose another name"):
        overtaken()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "new"
    check_folder(target)
    assert not os.listdir(tmp_path)
    with atomic_folder(target) as part:
        (part / "a.txt").write_text("new")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "new"
    assert os.listdir(target.parent) == ["new"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(errno.EIO, os.strerror(errno.EIO))])
def test_no_folder_is_left_half_written(tmp_path: Path, failure: BaseException) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "new") as part:
            (part / "a.txt").write_text("new")
            raise failure

    with pytest.raises((KeyboardInterrupt, OutputError)):
        fail()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["there", "link", "file/new", "file/deep/new", "x" * 300])
def test_where_no_folder_can_be_made_is_told_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"Expected .*; choose another name"):
        check_folder(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "link", "there"]
