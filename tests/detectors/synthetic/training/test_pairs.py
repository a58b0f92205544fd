"""Pairs of footage and its way through a decoder: they differ by the decoder's trace and by nothing else."""

from __future__ import annotations

from itertools import starmap

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="pairs are not tested: they need the extra 'train'")

from detectors.synthetic.canonical import Stack  # noqa: E402
from detectors.synthetic.training.autoencoders import Autoencoder, random_shape  # noqa: E402
from detectors.synthetic.training.pairs import (  # noqa: E402
    FRAMES,
    SIDE,
    delivered,
    frames_of,
    from_tensor,
    make_pairs,
    pan,
    through,
    to_tensor,
)
from genwm.scenes import scene  # noqa: E402

torch.set_num_threads(1)  # threads only wait for each other on small pictures


@pytest.fixture(scope="module")
def footage() -> NDArray[np.uint8]:
    return scene(SIDE, SIDE, FRAMES, seed=4)


@pytest.fixture(scope="module")
def untrained() -> list[Autoencoder]:
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    return [Autoencoder(random_shape(generator, number)).eval() for number in range(2)]


class Scaled(torch.nn.Module):
    """An autoencoder whose trace is known: it multiplies."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, pictures: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
        return pictures * self.factor


def same(one: Stack, other: Stack) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "yuv")


def test_every_value_survives_the_way_to_a_tensor_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(2, 8, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(frames)
    assert (tensor.shape, float(tensor.min()), float(tensor.max())) == ((2, 3, 8, 16), -1, 1)
    np.testing.assert_array_equal(from_tensor(tensor), frames)
    assert from_tensor(tensor * 3)[0, 0, 0, 0] == 0  # beyond the range is cut, not wrapped
    assert from_tensor(tensor * 3)[-1, -1, -1, 0] == 255


@pytest.mark.parametrize("seed", range(6))
def test_a_pan_moves_over_the_photograph_by_whole_pixels(seed: int) -> None:
    height, width = 180, 200
    # Each pixel says where it is; the blur of a lens leaves a slope as it is.
    picture = np.stack([*np.mgrid[:height, :width], np.zeros((height, width))], axis=2).astype(np.uint8)
    frames = pan(picture, np.random.default_rng(seed))
    assert frames is not None
    assert (frames.shape, frames.dtype) == ((FRAMES, SIDE, SIDE, 3), np.uint8)
    inside = frames[:, 4:-4, 4:-4, :2].astype(int)
    np.testing.assert_array_equal(np.diff(inside[..., 0], axis=1), 1)
    np.testing.assert_array_equal(np.diff(inside[..., 1], axis=2), 1)
    steps = np.diff(inside, axis=0).reshape(-1, 2)
    assert np.all(steps == steps[0])
    assert np.all((steps[0] >= 0) & (steps[0] <= 3))
    np.testing.assert_array_equal(pan(picture, np.random.default_rng(seed)), frames)


def test_a_pan_needs_room() -> None:
    least = SIDE + 3 * (FRAMES - 1)
    generator = np.random.default_rng(0)
    assert pan(np.zeros((least, least, 3), np.uint8), generator) is not None
    assert pan(np.zeros((least - 1, least, 3), np.uint8), generator) is None
    assert pan(np.zeros((least, least - 1, 3), np.uint8), generator) is None


@pytest.mark.parametrize("seed", range(4))
def test_an_autoencoder_leaves_size_and_coarse_picture_as_they_were(
    seed: int, footage: NDArray[np.uint8], untrained: list[Autoencoder]
) -> None:
    frames = to_tensor(footage)
    torch.manual_seed(seed)
    restored = through(untrained[:1], frames, np.random.default_rng(seed))
    assert restored.shape == frames.shape

    def coarse(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures, 16)

    with torch.inference_mode():
        lost = (coarse(untrained[0](frames)) - coarse(frames)).abs().mean()
    assert (coarse(restored) - coarse(frames)).abs().mean() < 0.1 * lost
    assert (restored - frames).abs().mean() > 0.01  # the details are the decoder's


def test_a_way_without_a_trace_changes_nothing(footage: NDArray[np.uint8]) -> None:
    frames = to_tensor(footage)
    for seed in range(4):
        restored = through([Scaled(), Scaled()], frames, np.random.default_rng(seed))
        torch.testing.assert_close(restored, frames, rtol=0, atol=1e-5)


def test_details_get_their_strength_back_half_of_the_time(footage: NDArray[np.uint8]) -> None:
    """So that a lack of detail alone tells nothing."""
    frames = to_tensor(footage)
    strengths = []
    for seed in range(40):
        restored = through([Scaled(0.5)], frames, np.random.default_rng(seed))
        strengths.append(bool((restored - frames).abs().max() < 1e-4))
    assert 10 < sum(strengths) < 30


def test_equal_generators_deliver_equally(footage: NDArray[np.uint8]) -> None:
    shapes = set()
    for seed in range(12):
        stack = delivered(footage, np.random.default_rng(seed))
        assert len(stack) == FRAMES
        assert same(stack, delivered(footage, np.random.default_rng(seed)))
        shapes.add(stack.y.shape[1:])
    assert (SIDE, SIDE) in shapes
    assert len(shapes) > 1  # now and then at another size
    assert all(side % 2 == 0 for shape in shapes for side in shape)


def test_pairs_differ_by_the_trace_alone(footage: NDArray[np.uint8], untrained: list[Autoencoder]) -> None:
    bases = [footage, footage[:, ::-1].copy()]
    without = list(make_pairs(bases, [Scaled(), Scaled()], per_base=2, seed=5))
    assert len(without) == 4
    assert all(same(*pair) for pair in without)
    for real, fake in make_pairs(bases, untrained, per_base=1, seed=5):
        assert real.y.shape == fake.y.shape
        assert not same(real, fake)


def test_pairs_are_drawn_from_the_seeds(footage: NDArray[np.uint8], untrained: list[Autoencoder]) -> None:
    def made(seed: int) -> list[Stack]:
        torch.manual_seed(seed)
        return [stack for pair in make_pairs([footage] * 2, untrained, per_base=1, seed=seed) for stack in pair]

    assert all(starmap(same, zip(made(1), made(1), strict=True)))
    assert not all(starmap(same, zip(made(1), made(2), strict=True)))


def test_frames_are_a_part_of_the_stack_that_holds_them() -> None:
    rows, columns = np.mgrid[:160, :180]
    luma = np.stack([16 + rows // 2 + columns // 2 + index for index in range(6)]).astype(np.uint8)
    grey = np.full((6, 80, 90), 128, np.uint8)
    stack = Stack(luma, grey, grey)
    frames = frames_of(stack, np.random.default_rng(0))
    assert frames is not None
    assert (frames.shape, frames.dtype) == ((FRAMES, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(frames[..., 0], frames[..., 2])  # grey stays grey
    spots = set()
    for seed in range(8):
        part = frames_of(stack, np.random.default_rng(seed))
        assert part is not None
        spots.add(int(part[0, 0, 0, 0]))
    assert len(spots) > 1
    np.testing.assert_array_equal(frames, frames_of(stack, np.random.default_rng(0)))
    assert frames_of(stack.cut(0, 0, SIDE - 2, SIDE), np.random.default_rng(0)) is None
    assert frames_of(Stack(luma[:3], grey[:3], grey[:3]), np.random.default_rng(0)) is None
