"""Files that are never half written."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genwm.errors import DiskFullError, GenwmError, OutputError, OutputExistsError, SameFileError, is_disk_full


@contextmanager
def atomic_output(target: str | os.PathLike[str], *, source: object = None, overwrite: bool = False) -> Iterator[str]:
    """Yields a temporary path beside ``target`` that becomes ``target`` on success and vanishes on any failure.

    A symbolic link stays: what it points at is written. A file that is replaced hands its mode on.
    """
    final = check_output(target, source=source, overwrite=overwrite)
    path = Path(target)
    # A short name of its own: one made of the target's could be longer than the file system takes.
    part = final.with_name(f".{secrets.token_hex(6)}.part{final.suffix}")
    with output_errors(path):
        part.touch()  # a folder that cannot be written is told before the work
    try:
        yield str(part)
        with output_errors(path):
            with suppress(OSError):  # no such file yet, or a file system without modes
                os.chmod(part, stat.S_IMODE(final.stat().st_mode))
            os.replace(part, final)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def check_output(target: str | os.PathLike[str], *, source: object = None, overwrite: bool = False) -> Path:
    """Where ``target`` really is. Raises what `atomic_output` would: to be asked before work that takes long."""
    path = Path(target)
    with output_errors(path):
        return _checked(path, source, overwrite)


def check_folder(target: str | os.PathLike[str]) -> None:
    """OutputError where no folder can be made anew at ``target``: to be asked before work that takes long."""
    path = Path(target)
    with output_errors(path):
        with suppress(FileNotFoundError):
            path.lstat()
            raise OutputError(f"Expected no folder at {path} yet, got one; choose another name")
        place = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        with tempfile.TemporaryDirectory(dir=place, prefix="."):
            pass


@contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder beside ``target`` that becomes ``target`` on success and vanishes on any failure; what
    the path lacks is made. Errors: those of `check_folder`, DiskFullError."""
    check_folder(target)
    path = Path(target)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as name:
            part = Path(name) / "new"
            part.mkdir()
            yield part
            os.replace(part, path)


@contextmanager
def told_as(part: str, target: str | os.PathLike[str]) -> Iterator[None]:
    """Errors about the unfinished output ``part`` speak of the file that was asked for."""
    try:
        yield
    except GenwmError as error:
        if part not in str(error):
            raise
        raise type(error)(str(error).replace(part, os.fspath(target))) from error


def _checked(path: Path, source: object, overwrite: bool) -> Path:
    """Where ``path`` really is, once it is known that it may be written."""
    with suppress(FileNotFoundError):
        path.lstat()  # a name that the file system does not take fails here, before the work
    origin = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    if isinstance(origin, str | os.PathLike) and _same(Path(origin), path):
        raise SameFileError(f"Expected an output other than the input, got {path} for both; choose another name")
    if path.is_dir():
        raise OutputError(f"Expected the name of an output file, got the folder {path}; add a file name")
    if os.path.lexists(path) and not overwrite:
        kind = "a file" if path.exists() else "a link that leads nowhere"
        raise OutputExistsError(f"Expected nothing at {path}, got {kind}; choose another name or allow overwriting")
    final = Path(os.path.realpath(path)) if path.is_symlink() else path
    if final.exists() and not final.is_file():
        raise OutputError(f"Expected the name of an output file, got a device or pipe at {path}; choose another name")
    if not final.parent.is_dir():
        raise OutputError(f"Expected a folder at {final.parent}, got none; create it first")
    return final


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turns what the system says inside into OutputError or DiskFullError about ``path``."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError(f"Expected room on the disk for {path}, got none left; free some space") from None
        reason = error.strerror or error
        raise OutputError(f"Expected to write {path}, got '{reason}'; choose another name or folder") from None


def _same(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return one.samefile(other)
    return one.absolute() == other.absolute()
