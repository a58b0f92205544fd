"""Networks as ONNX files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from genwm.extras import require
from genwm.output import atomic_output

#: Smaller arrays than this stay in single precision.
_LARGE = 256


def export(model: nn.Module, path: str | os.PathLike[str], outputs: Sequence[str]) -> None:
    """Writes a network of pictures ``(frames, 3, height, width)`` as ONNX, as a whole; frames and sides stay free.

    Errors: MissingExtraError (no onnx); OutputError.
    """
    example = torch.rand(2, 3, 128, 128) * 255
    names = {"frames": {0: "frames", 2: "height", 3: "width"}, **{name: {0: "frames"} for name in outputs}}
    with atomic_output(path, overwrite=True) as part, warnings.catch_warnings():
        # The exporter by tracing is the old one, and all that these networks need; the new one takes minutes.
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (example,), part, input_names=["frames"], output_names=list(outputs),
                          dynamic_axes=names, opset_version=18, dynamo=False)  # fmt: skip
        _halve(part)


def _halve(path: str) -> None:
    """Stores the large weights of a file in half precision; they are widened when it is loaded, so that it computes in
    single precision everywhere."""
    onnx = require("onnx", "train")
    model = onnx.load(path)
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < _LARGE:
            continue
        name = weights.name
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        weights.CopyFrom(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, path)
