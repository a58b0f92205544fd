"""A server with a scanner that needs no video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from detectors.service.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    from detectors.service.config import Config

    root = tmp_path / "root"
    root.mkdir()
    return Config(folder=tmp_path / "data", roots=(root,), max_upload_bytes=3_000_000, min_free_bytes=0, grace_s=5)


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    from fastapi.testclient import TestClient

    from detectors.service.app import create_app
    from tests.detectors.service.calls import token_for
    from tests.detectors.service.stub import StubScanner, settings

    with TestClient(create_app(config, settings(), StubScanner)) as opened:
        opened.headers["Authorization"] = f"Bearer {token_for(opened)}"
        yield opened
