"""The clips that the embedded pipeline is trained on, drawn by other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def running() -> dict[int, int]:
    """The processes that run, each with its parent's; those that have ended but were not waited for do not."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state not in "ZX":
            found[int(path.parent.name)] = int(parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
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
