"""Clips that are decoded in parts: the same frames as of the undivided run, and what goes wrong on the way.

The pipelines are small, with random weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from genwm import generation, pipelines  # noqa: E402
from genwm.decoding import mark_decoder  # noqa: E402
from genwm.errors import BudgetError, InputError, MissingExtraError, SizeError  # noqa: E402
from genwm.generation import Request, call_arguments, generate  # noqa: E402
from genwm.latents import Call, split_for  # noqa: E402
from genwm.marking import Mark  # noqa: E402
from genwm.tiny import autoencoder as tiny  # noqa: E402
from genwm.tiny import text  # noqa: E402
from genwm.video import write_image  # noqa: E402
from tests.clips import KEY, PAYLOAD, make_clip, scene  # noqa: E402
from tests.genwm.pipelines import folders  # noqa: E402
from tests.genwm.pipelines.autoencoders import autoencoder  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)

MARK = Mark(KEY, PAYLOAD, "strong")
FAMILIES = ("animatediff", "cogvideox", "ltx", "wan")
SIZES = {"width": 64, "height": 64, "steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: folders.save(getattr(folders, name), root / name) for name in FAMILIES}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "in.png"
    write_image(path, scene(80, 64, 1)[0])
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "in.mp4"
    make_clip(path, width=64, height=64, frames=12)
    return path


@pytest.fixture
def ltx(models: dict[str, Path]) -> pipelines.Loaded:
    return pipelines.load(models["ltx"])


def frames(clip: generation.Clip) -> np.ndarray[Any, Any]:
    return np.stack(list(clip.frames)).astype(int)


def undivided(loaded: pipelines.Loaded, request: Request) -> np.ndarray[Any, Any]:
    """The clip as the pipeline itself makes it, with the decode hook."""
    made = torch.Generator("cpu").manual_seed(request.seed)
    with mark_decoder(loaded.pipe, MARK):
        clip = loaded.pipe(**call_arguments(loaded, request), generator=made).frames[0]
    return (clip.float() * 255).round().permute(0, 2, 3, 1).numpy().astype(int)


# --- the frames


def test_words_that_a_model_does_not_know_are_told(ltx: pipelines.Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    known = text.tokenizer()
    monkeypatch.setattr(ltx.pipe, "tokenizer", known, raising=False)
    told = generation._unknown(ltx.pipe, "Two red cars, zebras & a bus on Mars; ZEBRAS")
    assert told == ("The model does not know, and ignores: Two, zebras, Mars.",)
    assert generation._unknown(ltx.pipe, "a red car drives to the right; it's a man's, \u2013 I see") == ("The model "
        "does not know, and ignores: see.",)  # fmt: skip
    assert generation._unknown(ltx.pipe, "a T-shirt, \u0939\u093f\u0928\u094d\u0926\u0940")[0].endswith(
        ": T-shirt, \u0939\u093f\u0928\u094d\u0926\u0940.")
    many = " ".join(f"word{number}" for number in range(12))
    assert generation._unknown(ltx.pipe, many)[0].endswith("word7 and 4 more.")
    known.unk_token = known.eos_token  # as CLIP's, which spells every word
    assert generation._unknown(ltx.pipe, "zebras") == ()


def test_a_word_that_is_known_in_part_is_not_called_ignored(
    ltx: pipelines.Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a vocabulary of pieces, as T5 has one, what stands alone for the space before a word is no part of it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.Unigram([("<unk>", 0.0), ("\u2581", -2.0), ("cat", -1.0), ("d", -3.0)], 0, False))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
    monkeypatch.setattr(ltx.pipe, "tokenizer", pieces, raising=False)
    assert generation._unknown(ltx.pipe, "cat \u0141\xf3d\u017a \u732b\u304c\u8d70\u308b") == (
        "The model does not know, and ignores: \u732b\u304c\u8d70\u308b.",)


def test_a_video_that_leaves_nothing_to_generate_is_told(models: dict[str, Path], video: Path) -> None:
    loaded = pipelines.load(models["ltx"], task="video")
    longer, same = (generate(loaded, Request(prompt="a red car", frames=count, video=video, **SIZES), MARK).note
                    for count in (17, 9))  # fmt: skip
    assert "All 9 frames are the video's" in same
    assert "are the video's" not in longer
    other = pipelines.load(models["cogvideox"], task="video")  # denoises the video itself
    assert "are the video's" not in generate(other, Request(prompt="a car", video=video, **SIZES), MARK).note


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_the_undivided_run(models: dict[str, Path], family: str) -> None:
    loaded = pipelines.load(models[family])
    request = Request(prompt="a red car", frames=17, **SIZES)
    told: list[float] = []
    clip = generate(loaded, request, MARK, progress=told.append)
    assert clip.in_parts == (family != "ltx")
    assert ("decodes the clip as a whole" in clip.note) == (family == "ltx")
    assert clip.fps == (25 if family == "ltx" else generation.DEFAULT_FPS)
    made = frames(clip)
    assert made.shape == (17, 64, 64, 3)
    assert made.std() > 5
    assert np.abs(made - undivided(loaded, request)).max() <= 1
    assert (told, clip.settings["steps"]) == ([0.5, 1.0], 2)


@pytest.mark.parametrize(
    ("family", "task", "name"),
    [
        ("ltx", "image", "LTXImageToVideoPipeline"),
        ("ltx", "video", "LTXConditionPipeline"),
        ("cogvideox", "video", "CogVideoXVideoToVideoPipeline"),
        ("animatediff", "video", "AnimateDiffVideoToVideoPipeline"),
    ],
)
def test_clips_from_pictures_and_videos(
    models: dict[str, Path], picture: Path, video: Path, family: str, task: pipelines.Task, name: str
) -> None:
    loaded = pipelines.load(models[family], task=task)
    assert loaded.name == name
    request = Request(prompt="a red car", frames=9, **{task: picture if task == "image" else video}, **SIZES)
    made = frames(generate(loaded, request, MARK))
    assert made.shape == (9, 64, 64, 3)
    assert np.abs(made - undivided(loaded, request)).max() <= 1


def test_an_input_video_fills_the_latent(models: dict[str, Path], video: Path) -> None:
    """12 frames hold one and two groups of four; the rest would be refused by the autoencoder."""
    loaded = pipelines.load(models["cogvideox"], task="video")
    assert len(call_arguments(loaded, Request(prompt="a car", video=video))["video"]) == 9


def test_what_a_clip_starts_from_is_cut_to_its_shape(models: dict[str, Path], picture: Path, video: Path) -> None:
    ltx, wan = (pipelines.load(models[name], task=task) for name, task in (("ltx", "image"), ("wan", "video")))
    square = {"prompt": "a car", "width": 64, "height": 64}
    assert call_arguments(ltx, Request(image=picture, **square))["image"].size == (64, 64)  # of 80 x 64
    assert call_arguments(wan, Request(video=video, **square | {"height": 32}))["video"][0].size == (64, 32)


def test_a_picture_needs_no_words(models: dict[str, Path], picture: Path) -> None:
    loaded = pipelines.load(models["ltx"], task="image")
    assert frames(generate(loaded, Request(image=picture, frames=9, **SIZES), MARK)).shape == (9, 64, 64, 3)


def test_a_share_of_the_steps_is_at_least_one(models: dict[str, Path], video: Path) -> None:
    loaded = pipelines.load(models["wan"], task="video")
    with pytest.raises(InputError, match=r"Expected --steps 2 or more for WanVideoToVideoPipeline, which takes 0\.8"):
        call_arguments(loaded, Request(prompt="a car", video=video, steps=1))
    assert call_arguments(loaded, Request(prompt="a car", video=video, steps=2))["num_inference_steps"] == 2


def test_a_clip_may_be_played_at_another_rate_than_it_is_drawn_at(ltx: pipelines.Loaded) -> None:
    request = Request(prompt="a red car", frames=9, fps=25, played=8, **SIZES)
    assert call_arguments(ltx, request)["frame_rate"] == 25
    assert generate(ltx, request, MARK).fps == 8


def test_a_seed_is_a_clip(ltx: pipelines.Loaded) -> None:
    one, same, other = (
        frames(generate(ltx, Request(prompt="a red car", frames=9, **(SIZES | {"seed": seed})), MARK))
        for seed in (5, 5, 6)
    )
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize(
    ("name", "config", "shape"),
    [
        ("AutoencoderKLWan", {}, (1, 4, 4, 4, 6)),
        ("AutoencoderKLWan", {"patch_size": 2, "in_channels": 12, "out_channels": 12, "is_residual": True},
         (1, 4, 3, 4, 6)),
        ("AutoencoderKLCogVideoX", {}, (1, 4, 5, 4, 6)),
        ("AutoencoderKLCogVideoX", {}, (1, 4, 1, 4, 6)),
        ("AutoencoderKLCogVideoX", {}, (1, 4, 4, 4, 6)),
        ("AutoencoderKLLTXVideo", {}, (1, 8, 7, 2, 3)),
        ("AutoencoderKLLTXVideo", {}, (1, 8, 6, 2, 3)),
        ("AutoencoderKLLTX2Video", {}, (1, 8, 7, 2, 3)),
        ("AutoencoderKLHunyuanVideo", {}, (1, 4, 9, 4, 6)),
        ("AutoencoderKLHunyuanVideo", {}, (1, 4, 2, 4, 6)),
        ("AutoencoderKL", {}, (5, 4, 4, 6)),
        ("AutoencoderTiny", {}, (5, 4, 4, 6)),
    ],
)
def test_parts_add_up_to_the_whole(name: str, config: dict[str, Any], shape: tuple[int, ...]) -> None:
    vae: Any = autoencoder(name, **config)
    if hasattr(vae, "tile_sample_min_num_frames"):
        vae.use_framewise_decoding = True
        vae.tile_sample_min_num_frames = 3 * vae.temporal_compression_ratio
        vae.tile_sample_stride_num_frames = 2 * vae.temporal_compression_ratio
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    call = Call(latent, (), {}, torch.float32)
    split = split_for(vae, call)
    assert split is not None
    with torch.no_grad():
        whole = vae.decode(latent).sample
        parts = list(split(vae, latent, call))
    assert len(parts) > 1 or latent.shape[2] < 3
    torch.testing.assert_close(torch.cat(parts, dim=2 if latent.ndim == 5 else 0), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("vae", [
    tiny.build(widths=(8, 8, 8, 8), channels=8, width=32), autoencoder("AutoencoderKLLTXVideo"),
    autoencoder("AutoencoderKLLTXVideo", decoder_causal=True),
], ids=["the embedded one's shape", "LTX", "causal"])
def test_windows_of_a_shallow_decoder_are_the_whole(vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genwm.latents._FAR", 18)
    with torch.no_grad():
        for weight in vae.decoder.parameters():
            weight.mul_(2)  # so that far latents are felt
        latent = torch.randn((1, 8, 75, 1, 2), generator=torch.Generator().manual_seed(1))
        seen: list[int] = []
        decode, call = vae.decode, Call(latent, (), {}, torch.float32)
        whole = decode(latent).sample
        split = split_for(vae, call)
        assert split is not None
        vae.decode = lambda part, **options: seen.append(part.shape[2]) or decode(part, **options)
        parts = list(split(vae, latent, call))
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=1e-4)
    assert max(seen) < 75
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)


def test_what_is_decoded_whole_is_said_to_be() -> None:
    deep = {"decoder_layers_per_block": (4, 3, 3, 3, 4)}
    noisy = {"decoder_inject_noise": (True,) * 5, "decoder_layers_per_block": (0, 0, 0, 0, 0)}
    for name, config, shape in (("AutoencoderKLMochi", {}, (1, 4, 4, 4, 6)),
                                ("AutoencoderKLLTXVideo", deep, (1, 8, 7, 2, 3)),
                                ("AutoencoderKLLTXVideo", noisy, (1, 8, 7, 2, 3))):
        assert split_for(autoencoder(name, **config), Call(torch.zeros(shape), (), {}, torch.float32)) is None
    tiled: Any = autoencoder("AutoencoderKLWan")
    tiled.enable_tiling()
    assert split_for(tiled, Call(torch.zeros(1, 4, 4, 4, 6), (), {}, torch.float32)) is None


def test_only_a_part_is_held_at_a_time(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come out before the rest of the latent is decoded."""
    loaded = pipelines.load(models["wan"])
    done: list[int] = []
    forward = loaded.pipe.vae.decoder.forward
    monkeypatch.setattr(loaded.pipe.vae.decoder, "forward", lambda *a, **k: done.append(1) or forward(*a, **k))
    clip = generate(loaded, Request(prompt="a red car", frames=17, **SIZES), MARK)
    assert not done
    next(clip.frames)
    assert len(done) == 1
    assert len(list(clip.frames)) == 16
    assert len(done) == 5


def _brightened(pipe: Any) -> None:
    process = pipe.video_processor.postprocess_video
    pipe.video_processor.postprocess_video = lambda *args, **options: process(*args, **options) * 0.5 + 0.25


def _shortened(pipe: Any) -> None:
    process = pipe.video_processor.postprocess_video
    pipe.video_processor.postprocess_video = lambda video, **options: process(video[:, :, :9], **options)


def _encoding_again(pipe: Any) -> None:
    process = pipe.video_processor.postprocess_video

    def again(video: Any, **options: Any) -> Any:
        pipe.vae.encode(video)
        return process(video, **options)

    pipe.video_processor.postprocess_video = again


def _checked(pipe: Any) -> None:
    pipe.safety_checker = object()


@pytest.mark.parametrize(
    ("change", "reason", "count"),
    [(_brightened, "changes the frames after", 9), (_shortened, "changes the frames after", 9),
     (_encoding_again, "goes on after it has decoded", 9), (_checked, "safety checker", 9)],
)
def test_pipelines_that_do_not_decode_last_run_undivided(
    ltx: pipelines.Loaded, change: Any, reason: str, count: int
) -> None:
    change(ltx.pipe)
    request = Request(prompt="a red car", frames=9, **SIZES)
    clip = generate(ltx, request, MARK)
    assert not clip.in_parts
    assert reason in clip.note
    made = frames(clip)
    assert len(made) == count
    assert np.abs(made - undivided(ltx, request)).max() == 0


def test_nothing_stays_on_the_pipeline(ltx: pipelines.Loaded) -> None:
    frames(generate(ltx, Request(prompt="a red car", frames=9, **SIZES), MARK, progress=lambda fraction: None))
    assert "progress_bar" not in vars(ltx.pipe)
    assert {"decode", "encode"}.isdisjoint(vars(ltx.pipe.vae))
    assert not ltx.pipe.transformer._forward_pre_hooks


def test_clips_in_half_precision(models: dict[str, Path]) -> None:
    loaded = pipelines.load(models["wan"], dtype="bfloat16")
    clip = generate(loaded, Request(prompt="a red car", frames=9, **SIZES), MARK)
    assert clip.in_parts
    assert frames(clip).shape == (9, 64, 64, 3)


# --- what goes in, and what goes wrong


class Plain:
    """A pipeline that takes little."""

    def __call__(self, prompt: str, num_frames: int = 4, frame_rate: int = 8, output_type: str = "pil") -> None: ...


PLAIN = pipelines.Loaded(Plain(), "plain", None, "text", "cpu", "float32")


def test_settings_reach_the_call() -> None:
    assert call_arguments(PLAIN, Request(prompt="a car", frames=9, fps=12.5)) == {
        "prompt": "a car", "num_frames": 9, "frame_rate": 12.5, "output_type": "pt"}
    assert call_arguments(PLAIN, Request(prompt="")) == {"prompt": "", "output_type": "pt"}


@pytest.mark.parametrize(
    ("setting", "option"),
    [({"guidance": 2.0}, "--guidance"), ({"width": 64}, "--width"), ({"steps": 3}, "--steps"),
     ({"negative_prompt": "rain"}, "--negative-prompt")],
)
def test_settings_that_a_pipeline_does_not_take(setting: dict[str, Any], option: str) -> None:
    with pytest.raises(InputError, match=f"Expected settings that Plain takes, got {option}; leave it out"):
        call_arguments(PLAIN, Request(prompt="a car", **setting))


def test_a_missing_package_is_named(ltx: pipelines.Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **options: object) -> None:
        raise NameError("name 'ftfy' is not defined", name="ftfy")

    monkeypatch.setattr(ltx.pipe, "encode_prompt", fails)
    with pytest.raises(MissingExtraError, match="run: pip install ftfy"):
        generate(ltx, Request(prompt="a red car", frames=9, **SIZES), MARK)


def test_sizes_that_the_model_cannot_make(ltx: pipelines.Loaded) -> None:
    with pytest.raises(SizeError, match="which is what LTXPipeline can make, got 100; use --width 96 or 128"):
        generate(ltx, Request(prompt="a red car", frames=9, **(SIZES | {"width": 100})), MARK)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
     torch.OutOfMemoryError("CUDA out of memory.")],
)
def test_out_of_memory_names_the_savers(
    ltx: pipelines.Loaded, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(ltx.pipe.transformer, "forward", fails)
    with pytest.raises(BudgetError, match=r"--quantize int4, --saver tiling.*a smaller size"):
        generate(ltx, Request(prompt="a red car", frames=9, **SIZES), MARK)
    monkeypatch.undo()
    clip = generate(ltx, Request(prompt="a red car", frames=9, **SIZES), MARK)
    monkeypatch.setattr(ltx.pipe.vae.decoder, "forward", fails)
    with pytest.raises(BudgetError):
        next(clip.frames)


def test_pictures_that_are_not_numbers_are_refused(ltx: pipelines.Loaded) -> None:
    ltx.pipe.transformer.proj_out.weight.data.fill_(torch.nan)  # as where half precision overflows
    clip = generate(ltx, Request(prompt="a red car", frames=9, **SIZES), MARK)
    with pytest.raises(InputError, match=r"Expected pictures from LTXPipeline, got values .* lower") as told:
        next(clip.frames)
    assert "--dtype" not in str(told.value)  # it is float32 already
    half = replace(ltx, dtype="float16")
    with pytest.raises(InputError, match="use --dtype float32, which has room for larger ones, or a lower --guidance"):
        next(generate(half, Request(prompt="a red car", frames=9, **SIZES), MARK).frames)


def test_weights_that_were_trained_for_another_task(models: dict[str, Path], picture: Path) -> None:
    loaded = pipelines.load(models["cogvideox"], task="image")
    with pytest.raises(InputError, match="Expected weights for making video from images"):
        generate(loaded, Request(prompt="a red car", image=picture, frames=9, **SIZES), MARK)
