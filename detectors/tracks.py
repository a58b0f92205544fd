"""People and objects of a clip, followed from frame to frame by ultralytics YOLO, and the classifier's score of each.

ultralytics is licensed under AGPL-3.0, and so are the weights it publishes: whoever offers a service built on it has to
offer that service's source, or take a licence from its makers. Nothing else of genwm needs it. Weights are pickles, and
loading one runs what it says: take them from those you trust.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genwm.errors import FetchError, InputError
from genwm.extras import require
from genwm.hashing import sha256_of
from genwm.video import VideoInfo, read_rgb, write_video

if TYPE_CHECKING:
    from detectors.synthetic.canonical import Collector

LICENCE = ("Tracking uses ultralytics (AGPL-3.0): a service that is built on it must offer its source, or take another "
           "licence from its makers.")
PERSON = "person"
#: Seconds of a track that one score looks at, how many such pieces of a track, and pixels that a piece needs a side.
_PIECE_S, _PIECES, _LEAST_SIDE = 2.0, 4, 96
#: Pieces that are in memory at once, of each a dozen small pictures.
_HELD = 64
#: Colours that people of every colour vision tell apart (Okabe and Ito).
_PALETTE = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))

Frame = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Box:
    """Where a track is in frame ``index``: pixels of the frame as ``genwm.video.read_rgb`` gives it, from the upper
    left corner; confidence in [0, 1]."""

    index: int
    x0: float
    y0: float
    x1: float
    y1: float
    confidence: float


@dataclass(frozen=True, slots=True)
class TrackScore:
    """The classifier on what lies under a track: probability that a generator made it, the seconds that were looked at.
    Its calibration is that of whole frames: scores order the tracks of a clip, and are no verdict on one."""

    probability: float
    seconds: float
    model: str


@dataclass(frozen=True, slots=True)
class Track:
    """One person or object. ``score`` is None where none was asked for or there was too little to look at."""

    id: int
    kind: str
    boxes: tuple[Box, ...]
    score: TrackScore | None = None

    @property
    def confidence(self) -> float:
        return float(np.mean([box.confidence for box in self.boxes]))


@dataclass(frozen=True, slots=True)
class Tracks:
    """The tracks of a clip, and when each of its frames is shown (seconds)."""

    path: str
    info: VideoInfo
    weights: str
    times_s: tuple[float, ...]
    tracks: tuple[Track, ...]
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The document ``genwm.tracks/1``; boxes are ``[frame, x0, y0, x1, y1, confidence]`` in pixels of the picture
        as displayed, whose size ``input`` gives."""
        info = self.info
        return {
            "schema": "genwm.tracks/1",
            "input": {"path": self.path, "sha256": _sha256(self.path), "width": info.width, "height": info.height,
                      "fps": info.fps, "frames_read": len(self.times_s)},
            "model": {"weights": self.weights, "ultralytics": require("ultralytics", "tracks").__version__,
                      "licence": "AGPL-3.0"},
            "times": [round(time_s, 4) for time_s in self.times_s],
            "tracks": [self._track(track) for track in self.tracks],
            "warnings": list(self.warnings),
        }

    def _track(self, track: Track) -> dict[str, Any]:
        score = track.score
        down, across = self.info.display_scale
        return {
            "id": track.id, "kind": track.kind, "confidence": round(track.confidence, 4),
            "start": round(self.times_s[track.boxes[0].index], 4), "end": round(self.times_s[track.boxes[-1].index], 4),
            "synthetic": None if score is None else {"probability": round(score.probability, 4),
                                                     "seconds": round(score.seconds, 3), "model": score.model},
            "boxes": [[box.index, *(round(value, 1) for value in (box.x0 * across, box.y0 * down, box.x1 * across,
                                                                  box.y1 * down)),
                       round(box.confidence, 3)] for box in track.boxes],
        }


_WEIGHTS = (".pt", ".onnx", ".yaml", ".torchscript")


def load_weights(weights: str | os.PathLike[str]) -> Any:
    """A YOLO model from a file, or by one of ultralytics' names, which it downloads (``yolo26n.pt``).

    Errors: MissingExtraError, FetchError (cannot be downloaded), InputError (not weights).
    """
    # Never installs packages on its own, and says nothing: what is worth saying is said by us.
    os.environ.setdefault("YOLO_AUTOINSTALL", "False")
    os.environ.setdefault("YOLO_VERBOSE", "False")
    from PIL import Image

    opener = Image.open
    yolo = require("ultralytics", "tracks").YOLO
    Image.open = opener  # it puts its own in the place, which for a picture that nobody can read installs packages
    require("lap", "tracks")
    name = os.fspath(weights)
    known = Path(name).exists()
    try:
        if Path(name).suffix.lower() not in _WEIGHTS:  # ultralytics takes anything for a server's address
            raise ValueError(f"a name that ends in {Path(name).suffix or 'nothing'}")
        return yolo(name, task="detect")
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        if not known and Path(name).suffix == ".pt":
            raise FetchError(f"Expected weights in the file {name!r}, or a model of that name that can be downloaded, "
                             f"got neither ('{reason}'); check the path, or download them where there is a network"
                             ) from None
        raise InputError(f"Expected YOLO weights (.pt, .onnx) or a model (.yaml) at {name!r}, got '{reason}'; check "
                         "the path") from None


def track(
    path: str | os.PathLike[str], model: Any, *, confidence: float = 0.25, tracker: str = "bytetrack.yaml",
    kinds: Sequence[str] = (), size: int = 640, max_frames: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Tracks:
    """Follows what ``model`` detects through a clip, one frame in memory at a time.

    ``kinds`` keeps only classes of these names; ``size`` is the longer side in pixels that frames are looked at with;
    ``progress`` is called with the seconds done.

    Errors: those of ``genwm.video.read_rgb``; InputError (a class that the model does not know, a model that detects
    nothing).
    """
    name = os.fspath(path)
    names: dict[int, str] = dict(model.names)
    classes = _classes(names, kinds)
    times: list[float] = []
    boxes: dict[int, list[Box]] = {}
    found_as: dict[int, list[str]] = {}
    with read_rgb(path, max_frames=max_frames) as reader:
        for index, (time_s, rgb) in enumerate(reader):
            times.append(time_s)
            # ultralytics takes arrays as BGR; 'persist' carries the tracker from one call to the next.
            results = model.track(np.ascontiguousarray(rgb[..., ::-1]), persist=index > 0, stream=True, conf=confidence,
                                  tracker=tracker, classes=classes, imgsz=size, verbose=False)
            for result in results:
                for box in result.boxes if result.boxes.is_track else ():
                    number = int(box.id)
                    x0, y0, x1, y1 = (float(value) for value in box.xyxy[0])
                    boxes.setdefault(number, []).append(Box(index, x0, y0, x1, y1, float(box.conf)))
                    found_as.setdefault(number, []).append(names[int(box.cls)])
            if progress is not None:
                progress(time_s)
        info, warnings = reader.info, tuple(reader.warnings)
    assert info is not None  # read_rgb raises where there is no frame
    tracks = tuple(
        Track(number, max(set(found_as[number]), key=found_as[number].count), tuple(found))
        for number, found in sorted(boxes.items())
    )
    weights = getattr(model, "ckpt_path", None) or getattr(model, "model_name", None) or "unknown"
    return Tracks(name, info, Path(str(weights)).name, tuple(times), tracks, warnings)


def _classes(names: dict[int, str], kinds: Sequence[str]) -> list[int] | None:
    if unknown := sorted(set(kinds) - set(names.values())):
        raise InputError(f"Expected classes that the model knows ({', '.join(list(names.values())[:12])}, ...), got "
                         f"{', '.join(unknown)}; choose among those")
    return [number for number, name in names.items() if name in kinds] or None


def score_people(tracks: Tracks, model: Any = None, *, kind: str = PERSON) -> Tracks:
    """The same tracks with the classifier's score of each ``kind``: a face swap touches one person, not the frame.

    What is looked at is the picture as it was coded, never resized: pieces of about two seconds, each cut out with one
    window that holds the person all the time. ``model`` is the classifier's (default: the shipped one).

    Errors: InputError (no classifier is installed).
    """
    from detectors.synthetic import classify, load_model
    from detectors.synthetic.fusion import probability

    model = load_model() if model is None else model
    fps = tracks.info.fps or 25.0
    pieces = [(each.id, piece) for each in tracks.tracks if each.kind == kind for piece in _pieces(each, fps)]
    logits: dict[int, list[tuple[float, float]]] = {}
    for number, collector, frames in _collected(tracks, pieces, fps):
        reading = classify(collector, model=model, stability=False)
        if reading.segments:
            logits.setdefault(number, []).append((reading.logit, frames / fps))
    scored = []
    for each in tracks.tracks:
        found = logits.get(each.id)
        score = None if not found else TrackScore(
            probability(float(np.mean([logit for logit, _ in found]))), sum(seconds for _, seconds in found), model.id)
        scored.append(replace(each, score=score))
    return replace(tracks, tracks=tuple(scored))


def _pieces(track: Track, fps: float) -> list[tuple[Box, ...]]:
    """Up to `_PIECES` runs of boxes, spread over the track."""
    length = max(1, round(_PIECE_S * fps))
    runs = [track.boxes[start : start + length] for start in range(0, len(track.boxes), length)]
    runs = [run for run in runs if len(run) >= length // 2] or runs[:1]
    chosen = sorted(set(np.linspace(0, len(runs) - 1, min(_PIECES, len(runs))).round().astype(int).tolist()))
    return [run for place, run in enumerate(runs) if place in chosen]


def _collected(
    tracks: Tracks, pieces: Sequence[tuple[int, tuple[Box, ...]]], fps: float
) -> Iterator[tuple[int, Collector, int]]:
    """What the classifier keeps of each piece, as soon as it is complete: the track's number, and how many frames the
    piece has. At most `_HELD` pieces are in memory; of a crowd the clip is read again for the others. Pieces whose
    window is too small are left out."""
    found = ((number, piece, _window(piece, tracks.info)) for number, piece in pieces)
    waiting = sorted(((number, piece, window) for number, piece, window in found if window is not None),
                     key=lambda one: one[1][0].index)
    while waiting:
        coming, waiting = deque(waiting), []
        held: list[_Held] = []
        last = max(piece[-1].index for _, piece, _ in coming)
        with read_rgb(tracks.path, max_frames=last + 1) as reader:
            for index, (_, rgb) in enumerate(reader):
                while coming and coming[0][1][0].index <= index:
                    if len(held) < _HELD:
                        held.append(_Held(*coming.popleft(), fps))
                    else:
                        waiting.append(coming.popleft())
                for one in held:
                    one.add(index, rgb)
                for one in [one for one in held if one.last <= index]:
                    held.remove(one)
                    yield one.number, one.collector, one.count
                if not held and not coming:
                    break
        yield from ((one.number, one.collector, one.count) for one in held)  # the clip has become shorter


class _Held:
    """A piece that is being read."""

    def __init__(
        self, number: int, piece: Sequence[Box], window: tuple[int, int, int, int], fps: float
    ) -> None:
        from detectors.synthetic.canonical import Collector
        from detectors.synthetic.inference import SEGMENTS

        length_s = len(piece) / fps
        self.number, self.last, self.count = number, piece[-1].index, 0
        self.collector = Collector(fps, length_s, count=SEGMENTS)
        self._indices = {box.index for box in piece}
        self._window, self._fps = window, fps

    def add(self, index: int, rgb: Frame) -> None:
        if index in self._indices:
            x0, y0, x1, y1 = self._window
            self.collector.add_rgb(self.count / self._fps, rgb[y0:y1, x0:x1])
            self.count += 1


def _window(piece: Sequence[Box], info: VideoInfo) -> tuple[int, int, int, int] | None:
    """A window that holds all boxes of a piece, at even pixels, at least `_LEAST_SIDE` a side where the frame is."""
    wide, high = (info.coded_width, info.coded_height)[:: -1 if info.rotation % 180 else 1]
    x0, x1 = _span(min(box.x0 for box in piece), max(box.x1 for box in piece), wide)
    y0, y1 = _span(min(box.y0 for box in piece), max(box.y1 for box in piece), high)
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= _LEAST_SIDE else None


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    short = max(0.0, _LEAST_SIDE + 2 - (high - low)) / 2
    start = int(max(0.0, min(low - short, limit - _LEAST_SIDE - 2))) // 2 * 2
    stop = int(min(float(limit), max(high + short, start + _LEAST_SIDE))) // 2 * 2
    return start, stop


def write_annotated(tracks: Tracks, target: str | os.PathLike[str]) -> None:
    """Writes the clip with its boxes drawn and a line that says so in the picture and in the metadata:
    it is derived, and no evidence by itself. Sound is left out.

    Errors: those of ``genwm.video.write_video``.
    """
    by_frame: dict[int, list[tuple[Track, Box]]] = {}
    for each in tracks.tracks:
        for box in each.boxes:
            by_frame.setdefault(box.index, []).append((each, box))

    def frames() -> Iterator[Frame]:
        with read_rgb(tracks.path, max_frames=len(tracks.times_s)) as reader:
            for index, (_, rgb) in enumerate(reader):
                yield _drawn(rgb, by_frame.get(index, ()))

    note = f"Derived by genwm analyze from {Path(tracks.path).name}: boxes drawn over the picture."
    fps = Fraction(tracks.info.fps or 25).limit_denominator(1001)
    write_video(target, frames(), fps=fps, times_s=tracks.times_s, crf=20, metadata={"comment": note})


def _drawn(rgb: Frame, boxes: Sequence[tuple[Track, Box]]) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(rgb)
    draw = ImageDraw.Draw(picture)
    line = max(2, min(rgb.shape[:2]) // 240)
    size = max(11, min(rgb.shape[:2]) // 32)
    font = ImageFont.load_default(size=size)

    def label(x: float, y: float, words: str, ground: tuple[int, int, int]) -> None:
        left, top, right, bottom = draw.textbbox((x, y), words, font=font)
        draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=ground)
        ink = (0, 0, 0) if sum(ground) > 380 else (255, 255, 255)
        draw.text((x, y), words, fill=ink, font=font)

    for each, box in boxes:
        colour = _PALETTE[each.id % len(_PALETTE)]
        draw.rectangle((box.x0, box.y0, box.x1, box.y1), outline=colour, width=line)
        words = f"{each.kind} {each.id}"
        if each.score is not None:
            words += f"  synthetic {each.score.probability:.2f}"
        with suppress(ValueError):  # a box at the very edge
            label(box.x0 + line, max(2.0, box.y0 - size - 4), words, colour)
    label(6, rgb.shape[0] - size - 8, "derived: boxes by genwm analyze", (0, 0, 0))
    return np.asarray(picture)


def _sha256(path: str) -> str | None:
    with suppress(OSError):
        return sha256_of(path)
    return None
