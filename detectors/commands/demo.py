"""``genwm demo``: makes a marked clip, does to it what the world does to clips, and finds the mark again."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genwm.commands.telling import say
from genwm.errors import GenwmError, OutputError, OutputExistsError
from genwm.keys import Key, Keyring
from genwm.tiny import EMBEDDED

if TYPE_CHECKING:
    from genwm.marking import Mark
    from genwm.video import Planes

#: Of the drawn clip, which stands in where nothing can be generated.
WIDTH, HEIGHT, FRAMES, FPS = 854, 480, 50, 25
PROMPT = "a red car drives to the right on a sunny day"
GENERATED_FRAMES = 97  # of 320 lines: with half as many, the payload is too weak after the attack in one try of three
KEEP = 0.8
CRF = 30
_SHOWN = 4
#: What a demo writes into its folder; the keyring first, by which an earlier demo's folder is known.
KEYRING, FILES = "demo-keyring.json", ("clip.mp4", "marked.mp4", "attacked.mp4", "demo.html")


@dataclass(frozen=True)
class Made:
    """The marked clip. ``source`` says in one sentence where it comes from; ``prompt`` is '' where it was drawn."""

    path: Path
    source: str
    prompt: str


@click.command()
@click.option("--out", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("genwm-demo"),
              show_default=True, help="Folder for the files; those of an earlier demo are replaced.")
@click.option("--prompt", default=PROMPT, show_default=True, help="What the embedded pipeline is asked for.")
@click.option("--drawn", is_flag=True, help="Mark a drawn clip, even where the embedded pipeline could make one.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of the attacked clip as JSON.")
@click.pass_context
def demo(ctx: click.Context, folder: Path, prompt: str, drawn: bool, as_json: bool) -> None:
    """Generate a marked clip, attack it, and find the mark again.

    The embedded pipeline makes the clip where the extra 'generate' is installed; else a drawn clip is marked. Makes
    a key of its own, so it needs neither network nor keyring. The result is one page, demo.html. Exit status 0: the
    payload came back exactly; 1: it did not.
    """
    from detectors.commands.verify import describe
    from detectors.scan import Settings, scan
    from genwm.commands.generate import check_request
    from genwm.generation import Request
    from genwm.marking import Mark
    from genwm.video import probe, write_video

    started = time.perf_counter()
    check_request(Request(prompt=prompt))
    if not os.path.lexists(folder / KEYRING) and (others := [name for name in FILES if os.path.lexists(folder / name)]):
        raise OutputExistsError(f"Expected an empty folder, or that of an earlier demo, got {folder}, which has a file "
                                f"{others[0]} of someone else's; choose another with --out.")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise OutputError(f"Expected to make the folder {folder}, got {reason}; choose another with --out.") from None
    ring = Keyring.load(folder / KEYRING)
    key = next(iter(ring.keys(include_retired=False)), None) or ring.new("demo")
    payload = secrets.randbits(64)
    mark, attacked = Mark(key, payload), folder / "attacked.mp4"
    seconds: dict[str, float] = {}
    reason = "as --drawn asks for" if drawn else _why_not_generated()
    made = _drawn(folder, mark, reason) if reason else _generated(folder, mark, prompt)
    seconds["making and marking"] = time.perf_counter() - started

    at = time.perf_counter()
    info = probe(made.path)
    cut = _cut(info.width, info.height)
    attack = (f"cutting out {KEEP:.0%} of its width and height at a random place ({cut[0]}, {cut[1]}) and encoding it "
              f"as H.264 at CRF {CRF}")
    say(f"3. {attack}: {attacked}")
    fps = info.fps or FPS
    write_video(attacked, _cropped(made.path, cut), fps=fps, crf=CRF, gop=round(2 * fps))
    seconds["attack"] = time.perf_counter() - at
    say("4. scanning that copy alone: the mark, with the key but without the original, the payload or the place "
        "of the cut; and the classifier, which knows nothing of marks")
    at = time.perf_counter()
    record = scan(attacked, Settings(keys=(key,), detectors=("watermark", "synthetic")))
    seconds["scanning"] = time.perf_counter() - at
    for line in describe(record):
        say(f"   {line}")
    found = record.watermark.payload if record.watermark else None
    exact = found == f"{payload:016x}"
    outcome = "all 64 bits came back" if exact else "the payload did not come back"
    shares = (cut[0] / info.width, cut[1] / info.height, cut[2] / info.width, cut[3] / info.height)
    _write_page(folder / "demo.html", made, attacked, key, record, shares, exact=exact, payload=f"{payload:016x}",
                attack=f"{attack[0].upper()}{attack[1:]}.", seconds=seconds)
    say(f"{outcome}, {time.perf_counter() - started:.0f} s in all; open {folder / 'demo.html'}")
    if as_json:
        click.echo(json.dumps({"payload": f"{payload:016x}", "exact": exact, "generated": bool(made.prompt),
                               "record": json.loads(record.to_json())}))
    ctx.exit(0 if exact else 1)


# --- the clip


def _why_not_generated() -> str:
    """Why the embedded pipeline cannot make the clip; '' where it can."""
    if not (EMBEDDED / "model_index.json").is_file():
        return "for this version ships no embedded pipeline"
    missing = [name for name in ("torch", "diffusers", "transformers") if find_spec(name) is None]
    return f"for {missing[0]} is not installed (pip install \"genwm[generate]\" brings it)" if missing else ""


def _generated(folder: Path, mark: Mark, prompt: str) -> Made:
    """Asks the embedded pipeline, which is marked while it decodes."""
    from genwm.commands.generate import EMBEDDED_SETTINGS, make
    from genwm.generation import Request
    from genwm.output import atomic_output
    from genwm.pipelines import load

    path = folder / "marked.mp4"
    say(f"1. generating {GENERATED_FRAMES} frames with the embedded pipeline: \"{prompt}\"")
    say(f"2. marking them with key {mark.key.name} and the random payload {mark.payload:016x} while they are "
        f"decoded: {path}")
    with atomic_output(path, overwrite=True) as part:
        loaded = replace(load(EMBEDDED, device="cpu"), model="embedded")
        request = Request(prompt=prompt, seed=1, **EMBEDDED_SETTINGS | {"frames": GENERATED_FRAMES})
        make(loaded, request, mark, {"video": part}, codec="h264", crf=None)
    return Made(path, "Generated by the pipeline that comes with genwm, on this machine, and marked while its "
                      "autoencoder decoded it.", prompt)


def _drawn(folder: Path, mark: Mark, reason: str) -> Made:
    """Draws a clip and marks the file."""
    from genwm.commands.embed import mark_file
    from genwm.scenes import scene
    from genwm.video import write_video

    clip, path = folder / "clip.mp4", folder / "marked.mp4"
    say(f"1. making {FRAMES / FPS:.1f} s of video, {WIDTH}x{HEIGHT}, drawn and not generated, {reason}: {clip}")
    write_video(clip, scene(WIDTH, HEIGHT, FRAMES), fps=FPS, crf=16, preset="veryfast")
    say(f"2. marking it with key {mark.key.name} and the random payload {mark.payload:016x}: {path}")
    mark_file(clip, path, mark, overwrite=True)
    return Made(path, f"Drawn by a few lines of code, not generated by a model, {reason}; then marked as a file.", "")


# --- the attack, and the page


def _cut(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random cut, all even."""
    kept = round(width * KEEP) & ~1, round(height * KEEP) & ~1
    room = (side - inner for side, inner in zip((width, height), kept, strict=True))
    left, top = (secrets.randbelow(max(1, left_over)) & ~1 for left_over in room)
    return left, top, *kept


def _cropped(path: Path, cut: tuple[int, int, int, int]) -> Iterator[Planes]:
    from genwm.video import read_planes

    left, top, width, height = cut
    for frame in read_planes(path):
        colour = slice(top // 2, (top + height) // 2), slice(left // 2, (left + width) // 2)
        yield replace(frame, y=frame.y[top : top + height, left : left + width], u=frame.u[colour], v=frame.v[colour])


def _write_page(path: Path, made: Made, attacked: Path, key: Key, record: Any,
                window: tuple[float, float, float, float],
                *, exact: bool, payload: str, attack: str, seconds: dict[str, float]) -> None:
    from detectors.demonstration import page, surfaces
    from genwm.output import atomic_output

    at = time.perf_counter()
    evidence = surfaces(attacked, key, Key.generate("another"))
    shown = [_some(clip) for clip in (made.path, attacked)]
    seconds = {**seconds, "this page's pictures": time.perf_counter() - at}
    text = page(title="genwm demo: a mark, an attack, a reading", source=made.source, prompt=made.prompt,
                payload=payload, exact=exact, attack=attack, marked=shown[0], attacked=shown[1], window=window,
                evidence=evidence, record=record, seconds=seconds)
    try:
        with atomic_output(path, overwrite=True) as part:
            Path(part).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Expected to write {path}, got '{error.strerror}'; choose another folder with --out."
                          ) from None


def _some(path: Path) -> list[Any]:
    """A few frames, evenly spread."""
    from genwm.video import read_rgb

    frames = [frame for _, frame in read_rgb(path)]
    if not frames:
        raise GenwmError(f"Expected frames in {path}, got none; run the demo again.")
    return [frames[round(place * (len(frames) - 1) / (_SHOWN - 1))] for place in range(_SHOWN)]
