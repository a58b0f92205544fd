"""200 submissions at once, none lost although the server is killed in the middle and again while it scans."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from detectors.service.config import Config
from detectors.service.database import Database
from detectors.service.tokens import new_token
from eval.service_load import free_port, storm

_KINDS = (b"mark", b"fake", b"bad", b"plain")


def test_none_of_200_submissions_is_lost_when_the_server_is_killed(tmp_path: Path) -> None:
    config = Config(folder=tmp_path / "data")
    config.prepare()
    database = Database(config.url)
    token = new_token(database, "load", "submit")
    database.close()
    port = free_port()
    command = [sys.executable, "-m", "tests.detectors.service.stub", str(config.folder), str(port)]
    root = Path(__file__).parents[3]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=root, env=os.environ, stderr=subprocess.DEVNULL)

    files = [_KINDS[number % 4] + b" %d" % number for number in range(200)]
    outcome = storm(start, port, token, files, kill_after=60, kill_again=120)
    assert 60 <= outcome.acknowledged < 200  # it was killed while they came in
    assert (outcome.lost, outcome.repeated, outcome.wrong) == (0, 0, 0)
    assert outcome.verdicts == {"error": 50, "likely_synthetic": 50, "no_evidence": 50, "watermark_detected": 50}
    assert len(list(config.uploads.glob("[!.]*"))) == 200
