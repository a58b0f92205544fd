"""Files behind URLs: the same records as for files, under their own names, with copies that go."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.record import Record
from detectors.scan import Pool, Settings
from detectors.scan.inputs import expand
from detectors.scan.journal import Journal
from detectors.scan.objects import fetch, filesystem_of, is_url, objects_of
from detectors.scan.run import Tally, scan_all
from genwm import cli
from genwm.errors import FetchError, MissingExtraError, NotFoundError
from genwm.video import write_video
from tests.clips import KEY, marked, scene

fsspec = pytest.importorskip("fsspec", reason="URLs are not tested: they need the extra 's3' or 'ray'")

FILES = ("a.mp4", "deep/b.mp4", "deep/c.txt", "we[1]rd?.mp4")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "marked.mp4"
    write_video(path, marked(scene(456, 256, 8)), fps=25, crf=18, preset="veryfast")
    return path.read_bytes()


@pytest.fixture
def memory(clip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder in fsspec's memory: a marked clip twice, an empty file, a text, and what is hidden."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    filesystem = fsspec.filesystem("memory")
    contents = {"a.mp4": clip, "deep/b.mp4": clip, "deep/c.txt": b"text", "we[1]rd?.mp4": b"", ".hidden": b"x",
                ".cache/d.mp4": b"x", "records/records-1.jsonl": b"x"}
    for name, content in contents.items():
        filesystem.pipe(f"/up/{name}", content)
    yield "memory://up"
    filesystem.rm("/up", recursive=True)


def test_what_a_url_stands_for(memory: str) -> None:
    skip = f"{memory}/records"
    every = [f"memory:///up/{name}" for name in FILES]
    assert list(expand([memory], skip=["memory:///up/records"])) == every
    assert list(expand([memory], skip=["memory:///up/records"], only=["*.txt"])) == [every[2]]
    assert list(objects_of(f"{memory}/*.mp4")) == [every[0], every[3]]
    assert list(objects_of(f"{memory}/we[[]1]*")) == [every[3]]
    assert list(objects_of(f"{memory}/we[1]rd?.mp4")) == [f"{memory}/we[1]rd?.mp4"]
    assert list(objects_of(f"{memory}/d*")) == list(objects_of(f"{memory}/deep/**")) == every[1:3]
    assert list(objects_of(f"{memory}/d*", only=["*.txt"])) == [every[2]]
    assert list(objects_of(f"{memory}/none*")) == [f"{memory}/none*"]
    assert list(expand([f"{memory}/a.mp4", f"{memory}/a.mp4", skip])) == [f"{memory}/a.mp4",
                                                                         "memory:///up/records/records-1.jsonl"]
    assert [is_url(name) for name in ("s3://bucket/a.mp4", "/a/b", "a:b")] == [True, False, False]


def test_a_copy_is_made_and_goes(memory: str, clip: bytes) -> None:
    file = fetch(f"{memory}/a.mp4")
    assert Path(file.place).read_bytes() == clip
    assert (file.known.bytes, Path(file.place).suffix) == (len(clip), ".mp4")
    file.close()
    with pytest.raises(NotFoundError, match=r"memory://up/none\.mp4"):
        fetch(f"{memory}/none.mp4")
    with pytest.raises(FetchError, match="nosuch"):
        filesystem_of("nosuch://a/b")
    assert not os.listdir(tempfile.gettempdir())


def test_a_store_without_driver_names_what_to_install() -> None:
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="gcsfs"):
            filesystem_of("gs://bucket/a.mp4")


def test_one_machine_scans_objects(memory: str, tmp_path: Path) -> None:
    names = [f"{memory}/{name}" for name in (*FILES, "none.mp4")]
    settings = Settings(keys=(KEY,), detectors=("watermark",))
    with Pool(settings, 1) as pool:
        for resume in (False, True):
            tally = Tally()
            with Journal(tmp_path / "records.jsonl", resume=resume) as journal:
                list(scan_all(names, pool, journal, tally))
                found = {record.input.path: record for record in journal}
            assert (tally.files, tally.skipped, tally.duplicates) == (5, 5 * resume, 1 - resume)
    outcomes = {path: record.error.code if record.error else record.verdict for path, record in found.items()}
    assert outcomes == dict(zip(names, ("watermark_detected", "watermark_detected", "not-media", "empty-file",
                                        "not-found"), strict=True))
    assert found[names[1]].duplicate_of == names[0]
    assert all("genwm-scan-" not in record.to_json() for record in found.values())
    assert not os.listdir(tempfile.gettempdir())


def test_an_object_that_the_store_did_not_give_is_tried_again(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("slow down")

    found = []
    for refuse in (True, True, False):
        with monkeypatch.context() as patch, Pool(Settings(keys=(KEY,), detectors=("watermark",)), 1) as pool:
            if refuse:
                patch.setattr(fsspec.filesystem("memory"), "get_file", refused)
            with Journal(tmp_path / "records.jsonl", resume=True) as journal:
                list(scan_all([f"{memory}/a.mp4"], pool, journal, tally := Tally()))
                found.append([record.error.code if record.error else record.verdict for record in journal])
        assert (tally.files, tally.skipped) == (1, 0)
    assert found == [["fetch-failed"], ["fetch-failed"], ["watermark_detected"]]


def test_results_of_one_machine_are_files(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--output", "--html", "--csv"):
        assert cli.run(["scan", "a.mp4", option, "s3://bucket/results"]) == 2
        assert option in capsys.readouterr().err


# --- a real S3 server


@pytest.fixture
def s3(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket on a server of this machine that speaks S3."""
    pytest.importorskip("moto.server", reason="S3 is not tested: it needs moto[server]")
    pytest.importorskip("s3fs", reason="S3 is not tested: it needs the extra 's3'")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, value in {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
                        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        # In a process of its own, as the scans: its threads must not outlive the test.
        code = ("import s3fs, sys; store = s3fs.S3FileSystem(); store.mkdir('bucket'); data = sys.stdin.buffer.read(); "
                "[store.pipe_file(f'bucket/up/{name}', data) for name in ('a.mp4', 'deep/b.mp4')]; "
                "store.pipe_file('bucket/up/notes.txt', b'text')")
        subprocess.run([sys.executable, "-c", code], input=clip, check=True)
        yield "s3://bucket"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_bucket(s3: str, engine: str, own_keyring: Path, tmp_path: Path) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="needs the extra 'ray'")
    own_keyring.parent.mkdir()
    own_keyring.write_text(json.dumps({"schema": "genwm.keyring/1", "keys": [
        {"name": "studio", "secret": KEY.secret.hex(), "created": KEY.created, "retired": False},
    ]}))  # fmt: skip
    own_keyring.chmod(0o600)
    output = str(tmp_path / "records.jsonl") if engine == "local" else f"{s3}/records"
    command = [sys.executable, "-m", "genwm", "scan", f"{s3}/up", f"{s3}/none.mp4", "-o", output, "--engine", engine,
               "--workers", "1", "--json"]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONWARNINGS": "ignore", "RAY_ADDRESS": ""},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["verdicts"], summary["duplicates"]) == ({"error": 2, "watermark_detected": 2}, 1)
    assert summary["errors"] == {"not-found": 1, "not-media": 1}
    if engine == "local":
        lines = Path(output).read_text().splitlines()
    else:
        code = ("from detectors.scan.distributed import read_shards; "
                f"[print(record.to_json()) for record in read_shards({output!r})]")
        lines = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True,
                               text=True).stdout.splitlines()
    paths = [Record.from_json(line).input.path for line in lines]
    assert sorted(paths) == [f"{s3}/none.mp4", *(f"{s3}/up/{name}" for name in ("a.mp4", "deep/b.mp4", "notes.txt"))]
