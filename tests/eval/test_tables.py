"""Tables of results: what a kill, a message or another file may do to them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import tables
from eval.tables import versions_said
from genwm.errors import DiskFullError, InputError, NotMediaError, OutputError
from tests.eval.rows import row

COLUMNS = ("clip", "message")
OTHER = OutputError("Expected this table, got another; choose another name")


def rows(path: Path) -> list[tuple[str, ...]]:
    return [tuple(row.values()) for row in tables.read(path, COLUMNS, refusal=OTHER) or ()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "out.csv"
    tables.prepare(path, COLUMNS)
    return path


def test_nothing_is_there_before_the_first_run(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    assert tables.read(path, COLUMNS, refusal=OTHER) is None
    for torn in ("", "clip,mes"):
        path.write_text(torn)
        assert tables.read(path, COLUMNS, refusal=OTHER) is None
        tables.prepare(path, COLUMNS)
        assert path.read_bytes() == b"clip,message\n"


def test_rows_come_back_as_text(out: Path) -> None:
    tables.append(out, [("a", 1.5), ('b, "c"', None)])
    tables.append(out, [])
    tables.prepare(out, COLUMNS)
    assert rows(out) == [("a", "1.5"), ('b, "c"', "")]
    assert out.read_bytes() == b'clip,message\na,1.5\n"b, ""c""",\n'


def test_a_torn_line_is_cut_off_and_damaged_ones_are_passed_over(out: Path) -> None:
    tables.append(out, [("a", "")])
    whole = out.read_bytes() + b'"open,quote\nb,\xff\none,too,many\n'
    out.write_bytes(whole + b'c,"torn')
    assert rows(out) == [("a", ""), ("b", "\ufffd")]
    tables.prepare(out, COLUMNS)
    assert out.read_bytes() == whole
    tables.append(out, [("c", "")])
    assert rows(out)[-1] == ("c", "")


@given(cell=st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_a_cell_holds_a_row_is_one_line(cell: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    tables.rewrite(path, COLUMNS, [("a", cell), (cell, "b")])
    held = cell if len((cell + "|").splitlines()) == 1 else tables.one_line(cell)
    assert rows(path) == [("a", held), (held, "b")]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "another file"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(OutputError, match="this table"):
        tables.read(path, COLUMNS, refusal=OTHER)
    with pytest.raises(InputError, match="readable CSV"):
        tables.read(tmp_path, COLUMNS, refusal=OTHER)


def test_a_disk_that_is_full_and_a_file_that_is_gone_are_told(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutputError, match=r"gone\.csv"):
        tables.append(out.with_name("gone.csv"), [("a", "b")])

    def full(_: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="free some space"):
        tables.append(out, [("a", "b")])
    before = out.read_bytes()
    with pytest.raises(DiskFullError, match="free some space"):
        tables.rewrite(out, COLUMNS, [("c", "d")])
    with pytest.raises(DiskFullError, match="free some space"):
        tables.put(out, "another text")
    assert out.read_bytes() == before
    assert list(out.parent.iterdir()) == [out]  # nothing half-written stands beside it


def test_a_file_changes_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.md"
    tables.put(path, "one\n")
    with tables.replacing(path) as part:
        part.write_text("two\n")
        assert path.read_text() == "one\n"
        assert part.parent == path.parent  # a name on another disk could not be moved at once
    assert path.read_text() == "two\n"
    with pytest.raises(UnicodeEncodeError):
        tables.put(path, "half of thr\ud800")
    assert path.read_text() == "two\n"
    assert list(path.parent.iterdir()) == [path]


def test_rows_that_cannot_be_made_leave_the_table_as_it_was(out: Path) -> None:
    def torn() -> Iterator[tuple[str, str]]:
        yield "a", "b"
        raise KeyboardInterrupt

    tables.append(out, [("old", "")])
    with pytest.raises(KeyboardInterrupt):
        tables.rewrite(out, COLUMNS, torn())
    assert rows(out) == [("old", "")]
    assert list(out.parent.iterdir()) == [out]


def test_a_name_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "page.md"):
        with pytest.raises(OutputError, match="Expected"):
            tables.put(path, "text")


def test_a_failure_is_a_code_and_one_line() -> None:
    assert tables.failure(NotMediaError("Expected\na video")) == ("not-media", "Expected a video")
    assert tables.failure(KeyError("x\ny"), limit=10) == ("internal", "KeyError: ")


def test_versions_name_what_is_installed() -> None:
    found = tables.versions("python", "numpy", "no-such-package").split("; ")
    assert [one.split()[0] for one in found] == ["genwm", "python", "numpy"]


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("genwm/video/reading.py", "both"),
        ("genwm/video/pixels.py", "both"),
        ("genwm/keys.py", "both"),
        ("genwm/payload.py", "both"),
        ("genwm/lattice/embed.py", "both"),
        ("genwm/gaussian.py", "both"),
        ("genwm/lattice/numeric.py", "reader"),
        ("detectors/search.py", "reader"),
        ("genwm/marking.py", "mark"),
        ("detectors/watermark.py", "reader"),
        ("genwm/cli.py", "none"),
    ],
)
def test_versions_tell_what_frames_and_keys_are_made_by(
    module: str, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests() -> list[str]:
        tables._digest.cache_clear()
        return [tables._digest(tables._MARK), tables._digest(tables._READER)]

    before, real = digests(), Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: "x = 2" if path.as_posix().endswith(module) else real(path, **how)
    )
    try:
        mark, reader = (one != other for one, other in zip(before, digests(), strict=True))
    finally:
        tables._digest.cache_clear()
    assert (mark, reader) == {"both": (True, True), "mark": (True, False), "reader": (False, True)}.get(
        changed, (False, False)
    )


def test_versions_tell_one_reader_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its code: comments and layout say nothing."""
    def digest(text: str) -> str:
        monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
        tables._digest.cache_clear()
        return tables._digest(("detectors/watermark.py",))

    try:
        assert digest("x = 1") == digest("x  =  1  # one") != digest("x = 2")
    finally:
        tables._digest.cache_clear()


def test_rows_by_several_versions_are_told_of() -> None:
    old = [row(clip=name, versions="genwm 1 (mark a, reader b); av 18") for name in "ab"]
    new = row(clip="c", versions="genwm 1 (mark a, reader c); av 18")
    assert versions_said(one.versions for one in old) == ""
    assert "2 versions of the code: genwm 1 (mark a, reader b): 2, genwm 1 (mark a, reader c): 1" in versions_said(
        one.versions for one in [*old, new])
