"""What a piece of work costs, in this process or one of its own, and a figure beside its limit."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from genwm.errors import GenwmError

#: Keys in the searches with several.
KEYS = 5
#: What verification may take: so many times what decoding takes, seconds for a search, and for each further key.
DECODE_RATIO, SEARCH_S, FURTHER_KEY_S = 1.3, 0.5, 0.05
#: What must be kept to, by the result's name.
LIMITS = {
    "embed.yuv": 10.0,
    "embed.planes": 10.0,
    "embed.rgb": 10.0,
    **dict.fromkeys(("read.unmarked.over-decode", "read.marked.over-decode"), DECODE_RATIO),
    **dict.fromkeys(("search.one-key", "verification.unmarked", "verification.marked"), SEARCH_S),
    **dict.fromkeys(("verification.unmarked.keys", "verification.marked.keys"), SEARCH_S + (KEYS - 1) * FURTHER_KEY_S),
    "search.further-key": FURTHER_KEY_S,
    "verify.unmarked": 1.5,
    "verify.marked": 1.5,
    "help": 0.3,
    "memory.verify.short": 500.0,
    "memory.verify.long": 500.0,
    "memory.embed.short": 500.0,
    "memory.embed.long": 500.0,
}


class Cost(NamedTuple):
    """Seconds by the wall clock and of processor time."""

    wall_s: float
    cpu_s: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

    def __truediv__(self, count: float) -> Cost:
        return Cost(self.wall_s / count, self.cpu_s / count)

    def __rmul__(self, factor: float) -> Cost:  # type: ignore[override]  # a tuple's would repeat it
        return Cost(factor * self.wall_s, factor * self.cpu_s)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure. ``wall`` and ``cpu`` are in ``unit`` ('x' for a ratio; memory has no ``cpu``); ``met`` compares
    ``wall`` with ``limit``, ``met_cpu`` the other. ``error`` says why there is no figure."""

    name: str
    unit: str
    wall: float | None = None
    cpu: float | None = None
    limit: float | None = None
    met: bool | None = None
    met_cpu: bool | None = None
    note: str = ""
    error: str = ""


def result(name: str, unit: str, wall: float, cpu: float | None = None, note: str = "") -> Result:
    """A figure beside its limit."""
    limit = LIMITS.get(name)
    return Result(
        name=name,
        unit=unit,
        wall=round(wall, 4),
        cpu=None if cpu is None else round(cpu, 4),
        limit=limit,
        met=None if limit is None else wall <= limit,
        met_cpu=None if limit is None or cpu is None else cpu <= limit,
        note=note,
    )


def timed(action: Callable[[], Any], *, repeats: int) -> Cost:
    """Median cost of ``action`` in this process, after one run that is not counted."""
    action()
    return median(once(action) for _ in range(repeats))


def once(action: Callable[[], Any]) -> Cost:
    """What one run costs in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def median(costs: Iterable[Cost]) -> Cost:
    """The medians of both clocks, each by itself."""
    walls, cpus = zip(*costs, strict=True)
    return Cost(statistics.median(walls), statistics.median(cpus))


class Child(NamedTuple):
    """A finished process: exit status, cost, and its largest resident memory in MB (10^6 bytes)."""

    status: int
    cost: Cost
    memory_mb: float


# A process inherits the memory mark of the one that starts it, so a small one stands between.
_LAUNCHER = """
import json, os, sys, time
null = os.open(os.devnull, os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1)]
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, use = os.wait4(pid, 0)
wall = time.perf_counter() - start
print(json.dumps([os.waitstatus_to_exitcode(status), wall, use.ru_utime + use.ru_stime, use.ru_maxrss]))
"""


def run_child(
    command: Sequence[str], *, env: dict[str, str] | None = None, statuses: Collection[int] = (0,)
) -> Child:
    """Runs a command to its end, its output discarded. ``command[0]`` is a path; ``env`` adds to this environment.
    Raises GenwmError where it cannot be started or ends with none of the ``statuses``."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *command],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GenwmError(f"Expected to start {command[0]}, got '{done.stderr.strip()[-200:]}'; check the installation")
    status, wall, cpu, resident = json.loads(done.stdout.splitlines()[-1])
    if status not in statuses:
        words = " ".join(done.stderr.split())[-200:]
        raise GenwmError(f"Expected '{' '.join(command[1:5])} ...' to work, got status {status}: {words}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Child(status, Cost(wall, cpu), resident * unit / 1e6)
