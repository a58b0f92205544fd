"""``genwm analyze``: people and objects of a clip, followed through it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.text import counted


@click.command()
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--weights", default="yolo26n.pt", show_default=True, metavar="FILE",
              help="YOLO weights: a file, or a name that ultralytics downloads. Loading runs code: trust their source.")
@click.option("--video", "target", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT",
              help="Also write the clip with its boxes drawn, marked as derived.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --video if it exists.")
@click.option("--only", "kinds", metavar="CLASS", multiple=True,
              help="Follow only this class; may be given more than once.")
@click.option("--confidence", type=Number(0, 1), default=0.25, show_default=True,
              help="Least confidence of a detection.")
@click.option("--size", type=click.IntRange(32, 4096), default=640, show_default=True, metavar="PIXELS",
              help="Longer side that frames are looked at with.")
@click.option("--tracker", type=click.Choice(("bytetrack", "botsort")), default="bytetrack", show_default=True,
              help="How boxes are joined into tracks.")
@click.option("--max-frames", type=click.IntRange(1), metavar="N", help="Stop after so many frames.")
@click.option("--no-scores", is_flag=True, help="Do not ask the classifier about each person.")
@click.option("--json", "as_json", is_flag=True, help="Print the tracks as JSON.")
def analyze(
    clip: Path, weights: str, target: Path | None, overwrite: bool, kinds: tuple[str, ...], confidence: float,
    size: int, tracker: str, max_frames: int | None, no_scores: bool, as_json: bool,
) -> None:
    """Follow the people and objects of CLIP, and score each person.

    Needs the extra 'tracks': ultralytics, licensed under AGPL-3.0. A score orders the people of one clip; it is
    calibrated on whole frames and no verdict on a person.
    """
    from detectors.tracks import LICENCE, load_weights, score_people, track, write_annotated
    from genwm.errors import InputError, MissingExtraError
    from genwm.output import check_output
    from genwm.video import probe
    from genwm.video.encoding import container_for

    info = probe(clip)
    if target is not None:  # now, not when the clip has been followed
        container_for(target)
        check_output(target, source=clip, overwrite=overwrite)
    model = load_weights(weights)
    say(LICENCE)
    length = info.duration_s or 0.0
    with click.progressbar(length=1000, label="following", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done_s: float) -> None:
            bar.update(min(1000, round(1000 * done_s / length)) - bar.pos if length else 0)

        found = track(clip, model, confidence=confidence, tracker=f"{tracker}.yaml", kinds=kinds, size=size,
                      max_frames=max_frames, progress=progress)
    if not no_scores and any(each.kind == "person" for each in found.tracks):
        try:
            found = score_people(found)
        except (InputError, MissingExtraError) as error:
            say(f"No scores: {error}")
    if target is not None:
        write_annotated(found, target)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    say(f"{clip}: {counted(len(found.times_s), 'frame')}, {counted(len(found.tracks), 'track')}")
    for each in found.tracks:
        start, end = (found.times_s[each.boxes[place].index] for place in (0, -1))
        words = f"  {each.id}: {each.kind}, {start:.1f} - {end:.1f} s, confidence {each.confidence:.2f}"
        if each.score is not None:
            words += f", synthetic {each.score.probability:.2f} over {each.score.seconds:.1f} s"
        say(words)
    for warning in found.warnings:
        say(f"  Warning: {warning}")
