"""Does the service lose a submission when it is killed? Many clients at once, kill -9 in the middle, a restart.

``python -m eval.service_load --out docs/results/service-load.json`` makes small marked and unmarked clips, submits 200
of them at once to ``genwm serve`` with the real scan, kills it while they come in and again while it scans, and counts.
With ``--servers 2`` half of them goes to each of two servers on one database (``--database``, an empty one; default:
SQLite), one of which is killed half-way and started again.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.tables import put, versions

_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the submissions.

    Attributes:
        submissions: files handed in, all at once, each under an idempotency key of its own.
        kills: how often the server was killed with SIGKILL.
        acknowledged: submissions answered before the first kill.
        lost: acknowledged submissions without a record at the end, and keys without a scan.
        repeated: scans beyond one for each key.
        wrong: records of other bytes than were handed in, or scans that failed.
        verdicts: how many records have which verdict.
        accept_s: seconds until all were acknowledged, restarts included;  total_s: until all had a record.
    """

    submissions: int
    kills: int
    acknowledged: int
    lost: int
    repeated: int
    wrong: int
    verdicts: dict[str, int]
    accept_s: float
    total_s: float


def storm(
    start: Callable[[], subprocess.Popen[bytes]], port: int, token: str, files: Sequence[bytes], *,
    kill_after: int, kill_again: int | None = None,
) -> Outcome:
    """Submits ``files`` at once to the server that ``start`` starts on ``port``; kills it after ``kill_after``
    acknowledgements, starts it again, and, where asked, once more after ``kill_again`` records. Clients whose
    connection breaks send the same request again, as the API asks of them."""
    client = _Client(port, token)
    server = start()
    client.wait()
    began = time.monotonic()
    enough, accepted, at_kill = threading.Event(), [], 0
    guard = threading.Lock()

    def hand_in(number: int) -> tuple[int, str]:
        scan_id = client.submit(files[number], f"key-{number}")
        with guard:
            accepted.append(number)
            if len(accepted) >= kill_after:
                enough.set()
        return number, scan_id

    try:
        with ThreadPoolExecutor(len(files)) as clients:
            jobs = [clients.submit(hand_in, number) for number in range(len(files))]
            enough.wait(_PATIENCE_S)
            at_kill = len(accepted)
            server = _killed(server, start)
            ids = dict(job.result() for job in jobs)
        accept_s = time.monotonic() - began
        if kill_again is not None:
            client.finished(kill_again)
            server = _killed(server, start)
        client.finished(len(files))
        states = client.all()
    finally:
        server.kill()
        server.wait()
    return _counted(files, ids, states, at_kill, 1 + (kill_again is not None), accept_s, time.monotonic() - began)


def relay(
    start: Callable[[int], subprocess.Popen[bytes]], ports: Sequence[int], token: str, files: Sequence[bytes], *,
    kill_after: int, restart: bool = True,
) -> Outcome:
    """Submits ``files`` in turn to servers on one database, which ``start`` starts by number; kills the first with
    SIGKILL after ``kill_after`` records, and starts it again, or leaves its scans to the others."""
    clients = [_Client(port, token) for port in ports]
    servers = [start(number) for number in range(len(ports))]
    try:
        for client in clients:
            client.wait()
        began = time.monotonic()
        with ThreadPoolExecutor(len(files)) as threads:
            jobs = [threads.submit(clients[number % len(clients)].submit, content, f"key-{number}")
                    for number, content in enumerate(files)]
            ids = dict(enumerate(job.result() for job in jobs))
        accept_s = time.monotonic() - began
        clients[-1].finished(kill_after)
        servers[0].kill()
        servers[0].wait()
        if restart:
            servers[0] = start(0)
        clients[-1].finished(len(files))
        states = clients[-1].all()
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return _counted(files, ids, states, len(files), 1, accept_s, time.monotonic() - began)


def _killed(server: subprocess.Popen[bytes], start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    server.send_signal(signal.SIGKILL)
    server.wait()
    return start()


def _counted(
    files: Sequence[bytes], ids: dict[int, str], states: list[dict[str, Any]], acknowledged: int, kills: int,
    accept_s: float, total_s: float,
) -> Outcome:
    found = {state["id"]: state for state in states}
    wrong = sum(
        scan_id in found and (found[scan_id]["status"] != "done"
                              or found[scan_id]["sha256"] != hashlib.sha256(files[number]).hexdigest())
        for number, scan_id in ids.items()
    )
    return Outcome(
        submissions=len(files), kills=kills, acknowledged=acknowledged,
        lost=sum(found.get(ids.get(number, ""), {}).get("status") != "done" for number in range(len(files))),
        repeated=len(states) - len(set(ids.values())), wrong=wrong,
        verdicts=dict(sorted(Counter(str(state["verdict"]) for state in states).items())),
        accept_s=round(accept_s, 1), total_s=round(total_s, 1))


class _Client:
    """A client that sends again when its connection breaks."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    def _ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", **headers})
            answer = connection.getresponse()
            document = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 500:
            raise OSError(f"HTTP status {answer.status}")
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {document}")
        return document

    def _persistently(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._ask(method, path, body, **headers)
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def wait(self) -> None:
        """Until the server answers."""
        self._persistently("GET", "/health/ready")

    def submit(self, content: bytes, key: str) -> str:
        boundary = secrets.token_hex(16)
        body = (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{key}.mp4"\r\n\r\n'.encode()
                + content + f"\r\n--{boundary}--\r\n".encode())
        kind = f"multipart/form-data; boundary={boundary}"
        answer = self._persistently("POST", "/v1/scans", body, **{"Content-Type": kind, "Idempotency-Key": key})
        return str(answer["id"])

    def all(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = ""
        while True:
            page = self._persistently("GET", f"/v1/scans?limit=500{before}")
            found += page["items"]
            if page["next"] is None:
                return found
            before = f"&before={page['next']}"

    def finished(self, count: int) -> None:
        """Until ``count`` scans have ended."""
        deadline = time.monotonic() + _PATIENCE_S
        while sum(state["status"] in ("done", "failed") for state in self.all()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} scans did not end within {_PATIENCE_S:g} s")
            time.sleep(0.5)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=200)
    parser.add_argument("--servers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--database", help="SQLAlchemy URL of an empty database, for --servers 2")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.servers == 1:
            report = asdict(_real(folder, options.submissions))
        else:
            url = options.database or f"sqlite:///{folder / 'shared.sqlite'}"
            report = asdict(_two(folder, options.submissions, url)) | {"servers": 2} | _attempts(url)
    report = {"schema": "genwm.service-load/1", **report, "cores": len(os.sched_getaffinity(0)),
              "versions": versions("av", "fastapi", "sqlalchemy", "python"),
              "database": (options.database or "SQLite").split("://")[0],
              "clips": "0.48 s, 320 x 256, H.264; every other one marked; each of other bytes"}
    put(options.out, json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    sys.exit(report["lost"] or report["repeated"] or report["wrong"])


def _real(folder: Path, submissions: int) -> Outcome:
    """The storm with ``genwm serve`` itself."""
    environment, files, token = _prepared(folder, submissions, {"GENWM_SERVE_DATA": str(folder / "data")})
    port = free_port()
    with (folder / "server.log").open("ab") as log:
        return storm(lambda: subprocess.Popen([*_SERVE, "--port", str(port)], env=environment, stderr=log), port, token,
                     files, kill_after=submissions // 3, kill_again=submissions // 2)


def _two(folder: Path, submissions: int, url: str) -> Outcome:
    """The relay with two of ``genwm serve`` itself, one worker each."""
    shared = {"GENWM_SERVE_DATABASE": url, "GENWM_SERVE_DATA": str(folder / "data-0"),
              "GENWM_SERVE_SECRET": secrets.token_hex(32)}
    environment, files, token = _prepared(folder, submissions, shared)
    ports = [free_port(), free_port()]
    with (folder / "server.log").open("ab") as log:
        def start(number: int) -> subprocess.Popen[bytes]:
            place = ["--data", str(folder / f"data-{number}"), "--files", str(folder / "files"), "--workers", "1"]
            return subprocess.Popen([*_SERVE, *place, "--port", str(ports[number])], env=environment, stderr=log)

        return relay(start, ports, token, files, kill_after=submissions // 2)


def _attempts(url: str) -> dict[str, int]:
    """How many scans were begun more than once: those that the killed server had in hand."""
    from detectors.service.database import Database, scans

    database = Database(url)
    with database.read() as connection:
        again = connection.execute(scans.select().where(scans.c.attempts > 1)).all()
    database.close()
    return {"begun_again": len(again)}


_SERVE = (sys.executable, "-m", "genwm", "serve")


def _prepared(folder: Path, submissions: int, settings: dict[str, str]) -> tuple[dict[str, str], list[bytes], str]:
    """Environment of the servers, files to submit, and a token for it."""
    from genwm.keys import Keyring

    environment = {**os.environ, "GENWM_KEYRING": str(folder / "keyring.json"), **settings}
    key = Keyring.load(folder / "keyring.json").new("studio")
    files = [_clip(folder, number, key if number % 2 else None) for number in range(submissions)]
    made = subprocess.run([*_SERVE, "token", "new", "load", "--json"], env=environment, check=True,
                          stdout=subprocess.PIPE)
    return environment, files, json.loads(made.stdout)["token"]


def _clip(folder: Path, number: int, key: Any) -> bytes:
    from genwm.commands.embed import mark_file
    from genwm.marking import Mark
    from genwm.scenes import scene
    from genwm.video import write_video

    clip, marked = folder / "clip.mp4", folder / "marked.mp4"
    write_video(clip, scene(320, 256, 12, seed=number), fps=25, crf=20, preset="veryfast")
    if key is None:
        return clip.read_bytes()
    mark_file(clip, marked, Mark(key, number), overwrite=True, verify=False)
    return marked.read_bytes()


if __name__ == "__main__":
    main()
