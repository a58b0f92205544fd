"""``genwm embed``: marks an existing video or still image, and reads the mark back before the output appears."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.errors import InputError, NotVerifiedError, PayloadError
from genwm.keys import Keyring
from genwm.text import chance, counted, escaped, escaped_name

if TYPE_CHECKING:
    from genwm.marking import Mark, Marker
    from genwm.readback import Readback
    from genwm.registry import Registry
    from genwm.video import VideoInfo, YUVFrame

log = logging.getLogger("genwm.embed")

SCHEMA = "genwm.embed/1"
_PAYLOAD = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,16})")
_SMALL_LINES = 256
# What else lets more of the mark through, by codec of the output.
_FINER = {"jpeg": " or --quality", "webp": " or --quality"} | dict.fromkeys(
    ("h264", "hevc", "vp9", "av1"), " or lower --crf"
)


@click.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--key", "key_name", metavar="NAME", help="Key to mark with [default: the newest that is not retired].")
@click.option("--payload", metavar="HEX", help="64 bits as at most 16 hex digits [default: random].")
@click.option("--strength", type=click.Choice(["invisible", "balanced", "strong"]), default="balanced",
              show_default=True, help="The stronger, the more it survives and the more can be seen.")
@click.option("--profile", type=click.Choice(["colour", "luma"]), default="colour", show_default=True,
              help="Planes that carry the mark; luma alone is for comparison with papers.")
@click.option("--codec", type=click.Choice(["h264", "hevc", "vp9", "av1", "prores", "ffv1"]),
              help="Codec of a video [default: the input's family].")
@click.option("--crf", type=Number(0, 63), help="Rate factor of a video: 0 to 51 of h264 and hevc, to 63 of "
              "vp9 and av1 [default: visually lossless].")
@click.option("--quality", type=click.IntRange(1, 100), help="Quality of a JPEG or WebP [default: 95].")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--no-verify", is_flag=True, help="Do not read the mark back from the output.")
@click.option("--register", is_flag=True, help="Enter OUT into the registry, as generate does: a scan can then tell "
              "when its mark was copied to another clip.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON record of what was written.")
def embed(
    source: str,
    target: str,
    key_name: str | None,
    payload: str | None,
    strength: Any,
    profile: Any,
    codec: Any,
    crf: float | None,
    quality: int | None,
    overwrite: bool,
    no_verify: bool,
    register: bool,
    as_json: bool,
) -> None:
    """Mark the video or still image IN and write it to OUT.

    The suffix of OUT chooses the container (.mp4 .m4v .mov .mkv .webm .avi .ts) or image format (.png .jpg .webp).
    Sound, times, rotation, colour tags and metadata are kept; a warning names what OUT cannot hold. OUT appears only
    when it is complete and the mark was read back from it with the key and payload.
    """
    ring = Keyring.load()
    key = ring.get(key_name) if key_name is not None else ring.default()
    number = secrets.randbits(64) if payload is None else parse_payload(payload)
    from genwm.marking import Mark

    mark = Mark(key, number, strength, profile)
    registry = None
    if register:
        from genwm.registry import Registry

        registry = Registry.writable()
    warnings: list[str] = []
    with _progress(as_json) as progress:
        info, frames, found = mark_file(
            source, target, mark, codec=codec, crf=crf, quality=quality, overwrite=overwrite, verify=not no_verify,
            registry=registry, progress=progress, warn=lambda text: warnings.append(escaped(text)),
        )  # fmt: skip
    # Pieces of damage may say the same again.
    warnings = list(dict.fromkeys(warnings))
    log10_p = None if found is None else round(found.log10_p, 2)
    if as_json:
        click.echo(json.dumps({
            "schema": SCHEMA, "path": escaped_name(info.path), "key": key.name, "key_id": key.id,
            "payload": f"{number:016x}", "strength": strength, "profile": profile, "container": info.container,
            "codec": info.codec, "width": info.width, "height": info.height, "frames": frames,
            "verified": found is not None, "log10_p": log10_p, "registered": register, "warnings": warnings,
        }))  # fmt: skip
        return
    chosen = " (chosen at random)" if payload is None else ""
    for text in warnings:
        say(f"Warning: {text}")
    say(f"marked {counted(frames, 'frame')} of {source} with key {key.name}, "
        f"payload {number:016x}{chosen}, strength {strength}")
    checked = "not read back" if log10_p is None else f"read back: chance {chance(log10_p)}"
    say(f"wrote {info.path} ({info.codec}, {info.width}x{info.height}); {checked}{', registered' if register else ''}")


def parse_payload(text: str) -> int:
    """A payload from 1 to 16 hex digits, with or without ``0x``; PayloadError for anything else."""
    match = _PAYLOAD.fullmatch(text.strip())
    if not match:
        raise PayloadError(f"Expected a payload of 1 to 16 hex digits, got {text!r}; "
                           "write one such as 0123456789abcdef.")
    return int(match[1], 16)


def mark_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    mark: Mark,
    *,
    codec: Any = None,
    crf: float | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    verify: bool = True,
    registry: Registry | None = None,
    progress: Callable[[float], None] | None = None,
    warn: Callable[[str], None] = log.warning,
) -> tuple[VideoInfo, int, Readback | None]:
    """Marks a file; returns the output's description, the frames marked, and what was read back (None if not asked).

    The output is entered into ``registry``, if one is given, before it appears. ``progress`` is called with the
    fraction done, ``warn`` with a sentence for each thing that is lost. Errors: those of
    ``genwm.video.edit_video``, ``edit_image`` and the registry; NotVerifiedError where the mark cannot be read back.
    Nothing is left under ``target`` unless all went well.
    """
    from genwm.readback import read_back
    from genwm.video import edit_image, edit_video, probe

    still = probe(source).is_still
    if still and (codec is not None or crf is not None):
        raise InputError(f"Expected no --codec or --crf for the still {os.fspath(source)}, got one; use --quality.")
    if not still and quality is not None:
        raise InputError(f"Expected no --quality for the video {os.fspath(source)}, got {quality}; use --crf.")
    edit = _Edit(mark)
    found: Readback | None = None

    def approve(info: VideoInfo) -> None:
        nonlocal found
        if verify:
            found = read_back(info.path, mark.key)
            _check(found, mark, info)
        if registry is not None:
            from genwm.registry import Entry

            entry = Entry(payload=mark.payload, key_id=mark.key.id, file=escaped(os.path.basename(os.fspath(target))))
            registry.add_clip(entry, info.path)

    if still:
        info = edit_image(source, target, edit, quality=quality, overwrite=overwrite, warn=warn, approve=approve)
    else:
        info = edit_video(source, target, edit, codec=codec, crf=crf, overwrite=overwrite, warn=warn, approve=approve,
                          progress=progress)  # fmt: skip
    return info, edit.frames, found


class _Edit:
    """Marks frame after frame. The first one sets up the marker, for the encoder may have cropped odd sizes."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.frames = 0
        self._marker: Marker | None = None

    def __call__(self, frame: YUVFrame) -> YUVFrame:
        if self._marker is None:
            from genwm.marking import Marker

            height, width = frame.y.shape
            size = width * frame.pixel_aspect, float(height)
            self._marker = Marker(self.mark, *(size[::-1] if frame.orientation.transpose else size))
        self.frames += 1
        return self._marker.yuv(frame)


def _check(found: Readback, mark: Mark, info: VideoInfo) -> None:
    if found.payload == mark.payload:
        return
    short = min(info.width, info.height)
    why = (f"at {counted(short, 'line')} it is too small to hold one reliably" if short < _SMALL_LINES
           else "it is too short, too flat or too strongly compressed")
    remedy = "use a larger picture" if short < _SMALL_LINES else f"raise --strength{_FINER.get(info.codec, '')}"
    if mark.profile == "luma":
        remedy += ", use --profile colour"
    raise NotVerifiedError(f"Expected payload {mark.payload:016x} in the output, got "
                           f"{'none' if found.payload is None else format(found.payload, '016x')}: {why}; {remedy}, "
                           "or write it all the same with --no-verify.")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[float], None] | None]:
    """A bar on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("marking"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
