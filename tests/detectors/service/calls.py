"""Requests that tests of the HTTP API make."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from detectors.service.config import Config
from detectors.service.tokens import new_token


def token_for(client: TestClient, role: Any = "submit", name: str = "bot", **options: Any) -> str:
    return new_token(client.app.state.database, name, role, **options)  # type: ignore[attr-defined]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def upload(client: TestClient, content: bytes = b"mark", name: str = "clip.mp4", **options: Any) -> Any:
    return client.post("/v1/scans", files={"file": (name, content)}, **options)


def finished(client: TestClient, scan_id: str) -> Any:
    for _ in range(400):
        state = client.get(f"/v1/scans/{scan_id}").json()
        if state["status"] in ("done", "failed"):
            return state
        time.sleep(0.02)
    raise AssertionError(state)


def leftovers(config: Config) -> list[Path]:
    return list(config.uploads.iterdir())


def part(name: str, content: str = "a") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n{content}\r\n'.encode()


FORM = "multipart/form-data; boundary=x"
