"""The classifier's networks in onnxruntime: RGB in, embeddings or logits out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.canonical import Stack
from genwm.errors import InputError

#: Frames that go through a network at a time: bounds the memory.
BATCH = 8


def rgb_of(stack: Stack, indices: NDArray[np.intp]) -> NDArray[np.float32]:
    """Some frames as RGB float32 ``(frames, 3, height, width)`` in 0..255, by the matrix of BT.601, chroma repeated."""
    luma = 1.164 * (stack.y[indices].astype(np.float32) - 16)
    u, v = (plane[indices].repeat(2, axis=1).repeat(2, axis=2).astype(np.float32) - 128 for plane in (stack.u, stack.v))
    colors = np.stack([luma + 1.596 * v, luma - 0.392 * u - 0.813 * v, luma + 2.017 * u], axis=1)
    return np.clip(colors, 0, 255, out=colors)


def yuv_of(stack: Stack, indices: NDArray[np.intp]) -> NDArray[np.float32]:
    """Some frames as Y, U, V float32 ``(frames, 3, height, width)`` in 0..255, chroma repeated."""
    u, v = (plane[indices].repeat(2, axis=1).repeat(2, axis=2) for plane in (stack.u, stack.v))
    return np.stack([stack.y[indices], u, v], axis=1).astype(np.float32)


class Network:
    """One ONNX file with one input ``(frames, 3, height, width)`` and any number of outputs.

    Errors: InputError (it holds no network).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._session = _session(os.fspath(path))
        self._input = self._session.get_inputs()[0].name

    def __call__(self, frames: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output, frames along the first axis."""
        parts = [self._session.run(None, {self._input: part}) for part in _batches(frames)]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def _batches(frames: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(frames), BATCH):
        yield frames[start : start + BATCH]


@cache
def _session(path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # segments are what runs in parallel
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # a scanner runs for days; memory goes back between files
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's own kinds share no base below this one
        raise InputError(
            f"Expected an ONNX network in {path}, got {type(error).__name__}; install or train the model again"
        ) from None
