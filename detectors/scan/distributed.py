"""The same scan on many machines, through Ray Data: a list of paths or URLs in, shards of records out.

Every actor keeps a pool of one worker process, so a file of a stranger is read under the same limits as on one machine,
and what is wrong with it is a row. Ray Data holds files back while actors or shards are behind. Paths are fsspec URLs
(``s3://bucket/folder``) or files that every node sees; an object is copied to the node that scans it, and removed.

Files with the same bytes are read each for itself: finding them out would mean moving every file twice.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.record import Record
from detectors.scan.inputs import expand
from detectors.scan.journal import name_in_journal, outcome_of
from detectors.scan.pool import Pool
from detectors.scan.run import Tally
from detectors.scan.settings import Settings
from detectors.scan.single import Fingerprint, failed, fingerprint, name_of
from genwm.errors import OutputError, OutputExistsError
from genwm.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("jsonl", "parquet")
#: Files that an actor takes at a time, and so the records of the smallest shard.
_BATCH = 32
#: Columns of a Parquet shard beside the record itself, which is JSON.
_COLUMNS = ("path", "sha256", "settings", "verdict", "error", "record")


def scan_distributed(
    paths: Iterable[str],
    settings: Settings,
    output: str,
    *,
    workers: int | None = None,
    shards: str = "jsonl",
    resume: bool = False,
    progress: bool = False,
) -> Tally:
    """Scans files on the cluster of ``RAY_ADDRESS``, or on a local one, and writes shards of records below ``output``.

    Args:
        paths: files, folders or patterns, as paths or fsspec URLs.
        settings: as for `Pool`; what they name (keys excepted) every node must see.
        output: a folder as path or fsspec URL; must hold no shards unless ``resume``.
        workers: actors; default one a CPU of the cluster.
        shards: 'jsonl', a record a line, or 'parquet', with the record as JSON in the column ``record``.
        resume: leave out files that have a record of the same bytes and settings in ``output``.
        progress: Ray Data's own progress bars.

    Errors: MissingExtraError without Ray; OutputExistsError, OutputError.
    """
    require("ray", "ray")
    require("fsspec", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray: Any = require("ray.data", "ray") and sys.modules["ray"]
    settings.check()
    done = _done(output, resume)
    started = not ray.is_initialized()
    if started:
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, **local)
    try:
        return _run(ray, list(expand_urls(paths)), settings, output, workers, shards, done, progress)
    finally:
        if started:
            ray.shutdown()


def _run(
    ray: Any,
    files: Sequence[str],
    settings: Settings,
    output: str,
    workers: int | None,
    shards: str,
    done: dict[bytes, str],
    progress: bool,
) -> Tally:
    import pyarrow as pa

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = progress
    actors = max(1, min(workers or int(ray.cluster_resources().get("CPU", 1)), len(files)))
    batch = max(1, min(_BATCH, len(files) // (4 * actors)))
    # Blocks of the right size from the start: a task that cut them would wait for a CPU that the actors have.
    names = pa.table({"path": pa.array([os.fsencode(path) for path in files], pa.binary())})
    blocks = [names.slice(start, batch) for start in range(0, max(len(files), 1), batch)]
    sink = _sink_class()(output, shards)
    found = ray.data.from_arrow(blocks).map_batches(
        _Scanner, batch_size=batch, batch_format="pyarrow", num_cpus=1, fn_constructor_args=(settings, ray.put(done)),
        compute=ray.data.ActorPoolStrategy(size=actors),
    )  # fmt: skip
    found.write_datasink(sink, ray_remote_args={"num_cpus": 0})  # writing must not wait for an actor's CPU
    return _tally(output, set(map(name_of, files)), settings.digest, len(done)) if done else _counted(sink.outcomes)


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
        if record.input.path in wanted and record.settings == digest:
            newest[record.input.path] = outcome_of(record)
    tally = _counted(Counter(newest.values()))
    tally.skipped = max(0, len(newest) - (total - before))
    return tally


class _Scanner:
    """Actor: scans batches of files with a worker process of its own."""

    def __init__(self, settings: Settings, done: Any) -> None:
        import ray

        self._pool = Pool(settings, workers=1)
        self._done: dict[bytes, str] = ray.get(done) if isinstance(done, ray.ObjectRef) else done
        self._digest = settings.digest

    def __call__(self, batch: Any) -> Any:
        records = [self._record(os.fsdecode(raw)) for raw in batch["path"].to_pylist()]
        return _table([record for record in records if record is not None])

    def close(self) -> None:
        self._pool.close()

    def _record(self, path: str) -> Record | None:
        try:
            with _local_copy(path) as (place, known):
                if name_in_journal(name_of(path), known.sha256, self._digest) in self._done:
                    return None
                record = self._pool.submit(place, known).result().record
                return _renamed(record, name_of(place), name_of(path))
        except OSError as error:
            message = f"Expected to fetch {path}, got '{error.strerror or error}'; check the path and the permissions"
            code = "not-found" if isinstance(error, FileNotFoundError) else "fetch-failed"
            if (name_in_journal(name_of(path), None, self._digest)) in self._done:
                return None
            return failed(name_of(path), code, message, self._pool.settings, Fingerprint())


def _renamed(record: Record, place: str, name: str) -> Record:
    """The record of a copy under the name of the original."""
    if place == name:
        return record
    old, new = (json.dumps(text, ensure_ascii=False)[1:-1] for text in (place, name))
    return Record.from_json(record.to_json().replace(old, new))


@contextmanager
def _local_copy(path: str) -> Iterator[tuple[str, Fingerprint]]:
    """The file itself, or a copy of the object that a URL names, which goes when the block ends."""
    if not is_url(path):
        yield path, fingerprint(path)
        return
    import fsspec

    with tempfile.TemporaryDirectory(prefix="genwm-scan-") as folder:
        place = os.path.join(folder, "file" + Path(path).suffix)
        filesystem, inside = fsspec.core.url_to_fs(path)
        filesystem.get_file(inside, place)
        yield place, fingerprint(place)


def is_url(path: str) -> bool:
    """Whether a path names a protocol, as ``s3://bucket/key`` does."""
    return "://" in path


def expand_urls(paths: Iterable[str]) -> Iterator[str]:
    """`expand` for paths and fsspec URLs: a folder stands for all files below it but hidden ones."""
    import fsspec

    for path in paths:
        if not is_url(path):
            yield from expand([path])
            continue
        filesystem, inside = fsspec.core.url_to_fs(path)
        protocol = path.split("://", 1)[0]
        if any(character in inside for character in "*?["):
            found = sorted(filesystem.glob(inside))
        elif filesystem.isdir(inside):
            found = sorted(filesystem.find(inside))
        else:
            yield path
            continue
        yield from (f"{protocol}://{name}" for name in found
                    if not any(part.startswith(".") for part in name[len(inside.rstrip("/")) :].split("/")))


def _table(records: Sequence[Record]) -> Any:
    import pyarrow as pa

    rows = [(record.input.path, record.input.sha256, record.settings, record.verdict,
             record.error.code if record.error else None, record.to_json()) for record in records]
    columns = zip(*rows, strict=True) if rows else [()] * len(_COLUMNS)
    return pa.table({name: pa.array(list(values), pa.string()) for name, values in zip(_COLUMNS, columns, strict=True)})


def _sink_class() -> Callable[[str, str], Any]:
    """The class that writes shards; its base is Ray's, which is not imported before it is needed."""
    from ray.data.block import BlockAccessor
    from ray.data.datasource import Datasink

    class Shards(Datasink[dict[str, int]]):  # type: ignore[misc]  # Ray is unknown to the type checker
        """Writes each block of records to a file of its own, under its final name only when it is complete."""

        def __init__(self, folder: str, kind: str) -> None:
            self._folder, self._kind, self._run = folder, kind, uuid.uuid4().hex[:8]
            self.outcomes: dict[str, int] = {}

        def write(self, blocks: Iterable[Any], ctx: Any) -> dict[str, int]:
            import pyarrow as pa

            tables = [table for block in blocks if (table := BlockAccessor.for_block(block).to_arrow()).num_rows]
            if not tables:
                return {}
            table = pa.concat_tables(tables)
            # A task that is tried again writes the same name.
            _write_shard(self._folder, f"records-{self._run}-{ctx.task_idx:06d}.{self._kind}", table)
            counts: dict[str, int] = {}
            for verdict, code in zip(table["verdict"].to_pylist(), table["error"].to_pylist(), strict=True):
                outcome = f"error:{code}" if code else verdict
                counts[outcome] = counts.get(outcome, 0) + 1
            return counts

        def on_write_complete(self, write_result: Any) -> None:
            for counts in write_result.write_returns:
                for outcome, count in (counts or {}).items():
                    self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count

    return Shards


def _write_shard(folder: str, name: str, table: Any) -> None:
    import fsspec
    import pyarrow.parquet as parquet

    filesystem, inside = fsspec.core.url_to_fs(folder)
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
    import fsspec
    import pyarrow.parquet as parquet

    filesystem, inside = fsspec.core.url_to_fs(folder)
    for place in _shards(filesystem, inside):
        with filesystem.open(place, "rb") as file:
            lines = (parquet.read_table(file, columns=["record"])["record"].to_pylist() if place.endswith(".parquet")
                     else file.read().splitlines())
        yield from map(Record.from_json, lines)


def _shards(filesystem: Any, inside: str) -> list[str]:
    if not filesystem.isdir(inside):
        return []
    names = filesystem.ls(inside, detail=False)
    return sorted(name for name in names if name.rsplit("/", 1)[-1].startswith("records-")
                  and name.endswith(tuple(f".{kind}" for kind in FORMATS)))


def _done(output: str, resume: bool) -> dict[bytes, str]:
    """Outcomes of the files that have a record below ``output``."""
    import fsspec

    filesystem, inside = fsspec.core.url_to_fs(output)
    if filesystem.exists(inside) and not filesystem.isdir(inside):
        raise OutputError(f"Expected a folder for shards of records at {output}, got a file; choose another name")
    if not resume and _shards(filesystem, inside):
        raise OutputExistsError(f"Expected a folder without records at {output}, got one with some; go on with "
                                "--resume, or choose another name")
    return {name_in_journal(record.input.path, record.input.sha256, record.settings or ""): outcome_of(record)
            for record in read_shards(output)}


__all__ = ["FORMATS", "expand_urls", "is_url", "read_shards", "scan_distributed"]
