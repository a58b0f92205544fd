"""The HTTP API, with a scanner that needs no video."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from fastapi.testclient import TestClient

from detectors.record import Record
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.errors import ServiceError
from detectors.service.tokens import new_token
from tests.detectors.service.calls import bearer, finished, leftovers, token_for, upload
from tests.detectors.service.stub import StubScanner, settings


def test_an_upload_becomes_a_record(client: TestClient, config: Config) -> None:
    content = b"mark" + bytes(2_500_000)
    answer = upload(client, content, "Käse & <b>.mp4", data={"reference": "case 7"})
    assert answer.status_code == 202
    state = finished(client, answer.json()["id"])
    assert (state["verdict"], state["review"], state["reference"]) == ("watermark_detected", "open", "case 7")
    assert state["sha256"] == hashlib.sha256(content).hexdigest()
    record = Record.from_json(client.get(answer.headers["location"] + "/record").content)
    assert record.input.path == "Käse & <b>.mp4"
    assert record.reasons == ("The file Käse & <b>.mp4 was looked at.",)
    assert [path.read_bytes() == content for path in leftovers(config)] == [True]


def test_a_file_that_cannot_be_read_is_a_record_too(client: TestClient) -> None:
    state = finished(client, upload(client, b"bad").json()["id"])
    assert (state["status"], state["verdict"], state["error"]) == ("done", "error", None)
    assert client.get(f"/v1/scans/{state['id']}/record").json()["error"]["code"] == "not-media"


def test_a_path_below_a_root_is_scanned(client: TestClient, config: Config) -> None:
    (config.roots[0] / "clip.mp4").write_bytes(b"fake")
    for path in ("clip.mp4", str(config.roots[0] / "clip.mp4")):
        answer = client.post("/v1/scans", json={"path": path})
        assert answer.status_code == 202
        assert finished(client, answer.json()["id"])["verdict"] == "likely_synthetic"


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
        answer = client.post("/v1/scans", json={"path": "x"}, headers=bearer(token_for(client)))
    assert answer.status_code == 403
    assert "--root" in answer.json()["error"]["message"]


@pytest.mark.parametrize("given", ["a\0b", "\x1b[31m", "a\nb", "\x7f", "\x85"])
def test_control_characters_are_refused(client: TestClient, config: Config, given: str) -> None:
    (config.roots[0] / "clip.mp4").write_bytes(b"fake")
    shown = repr(given)[1:-1]
    answers = [
        client.post("/v1/scans", json={"path": "clip.mp4", "reference": given}),
        upload(client, data={"reference": given}),
        *(client.get("/v1/scans", params={name: given}) for name in ("reference", "sha256", "before")),
        client.get(f"/v1/scans/{quote(given)}"),
        client.get(f"/v1/scans/{quote(given)}/record"),
    ]
    for answer in answers:
        assert answer.status_code in (400, 422)
        assert answer.json()["error"]["code"] == "bad-request"
        assert "(characters that cannot be shown have no place in it), got" in answer.json()["error"]["message"]
        assert shown in answer.json()["error"]["message"]
    assert leftovers(config) == []


def test_an_idempotency_key_gives_one_scan(client: TestClient, config: Config) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = upload(client, headers=key), upload(client, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert upload(client, b"other", headers=key).status_code == 409
    assert len(leftovers(config)) == 1


def test_the_same_bytes_are_scanned_once(config: Config) -> None:
    made: list[StubScanner] = []

    def make(given: Any, workers: int | None) -> StubScanner:
        made.append(StubScanner(given, workers))
        return made[-1]

    with TestClient(create_app(config, settings(), make)) as client:
        client.headers.update(bearer(token_for(client)))
        states = [finished(client, upload(client, b"mark 1", name).json()["id"]) for name in ("one", "two")]
        records = [client.get(f"/v1/scans/{state['id']}/record").json() for state in states]
        client.headers.update(bearer(token_for(client, name="stranger")))
        other = finished(client, upload(client, b"mark 1").json()["id"])
        assert client.get(f"/v1/scans/{other['id']}/record").json()["duplicate_of"] is None
    assert made[0].seen == ["mark 1"]
    assert [record["duplicate_of"] for record in records] == [None, "one"]
    assert [record["input"]["path"] for record in records] == ["one", "two"]
    assert all((config.evidence / state["id"] / "1.jpg").is_file() for state in states)


def test_a_token_sees_its_own_scans_only(client: TestClient) -> None:
    mine = upload(client).json()["id"]
    stranger, reviewer = bearer(token_for(client, name="stranger")), bearer(token_for(client, "review", "alice"))
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
    ids = [upload(client, f"{kind} {number}".encode()).json()["id"]
           for number, kind in enumerate(("mark", "fake", "bad", "mark"))]
    states = {scan_id: finished(client, scan_id) for scan_id in ids}
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
    reviewer = bearer(token_for(client, "review", "alice"))
    answer = client.get("/v1/decisions", params={"after": number}, headers=reviewer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    assert answer.json()["error"]["message"].startswith("Expected another value for 'after' (")
    assert client.get("/v1/decisions", params={"after": 2**31 - 1}, headers=reviewer).json()["items"] == []


@pytest.mark.parametrize(("since", "found"), [
    ("0001-01-01T00:00:00", True), ("9999-12-31T23:59:59", False), ("0001-01-01T00:00:00+14:00", True),
    ("9999-12-31T23:59:59-14:00", False), ("2026-01-01", True), ("1e300", None), ("nan", None), ("inf", None),
])  # fmt: skip
def test_times_of_any_year_filter(client: TestClient, since: str, found: bool | None) -> None:
    upload(client)
    answer = client.get("/v1/scans", params={"since": since})
    if found is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    else:
        assert (answer.status_code, len(answer.json()["items"])) == (200, found)


def test_a_time_without_a_zone_is_utc(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        created = client.get(upload(client).headers["location"]).json()["created"]
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
    reviewer = bearer(token_for(client, "review", "alice"))
    answer = client.get(path, params={"foo": 1}, headers=reviewer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    assert answer.json()["error"]["message"] == "Expected only known fields, got 'foo'; check its spelling"
    assert client.get(path, params={"foo": 1}, headers={"Authorization": ""}).status_code == 401


def test_a_record_is_there_once_the_scan_is_done(client: TestClient) -> None:
    slow = upload(client, b"slow").json()["id"]
    answer = client.get(f"/v1/scans/{slow}/record")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not-finished")
    assert client.get("/v1/scans/unknown/record").status_code == 404


def test_a_quota_is_kept(client: TestClient) -> None:
    limited = bearer(token_for(client, name="limited", hourly=1))
    assert upload(client, headers=limited).status_code == 202
    answer = upload(client, headers=limited)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


def test_an_appeal_reopens(client: TestClient) -> None:
    scan_id = finished(client, upload(client).json()["id"])["id"]
    reviewer = bearer(token_for(client, "review", "alice"))
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
    reviewer = bearer(token_for(client, "review", "alice"))
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


def test_the_description_tells_tokens_and_refusals(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert ("security" in told) == (not path.startswith("/health"))
            answer = client.request(method, path.replace("{scan_id}", "%00"), params={"foo": 1})
            assert str(answer.status_code) in told["responses"]
            if answer.status_code >= 400:
                schema = told["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
                assert schema["$ref"].endswith("/ErrorBody")


@pytest.mark.parametrize("path", ["/v1/scans/", "/v1/decisions/"])
def test_an_address_with_a_stroke_too_many_is_refused_not_redirected(client: TestClient, path: str) -> None:
    answer = client.post(path, follow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not-found")


def test_filters_find_a_digest_in_capitals_and_refuse_what_is_none(client: TestClient) -> None:
    state = finished(client, upload(client).json()["id"])
    found = client.get("/v1/scans", params={"sha256": state["sha256"].upper()}).json()["items"]
    assert [item["id"] for item in found] == [state["id"]]
    for wrong in ({"sha256": state["sha256"][:40]}, {"before": "zzz"}, {"before": ""}):
        answer = client.get("/v1/scans", params=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-request")
    answer = client.get("/v1/scans?status=done&limit=5&status=queued")
    assert answer.status_code == 422
    assert answer.json()["error"]["message"] == (
        "Expected another value for 'status' (one value, not several), got 'done, queued'; correct it")


def test_a_long_reference_is_told_as_one(client: TestClient) -> None:
    answer = client.post("/v1/scans", files={"file": b"x"}, data={"reference": "a" * 201})
    assert "(String should have at most 200 characters)" in answer.json()["error"]["message"]


def test_metrics_begin_at_zero(client: TestClient) -> None:
    text = client.get("/metrics").text
    for name in ('scans_finished_total{verdict="error"}', 'webhook_attempts_total{result="retried"}',
                 'scans{status="failed"}', 'reviews{review="appealed"}'):
        assert f"\ngenwm_{name} 0.0\n" in text


@pytest.mark.parametrize("earlier", [False, True])
def test_nobody_else_reads_the_database_where_the_folder_was_there(tmp_path: Path, earlier: bool) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    if earlier:  # by a version that did not see to it
        (tmp_path / "open" / "service.sqlite").touch(mode=0o644)
    with TestClient(create_app(Config(folder=tmp_path / "open", min_free_bytes=0), settings(), StubScanner)):
        modes = {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "open").glob("service.sqlite*")}
    assert modes
    assert not any(modes.values())


def test_health_and_metrics(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(client, upload(client).json()["id"])
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
        client.headers.update(bearer(token_for(client)))
        ids = [upload(client, f"slow {number}".encode()).json()["id"] for number in range(3)]
        time.sleep(0.3)
    database = Database(config.url)
    with database.engine.connect() as connection:
        states = {row.id: row.status for row in connection.exec_driver_sql("SELECT id, status FROM scans")}
    assert set(states) == set(ids)
    assert set(states.values()) <= {"queued", "done"}
    token = new_token(database, "later", "review")
    database.close()
    with TestClient(create_app(config, settings(), StubScanner), headers=bearer(token)) as client:
        assert all(finished(client, scan_id)["status"] == "done" for scan_id in ids)


def test_old_uploads_are_deleted_and_records_stay(client: TestClient, config: Config) -> None:
    from detectors.service.runner import forget

    state = finished(client, upload(client, b"plain").json()["id"])
    open_state = finished(client, upload(client, b"mark").json()["id"])
    forget(client.app.state.database, replace(config, keep_days=-1))  # type: ignore[attr-defined]
    assert [path.read_bytes() for path in leftovers(config)] == [b"mark"]
    assert not (config.evidence / state["id"]).exists()
    assert (config.evidence / open_state["id"]).exists()
    assert json.loads(client.get(f"/v1/scans/{state['id']}/record").content)["verdict"] == "no_evidence"
