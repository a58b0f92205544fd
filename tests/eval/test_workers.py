"""Worker processes: results as they come, and no worker outlives the run that asked for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from eval.workers import finished
from tests.processes import needs_proc, running

ROOT = Path(__file__).parents[2]


def doubled(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("processes", [1, 2])
def test_every_job_is_done(processes: int) -> None:
    assert sorted(finished([partial(doubled, number) for number in range(5)], processes)) == [0, 2, 4, 6, 8]


def note_and_wait(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


@needs_proc
def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    code = ("import sys; from functools import partial; from pathlib import Path; from eval.workers import finished; "
            "from tests.eval.test_workers import note_and_wait; "
            "list(finished([partial(note_and_wait, Path(sys.argv[1]))] * 2, 2))")  # fmt: skip
    run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 50
        while len(workers := {int(path.name) for path in tmp_path.iterdir()}) < 2:
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
    while workers & running().keys():
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.1)
