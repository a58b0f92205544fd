"""The journal: what is in it stays, what is torn goes, and nothing of another kind is touched."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest

from detectors.record import InputRecord
from detectors.scan import journal as module
from detectors.scan.journal import Journal
from genwm.errors import DiskFullError, JournalError, OutputError, OutputExistsError
from tests.detectors.scan.records import DIGEST, record_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of three records."""
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        for record in (record_of("a"), record_of("b", code="empty-file"), record_of("c", "a", duplicate_of="a")):
            journal.append(record)
    return path


def sha(content: str) -> str:
    return record_of(content).input.sha256 or ""


def test_records_come_back_line_by_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [json.loads(line)["input"]["path"] for line in lines] == ["a", "b", "c"]
    with Journal(path, resume=True) as journal:
        assert [record.input.path for record in journal] == ["a", "b", "c"]
        assert len(journal) == 3
        assert not journal.torn


def test_what_is_done_depends_on_name_bytes_and_settings(path: Path) -> None:
    with Journal(path, resume=True) as journal:
        assert journal.outcome("a", sha("a"), DIGEST) == "no_evidence"
        assert journal.outcome("b", sha("b"), DIGEST) == "error:empty-file"
        assert journal.outcome("a", sha("other bytes"), DIGEST) is None
        assert journal.outcome("d", sha("a"), DIGEST) is None
        assert journal.outcome("a", sha("a"), "other settings") is None
        assert (found := journal.of_content(sha("a"), DIGEST)) is not None
        assert found.input.path == "a"
        assert journal.of_content(sha("a"), "other settings") is None
        assert journal.of_content(sha("new"), DIGEST) is None


def test_an_error_of_the_moment_is_not_reused_for_other_files(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.append(record_of("a", code="worker-killed"))
        journal.append(record_of("b", code="truncated"))
        assert journal.outcome("a", sha("a"), DIGEST) is None
        assert journal.of_content(sha("a"), DIGEST) is None
        assert journal.of_content(sha("b"), DIGEST) is not None


@pytest.mark.parametrize("code", ["worker-killed", "worker-failed", "internal", "changed-while-read"])
def test_an_error_of_the_moment_is_tried_again_and_the_last_try_counts(tmp_path: Path, code: str) -> None:
    with Journal(tmp_path / "j") as journal:
        for record in (record_of("a", code=code), record_of("b"), record_of("a", code=code)):
            journal.append(record)
        assert [record.input.path for record in journal] == ["b", "a"]
    with Journal(tmp_path / "j", resume=True) as journal:
        assert journal.outcome("a", sha("a"), DIGEST) is None
        journal.append(record_of("a", "other bytes"))
        for _ in range(2):
            assert [(record.input.path, record.error) for record in journal] == [("b", None), ("a", None)]
        assert len(journal) == 2
    with Journal(tmp_path / "j", resume=True) as journal:
        assert journal.outcome("a", sha("other bytes"), DIGEST) == "no_evidence"
        assert [(record.input.path, record.error) for record in journal] == [("b", None), ("a", None)]
    assert (tmp_path / "j").read_bytes().count(b"\n") == 4


def test_the_newest_record_of_a_path_counts(tmp_path: Path) -> None:
    missing = record_of("a", code="not-found").model_copy(update={"input": InputRecord(path="a")})
    with Journal(tmp_path / "j") as journal:
        for record in (missing, record_of("b"), record_of("a", "first"), record_of("a", "second")):
            journal.append(record)
        journal.append(missing.model_copy(update={"settings": "others"}))
    with Journal(tmp_path / "j", resume=True) as journal:
        assert [(each.input.path, each.input.sha256) for each in journal] == [
            ("b", sha("b")), ("a", sha("second")), ("a", None)]  # fmt: skip
        assert len(journal) == 3
        assert journal.outcome("a", sha("second"), DIGEST) == "no_evidence"
        assert journal.outcome("a", sha("first"), DIGEST) is None
        assert journal.outcome("a", None, DIGEST) is None
        assert journal.outcome("a", None, "others") == "error:not-found"
        journal.forget(["a", "nothing"], "others")
        assert [each.input.path for each in journal] == ["b", "a"]
        assert journal.outcome("a", None, "others") is None


@pytest.mark.parametrize("cut", [1, 2, 40, 300])
def test_a_torn_line_goes_and_the_next_record_takes_its_place(path: Path, cut: int) -> None:
    content = path.read_bytes()
    os.truncate(path, len(content) - cut)
    with Journal(path, resume=True) as journal:
        assert journal.torn
        assert [record.input.path for record in journal] == ["a", "b"]
        journal.append(record_of("d"))
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[:2] == content.splitlines(keepends=True)[:2]
    assert json.loads(lines[2])["input"]["path"] == "d"
    assert len(lines) == 3


def test_a_single_torn_line(path: Path) -> None:
    os.truncate(path, 30)
    with Journal(path, resume=True) as journal:
        assert journal.torn
        assert list(journal) == []


@pytest.mark.parametrize("content", [b"precious notes", b"precious\nnotes\n", b'{"a": 1}\n', b"\n", b"\x00" * 20])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other"
    other.write_bytes(content)
    with pytest.raises(JournalError, match="line 1"):
        Journal(other, resume=True)
    with pytest.raises(OutputExistsError, match="--resume"):
        Journal(other)
    assert other.read_bytes() == content


def test_a_device_or_pipe_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/null"), Path("/dev/zero")):
        for resume in (False, True):
            with pytest.raises(OutputError, match=r"^Expected a regular file for the records, .*--output"):
                Journal(place, resume=resume)


@pytest.mark.parametrize("start", [b"", b'{"schema":"genwm.record/1"'])
def test_an_endless_line_is_neither_read_nor_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(module, "_LONGEST_LINE", 1000)
    (tmp_path / "other").write_bytes(start + bytes(5000))
    with pytest.raises(JournalError, match="line 1"):
        Journal(tmp_path / "other", resume=True)
    assert (tmp_path / "other").stat().st_size == len(start) + 5000


def test_an_error_without_the_words_of_the_system_is_told(path: Path) -> None:
    assert "'not seekable'" in str(module._explained(io.UnsupportedOperation("not seekable"), path))


def test_a_damaged_line_in_the_middle_is_named(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(JournalError, match="line 2"):
        Journal(path, resume=True)


def test_records_are_not_overwritten_unasked(path: Path) -> None:
    with pytest.raises(OutputExistsError, match="--resume"):
        Journal(path)


def test_resuming_what_never_started(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "records.jsonl", resume=True) as journal:
        journal.append(record_of("a"))
    assert (tmp_path / "new" / "records.jsonl").read_bytes().count(b"\n") == 1


def test_one_run_at_a_time(path: Path) -> None:
    with Journal(path, resume=True), pytest.raises(JournalError, match="other run"):
        Journal(path, resume=True)
    Journal(path, resume=True).close()


def test_a_full_disk_leaves_no_half_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with Journal(path, resume=True) as journal:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(DiskFullError, match="--resume"):
                journal.append(record_of("d"))
        assert path.read_bytes() == before
        journal.append(record_of("e"))
    assert json.loads(path.read_bytes().splitlines()[-1])["input"]["path"] == "e"


def test_what_a_disk_has_no_room_for_is_not_tried_again_when_the_journal_is_closed(path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path, resume=True)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))  # room for a part of a record
        with pytest.raises(DiskFullError, match="--resume"):
            journal.append(record_of("d"))
        journal.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="choose another"):
        Journal(tmp_path / "file" / "records.jsonl")
    with pytest.raises(OutputError):
        Journal(tmp_path)


def test_without_a_path_it_is_temporary() -> None:
    with Journal(None) as journal:
        journal.append(record_of("a"))
        assert journal.of_content(sha("a"), DIGEST) is not None


def test_a_journal_of_a_later_version_goes_on(path: Path) -> None:
    """Fields may be added without a new schema."""
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    for document in documents:
        document["added"] = document["input"]["added"] = {"later": 1}
    later = "".join(json.dumps(document) + "\n" for document in documents)
    path.write_text(later)
    with Journal(path, resume=True) as journal:
        assert journal.outcome("a", sha("a"), DIGEST) == "no_evidence"
        journal.append(record_of("d"))
        assert [record.input.path for record in journal] == ["a", "b", "c", "d"]
    assert path.read_text().startswith(later)


def test_a_journal_that_somebody_deletes_ends_the_run(path: Path) -> None:
    with Journal(path, resume=True) as journal:
        path.rename(path.with_suffix(".moved"))  # as programs that rotate logs do: it goes on
        journal.append(record_of("d"))
        path.with_suffix(".moved").unlink()
        with pytest.raises(JournalError, match="got one that somebody has deleted; its records are lost: scan again"):
            journal.append(record_of("e"))
