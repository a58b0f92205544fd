"""The clips that the embedded pipeline is trained on, drawn by other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import needs_proc, running

ROOT = Path(__file__).parents[3]


@needs_proc
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core draws in one process")
def test_those_who_draw_end_with_a_run_that_is_killed() -> None:
    code = "from genwm.tiny.data import clips\nfor one in clips(range(1000)): print(one[0], flush=True)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline() == b"0\n"
            workers = {process for process, parent in running().items() if parent == run.pid}
            assert len(workers) >= 2
        finally:
            run.kill()
    deadline = time.monotonic() + 30
    while workers & running().keys():
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.1)
