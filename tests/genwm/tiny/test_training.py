"""Each step of the recipe, in miniature."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from genwm.errors import InputError  # noqa: E402
from genwm.tiny import autoencoder, components, denoiser, export, latents, text, training  # noqa: E402
from genwm.tiny.data import clip, example  # noqa: E402
from genwm.tiny.scenes import Box  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and transformers warn of their own plans
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Two clips, cut to 9 frames of 128 x 192."""
    return np.stack([clip(number)[1][8:17, 128:256, 128:320] for number in (0, 4)])


@pytest.fixture(scope="module")
def small() -> autoencoder.AutoencoderKLLTXVideo:
    return autoencoder.build(widths=(24, 32, 32, 32), channels=16, width=24, layers=(0, 0, 0, 1))


def test_components_reconstruct_before_any_training(
    frames: np.ndarray, small: autoencoder.AutoencoderKLLTXVideo
) -> None:
    components.fit(small, frames)
    out = autoencoder.decoded(small, autoencoder.encoded(small, frames))
    assert out.shape == frames.shape
    error = np.abs(out.astype(float) - frames).mean()
    plain = np.abs(frames.mean((1, 2, 3), keepdims=True) - frames).mean()
    assert error < 0.5 * plain


def test_the_decoder_learns_and_resumes(
    frames: np.ndarray, small: autoencoder.AutoencoderKLLTXVideo, tmp_path: Path
) -> None:
    boxes = np.zeros((2, 9, 2, 4), np.float32)
    boxes[:, :, 0] = (20, 20, 80, 80)
    encoder = {name: value.clone() for name, value in small.encoder.named_parameters()}
    first = small.decoder.conv_out.conv.weight.clone()
    autoencoder.train(tmp_path, frames, boxes, steps=2, model=small)
    assert not torch.equal(first, small.decoder.conv_out.conv.weight)
    assert all(torch.equal(value, encoder[name]) for name, value in small.encoder.named_parameters())
    kept = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    assert kept["step"] == 2
    again = autoencoder.build(widths=(24, 32, 32, 32), channels=16, width=24, layers=(0, 0, 0, 1))
    autoencoder.train(tmp_path, frames, boxes, steps=2, model=again)
    assert torch.equal(again.decoder.conv_out.conv.weight, small.decoder.conv_out.conv.weight)


def test_the_thin_encoder_gives_the_same_latents(
    frames: np.ndarray, small: autoencoder.AutoencoderKLLTXVideo
) -> None:
    components.fit(small, frames)
    quick = autoencoder.thin(small)
    assert any(isinstance(one, autoencoder._Middle) for one in quick.encoder.modules())
    assert not any(isinstance(one, autoencoder._Middle) for one in small.encoder.modules())
    whole = autoencoder.encoded(small, frames)
    torch.testing.assert_close(autoencoder.encoded(quick, frames), whole, rtol=0.02, atol=0.01 * float(whole.std()))
    with torch.no_grad():
        small.encoder.conv_in.conv.weight[0, 0, 0, 0, 0] = 1.0  # no longer the middle alone: kept whole
    assert not isinstance(autoencoder.thin(small).encoder.conv_in.conv, autoencoder._Middle)


def test_losses_are_zero_for_a_perfect_copy_and_weigh_what_moves() -> None:
    target = torch.rand(1, 3, 9, 64, 64)
    weights = torch.ones(1, 1, 9, 64, 64)
    assert all(float(value) == 0 for value in autoencoder.losses(target, target, weights, 1.0).values())
    out = target.clone()
    out[..., :32] += 0.1
    light = autoencoder.losses(out, target, weights)["pixels"]
    weights[..., :32] = 3
    assert float(light) == pytest.approx(0.05, abs=1e-4)
    assert float(autoencoder.losses(out, target, weights)["pixels"]) == pytest.approx(0.075, abs=1e-4)


def test_a_still_place_that_goes_up_and_down_costs_more_than_one_that_is_off() -> None:
    target = torch.rand(1, 3, 1, 64, 64).repeat(1, 1, 9, 1, 1)
    weights = torch.ones(1, 1, 9, 64, 64)
    change = torch.full((1, 1, 9, 1, 1), 0.02)
    assert float(autoencoder.losses(target + change, target, weights, 10.0)["flicker"]) == pytest.approx(0, abs=1e-5)
    change[:, :, 1::2] *= -1
    found = autoencoder.losses(target + change, target, weights, 10.0)["flicker"]
    assert float(found) == pytest.approx(10 * 4 * 0.02, rel=1e-3)
    moving = torch.rand(1, 3, 9, 1, 1).repeat(1, 1, 1, 64, 64)  # all of it goes up and down by itself
    assert float(autoencoder.losses(moving + change, moving, weights, 10.0)["flicker"]) == 0


def test_latents_are_collected_with_what_objects_cover(tmp_path: Path) -> None:
    class Same(torch.nn.Module):  # an encoder whose latents are the clip's mean
        encoder = torch.nn.Identity()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder, "encoded", lambda vae, pictures: torch.full((1, 64, 4, 5, 8), pictures.mean()))
        kept, covered = latents.collect(tmp_path, Same(), 2)  # type: ignore[arg-type]
        patch.setattr(autoencoder, "encoded", None)  # what is there is not made again
        again, _ = latents.collect(tmp_path, Same(), 2)  # type: ignore[arg-type]
    assert np.array_equal(kept, again)
    for number in range(2):
        assert float(kept[number, 0, 0, 0, 0]) == pytest.approx(clip(number)[1].mean(), rel=1e-3)
    assert covered.shape == (2, 4, 5, 8)
    assert covered.max() <= 1 < 100 * covered.max()


def test_cover_is_the_share_of_each_latents_pixels() -> None:
    early, late = Box("car", "red", 64, 96, 160, 192, 0), Box("car", "red", 0, 0, 64, 64, 0)
    shares = latents.cover([[early], *([[]] * 23), [late]])
    first = np.zeros((5, 8))
    first[1, 1:3] = 0.5, 0.25
    first[2, 1:3] = 1.0, 0.5
    assert np.allclose(shares[0], first)
    assert not shares[1:3].any()
    assert shares[3].sum() == shares[3, 0, 0] == 1


def test_normalised_latents_have_unit_power(small: autoencoder.AutoencoderKLLTXVideo) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((8, 16, 2, 2, 3)) * np.geomspace(0.1, 3, 16)[None, :, None, None, None] + 1)
    values = values.astype(np.float16)
    normal = latents.normalise(small, values).astype(np.float32)
    assert np.square(normal).mean() == pytest.approx(1, rel=0.02)
    assert np.abs(normal.mean((0, 2, 3, 4))).max() < 0.02
    back = normal * small.latents_std.numpy()[None, :, None, None, None] \
        + small.latents_mean.numpy()[None, :, None, None, None]
    assert np.allclose(back, values, atol=0.02)


def test_words_and_aliases() -> None:
    words = text.tokenizer()
    assert words.tokenize("A Crimson car, turns LEFT!") == ["a", "red", "car", ",", "moves", "left"]
    assert words.tokenize("two blue buses drive") == ["<unk>", "blue", "bus", "drives"]
    assert words("xylophone").input_ids == [words.unk_token_id, words.eos_token_id]
    seen = {token for number in range(200) for token in words(example(number).caption).input_ids}
    assert words.unk_token_id not in seen


def test_the_text_encoder_learns(tmp_path: Path) -> None:
    words = text.tokenizer()
    encoder = text.train(tmp_path, steps=12, size=16)
    with torch.no_grad():
        hidden, mask = text.outputs(encoder, words, ["a red car drives left", "a ball"])
        masked, _ = text.outputs(encoder, words, ["a ball"], length=20)
        alone, _ = text.outputs(encoder, words, ["a ball"])
    assert hidden.shape == (2, 6, text.WIDTH)
    assert mask.sum(1).tolist() == [6, 3]
    assert torch.allclose(masked[:, :3], alone, atol=1e-5)  # a masked encoder does not see the padding


def test_heads_begin_by_looking_at_their_neighbours() -> None:
    """Without any input, the first block's attention peaks at the offset that each head was given."""
    model = denoiser.build(layers=1)
    block = model.transformer_blocks[0].attn1
    shape = 4, 5, 8
    where = denoiser.coordinates(shape, 1, from_pixels=False)
    cos, sin = model.rope(torch.zeros(1, 160, 64), video_coords=where)
    from diffusers.models.transformers.transformer_ltx import apply_rotary_emb

    query = apply_rotary_emb(block.to_q.bias.expand(1, 160, -1), (cos, sin))
    key = apply_rotary_emb(block.to_k.bias.expand(1, 160, -1), (cos, sin))
    middle = (1 * 5 + 2) * 8 + 3
    found = []
    for head in range(denoiser.HEADS):
        own = slice(head * denoiser.HEAD_WIDTH, (head + 1) * denoiser.HEAD_WIDTH)
        best = int((query[0, middle, own] @ key[0, :, own].T).argmax())
        t, y, x = best // 40, best // 8 % 5, best % 8
        found.append((t - 1, y - 2, x - 3))
    assert tuple(found) == ((0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1), (-1, 0, 0), (1, 0, 0))


def test_the_denoiser_learns_resumes_and_is_exported(tmp_path: Path, small: autoencoder.AutoencoderKLLTXVideo) -> None:
    words = text.tokenizer()
    encoder = text.build(len(words))
    rng = np.random.default_rng(0)
    normal = np.repeat(rng.standard_normal((1, 16, 2, 2, 3)), 8, axis=0).astype(np.float16)
    covered = np.full((8, 2, 2, 3), 0.5, np.float16)
    torch.manual_seed(0)
    model = denoiser.build(heads=3, layers=2, channels=16)
    losses: list[float] = []
    run = training.run

    def watched(path: Path, parts: object, steps: int, step: object, **rest: object) -> int:
        def noting(number: int, progress: float) -> dict[str, float]:
            found = step(number, progress)  # type: ignore[operator]
            losses.append(found["loss"])
            return dict(found)

        return run(path, parts, steps, noting, **rest)  # type: ignore[arg-type]

    patch = pytest.MonkeyPatch()
    patch.setattr(training, "run", watched)
    try:
        denoiser.train(tmp_path, normal, covered, encoder, words, steps=60, size=8, model=model)
    finally:
        patch.undo()
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    folder = tmp_path / "made"
    export.export(small, model, encoder, words, folder)
    parts = export.parts(folder)
    assert parts["transformer"].config.num_layers == 2
    assert export.digests(folder).keys() >= {"model_index.json", "tokenizer/tokenizer.json"}
    from genwm.pipelines import load

    clip_ = load(folder).pipe("a red car", width=192, height=128, num_frames=9, num_inference_steps=2,
                              output_type="np").frames
    assert clip_.shape == (1, 9, 128, 192, 3)


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    words = text.tokenizer()
    vae = autoencoder.build(widths=(24, 32, 32, 32), channels=16, width=24, layers=(0, 0, 0, 1))
    with torch.no_grad():
        vae.encoder.conv_in.conv.bias[0] = 7e4
    with pytest.raises(InputError, match=r"encoder\.conv_in\.conv\.bias of AutoencoderKLLTXVideo, got 70000"):
        export.export(vae, denoiser.build(layers=1, channels=16), text.build(len(words)), words, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_components_stay_within_half_precision(frames: np.ndarray) -> None:
    vae = autoencoder.build(widths=(24, 32, 32, 32), channels=16, width=24, layers=(0, 0, 0, 1))
    components.fit(vae, frames)
    assert max(float(value.detach().abs().max()) for value in vae.encoder.parameters()) < 10_000


def test_a_training_that_stops_goes_on(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    seen: list[int] = []

    def step(number: int, progress: float) -> dict[str, float]:
        assert progress in (number / 3, number / 5)
        seen.append(number)
        with torch.no_grad():
            layer.weight += 1
        return {"loss": 0.0}

    assert training.run(tmp_path / "x.pt", {"model": layer}, 3, step) == 3
    other = torch.nn.Linear(2, 2)
    assert training.run(tmp_path / "x.pt", {"model": other}, 5, step) == 5
    assert seen == [0, 1, 2, 3, 4]
    assert torch.equal(other.weight + 2, layer.weight)


def test_a_training_ends_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    def step(number: int, progress: float) -> dict[str, float]:
        rates.append(training.rate(number, progress, warm_up=1, fall=0.5))
        return {}

    monkeypatch.setattr(training.time, "monotonic", itertools.count(0.0, 1.0).__next__)  # a second between two looks
    assert 20 <= training.run(tmp_path / "x.pt", {}, 10**9, step, minutes=1) <= 60
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1


def test_the_average_begins_with_what_it_sees_and_then_lags() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average = training.Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.fill_(5.0)
        for _ in range(200):
            average.update()
    average.apply()
    assert float(layer.weight) == pytest.approx(5.0, abs=0.01)
