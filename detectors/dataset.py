"""Generated clips -> a YOLO data set: frames, boxes, splits by clip, ``data.yaml``.

Boxes come from the description of the scene that a clip was rendered from, or from tracks (`detectors.tracks`). Frames
of one clip never end up in two splits: they look too much alike to measure anything with.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.scan.table import cell
from genwm.errors import InputError, NotFoundError, OutputError, OutputExistsError
from genwm.hashing import sha256_of
from genwm.text import escaped_name

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class LabelledFrame:
    """A frame uint8 ``(height, width, 3)`` RGB, its time, and boxes ``(kind, x0, y0, x1, y1)`` in pixels."""

    time_s: float
    rgb: NDArray[np.uint8]
    boxes: tuple[tuple[str, float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """A clip: where it comes from, and its frames, made when they are asked for."""

    source: str
    frames: Iterable[LabelledFrame]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: clips, frames and boxes of each split, and the names of the classes by number."""

    folder: str
    names: tuple[str, ...]
    clips: dict[Split, int]
    frames: dict[Split, int]
    boxes: dict[Split, int]


def export(
    clips: Sequence[LabelledClip], folder: str | os.PathLike[str], *, names: Sequence[str],
    val: float = 0.2, test: float = 0.1, seed: int = 0,
) -> Exported:
    """Writes a data set that ultralytics trains on unchanged; ``folder`` appears once all of it is written.

    ``val`` and ``test`` are shares of the clips; there is at least one clip to train on and one to validate on.

    Errors: InputError (no class, fewer than two clips, shares that leave none), OutputExistsError, OutputError.
    """
    target = Path(folder)
    if not names:
        raise InputError("Expected at least one object to learn in the clips, got none; a data set without classes "
                         "cannot be trained on: choose clips in which something is found")
    splits = split_clips(len(clips), val=val, test=test, seed=seed)
    if target.exists():
        raise OutputExistsError(f"Expected no file or folder at {target}, got one; choose another name")
    numbers = {name: number for number, name in enumerate(names)}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
            part = Path(temporary) / "part"
            counts = _write(part, clips, splits, numbers)
            (part / "data.yaml").write_text(_yaml(names, [split for split in SPLITS if split in splits]))
            os.replace(part, target)
    except OSError as error:
        raise OutputError(f"Expected to write the data set {target}, got '{error.strerror or error}'; free space or "
                          "choose another folder") from None
    return Exported(str(target), tuple(names), *counts)


def split_clips(count: int, *, val: float, test: float, seed: int) -> list[Split]:
    """The split of each of ``count`` clips, at random. Errors: InputError."""
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise InputError(f"Expected shares above 0 that leave some clips to train on, got val {val:g} and test "
                         f"{test:g}; choose smaller ones")
    held = max(1, round(count * val))
    tested = max(1, round(count * test)) if test else 0
    if count - held - tested < 1:
        need = f"one to train on, {held} to validate on" + (f", {tested} to test on" if tested else "")
        ways = [*(["give --test 0"] if tested and count > held else []), *(["a smaller --val"] if held > 1 else [])]
        raise InputError(f"Expected at least {held + tested + 1} clips ({need}), got {count}; add some"
                         + "".join(f", or {way}" for way in ways))
    order = np.random.default_rng(seed).permutation(count)
    splits: list[Split] = ["train"] * count
    for place in order[:held]:
        splits[place] = "val"
    for place in order[held : held + tested]:
        splits[place] = "test"
    return splits


def _write(
    folder: Path, clips: Sequence[LabelledClip], splits: Sequence[Split], numbers: Mapping[str, int]
) -> tuple[dict[Split, int], dict[Split, int], dict[Split, int]]:
    from PIL import Image

    used = [split for split in SPLITS if split in splits]
    for split in used:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    clip_count, frames, boxes = (dict.fromkeys(used, 0) for _ in range(3))
    with (folder / "clips.csv").open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("clip", "split", "source", "frames", "boxes"))
        for number, (clip, split) in enumerate(zip(clips, splits, strict=True)):
            name, before = f"clip{number:05d}", (frames[split], boxes[split])
            for place, frame in enumerate(clip.frames):
                stem = f"{name}-{place:03d}"
                Image.fromarray(frame.rgb).save(folder / "images" / split / f"{stem}.jpg", quality=_JPEG_QUALITY)
                lines = label_lines(frame, numbers)
                (folder / "labels" / split / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))
                frames[split] += 1
                boxes[split] += len(lines)
            clip_count[split] += 1
            source = cell(escaped_name(clip.source))
            rows.writerow((name, split, source, frames[split] - before[0], boxes[split] - before[1]))
    return clip_count, frames, boxes


def label_lines(frame: LabelledFrame, numbers: Mapping[str, int]) -> list[str]:
    """Lines ``class x y width height`` of a frame, centre and size as shares of the picture's, boxes cut to the
    picture; kinds that are not in ``numbers`` are left out."""
    height, width, _ = frame.rgb.shape
    lines = []
    for kind, *corners in frame.boxes:
        x0, x1 = np.clip(corners[0::2], 0, width)
        y0, y1 = np.clip(corners[1::2], 0, height)
        if kind in numbers and x1 > x0 and y1 > y0:
            place = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            lines.append(f"{numbers[kind]} " + " ".join(f"{value:.6f}" for value in place))
    return lines


def _yaml(names: Sequence[str], splits: Sequence[Split]) -> str:
    # Without a key 'path', ultralytics takes the folder that data.yaml lies in, so the data set can be moved.
    lines = ["# Written by genwm dataset export. Splits are by clip: see clips.csv."]
    lines += [f"{split}: images/{split}" for split in splits]
    lines += ["names:", *(f"  {number}: {json.dumps(name)}" for number, name in enumerate(names))]
    return "\n".join(lines) + "\n"


def rendered_clips(
    count: int, *, seed: int = 0, frames: int = 6, seconds: float = 1.0, width: int = 512, height: int = 320
) -> list[LabelledClip]:
    """Street scenes drawn by `genwm.tiny.scenes`, with the boxes of their own description: ``frames`` frames spread
    over ``seconds`` of each. Clip n of a seed is the same whatever ``count`` is."""
    def clip(number: int) -> Iterator[LabelledFrame]:
        from genwm.tiny.scenes import Scene, render

        scene = Scene.sample(np.random.default_rng([seed, number]))
        fps = max(frames - 1, 1) / seconds
        drawn = render(scene, frames=frames, width=width, height=height, fps=fps)
        for place, (rgb, boxes) in enumerate(zip(drawn.frames, drawn.boxes, strict=True)):
            yield LabelledFrame(place / fps, rgb, tuple((box.kind, box.x0, box.y0, box.x1, box.y1) for box in boxes))

    return [LabelledClip(f"scene seed {seed}, number {number}", clip(number)) for number in range(count)]


def read_tracks(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Any]:
    """The documents in files of what ``genwm analyze --json`` printed, one a line, by where each of them is.

    Errors: InputError (not JSON).
    """
    found = {}
    for path in paths:
        lines = Path(path).read_bytes().splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"line {number} of {os.fspath(path)}"
                try:
                    found[where] = json.loads(line)
                except (ValueError, RecursionError):
                    raise _no_tracks(where) from None
    return found


def tracked_clips(documents: Mapping[str, Mapping[str, Any]], *, frames: int = 6) -> list[LabelledClip]:
    """Clips with the boxes of their tracks: ``documents`` are what ``genwm analyze --json`` printed, by where they come
    from, as `read_tracks` gives them; up to ``frames`` frames of each, spread over it.

    Errors: InputError (not such a document, a clip that has changed since, or one that comes twice: its frames would
    lie in two splits), NotFoundError (the clip is gone).
    """
    read = {where: _tracked(where, document, frames) for where, document in documents.items()}
    first: dict[str, str] = {}
    for where, (clip, sha256) in read.items():
        if (other := first.setdefault(sha256, where)) != where:
            raise InputError(f"Expected each clip once, got the bytes of {clip.source} in {other} and in {where}; "
                             "leave one of them out")
    return [clip for clip, _ in read.values()]


def _no_tracks(where: str) -> InputError:
    return InputError(f"Expected what 'genwm analyze --json' prints in {where}, got something else; make it anew")


def _tracked(where: str, document: Mapping[str, Any], count: int) -> tuple[LabelledClip, str]:
    """The clip of a document, and the sha256 of its bytes."""
    try:
        if document["schema"] != "genwm.tracks/1":
            raise KeyError("schema")
        path, times = str(document["input"]["path"]), [float(value) for value in document["times"]]
        analysed = document["input"].get("sha256")
        size = [float(document["input"].get(name) or 0) for name in ("width", "height")]
        boxes: dict[int, list[tuple[str, float, float, float, float]]] = {}
        for track in document["tracks"]:
            kind = str(track["kind"])
            for index, x0, y0, x1, y1, _ in track["boxes"]:
                boxes.setdefault(int(index), []).append((kind, float(x0), float(y0), float(x1), float(y1)))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise _no_tracks(where) from None
    if not Path(path).is_file():
        raise NotFoundError(f"Expected the clip of {where} at {path}, got none; run from the folder it was analysed in")
    try:
        sha256 = sha256_of(path)
    except OSError as error:
        raise InputError(f"Expected a readable clip of {where} at {path}, got '{error.strerror}'; check its permissions"
                         ) from None
    if analysed not in (None, sha256):
        raise InputError(f"Expected the clip of {where} at {path} as it was analysed, got other bytes; analyse it "
                         "again")
    wanted = set(np.linspace(0, len(times) - 1, min(count, len(times))).round().astype(int).tolist())

    def frames() -> Iterator[LabelledFrame]:
        from genwm.video import read_rgb

        with read_rgb(path) as reader:
            for index, (time_s, rgb) in enumerate(reader):
                if index in wanted:
                    # Boxes are in displayed pixels, and those of the file need not be square.
                    across, down = (has / shown if shown else 1.0
                                    for has, shown in zip(rgb.shape[1::-1], size, strict=True))
                    yield LabelledFrame(time_s, rgb, tuple(
                        (kind, x0 * across, y0 * down, x1 * across, y1 * down)
                        for kind, x0, y0, x1, y1 in boxes.get(index, ())))

    return LabelledClip(path, frames()), sha256
