"""The decode hook on every autoencoder of the installed diffusers: each is known, and marked once, exactly."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm.decoding import (  # noqa: E402
    BLENDING_PIPELINES,
    LAYOUTS,
    PICTURELESS,
    mark_decoder,
    video_autoencoders,
    video_pipelines,
)
from genwm.marking import Mark, mark_frames  # noqa: E402
from tests.clips import KEY, PAYLOAD  # noqa: E402
from tests.genwm.pipelines.autoencoders import TINY, autoencoder, latents  # noqa: E402

MARKS = Mark(KEY, PAYLOAD, "strong"), Mark(KEY, PAYLOAD + 1, "strong")
FRAMES_PER_ITEM = 3  # of the single-frame latents in TINY
# What diffusers 0.42 cannot do: two videos at once (tiles or a mask of one item); slices (a cache left from the
# first); tiles (the switch is there, and changes nothing or nothing yet).
ONE_BY_ONE = {"AutoencoderKLAllegro", "AutoencoderKLHunyuanVideo15"}
NO_SLICES = {"AutoencoderKLMagvit"}
NO_TILES = {"AutoencoderKLAllegro", "AutoencoderKLCosmos", "AutoencoderKLKVAEVideo", "ConsistencyDecoderVAE"}
#: Those that a CPU decodes quickly in half precision: single frames, a patch decoder, range [0, 1].
HALF = ["AutoencoderKL", "AutoencoderKLLTXVideo", "AutoencoderRAE"]

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers warns of its own plans
torch.set_num_threads(1)


def tensor(result: Any) -> torch.Tensor:
    return result if isinstance(result, torch.Tensor) else result[0]


def decode(model: Any, name: str, **options: Any) -> Any:
    torch.manual_seed(0)  # some decoders draw noise
    with torch.no_grad():
        return model.decode(latents(name).to(next(model.parameters()).dtype), **TINY[name].options, **options)


def expected(plain: torch.Tensor, name: str, marks: tuple[Mark, ...]) -> torch.Tensor:
    """What ``mark_frames`` makes of a decoder's output, in the decoder's own range."""
    layout = LAYOUTS[name]
    plain = layout.arranged(plain)
    items = plain.float().transpose(1, 2) if layout.video else plain.float().unflatten(0, (-1, FRAMES_PER_ITEM))
    offset, scale = (torch.tensor(values).view(3, 1, 1) for values in (layout.offset, layout.scale))
    marked = torch.stack([
        (mark_frames((item * scale + offset).clamp(0, 1), marks[number % len(marks)]) - offset) / scale
        for number, item in enumerate(items)
    ])
    return layout.arranged(marked.transpose(1, 2)) if layout.video else marked.flatten(0, 1)


def small_tiles(model: Any, name: str, pictures: torch.Tensor) -> None:
    """Tiles of about half the picture, which overlap."""
    model.enable_tiling()
    rows = TINY[name].latents[-2]
    factor = pictures.shape[-2] // rows
    tile = max(2, rows // 2)
    for attribute, value in {
        "tile_sample_min_height": tile * factor, "tile_sample_min_width": tile * factor,
        "tile_sample_stride_height": (tile - 1) * factor, "tile_sample_stride_width": (tile - 1) * factor,
        "tile_sample_min_overlap_height": factor, "tile_sample_min_overlap_width": factor,
        "tile_latent_min_height": tile, "tile_latent_min_width": tile,
        "tile_sample_min_size": tile * factor, "tile_latent_min_size": tile,
    }.items():
        if hasattr(model, attribute):
            setattr(model, attribute, value)


# --- coverage


def test_every_class_with_a_decode_is_known() -> None:
    assert set(video_autoencoders()) - set(LAYOUTS) - set(PICTURELESS) == set()
    assert not set(LAYOUTS) & set(PICTURELESS)


def test_every_known_class_is_tested() -> None:
    assert set(TINY) == set(LAYOUTS)


def test_pipelines_are_found() -> None:
    found = set(video_pipelines())
    assert {"WanPipeline", "StableVideoDiffusionPipeline", "AnimateDiffPipeline", "TextToVideoSDPipeline"} <= found
    assert found >= BLENDING_PIPELINES
    assert "StableDiffusionPipeline" not in found


# --- marking


@pytest.mark.parametrize("name", sorted(TINY))
def test_pictures_are_marked_once_and_no_longer_when_detached(name: str) -> None:
    model = autoencoder(name)
    if name in ONE_BY_ONE:
        model.enable_slicing()
    plain = tensor(decode(model, name))
    wanted = expected(plain, name, MARKS[:1])
    assert float((wanted - plain.clamp(-1, 1)).abs().max()) > 2e-3
    returns = [{}] if name == "AutoencoderVidTok" else [{"return_dict": True}, {"return_dict": False}]
    for options in returns:
        with mark_decoder(model, MARKS[0]) as hook:
            result = decode(model, name, **options)
        assert isinstance(result, tuple) is (options.get("return_dict") is False)
        torch.testing.assert_close(tensor(result), wanted, rtol=0, atol=2e-5)
        frames = LAYOUTS[name].arranged(plain).shape[2] if LAYOUTS[name].video else 1
        assert hook.frames_marked == plain.shape[0] * frames
    assert torch.equal(tensor(decode(model, name)), plain)
    assert "decode" not in vars(model)


@pytest.mark.parametrize("name", sorted(TINY))
def test_tiles_and_slices_are_marked_as_a_whole_each_item_with_its_own_payload(name: str) -> None:
    model = autoencoder(name)
    if hasattr(model, "use_slicing") and name not in NO_SLICES:
        model.enable_slicing()
    whole = tensor(decode(model, name))
    tiles = hasattr(model, "use_tiling") and name not in NO_TILES
    if tiles:
        small_tiles(model, name, whole)
    plain = tensor(decode(model, name)) if tiles else whole
    assert torch.equal(plain, whole) is not tiles
    with mark_decoder(model, MARKS, frames_per_item=FRAMES_PER_ITEM):
        result = tensor(decode(model, name))
    torch.testing.assert_close(result, expected(plain, name, MARKS), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", HALF)
def test_half_precision_stays(name: str) -> None:
    model = autoencoder(name).to(torch.bfloat16)
    plain = tensor(decode(model, name))
    with mark_decoder(model, MARKS[0]):
        result = tensor(decode(model, name))
    assert result.dtype == plain.dtype
    scale = max(LAYOUTS[name].scale)
    torch.testing.assert_close(result.float(), expected(plain, name, MARKS[:1]), rtol=0, atol=2**-8 / scale)
