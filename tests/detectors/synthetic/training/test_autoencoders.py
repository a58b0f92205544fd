"""Small autoencoders of random shape: what goes in comes out at its size, and training makes it alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="autoencoders are not tested: they need the extra 'train'")

from detectors.synthetic.training.autoencoders import (  # noqa: E402
    UPSAMPLERS,
    Autoencoder,
    Shape,
    Upsampler,
    VideoAutoencoder,
    random_shape,
    train_autoencoder,
)
from detectors.synthetic.training.pairs import to_tensor  # noqa: E402
from genwm.scenes import scene  # noqa: E402

torch.set_num_threads(1)  # threads only wait for each other on small pictures

PLAIN = Shape(stride=4, latent=4, width=12, upsampler="bilinear", kernel=3, residual=False)


def shapes(seed: int) -> list[Shape]:
    generator = np.random.default_rng(seed)
    return [random_shape(generator, number) for number in range(16)]


def test_a_family_of_shapes_is_drawn_from_its_seed_and_has_every_stride_with_every_upsampler() -> None:
    assert shapes(1) == shapes(1) != shapes(2)
    assert {(one.stride, one.upsampler) for one in shapes(1)} == {
        (stride, upsampler) for stride in (4, 8, 16) for upsampler in UPSAMPLERS
    }


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize(("stride", "kernel", "residual"), [(4, 3, False), (8, 5, True), (16, 3, True)])
def test_pictures_come_back_at_their_size(upsampler: Upsampler, stride: int, kernel: int, residual: bool) -> None:
    shape = replace(PLAIN, stride=stride, upsampler=upsampler, kernel=kernel, residual=residual)
    model, pictures = Autoencoder(shape).eval(), torch.rand(2, 3, 3 * stride, 5 * stride) * 2 - 1
    with torch.inference_mode():
        assert model.encoder(pictures).shape == (2, shape.latent, 3, 5)
        assert model(pictures).shape == pictures.shape


def test_noise_on_the_latents_is_drawn_and_grows() -> None:
    torch.manual_seed(0)
    model, pictures = Autoencoder(PLAIN).eval(), torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        plain = model(pictures)
        assert torch.equal(model(pictures), plain)
        little, much = ((model(pictures, noise=noise) - plain).abs().mean() for noise in (0.05, 0.5))
    assert 0 < little < much


def trained(seed: int, steps: int, pictures: torch.Tensor) -> Autoencoder:
    torch.manual_seed(seed)
    return train_autoencoder(PLAIN, pictures, steps=steps, side=32, batch=4)


def test_training_makes_pictures_come_back_alike() -> None:
    pictures = to_tensor(scene(96, 80, 4, seed=2))
    model = trained(1, 150, pictures)
    assert not model.training
    with torch.inference_mode():
        error = (model(pictures) - pictures).abs().mean()
    assert error < 0.75 * (pictures - pictures.mean()).abs().mean()


def test_training_is_drawn_from_the_seed() -> None:
    pictures = to_tensor(scene(96, 80, 4, seed=2))
    model, again, other = (list(trained(seed, 5, pictures).parameters()) for seed in (1, 1, 2))
    assert all(map(torch.equal, model, again))
    assert not any(map(torch.equal, model, other))


@pytest.mark.parametrize("count", [1, 4, 9, 10])
def test_the_generators_own_autoencoder_takes_any_number_of_frames(count: int) -> None:
    model = VideoAutoencoder()
    frames = torch.full((count, 3, 64, 128), -0.5)
    with torch.inference_mode():
        restored = model(frames)
        noisy = model(frames, noise=0.5)
    assert restored.shape == frames.shape
    assert (restored - frames).abs().mean() < 0.1
    assert not torch.equal(noisy, restored)
