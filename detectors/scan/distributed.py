"""The same scan on many machines, through Ray Data: a list of paths or URLs in, shards of records out.

Every actor keeps a pool of one worker process, so a file of a stranger is read under the same limits as on one machine,
and what is wrong with it is a row. Ray Data holds files back while actors or shards are behind. Paths are fsspec URLs
(``s3://bucket/folder``) or files that every node sees; an object is copied to the node that scans it, and removed.

Files with the same bytes are read once: one actor keeps which file came first with them, and the others get its record
at the end, in a shard of their own.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.record import InputRecord, Record
from detectors.scan.journal import is_transient, name_in_journal, outcome_of
from detectors.scan.objects import fetch, filesystem_of, is_url, unfetched
from detectors.scan.pool import Pool
from detectors.scan.run import Tally, repeated
from detectors.scan.settings import Settings
from detectors.scan.single import Fingerprint, name_of
from genwm.errors import (
    DiskFullError,
    GenwmError,
    OutputError,
    OutputExistsError,
    WorkerError,
    debugging,
    is_disk_full,
)
from genwm.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from detectors.scan.pages import Pages

FORMATS = ("jsonl", "parquet")
#: Files that an actor takes at a time, and so the records of the smallest shard.
_BATCH = 32
#: Columns of a Parquet shard beside the record itself, which is JSON.
_COLUMNS = ("path", "sha256", "settings", "verdict", "error", "record")


def scan_distributed(
    paths: Sequence[str],
    settings: Settings,
    output: str,
    *,
    workers: int | None = None,
    shards: str = "jsonl",
    resume: bool = False,
    pages: str | None = None,
    progress: bool = False,
    listed: Collection[str] = (),
) -> Tally:
    """Scans files on the cluster of ``RAY_ADDRESS``, or on a local one, and writes shards of records below ``output``.

    Args:
        paths: files, as paths or fsspec URLs, each once: see `detectors.scan.inputs.expand`.
        settings: as for `Pool`; what they name (keys excepted) every node must see.
        output: a folder as path or fsspec URL; must hold no shards unless ``resume``.
        workers: actors; default one a CPU of the cluster.
        shards: 'jsonl', a record a line, or 'parquet', with the record as JSON in the column ``record``.
        resume: leave out files that have a record of the same bytes and settings in ``output``, but for errors of the
            moment.
        pages: folder for evidence pages, which every node must see.
        progress: Ray Data's own progress bars.
        listed: folders that could be listed: a record that says otherwise is left out of the pages.

    Errors: MissingExtraError without Ray; OutputExistsError, OutputError, DiskFullError; FetchError (a store that
    refuses); WorkerError (the cluster cannot be reached, or cannot go on).
    """
    require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = require("ray.data", "ray") and sys.modules["ray"]
    settings.check()
    # Actors may stand in another folder.
    settings = replace(settings, **{name: os.path.abspath(value) for name in ("model", "trust", "registry")
                                    if (value := getattr(settings, name)) is not None})
    output = output if is_url(output) else os.path.abspath(output)
    before = _before(output, resume, settings.digest)
    evidence = None if pages is None else _pages(pages, settings)
    started = not ray.is_initialized()
    # What goes wrong is told in one sentence; Ray would put pages of its own before it.
    level = logging.INFO if debugging() else logging.CRITICAL
    try:
        if started:
            _check_address(os.environ.get("RAY_ADDRESS", ""))
            local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
            ray.init(log_to_driver=False, logging_level=level, **local)
            logging.getLogger("ray.data").setLevel(level)
        plan = _Plan(ray, settings, output, shards, workers, pages, progress)
        tally = _run(plan, paths, before)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise _explained(error, output) from None
    finally:
        if started:
            ray.shutdown()
    if evidence is not None:
        evidence.write_index(newest_records(output, listed))
    return tally


@dataclass(frozen=True, slots=True)
class _Before:
    """What shards of earlier runs hold: how many records, the outcomes of the files that need no other try, and the
    first file of each content under these settings."""

    records: int = 0
    done: dict[bytes, str] = field(default_factory=dict)
    contents: dict[bytes, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every pass over files has in common."""

    ray: Any
    settings: Settings
    output: str
    shards: str
    workers: int | None
    pages: str | None
    progress: bool


def _run(plan: _Plan, files: Sequence[str], before: _Before) -> Tally:
    ray, digest = plan.ray, plan.settings.digest
    owners = ray.remote(_Owners).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote(before.contents)
    outcomes, repeats = _pass(plan, files, before, owners)
    made, left = _repeated_records(plan.output, repeats, digest)
    if made:
        _write_shard(plan.output, f"records-{_fresh()}-repeated.{plan.shards}", _table(made))
        outcomes.update(map(outcome_of, made))
    if left:  # what came of the first of them says nothing about their bytes: each for itself
        outcomes += _pass(plan, left, before, None)[0]
    if before.records:
        tally = _tally(plan.output, set(map(name_of, files)), digest, before.records)
    else:
        tally = _counted(outcomes)
    tally.duplicates = len(made)
    return tally


def _pass(plan: _Plan, files: Sequence[str], before: _Before, owners: Any) -> tuple[Counter[str], list[str]]:
    """Scans files: how many records there are of each outcome, and what has the bytes of another, as `InputRecord` in
    JSON."""
    import pyarrow as pa

    ray = plan.ray
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = plan.progress
    actors = max(1, min(plan.workers or int(ray.cluster_resources().get("CPU", 1)), len(files)))
    batch = max(1, min(_BATCH, len(files) // (4 * actors)))
    # Blocks of the right size from the start: a task that cut them would wait for a CPU that the actors have.
    names = pa.table({"path": pa.array([os.fsencode(path) for path in files], pa.binary())})
    blocks = [names.slice(start, batch) for start in range(0, max(len(files), 1), batch)]
    sink = _sink_class()(plan.output, plan.shards)
    found = ray.data.from_arrow(blocks).map_batches(
        _Scanner, batch_size=batch, batch_format="pyarrow", num_cpus=1,
        fn_constructor_args=(plan.settings, ray.put(before.done), owners, os.getcwd(), plan.pages),
        compute=ray.data.ActorPoolStrategy(size=actors),
    )  # fmt: skip
    found.write_datasink(sink, ray_remote_args={"num_cpus": 0})  # writing must not wait for an actor's CPU
    return Counter(sink.outcomes), sink.repeats


def _repeated_records(output: str, repeats: Sequence[str], digest: str) -> tuple[list[Record], list[str]]:
    """Records of files that have the bytes of another, and those for which the other's says nothing."""
    if not repeats:
        return [], []
    sources = [InputRecord.model_validate_json(text) for text in repeats]
    wanted = {source.sha256 for source in sources}
    firsts: dict[str | None, Record] = {}
    for record in read_shards(output):
        if record.settings == digest and record.input.sha256 in wanted and not is_transient(record):
            firsts.setdefault(record.input.sha256, record)
    made = [repeated(firsts[source.sha256], source.path, Fingerprint(source.sha256, source.bytes))
            for source in sources if source.sha256 in firsts]
    return made, [source.path for source in sources if source.sha256 not in firsts]


def _pages(folder: str, settings: Settings) -> Pages:
    from detectors.scan.pages import Pages

    return Pages(Path(folder), settings)


def _check_address(address: str) -> None:
    """Raises WorkerError where nobody listens at ``host:port``: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise WorkerError(f"Expected a Ray cluster at {address}, got '{error.strerror or error}'; check RAY_ADDRESS"
                          ) from None


def _fresh() -> str:
    """A name that nothing else has, behind those given before in the order of names."""
    return f"{time.time_ns():016x}{uuid.uuid4().hex[:4]}"


def _explained(error: Exception, output: str) -> GenwmError:
    """What went wrong in the cluster, in one sentence."""
    cause: Any = error
    while (inner := getattr(cause, "cause", None) or cause.__cause__) is not None:
        cause = inner  # what a task raised
    if isinstance(cause, GenwmError):
        return type(cause)(str(cause))
    if is_disk_full(cause):
        return DiskFullError(f"Expected room for the records in {output}, got none left; free some space and run again "
                             "with --resume")
    if isinstance(cause, OSError) and not isinstance(cause, ConnectionError):
        return OutputError(f"Expected to write records to {output}, got '{cause.strerror or cause}'; check the folder "
                           "and the permissions, and run again with --resume")
    said = str(cause).strip().splitlines() or [""]
    return WorkerError(f"Expected a Ray cluster that finishes the scan, got {type(cause).__name__}: {said[0]}; check "
                       "the cluster, and run again with --resume")


def _counted(outcomes: Mapping[str, int]) -> Tally:
    tally = Tally()
    for outcome, count in outcomes.items():
        tally.count(outcome, count)
    return tally


def _tally(output: str, wanted: set[str], digest: str, before: int) -> Tally:
    """Counts the newest record of each wanted file; ``before`` records were there."""
    newest: dict[str, str] = {}
    total = 0
    for record in read_shards(output):
        total += 1
        if record.input.path in wanted and record.settings == digest and not (
                is_transient(record) and record.input.path in newest):
            newest[record.input.path] = outcome_of(record)
    tally = _counted(Counter(newest.values()))
    tally.skipped = max(0, len(newest) - (total - before))
    return tally


class _Owners:
    """Actor: which file came first with its bytes."""

    def __init__(self, contents: dict[bytes, str]) -> None:
        self._first = dict(contents)

    def first(self, sha256: str, name: str) -> str:
        """The first file that was asked for with these bytes: this one, if there is none yet."""
        return self._first.setdefault(bytes.fromhex(sha256), name)


class _Scanner:
    """Actor: scans batches of files with a worker process of its own. Without ``owners`` duplicates are not looked
    for; relative paths count from ``folder``."""

    def __init__(self, settings: Settings, done: Any, owners: Any = None, folder: str = "", pages: str | None = None
                 ) -> None:
        import ray

        self._pool = Pool(settings, workers=1)
        self._done: dict[bytes, str] = ray.get(done) if isinstance(done, ray.ObjectRef) else done
        self._digest = settings.digest
        self._owners, self._folder = owners, folder
        self._pages = None if pages is None else _pages(os.path.join(folder, pages), settings)

    def __call__(self, batch: Any) -> Any:
        records = [self._record(os.fsdecode(raw)) for raw in batch["path"].to_pylist()]
        return _table([record for record in records if record is not None])

    def close(self) -> None:
        self._pool.close()

    def _record(self, path: str) -> Record | InputRecord | None:
        """The file's record; its input alone where another file has the same bytes; None where there is one already."""
        name = name_of(path)
        try:
            file = fetch(path, self._folder)
        except GenwmError as error:
            return None if self._has(name, None) else unfetched(path, error, self._pool.settings)
        with closing(file):
            if self._has(name, file.known.sha256):
                return None
            if not self._is_first(name, file.known.sha256):
                return InputRecord(path=name, sha256=file.known.sha256, bytes=file.known.bytes)
            scanned = file.named(self._pool.submit(file.place, file.known).result())
        if self._pages is not None:
            self._pages.write(scanned.record, scanned.pictures)
        return scanned.record

    def _has(self, name: str, sha256: str | None) -> bool:
        return name_in_journal(name, sha256, self._digest) in self._done

    def _is_first(self, name: str, sha256: str | None) -> bool:
        if self._owners is None or sha256 is None:
            return True
        import ray

        first: str = ray.get(self._owners.first.remote(sha256, name))
        return first == name


def _table(records: Sequence[Record | InputRecord]) -> Any:
    """Records as rows. A row without a verdict is of a file with the bytes of another, and holds its input alone."""
    import pyarrow as pa

    rows = [(record.path, record.sha256, None, None, None, record.model_dump_json())
            if isinstance(record, InputRecord) else
            (record.input.path, record.input.sha256, record.settings, record.verdict,
             record.error.code if record.error else None, record.to_json()) for record in records]
    columns = zip(*rows, strict=True) if rows else [()] * len(_COLUMNS)
    return pa.table({name: pa.array(list(values), pa.string()) for name, values in zip(_COLUMNS, columns, strict=True)})


def _sink_class() -> Callable[[str, str], Any]:
    """The class that writes shards; its base is Ray's, which is not imported before it is needed."""
    from ray.data.block import BlockAccessor
    from ray.data.datasource import Datasink

    class Shards(Datasink[tuple[dict[str, int], list[str]]]):  # type: ignore[misc]  # Ray is unknown to the checker
        """Writes each block of records to a file of its own, under its final name only when it is complete. Files with
        the bytes of another are told to whoever asked for the scan."""

        def __init__(self, folder: str, kind: str) -> None:
            self._folder, self._kind, self._run = folder, kind, _fresh()
            self.outcomes: Counter[str] = Counter()
            self.repeats: list[str] = []

        def write(self, blocks: Iterable[Any], ctx: Any) -> tuple[dict[str, int], list[str]]:
            import pyarrow as pa
            import pyarrow.compute as compute

            tables = [table for block in blocks if (table := BlockAccessor.for_block(block).to_arrow()).num_rows]
            if not tables:
                return {}, []
            rows = pa.concat_tables(tables)
            table = rows.filter(compute.is_valid(rows["verdict"]))
            if table.num_rows:
                # A task that is tried again writes the same name.
                _write_shard(self._folder, f"records-{self._run}-{ctx.task_idx:06d}.{self._kind}", table)
            counts = Counter(f"error:{code}" if code else verdict for verdict, code in
                             zip(table["verdict"].to_pylist(), table["error"].to_pylist(), strict=True))
            return dict(counts), rows.filter(compute.is_null(rows["verdict"]))["record"].to_pylist()

        def on_write_complete(self, write_result: Any) -> None:
            for written in write_result.write_returns:
                counts, repeats = written or ({}, [])
                self.outcomes.update(counts)
                self.repeats += repeats

    return Shards


def _write_shard(folder: str, name: str, table: Any) -> None:
    import pyarrow.parquet as parquet

    filesystem, inside = filesystem_of(folder)
    filesystem.makedirs(inside, exist_ok=True)
    part, place = f"{inside}/.{name}.part", f"{inside}/{name}"
    with filesystem.open(part, "wb") as file:
        if name.endswith(".parquet"):
            parquet.write_table(table, file)
        else:
            file.write("".join(f"{line}\n" for line in table["record"].to_pylist()).encode())
    filesystem.mv(part, place)


def read_shards(folder: str) -> Iterator[Record]:
    """The records of all shards below a folder or fsspec URL."""
    import pyarrow.parquet as parquet

    filesystem, inside = filesystem_of(folder)
    for place in _shards(filesystem, inside):
        with filesystem.open(place, "rb") as file:
            lines = (parquet.read_table(file, columns=["record"])["record"].to_pylist() if place.endswith(".parquet")
                     else file.read().splitlines())
        yield from map(Record.from_json, lines)


def newest_records(folder: str, listed: Collection[str] = ()) -> Iterator[Record]:
    """The newest record of each file in all shards, an error of the moment only where there is no other; none of a
    folder in ``listed``, which could not be listed then."""
    newest: dict[bytes, tuple[bool, int]] = {}
    for number, record in enumerate(read_shards(folder)):
        rank = not is_transient(record), number  # the shard with the record of another try may come before
        file = name_in_journal(record.input.path, None, record.settings or "")
        newest[file] = max(rank, newest.get(file, rank))
    left_out = set(listed)
    for number, record in enumerate(read_shards(folder)):
        file = name_in_journal(record.input.path, None, record.settings or "")
        if newest[file][1] == number and record.input.path not in left_out:
            yield record


def _shards(filesystem: Any, inside: str) -> list[str]:
    filesystem.invalidate_cache()  # what actors have written since
    if not filesystem.isdir(inside):
        return []
    names = filesystem.ls(inside, detail=False)
    return sorted(name for name in names if name.rsplit("/", 1)[-1].startswith("records-")
                  and name.endswith(tuple(f".{kind}" for kind in FORMATS)))


def _before(output: str, resume: bool, digest: str) -> _Before:
    """What is below ``output``. Errors: OutputError, OutputExistsError, FetchError."""
    filesystem, inside = filesystem_of(output)
    try:
        if filesystem.exists(inside) and not filesystem.isdir(inside):
            raise OutputError(f"Expected a folder for shards of records at {output}, got a file; choose another name")
        if not resume and _shards(filesystem, inside):
            raise OutputExistsError(f"Expected a folder without records at {output}, got one with some; go on with "
                                    "--resume, or choose another name")
        count = 0
        newest: dict[bytes, tuple[bytes, str]] = {}
        contents: dict[bytes, str] = {}
        for record in read_shards(output):
            count += 1
            name, sha256, under = record.input.path, record.input.sha256, record.settings or ""
            if is_transient(record):
                continue
            newest[name_in_journal(name, None, under)] = name_in_journal(name, sha256, under), outcome_of(record)
            if record.settings == digest and sha256:
                contents.setdefault(bytes.fromhex(sha256), record.duplicate_of or name)
        return _Before(count, dict(newest.values()), contents)
    except (GenwmError, ValueError):
        raise
    except Exception as error:
        raise OutputError(f"Expected to read {output}, got '{error}'; check the address and the credentials") from None


__all__ = ["FORMATS", "newest_records", "read_shards", "scan_distributed"]
