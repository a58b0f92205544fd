"""Worker processes, one clip each."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from genwm.errors import BudgetError
from genwm.workers import end_with_parent

Result = TypeVar("Result")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def finished(jobs: Sequence[Callable[[], Result]], processes: int) -> Iterator[Result]:
    """What each job returns, as they finish; they start in their order, and only a few wait at a time.

    One process, or one job, works in this process. Workers use one thread of linear algebra each: the jobs are what
    runs in parallel. Errors: what a job raises; BudgetError where a worker was killed.
    """
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job()
        return
    context = multiprocessing.get_context("spawn")  # torch and FFmpeg have threads, which a fork would lose
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context, initializer=_prepared)
    waiting: set[Future[Result]] = set()
    try:
        for job in jobs:
            waiting.add(pool.submit(job))
            if len(waiting) > processes:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise BudgetError(
            "Expected the worker processes to live, got one killed, for lack of memory perhaps; "
            "run the same command again, with fewer processes, to go on: what is measured is kept"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def ticking(tick: Callable[[], None], every_s: float) -> Iterator[None]:
    """Calls ``tick``, in a thread, every so many seconds while the block runs: what a job has done is seen before it
    ends, in whatever process it is."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            tick()

    thread = threading.Thread(target=run, name="ticking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _prepared() -> None:
    """What a worker begins with."""
    use_one_thread()
    end_with_parent()


def use_one_thread() -> None:
    """One thread of linear algebra in this process, for libraries that are not imported yet."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))
