"""The reviewers' pages without a browser: login, forms, what they refuse, colours."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from fastapi.testclient import TestClient
from sqlalchemy import text, update

from detectors.heat import document
from detectors.service import decisions
from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.database import scans as table
from detectors.service.pages import HERE, Timeline, clock, size
from detectors.service.tokens import new_token, revoke_token
from tests.detectors.service.stub import HEAT, StubScanner, record_of, settings


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    config = Config(folder=tmp_path / "data", min_free_bytes=0, secure_cookies=False)
    with TestClient(create_app(config, settings(), StubScanner), follow_redirects=False) as opened:
        yield opened


def _database(client: TestClient) -> Any:
    return client.app.state.database  # type: ignore[attr-defined]


def _log_in(client: TestClient, name: str = "alice") -> str:
    """Logs in and returns the CSRF value of the session."""
    answer = client.post("/review/login", data={"token": new_token(_database(client), name, "review")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")
    return _csrf(client.get("/review").text)


def _csrf(page: str) -> str:
    return _hidden(page, "csrf")


def _seen(page: str) -> str:
    return _hidden(page, "seen")


def _hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def _scan(client: TestClient, content: bytes = b"mark", name: str = "clip.mp4") -> str:
    token = new_token(_database(client), f"bot{time.time_ns()}", "submit")
    headers = {"Authorization": f"Bearer {token}"}
    scan_id = client.post("/v1/scans", files={"file": (name, content)}, headers=headers).json()["id"]
    for _ in range(400):
        if client.get(f"/v1/scans/{scan_id}", headers=headers).json()["status"] == "done":
            break
        time.sleep(0.02)
    return str(scan_id)


def test_nobody_sees_anything_without_a_login(client: TestClient) -> None:
    scan_id = _scan(client)
    for path in ("/review", "/review/log", f"/review/scans/{scan_id}", f"/review/scans/{scan_id}/pictures/0",
                 f"/review/scans/{scan_id}/pictures/0/heat", f"/review/scans/{scan_id}/media"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/review/login")
    for path in ("decision", "appeal"):
        assert client.post(f"/review/scans/{scan_id}/{path}", data={}).status_code == 303
    assert decisions.audit(_database(client)).entries == 0


def test_only_review_tokens_log_in(client: TestClient) -> None:
    assert client.post("/review/login", data={"token": "genwm_x"}).status_code == 401
    submitter = new_token(_database(client), "bot", "submit")
    assert client.post("/review/login", data={"token": submitter}).status_code == 403
    reviewer = new_token(_database(client), "alice", "review")
    foreign = client.post("/review/login", data={"token": reviewer}, headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403
    cookie = client.post("/review/login", data={"token": reviewer}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert reviewer not in cookie


def test_the_cookie_is_for_https_unless_told_otherwise(tmp_path: Path) -> None:
    with TestClient(create_app(Config(folder=tmp_path, min_free_bytes=0), settings(), StubScanner),
                    base_url="https://testserver") as client:
        token = new_token(_database(client), "alice", "review")
        cookie = client.post("/review/login", data={"token": token}, follow_redirects=False).headers["set-cookie"]
    assert cookie.startswith("__Host-genwm=")
    assert "Secure" in cookie


def test_logging_out_and_revoking_end_a_session(client: TestClient) -> None:
    csrf = _log_in(client)
    assert client.post("/review/logout", data={"csrf": "wrong"}).status_code == 403
    assert client.post("/review/logout", data={"csrf": csrf}).headers["location"] == "/review/login"
    assert client.get("/review").status_code == 303
    _log_in(client, "bob")
    revoke_token(_database(client), "bob")
    assert client.get("/review").status_code == 303


def test_the_queue_holds_what_needs_a_decision(client: TestClient) -> None:
    for content, name in ((b"mark", "one<script>"), (b"fake", "two"), (b"plain", "three"), (b"bad", "four")):
        _scan(client, content, name)
    _log_in(client)
    page = client.get("/review").text
    assert "one&lt;script&gt;" in page
    assert "<script>one" not in page
    assert "two" in page
    assert "three" not in page
    assert "four" in client.get("/review?view=all&verdict=error").text
    assert "three" not in client.get("/review?view=all&verdict=error").text


def test_a_clip_is_found_by_what_an_appeal_names(client: TestClient) -> None:
    wanted, other = _scan(client, b"plain one", "wanted.mp4"), _scan(client, b"plain two", "other.mp4")
    _log_in(client)
    with _database(client).write() as connection:
        connection.execute(update(table).where(table.c.id == wanted).values(reference="upload-4711"))
    for name in (wanted, "wanted.mp4", " upload-4711 ", hashlib.sha256(b"plain one").hexdigest().upper()):
        page = client.get("/review", params={"view": "all", "find": name}).text
        assert f"/review/scans/{wanted}" in page
        assert f"/review/scans/{other}" not in page
    assert "No scan has that name" in client.get("/review", params={"view": "all", "find": "wanted"}).text


def test_the_log_is_read_from_either_end(client: TestClient) -> None:
    scan_id = _scan(client)
    _log_in(client)
    assert "Newest" not in client.get("/review/log").text
    for number in range(60):
        decisions.decide(_database(client), scan_id, "alice", "escalate", "unclear", f"note {number + 1}.")
    seen: dict[str, list[str]] = {}
    for place in ("", "?after=25", "?after=35", "?after=10", "?after=99"):
        text = client.get(f"/review/log{place}").text
        seen[place] = re.findall(r"after=(\d+)\">(\w+)<", text)
        numbers = [int(number) for number in re.findall(r"note (\d+)\.", text)]
        start = int(place.partition("=")[2] or 0)
        assert numbers == list(range(start + 1, min(start + 25, 60) + 1))
    assert seen == {
        "": [("25", "Later"), ("35", "Newest")],
        "?after=25": [("0", "First"), ("0", "Earlier"), ("35", "Later"), ("35", "Newest")],
        "?after=35": [("0", "First"), ("10", "Earlier")],
        "?after=10": [("0", "First"), ("0", "Earlier"), ("35", "Later"), ("35", "Newest")],
        "?after=99": [("0", "First"), ("35", "Earlier")],
    }


def test_the_newest_entries_of_a_log_that_was_cut_are_still_found(client: TestClient) -> None:
    scan_id = _scan(client)
    _log_in(client)
    for number in range(30):
        decisions.decide(_database(client), scan_id, "alice", "escalate", "unclear", f"note {number + 1}.")
    with _database(client).write() as connection:
        connection.execute(text("DROP TRIGGER decision_log_no_delete"))
        connection.execute(text("DELETE FROM decision_log WHERE number < 11"))
    page = client.get("/review/log").text
    assert "the log was changed" in page
    assert '<a href="/review/log?after=5">Newest</a>' in page


def test_a_decision_is_logged_once_and_can_be_appealed(client: TestClient) -> None:
    scan_id = _scan(client)
    csrf = _log_in(client)
    page = f"/review/scans/{scan_id}"
    form = {"csrf": csrf, "seen": "0", "action": "uphold", "reason": "mark", "note": "Mark & <payload>"}
    assert client.post(f"{page}/decision", data={**form, "csrf": "x"}).status_code == 403
    refused = client.post(f"{page}/decision", data={**form, "reason": "false-alarm"})
    assert refused.status_code == 400
    assert 'role="alert"' in refused.text
    assert "Mark &amp; &lt;payload&gt;" in refused.text  # what was written is not lost
    assert client.post(f"{page}/decision", data=form).headers["location"] == page
    assert client.post(f"{page}/decision", data=form).status_code == 409
    assert client.post(f"{page}/appeal", data={"csrf": csrf, "seen": "1", "note": " "}).status_code == 400
    assert client.post(f"{page}/appeal", data={"csrf": csrf, "seen": "1", "note": "it is mine"}).status_code == 303
    assert "Appealed." in client.get(page).text
    again = {**form, "seen": _seen(client.get(page).text), "action": "reject", "reason": "original-shown"}
    assert client.post(f"{page}/decision", data=again).status_code == 303
    assert "overturned" in client.get(page).text
    log = client.get("/review/log").text
    assert "The log is whole: 3 entries." in log
    assert "1 appeal, 1 decided" in log
    assert log.count(f'<a href="/review/scans/{scan_id}">clip.mp4</a>') == 3
    assert "100 %" in log
    assert "Mark &amp; &lt;payload&gt;" in log


def test_whoever_passes_a_clip_on_gets_to_the_next(client: TestClient) -> None:
    older, newer = _scan(client, b"mark one"), _scan(client, b"mark two")
    form = {"csrf": _log_in(client), "seen": "0", "action": "escalate", "reason": "unclear"}
    assert client.post(f"/review/scans/{newer}/decision", data=form).status_code == 303
    assert f'<a rel="next" href="/review/scans/{older}">' in client.get(f"/review/scans/{newer}").text
    assert 'rel="next"' not in client.get(f"/review/scans/{older}").text


def test_a_scan_that_still_waits_is_not_decided(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {new_token(_database(client), 'bot', 'submit')}"}
    scan_id = client.post("/v1/scans", files={"file": ("clip.mp4", b"slow")}, headers=headers).json()["id"]
    form = {"csrf": _log_in(client), "seen": "0", "action": "uphold", "reason": "mark"}
    answer = client.post(f"/review/scans/{scan_id}/decision", data=form)
    assert answer.status_code == 409
    assert 'role="alert">Expected a finished scan' in answer.text


def test_a_form_from_before_somebody_else_decided_is_refused(client: TestClient) -> None:
    scan_id = _scan(client)
    page = f"/review/scans/{scan_id}"
    csrf = _log_in(client)
    opened = client.get(page).text
    form = {"csrf": csrf, "seen": _seen(opened), "action": "reject", "reason": "false-alarm", "note": "my <words>"}

    decisions.decide(_database(client), scan_id, "ann", "uphold", "mark", "")
    stale = client.post(f"{page}/decision", data=form)
    assert stale.status_code == 409
    assert stale.text.count('role="alert"') == 1
    assert "got one from before ann decided &#39;uphold&#39;; read its history" in stale.text
    to_appeal = {"csrf": csrf, "seen": _seen(stale.text), "note": "it is mine"}

    decisions.appeal(_database(client), scan_id, "ann", "please")
    stale = client.post(f"{page}/decision", data=form)
    assert stale.status_code == 409
    assert stale.text.count('role="alert"') == 1
    assert "ann decided &#39;uphold&#39;, ann reopened it on appeal;" in stale.text
    assert "my &lt;words&gt;" in stale.text  # what was written is not lost
    twice = client.post(f"{page}/appeal", data=to_appeal)
    assert twice.status_code == 409
    assert twice.text.count('role="alert"') == 1
    assert "got one from before ann reopened it on appeal;" in twice.text
    assert decisions.rates(_database(client)).overturned == 0

    again = client.post(f"{page}/decision", data={**form, "seen": _seen(stale.text)})
    assert again.status_code == 303
    assert decisions.rates(_database(client)).overturned == 1


@pytest.mark.parametrize("seen", [None, "", "-1", "x", "9" * 5000, "²"])
def test_a_form_says_which_history_it_showed(client: TestClient, seen: str | None) -> None:
    scan_id = _scan(client)
    form = {"csrf": _log_in(client), "action": "uphold", "reason": "mark"} | ({} if seen is None else {"seen": seen})
    answer = client.post(f"/review/scans/{scan_id}/decision", data=form)
    assert answer.status_code == 400
    assert "reload the page" in answer.text
    assert decisions.audit(_database(client)).entries == 0


@pytest.mark.parametrize("number", ["-1", "x", str(10**24)])
def test_a_number_that_no_log_reaches_is_a_page(client: TestClient, number: str) -> None:
    _log_in(client)
    answer = client.get("/review/log", params={"after": number})
    assert answer.status_code == 422
    assert "<h1>" in answer.text


def test_pictures_and_media_are_served_to_reviewers(client: TestClient) -> None:
    scan_id = _scan(client, b"mark" + bytes(1000))
    _log_in(client)
    page = client.get(f"/review/scans/{scan_id}").text
    assert "muted" in page
    assert 'id="reveal"' in page
    picture = client.get(f"/review/scans/{scan_id}/pictures/1")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert client.get(f"/review/scans/{scan_id}/pictures/2").status_code == 404
    assert page.count("/pictures/0/heat") == 1
    heat = client.get(f"/review/scans/{scan_id}/pictures/0/heat")
    assert (heat.status_code, heat.headers["content-type"], heat.text) == (200, "image/svg+xml", document(HEAT))
    assert "/pictures/1/heat" not in page
    assert client.get(f"/review/scans/{scan_id}/pictures/1/heat").status_code == 404
    twin = _scan(client, b"mark" + bytes(1000))
    assert client.get(f"/review/scans/{twin}/pictures/0/heat").text == heat.text
    part = client.get(f"/review/scans/{scan_id}/media", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"mark")
    assert "sandbox" in part.headers["content-security-policy"]
    assert part.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/review/scans/none", "/review/scans/none/pictures/0", "/review/scans/none/media"])
def test_an_unknown_scan_is_a_page(client: TestClient, path: str) -> None:
    _log_in(client)
    answer = client.get(path)
    assert answer.status_code == 404
    assert "<h1>" in answer.text


@pytest.mark.parametrize("path", ["/review?before=%00", "/review?verdict=%00", "/review/scans/%00",
                                  "/review/scans/%00/media", "/review/scans/%00/pictures/0"])
def test_control_characters_are_a_page(client: TestClient, path: str) -> None:
    _log_in(client)
    answer = client.get(path)
    assert answer.status_code == 422
    assert "characters that cannot be shown have no place in it" in answer.text


@pytest.mark.parametrize("number", ["1" + 300 * "0", str(10**4000), "-1"])
def test_a_picture_that_no_scan_has_is_a_page(client: TestClient, number: str) -> None:
    scan_id = _scan(client)
    _log_in(client)
    assert client.get(f"/review/scans/{scan_id}/pictures/{number}").status_code in (404, 422)


def test_a_long_form_is_refused(client: TestClient) -> None:
    scan_id = _scan(client)
    csrf = _log_in(client)
    answer = client.post(f"/review/scans/{scan_id}/decision", data={"csrf": csrf, "note": "x" * 40_000})
    assert answer.status_code == 413


def test_pages_use_nothing_from_elsewhere_and_no_inline_code() -> None:
    for template in (HERE / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"(src|href)=\"https?:", text)
        assert not re.search(r"\son\w+=|\sstyle=|<style|<script>", text)


def test_a_timeline_is_in_per_cent_of_the_clip() -> None:
    timeline = Timeline.of(record_of(Path("x"), b"mark", settings()))
    assert timeline is not None
    (span,) = timeline.marked
    assert (span.left, span.width) == (25.0, 50.0)
    assert timeline.ticks[0] == (0.0, "0:00")
    assert timeline.ticks[-1] == (100.0, "0:04")
    suspected = Timeline.of(record_of(Path("x"), b"fake", settings()))
    assert suspected is not None
    assert [(span.left, span.width, span.weight) for span in suspected.looked_at] == [(0.0, 50.0, 0.95)]


def test_times_and_sizes_for_people() -> None:
    seconds = (0.5, 9.0, 10.24, 59.97, 65.4, 3600)
    assert [clock(value) for value in seconds] == ["0:00.5", "0:09", "0:10.2", "1:00", "1:05", "60:00"]
    assert [size(value) for value in (None, 8, 1500, 2_340_000)] == ["unknown size", "8 bytes", "1.5 kB", "2.3 MB"]


def test_colours_keep_their_contrast() -> None:
    """WCAG 2.2 AA: 4.5 to 1 for text, 3 to 1 for what carries meaning, in light and dark."""
    text = (HERE / "static" / "review.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))
                   for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL))
    for colours in (light, {**light, **dark}):
        for ink in ("ink", "quiet", "link", "bad", "good", "marked", "suspicious"):
            for ground in ("card", "paper"):
                assert _contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
        assert _contrast(colours["focus"], colours["card"]) >= 3


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2, from relative luminance."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_pages_show_what_a_name_hides(client: TestClient) -> None:
    _log_in(client)
    scan_id = _scan(client, name="evil\u202e4pm.exe")
    for path in ("/review", f"/review/scans/{scan_id}"):
        text = client.get(path).text
        assert r"evil\u202e4pm.exe" in text
        assert "\u202e" not in text


def test_words_keep_their_lines(client: TestClient) -> None:
    csrf = _log_in(client)
    scan_id = _scan(client)
    form = {"csrf": csrf, "seen": "0", "action": "reject", "reason": "other", "note": "one\r\n<two>"}
    client.post(f"/review/scans/{scan_id}/decision", data=form)
    assert "<blockquote>one\n&lt;two&gt;</blockquote>" in client.get(f"/review/scans/{scan_id}").text
