"""What holds for every test: no network, no keyring but the test's own, reproducible property tests."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from PIL import Image

# Before NumPy is imported, and for child processes: on small frames, threads of BLAS and OpenMP only wait for others.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

_OPEN = Image.open

# A shared machine's pauses are no failures; the same examples on every run.
settings.register_profile("genwm", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("genwm")


@pytest.fixture(autouse=True)
def own_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keyring file of the test's own (not made yet), the registry beside it: the user's are never touched."""
    path = tmp_path / "keyring" / "keyring.json"
    monkeypatch.setenv("GENWM_KEYRING", str(path))
    monkeypatch.delenv("GENWM_REGISTRY", raising=False)
    return path


@pytest.fixture(autouse=True)
def own_pillow() -> None:
    """A test may import ultralytics, which puts its own in place of Pillow's ``Image.open``."""
    Image.open = _OPEN


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting to anything but this machine fails at once."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"a test tried to connect to {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow past 60 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
