"""What an operator sets: one frozen object, and the secret that signs webhooks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from detectors.service.errors import ServiceError

MIB = 1024 * 1024
_DATABASE = "service.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the service behaves, apart from what a scan looks for (``detectors.scan.Settings``).

    Attributes:
        folder: where the secret and, by default, the files and the database are kept; one server has it to itself.
        files: where uploads and evidence pictures are kept; servers that share a database must share it too.
        database: SQLAlchemy URL; None is SQLite in ``folder``.
        roots: folders whose files may be submitted by path; none refuses paths.
        max_upload_bytes: largest file that is taken.
        min_free_bytes: space on the disk under which uploads are refused.
        max_queue: scans that may wait; further submissions are refused until some are done.
        workers: scanning processes; None is one a core.
        webhook_hosts: hosts for webhooks, ``hooks.example.com``, ``*.example.com``, ``*``; none turns them off.
        webhook_private: allow webhooks to private, loopback and link-local addresses.
        webhook_timeout_s: how long one delivery may take in all.
        webhook_delays_s: waits before the second, third, ... attempt; after the last the delivery has failed.
        keep_days: days after which uploads and pictures are deleted; records and decisions stay.
        lease_s: how long a scan belongs to a server that says nothing more.
        grace_s: how long a server that is told to stop waits for scans that are running.
        session_s: how long a reviewer stays logged in.
        secure_cookies: send session cookies over HTTPS only.
    """

    folder: Path
    files: Path | None = None
    database: str | None = None
    roots: tuple[Path, ...] = ()
    max_upload_bytes: int = 2048 * MIB
    min_free_bytes: int = 512 * MIB
    max_queue: int = 100_000
    workers: int | None = None
    webhook_hosts: tuple[str, ...] = ()
    webhook_private: bool = False
    webhook_timeout_s: float = 10.0
    webhook_delays_s: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0, 7200.0, 21600.0)
    keep_days: float = 90.0
    lease_s: float = 30.0
    grace_s: float = 20.0
    session_s: float = 12 * 3600.0
    secure_cookies: bool = True

    @property
    def uploads(self) -> Path:
        return (self.files or self.folder) / "uploads"

    @property
    def evidence(self) -> Path:
        return (self.files or self.folder) / "evidence"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{self.folder / _DATABASE}"

    def prepare(self) -> None:
        """Makes the folders, for this user alone. Errors: ServiceError."""
        try:
            for folder in (self.folder, self.uploads, self.evidence):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.database is None:  # in a folder that was there, others may be able to read
                descriptor = os.open(self.folder / _DATABASE, os.O_RDWR | os.O_CREAT, 0o600)
                with os.fdopen(descriptor, "rb"), suppress(PermissionError):  # of another user
                    os.fchmod(descriptor, 0o600)  # an earlier version made it as any file is made
        except OSError as error:
            raise ServiceError(f"Expected to make the folder {self.folder}, got '{error.strerror}'; choose another "
                               "with --data") from None

    def secret(self) -> bytes:
        """The 32 bytes that webhook secrets are derived from: ``$GENWM_SERVE_SECRET`` (64 hex digits, for several
        servers on one database), else a file in ``folder``, made on first use."""
        if text := os.environ.get("GENWM_SERVE_SECRET"):
            return _decoded(text, "GENWM_SERVE_SECRET")
        return _decoded(kept_text(self.folder / "secret", lambda: secrets.token_hex(32)), str(self.folder / "secret"))

    def instance(self) -> str:
        """Which server this is, the same after a restart."""
        return kept_text(self.folder / "instance", lambda: secrets.token_hex(8))


def kept_text(path: Path, make: Callable[[], str]) -> str:
    """The text of a file of mode 0600, made once by whoever comes first."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if not path.exists():
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(part, path)  # unlike a rename, never replaces what another process made first
            part.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise ServiceError(f"Expected to read or make {path}, got '{error.strerror}'; fix its permissions") from None


def _decoded(text: str, name: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise ServiceError(f"Expected 64 hex digits in {name}, got something else; make them with openssl rand -hex "
                           "32")
    return secret
