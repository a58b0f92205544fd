"""Running a video pipeline: from a prompt to marked frames, decoded while they are written.

``decode`` of the pipeline's autoencoder is intercepted: during the run it keeps the latent that it is given, which the
pipeline has brought to the decoder's own scale by then, whatever the family, and answers with a placeholder. When the
run is over, the latent is decoded part by part as the frames are asked for, so that memory does not grow with the
length of the clip where the class of the autoencoder can be decoded in parts; where it cannot, it is decoded at once,
and frames are still rounded and written one by one.

This needs a pipeline that decodes last and does nothing to the frames but clip them. That is not taken on trust: the
placeholders must come out of the pipeline as they went in, and nothing may be encoded or denoised after one. Otherwise,
and for pipelines with a safety checker, which must see the real frames, the pipeline runs from the start with
``mark_decoder`` and the whole clip in memory, and ``Clip.note`` says why.
"""

from __future__ import annotations

import math
import re
import secrets
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genwm import sizes
from genwm.decoding import LAYOUTS, Layout, mark_decoder
from genwm.errors import InputError, MissingExtraError, SizeError
from genwm.latents import Call, decode_parts, replaced, split_for
from genwm.marking import Mark, Marker
from genwm.pipelines import FRAME_COUNTS, Loaded, enough_memory, parameters_of, quiet, shortened
from genwm.steadying import steadied

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[float], None]

#: Frames per second where neither the user nor the pipeline says.
DEFAULT_FPS = 16.0
#: Frames of an input video where neither the user nor the pipeline says.
_INPUT_FRAMES = 81
_STEPS = "num_inference_steps"
_GUIDANCES = ("guidance_scale", "max_guidance_scale")
_RATES = ("frame_rate", "fps", "target_fps")
_AROUND_WORDS = ".,;:!?()[]{}\"'&/\\-\u2013\u2014\u2026\u3002\uff0c\u201c\u201d\u2018\u2019"
#: Words of a prompt that are looked up in the vocabulary, and of those not found that are named.
_WORDS_LOOKED_UP, _WORDS_NAMED = 200, 8
_MISFITS = ("channels", "size", "shape")  # words of torch where tensors do not fit


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to make; None leaves a setting to the pipeline's own default.

    Attributes:
        prompt, negative_prompt: text; an empty prompt is none.
        image: a still image to start from; cut about the middle to the shape of the frames, where that is known.
        video: a video to start from; its frames likewise.
        width, height: in pixels.
        shown: width and height that frames are cut (about the middle) and scaled to as they are decoded, before they
            are marked; None leaves them as the pipeline makes them.
        steady: whether frames are averaged in time, where that takes flicker away, before they are scaled and marked:
            see `genwm.steadying`; None is no.
        frames: how many.
        fps: frames per second of the clip; told to the pipeline too where that asks for it.
        played: frames per second of the clip where the pipeline is to be told others, `fps`; None for the same.
        steps: denoising steps.
        guidance: scale of classifier-free guidance.
        seed: 0 <= seed < 2^63; the same seed gives the same clip on the same machine and versions.
    """

    prompt: str = ""
    negative_prompt: str | None = None
    image: str | Path | None = None
    video: str | Path | None = None
    width: int | None = None
    height: int | None = None
    shown: tuple[int, int] | None = None
    steady: bool | None = None
    frames: int | None = None
    fps: float | None = None
    played: float | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = field(default_factory=lambda: secrets.randbits(32))


@dataclass(frozen=True)
class Clip:
    """A generated clip, to be read once.

    Attributes:
        frames: RGB uint8 ``(height, width, 3)``, marked; decoding happens while they are read. Errors: BudgetError.
        fps: frames per second.
        in_parts: whether memory stays the same for any length.
        note: sentences on why not, on frames that could not be steadied, on words that the model does not know, and on
            a prompt that could change nothing; '' otherwise.
        steadied: whether they were, as `Request.steady` asks.
        settings: ``steps`` and ``guidance`` as the pipeline took them, its own defaults included.
    """

    frames: Iterator[NDArray[np.uint8]]
    fps: float
    in_parts: bool
    note: str
    steadied: bool
    settings: Mapping[str, Any]


def generate(loaded: Loaded, request: Request, mark: Mark, *, progress: Progress | None = None) -> Clip:
    """Denoises a clip and returns its marked frames, to be decoded as they are read.

    ``progress`` is called with the fraction of the denoising that is done.

    Errors: SizeError for sizes and frame counts that the model cannot make, from the frames too; InputError for
    settings that the pipeline does not take, for inputs that cannot be read and for autoencoders that genwm cannot
    mark; BudgetError when memory runs out.
    """
    pipe = loaded.pipe
    mark_decoder(pipe, mark).detach()  # refuses what cannot be marked before the work
    sizes.check(pipe, request.width, request.height, request.frames)
    arguments = call_arguments(loaded, request)
    settings = {"steps": _taken(pipe, arguments, (_STEPS,)), "guidance": _taken(pipe, arguments, _GUIDANCES)}
    fps = request.played or request.fps or _taken(pipe, arguments, _RATES) or DEFAULT_FPS
    width, height = request.shown or (request.width, request.height)
    as_asked = partial(sizes.as_asked, loaded.name, width=width, height=height, count=request.frames)
    with _report_steps(pipe, progress), _failures(loaded, request), quiet():
        told = (*_unknown(pipe, request.prompt), *_all_given(pipe, arguments))
        calls, reason = _run_capturing(pipe, arguments, request.seed)
        if calls is None:
            with mark_decoder(pipe, mark):
                marked = _frames_of(pipe(**arguments, generator=_generator(request.seed)))[0]
            # Here the mark is written first and scaled with the picture, which it outlives.
            fitted = (sizes.fitted(frame[None].float(), request.shown)[0] for frame in marked)
            if request.steady:
                reason += " They are marked in the decoder, so that they were not steadied."
            return Clip(as_asked(map(rounded, fitted)), fps, False, " ".join((reason, *told)), False, settings)
    splits = [split_for(pipe.vae, call) for call in calls]
    if not all(splits):
        told += (f"{type(pipe.vae).__name__} decodes the clip as a whole here, so that memory grows with its length.",)
    decoded = (part for call, split in zip(calls, splits, strict=True) for part in decode_parts(pipe, call, split))
    layout = LAYOUTS[type(pipe.vae).__name__]
    pictures = _checked(loaded, _pictures(decoded, layout))
    if request.steady:
        pictures = steadied(pictures)
    frames = as_asked(_marked(pictures, mark, request.shown))
    return Clip(_guarded(loaded, request, frames), fps, all(splits), " ".join(told), bool(request.steady), settings)


def call_arguments(loaded: Loaded, request: Request) -> dict[str, Any]:
    """The arguments of the pipeline's call, but for the generator; InputError for what it does not take."""
    pipe, takes = loaded.pipe, parameters_of(type(loaded.pipe))
    arguments: dict[str, Any] = {"output_type": "pt"}
    wanted: dict[str, tuple[Any, tuple[str, ...]]] = {
        "a prompt": (request.prompt or None, ("prompt",)),
        "--negative-prompt": (request.negative_prompt, ("negative_prompt",)),
        "--width": (request.width, ("width",)),
        "--height": (request.height, ("height",)),
        "--frames": (request.frames, (*FRAME_COUNTS, *(("video",) if request.video else ()))),
        "--steps": (request.steps, (_STEPS,)),
        "--guidance": (request.guidance, _GUIDANCES),
    }
    for option, (value, names) in wanted.items():
        name = next((name for name in names if name in takes), None)
        if value is None:
            continue
        if name is None:
            raise InputError(f"Expected settings that {loaded.name} takes, got {option}; leave it out.")
        if name != "video":
            arguments[name] = value
    rate = next((name for name in _RATES if name in takes), None)
    if request.fps is not None and rate is not None:
        arguments[rate] = request.fps if rate == "frame_rate" else round(request.fps)
    if "prompt" in takes:  # an empty one is refused where it is None, also beside a picture
        arguments.setdefault("prompt", request.prompt)
    size = tuple(_taken(pipe, arguments, (side,)) for side in ("width", "height"))
    place = partial(sizes.placed, size=size, shown=request.shown) if all(size) else lambda picture: picture
    if request.image is not None:
        arguments["image"] = place(_image(request.image))
    if request.video is not None:
        limit = request.frames or next((takes[name].default for name in FRAME_COUNTS if name in takes), None)
        pictures = _video(request.video, limit or _INPUT_FRAMES)
        if request.frames is not None and len(pictures) < request.frames and not set(FRAME_COUNTS) & set(takes):
            raise InputError(f"Expected a video of {request.frames} frames or more for {loaded.name}, which makes as "
                             f"many as it is given, got {len(pictures)} in {request.video}; ask for fewer --frames.")
        pictures = pictures[: sizes.frame_steps(pipe).nearest(len(pictures))[0]]  # as many as fill the latent
        pictures = [place(picture) for picture in pictures]
        # A pipeline that takes frame_index takes several conditions, of which a video is one.
        arguments["video"] = [pictures] if "frame_index" in takes else pictures
    _check_strength(loaded, arguments)
    return arguments


def _unknown(pipe: Any, prompt: str) -> tuple[str, ...]:
    """A sentence on the words of a prompt that the tokenizer has no token for."""
    words: Any = getattr(pipe, "tokenizer", None)
    nothing = getattr(words, "unk_token_id", None)
    if nothing is None or nothing in (words.eos_token_id, words.pad_token_id):  # CLIP's: every word can be spelt
        return ()

    def known(word: str) -> bool:
        """Whether any piece of it that is more than a space has a token."""
        ids = words(word, add_special_tokens=False).input_ids
        return any(one != nothing and token.strip("\N{LOWER ONE EIGHTH BLOCK}")
                   for one, token in zip(ids, words.convert_ids_to_tokens(ids), strict=True))  # fmt: skip

    written: dict[str, str] = {}
    for word in (part.strip(_AROUND_WORDS) for part in prompt.split()):
        written.setdefault(word.casefold(), word)
    # What has no three letters in a row says little ("it's"), and is not worth a warning.
    missing = [shortened(word) for word in list(written.values())[:_WORDS_LOOKED_UP]
               if re.search(r"\w{3}|[^\x00-\x7f]", word) and not known(word)]  # fmt: skip
    if not missing:
        return ()
    more = f" and {len(missing) - _WORDS_NAMED} more" if len(missing) > _WORDS_NAMED else ""
    return (f"The model does not know, and ignores: {', '.join(missing[:_WORDS_NAMED])}{more}.",)


def _all_given(pipe: Any, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence where a video that a clip goes on from leaves nothing to generate."""
    video, frames = arguments.get("video"), _taken(pipe, arguments, FRAME_COUNTS)
    if "frame_index" not in parameters_of(type(pipe)) or not video or frames is None or len(video[0]) < frames:
        return ()
    return (f"All {frames} frames are the video's, so that the prompt changes next to nothing; ask for more --frames "
            "to have it go on.",)


def _check_strength(loaded: Loaded, arguments: Mapping[str, Any]) -> None:
    """InputError where no step is left: pipelines that start from an input may go only a share of them."""
    strength, steps = (_taken(loaded.pipe, arguments, (name,)) for name in ("strength", _STEPS))
    if loaded.task != "text" and strength and steps and steps * strength < 1:
        raise InputError(f"Expected --steps {math.ceil(1 / strength)} or more for {loaded.name}, which takes "
                         f"{strength} of them, got {steps}; ask for more.")


def _taken(pipe: Any, arguments: Mapping[str, Any], names: Iterable[str]) -> Any:
    """The number that the pipeline uses for the first of ``names`` that it has; None where it has none."""
    takes = parameters_of(type(pipe))
    for name in names:
        if name in takes:
            value = arguments.get(name, takes[name].default)
            return value if isinstance(value, int | float) else None
    return None


def _generator(seed: int) -> Any:
    """On the CPU wherever the pipeline is: the same noise on every device."""
    import torch

    if not 0 <= seed < 1 << 63:
        raise InputError(f"Expected a seed from 0 to 2^63 - 1, got {seed}; choose another.")
    return torch.Generator("cpu").manual_seed(seed)


def _image(path: str | Path) -> Any:
    from PIL import Image

    from genwm.video import probe, read_rgb

    if not probe(path).is_still:
        raise InputError(f"Expected a still image, got {path}; give a video with --video.")
    return Image.fromarray(next(iter(read_rgb(path, max_frames=1)))[1])


def _video(path: str | Path, limit: int) -> list[Any]:
    from PIL import Image

    from genwm.video import probe, read_rgb

    if probe(path).is_still:
        raise InputError(f"Expected a video, got the still image {path}; give it with --image.")
    return [Image.fromarray(frame) for _, frame in read_rgb(path, max_frames=limit)]


# --- intercepting the decoder


class _NotLast(Exception):
    """Something used a placeholder, or would have used the frames that it stands for."""


def _run_capturing(pipe: Any, arguments: Mapping[str, Any], seed: int) -> tuple[list[Call] | None, str]:
    """Runs the pipeline; returns the calls of ``decode``, or None and the reason why they cannot be put off."""
    vae: Any = getattr(pipe, "vae", None)
    name = type(pipe).__name__
    grows = "so that memory grows with the clip's length."
    if getattr(pipe, "safety_checker", None) is not None:
        return None, f"The safety checker of {name} looks at all frames at once, {grows}"
    layout = LAYOUTS.get(type(vae).__name__)
    if layout is None:
        return None, f"{name} decodes with another part than its 'vae', {grows}"
    calls: list[Call] = []
    stands_in: list[Tensor] = []

    def decode(latent: Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
        from diffusers.models.autoencoders.vae import DecoderOutput

        if len(latent) != 1 and layout.video:
            raise _NotLast
        calls.append(Call(latent, args, kwargs, vae.dtype))
        stands_in.append(_placeholder(latent, layout, len(calls)))
        return DecoderOutput(sample=stands_in[-1]) if return_dict else (stands_in[-1],)

    def not_after_decoding(*_: Any) -> None:
        if calls:
            raise _NotLast

    encode = vae.encode

    def checked_encode(*args: Any, **kwargs: Any) -> Any:
        not_after_decoding()
        return encode(*args, **kwargs)

    with ExitStack() as undo:
        for part in pipe.components.values():
            if part is not vae and hasattr(part, "register_forward_pre_hook"):
                undo.callback(part.register_forward_pre_hook(not_after_decoding).remove)
        undo.enter_context(replaced(vae, "decode", decode))
        undo.enter_context(replaced(vae, "encode", checked_encode))
        try:
            frames = _frames_of(pipe(**arguments, generator=_generator(seed)))
        except _NotLast:
            return None, f"{name} goes on after it has decoded, {grows}"
    if not _came_through(frames, stands_in, layout):
        return None, f"{name} changes the frames after they are decoded, {grows}"
    return calls, ""


def _placeholder(latent: Tensor, layout: Layout, number: int) -> Tensor:
    """Frames of one pixel, each of its own value: more of them than the latent has where the decoder makes more, so
    that a pipeline that cuts some off is found out."""
    frames = 16 * latent.shape[2] + 1 if layout.video else len(latent)
    values = (latent.new_tensor(range(frames)).float() * 0.37 + number * 0.11) % 1.6 - 0.8
    values = values.to(latent.dtype)
    if layout.video:
        return layout.arranged(values.view(1, 1, frames, 1, 1).repeat(1, 3, 1, 1, 1))
    return values.view(frames, 1, 1, 1).repeat(1, 3, 1, 1)


def _came_through(frames: Any, stands_in: list[Tensor], layout: Layout) -> bool:
    import torch

    if not isinstance(frames, torch.Tensor) or not stands_in:
        return False
    sent = torch.cat([layout.arranged(one)[0].transpose(0, 1) if layout.video else one for one in stands_in])
    shown = _shown(sent, layout)
    same = frames.shape == (1, *shown.shape)
    return same and torch.allclose(frames[0].float(), shown.to(frames.device), atol=0.01)


def _frames_of(output: Any) -> Any:
    for name in ("frames", "videos", "video"):
        if hasattr(output, name):
            return getattr(output, name)
    return output[0]


# --- frames


def _pictures(parts: Iterable[Tensor], layout: Layout) -> Iterator[Tensor]:
    """``(3, H, W)`` each, float32 RGB in [0, 1], of what a decoder makes."""
    for part in parts:
        for frame in layout.arranged(part)[0].transpose(0, 1) if layout.video else part:
            yield _shown(frame.detach()[None], layout)[0]


def _checked(loaded: Loaded, pictures: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same; InputError for pictures that are not numbers."""
    roomier = "" if loaded.dtype == "float32" else "--dtype float32, which has room for larger ones, or "
    for picture in pictures:
        if picture.isnan().any():
            raise InputError(f"Expected pictures from {loaded.name}, got values that are not numbers (nan); use "
                             f"{roomier}a lower --guidance.")
        yield picture


def _marked(pictures: Iterable[Tensor], mark: Mark, size: tuple[int, int] | None) -> Iterator[NDArray[np.uint8]]:
    marker: Marker | None = None
    for picture in pictures:
        fitted = sizes.fitted(picture[None], size)
        if marker is None:
            marker = Marker(mark, fitted.shape[-1], fitted.shape[-2])
        yield rounded(marker.rgb(fitted)[0])


def _shown(frames: Tensor, layout: Layout) -> Tensor:
    """``(N, 3, H, W)`` of a decoder in float32, as RGB in [0, 1]."""
    offset, scale = (frames.new_tensor(values).float().view(3, 1, 1) for values in (layout.offset, layout.scale))
    return (frames.float() * scale + offset).clamp_(0.0, 1.0)


def rounded(frame: Any) -> NDArray[np.uint8]:
    """uint8 ``(H, W, 3)`` of a tensor ``(3, H, W)`` in [0, 1]."""
    import torch

    result = (frame.float() * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return np.asarray(result, dtype=np.uint8)


# --- what is told while it runs, and when it fails


class _Steps:
    """Stands in for the bars that pipelines make: counts steps, and tells."""

    def __init__(self, tell: Progress, iterable: Iterable[Any] | None = None, total: float | None = None) -> None:
        self.items = iterable
        self.total = total or (len(iterable) if isinstance(iterable, Sized) else math.inf)
        self.done = 0
        self.tell = tell

    def __enter__(self) -> _Steps:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for item in self.items or ():
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        self.done += count
        self.tell(min(self.done / max(self.total, 1), 1.0))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None  # what else bars can do, such as set_postfix


@contextmanager
def _report_steps(pipe: Any, progress: Progress | None) -> Iterator[None]:
    if progress is None:
        yield
        return
    with replaced(pipe, "progress_bar", partial(_Steps, progress)):
        yield


@contextmanager
def _failures(loaded: Loaded, request: Request) -> Iterator[None]:
    """Turns what torch and the pipeline raise into this project's errors."""
    try:
        with enough_memory(loaded.name, loaded.device, loaded.quantize, loaded.savers):
            yield
    except (ImportError, NameError) as error:  # diffusers leaves names undefined where a package is missing
        name = error.name or str(error)
        raise MissingExtraError(f"Expected the package {name}, which {loaded.name} uses, got none installed; "
                                f"run: pip install {name}") from error
    except RuntimeError as error:
        if loaded.quantize is not None and "extension" in str(error).lower():
            raise MissingExtraError(f"Expected a C++ compiler and ninja to compile the kernel of {loaded.quantize} "
                                    f"weights with, got '{shortened(error)}'; install them or use --quantize int8."
                                    ) from error
        if not any(word in str(error).lower() for word in _MISFITS):
            raise
        if loaded.task == "text" and {request.width, request.height, request.frames} != {None}:
            raise SizeError(f"Expected a size and a frame count that {loaded.name} was made for, got "
                            f"'{shortened(error)}'; ask for smaller ones, or leave --size and --frames out.") from error
        if loaded.task == "text":
            raise InputError(f"Expected weights that fit {loaded.name}, got {loaded.model}: '{shortened(error)}'; "
                             "fetch the model again.") from error
        raise InputError(f"Expected weights for making video from {loaded.task}s, got {loaded.model}, which does not "
                         f"fit {loaded.name}: '{shortened(error)}'; use a model that was trained for it, or another "
                         "--size.") from error
    except ValueError as error:  # the pipeline's own check of its inputs
        raise InputError(f"Expected sizes, inputs and parts that {loaded.name} can make a clip of, got "
                         f"'{shortened(error)}'; change them as it says.") from error
    except (TypeError, AttributeError, LookupError) as error:  # settings of a scheduler, say
        if _is_ours(error):
            raise
        raise InputError(f"Expected parts and settings in {loaded.model} that go together in {loaded.name}, got "
                         f"'{type(error).__name__}: {shortened(error)}'; fetch the model again.") from error


def _is_ours(error: Exception) -> bool:
    """Whether genwm's own code raised it, not a library that it called."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return not frames or str(frames[-1].f_globals.get("__name__")).startswith("genwm.")


def _guarded(
    loaded: Loaded, request: Request, frames: Iterator[NDArray[np.uint8]]
) -> Iterator[NDArray[np.uint8]]:
    with _failures(loaded, request), quiet():
        yield from frames
