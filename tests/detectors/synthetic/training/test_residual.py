"""The patch network: blind to what a picture shows, and taught by pairs to see a trace."""

from __future__ import annotations

from itertools import starmap

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the patch network is not tested: it needs the extra 'train'")
pytest.importorskip("timm", reason="the patch network is not tested: it needs the extra 'train'")

from detectors.synthetic.canonical import Stack  # noqa: E402
from detectors.synthetic.networks import yuv_of  # noqa: E402
from detectors.synthetic.training import residual  # noqa: E402
from detectors.synthetic.training.residual import ResidualNetwork, train_network  # noqa: E402
from genwm.scenes import scene  # noqa: E402

torch.set_num_threads(1)  # threads only wait for each other on small pictures

SIDE, FRAMES = 96, 2


@pytest.fixture(scope="module")
def pairs() -> list[tuple[Stack, Stack]]:
    """Footage, and the same with a faint grid of two pixels, as an up-sampler may leave it."""
    grid = (np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 4).astype(np.uint8)
    made = []
    for seed in range(4):
        luma = scene(SIDE, SIDE, FRAMES, seed=seed)[..., 1] // 2 + 60
        chroma = np.full((FRAMES, SIDE // 2, SIDE // 2), 128, np.uint8)
        made.append((Stack(luma, chroma, chroma), Stack(luma + grid, chroma, chroma)))
    return made


def untrained() -> ResidualNetwork:
    torch.manual_seed(0)
    return ResidualNetwork().eval()


def logits(model: ResidualNetwork, stack: Stack) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.from_numpy(yuv_of(stack, np.arange(len(stack)))))[0].mean((1, 2))


def test_frames_give_a_map_of_logits_and_an_embedding() -> None:
    model = untrained()
    with torch.inference_mode():
        for height, width in ((64, 64), (96, 160)):
            logits, embedding = model(torch.rand(2, 3, height, width) * 255)
            assert logits.shape == (2, height // 8, width // 8)
            assert embedding.shape == (2, model.trunk.num_features)


def test_brightness_colour_and_slopes_are_not_seen() -> None:
    model = untrained()
    frames = torch.rand(2, 3, 64, 64) * 40 + 60
    slope = torch.linspace(0, 60, 64)
    with torch.inference_mode():
        plain, _ = model(frames)
        for moved in (frames + 30, frames + slope, frames + slope[:, None],
                      frames + torch.tensor([0.0, 20.0, -10.0])[:, None, None]):
            torch.testing.assert_close(model(moved)[0], plain, rtol=0, atol=1e-3)
        assert (model(frames + torch.randn_like(frames) * 4)[0] - plain).abs().max() > 1e-2


def test_training_sees_the_trace_in_footage_that_it_has_not_seen(
    pairs: list[tuple[Stack, Stack]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual, "PAIRS", 4)  # a step
    said: list[str] = []
    model = train_network(pairs[:3], steps=100, seed=3, progress=said.append)
    assert not model.training
    real, fake = (logits(model, stack) for stack in pairs[3])
    assert real.max() < 0 < fake.min()
    (line,) = said
    assert line.startswith("residual network: step 100 of 100, loss 0.")


def test_training_is_drawn_from_the_seed_and_leaves_the_filters_alone(pairs: list[tuple[Stack, Stack]]) -> None:
    model, again, other = (train_network(pairs, steps=2, seed=seed) for seed in (1, 1, 2))
    assert all(starmap(torch.equal, zip(model.parameters(), again.parameters(), strict=True)))
    assert not torch.equal(model.head.weight, other.head.weight)
    assert torch.equal(model.kernels, untrained().kernels)
