"""The decode hook: whatever an autoencoder of diffusers decodes comes out marked, before anything is rounded.

The hook sits on ``decode`` of one autoencoder object, which every pipeline calls: tiles, slices, chunks of a causal
decoder, offloading and compiled parts are all inside that call, and the mark is added once, to the whole picture.
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MethodType, TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from genwm.errors import InputError, NotVerifiedError
from genwm.extras import require
from genwm.marking import Mark, Marker

if TYPE_CHECKING:
    from torch import Tensor

    from genwm.readback import Readback

__all__ = ["DecoderHook", "mark_decoder", "verify_written", "video_autoencoders", "video_pipelines"]

log = logging.getLogger("genwm.decoding")

#: Picture sizes whose patterns are kept.
_SIZES = 4

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Layout:
    """What ``decode`` of one class of autoencoders returns: RGB pictures, as ``value * scale + offset`` in [0, 1].

    Attributes:
        video: the tensor is ``(B, 3, F, H, W)``; otherwise ``(N, 3, H, W)``, N single frames.
        channels: the entry of the model's configuration that counts the decoded channels; '' where they are always 3.
        patched: that entry counts them before patches are unfolded.
        frames_first: of videos, whether the tensor is ``(B, F, 3, H, W)`` instead.
        offset, scale: one for each of R, G, B.
    """

    video: bool
    channels: str = "out_channels"
    patched: bool = False
    frames_first: bool = False
    offset: tuple[float, float, float] = (0.5, 0.5, 0.5)
    scale: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def arranged(self, decoded: Tensor) -> Tensor:
        """A view of a decoder's output as ``(B, 3, F, H, W)`` or ``(N, 3, H, W)``; the same turns it back."""
        return decoded.transpose(1, 2) if self.frames_first and decoded.ndim == 5 else decoded


_VIDEO, _FRAMES = Layout(video=True), Layout(video=False)

#: Read from diffusers 0.32 to 0.42, class by class: a class that is not here is refused, never guessed.
LAYOUTS: dict[str, Layout] = {
    "AsymmetricAutoencoderKL": _FRAMES,
    "AutoencoderDC": Layout(video=False, channels="in_channels"),
    "AutoencoderKL": _FRAMES,
    "AutoencoderKLAllegro": Layout(video=True, frames_first=True),
    "AutoencoderKLCogVideoX": _VIDEO,
    "AutoencoderKLCosmos": _VIDEO,
    "AutoencoderKLFlux2": _FRAMES,
    "AutoencoderKLHunyuanImage": _FRAMES,
    "AutoencoderKLHunyuanImageRefiner": _VIDEO,
    "AutoencoderKLHunyuanVideo": _VIDEO,
    "AutoencoderKLHunyuanVideo15": _VIDEO,
    "AutoencoderKLKVAE": Layout(video=False, channels="in_channels"),
    "AutoencoderKLKVAEVideo": Layout(video=True, channels="out_ch"),
    "AutoencoderKLLTX2Video": _VIDEO,
    "AutoencoderKLLTXVideo": _VIDEO,
    "AutoencoderKLMagvit": _VIDEO,
    "AutoencoderKLMiniMaxH3": Layout(video=True, offset=_IMAGENET[0], scale=_IMAGENET[1]),
    "AutoencoderKLMochi": _VIDEO,
    "AutoencoderKLQwenImage": Layout(video=True, channels="input_channels"),
    "AutoencoderKLQwenImage21": Layout(video=True, patched=True),
    "AutoencoderKLTemporalDecoder": _FRAMES,
    "AutoencoderKLWan": Layout(video=True, patched=True),
    "AutoencoderRAE": Layout(video=False, channels="num_channels", offset=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0)),
    "AutoencoderTiny": _FRAMES,
    "AutoencoderVidTok": _VIDEO,
    "ConsistencyDecoderVAE": Layout(video=False, channels=""),
    "Kandinsky6SRVAE": Layout(video=True, offset=(128 / 255,) * 3, scale=(128 / 255,) * 3),  # pixels / 128 - 1
    "LTX2VideoDiffusionDecoderModel": _VIDEO,
    "VQModel": _FRAMES,
}

_SOUND = "it decodes sound"
#: Classes with a ``decode`` that gives no pictures, and why they are left alone.
PICTURELESS: dict[str, str] = {
    "AutoencoderKLKVAEAudio": _SOUND,
    "AutoencoderKLLTX2Audio": _SOUND,
    "AutoencoderKLMiniMaxH3Audio": _SOUND,
    "AutoencoderOobleck": _SOUND,
    "AutoencoderSAME": _SOUND,
    "Cosmos3AVAEAudioTokenizer": _SOUND,
    "LongCatAudioDiTVae": _SOUND,
    "MMAudioVAE": _SOUND,
    "RFD4ProteinaAutoencoder": "it decodes molecules",
}

#: Pipelines that cut the latents into tiles, decode each and blend the pictures: no call decodes a whole frame.
BLENDING_PIPELINES = frozenset({"Kandinsky6SRPipeline", "LTXI2VLongMultiPromptPipeline"})

_attached: WeakSet[Any] = WeakSet()


class DecoderHook:
    """Marks what the autoencoders of a pipeline decode, until :meth:`detach` or the end of its ``with`` block.

    Made by :func:`mark_decoder`, which attaches it; a ``with`` block attaches it again where it was detached, and logs
    a warning where nothing was decoded in it. A deep copy of an autoencoder that is made meanwhile is marked by the
    same hook, and let go with it.

    Attributes:
        marks: what is written, one for all or one for each item of the batch.
        frames_per_item: see :func:`mark_decoder`.
        frames_marked: frames marked since it was attached.
    """

    def __init__(self, autoencoders: Sequence[Any], marks: Sequence[Mark], frames_per_item: int | None) -> None:
        self.marks = tuple(marks)
        self.frames_per_item = frames_per_item
        self._autoencoders = tuple(autoencoders)
        self._copies: WeakSet[Any] = WeakSet()
        self._attached = False
        self._markers: dict[tuple[int, int], list[Marker]] = {}
        self._within = threading.local()
        self._attach()

    def detach(self) -> None:
        """Lets the autoencoders decode as they did before, bit by bit; does nothing the second time."""
        if not self._attached:
            return
        self._attached = False
        for autoencoder in (*self._autoencoders, *self._copies):
            _attached.discard(autoencoder)
            decode = vars(autoencoder).get("decode")
            if isinstance(decode, _MarkedDecode) and decode.hook is self:  # else wrapped once more since, and what is
                decode.undo()  # left of this hook only passes through
        self._copies.clear()
        self._markers.clear()

    def __enter__(self) -> DecoderHook:
        """Attaches it where it was detached. Errors: InputError where another hook marks an autoencoder by now."""
        if not self._attached:
            self._attach()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        if error is None and self._attached and not self.frames_marked:
            names = " and ".join(type(one).__name__ for one in self._autoencoders)
            log.warning("nothing was marked: decode of %s was not called in the block; what was decoded elsewhere, or "
                        "by another part, carries no mark", names)
        self.detach()

    def _attach(self) -> None:
        for autoencoder in self._autoencoders:
            if autoencoder in _attached:
                raise InputError(f"Expected a decoder without a mark, got a {type(autoencoder).__name__} that is marked"
                                 " already; detach the other hook first.")
        self._attached = True
        self.frames_marked = 0
        for autoencoder in self._autoencoders:
            autoencoder.decode = _MarkedDecode(self, autoencoder, vars(autoencoder).get("decode"))
            _attached.add(autoencoder)

    def _mark(self, decoded: Tensor, layout: Layout) -> None:
        """Marks the pictures of a decoder's output in place, a frame at a time."""
        import torch

        decoded = layout.arranged(decoded)
        shape = tuple(decoded.shape)
        wanted = "(B, 3, F, H, W)" if layout.video else "(N, 3, H, W)"
        if len(shape) != (5 if layout.video else 4) or shape[1] != 3:
            raise InputError(f"Expected the decoder to give RGB pictures of shape {wanted}, got {shape}; "
                             "mark the finished frames with mark_frames.")
        markers = self._markers_for(shape[-1], shape[-2])
        with torch.no_grad():
            offset, scale = (torch.tensor(values, device=decoded.device).view(3, 1, 1)
                             for values in (layout.offset, layout.scale))
            for frame, item in self._frames(decoded, layout):
                # In place, the frame itself where it is float32 already. What is not a number is black, as writers
                # have it, and does not spread over the mask to its neighbours.
                picture = frame.float().mul_(scale).add_(offset).nan_to_num_(0.0).clamp_(0.0, 1.0)
                markers[item].rgb(picture[None], in_place=True)
                frame.copy_(picture.sub_(offset).div_(scale))
                self.frames_marked += 1

    def _frames(self, decoded: Tensor, layout: Layout) -> Iterator[tuple[Tensor, int]]:
        """Views ``(3, H, W)`` of the frames, each with the number of its mark."""
        marks = len(self.marks)
        if layout.video:
            if marks not in (1, len(decoded)):
                raise InputError(f"Expected one mark or one for each of the {len(decoded)} decoded videos, got {marks};"
                                 " give as many marks as the batch has items.")
            for number, video in enumerate(decoded):
                for index in range(video.shape[1]):
                    yield video[:, index], number % marks
            return
        for frame in decoded:
            yield frame, self.frames_marked // (self.frames_per_item or 1) % marks

    def _markers_for(self, width: int, height: int) -> list[Marker]:
        size = width, height
        if size not in self._markers:
            if len(self._markers) >= _SIZES:
                self._markers.pop(next(iter(self._markers)))
            self._markers[size] = [Marker(mark, width, height) for mark in self.marks]
        return self._markers[size]


class _MarkedDecode:
    """``decode`` of one autoencoder while a hook is on it: an object, not a function, so that a deep copy of the
    autoencoder gets one that decodes with the copy's weights.

    Args:
        before: a ``decode`` of the object itself, such as a compiled one; None for that of its class.
    """

    def __init__(self, hook: DecoderHook, autoencoder: Any, before: Any) -> None:
        import torch

        decode = MethodType(type(autoencoder).decode, autoencoder) if before is None else before
        functools.update_wrapper(self, decode)
        self.hook, self._autoencoder, self._before, self._decode = hook, autoencoder, before, decode
        layout = LAYOUTS[type(autoencoder).__name__]
        self._mark: Any = torch.compiler.disable(  # type: ignore[no-untyped-call]
            functools.partial(hook._mark, layout=layout))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        import torch

        hook = self.hook
        # A decode that calls itself, for tiles say, is marked at the outermost call alone.
        if not hook._attached or getattr(hook._within, "decode", False):
            return self._decode(*args, **kwargs)
        hook._within.decode = True
        try:
            result = self._decode(*args, **kwargs)
        finally:
            hook._within.decode = False
        self._mark(result if isinstance(result, torch.Tensor) else result[0])
        return result

    def undo(self) -> None:
        if self._before is None:
            del self._autoencoder.decode
        else:
            self._autoencoder.decode = self._before

    def __deepcopy__(self, memo: dict[int, Any]) -> _MarkedDecode:
        copied = copy.deepcopy(self._autoencoder, memo)  # found in ``memo``, where it is what is being copied
        if self.hook._attached:
            self.hook._copies.add(copied)
            _attached.add(copied)
        return _MarkedDecode(self.hook, copied, copy.deepcopy(self._before, memo))

    def __reduce__(self) -> Any:
        # Pickled without the hook it would decode unmarked frames elsewhere, and with it the file would hold the key.
        raise InputError(f"Expected a decoder without a mark to pickle, got a {type(self._autoencoder).__name__} that "
                         "is marked; detach the hook first, or use save_pretrained.")


def mark_decoder(
    pipeline_or_vae: Any, mark: Mark | Sequence[Mark], *, frames_per_item: int | None = None
) -> DecoderHook:
    """Makes whatever an autoencoder of diffusers decodes come out marked, from now on.

    >>> with mark_decoder(pipe, mark):                     # for the block        # doctest: +SKIP
    ...     clip = pipe("a red car turns left").frames[0]
    >>> hook = mark_decoder(pipe, mark)                    # until hook.detach()  # doctest: +SKIP

    The mark is added in place to the decoder's own output, on its device and in its dtype, and the pictures are clipped
    to the range that the pipeline's post-processor keeps. Working memory is that of single frames.

    Args:
        pipeline_or_vae: a diffusers pipeline, all of whose picture decoders are marked, or one autoencoder. A compiled
            one is its original.
        mark: what to write, or a sequence with one mark for each item of the batch.
        frames_per_item: needed for several marks with an autoencoder that decodes single frames (Stable Video
            Diffusion, AnimateDiff and others; 1 for still images), whose batches say nothing of where a video ends:
            frames are counted from the attaching on, whatever the chunks, and the next item begins after this many. A
            pipeline that fails between its chunks leaves the count in the middle: attach the hook anew.

    Errors: InputError where there is nothing that is known to decode RGB pictures, where a decoder of the pipeline is
    unknown or is marked already, and where the marks do not fit; the last also from ``decode`` itself.
    MissingExtraError without torch.
    """
    require("torch", "generate")
    marks = (mark,) if isinstance(mark, Mark) else tuple(mark) if isinstance(mark, Iterable) else ()
    if not marks or not all(isinstance(one, Mark) for one in marks):
        kinds = {type(one).__name__ for one in marks} if isinstance(mark, list | tuple) else {type(mark).__name__}
        raise InputError(f"Expected a Mark or a sequence of Marks, got {' and '.join(sorted(kinds)) or 'none'}; make "
                         "them with genwm.Mark.")
    if frames_per_item is not None and not (isinstance(frames_per_item, int) and frames_per_item >= 1):
        raise InputError(f"Expected frames_per_item of at least 1, got {frames_per_item!r}; give a video's frame "
                         "count.")
    autoencoders = _picture_decoders(pipeline_or_vae)
    for autoencoder in autoencoders:
        name = type(autoencoder).__name__
        if len(marks) > 1 and frames_per_item is None and not LAYOUTS[name].video:
            raise InputError(f"Expected frames_per_item for {len(marks)} marks, got none with {name}, which decodes "
                             "single frames; give the number of frames of one video.")
    return DecoderHook(autoencoders, marks, frames_per_item)


def _picture_decoders(target: Any) -> list[Any]:
    """The autoencoders of ``target`` that decode RGB pictures; InputError unless all are known and there is one."""
    name = type(target).__name__
    if name in BLENDING_PIPELINES:
        raise InputError(f"Expected a pipeline that decodes whole frames, got {name}, which decodes tiles and blends "
                         "them; mark its finished frames with mark_frames.")
    parts = getattr(target, "components", None)
    if not isinstance(parts, dict):
        autoencoder = getattr(target, "_orig_mod", target)  # of torch.compile
        _check_known(autoencoder)
        return [autoencoder]
    found: list[Any] = []
    for part in parts.values():
        if isinstance(getattr(part, "components", None), dict):
            found += _picture_decoders(part)
            continue
        model = getattr(part, "_orig_mod", part)
        if _decodes(type(model)) and type(model).__name__ not in PICTURELESS:
            _check_known(model)
            found.append(model)
    if not found:
        raise InputError(f"Expected a pipeline with an autoencoder, got {name} without one; check the pipeline.")
    return list({id(model): model for model in found}.values())


def _check_known(model: Any) -> None:
    """InputError with the reason for anything but a model of LAYOUTS that decodes three channels."""
    name = type(model).__name__
    if name in PICTURELESS:
        raise InputError(f"Expected an autoencoder of pictures, got {name}: {PICTURELESS[name]}; pass the one that "
                         "decodes the pictures.")
    layout = LAYOUTS.get(name)
    if layout is None or not _decodes(type(model)) or not type(model).__module__.startswith("diffusers."):
        raise InputError(f"Expected an autoencoder of diffusers whose pictures genwm knows, got {name}; mark the "
                         "finished frames with mark_frames.")
    if not layout.channels:
        return
    channels = model.config[layout.channels]
    if layout.patched:
        channels /= (model.config.get("patch_size") or 1) ** 2
    if channels != 3:
        raise InputError(f"Expected an autoencoder that decodes 3 channels, got {name} with {channels:g}; mark the "
                         "finished frames with mark_frames.")


def verify_written(path: str | os.PathLike[str], mark: Mark) -> Readback:
    """Reads a written file back: returns what was found, or raises NotVerifiedError unless it is ``mark``'s payload.

    Other errors: those of :func:`genwm.video.probe`.
    """
    from genwm.readback import read_back

    found = read_back(os.fspath(path), mark.key)
    if found.payload != mark.payload:
        got = "none" if found.payload is None else format(found.payload, "016x")
        raise NotVerifiedError(f"Expected payload {mark.payload:016x} of key {mark.key.name} in {os.fspath(path)}, got "
                               f"{got} in {found.frames_read} frames; use a larger or longer picture, a lower CRF or a "
                               "stronger mark.")
    return found


def video_autoencoders() -> dict[str, type]:
    """Every public class of the installed diffusers that is a model with a ``decode``, by name.

    Image autoencoders are among them, for video pipelines decode frame by frame with those.
    """
    return {name: value for name, value in _public_classes() if _decodes(value)}


def _decodes(kind: type) -> bool:
    from torch.nn import Module

    return issubclass(kind, Module) and callable(getattr(kind, "decode", None))


def video_pipelines() -> dict[str, type]:
    """Every public pipeline class of the installed diffusers that returns video, by name.

    One returns video when an output class that it makes has a field ``frames``, ``video`` or ``videos``, or when
    'Video' is in its name.
    """
    diffusers = require("diffusers", "generate")
    return {
        name: value for name, value in _public_classes()
        if issubclass(value, diffusers.DiffusionPipeline) and ("Video" in name or _returns_video(value))
    }


def _returns_video(pipeline: type) -> bool:
    functions = [inspect.unwrap(value) for value in vars(pipeline).values() if inspect.isfunction(value)]
    names = {name for function in functions for name in function.__code__.co_names}
    made = [getattr(inspect.getmodule(pipeline), name, None) for name in names if name.endswith("Output")]
    return any(not {"frames", "video", "videos"}.isdisjoint(getattr(kind, "__dataclass_fields__", ())) for kind in made)


def _public_classes() -> Iterator[tuple[str, type]]:
    diffusers = require("diffusers", "generate")
    for name in sorted(dir(diffusers)):
        if name.startswith("_"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes on their way out
            try:
                value = getattr(diffusers, name)
            except (AttributeError, ImportError):
                continue  # listed there, and not shipped
        if inspect.isclass(value):
            yield name, value
