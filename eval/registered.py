"""How often the registry is right: a registered clip after edits, and other clips that carry its payload.

    python -m eval.registered --videos DIR [--limit 60] [--out docs/results/registered.csv]

Each clip is marked and registered. Its edited copies are read with the key alone and looked up as a scan does:
'match' is right, 'unknown' is silence, 'transplant' accuses wrongly. Then the registered clip is compared with frames
of other clips, from other sources, as if the mark had been copied onto them: 'transplant' is right, 'match' is wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from itertools import islice
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from detectors.scan.single import REGISTRY_FRAMES, looked_up
from detectors.watermark import read_watermark
from eval.attacks import attack_named
from eval.attacks.color import rgb_of
from eval.attacks.model import Clip
from eval.commands.telling import check_table, listing, reporter, told
from eval.corpus import Video, list_videos
from eval.intervals import wilson
from eval.robustness.runner import rng_of, secrets_of, upright
from eval.tables import append, failure, prepare, put, read, versions
from genwm.errors import GenwmError, OutputError
from genwm.marking import Mark, Marker
from genwm.registry import Entry, Registry, fingerprint
from genwm.video import Planes, read_planes

OUT = "docs/results/registered.csv"
EDITS = (
    "h264.crf30", "h264.crf40", "combined.crf23", "crop.55+h264.crf30", "crop.30+h264.crf23", "rotate.5+h264.crf28",
    "hflip+h264.crf28", "squeeze.0.75+h264.crf28", "letterbox.0.2+h264.crf28", "resize.0.5+h264.crf30",
    "zoom.1.12+h264.crf28", "caption+h264.crf28", "grey+h264.crf28", "brightness.0.5+h264.crf28",
    "trim.0.5s+h264.crf30", "vertical.crop+h264.crf28", "border.0.08+h264.crf28", "pan.1.3+h264.crf28",
    "perspective.0.1+h264.crf28", "chain.repost",
)  # fmt: skip
OTHER = "another clip"
#: Frames of a clip, lines of its pictures, and other clips that each is compared with.
FRAMES, LINES, OTHERS = 48, 480, 10

RGB = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison; the columns of the CSV file. ``edit``: an attack's id, or `OTHER`, then ``other`` is that clip;
    ``registry``: what was said, empty where no payload was read; ``scale``, ``rotation``: of the mark as read."""

    clip: str
    edit: str
    other: str = ""
    registry: str = ""
    similarity: float | None = None
    scale: float | None = None
    rotation: float | None = None
    error: str = ""
    versions: str = ""
    command: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


@click.command()
@click.option("--videos", required=True, type=click.Path(path_type=Path), help="Folder of clips.")
@click.option("--limit", default=60, show_default=True, type=click.IntRange(2), help="Clips, a fair sample of all.")
@click.option("--out", default=OUT, show_default=True, type=click.Path(path_type=Path), help="CSV file; continued.")
@told
def registered(videos: Path, limit: int, out: Path) -> None:
    """Measure how often the registry tells a clip from others that carry its mark."""
    check_table(out, ".md")
    rows = _rows(out)
    done = {row["clip"] for row in rows}
    clips = list_videos(videos, min_short_side=240, progress=listing())[:limit]
    prepare(out, COLUMNS)
    tell = reporter()
    for number, video in enumerate(clips):
        if video.id not in done:
            # A clip's rows are written together, so that a run that is killed measures it anew.
            made = measure(video, [other for other in clips if other.group != video.group], len(clips))
            append(out, ([asdict(row)[name] for name in COLUMNS] for row in made))
        tell(number + 1, len(clips), video.id)
    put(out.with_suffix(".md"), summary(_rows(out)))


def measure(video: Video, others: Sequence[Video], limit: int) -> list[Row]:
    """Rows of one clip: after every edit, and against ``OTHERS`` of the ``others``."""
    about = {"versions": versions(), "command": f"python -m eval.registered --videos DIR --limit {limit}"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = _of_one(video, others, Path(folder))
    except Exception as error:
        made = [Row(clip=video.id, edit="", error=": ".join(failure(error, limit=200)))]
    return [Row(**{**asdict(row), **about}) for row in made]


def _of_one(video: Video, others: Sequence[Video], folder: Path) -> list[Row]:
    key, _, payload, _ = secrets_of(video, 0)
    frames = _frames(video)
    height, width = frames[0].y.shape
    marker = Marker(Mark(key, payload), width, height)
    clip = Clip([marker.planes(frame) for frame in frames], Fraction(25))
    registry = Registry(folder / "registry.sqlite3")
    registry.add(Entry(payload=payload, key_id=key.id), fingerprint([rgb_of(frame) for frame in clip.frames]))
    rows = []
    for name in EDITS:
        attack = attack_named(name)
        path = folder / "copy.mkv"
        path.write_bytes(attack.apply(clip, rng_of(video, attack, 0)).getbuffer())
        reading = read_watermark(path, keys=[key], threads=1)
        row = Row(clip=video.id, edit=name)
        if reading.payload is not None and reading.geometry is not None:
            found = looked_up(path, reading, registry.path, key.id)
            row = Row(clip=video.id, edit=name, registry=found.status, similarity=found.similarity,
                      scale=reading.geometry.scale, rotation=reading.geometry.rotation)  # fmt: skip
        rows.append(row)
    order = rng_of(video, attack_named("none"), 1).permutation(len(others))
    for other, pictures in islice(_readable(others[int(place)] for place in order), OTHERS):
        found = registry.lookup(payload, pictures, key_id=key.id)
        rows.append(Row(clip=video.id, edit=OTHER, other=other.id, registry=found.status, similarity=found.similarity))
    return rows


def _readable(videos: Iterable[Video]) -> Iterator[tuple[Video, list[RGB]]]:
    """Clips with their pictures, without those that cannot be read: their own row says why."""
    for video in videos:
        with suppress(GenwmError):
            yield video, [rgb_of(frame) for frame in _frames(video)]


def _frames(video: Video) -> list[Planes]:
    """The clip's beginning."""
    with read_planes(video.path, max_frames=FRAMES, threads=1) as reader:
        return list(upright(reader, lines=LINES))


def _rows(out: Path) -> list[dict[str, str]]:
    refusal = OutputError(f"Expected a table of eval.registered at {out}, got another file; choose another name")
    return list(read(out, COLUMNS, refusal=refusal) or ())


def summary(rows: Iterable[dict[str, str]]) -> str:
    """The table as Markdown: shares with 95 % intervals (Wilson), and where similarities lie."""
    rows = list(rows)
    good = [row for row in rows if row["edit"]]
    lines = [
        "# The registry: registered clips after edits, and other clips with their mark", "",
        f"Written by `python -m eval.registered`. {len({row['clip'] for row in good})} clips, first {FRAMES} frames, "
        f"at most {LINES} lines; {REGISTRY_FRAMES} frames of each copy are compared. Only copies whose payload was "
        "read are looked up. Of a registered clip 'match' is right and 'transplant' accuses wrongly; of another clip "
        "it is the other way round.", "",
        f"Clips that could not be measured: {sum(bool(row['error']) for row in rows)}.", "",
        "| | looked up | match | unknown | transplant | similarity: least, median, most |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in (*EDITS, OTHER):
        those = [row for row in good if row["edit"] == name and row["registry"]]
        if not those:
            lines.append(f"| {name} | 0 | | | | |")
            continue
        shares = [_share(sum(row["registry"] == said for row in those), len(those))
                  for said in ("match", "unknown", "transplant")]  # fmt: skip
        values = sorted(float(row["similarity"]) for row in those)
        spread = ", ".join(f"{values[place]:.2f}" for place in (0, len(values) // 2, -1))
        lines.append(f"| {name} | {len(those)} | {' | '.join(shares)} | {spread} |")
    return "\n".join(lines) + "\n"


def _share(hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{hits} ({100 * low:.0f} to {100 * high:.0f} %)"


if __name__ == "__main__":
    registered()
