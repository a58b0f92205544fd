"""``genwm scan``: every detector on every file, one record each."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.text import counted

if TYPE_CHECKING:
    from detectors.record import Record
    from detectors.scan import Scanned, Settings
    from detectors.scan.run import Tally

#: Exit status where every file has a record and at least one of them is an error.
EXIT_SOME_FAILED = 1


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("-o", "--output", metavar="FILE",
              help="Journal that gets one JSON record a line [default: records go to stdout].")
@click.option("--resume", is_flag=True, help="Go on with a journal: files that have a record there are skipped.")
@click.option("--workers", type=click.IntRange(1, 256), metavar="N", help="Reading processes [default: one a core].")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Where the workers run; with ray, --output is a folder or URL that gets shards.")
@click.option("--shards", type=click.Choice(["jsonl", "parquet"]), default="jsonl", show_default=True,
              help="What --engine ray writes.")
@click.option("--policy", metavar="FILE", type=click.Path(dir_okay=False), help="Policy [default: the shipped one].")
@click.option("--print-policy", is_flag=True, help="Print the shipped policy, to be copied and changed, and leave.")
@click.option("--key", "names", metavar="NAME", multiple=True,
              help="Key to look for; may be given more than once [default: every key, retired ones too].")
@click.option("--model", metavar="DIR", type=click.Path(file_okay=False),
              help="Classifier to ask, such as 'genwm adapt' writes [default: the shipped one].")
@click.option("--trust", metavar="PEM", type=click.Path(dir_okay=False),
              help="Authorities whose manifests (C2PA) count as trusted.")
@click.option("--timeline", is_flag=True, help="Say which seconds are marked; reads marked files once more.")
@click.option("--everywhere", is_flag=True, help="Where the sampled frames show no mark, search a file stretch by "
              "stretch, 60 at most: finds a few marked seconds of a long one, and takes about a second for each 5 s.")
@click.option("--only", metavar="PATTERN", multiple=True, help="Of folders, take names that match, such as '*.mp4'.")
@click.option("--html", "pages", metavar="DIR", type=click.Path(file_okay=False),
              help="Write evidence pages for reviewers; includes --timeline.")
@click.option("--csv", "table", metavar="FILE", type=click.Path(dir_okay=False), help="Write the records as CSV, too.")
@click.option("--time-limit", type=Number(0, 1e6, min_open=True), metavar="S", default=120.0, show_default=True,
              help="Seconds that one file may take.")
@click.option("--memory-limit", type=click.IntRange(64, 2**40), metavar="MIB", default=1536, show_default=True,
              help="MiB that reading one file may add to a worker.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; needs --output.")
@click.pass_context
def scan(
    ctx: click.Context,
    paths: tuple[str, ...],
    output: str | None,
    resume: bool,
    workers: int | None,
    engine: str,
    shards: str,
    policy: str | None,
    print_policy: bool,
    names: tuple[str, ...],
    model: str | None,
    trust: str | None,
    timeline: bool,
    everywhere: bool,
    only: tuple[str, ...],
    pages: str | None,
    table: str | None,
    time_limit: float,
    memory_limit: int,
    as_json: bool,
) -> None:
    """Scan each PATH: a file, a folder, a quoted pattern, the URL of one (s3://...), or '-' for a list on stdin.

    Every file gets one record, whatever it is; files with the same bytes are read once. Exit status 0: every file was
    read. 1: every file has a record, and at least one is an error. 2: the run did not finish; --resume goes on.
    """
    from detectors.scan.objects import is_url
    from detectors.scan.settings import MIB, Limits, Settings
    from detectors.verdict import default_policy_text

    if print_policy:
        click.echo(default_policy_text(), nl=False)
        return
    if not paths:
        raise click.UsageError("Expected at least one path, or '-' for a list on stdin.")
    if resume and output is None:
        raise click.UsageError("Expected --output with --resume: it is the journal to go on with.")
    if engine == "ray" and output is None:
        raise click.UsageError("Expected --output with --engine ray: it writes shards of records.")
    if shards != "jsonl" and engine != "ray":
        raise click.UsageError(f"Expected --engine ray with --shards {shards}: else one file of JSON lines is written.")
    if as_json and output is None:
        raise click.UsageError("Expected --output with --json: without it, stdout is for the records.")
    for option, place in (("--html", pages), ("--csv", table), ("--output", output if engine == "local" else None)):
        if place is not None and is_url(place):
            raise click.UsageError(f"Expected a path of this machine for {option}, got {place}; only --output with "
                                   "--engine ray takes a URL.")
    _check_apart(paths, output, table, pages, shared=engine == "ray")
    settings = Settings.load(
        key_names=names, policy=policy, model=model, trust=trust,
        timeline=timeline or pages is not None, everywhere=everywhere, pictures=6 if pages else 0,
        limits=Limits(time_s=time_limit, memory_bytes=memory_limit * MIB),
    )
    settings.check()
    for words in settings.warnings():
        _warn(words)
    if engine == "ray":
        tally = _on_ray(paths, settings, output, resume, workers, shards, only, pages, table, as_json)
    else:
        tally = _local(paths, settings, output, resume, workers, only, pages, table, as_json)
    ctx.exit(EXIT_SOME_FAILED if tally.errors else 0)


def _check_apart(
    paths: tuple[str, ...], output: str | None, table: str | None, pages: str | None, *, shared: bool
) -> None:
    """Raises UsageError where two results would take the same place, however it is written, or pages or shards a folder
    to scan, which would be uploads to the next run; ``shared``: shards of records and pages may lie in one folder."""
    named = {"--output": output, "--csv": table, "--html": pages,
             "the index of --html": None if pages is None else os.path.join(pages, "index.html")}
    places = {option: os.path.realpath(place) for option, place in named.items() if place is not None}
    for one, other in combinations(places, 2):
        if places[one] == places[other] and not (shared and (one, other) == ("--output", "--html")):
            raise click.UsageError(f"Expected different places for {one} and {other}, got {places[one]} for both; "
                                   "choose another name for one of them.")
    scanned = {os.path.realpath(path): path for path in paths}
    for option in ("--html", "--output") if shared else ("--html",):
        if (path := scanned.get(places.get(option, ""))) is not None:
            raise click.UsageError(f"Expected another folder for {option} than one to scan, got {path} for both; "
                                   "choose another name for the results.")


def _local(
    paths: tuple[str, ...],
    settings: Settings,
    output: str | None,
    resume: bool,
    workers: int | None,
    only: tuple[str, ...],
    pages: str | None,
    table: str | None,
    as_json: bool,
) -> Tally:
    from detectors.scan.journal import Journal
    from detectors.scan.pages import Pages
    from detectors.scan.pool import Pool
    from detectors.scan.run import Tally, scan_all
    from detectors.scan.table import check_table, write_table

    started = time.monotonic()
    if table is not None:
        check_table(Path(table))
    results = [Path(name) for name in (output, pages, table) if name is not None]
    files, listed = _files(paths, only, results)
    tally = Tally()
    with ExitStack() as stack:
        evidence = Pages(Path(pages), settings) if pages is not None else None
        journal = stack.enter_context(Journal(output, resume=resume))
        if journal.torn:
            say(f"The last line of {output} was torn; its file is scanned again.")
        journal.forget(listed, settings.digest)
        pool = stack.enter_context(Pool(settings, min(workers or _all_cores(), max(len(files), 1))))
        advance = stack.enter_context(_progress(len(files), tally))
        for scanned in scan_all(files, pool, journal, tally, prepare=_writer(evidence)):
            if output is None:
                click.echo(scanned.record.to_json())
            advance()
        advance()
        if evidence is not None:
            evidence.write_index(journal)
        if table is not None:
            write_table(Path(table), _under(settings, journal))
        _summarise(tally, time.monotonic() - started, output, as_json)
    return tally


def _on_ray(
    paths: tuple[str, ...],
    settings: Settings,
    output: str | None,
    resume: bool,
    workers: int | None,
    shards: str,
    only: tuple[str, ...],
    pages: str | None,
    table: str | None,
    as_json: bool,
) -> Tally:
    from detectors.scan.distributed import newest_records, scan_distributed
    from detectors.scan.table import check_table, write_table

    assert output is not None  # checked with the options
    started = time.monotonic()
    if table is not None:
        check_table(Path(table))
    results = [name for name in (output, pages, table) if name is not None]
    files, listed = _files(paths, only, results)
    tally = scan_distributed(files, settings, output, workers=workers, shards=shards, resume=resume, pages=pages,
                             progress=sys.stderr.isatty(), listed=listed)
    if table is not None:
        write_table(Path(table), _under(settings, newest_records(output, listed)))
    _summarise(tally, time.monotonic() - started, output, as_json)
    return tally


def _files(paths: tuple[str, ...], only: tuple[str, ...], results: Sequence[str | Path]
           ) -> tuple[list[str], list[str]]:
    """What to scan, in order, told on stderr where that is nothing, for a run without files ends well; and as records
    name them, the folders that were listed for it."""
    from detectors.scan.inputs import expand
    from detectors.scan.single import name_of

    listed: list[str] = []
    files = list(expand(paths, listed=sys.stdin.buffer, only=only, skip=results, warn=_warn,
                        entered=lambda folder: listed.append(name_of(folder))))
    if not files:
        _warn("there is no file to scan" + (", or none whose name --only matches" if only else ""))
    return files, listed


def _under(settings: Settings, records: Iterable[Record]) -> Iterator[Record]:
    """The records under these settings: a journal may hold others of the same files, which would count twice."""
    digest = settings.digest
    return (record for record in records if record.settings == digest)


def _warn(words: str) -> None:
    say(f"Warning: {words}.")


def _all_cores() -> int:
    from detectors.scan.pool import cores

    return cores()


def _writer(evidence: Any) -> Callable[[Scanned], None]:
    """Pages are written before a file's record is: a record in the journal has its page."""
    return lambda scanned: None if evidence is None else evidence.write(scanned.record, scanned.pictures)


@contextmanager
def _progress(total: int, tally: Tally) -> Iterator[Callable[[], None]]:
    """Files done, rate and time left, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
               TextColumn("{task.fields[found]}"))
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scan", total=total, rate="", found="")

        def advance() -> None:
            rate = tally.scanned / max(time.monotonic() - started, 1e-9)
            bar.update(task, completed=tally.files, rate=f"{rate:.1f} files/s", found=_counts(tally))

        yield advance


def _counts(tally: Tally) -> str:
    return ", ".join(f"{verdict.replace('_', ' ')} {count}" for verdict, count in sorted(tally.verdicts.items()))


def _summarise(tally: Tally, seconds: float, output: str | None, as_json: bool) -> None:
    scanned = tally.scanned
    if as_json:
        click.echo(json.dumps({
            "schema": "genwm.scan-summary/1", "output": output, "files": tally.files, "scanned": scanned,
            "skipped": tally.skipped, "duplicates": tally.duplicates, "verdicts": dict(sorted(tally.verdicts.items())),
            "errors": dict(sorted(tally.errors.items())), "seconds": round(seconds, 3),
        }))  # fmt: skip
    rate = f"{scanned / max(seconds, 1e-9):.1f} a second"
    parts = [f"{counted(scanned, 'file')} in {seconds:.1f} s ({rate})", _counts(tally)]
    if tally.duplicates:
        parts.append(f"{tally.duplicates} with the bytes of another")
    if tally.skipped:
        parts.append(f"{tally.skipped} that had a record")
    if tally.errors:
        parts.append("errors: " + ", ".join(f"{code} {count}" for code, count in sorted(tally.errors.items())))
    say("; ".join(part for part in parts if part) + ".")
