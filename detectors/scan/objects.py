"""Files behind fsspec URLs such as ``s3://bucket/folder``: which ones there are, and copies of them to read.

A path without a protocol is a file of this machine and is read where it lies.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from detectors.record import Record
from detectors.scan.settings import Settings
from detectors.scan.single import Fingerprint, Scanned, failed, fingerprint, name_of, renamed
from genwm.errors import FetchError, GenwmError, InputError, MissingExtraError, NotFoundError
from genwm.extras import require
from genwm.text import escaped


def is_url(path: str) -> bool:
    """Whether a path names a protocol, as ``s3://bucket/key`` does."""
    return "://" in path


def filesystem_of(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL or path, and the path within it.

    Errors: MissingExtraError (no driver for this kind of store), FetchError (no such kind, or a store that refuses).
    """
    require("fsspec", "s3")
    import fsspec

    protocol = url.split("://", 1)[0]
    try:
        filesystem, inside = fsspec.core.url_to_fs(url)
    except ImportError as error:
        what = 'run: pip install "genwm[s3]"' if protocol in ("s3", "s3a") else str(error)
        raise MissingExtraError(f"Expected the driver of {protocol}:// URLs, got none installed; {what}") from None
    except Exception as error:
        raise FetchError(f"Expected a URL that can be opened, got {url} ('{_told(error)}'); check it") from None
    return filesystem, inside


def objects_of(url: str, only: Sequence[str] = (), skip: Sequence[str] = ()) -> Iterator[str]:
    """The objects that a URL stands for, in a stable order: all below a folder but hidden ones, those that a pattern
    matches and those below folders that it ends at, else the URL itself. ``only`` are patterns for the names of files
    in a folder; nothing below the URLs in ``skip`` is taken.

    Errors: MissingExtraError, FetchError (the store cannot be listed).
    """
    filesystem, inside = filesystem_of(url)
    try:
        pattern = any(character in inside for character in "*?[") and not filesystem.exists(inside)
        found: dict[str, str] = {}  # objects, and where each lies below the folder that stands for it
        folders = [inside.rstrip("/")] if not pattern and filesystem.isdir(inside) else []
        for name, about in filesystem.glob(inside, detail=True).items() if pattern else ():
            if about["type"] != "directory":
                found[name] = ""
            elif not inside.endswith("**"):  # which matches what lies in them, too
                folders.append(name.rstrip("/"))
        for folder in folders:
            found.update((name, name[len(folder) :]) for name in filesystem.find(folder))
    except Exception as error:
        raise FetchError(f"Expected to list {url}, got '{_told(error)}'; check the address and the credentials"
                         ) from None
    if not found:
        if not folders or pattern:
            yield url
        return
    protocol = url.split("://", 1)[0]
    for name, below in sorted(found.items()):
        whole = f"{protocol}://{name}"
        if any(part.startswith(".") for part in below.split("/")) or any(_is_below(whole, other) for other in skip):
            continue
        if not below or not only or any(fnmatch(Path(name).name, one) for one in only):
            yield whole


def _is_below(url: str, folder: str) -> bool:
    return url == folder or url.startswith(folder.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that can be read: what it is called, where it lies on this machine, and which bytes those are. Close it
    once it was read: a copy goes then."""

    path: str
    place: str
    known: Fingerprint
    copy: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        if self.copy is not None:
            self.copy.cleanup()

    def named(self, scanned: Scanned) -> Scanned:
        """What was found, under the name of the original."""
        if self.place == self.path:
            return scanned
        record = renamed(scanned.record, escaped(self.place), escaped(self.path), path=name_of(self.path))
        return Scanned(record, scanned.pictures)


def fetch(path: str, folder: str = "") -> Fetched:
    """A file of this machine (relative to ``folder``), or a copy of the object that a URL names.

    Errors: NotFoundError (no such object), FetchError, MissingExtraError; InputError (a folder, which is asked for only
    where it could not be listed). A file that is not there is none.
    """
    if not is_url(path):
        place = os.path.join(folder, path)
        if os.path.isdir(place):
            _list(place, path)
        return Fetched(path, place, fingerprint(place))
    filesystem, inside = filesystem_of(path)
    copy = tempfile.TemporaryDirectory(prefix="genwm-scan-")
    place = os.path.join(copy.name, "file" + Path(inside).suffix)
    try:
        filesystem.get_file(inside, place)
        return Fetched(path, place, fingerprint(place), copy)
    except FileNotFoundError:
        copy.cleanup()
        raise NotFoundError(f"Expected an object at {path}, got none; check the address") from None
    except Exception as error:
        copy.cleanup()
        raise FetchError(f"Expected to fetch {path}, got '{_told(error)}'; check the address and the credentials"
                         ) from None
    except BaseException:
        copy.cleanup()
        raise


def _list(folder: str, name: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise InputError(f"Expected to list the folder {name}, got '{_told(error)}': none of its files was scanned; "
                         "check its permissions, and scan again") from None


def unfetched(path: str, error: GenwmError, settings: Settings) -> Record:
    """The record of a file that `fetch` raised ``error`` for."""
    return failed(name_of(path), error.code, str(error), settings, Fingerprint())


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


__all__ = ["Fetched", "fetch", "filesystem_of", "is_url", "objects_of", "unfetched"]
