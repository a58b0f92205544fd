"""Bodies that are sent to the HTTP API: what does not hold, is too large or has no room leaves nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

import uvicorn
from fastapi.testclient import TestClient

from detectors.service import app, uploads
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.tokens import new_token, revoke_token
from tests.detectors.service.calls import FORM, bearer, leftovers, part, token_for, upload
from tests.detectors.service.stub import StubScanner, settings


def test_a_large_upload_is_cut_off_and_leaves_nothing(client: TestClient, config: Config) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
        for _ in range(100):
            sent += 1_000_000
            yield bytes(1_000_000)
        yield b"\r\n--x--\r\n"

    answer = client.post("/v1/scans", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too-large")
    assert leftovers(config) == []
    assert client.get("/v1/scans").json()["items"] == []


def test_a_body_that_is_announced_as_too_large_is_refused_unread(client: TestClient, config: Config) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(4):
            sent += 1_000_000
            yield bytes(1_000_000)

    headers = {"Content-Type": FORM, "Content-Length": "4000000"}
    with patch.object(app, "_drain", AsyncMock()):
        answer = client.post("/v1/scans", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"], sent) == (413, "too-large", 0)
    assert upload(client, bytes(config.max_upload_bytes)).status_code == 202


def test_an_upload_of_a_token_that_is_revoked_meanwhile_is_refused(client: TestClient, config: Config) -> None:
    leaked = bearer(token_for(client, name="leaked"))

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nmark'
        revoke_token(client.app.state.database, "leaked")  # type: ignore[attr-defined]
        yield b"\r\n--x--\r\n"

    answer = client.post("/v1/scans", content=body(), headers={**leaked, "Content-Type": FORM})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised")
    assert leftovers(config) == []


@pytest.fixture
def served(config: Config) -> Iterator[tuple[int, str]]:
    """A server on a socket: its port and a token."""
    app = create_app(replace(config, max_upload_bytes=2_000_000), settings(), StubScanner)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1], new_token(app.state.database, "bot", "submit")
        finally:
            server.should_exit = True
            thread.join()


def _head(token: str, kind: str, length: str) -> bytes:
    return (f"POST /v1/scans HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}\r\n{length}"
            "\r\n\r\n").encode()


@pytest.mark.parametrize(("kind", "length", "status"), [
    (FORM, "Content-Length: 6000000", 413),
    (FORM, "Transfer-Encoding: chunked", 413),
    ("text/plain", "Content-Length: 6000000", 415),
    ("application/json", "Content-Length: 6000000", 413),
])  # fmt: skip
def test_who_sends_all_before_reading_gets_the_refusal(
    served: tuple[int, str], kind: str, length: str, status: int
) -> None:
    """A connection that is closed while a body comes in is reset, and takes the answer along."""
    port, token = served
    body = (part("file")[:-2] + bytes(6_000_000))[:6_000_000]
    if "chunked" in length:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(_head(token, kind, length))
            for start in range(0, len(body), 500_000):
                connection.sendall(body[start : start + 500_000])
                time.sleep(0.005)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("Expected ")


def test_a_refused_body_is_taken_in_for_a_short_time_only(served: tuple[int, str]) -> None:
    port, token = served
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        started = time.monotonic()
        connection.sendall(_head(token, "text/plain", "Content-Length: 9000") + b"abc")
        assert connection.recv(65536).startswith(b"HTTP/1.1 415 ")
        assert time.monotonic() - started < 1.9  # the answer does not wait for the rest
        while connection.recv(65536):
            pass
        assert time.monotonic() - started < 10


def test_a_refused_body_is_taken_in_up_to_a_size() -> None:
    receive = AsyncMock(return_value={"type": "http.request", "body": bytes(1_000_000), "more_body": True})
    asyncio.run(app._drain(receive))
    assert receive.await_count == 34


@pytest.mark.parametrize(("content", "kind", "status"), [
    (b"whatever", "text/plain", 415),
    (b"whatever", "multipart/form-data", 415),
    (b"whatever", FORM, 400),
    (b"", FORM, 400),
    (part("file", "cut off"), FORM, 400),
    (part("other") + b"--x--\r\n", FORM, 400),
    (part("file") + part("file") + b"--x--\r\n", FORM, 400),
    (part("file") + part("nope") + b"--x--\r\n", FORM, 400),
    (part("file") + part("reference", "x" * 5000) + b"--x--\r\n", FORM, 413),
    (part("file") + part("reference", "x" * 201) + b"--x--\r\n", FORM, 400),
    (b"".join(part(f"f{number}") for number in range(9)) + part("file") + b"--x--\r\n", FORM, 400),
    (b"[1]", "application/json", 400),
    (b"{", "application/json", 400),
    (b'{"path": "\xff"}', "application/json", 400),
    (b'{"path": "clip.mp4", "reference": "\\ud800"}', "application/json", 400),
    (b"[" * 16_000, "application/json", 400),
    (b'{"path": ""}', "application/json", 400),
    (b'{"path": "a", "more": 1}', "application/json", 400),
    (b" " * 20_000, "application/json", 413),
])  # fmt: skip
def test_a_body_that_does_not_hold_is_one_sentence(
    client: TestClient, config: Config, content: bytes, kind: str, status: int
) -> None:
    answer = client.post("/v1/scans", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith("Expected ")
    assert leftovers(config) == []


@pytest.mark.parametrize("name", ["filename*=UTF-8''a%00b", "filename*=UTF-8''%1b", 'filename="a\0b"'])
def test_control_characters_in_a_file_name_are_refused(client: TestClient, config: Config, name: str) -> None:
    content = f"--x\r\nContent-Disposition: form-data; name=file; {name}\r\n\r\na\r\n--x--\r\n".encode()
    answer = client.post("/v1/scans", content=content, headers={"Content-Type": FORM})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-request")
    assert answer.json()["error"]["message"].startswith("Expected ")
    assert leftovers(config) == []


def test_a_full_disk_is_one_sentence(client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads._Reader, "flush", full)
    answer = upload(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk-full")
    assert leftovers(config) == []


def test_an_upload_that_the_disk_has_no_room_for_is_refused_unread(
    client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.service.uploads.shutil.disk_usage", lambda folder: type("U", (), {"free": 1_000})())
    assert upload(client).status_code == 202
    read = _read_chunks(monkeypatch)
    answer = upload(client, bytes(1_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk-full")
    assert read == []


def _read_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of what is given to the parser of uploads from now on."""
    read: list[int] = []

    class Parser(uploads.MultipartParser):
        def write(self, data: bytes) -> int:
            read.append(len(data))
            return int(super().write(data))

    monkeypatch.setattr(uploads, "MultipartParser", Parser)
    return read


def test_an_upload_over_the_quota_is_refused_unread(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    limited, key = bearer(token_for(client, name="limited", hourly=1)), {"Idempotency-Key": "k"}
    assert upload(client, headers=limited | key).status_code == 202
    read = _read_chunks(monkeypatch)
    assert upload(client, headers=limited).status_code == 429
    assert upload(client, headers=limited | {"Idempotency-Key": "other"}).status_code == 429
    assert read == []
    assert upload(client, headers=limited | key).status_code == 200  # sent again, it is no new one
    assert read != []


def test_an_upload_past_the_queue_is_refused_unread(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _read_chunks(monkeypatch)
    with TestClient(create_app(replace(config, max_queue=0), settings(), StubScanner)) as client:
        answer = upload(client, headers=bearer(token_for(client)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue-full")
    assert read == []
