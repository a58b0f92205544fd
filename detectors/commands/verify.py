"""``genwm verify``: reads the mark of videos and still images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from genwm.commands.telling import say
from genwm.errors import KeyMissingError
from genwm.keys import Key, Keyring

if TYPE_CHECKING:
    from detectors.record import Record

#: Exit status of each verdict. Of several files the worst decides, in the order 2, 1, 3, 0.
_STATUS = {"error": 2, "no_evidence": 1, "inconclusive": 3, "watermark_detected": 0}
_HEADS = {"no_evidence": "no watermark found", "inconclusive": "inconclusive", "watermark_detected": "watermark found"}


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("--key", "names", metavar="NAME", multiple=True,
              help="Key to look for; may be given more than once [default: every key, retired ones too].")
@click.option("--timeline", is_flag=True, help="Say which seconds are marked, and by which payload.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line, one for each file.")
@click.pass_context
def verify(ctx: click.Context, files: tuple[str, ...], names: tuple[str, ...], timeline: bool, as_json: bool) -> None:
    """Read the mark of each FILE, a video or still image.

    Exit status 0: a mark in every file. 2: an error in at least one. Else 1: none found in at least one.
    Else 3: at least one is inconclusive. A file without a mark may still be generated.
    """
    keys = _keys(names)
    from detectors.record import verify_file

    verdicts = set()
    for file in files:
        record = verify_file(file, keys=keys, timeline=timeline)
        verdicts.add(record.verdict)
        if as_json:
            click.echo(record.to_json())
        else:
            for line in describe(record):
                say(line)
    ctx.exit(next(status for verdict, status in _STATUS.items() if verdict in verdicts))


def _keys(names: tuple[str, ...]) -> tuple[Key, ...]:
    ring = Keyring.load()
    if names:
        return tuple(ring.get(name) for name in dict.fromkeys(names))
    if keys := ring.keys():
        return keys
    raise KeyMissingError(f"Expected a key to verify with in {ring.path}, got none; "
                          "make one with 'genwm keys new NAME'.")


def describe(record: Record) -> list[str]:
    """A record in plain words, one line after the other."""
    name = record.input.path
    if record.error is not None:
        return [f"{name}: error[{record.error.code}]: {record.error.message}"]
    lines = [f"{name}: {_HEADS[record.verdict]}", *(f"  {reason}" for reason in record.reasons)]
    mark = record.watermark
    assert mark is not None  # every record without an error has one
    if mark.geometry is not None:
        lines.append(f"  Picture: {mark.geometry.in_words()}.")
    digits = 1 if all(part.end - part.start >= 0.1 for part in mark.segments) else 3  # a video may be one frame
    lines += [f"  {part.start:.{digits}f} - {part.end:.{digits}f} s: {part.in_words()}" for part in mark.segments]
    return lines + [f"  Warning: {text}" for text in record.warnings]
