"""Scans on Ray: the same records as on one machine, in shards, with failures as rows."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra 'ray'")

from detectors.record import Record
from detectors.scan import Settings
from detectors.scan.distributed import (
    _before,
    _explained,
    _fresh,
    _repeated_records,
    _Scanner,
    _table,
    _tally,
    _write_shard,
    newest_records,
    read_shards,
)
from genwm import cli
from genwm.errors import DiskFullError, GenwmError, OutputError, OutputExistsError, WorkerError
from genwm.video import write_video
from tests.clips import KEY, PAYLOAD, marked, scene
from tests.detectors.scan.records import DIGEST, record_of

ROOT = Path(__file__).parents[3]
# In a process of its own: Ray leaves threads, sockets and warnings behind.
CODE = """
import sys
sys.path.insert(0, {root!r})
from genwm import cli
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture
def uploads(tmp_path: Path, own_keyring: Path) -> Path:
    own_keyring.parent.mkdir()
    own_keyring.write_text(json.dumps({"schema": "genwm.keyring/1", "keys": [
        {"name": "studio", "secret": KEY.secret.hex(), "created": KEY.created, "retired": False},
    ]}))  # fmt: skip
    own_keyring.chmod(0o600)
    folder = tmp_path / "uploads"
    folder.mkdir()
    write_video(folder / "marked.mp4", marked(scene(456, 256, 8)), fps=25, crf=18, preset="veryfast")
    shutil.copy(folder / "marked.mp4", folder / "again.mp4")
    (folder / "empty.mp4").touch()
    (folder / ".hidden.mp4").touch()
    return folder


def run(*args: object, engine: str = "ray") -> tuple[int, dict[str, object], str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "RAY_ADDRESS": ""}
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(root=str(ROOT)), "scan", *map(str, args), "--engine", engine, "--json"],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    summary = json.loads(result.stdout.splitlines()[-1]) if result.stdout.strip() else {}
    return result.returncode, summary, result.stderr


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a call says that ends with status 2 before Ray is started."""
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setenv("RAY_ADDRESS", "")

    def call(*args: object) -> str:
        status = cli.run(["scan", *map(str, args), "--engine", "ray", "--json"])
        err = capsys.readouterr().err
        assert status == 2, err
        return err

    return call


def outcomes(folder: Path) -> dict[str, str]:
    records = list(read_shards(str(folder)))
    assert len({record.input.path for record in records}) == len(records)
    return {record.input.path: record.error.code if record.error else record.verdict for record in records}


def test_a_local_cluster(uploads: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    names = [f"file://{uploads}", tmp_path / "missing.mp4", f"file://{tmp_path}/gone.mp4", tmp_path / "missing.mp4"]
    results = ("--html", tmp_path / "pages", "--csv", tmp_path / "table.csv", "--only", "*.mp4")
    status, summary, err = run(*names, "-o", tmp_path / "shards", "--workers", 1, "--shards", "parquet", *results)
    expected = {
        f"file://{uploads}/again.mp4": "watermark_detected", f"file://{uploads}/marked.mp4": "watermark_detected",
        f"file://{uploads}/empty.mp4": "empty-file", str(tmp_path / "missing.mp4"): "not-found",
        f"file://{tmp_path}/gone.mp4": "not-found",
    }  # fmt: skip
    assert status == 1, err
    assert summary["verdicts"] == {"error": 3, "watermark_detected": 2}
    assert summary["duplicates"] == 1
    assert outcomes(tmp_path / "shards") == expected
    found = {record.input.path: record for record in read_shards(str(tmp_path / "shards"))}
    for record in found.values():
        assert "genwm-scan-" not in record.to_json()  # where the copy was is nobody's business
        if record.watermark is not None:
            assert record.watermark.payload == f"{PAYLOAD:016x}"
    again, first = found[f"file://{uploads}/again.mp4"], found[f"file://{uploads}/marked.mp4"]
    assert (again.duplicate_of, first.duplicate_of) in ((first.input.path, None), (None, again.input.path))
    pages = {path.name: path.read_text() for path in (tmp_path / "pages" / "files").iterdir()}
    assert len(pages) == 4  # the duplicate shares its page
    assert sum("data:image/jpeg" in page for page in pages.values()) == 1
    assert (tmp_path / "pages" / "index.html").read_text().count("<tr data-verdict") == 5
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} == set(expected)

    # The same records as on one machine.
    status, _, err = run(*names, "-o", tmp_path / "local.jsonl", *results, engine="local")
    local = [Record.from_json(line) for line in (tmp_path / "local.jsonl").read_text().splitlines()]
    assert (status, len(local)) == (1, len(found)), err
    # Which came first may differ, and so may the classifier's own encode.
    apart = {"timing": True, "synthetic": True, "reasons": True, "duplicate_of": True}
    for record in local:
        assert record.model_dump(exclude=apart) == found[record.input.path].model_dump(exclude=apart)

    # Without being told to, nothing is added to records that are there.
    assert "--resume" in refused(uploads, "-o", tmp_path / "shards")


def test_going_on_leaves_out_what_has_a_record(uploads: Path, tmp_path: Path) -> None:
    """What an actor does, without a cluster."""
    settings = Settings(keys=(KEY,), detectors=("watermark",))
    folder = str(tmp_path / "shards")
    paths = [f"file://{uploads}/marked.mp4", "empty.mp4", str(tmp_path / "none"), "file:///none.mp4"]
    with contextlib.closing(_Scanner(settings, {}, folder=str(uploads))) as scanner:
        table = scanner(_batch(paths))
        assert table.column_names == ["path", "sha256", "settings", "verdict", "error", "record"]
        _write_shard(folder, "records-1-000000.jsonl", table.slice(0, 3))
        _write_shard(folder, "records-1-000001.parquet", table.slice(3))
    records = list(read_shards(folder))
    assert [record.input.path for record in records] == paths
    assert str(uploads) not in records[1].to_json()  # a relative path is relative in the words, too
    before = _before(folder, True, settings.digest)
    assert list(before.contents.values()) == [paths[0], paths[1]]
    with contextlib.closing(_Scanner(settings, before.done, folder=str(uploads))) as scanner:
        assert scanner(_batch(paths)).num_rows == 0
        shutil.copy(uploads / "marked.mp4", uploads / "empty.mp4")
        again = scanner(_batch(paths))
        assert again["path"].to_pylist() == ["empty.mp4"]
    _write_shard(folder, "records-2-000000.jsonl", again)
    tally = _tally(folder, set(paths), settings.digest, before=4)
    assert (dict(tally.verdicts), dict(tally.errors)) == ({"watermark_detected": 2, "error": 2}, {"not-found": 2})
    assert (tally.files, tally.scanned, tally.skipped) == (4, 1, 3)
    with pytest.raises(OutputExistsError, match="--resume"):
        _before(folder, False, settings.digest)


def test_bytes_that_failed_for_another_reason_are_read_again(tmp_path: Path) -> None:
    """A worker that was killed says nothing about the file: its duplicates are read, each for itself."""
    folder = str(tmp_path)
    records = [record_of("first", "good"), record_of("killed", "bad", code="worker-killed")]
    _write_shard(folder, "records-1-000000.jsonl", _table(records))
    sources = [record.input.model_copy(update={"path": f"like {record.input.path}"}) for record in records]
    made, left = _repeated_records(folder, [source.model_dump_json() for source in sources], DIGEST)
    assert [(record.input.path, record.duplicate_of) for record in made] == [("like first", "first")]
    assert left == ["like killed"]


def test_an_error_of_the_moment_is_tried_again_and_the_last_try_counts(tmp_path: Path) -> None:
    folder = str(tmp_path)
    killed, failed = record_of("a", code="worker-killed"), record_of("b", code="internal")
    _write_shard(folder, f"records-{_fresh()}-000000.jsonl", _table([killed, failed, record_of("c")]))
    before = _before(folder, True, DIGEST)
    assert (before.records, len(before.done), list(before.contents.values())) == (3, 1, ["c"])
    _write_shard(folder, f"records-{_fresh()}-000000.jsonl", _table([record_of("a"), failed]))
    assert {record.input.path: record.error and record.error.code for record in newest_records(folder)} == {
        "a": None, "b": "internal", "c": None}  # fmt: skip
    assert len(list(newest_records(folder))) == 3
    tally = _tally(folder, {"a", "b", "c"}, DIGEST, before.records)
    assert (dict(tally.errors), tally.files, tally.scanned) == ({"internal": 1}, 3, 2)


def test_the_newest_record_of_a_path_counts(tmp_path: Path) -> None:
    folder = str(tmp_path)
    old = [record_of(name, "old", code="not-media") for name in ("a", "folder")]
    _write_shard(folder, f"records-{_fresh()}-000000.jsonl", _table([*old, record_of("b")]))
    _write_shard(folder, f"records-{_fresh()}-000000.jsonl", _table([record_of("a", "new")]))
    assert [(record.input.path, record.verdict) for record in newest_records(folder, ["folder"])] == [
        ("b", "no_evidence"), ("a", "no_evidence")]  # fmt: skip
    assert len(list(newest_records(folder))) == len(_before(folder, True, DIGEST).done) == 3


@pytest.mark.parametrize(("cause", "kind", "said"), [
    (OSError(28, "No space left on device"), DiskFullError, "free some space"),
    (PermissionError(13, "Permission denied"), OutputError, "'Permission denied'"),
    (WorkerError("Expected this, got that"), WorkerError, "Expected this, got that"),
    (RuntimeError("the cluster\nis gone"), WorkerError, "RuntimeError: the cluster;"),
])  # fmt: skip
def test_what_goes_wrong_in_the_cluster_is_one_sentence(cause: Exception, kind: type[GenwmError], said: str) -> None:
    told = RuntimeError("a trace\nof many lines")
    told.__cause__ = cause
    error = _explained(told, "out")
    assert type(error) is kind
    assert said in str(error)


def _batch(paths: list[str]) -> Any:
    import pyarrow as pa

    return pa.table({"path": pa.array([os.fsencode(path) for path in paths], pa.binary())})


def test_wrong_calls(
    uploads: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--output" in refused(uploads)
    assert "folder" in refused(uploads, "-o", uploads / "marked.mp4")
    assert "--html" in refused(uploads, "-o", tmp_path / "shards", "--html", "s3://bucket/pages")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "RAY_ADDRESS" in refused(uploads, "-o", tmp_path / "shards")
