"""``genwm generate``: a marked video from a prompt, written while it is decoded, and read back before it appears."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genwm import __version__
from genwm.commands.embed import parse_payload
from genwm.commands.numbers import Number
from genwm.commands.telling import say
from genwm.errors import GenwmError, InputError, OutputExistsError, SameFileError, UnsupportedFormatError
from genwm.hashing import sha256_of
from genwm.keys import Keyring
from genwm.output import atomic_output, told_as
from genwm.provenance import DIGITAL_SOURCE_TYPE, METADATA
from genwm.sizes import check_shown
from genwm.text import chance, counted, escaped
from genwm.tiny import EMBEDDED

if TYPE_CHECKING:
    from genwm.generation import Clip, Request
    from genwm.marking import Mark
    from genwm.pipelines import Loaded
    from genwm.registry import Registry

SCHEMA = "genwm.generation/1"
REPORT_SCHEMA = "genwm.steadiness/2"
#: What the shipped pipeline was trained for, and what its decoder needs, where the user does not say.
EMBEDDED_SETTINGS: dict[str, Any] = {"width": 512, "height": 320, "frames": 25, "fps": 25.0, "steps": 16,
                                     "steady": True}  # fmt: skip

_LIBRARIES = ("torch", "diffusers", "transformers", "av", "numpy")
_REPORT_FRAMES = 121
_REPORT_LINES = 320
_LEAST_FPS, _MOST_FPS = 1, 240


class Size(click.ParamType):  # type: ignore[type-arg]  # older versions of click are not generic
    """``WIDTHxHEIGHT`` as two integers."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", str(value))
        if found is None:
            self.fail(f"Expected width and height such as 512x320, got {value!r}", param, ctx)
        return int(found[1]), int(found[2])


@click.command()
@click.argument("prompt", default="")
@click.option("-o", "--out", required=True, metavar="OUT", help="Video to write; its suffix chooses the container.")
@click.option("--model", metavar="ID", help="Hub id or folder of a diffusers video pipeline [default: the embedded].")
@click.option("--revision", metavar="REV", help="Branch, tag or commit of the model on the hub.")
@click.option("--local-only", is_flag=True, help="Use no network: folders and the hub's cache only.")
@click.option("--image", metavar="FILE", help="Still image to start from.")
@click.option("--video", metavar="FILE", help="Video to start from.")
@click.option("--key", "key_name", metavar="NAME", help="Key to mark with [default: the newest that is not retired].")
@click.option("--payload", metavar="HEX", help="64 bits as at most 16 hex digits [default: random].")
@click.option("--strength", type=click.Choice(["invisible", "balanced", "strong"]), default="balanced",
              show_default=True, help="The stronger, the more it survives and the more can be seen.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="The same seed gives the same clip [default: random].")
@click.option("--size", type=Size(), help="Width and height in pixels, such as 512x320 [default: the pipeline's].")
@click.option("--width", type=click.IntRange(1), help="Pixels [default: the pipeline's].")
@click.option("--height", type=click.IntRange(1), help="Pixels [default: the pipeline's].")
@click.option("--frames", type=click.IntRange(1), help="Number of frames [default: the pipeline's].")
@click.option("--fps", type=Number(_LEAST_FPS, _MOST_FPS),
              help="Frames per second [default: those of --video, else the pipeline's, else 16].")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps [default: the pipeline's].")
@click.option("--guidance", type=Number(0), help="Guidance scale [default: the pipeline's].")
@click.option("--steady/--no-steady", default=None, help="Average frames in time where that takes flicker away, before "
              "they are marked [default: of the embedded pipeline only].")
@click.option("--negative-prompt", metavar="TEXT", help="What the clip should not show.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="cpu, cuda, cuda:1, mps.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "float16", "bfloat16"]), default="auto",
              show_default=True, help="Precision of the weights.")
@click.option("--quantize", type=click.Choice(["int8", "int4"]), help="Load the denoiser's weights in 8 or 4 bits.")
@click.option("--saver", "savers", multiple=True, help="Trade speed for memory; may be repeated.", type=click.Choice(
    ["tiling", "slicing", "attention-slicing", "offload", "group-offload", "sequential-offload"]))
@click.option("--codec", type=click.Choice(["h264", "hevc", "vp9", "av1", "prores", "ffv1"]),
              help="Codec [default: vp9 for .webm, else h264].")
@click.option("--crf", type=Number(0, 63), help="Rate factor: 0 to 51 of h264 and hevc, to 63 of vp9 "
              "and av1 [default: visually lossless].")
@click.option("--report", is_flag=True,
              help="Write OUT.report.json: flicker, warping error, unsteadiness of motion, with their units.")
@click.option("--sign", nargs=2, metavar="CERT KEY",
              help="Put a signed C2PA manifest into OUT: PEM files of the certificates and of their private key.")
@click.option("--no-registry", is_flag=True, help="Do not enter the clip into the registry.")
@click.option("--keep-prompt", is_flag=True, help="Write the prompt into OUT.json, not only its SHA-256.")
@click.option("--overwrite", "--force", "force", is_flag=True,
              help="Replace OUT, OUT.json and the report if they exist.")
@click.option("--json", "as_json", is_flag=True, help="Print the record of OUT.json.")
def generate(
    prompt: str,
    out: str,
    model: str | None,
    revision: str | None,
    local_only: bool,
    image: str | None,
    video: str | None,
    key_name: str | None,
    payload: str | None,
    strength: Any,
    seed: int | None,
    size: tuple[int, int] | None,
    width: int | None,
    height: int | None,
    frames: int | None,
    fps: float | None,
    steps: int | None,
    guidance: float | None,
    steady: bool | None,
    negative_prompt: str | None,
    device: str,
    dtype: str,
    quantize: Any,
    savers: tuple[Any, ...],
    codec: Any,
    crf: float | None,
    report: bool,
    sign: tuple[str, str] | None,
    no_registry: bool,
    keep_prompt: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a video of PROMPT and write it to OUT, marked while it is decoded.

    With --image or --video the clip starts from that. OUT appears only when the mark was read back from it, with
    OUT.json beside it: model, seed, SHA-256 of the prompt, payload, key id, settings and times. The file's metadata
    says that it is synthetic. The registry ($GENWM_REGISTRY, else beside the keyring) gets payload, key id, model, the
    prompt's SHA-256 and what the clip looks like. Sound that a model makes is not written.
    """
    from genwm.generation import Request
    from genwm.marking import Mark
    from genwm.provenance import check_signer
    from genwm.registry import Registry

    if size is not None:
        if (width, height) != (None, None):
            raise InputError("Expected --size or --width and --height, got both; leave one out.")
        width, height = size
    if fps is None and video is not None:
        fps = _rate_of(video)
    ring = Keyring.load()
    key = ring.get(key_name) if key_name is not None else ring.default()
    mark = Mark(key, secrets.randbits(64) if payload is None else parse_payload(payload), strength)
    asked = Request(prompt=prompt, negative_prompt=negative_prompt, image=image, video=video, width=width,
                    height=height, frames=frames, fps=fps, steps=steps, guidance=guidance,
                    steady=steady)
    request = asked if seed is None else replace(asked, seed=seed)
    if model is None:
        request = as_embedded(request)
    source = _embedded() if model is None else model
    _check_apart(_names(out, report), (image, video, *(sign or ()), *_files_of(source)))
    check_request(request)
    if report and request.frames is not None and request.frames < 3:
        raise InputError(f"Expected 3 frames or more for --report, got --frames {request.frames}; leave --report out.")
    chosen = _codec_for(out, codec, crf)
    if model is None and revision is not None:
        raise InputError(f"Expected --model with --revision, got revision {revision} alone; leave it out or add "
                         "--model.")
    registry = None if no_registry else Registry.writable()
    if sign is not None:
        check_signer(out, *sign)
    with ExitStack() as stack:
        parts = _outputs(stack, out, report, force)
        stack.enter_context(told_as(parts["video"], out))
        started = time.perf_counter()
        progress = stack.enter_context(_progress(as_json))
        from genwm.pipelines import load

        loaded = load(source, task="image" if image else "video" if video else "text", device=device, dtype=dtype,
                      quantize=quantize, savers=savers, revision=revision, local_only=local_only)
        if model is None:
            loaded = replace(loaded, model="embedded")
        record = make(loaded, request, mark, parts, codec=chosen, crf=crf, loading_s=time.perf_counter() - started,
                      keep_prompt=keep_prompt, sign=sign, progress=progress)
        record |= {"file": os.path.basename(out), "registered": registry is not None}
        if registry is not None:
            _register(registry, record, parts["video"])
        Path(parts["json"]).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        steady = json.loads(Path(parts["report"]).read_text(encoding="utf-8")) if report else None
    if as_json:
        click.echo(json.dumps(record))
        return
    if record["note"]:
        say(f"note: {record['note']}")
    say(f"made {counted(record['frames'], 'frame')} of {record['width']}x{record['height']} with {record['pipeline']}, "
        f"seed {request.seed}")
    say(f"wrote {out} ({record['codec']}), key {key.name}, payload {mark.payload:016x}; "
        f"read back: chance {chance(record['log10_p'])}")
    if steady is not None:
        told = (f"{name.replace('_', ' ')} {'unknown' if steady[name] is None else steady[name]} ({unit})"
                for name, unit in steady["units"].items())
        say(f"steadiness of {counted(steady['frames'], 'frame')}: {', '.join(told)}")


def make(
    loaded: Loaded,
    request: Request,
    mark: Mark,
    parts: Mapping[str, str],
    *,
    codec: Any,
    crf: float | None,
    loading_s: float = 0.0,
    keep_prompt: bool = False,
    sign: tuple[str, str] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Generates to the file ``parts['video']``, reads the mark back, measures if ``parts`` has a 'report', and returns
    the record. ``sign``: PEM files of the certificates and the key to sign with.

    Errors: those of :func:`genwm.generation.generate`, ``write_video`` and :func:`genwm.provenance.sign`;
    NotVerifiedError.
    """
    from genwm.decoding import verify_written
    from genwm.generation import generate as run
    from genwm.provenance import sign as put_manifest
    from genwm.video import probe, write_video
    from genwm.video.encoding import container_for, encoder_for

    times = {"load": loading_s}
    tell: Callable[[str, float], None] = progress or (lambda stage, fraction: None)
    with _timed(times, "denoise"):
        clip = run(loaded, request, mark, progress=lambda fraction: tell("denoising", fraction))
    passed = _Counted(clip, request.frames, tell)
    # MPEG-TS holds no comment: of words it has the service's name.
    spoken = {"service_name": METADATA["comment"]} if container_for(parts["video"]) == "mpegts" else METADATA
    with _timed(times, "decode_and_encode"):
        write_video(parts["video"], passed, fps=clip.fps, codec=codec,
                    crf=encoder_for(codec).faithful if crf is None else crf, metadata=spoken)
    with _timed(times, "verify"):
        found = verify_written(parts["video"], mark)
    if sign is not None:
        source = loaded.model if loaded.revision else Path(loaded.model).name  # no path of this machine
        put_manifest(parts["video"], *sign, mark=mark, generator=f"{loaded.name} ({source})")
    info = probe(parts["video"])
    if "report" in parts:
        _write_report(parts["video"], parts["report"])
    return {
        "schema": SCHEMA, "digital_source_type": DIGITAL_SOURCE_TYPE,
        "model": loaded.model, "revision": loaded.revision, "pipeline": loaded.name, "task": loaded.task,
        "scheduler": type(getattr(loaded.pipe, "scheduler", None)).__name__, "seed": request.seed,
        "prompt": request.prompt if keep_prompt else None, "prompt_sha256": _sha256(request.prompt),
        "negative_prompt_sha256": None if request.negative_prompt is None else _sha256(request.negative_prompt),
        "image_sha256": request.image and sha256_of(request.image),
        "video_sha256": request.video and sha256_of(request.video),
        "key": mark.key.name, "key_id": mark.key.id, "payload": f"{mark.payload:016x}", "strength": mark.strength,
        "log10_p": round(found.log10_p, 2), "width": info.width, "height": info.height,
        "scaled_from": None if request.shown is None else [request.width, request.height], "frames": passed.frames,
        "fps": clip.fps, "steadied": clip.steadied, **clip.settings, "codec": info.codec, "container": info.container,
        "device": loaded.device, "dtype": loaded.dtype, "quantize": loaded.quantize, "savers": list(loaded.savers),
        "signed": sign is not None, "decoded_in_parts": clip.in_parts, "note": clip.note,
        "seconds": {name: round(value, 3) for name, value in times.items()},
        "versions": {"genwm": __version__, **{name: _version(name) for name in _LIBRARIES}},
    }  # fmt: skip


def check_request(request: Request) -> None:
    """What can be refused before a model is loaded."""
    from genwm.pipelines import shortened
    from genwm.video import probe

    if request.image is not None and request.video is not None:
        raise InputError("Expected --image or --video, got both; leave one out.")
    for option, path, still in (("--image", request.image, True), ("--video", request.video, False)):
        if path is not None and probe(path).is_still is not still:
            raise InputError(f"Expected {'a still image' if still else 'a video'} for {option}, got {path}; "
                             f"give it with {'--video' if still else '--image'}.")
    for option, text in (("the prompt", request.prompt), ("--negative-prompt", request.negative_prompt or "")):
        if (readable := escaped(text)) != text:
            raise InputError(f"Expected {option} in UTF-8, got '{shortened(readable)}' with bytes of another encoding; "
                             "write it in UTF-8.")
    if not (request.prompt.strip() or request.image or request.video):
        raise InputError("Expected a prompt, an image or a video to start from, got none; describe the clip.")


def _rate_of(video: str) -> float | None:
    """Frames per second of the video that a clip starts from, whose motion would else be faster or slower in the clip;
    None where it has no rate that --fps takes."""
    from genwm.video import probe

    rate = probe(video).fps
    return float(rate) if rate is not None and _LEAST_FPS <= rate <= _MOST_FPS else None


def as_embedded(request: Request) -> Request:
    """A request to the embedded pipeline: what it was trained for where the user does not say (LTX's own defaults are
    for its large models), and always drawn at the one size and the one rate that it knows."""
    given = {name: getattr(request, name) for name in EMBEDDED_SETTINGS}
    full = {name: EMBEDDED_SETTINGS[name] if value is None else value for name, value in given.items()}
    drawn = {name: EMBEDDED_SETTINGS[name] for name in ("width", "height", "fps")}
    shown = None
    if (full["width"], full["height"]) != (drawn["width"], drawn["height"]):
        shown = full["width"], full["height"]
        check_shown(*shown)
    return replace(request, **full | drawn, shown=shown, played=request.fps)


def _embedded() -> str:
    if not (EMBEDDED / "model_index.json").is_file():
        raise InputError("Expected --model, got none, and no embedded pipeline is shipped yet; give a hub id or the "
                         "folder of a diffusers video pipeline.")
    return str(EMBEDDED)


def _codec_for(out: str, asked: str | None, crf: float | None) -> str:
    """The codec; an error where it does not take the rate factor, or the container not the codec, which is found out by
    writing a frame to memory."""
    import numpy as np

    from genwm.video import write_video
    from genwm.video.encoding import check_crf, container_for

    container = container_for(out)
    codec: Any = asked or ("vp9" if container == "webm" else "h264")
    check_crf(codec, crf)
    blank = np.zeros((64, 64, 3), np.uint8)
    try:
        write_video(io.BytesIO(), [blank, blank], fps=16, codec=codec, container=container)
    except GenwmError:
        raise UnsupportedFormatError(f"Expected a codec that fits into {os.path.basename(out)}, got {codec}; "
                                     "use another --codec or an .mkv file.") from None
    return str(codec)


def _names(out: str, report: bool) -> dict[str, str]:
    """The files that are written, by what they hold."""
    return {"json": f"{out}.json", **({"report": f"{out}.report.json"} if report else {}), "video": out}


def _files_of(model: str) -> Iterator[Path]:
    """The files of a model in a local folder; none of one on the hub."""
    from genwm.pipelines import INDEX

    if Path(model, INDEX).is_file():
        yield from (path for path in Path(model).rglob("*") if path.is_file())


def _check_apart(names: Mapping[str, str], inputs: Iterable[str | Path | None]) -> None:
    """SameFileError where a file that would be written is, under whatever name, one that is read."""
    for given in inputs:
        for name in names.values():
            if given is not None and os.path.exists(given) and os.path.exists(name) and os.path.samefile(given, name):
                raise SameFileError(f"Expected an output other than the input {given}, got {name}; choose another "
                                    "name.")


def _outputs(stack: ExitStack, out: str, report: bool, force: bool) -> dict[str, str]:
    """Temporary names of what is written, each of which becomes the real one when all went well."""
    names = _names(out, report)
    if not force and (there := [name for name in names.values() if os.path.isfile(name)]):
        raise OutputExistsError(f"Expected no file at {there[-1]}, got one; choose another name or give --overwrite.")
    return {kind: stack.enter_context(atomic_output(name, overwrite=force)) for kind, name in names.items()}


class _Counted:
    """The frames of a clip, counted as they pass."""

    def __init__(self, clip: Clip, expected: int | None, tell: Callable[[str, float], None]) -> None:
        self.clip, self.expected, self.tell = clip, expected, tell
        self.frames = 0

    def __iter__(self) -> Iterator[Any]:
        for frame in self.clip.frames:
            self.frames += 1
            self.tell("decoding", min(1.0, self.frames / (self.expected or max(self.frames, 100))))
            yield frame


def _register(registry: Registry, record: Mapping[str, Any], video: str) -> None:
    from genwm.registry import Entry

    entry = Entry(payload=int(record["payload"], 16), key_id=record["key_id"], model=record["model"],
                  prompt_sha256=record["prompt_sha256"], file=record["file"])
    registry.add_clip(entry, video)


def _write_report(video: str, target: str) -> None:
    import numpy as np

    from genwm.temporal import UNITS, steadiness
    from genwm.video import read_rgb

    frames = [frame for _, frame in read_rgb(video, max_short_side=_REPORT_LINES, max_frames=_REPORT_FRAMES)]
    measured = {name: None if math.isnan(value) else float(f"{value:.4g}")
                for name, value in asdict(steadiness(np.stack(frames))).items()}
    report = {"schema": REPORT_SCHEMA, "frames": len(frames), **measured, "units": UNITS}
    Path(target).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times[name] = time.perf_counter() - started


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """A bar on stderr where that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading", total=None)
        yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction, total=1.0)
