"""``genwm demo``: marks a clip, does to it what the world does to clips, and finds the mark again."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genwm.errors import OutputError
from genwm.keys import Keyring

if TYPE_CHECKING:
    from genwm.video import Planes

WIDTH, HEIGHT, FRAMES, FPS = 854, 480, 50, 25
KEEP = 0.8
CRF = 30


@click.command()
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("genwm-demo"),
              show_default=True, help="Folder for the files; those of an earlier demo are replaced.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the attacked clip as JSON.")
@click.pass_context
def demo(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Mark a clip, attack it, and find the mark again.

    Makes a clip and a key of its own, so it needs neither network nor keyring. Exit status 0: the payload came back
    exactly; 1: it did not.
    """
    from detectors.commands.verify import describe
    from detectors.record import verify_file
    from genwm.commands.embed import mark_file
    from genwm.marking import Mark
    from genwm.scenes import scene
    from genwm.video import write_video

    started = time.perf_counter()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise OutputError(f"Expected to make the folder {folder}, got {reason}; choose another with --out.") from None
    ring = Keyring.load(folder / "demo-keyring.json")
    key = next(iter(ring.keys(include_retired=False)), None) or ring.new("demo")
    payload = secrets.randbits(64)
    clip, marked, attacked = (folder / f"{name}.mp4" for name in ("clip", "marked", "attacked"))

    click.echo(f"1. making {FRAMES / FPS:.1f} s of video, {WIDTH}x{HEIGHT}: {clip}", err=True)
    write_video(clip, scene(WIDTH, HEIGHT, FRAMES), fps=FPS, crf=16, preset="veryfast")
    click.echo(f"2. marking it with key {key.name} and the random payload {payload:016x}: {marked}", err=True)
    mark_file(clip, marked, Mark(key, payload), overwrite=True)
    left, top = secrets.randbelow(round(WIDTH * (1 - KEEP))) & ~1, secrets.randbelow(round(HEIGHT * (1 - KEEP))) & ~1
    click.echo(f"3. cutting out {KEEP:.0%} of its width and height at a random place ({left}, {top}) and encoding that "
               f"as H.264 at CRF {CRF}: {attacked}", err=True)
    write_video(attacked, _cropped(marked, left, top), fps=FPS, crf=CRF, gop=2 * FPS)
    click.echo("4. reading the mark from that copy alone, with the key but without the original, the payload or the "
               "place of the cut", err=True)
    record = verify_file(attacked, keys=[key])
    for line in describe(record):
        click.echo(f"   {line}", err=True)
    found = record.watermark.payload if record.watermark else None
    exact = found == f"{payload:016x}"
    outcome = "all 64 bits came back" if exact else "the payload did not come back"
    click.echo(f"{outcome}, {time.perf_counter() - started:.0f} s in all; "
               f"look at the files in {folder} and compare them", err=True)
    if as_json:
        click.echo(json.dumps({"payload": f"{payload:016x}", "exact": exact, "record": json.loads(record.to_json())}))
    ctx.exit(0 if exact else 1)


def _cropped(path: Path, left: int, top: int) -> Iterator[Planes]:
    from genwm.video import read_planes

    width, height = round(WIDTH * KEEP) & ~1, round(HEIGHT * KEEP) & ~1
    for frame in read_planes(path):
        colour = slice(top // 2, (top + height) // 2), slice(left // 2, (left + width) // 2)
        yield replace(frame, y=frame.y[top : top + height, left : left + width], u=frame.u[colour], v=frame.v[colour])
