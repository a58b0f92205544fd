"""Many files -> one record each: none lost, none twice, the same bytes read once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from detectors.record import Record
from detectors.scan.journal import Journal, is_transient, outcome_of
from detectors.scan.objects import Fetched, fetch, unfetched
from detectors.scan.pool import Pool
from detectors.scan.single import Fingerprint, Scanned, name_of
from genwm.errors import GenwmError

#: Files a worker that are hashed and queued ahead of it: enough to keep it busy, few enough to hold in memory.
AHEAD = 3


@dataclass(slots=True)
class Tally:
    """Counts of a run: records by verdict, errors by code, duplicates, and how many of them all were there before."""

    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    skipped: int = 0

    def count(self, outcome: str, times: int = 1) -> None:
        """Counts records by `outcome_of` them."""
        verdict, _, code = outcome.partition(":")
        self.verdicts[verdict] += times
        if code:
            self.errors[code] += times

    @property
    def files(self) -> int:
        return self.verdicts.total()

    @property
    def scanned(self) -> int:
        return self.files - self.skipped


def scan_all(
    paths: Iterable[str],
    pool: Pool,
    journal: Journal,
    tally: Tally,
    *,
    prepare: Callable[[Scanned], None] = lambda _: None,
) -> Iterator[Scanned]:
    """Scans files as workers become free and yields them once their records are in the journal, as they finish.

    ``paths`` are files or fsspec URLs, whose objects are copied to this machine as they are needed. A file that has a
    record of its present bytes under the pool's settings is skipped, unless that is an error of the moment. A file
    whose bytes were read under another name gets that record, with ``duplicate_of``. ``prepare`` is called before a
    record is written: what must be there when it is. Errors: those of `Journal.append`; WorkerError.
    """
    settings = pool.settings.digest
    running: dict[Future[Scanned], Fetched] = {}
    alike: dict[str, deque[tuple[str, Fingerprint]]] = {}  # same bytes as a file that is being read

    def finished(scanned: Scanned) -> Scanned:
        prepare(scanned)
        journal.append(scanned.record)
        tally.count(outcome_of(scanned.record))
        tally.duplicates += scanned.record.duplicate_of is not None
        return scanned

    def skipped(path: str, known: Fingerprint) -> bool:
        outcome = journal.outcome(name_of(path), known.sha256, settings)
        if outcome is not None:
            tally.count(outcome)
            tally.skipped += 1
        return outcome is not None

    def taken(path: str) -> Iterator[Scanned]:
        try:
            file = fetch(path)
        except GenwmError as error:
            if not skipped(path, Fingerprint()):
                yield finished(Scanned(unfetched(path, error, pool.settings)))
            return
        known = file.known
        if skipped(path, known):
            file.close()
            return
        if known.sha256 is not None:
            if known.sha256 in alike:
                alike[known.sha256].append((path, known))
                file.close()
                return
            earlier = journal.of_content(known.sha256, settings)
            # A file that has the bytes again that it had before another record is no duplicate of itself: it is read.
            if earlier is not None and (earlier.duplicate_of or earlier.input.path) != name_of(path):
                file.close()
                yield finished(Scanned(repeated(earlier, path, known)))
                return
            alike[known.sha256] = deque()
        running[pool.submit(file.place, known)] = file

    def drained(limit: int) -> Iterator[Scanned]:
        while len(running) > limit:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                file = running.pop(future)
                file.close()
                yield finished(scanned := file.named(future.result()))
                for path, known in alike.pop(file.known.sha256 or "", ()):
                    if is_transient(scanned.record):
                        yield from taken(path)
                    else:
                        yield finished(Scanned(repeated(scanned.record, path, known)))

    try:
        for path in paths:
            yield from taken(path)
            yield from drained(AHEAD * pool.workers)
        yield from drained(0)
    finally:
        for file in running.values():
            file.close()


def repeated(record: Record, path: str, known: Fingerprint) -> Record:
    """The record of another file with the same bytes."""
    source = record.input.model_copy(update={"path": name_of(path), "sha256": known.sha256, "bytes": known.bytes})
    original = record.duplicate_of or record.input.path
    return record.model_copy(update={"input": source, "duplicate_of": original})
