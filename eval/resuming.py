"""What a table must agree with before a run continues it.

Rows of two seeds, or of two clips of one name, would be summed up as one measurement, so they are refused. What an
older table does not say, because it lacks the column, agrees with anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from eval.corpus import Video
from genwm.errors import OutputError


def check_settings(out: Path, asked: Mapping[str, object], rows: Iterable[Mapping[str, object]]) -> None:
    """Errors: OutputError where a row was measured with another setting than the one ``asked`` for by that name; an
    empty cell or None is unknown."""
    for row in rows:
        for name, value in asked.items():
            there = row[name]
            if there not in ("", None) and str(there) != str(value):
                raise OutputError(
                    f"Expected rows with {name.replace('_', ' ')} {value} in {out}, got {there}; "
                    "choose another name for the table, or the same setting"
                )


def check_clips(
    out: Path,
    videos: Iterable[Video],
    known: Iterable[tuple[str, str]],
    *,
    retried: Collection[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> None:
    """Errors: OutputError where one of the videos is not the clip that the table has under its name. ``known``: the
    clips of the table and the `Video.content` that they had, '' where unknown. ``retried``: clips that ended in nothing
    but errors, which --retry-errors measures again. ``progress``: called with the clips compared, the clips to
    compare, and the name; each is read as a whole."""
    contents = dict[str, set[str]]()
    for clip, content in known:
        if content:
            contents.setdefault(clip, set()).add(content)
    there = [video for video in videos if video.id in contents]
    for count, video in enumerate(there, start=1):
        others = contents[video.id]
        if video.content and others != {video.content}:
            way = "give --retry-errors to measure it again, or choose" if video.id in retried else "choose"
            raise OutputError(
                f"Expected the clip {video.id} that {out} was measured on (sha256 {min(others)}...), got another of "
                f"that name (sha256 {video.content}...); {way} another name for the table"
            )
        if progress:
            progress(count, len(there), video.id)


def mended(videos: Iterable[Video], failed: Iterable[tuple[str, str]]) -> set[str]:
    """Clips that ended in an error and are other files by now: of these there is nothing that what comes could be mixed
    with. ``failed``: clips and the `Video.content` that they had, '' where unknown."""
    listed = {video.id: video for video in videos}
    return {clip for clip, content in failed
            if content and clip in listed and listed[clip].content not in ("", content)}  # fmt: skip
