"""A server that is told to stop: all that is under way shares one time of grace, and nothing is lost."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

import httpx
import uvicorn

from detectors.service.app import create_app
from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.serving import _Server
from detectors.service.tokens import new_token
from tests.detectors.service.stub import StubScanner, settings


def test_connections_scans_and_webhooks_share_the_grace(tmp_path: Path) -> None:
    config = Config(folder=tmp_path / "data", webhook_hosts=("127.0.0.1",), webhook_private=True, min_free_bytes=0,
                    webhook_timeout_s=10.0, grace_s=2.0)
    app = create_app(config, settings(), StubScanner)
    headers = {"Authorization": f"Bearer {new_token(app.state.database, 'bot', 'submit')}"}
    server = _Server(app, uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=int(config.grace_s)))
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/scans"
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with httpx.Client(headers=headers) as client, socket.create_connection(listener.getsockname()[:2]) as held:
            assert client.post(url, files={"file": b"mark"}, data={"webhook": hook}).status_code == 202
            silent.settimeout(20)
            told, _ = silent.accept()  # a webhook is under way, and stays so
            for number in range(9):  # 10 seconds of work for two workers
                assert client.post(url, files={"file": b"slow %d" % number}).status_code == 202
            head = f"POST /v1/scans HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n"
            head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99\r\n\r\n--x"
            held.sendall(head.encode())
            time.sleep(0.5)
            started = time.monotonic()
            server.should_exit = True
            thread.join(30)
            took = time.monotonic() - started
            told.close()
    assert not thread.is_alive()
    assert took < 2 * config.grace_s + 2  # the stub's last two files take two seconds more
    database = Database(config.url)
    with database.read() as connection:
        states = [row.status for row in connection.exec_driver_sql("SELECT status FROM scans")]
    database.close()
    assert len(states) == 10
    assert set(states) == {"queued", "done"}
    assert [path.name for path in config.uploads.glob(".*.part")] == []
