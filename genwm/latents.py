"""Decoding a latent in parts: what ``decode`` of an autoencoder makes at once, a few frames at a time.

Memory then does not grow with the length of a clip. Each class of autoencoders needs its own way of being divided, to
the same frames as undivided; where none is known, ``split_for`` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Call:
    """One call of an autoencoder's ``decode``.

    Attributes:
        latent: what is decoded, on the decoder's own scale: ``(1, C, F, h, w)``, or ``(N, C, h, w)``.
        args, kwargs: what came with it, but for ``return_dict``.
        dtype: the autoencoder's at the time.
    """

    latent: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    dtype: Any


#: Latents that windows may overlap by: those of a deeper decoder would be longer than nearly every clip.
_FAR = 8

Split = Callable[[Any, "Tensor", Call], Iterator["Tensor"]]


def _one_by_one(vae: Any, latents: Tensor, call: Call) -> Iterator[Tensor]:
    """Frames of an autoencoder of still images: (N, C, h, w) to (1, 3, H, W) each."""
    for index in range(len(latents)):
        latent = latents[index : index + 1]
        yield vae.decode(latent, *call.args, **call.kwargs, return_dict=False)[0]


def _whole(vae: Any, latents: Tensor, call: Call) -> Iterator[Tensor]:
    yield vae.decode(latents, *call.args, **call.kwargs, return_dict=False)[0]


def _wan(vae: Any, latent: Tensor, call: Call) -> Iterator[Tensor]:
    """Wan's causal decoder, a latent frame at a time: its convolutions keep what they need of the frames before."""
    unpatchify: Any = import_module(type(vae).__module__).unpatchify
    _onload(vae)
    vae.clear_cache()
    try:
        ready = vae.post_quant_conv(latent)
        for index in range(latent.shape[2]):
            vae._conv_idx = [0]
            cache: dict[str, Any] = {"feat_cache": vae._feat_map, "feat_idx": vae._conv_idx}
            if index == 0:
                cache["first_chunk"] = True
            part = vae.decoder(ready[:, :, index : index + 1], **cache)
            if vae.config.patch_size is not None:
                part = unpatchify(part, patch_size=vae.config.patch_size)
            yield part.clamp(-1.0, 1.0)
    finally:
        vae.clear_cache()


def _cogvideox(vae: Any, latent: Tensor, call: Call) -> Iterator[Tensor]:
    """CogVideoX's causal decoder in its own batches of latent frames, the first with what is left over."""
    _onload(vae)
    frames, batch = latent.shape[2], vae.num_latent_frames_batch_size
    cache = None
    stops = [frames % batch + batch * (index + 1) for index in range(max(frames // batch, 1))]
    for start, stop in zip([0, *stops], stops, strict=False):
        part = latent[:, :, start:stop]
        if vae.post_quant_conv is not None:
            part = vae.post_quant_conv(part)
        decoded, cache = vae.decoder(part, conv_cache=cache)
        yield decoded


def _tiles_in_time(vae: Any, latent: Tensor, call: Call, *, drop_first: bool) -> Iterator[Tensor]:
    """The overlapping tiles in time of LTX and HunyuanVideo, blended where they meet; two are held at a time.

    ``drop_first``: after the first tile, whether the frame that has no latent of its own is the first or the last.
    """
    ratio = vae.temporal_compression_ratio
    size, stride = (count // ratio for count in (vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames))
    overlap = vae.tile_sample_min_num_frames - vae.tile_sample_stride_num_frames
    left = (latent.shape[2] - 1) * ratio + 1
    before: Any = None
    for start in range(0, latent.shape[2], stride):
        with replaced(vae, "use_framewise_decoding", False):
            (tile,) = vae.decode(latent[:, :, start : start + size + 1], *call.args, **call.kwargs, return_dict=False)
        if before is not None:
            tile = vae.blend_t(before, tile[:, :, 1:] if drop_first else tile[:, :, :-1], overlap)
        ready = vae.tile_sample_stride_num_frames + (before is None)
        before = tile
        yield tile[:, :, : min(ready, left)]
        left -= min(ready, tile.shape[2], left)
        if not left:
            return


def _windows(vae: Any, latent: Tensor, call: Call, *, reach: int) -> Iterator[Tensor]:
    """Windows of a decoder whose frames see no latent farther off than ``reach``: they overlap by as much as what is
    near a cut needs, and each gives the frames that no cut touches; one is held at a time."""
    ratio = vae.temporal_compression_ratio
    for start in range(0, latent.shape[2], 2 * reach):
        stop, first = min(start + 2 * reach, latent.shape[2]), max(start - reach, 0)
        window = latent[:, :, first : stop + reach]
        (decoded,) = vae.decode(window, *call.args, **call.kwargs, return_dict=False)
        before = ratio * (start - first - 1) + 1 if start else 0  # the first latent of all stands for one frame
        for part in decoded[:, :, before : ratio * (stop - first - 1) + 1].split(ratio, dim=2):
            yield part.clone()  # so that who still holds a part does not hold the window while the next is decoded
        del decoded, part


def _reach(vae: Any) -> int | None:
    """How many latents away a frame of LTX's decoder sees; None where it draws noise, which no two calls share."""
    if any(vae.config.decoder_inject_noise):
        return None
    reach, rate, faster = 0.0, 1, 1
    for module in vae.decoder.modules():  # in the order in which they run, but for an upsampler's own convolution
        kind = type(module).__name__
        if kind == "LTXVideoUpsampler3d":
            faster = module.stride[0]
        elif kind == "LTXVideoCausalConv3d":
            reach += (module.kernel_size[0] - 1) / (rate if module.is_causal else 2 * rate)
            rate, faster = rate * faster, 1
    return math.ceil(reach)


def split_for(vae: Any, call: Call) -> Split | None:
    """How to decode in parts what ``decode`` would decode at once to the same frames; None where that is not known.

    The result, called with the autoencoder, the latent and the call, yields tensors ``(1, 3, F, H, W)``, or
    ``(N, 3, H, W)`` of a decoder of single frames, in the decoder's own range; use it without gradients.
    """
    name, tiled = type(vae).__name__, getattr(vae, "use_tiling", False)
    if name in ("AutoencoderKL", "AutoencoderTiny", "AsymmetricAutoencoderKL"):
        return _one_by_one
    if name == "AutoencoderKLTemporalDecoder":
        return _whole  # the pipeline has cut the clip already
    if name in ("AutoencoderKLWan", "AutoencoderKLCogVideoX") and not tiled:
        return _wan if name == "AutoencoderKLWan" else _cogvideox
    in_time = {"AutoencoderKLLTXVideo": False, "AutoencoderKLLTX2Video": False, "AutoencoderKLHunyuanVideo": True}
    if name in in_time and vae.use_framewise_decoding:
        if call.latent.shape[2] > vae.tile_sample_min_num_frames // vae.temporal_compression_ratio:
            return partial(_tiles_in_time, drop_first=in_time[name])
        return _whole  # shorter than one tile
    if name == "AutoencoderKLLTXVideo" and (reach := _reach(vae)) is not None and reach <= _FAR:
        return partial(_windows, reach=reach) if call.latent.shape[2] > 4 * reach else _whole  # shorter than a window
    return None


def decode_parts(pipe: Any, call: Call, split: Split | None) -> Iterator[Tensor]:
    """What one call of ``decode`` returns, in parts."""
    import torch

    if pipe.vae.dtype != call.dtype:
        pipe.vae.to(dtype=call.dtype)
    parts = torch.no_grad()(split or _whole)
    yield from parts(pipe.vae, call.latent, call)
    pipe.maybe_free_model_hooks()


def _onload(vae: Any) -> None:
    """What diffusers does on ``decode`` where a model is offloaded as a whole."""
    hook: Any = getattr(vae, "_hf_hook", None)
    if hasattr(hook, "pre_forward"):
        hook.pre_forward(vae)


@contextmanager
def replaced(target: Any, name: str, value: Any) -> Iterator[None]:
    """Sets an attribute of the object itself, whatever its class has, for the block."""
    own = vars(target).get(name)
    setattr(target, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(target, name)
        else:
            setattr(target, name, own)
