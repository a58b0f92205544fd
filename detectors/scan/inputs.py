"""What to scan: files, folders, patterns, URLs, and lists on standard input -> paths and URLs, each once."""

from __future__ import annotations

import codecs
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO

from detectors.scan.objects import is_url, objects_of
from genwm.errors import InputError

STDIN = "-"


def expand(
    names: Iterable[str], *, listed: BinaryIO | None = None, only: Sequence[str] = (),
    skip: Iterable[str | Path] = (), warn: Callable[[str], None] = lambda _: None,
    entered: Callable[[str], None] = lambda _: None,
) -> Iterator[str]:
    """The files that ``names`` stand for, each path once, in a stable order.

    A folder stands for all files below it but hidden ones; a pattern (``*``, ``**``, ``?``, ``[...]``) for what it
    matches, a folder that it ends at included; ``-`` for the paths on ``listed``, one a line or, with a zero byte
    anywhere in them, zero-terminated. All of it holds for fsspec URLs, too. What does not exist, and a folder that
    cannot be listed, is passed on, so that it gets its record; ``entered`` is called with each that could be. Links to
    folders are not followed, since a stranger's may lead anywhere, but where they are named themselves; ``warn`` is
    called with a sentence at the end where there were any. ``only`` are patterns, one of which a file found in a folder
    must match; nothing in ``skip`` (files or folders of results) is taken: ``scan * -o records.jsonl`` goes on with
    ``--resume``, though the shell names the records too.

    Errors: those of `objects_of`; InputError (a list in UTF-16).
    """
    seen: set[str] = set()
    left_out = {str(path) if is_url(str(path)) else _place(path) for path in skip}
    links: list[str] = []
    for path in _expanded(names, listed, only, left_out, links, entered):
        if path not in seen:
            seen.add(path)
            yield path
    if links := list(dict.fromkeys(links)):
        count = "1 link to a folder was" if len(links) == 1 else f"{len(links)} links to folders were"
        such = links[0] + (", ..." if len(links) > 1 else "")
        warn(f"{count} not followed ({such}); name the folders to scan what they hold")


def _expanded(
    names: Iterable[str], listed: BinaryIO | None, only: Sequence[str], left_out: set[str], links: list[str],
    entered: Callable[[str], None],
) -> Iterator[str]:
    for name in names:
        if name == STDIN and listed is not None:
            yield from _expanded(_lines(listed), None, only, left_out, links, entered)
        elif is_url(name):
            yield from objects_of(name, only, sorted(left_out))
        elif os.path.isdir(name):
            yield from _files_below(name, only, left_out, links, entered)
        elif glob.has_magic(name) and not os.path.lexists(name):
            yield from _matches(name, only, left_out, links, entered) or [name]
        elif _place(name) not in left_out:
            yield name


def _matches(pattern: str, only: Sequence[str], left_out: set[str], links: list[str],
             entered: Callable[[str], None]) -> list[str]:
    """The files that a pattern stands for, and the folders on its way that cannot be listed, sorted."""
    parts = pattern.replace(os.altsep or os.sep, os.sep).split(os.sep)
    named = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    found: set[str] = set()
    for path in _matched(os.sep.join([*parts[:named], ""]), parts[named:], left_out, links, entered):
        if os.path.isdir(path):
            found.update(_files_below(path, only, left_out, links, entered))
        elif _place(path) not in left_out:
            found.add(path)
    return sorted(found)


def _matched(head: str, parts: Sequence[str], left_out: set[str], links: list[str], entered: Callable[[str], None]
             ) -> Iterator[str]:
    """What the ``parts`` of a pattern match below ``head`` (empty, or with a separator at its end). `glob.glob` would
    pass over folders that cannot be listed, and follow links round in circles."""
    part, rest = parts[0], parts[1:]
    if not glob.has_magic(part):
        path = head + part
        if rest and os.path.isdir(path):
            yield from _matched(path + os.sep, rest, left_out, links, entered)
        elif not rest and os.path.lexists(path):
            yield path
        return
    deep = part == "**"
    if deep and rest:
        yield from _matched(head, rest, left_out, links, entered)  # it stands for no folder, too
    folder = os.path.dirname(head) or os.curdir
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError:
        yield folder
        return
    entered(folder)
    for name in names:
        if (name.startswith(".") and not part.startswith(".")) or not (deep or fnmatch(name, part)):
            continue
        path = head + name
        if not os.path.isdir(path):
            if not rest:
                yield path
        elif _place(path) in left_out:
            continue
        elif os.path.islink(path):
            links.append(path)
        elif deep or rest:
            yield from _matched(path + os.sep, parts if deep else rest, left_out, links, entered)
        else:
            yield path


def _files_below(folder: str, only: Sequence[str], left_out: set[str], links: list[str],
                 entered: Callable[[str], None]) -> Iterator[str]:
    unlisted: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=lambda error: unlisted.append(os.fspath(error.filename))):
        entered(parent)
        folders[:] = sorted(name for name in folders if not name.startswith(".")
                            and _place(os.path.join(parent, name)) not in left_out)
        links += (path for name in folders if os.path.islink(path := os.path.join(parent, name)))
        for name in sorted(files):
            path = os.path.join(parent, name)
            if name.startswith(".") or _place(path) in left_out:
                continue
            if not only or any(fnmatch(name, pattern) for pattern in only):
                yield path
    yield from unlisted


def _place(path: str | Path) -> str:
    """Where a path leads, links followed as far as they can be: one may go while it is looked at, or be secret."""
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)


def _lines(listed: BinaryIO) -> Iterator[str]:
    content = listed.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # its zero bytes would end names: '/' is one
        raise InputError("Expected a list of paths in UTF-8, got one in UTF-16; write it anew, in PowerShell with "
                         "Out-File -Encoding utf8")
    content = content.removeprefix(codecs.BOM_UTF8)
    # With zero bytes, the names are as they are; lines may end as those of Windows do.
    names = content.split(b"\0") if b"\0" in content else (line.removesuffix(b"\r") for line in content.split(b"\n"))
    yield from (os.fsdecode(name) for name in names if name)
