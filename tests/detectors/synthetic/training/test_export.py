"""Networks as ONNX files: the numbers of the torch network, whatever the size of the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the export is not tested: it needs the extra 'train'")
onnx = pytest.importorskip("onnx", reason="the export is not tested: it needs the extra 'train'")

from detectors.synthetic.networks import BATCH, Network  # noqa: E402
from detectors.synthetic.training.export import export  # noqa: E402
from genwm.errors import OutputError  # noqa: E402

torch.set_num_threads(1)  # threads only wait for each other on small pictures


class Small(torch.nn.Module):
    """A map and its means, from weights above and below the size that is stored in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)  # 432 weights
        self.second = torch.nn.Conv2d(16, 4, 1)  # 64

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        map_ = self.second(torch.relu(self.first(frames / 255)))
        return map_[:, 0], map_.mean((2, 3))


@pytest.fixture
def network() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.mark.parametrize(("count", "height", "width"), [(1, 32, 32), (3, 40, 64), (BATCH + 1, 33, 17)])
def test_the_file_gives_the_networks_numbers_at_any_size(
    network: Small, count: int, height: int, width: int, tmp_path: Path
) -> None:
    export(network, tmp_path / "small.onnx", ["map", "means"])
    frames = torch.rand(count, 3, height, width) * 255
    with torch.inference_mode():
        network.first.weight.copy_(network.first.weight.half().float())  # what the file stores
        expected = network(frames)
    found = Network(tmp_path / "small.onnx")(frames.numpy())
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=0, atol=1e-5)


def test_large_weights_take_half_the_bytes_and_small_ones_stay_exact(network: Small, tmp_path: Path) -> None:
    export(network, tmp_path / "small.onnx", ["map", "means"])
    model = onnx.load(str(tmp_path / "small.onnx"))
    onnx.checker.check_model(model)
    stored = {weights.name: onnx.numpy_helper.to_array(weights) for weights in model.graph.initializer}
    assert {name.removesuffix(".half"): values.dtype for name, values in stored.items() if "." in name} == {
        "first.weight": np.float16, "first.bias": np.float32, "second.weight": np.float32, "second.bias": np.float32,
    }  # fmt: skip
    np.testing.assert_array_equal(stored["second.weight"], network.second.weight.detach().numpy())
    assert [output.name for output in model.graph.output] == ["map", "means"]


def test_what_fails_leaves_no_file(network: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on takes a file that is there for a whole one."""
    def stopped(model: object, path: object) -> None:
        Path(str(path)).write_bytes(b"half a netw")
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(network, tmp_path / "small.onnx", ["map", "means"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="Expected a folder"):
        export(network, tmp_path / "none" / "small.onnx", ["map", "means"])
