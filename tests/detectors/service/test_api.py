"""The HTTP API, with a scanner that needs no video."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

import uvicorn
from fastapi.testclient import TestClient

from detectors.record import Record
from detectors.service import app, uploads
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.errors import ServiceError
from detectors.service.tokens import new_token
from tests.detectors.service.stub import StubScanner, settings


@pytest.fixture
def config(tmp_path: Path) -> Config:
    root = tmp_path / "root"
    root.mkdir()
    return Config(folder=tmp_path / "data", roots=(root,), max_upload_bytes=3_000_000, min_free_bytes=0, grace_s=5)


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    with TestClient(create_app(config, settings(), StubScanner)) as opened:
        opened.headers["Authorization"] = f"Bearer {_token(opened)}"
        yield opened


def _token(client: TestClient, role: Any = "submit", name: str = "bot", **options: Any) -> str:
    return new_token(client.app.state.database, name, role, **options)  # type: ignore[attr-defined]


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _upload(client: TestClient, content: bytes = b"mark", name: str = "clip.mp4", **options: Any) -> Any:
    return client.post("/v1/scans", files={"file": (name, content)}, **options)


def _finished(client: TestClient, scan_id: str) -> Any:
    for _ in range(400):
        state = client.get(f"/v1/scans/{scan_id}").json()
        if state["status"] in ("done", "failed"):
            return state
        time.sleep(0.02)
    raise AssertionError(state)


def _leftovers(config: Config) -> list[Path]:
    return list(config.uploads.iterdir())


def _part(name: str, content: str = "a") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n{content}\r\n'.encode()


_FORM = "multipart/form-data; boundary=x"


def test_an_upload_becomes_a_record(client: TestClient, config: Config) -> None:
    content = b"mark" + bytes(2_500_000)
    answer = _upload(client, content, "Käse & <b>.mp4", data={"reference": "case 7"})
    assert answer.status_code == 202
    state = _finished(client, answer.json()["id"])
    assert (state["verdict"], state["review"], state["reference"]) == ("watermark_detected", "open", "case 7")
    assert state["sha256"] == hashlib.sha256(content).hexdigest()
    record = Record.from_json(client.get(answer.headers["location"] + "/record").content)
    assert record.input.path == "Käse & <b>.mp4"
    assert record.reasons == ("The file Käse & <b>.mp4 was looked at.",)
    assert [path.read_bytes() == content for path in _leftovers(config)] == [True]


def test_a_file_that_cannot_be_read_is_a_record_too(client: TestClient) -> None:
    state = _finished(client, _upload(client, b"bad").json()["id"])
    assert (state["status"], state["verdict"], state["error"]) == ("done", "error", None)
    assert client.get(f"/v1/scans/{state['id']}/record").json()["error"]["code"] == "not-media"


def test_a_path_below_a_root_is_scanned(client: TestClient, config: Config) -> None:
    (config.roots[0] / "clip.mp4").write_bytes(b"fake")
    for path in ("clip.mp4", str(config.roots[0] / "clip.mp4")):
        answer = client.post("/v1/scans", json={"path": path})
        assert answer.status_code == 202
        assert _finished(client, answer.json()["id"])["verdict"] == "likely_synthetic"


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "link", "../root-too/x", "nul\0byte"])
def test_a_path_outside_the_roots_is_refused(client: TestClient, config: Config, path: str) -> None:
    (config.folder.parent / "secret").write_bytes(b"mark")
    (config.roots[0] / "link").symlink_to(config.folder.parent / "secret")
    answer = client.post("/v1/scans", json={"path": path})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "outside-roots"


@pytest.mark.parametrize("path", ["nothing.mp4", "."])
def test_a_path_to_no_file_is_not_found(client: TestClient, path: str) -> None:
    assert client.post("/v1/scans", json={"path": path}).status_code == 404


def test_paths_are_off_unless_there_is_a_root(config: Config) -> None:
    with TestClient(create_app(replace(config, roots=()), settings(), StubScanner)) as client:
        answer = client.post("/v1/scans", json={"path": "x"}, headers=_bearer(_token(client)))
    assert answer.status_code == 403
    assert "--root" in answer.json()["error"]["message"]


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
    assert _leftovers(config) == []
    assert client.get("/v1/scans").json()["items"] == []


def test_a_body_that_is_announced_as_too_large_is_refused_unread(client: TestClient, config: Config) -> None:
    sent = 0

    def body() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(4):
            sent += 1_000_000
            yield bytes(1_000_000)

    headers = {"Content-Type": _FORM, "Content-Length": "4000000"}
    with patch.object(app, "_drain", AsyncMock()):
        answer = client.post("/v1/scans", content=body(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"], sent) == (413, "too-large", 0)
    assert _upload(client, bytes(config.max_upload_bytes)).status_code == 202


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
    (_FORM, "Content-Length: 6000000", 413),
    (_FORM, "Transfer-Encoding: chunked", 413),
    ("text/plain", "Content-Length: 6000000", 415),
    ("application/json", "Content-Length: 6000000", 413),
])  # fmt: skip
def test_who_sends_all_before_reading_gets_the_refusal(
    served: tuple[int, str], kind: str, length: str, status: int
) -> None:
    """A connection that is closed while a body comes in is reset, and takes the answer along."""
    port, token = served
    body = (_part("file")[:-2] + bytes(6_000_000))[:6_000_000]
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
    (b"whatever", _FORM, 400),
    (b"", _FORM, 400),
    (_part("file", "cut off"), _FORM, 400),
    (_part("other") + b"--x--\r\n", _FORM, 400),
    (_part("file") + _part("file") + b"--x--\r\n", _FORM, 400),
    (_part("file") + _part("nope") + b"--x--\r\n", _FORM, 400),
    (_part("file") + _part("reference", "x" * 5000) + b"--x--\r\n", _FORM, 413),
    (_part("file") + _part("reference", "x" * 201) + b"--x--\r\n", _FORM, 400),
    (b"".join(_part(f"f{number}") for number in range(9)) + _part("file") + b"--x--\r\n", _FORM, 400),
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
    assert _leftovers(config) == []


@pytest.mark.parametrize("given", ["a\0b", "\x1b[31m", "a\nb", "\x7f", "\x85"])
def test_control_characters_are_refused(client: TestClient, config: Config, given: str) -> None:
    (config.roots[0] / "clip.mp4").write_bytes(b"fake")
    shown = repr(given)[1:-1]
    answers = [
        client.post("/v1/scans", json={"path": "clip.mp4", "reference": given}),
        _upload(client, data={"reference": given}),
        *(client.get("/v1/scans", params={name: given}) for name in ("reference", "sha256", "before")),
        client.get(f"/v1/scans/{quote(given)}"),
        client.get(f"/v1/scans/{quote(given)}/record"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]["code"] == "bad-request"
        assert "(characters that cannot be shown have no place in it), got" in answer.json()["error"]["message"]
        assert shown in answer.json()["error"]["message"]
    assert _leftovers(config) == []


@pytest.mark.parametrize("name", ["filename*=UTF-8''a%00b", "filename*=UTF-8''%1b", 'filename="a\0b"'])
def test_control_characters_in_a_file_name_are_refused(client: TestClient, config: Config, name: str) -> None:
    content = f"--x\r\nContent-Disposition: form-data; name=file; {name}\r\n\r\na\r\n--x--\r\n".encode()
    answer = client.post("/v1/scans", content=content, headers={"Content-Type": _FORM})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad-request")
    assert answer.json()["error"]["message"].startswith("Expected ")
    assert _leftovers(config) == []


def test_a_full_disk_is_one_sentence(client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads._Reader, "flush", full)
    answer = _upload(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk-full")
    assert _leftovers(config) == []


def test_an_upload_that_the_disk_has_no_room_for_is_refused_unread(
    client: TestClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detectors.service.uploads.shutil.disk_usage", lambda folder: type("U", (), {"free": 1_000})())
    assert _upload(client).status_code == 202
    read = _read_chunks(monkeypatch)
    answer = _upload(client, bytes(1_000))
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
    limited, key = _bearer(_token(client, name="limited", hourly=1)), {"Idempotency-Key": "k"}
    assert _upload(client, headers=limited | key).status_code == 202
    read = _read_chunks(monkeypatch)
    assert _upload(client, headers=limited).status_code == 429
    assert _upload(client, headers=limited | {"Idempotency-Key": "other"}).status_code == 429
    assert read == []
    assert _upload(client, headers=limited | key).status_code == 200  # sent again, it is no new one
    assert read != []


def test_an_upload_past_the_queue_is_refused_unread(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    read = _read_chunks(monkeypatch)
    with TestClient(create_app(replace(config, max_queue=0), settings(), StubScanner)) as client:
        answer = _upload(client, headers=_bearer(_token(client)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue-full")
    assert read == []


def test_an_idempotency_key_gives_one_scan(client: TestClient, config: Config) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = _upload(client, headers=key), _upload(client, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert _upload(client, b"other", headers=key).status_code == 409
    assert len(_leftovers(config)) == 1


def test_the_same_bytes_are_scanned_once(config: Config) -> None:
    made: list[StubScanner] = []

    def make(given: Any, workers: int | None) -> StubScanner:
        made.append(StubScanner(given, workers))
        return made[-1]

    with TestClient(create_app(config, settings(), make)) as client:
        client.headers.update(_bearer(_token(client)))
        states = [_finished(client, _upload(client, b"mark 1", name).json()["id"]) for name in ("one", "two")]
        records = [client.get(f"/v1/scans/{state['id']}/record").json() for state in states]
        client.headers.update(_bearer(_token(client, name="stranger")))
        other = _finished(client, _upload(client, b"mark 1").json()["id"])
        assert client.get(f"/v1/scans/{other['id']}/record").json()["duplicate_of"] is None
    assert made[0].seen == ["mark 1"]
    assert [record["duplicate_of"] for record in records] == [None, "one"]
    assert [record["input"]["path"] for record in records] == ["one", "two"]
    assert all((config.evidence / state["id"] / "1.jpg").is_file() for state in states)


def test_a_token_sees_its_own_scans_only(client: TestClient) -> None:
    mine = _upload(client).json()["id"]
    stranger, reviewer = _bearer(_token(client, name="stranger")), _bearer(_token(client, "review", "alice"))
    assert client.get(f"/v1/scans/{mine}", headers=stranger).status_code == 404
    assert client.get("/v1/scans", headers=stranger).json()["items"] == []
    assert client.get(f"/v1/scans/{mine}", headers=reviewer).status_code == 200
    assert client.get("/v1/decisions").status_code == 403
    assert client.get("/v1/decisions", headers=reviewer).json() == {"items": [], "next": None}


@pytest.mark.parametrize("path", ["/v1/scans", "/v1/scans/x", "/v1/scans/x/record", "/metrics", "/v1/decisions"])
def test_nothing_is_told_without_a_token(client: TestClient, path: str) -> None:
    for header in ("", "Bearer x", "Basic abc"):
        answer = client.get(path, headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_whatever_the_description_names_asks_for_a_token_but_health(client: TestClient) -> None:
    document = client.get("/openapi.json", headers={"Authorization": ""}).json()
    asking = {path for path, methods in document["paths"].items() for method in methods
              if client.request(method, path, headers={"Authorization": ""}).status_code == 401}
    assert set(document["paths"]) - asking == {"/health/live", "/health/ready"}


def test_lists_filter_and_page(client: TestClient) -> None:
    ids = [_upload(client, f"{kind} {number}".encode()).json()["id"]
           for number, kind in enumerate(("mark", "fake", "bad", "mark"))]
    states = {scan_id: _finished(client, scan_id) for scan_id in ids}
    found = client.get("/v1/scans", params={"verdict": "watermark_detected"}).json()["items"]
    assert [item["id"] for item in found] == [ids[3], ids[0]]
    first = client.get("/v1/scans", params={"limit": 3}).json()
    rest = client.get("/v1/scans", params={"limit": 3, "before": first["next"]}).json()
    assert [item["id"] for item in first["items"] + rest["items"]] == ids[::-1]
    assert rest["next"] is None
    since = client.get("/v1/scans", params={"since": states[ids[2]]["created"]}).json()["items"]
    assert [item["id"] for item in since] == ids[:1:-1]
    assert client.get("/v1/scans", params={"sha256": states[ids[1]]["sha256"]}).json()["items"][0]["id"] == ids[1]
    for wrong in ({"limit": 0}, {"verdict": "real"}, {"since": "soon"}, {"foo": 1}, {"limit": 3, "refrence": "a"}):
        answer = client.get("/v1/scans", params=wrong)
        assert answer.status_code == 422
        assert answer.json()["error"]["message"].startswith("Expected ")


@pytest.mark.parametrize("number", ["-1", str(2**31), "1" + 5000 * "0"])
def test_a_number_that_no_log_reaches_is_refused(client: TestClient, number: str) -> None:
    reviewer = _bearer(_token(client, "review", "alice"))
    answer = client.get("/v1/decisions", params={"after": number}, headers=reviewer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    assert answer.json()["error"]["message"].startswith("Expected another value for 'after' (")
    assert client.get("/v1/decisions", params={"after": 2**31 - 1}, headers=reviewer).json()["items"] == []


@pytest.mark.parametrize(("since", "found"), [
    ("0001-01-01T00:00:00", True), ("9999-12-31T23:59:59", False), ("0001-01-01T00:00:00+14:00", True),
    ("9999-12-31T23:59:59-14:00", False), ("2026-01-01", True), ("1e300", None), ("nan", None), ("inf", None),
])  # fmt: skip
def test_times_of_any_year_filter(client: TestClient, since: str, found: bool | None) -> None:
    _upload(client)
    answer = client.get("/v1/scans", params={"since": since})
    if found is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    else:
        assert (answer.status_code, len(answer.json()["items"])) == (200, found)


def test_a_time_without_a_zone_is_utc(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        created = client.get(_upload(client).headers["location"]).json()["created"]
        assert created.endswith("Z")
        for zone in ("", "Z", "+00:00"):
            for name, found in (("since", 1), ("until", 0)):
                answer = client.get("/v1/scans", params={name: created.removesuffix("Z") + zone})
                assert len(answer.json()["items"]) == found
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("path", ["/v1/scans", "/v1/scans/x", "/v1/decisions", "/v1/decisions/rates"])
def test_a_parameter_that_is_not_known_is_named(client: TestClient, path: str) -> None:
    reviewer = _bearer(_token(client, "review", "alice"))
    answer = client.get(path, params={"foo": 1}, headers=reviewer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    assert answer.json()["error"]["message"] == "Expected only known fields, got 'foo'; check its spelling"
    assert client.get(path, params={"foo": 1}, headers={"Authorization": ""}).status_code == 401


def test_a_record_is_there_once_the_scan_is_done(client: TestClient) -> None:
    slow = _upload(client, b"slow").json()["id"]
    answer = client.get(f"/v1/scans/{slow}/record")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not-finished")
    assert client.get("/v1/scans/unknown/record").status_code == 404


def test_a_quota_is_kept(client: TestClient) -> None:
    limited = _bearer(_token(client, name="limited", hourly=1))
    assert _upload(client, headers=limited).status_code == 202
    answer = _upload(client, headers=limited)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


def test_an_appeal_reopens(client: TestClient) -> None:
    scan_id = _finished(client, _upload(client).json()["id"])["id"]
    reviewer = _bearer(_token(client, "review", "alice"))
    from detectors.service import decisions

    decisions.decide(client.app.state.database, scan_id, "alice", "uphold", "mark", "")  # type: ignore[attr-defined]
    appeals = f"/v1/scans/{scan_id}/appeals"
    for seen, status, code in ((0, 409, "conflict"), (7, 400, "bad-request"), (10**30, 400, "bad-request")):
        answer = client.post(appeals, json={"note": "I filmed it", "seen": seen}, headers=reviewer)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    answer = client.post(appeals, json={"note": "I filmed it", "seen": 1}, headers=reviewer)
    assert answer.status_code == 201
    assert client.get(f"/v1/scans/{scan_id}").json()["review"] == "appealed"
    kinds = [entry["kind"] for entry in client.get(f"/v1/scans/{scan_id}/decisions", headers=reviewer).json()]
    assert kinds == ["decision", "appeal"]
    assert client.get("/v1/decisions/rates", headers=reviewer).json()["appeals"] == 1


@pytest.mark.parametrize(("content", "status", "words"), [
    (b'{"note": "\xff"}', 400, "Expected a JSON object in UTF-8 such as"),
    (b"{", 400, "Expected a JSON object in UTF-8 such as"),
    (b"[" * 16_000, 400, "Expected a JSON object in UTF-8 such as"),
    (b"{}", 400, "Expected another value for 'note' (Field required)"),
    (b'{"note": "x", "more": 1}', 400, "Expected only known fields, got 'more'"),
    (b'{"note": "%s"}' % (20_000 * b"x"), 413, "Expected a body of at most"),
])  # fmt: skip
def test_an_appeal_that_does_not_hold_is_one_sentence(
    client: TestClient, content: bytes, status: int, words: str
) -> None:
    reviewer = _bearer(_token(client, "review", "alice"))
    answer = client.post("/v1/scans/x/appeals", content=content, headers=reviewer)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == ("too-large" if status == 413 else "bad-request")
    assert answer.json()["error"]["message"].startswith(words)
    for header, refused in (("", 401), (client.headers["Authorization"], 403)):
        answer = client.post("/v1/scans/x/appeals", content=content, headers={"Authorization": header})
        assert answer.status_code == refused  # before its body is looked at


def test_openapi_is_made_of_the_record(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    record = document["paths"]["/v1/scans/{scan_id}/record"]["get"]["responses"]["200"]["content"]["application/json"]
    assert record["schema"]["$ref"].endswith("/Record")
    assert set(document["components"]["schemas"]["Record"]["properties"]) == {
        field.alias or name for name, field in Record.model_fields.items()}
    assert {"multipart/form-data", "application/json"} == set(
        document["paths"]["/v1/scans"]["post"]["requestBody"]["content"])
    appeal = document["paths"]["/v1/scans/{scan_id}/appeals"]["post"]["requestBody"]["content"]["application/json"]
    assert appeal["schema"]["required"] == ["note"]


def test_health_and_metrics(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    _finished(client, _upload(client).json()["id"])
    assert client.get("/health/live", headers={"Authorization": ""}).json() == {"status": "ok", "problems": []}
    assert client.get("/health/ready").status_code == 200
    text = client.get("/metrics").text
    assert 'genwm_scans{status="done"} 1.0' in text
    assert 'genwm_scans_finished_total{verdict="watermark_detected"} 1.0' in text
    assert 'route="/v1/scans/{scan_id}"' in text
    assert re.search(r"^genwm_queue_age_seconds 0\.0$", text, re.MULTILINE)
    monkeypatch.setattr("detectors.service.state.shutil.disk_usage", lambda folder: type("U", (), {"free": -1})())
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["The disk has -0 MiB left."]


def test_every_answer_carries_security_headers(client: TestClient) -> None:
    for path in ("/v1/scans", "/review/login", "/nowhere", "/static/review.css"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/nowhere").json()["error"]["code"] == "not-found"
    assert client.delete("/v1/scans").status_code == 405


@pytest.mark.parametrize(("path", "place"), [("/v1/scans", "scans.page"), ("/review/login", "review.render")])
def test_a_fault_carries_security_headers_and_is_counted(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, place: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(f"detectors.service.{place}", broken)
    answer = client.get(path)
    assert answer.status_code == 500
    assert "got a fault of the server; its log has it under" in answer.text
    assert "secret" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert f'genwm_http_requests_total{{method="GET",route="{path}",status="500"}} 1.0' in client.get("/metrics").text


def test_two_servers_do_not_share_a_folder(client: TestClient, config: Config) -> None:
    with pytest.raises(ServiceError, match="another server"):
        create_app(config, settings(), StubScanner)


def test_what_was_running_is_finished_after_a_clean_stop(config: Config) -> None:
    short = replace(config, grace_s=0.2)
    with TestClient(create_app(short, settings(), StubScanner)) as client:
        client.headers.update(_bearer(_token(client)))
        ids = [_upload(client, f"slow {number}".encode()).json()["id"] for number in range(3)]
        time.sleep(0.3)
    database = Database(config.url)
    with database.engine.connect() as connection:
        states = {row.id: row.status for row in connection.exec_driver_sql("SELECT id, status FROM scans")}
    assert set(states) == set(ids)
    assert set(states.values()) <= {"queued", "done"}
    token = new_token(database, "later", "review")
    database.close()
    with TestClient(create_app(config, settings(), StubScanner), headers=_bearer(token)) as client:
        assert all(_finished(client, scan_id)["status"] == "done" for scan_id in ids)


def test_old_uploads_are_deleted_and_records_stay(client: TestClient, config: Config) -> None:
    from detectors.service.runner import forget

    state = _finished(client, _upload(client, b"plain").json()["id"])
    open_state = _finished(client, _upload(client, b"mark").json()["id"])
    forget(client.app.state.database, replace(config, keep_days=-1))  # type: ignore[attr-defined]
    assert [path.read_bytes() for path in _leftovers(config)] == [b"mark"]
    assert not (config.evidence / state["id"]).exists()
    assert (config.evidence / open_state["id"]).exists()
    assert json.loads(client.get(f"/v1/scans/{state['id']}/record").content)["verdict"] == "no_evidence"
