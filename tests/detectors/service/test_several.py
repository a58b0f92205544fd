"""Two servers on one database: what one leaves when it is killed the other does, and nothing is done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service is not tested: it needs the extra 'serve'")

from sqlalchemy import select, text

from detectors.service.database import Database, scans
from detectors.service.tokens import new_token
from eval.service_load import free_port, relay

_KINDS = (b"mark", b"fake", b"bad", b"plain")


@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "left dead"])
def test_none_of_60_scans_is_lost_or_done_twice_when_a_server_is_killed(tmp_path: Path, restart: bool) -> None:
    url = os.environ.get("GENWM_TEST_DATABASE", f"sqlite:///{tmp_path / 'shared.sqlite'}")
    database, shared = Database(url), tmp_path / "files"
    if not database.is_sqlite:
        with database.write() as connection:
            connection.execute(text("TRUNCATE decision_log, deliveries, scans, sessions, tokens"))
    shared.mkdir()
    token = new_token(database, "load", "submit")
    ports = [free_port(), free_port()]

    def start(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.detectors.service.stub", str(tmp_path / f"data-{number}"),
                   str(ports[number]), str(shared), url]
        return subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL,
                                env={**os.environ, "GENWM_SERVE_SECRET": "ab" * 32})

    files = [_KINDS[number % 4] + b" %d" % number for number in range(60)]
    outcome = relay(start, ports, token, files, kill_after=25, restart=restart)
    assert (outcome.lost, outcome.repeated, outcome.wrong) == (0, 0, 0)
    assert outcome.verdicts == {"error": 15, "likely_synthetic": 15, "no_evidence": 15, "watermark_detected": 15}
    with database.read() as connection:
        rows = connection.execute(select(scans.c.path, scans.c.attempts, scans.c.status)).all()
    database.close()
    in_hand = {Path(row.path).name for row in rows if row.attempts > 1}
    assert len(in_hand) <= 4  # of two workers, and as many again that waited for them
    scanned = Counter((shared / "scanned").read_text().split())
    assert set(scanned) == {Path(row.path).name for row in rows}
    assert {name for name, count in scanned.items() if count > 1} <= in_hand
