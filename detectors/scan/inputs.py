"""What to scan: files, folders, patterns, URLs, and lists on standard input -> paths and URLs, each once."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from detectors.scan.objects import is_url, objects_of

STDIN = "-"


def expand(
    names: Iterable[str], *, listed: BinaryIO | None = None, only: Sequence[str] = (),
    skip: Iterable[str | Path] = (), warn: Callable[[str], None] = lambda _: None,
) -> Iterator[str]:
    """The files that ``names`` stand for, each path once, in a stable order.

    A folder stands for all files below it but hidden ones; a pattern (``*``, ``**``, ``?``, ``[...]``) for what it
    matches; ``-`` for the paths on ``listed``, one a line or, with a zero byte anywhere in them, zero-terminated. All
    of it holds for fsspec URLs, too. What does not exist, and a folder that cannot be listed, is passed on, so that it
    gets its record. Links to folders are not followed, since a stranger's may lead anywhere, but where they are named
    themselves; ``warn`` is called with a sentence at the end where there were any. ``only`` are
    patterns, one of which a file found in a folder must match; nothing in ``skip`` (files or folders of results) is
    taken: ``scan * -o records.jsonl`` goes on with ``--resume``, though the shell names the records too.

    Errors: those of `objects_of`.
    """
    seen: set[str] = set()
    left_out = {str(path) if is_url(str(path)) else os.path.realpath(path) for path in skip}
    links: list[str] = []
    for path in _expanded(names, listed, only, left_out, links):
        if path not in seen:
            seen.add(path)
            yield path
    if links := list(dict.fromkeys(links)):
        count = "1 link to a folder was" if len(links) == 1 else f"{len(links)} links to folders were"
        such = links[0] + (", ..." if len(links) > 1 else "")
        warn(f"{count} not followed ({such}); name the folders to scan what they hold")


def _expanded(
    names: Iterable[str], listed: BinaryIO | None, only: Sequence[str], left_out: set[str], links: list[str]
) -> Iterator[str]:
    for name in names:
        if name == STDIN and listed is not None:
            yield from _expanded(_lines(listed), None, only, left_out, links)
        elif is_url(name):
            yield from objects_of(name, only, sorted(left_out))
        elif os.path.isdir(name):
            yield from _files_below(name, only, left_out, links)
        elif glob.has_magic(name) and not os.path.lexists(name):
            found = sorted(glob.iglob(name, recursive=True))
            files = [path for path in found if not os.path.isdir(path) and os.path.realpath(path) not in left_out]
            yield from files or [name]
        elif os.path.realpath(name) not in left_out:
            yield name


def _files_below(folder: str, only: Sequence[str], left_out: set[str], links: list[str]) -> Iterator[str]:
    unlisted: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unlisted.append(os.fspath(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith(".")
                            and os.path.realpath(os.path.join(parent, name)) not in left_out)
        links += (path for name in folders if os.path.islink(path := os.path.join(parent, name)))
        for name in sorted(files):
            path = os.path.join(parent, name)
            if name.startswith(".") or os.path.realpath(path) in left_out:
                continue
            if not only or any(fnmatch(name, pattern) for pattern in only):
                yield path
    yield from unlisted


def _lines(listed: BinaryIO) -> Iterator[str]:
    content = listed.read()
    # With zero bytes, the names are as they are; lines may end as those of Windows do.
    names = content.split(b"\0") if b"\0" in content else (line.removesuffix(b"\r") for line in content.split(b"\n"))
    yield from (os.fsdecode(name) for name in names if name)
