"""Scans on Ray: the same records as on one machine, in shards, with failures as rows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs the extra 'ray'")

from detectors.record import Record
from detectors.scan import Settings
from detectors.scan.distributed import _done, _Scanner, _tally, _write_shard, expand_urls, is_url, read_shards
from genwm.errors import OutputExistsError
from genwm.video import write_video
from tests.clips import KEY, PAYLOAD, marked, scene

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


def run(*args: object) -> tuple[int, dict[str, object], str]:
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("RAY_ADDRESS", None)
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(root=str(ROOT)), "scan", *map(str, args), "--engine", "ray", "--json"],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip
    summary = json.loads(result.stdout.splitlines()[-1]) if result.stdout.strip() else {}
    return result.returncode, summary, result.stderr


def outcomes(folder: Path) -> dict[str, str]:
    records = list(read_shards(str(folder)))
    assert len({record.input.path for record in records}) == len(records)
    return {record.input.path: record.error.code if record.error else record.verdict for record in records}


def test_a_local_cluster(uploads: Path, tmp_path: Path) -> None:
    names = [f"file://{uploads}", tmp_path / "missing.mp4", f"file://{tmp_path}/gone.mp4"]
    status, summary, err = run(*names, "-o", tmp_path / "shards", "--workers", 1, "--shards", "parquet")
    expected = {
        f"file://{uploads}/again.mp4": "watermark_detected", f"file://{uploads}/marked.mp4": "watermark_detected",
        f"file://{uploads}/empty.mp4": "empty-file", str(tmp_path / "missing.mp4"): "not-found",
        f"file://{tmp_path}/gone.mp4": "not-found",
    }  # fmt: skip
    assert status == 1, err
    assert summary["verdicts"] == {"error": 3, "watermark_detected": 2}
    assert outcomes(tmp_path / "shards") == expected
    for record in read_shards(str(tmp_path / "shards")):
        assert isinstance(record, Record)
        assert "genwm-scan-" not in record.to_json()  # where the copy was is nobody's business
        if record.watermark is not None:
            assert record.watermark.payload == f"{PAYLOAD:016x}"

    # Without being told to, nothing is added to records that are there.
    status, _, err = run(uploads, "-o", tmp_path / "shards")
    assert (status, "--resume" in err) == (2, True)


def test_going_on_leaves_out_what_has_a_record(uploads: Path, tmp_path: Path) -> None:
    """What an actor does, without a cluster."""
    settings = Settings(keys=(KEY,), detectors=("watermark",))
    folder = str(tmp_path / "shards")
    paths = [f"file://{uploads}/marked.mp4", str(uploads / "empty.mp4"), str(tmp_path / "none"), "file:///none.mp4"]
    with contextlib.closing(_Scanner(settings, {})) as scanner:
        table = scanner(_batch(paths))
        assert table.column_names == ["path", "sha256", "settings", "verdict", "error", "record"]
        _write_shard(folder, "records-1-000000.jsonl", table.slice(0, 3))
        _write_shard(folder, "records-1-000001.parquet", table.slice(3))
    assert [record.input.path for record in read_shards(folder)] == paths
    done = _done(folder, resume=True)
    with contextlib.closing(_Scanner(settings, done)) as scanner:
        assert scanner(_batch(paths)).num_rows == 0
        shutil.copy(uploads / "marked.mp4", uploads / "empty.mp4")
        again = scanner(_batch(paths))
        assert again["path"].to_pylist() == [str(uploads / "empty.mp4")]
    _write_shard(folder, "records-2-000000.jsonl", again)
    tally = _tally(folder, set(paths), settings.digest, before=4)
    assert (dict(tally.verdicts), dict(tally.errors)) == ({"watermark_detected": 2, "error": 2}, {"not-found": 2})
    assert (tally.files, tally.scanned, tally.skipped) == (4, 1, 3)
    with pytest.raises(OutputExistsError, match="--resume"):
        _done(folder, resume=False)


def _batch(paths: list[str]) -> Any:
    import pyarrow as pa

    return pa.table({"path": pa.array([os.fsencode(path) for path in paths], pa.binary())})


def test_wrong_calls(uploads: Path, tmp_path: Path) -> None:
    status, _, err = run(uploads)
    assert (status, "--output" in err) == (2, True)
    status, _, err = run(uploads, "-o", uploads / "marked.mp4")
    assert (status, "folder" in err) == (2, True)


def test_urls_and_folders(uploads: Path) -> None:
    files = [f"{uploads}/{name}" for name in ("again.mp4", "empty.mp4", "marked.mp4")]
    assert list(expand_urls([f"file://{uploads}"])) == [f"file://{name}" for name in files]
    assert list(expand_urls([f"file://{uploads}/*a*.mp4"])) == [f"file://{files[0]}", f"file://{files[2]}"]
    assert list(expand_urls([str(uploads), "file:///none.mp4"])) == [*files, "file:///none.mp4"]
    assert [is_url(name) for name in ("s3://bucket/a.mp4", "/a/b", "a:b")] == [True, False, False]
