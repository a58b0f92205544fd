"""The review page in a real headless browser, driven through WebDriver (the chromium and chromium-driver of Debian)."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from PIL import Image

from detectors.service import decisions
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.tokens import new_token
from eval.service_load import _Client, free_port

DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    DRIVER is None or shutil.which("chromium") is None,
    reason="the review page is not tested in a browser: install Debian's chromium and chromium-driver")
TAB, SPACE, ENTER = "\ue004", " ", "\ue007"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """As much of the WebDriver protocol as the test needs."""

    def __init__(self, port: int) -> None:
        self._port, self._session = port, ""
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                            "--hide-scrollbars"], "binary": shutil.which("chromium")}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self._call('POST', '/session', asked)['sessionId']}"

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request(method, self._session + path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(value["message"])
        return value

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def script(self, text: str) -> Any:
        return self._call("POST", "/execute/sync", {"script": text, "args": []})

    def keys(self, text: str) -> None:
        """Types into whatever has the focus, as a keyboard would."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focus(self, selector: str) -> None:
        """Tabs until the element has the focus; fails where a keyboard cannot reach it."""
        for _ in range(60):
            if self.script(f"return document.activeElement.matches({selector!r})"):
                return
            self.keys(TAB)
        raise AssertionError(f"the tab key does not reach {selector}")

    def resize(self, width: int, height: int) -> None:
        self._call("POST", "/window/rect", {"width": width, "height": height})

    def picture(self, selector: str) -> np.ndarray:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        data = base64.b64decode(self._call("GET", f"/element/{found}/screenshot"))
        return np.asarray(Image.open(BytesIO(data)).convert("RGB"), np.float32)

    def until(self, text: str) -> None:
        for _ in range(200):
            if self.script(f"return {text}"):
                return
            time.sleep(0.05)
        raise AssertionError(f"it never came true: {text}")

    def quit(self) -> None:
        self._call("DELETE", "")


def _waited(port: int) -> None:
    for _ in range(200):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/status")
            connection.getresponse().read()
            connection.close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("chromedriver does not start")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    port = free_port()
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              env={**os.environ, "HOME": str(tmp_path)})
    try:
        _waited(port)
        opened = Browser(port)
        yield opened
        opened.quit()
    finally:
        driver.terminate()
        driver.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Database, int]]:
    config = Config(folder=tmp_path / "data")
    config.prepare()
    database, port = Database(config.url), free_port()
    server = subprocess.Popen([sys.executable, "-m", "tests.detectors.service.stub", str(config.folder), str(port)],
                              cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL)
    try:
        client = _Client(port, new_token(database, "bot", "submit"))
        client.wait()
        client.submit(b"mark one", "first")
        client.submit(b"fake two", "second")
        client.finished(2)
        yield database, port
    finally:
        server.terminate()
        server.wait()
        database.close()


def test_a_reviewer_works_with_the_keyboard_alone(service: tuple[Database, int], browser: Browser) -> None:
    database, port = service
    base = f"http://127.0.0.1:{port}"
    browser.open(base)
    browser.until("location.pathname == '/review/login'")
    browser.focus("#token")
    browser.keys(new_token(database, "alice", "review") + ENTER)
    browser.until("document.querySelectorAll('tbody tr').length == 2")

    browser.focus("tbody tr:last-child a")
    browser.keys(ENTER)
    browser.until("document.querySelector('h1').textContent == 'first.mp4'")
    assert browser.script("return getComputedStyle(document.querySelector('rect.marked')).fill") == "rgb(11, 107, 203)"
    place = browser.script(
        "let box = document.querySelector('rect.marked').getBoundingClientRect(), "
        "all = document.querySelector('rect.track').getBoundingClientRect(); "
        "return [(box.left - all.left) / all.width, box.width / all.width]")
    assert place == pytest.approx([0.25, 0.5], abs=0.01)

    # Blurred and silent until asked for.
    browser.until("[...document.images].every(image => image.complete && image.naturalWidth)")
    filters = ("return [...document.querySelectorAll('.veil img:not(.heat), .veil video')]"
               ".map(x => getComputedStyle(x).filter)")
    assert all("blur" in value for value in browser.script(filters))
    assert browser.script("let clip = document.querySelector('video'); "
                          "return clip.muted && clip.paused && clip.preload == 'none'")
    browser.focus("#reveal")
    browser.keys(SPACE)
    assert set(browser.script(filters)) == {"none"}

    # The heat map lies over its frame, and goes when it is not wanted.
    shown = ("let [frame, heat] = document.querySelectorAll('.frame:has(.heat) img'); "
             "let box = x => JSON.stringify(x.getBoundingClientRect()); "
             "return getComputedStyle(heat).display == 'none' ? 'gone' : box(frame) == box(heat)")
    assert browser.script(shown) is True
    browser.focus("#heat")
    browser.keys(SPACE)
    assert browser.script(shown) == "gone"

    # Reasons that do not fit the decision cannot be chosen.
    browser.focus("#action-uphold")
    browser.keys(SPACE)
    assert browser.script("return document.querySelector('option[value=false-alarm]').disabled")
    browser.focus("#reason")
    browser.keys("The mark")
    browser.focus("#note")
    browser.keys("seen")
    browser.focus("#decision button")
    assert browser.script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.keys(ENTER)
    browser.until("document.querySelector('#decided') !== null")
    (entry,) = decisions.entries(database)
    assert (entry.by, entry.action, entry.reason, entry.note) == ("alice", "uphold", "mark", "seen")

    # Nothing was refused by the page's own security policy.
    assert browser.script("return getComputedStyle(document.querySelector('header')).display") == "flex"


def test_pages_fit_a_narrow_screen(service: tuple[Database, int], browser: Browser) -> None:
    database, port = service
    browser.open(f"http://127.0.0.1:{port}/review/login")
    browser.focus("#token")
    browser.keys(new_token(database, "alice", "review") + ENTER)
    browser.until("location.pathname == '/review'")
    browser.resize(500, 900)  # the narrowest window that chromium makes
    browser.until("innerWidth <= 500")
    scan = browser.script("return document.querySelector('tbody a').pathname")
    for path in ("/review", scan, "/review/log"):
        browser.open(f"http://127.0.0.1:{port}{path}")
        browser.until(f"location.pathname == {path!r} && document.readyState == 'complete'")
        browser.until("document.documentElement.scrollWidth <= innerWidth")  # once the style is there
    browser.open(f"http://127.0.0.1:{port}/review")
    browser.until("getComputedStyle(document.querySelector('tbody tr')).display == 'block'")  # once the style is there
    card = browser.picture("tbody tr")
    assert card.shape[1] > 300
    assert np.ptp(card) > 100  # text is drawn
