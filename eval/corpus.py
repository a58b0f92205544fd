"""The clips that are measured, in an order in which every beginning is a fair sample of the whole."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from genwm.errors import GenwmError, InputError, NotFoundError
from genwm.hashing import sha256_of
from genwm.scenes import scene
from genwm.video import probe, write_video

MANIFEST = "manifest.csv"
SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".gif"})

# Short sides by which results are told apart, largest first: the least number of lines, and the name.
SIZE_CLASSES: tuple[tuple[int, str], ...] = ((720, "720+"), (480, "480-719"), (240, "240-479"), (0, "under 240"))


@dataclass(frozen=True, kw_only=True)
class Video:
    """One clip. ``id`` is its path below the folder with forward slashes; ``sha256`` is empty where no manifest gives
    it; ``width``, ``height`` and ``frames`` are 0 where unknown (an unreadable file is listed all the same)."""

    path: Path
    id: str
    label: str = ""
    group: str = ""
    family: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    sha256: str = ""

    @property
    def short_side(self) -> int:
        return min(self.width, self.height)

    @cached_property
    def content(self) -> str:
        """The first 16 hex digits of the file's SHA-256 as it is now, whatever a manifest says; '' where it cannot be
        read: whoever measures it says why."""
        try:
            return sha256_of(self.path)[:16]
        except OSError:
            return ""


def size_class(short_side: int) -> str:
    """The name of the class of SIZE_CLASSES that a short side of that many lines falls into."""
    return next(name for least, name in SIZE_CLASSES if short_side >= least)


def list_videos(
    folder: str | os.PathLike[str],
    *,
    min_short_side: int = 0,
    max_short_side: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Video]:
    """The clips of a folder, interleaved: those its ``manifest.csv`` names (columns path, label, group, family, width,
    height, frames, sha256; only the first is needed), else every video file below it, links that lead nowhere included:
    whoever reads them says so.

    Only clips with ``min_short_side <= short side <= max_short_side`` are listed, and those whose size is unknown.
    Without a manifest every file is opened: ``progress`` is called with the files done, the files to do and the name of
    the last. Errors: NotFoundError (no folder), InputError (no clips, a manifest without paths).
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotFoundError(f"Expected a folder of videos, got {root}; give the name of a folder")
    manifest = root / MANIFEST
    videos = _from_manifest(root, manifest) if manifest.is_file() else _from_files(root, progress)
    largest = max_short_side or float("inf")
    wanted = [v for v in videos if v.short_side == 0 or min_short_side <= v.short_side <= largest]
    if not wanted:
        raise InputError(f"Expected video files of the asked size in {root}, got none; choose another folder or size")
    return interleaved(wanted, seed=seed)


def default_videos(say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the project's public clips (``genwm data fetch``), brought now if they are not there; where none
    can be had, a folder of six scenes made on the spot. ``say`` gets a sentence on what is done."""
    from data.fetch import default_folder, fetch_clips, read_manifest

    folder = default_folder()
    clips = read_manifest()
    if not all((folder / clip.filename).is_file() for clip in clips):
        say(f"bringing public clips to {folder} (genwm data fetch)")
    outcomes = list(fetch_clips(clips, folder))
    there = [outcome for outcome in outcomes if outcome.status in ("present", "fetched")]
    for outcome in outcomes:
        if outcome.error:
            say(f"{outcome.clip.name}: {outcome.error}")
    if there:
        return folder
    say("no public clip could be had: scenes made on the spot take their place")
    return made_scenes(folder.with_name("scenes"))


def made_scenes(folder: Path) -> Path:
    """Writes six moving scenes of genwm.scenes (three sizes, two speeds, 72 frames) to a folder and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (width, height) in enumerate([(854, 480), (1024, 576), (480, 854)] * 2):
        path = folder / f"scene-{number}-{width}x{height}.mp4"
        if not path.is_file():
            pictures = scene(width, height, 72, seed=number, speed=1.0 if number < 3 else 0.4)
            write_video(path, pictures, fps=24, crf=14, preset="veryfast", threads=1)
    return folder


def interleaved(videos: Iterable[Video], *, seed: int = 0) -> list[Video]:
    """The clips in a seeded order in which any beginning has each size class, label and family in its proportion.

    Within such a stratum of n clips the order is random and clip i stands at (i + u) / n, u random for the stratum."""
    strata: defaultdict[tuple[str, ...], list[Video]] = defaultdict(list)
    for video in videos:
        strata[(size_class(video.short_side), video.label, video.family)].append(video)
    placed: list[tuple[float, str, Video]] = []
    for stratum, members in strata.items():
        members.sort(key=lambda video: _draw(seed, "clip", video.id))
        shift = _draw(seed, "stratum", *stratum)
        placed += [((index + shift) / len(members), video.id, video) for index, video in enumerate(members)]
    return [video for _, _, video in sorted(placed, key=lambda item: item[:2])]


def _draw(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _from_manifest(root: Path, manifest: Path) -> list[Video]:
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"Expected a CSV file in UTF-8 at {manifest}, got another; save it as that") from None
    if not rows or "path" not in rows[0]:
        raise InputError(f"Expected a column 'path' in {manifest}, got none; see eval/corpus.py for the columns")
    return [
        Video(
            path=root / row["path"],
            id=row["path"],
            label=row.get("label") or "",
            group=row.get("group") or "",
            family=row.get("family") or "",
            width=_count(row.get("width")),
            height=_count(row.get("height")),
            frames=_count(row.get("frames")),
            sha256=row.get("sha256") or "",
        )
        for row in rows
    ]


def _count(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _from_files(root: Path, progress: Callable[[int, int, str], None] | None) -> list[Video]:
    videos = []
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and _is_clip(path))
    for count, path in enumerate(paths, start=1):
        name = path.relative_to(root)
        group = name.parent.as_posix() if len(name.parts) > 1 else ""
        width = height = frames = 0
        try:
            info = probe(path)
            width, height, frames = info.width, info.height, info.frame_count or 0
        except GenwmError:
            pass  # whoever reads it will say what is wrong
        videos.append(Video(path=path, id=name.as_posix(), group=group, width=width, height=height, frames=frames))
        if progress:
            progress(count, len(paths), name.as_posix())
    return videos


def _is_clip(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())
