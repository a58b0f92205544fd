"""Secret keys, the keyed bits that every pattern is made of, and the keyring file.

Everything keyed comes from one extendable-output function, SHAKE-256 (FIPS 202), and from integer arithmetic, so a key
draws the same pattern on every machine, Python and NumPy. ``VERSION`` is hashed in: to change a pattern, change it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genwm.errors import DiskFullError, KeyExistsError, KeyMissingError, KeyringError, is_disk_full

__all__ = ["Key", "Keyring"]

VERSION = b"genwm-lattice-1"
SCHEMA = "genwm.keyring/1"
SECRET_BYTES = 32
NAME_LENGTH = 64

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SERIAL = re.compile(r"(?P<stem>.+?)(?:-(?P<serial>[1-9][0-9]{0,5}))?")


@dataclass(frozen=True)
class Key:
    """A named 256-bit secret.

    Attributes:
        name: lower-case name, ``[a-z0-9][a-z0-9._-]{0,63}``; capitals are accepted and lowered.
        secret: 32 bytes, never shown by ``repr``.
        created: ISO 8601 time in UTC, whole seconds.
        retired: a retired key still verifies but no longer embeds.
    """

    name: str
    secret: bytes = field(repr=False)
    created: str
    retired: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _checked_name(self.name))
        if not isinstance(self.secret, bytes) or len(self.secret) != SECRET_BYTES:
            raise KeyringError(f"Expected a secret of {SECRET_BYTES} bytes for key {self.name!r}, got another; "
                               "make one with Key.generate.")
        if not isinstance(self.created, str) or not _is_time(self.created):
            raise KeyringError(f"Expected an ISO 8601 creation time with its time zone for key {self.name!r}, "
                               f"got {self.created!r}; write one such as 2026-01-31T12:00:00+00:00.")
        if not isinstance(self.retired, bool):
            raise KeyringError(f"Expected 'retired' of key {self.name!r} to be true or false, got {self.retired!r}; "
                               "write one of the two.")

    @classmethod
    def generate(cls, name: str) -> Key:
        """A fresh key from the operating system's random source."""
        return cls(name, secrets.token_bytes(SECRET_BYTES), datetime.now(UTC).isoformat(timespec="seconds"))

    @cached_property
    def id(self) -> str:
        """Public name of the secret, 16 hex digits: HMAC-SHA256 of a fixed label, cut to 64 bits."""
        return hmac.new(self.secret, VERSION + b"/key-id", hashlib.sha256).hexdigest()[:16]

    def stream(self, label: str, count: int) -> bytes:
        """The first ``count`` bytes of SHAKE-256(version, 0, secret, label). A longer draw starts with a shorter one.

        ``label`` says what the bytes are for: different labels give independent streams.
        """
        # The version has a fixed NUL after it and the secret a fixed length, so no two inputs collide.
        return hashlib.shake_256(VERSION + b"\0" + self.secret + label.encode()).digest(count)

    def chips(self, label: str, count: int) -> NDArray[np.int8]:
        """Keyed fair signs: int8 ``(count,)``, each -1 or +1 (bit 0 is +1; low bits of a byte first)."""
        packed = np.frombuffer(self.stream("chips/" + label, (count + 7) // 8), dtype=np.uint8)
        bits = np.unpackbits(packed, count=count, bitorder="little").astype(np.int8)
        return np.asarray(1 - 2 * bits, dtype=np.int8)

    def integers(self, label: str, count: int) -> NDArray[np.uint64]:
        """Keyed uniform integers: uint64 ``(count,)`` over the whole 64-bit range."""
        return np.frombuffer(self.stream("integers/" + label, 8 * count), dtype="<u8").astype(np.uint64)

    def permutation(self, label: str, n: int) -> NDArray[np.int64]:
        """Keyed permutation of ``range(n)``: int64 ``(n,)``.

        The order of n 64-bit integers; a tie, the only source of bias, has probability below n^2 / 2^65.
        """
        return np.argsort(self.integers("permutation/" + label, n), kind="stable").astype(np.int64)


class Keyring:
    """The keys of one keyring file, oldest first.

    The file is JSON of mode 0600. It is only ever replaced as a whole, under a lock beside it, so readers never see
    half a file and concurrent writers lose nothing. A file that does not exist is an empty keyring.
    """

    def __init__(self, path: Path, keys: Iterable[Key] = ()) -> None:
        self.path = path
        self._keys = _checked_unique(tuple(keys))

    @staticmethod
    def default_path() -> Path:
        """``$GENWM_KEYRING``, else ``keyring.json`` in the user's configuration folder."""
        if named := os.environ.get("GENWM_KEYRING"):
            return Path(named).expanduser()
        from platformdirs import user_config_dir  # here, because only this case needs it

        return Path(user_config_dir("genwm")) / "keyring.json"

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Keyring:
        """Reads ``path`` (default: ``default_path()``).

        Raises:
            KeyringError: the file is unreadable, open to other users, not JSON or not a keyring.
        """
        # Resolved, so that replacing the file keeps a symbolic link in place.
        where = Path(os.path.realpath(path if path is not None else cls.default_path()))
        return cls(where, _read(where))

    def keys(self, *, include_retired: bool = True) -> tuple[Key, ...]:
        """All keys, oldest first: what verification tries."""
        return tuple(key for key in self._keys if include_retired or not key.retired)

    def get(self, name: str) -> Key:
        """The key of that name, retired or not; ``KeyMissingError`` if there is none."""
        wanted = _checked_name(name)
        for key in self._keys:
            if key.name == wanted:
                return key
        known = ", ".join(key.name for key in self._keys) or "no keys"
        raise KeyMissingError(f"Expected a key named {wanted!r} in {self.path}, got {known}; "
                              f"check the name with 'genwm keys list', or make a new key with 'genwm keys new NAME'.")

    def default(self) -> Key:
        """The newest key that is not retired: what embedding uses; ``KeyMissingError`` if there is none."""
        if active := self.keys(include_retired=False):
            return active[-1]
        raise KeyMissingError(f"Expected a key to embed with in {self.path}, got none that is not retired; "
                              "make one with 'genwm keys new NAME'.")

    def new(self, name: str) -> Key:
        """Adds a fresh key and saves; ``KeyExistsError`` if the name is taken, by a retired key too."""
        key = Key.generate(name)
        with self._writing():
            self._keys = _checked_unique((*self._keys, key))
        return key

    def retire(self, name: str) -> Key:
        """Marks a key as retired and saves: it still verifies and no longer embeds. Retiring twice changes nothing."""
        with self._writing():
            retired = self._retired(name)
        return retired

    def rotate(self, name: str) -> Key:
        """Retires a key and adds its successor in one step: ``studio`` -> ``studio-2`` -> ``studio-3`` (first free).

        KeyMissingError for a retired key: it may have a successor already, which would stay active.
        """
        with self._writing():
            if self.get(name).retired:
                active = self.keys(include_retired=False)
                remedy = f"rotate one of {', '.join(key.name for key in active)}" if active else "make a new key"
                raise KeyMissingError(f"Expected an active key to rotate in {self.path}, got {_checked_name(name)!r}, "
                                      f"which is retired; {remedy}.")
            retired = self._retired(name)
            match = _SERIAL.fullmatch(retired.name)
            assert match is not None  # any valid name matches
            taken = {key.name for key in self._keys}
            serial = int(match["serial"] or 1) + 1
            while (following := _successor(match["stem"], serial)) in taken:
                serial += 1
            successor = Key.generate(following)
            self._keys = (*self._keys, successor)
        return successor

    def _retired(self, name: str) -> Key:
        retired = replace(self.get(name), retired=True)
        self._keys = tuple(retired if key.name == retired.name else key for key in self._keys)
        return retired

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Locks the file, takes in what others have written, and saves what the block changed."""
        before = self._keys
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self.path.with_name(self.path.name + ".lock")):
                self._keys = _read(self.path)
                yield
                _write(self.path, self._keys)
        except OSError as error:
            self._keys = before
            if is_disk_full(error):
                raise DiskFullError(f"Expected room for the keyring {self.path}, got none left; "
                                    "free some space") from error
            raise KeyringError(f"Expected to write the keyring {self.path}, got {error.strerror or error}; "
                               "fix the folder's permissions or set GENWM_KEYRING to another file.") from error


def _checked_name(name: str) -> str:
    lowered = name.lower() if isinstance(name, str) else ""
    if not _NAME.fullmatch(lowered):
        raise KeyringError(f"Expected a key name of 1 to 64 letters, digits, '.', '_' or '-' that starts with a letter "
                           f"or digit, got {name!r}; choose another name.")
    return lowered


def _successor(stem: str, serial: int) -> str:
    suffix = f"-{serial}"
    return stem[: NAME_LENGTH - len(suffix)] + suffix


def _checked_unique(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    seen: dict[str, Key] = {}
    for key in keys:
        if taken := seen.get(key.name):
            rotate = "" if taken.retired else f" or run 'genwm keys rotate {key.name}'"
            raise KeyExistsError(f"Expected a new key name, got {key.name!r}, which is taken; "
                                 f"choose another name{rotate}.")
        seen[key.name] = key
    return keys


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _read(path: Path) -> tuple[Key, ...]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeyringError(f"Expected a readable keyring at {path}, got {error.strerror or error}; "
                           "fix its permissions or set GENWM_KEYRING to another file.") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise KeyringError(f"Expected a keyring that only its owner can open, got mode {stat.S_IMODE(mode):04o} of "
                           f"{path}; run 'chmod 600' on it, and rotate its keys if others may have read them.")
    try:
        document = json.loads(data)
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both of this kind
        raise KeyringError(f"Expected JSON in the keyring {path}, got something else ({error}); "
                           "restore it from a backup or move it away.") from error
    try:
        if document["schema"] != SCHEMA:
            raise KeyringError(f"Expected schema {SCHEMA} in the keyring {path}, got {document['schema']!r}; "
                               "use the version of genwm that wrote it.")
        keys = tuple(Key(entry["name"], bytes.fromhex(entry["secret"]), entry["created"], entry["retired"])
                     for entry in document["keys"])
        return _checked_unique(keys)
    except (KeyError, TypeError, ValueError) as error:
        # 'from None': the text of the cause may quote a secret.
        raise KeyringError(f"Expected a keyring in {path}, got JSON of another form ({type(error).__name__}); "
                           "restore it from a backup or move it away.") from None


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    document = {
        "schema": SCHEMA,
        "keys": [{"name": key.name, "secret": key.secret.hex(), "created": key.created, "retired": key.retired}
                 for key in keys],
    }
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


if sys.platform == "win32":

    @contextlib.contextmanager
    def _locked(path: Path) -> Iterator[None]:
        yield  # no advisory locks: replacing the file whole still keeps it readable

else:
    import fcntl

    @contextlib.contextmanager
    def _locked(path: Path) -> Iterator[None]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # which also unlocks
