"""``genwm dataset``: generated clips as data sets that others train on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.text import counted


@click.group()
def dataset() -> None:
    """Turn generated clips into data sets."""


@dataset.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--scenes", type=click.IntRange(1), metavar="N",
              help="Render N street scenes, boxes from their description.")
@click.option("--tracks", "documents", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True,
              metavar="FILE", help="What 'genwm analyze --json' printed, one clip a line; may be given more than once.")
@click.option("--frames", type=click.IntRange(1), default=6, show_default=True, metavar="N",
              help="Frames of each clip.")
@click.option("--width", type=click.IntRange(64, 4096), default=512, show_default=True, help="Of rendered scenes.")
@click.option("--height", type=click.IntRange(64, 4096), default=320, show_default=True, help="Of rendered scenes.")
@click.option("--val", type=Number(0, 1, min_open=True, max_open=True), default=0.2, show_default=True,
              help="Share of the clips to validate on.")
@click.option("--test", type=Number(0, 1, max_open=True), default=0.1, show_default=True,
              help="Share of the clips to test on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of scenes and splits.")
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def export(
    out: Path, scenes: int | None, documents: tuple[Path, ...], frames: int, width: int, height: int, val: float,
    test: float, seed: int, as_json: bool,
) -> None:
    """Write the YOLO data set OUT: frames, boxes, splits by clip, data.yaml.

    Boxes come from the scenes' own description (--scenes) or from tracks (--tracks). Train on it with
    'yolo train data=OUT/data.yaml model=yolo26n.yaml' (ultralytics, AGPL-3.0).
    """
    from detectors.dataset import export as write
    from detectors.dataset import read_tracks, rendered_clips, tracked_clips
    from genwm.tiny.scenes import KINDS

    if bool(scenes) == bool(documents):
        raise click.UsageError("Expected either --scenes N or --tracks FILE, got both or neither; give one.")
    names: tuple[str, ...]
    if scenes:
        clips, names = rendered_clips(scenes, seed=seed, frames=frames, width=width, height=height), KINDS
    else:
        read = read_tracks(documents)
        clips = tracked_clips(read, frames=frames)
        names = tuple(sorted({str(track["kind"]) for document in read.values() for track in document["tracks"]}))
    done = write(clips, out, names=names, val=val, test=test, seed=seed)
    if as_json:
        click.echo(json.dumps({"schema": "genwm.dataset/1", **asdict(done)}))
        return
    for split in done.clips:
        say(f"{split}: {counted(done.clips[split], 'clip')}, {counted(done.frames[split], 'frame')}, "
            f"{counted(done.boxes[split], 'box', 'boxes')}")
    say(f"wrote {done.folder} with {counted(len(names), 'class', 'classes')}: {', '.join(names)}")
