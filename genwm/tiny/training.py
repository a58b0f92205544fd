"""What every training here shares: steps that can be interrupted and resumed, a schedule, an average of the weights."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_SAVE_EVERY_S = 180.0
_TELL_EVERY = 25


def device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run(
    path: Path,
    parts: Mapping[str, Any],
    steps: int,
    step: Callable[[int, float], Mapping[str, float]],
    *,
    minutes: float = math.inf,
) -> int:
    """Calls ``step`` with 0, 1, ... and how far the training is, in [0, 1), by steps or by time, until ``steps`` are
    done or ``minutes`` have passed; returns how many are done.

    The state of ``parts`` (objects with ``state_dict`` and ``load_state_dict``) is kept in ``path`` and taken up again
    from there, so a training that was stopped goes on. ``step`` returns losses, whose running means are told on stderr.
    """
    done = 0
    if path.is_file():
        kept = torch.load(path, map_location="cpu", weights_only=True)
        done = kept.pop("step")
        for name, part in parts.items():
            part.load_state_dict(kept[name])
    started = saved = time.monotonic()
    means: dict[str, float] = {}
    while (progress := max(done / steps, (time.monotonic() - started) / (60 * minutes))) < 1:
        for name, value in step(done, progress).items():
            means[name] = 0.97 * means.get(name, value) + 0.03 * value
        done += 1
        if done % _TELL_EVERY == 0:
            words = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
            print(f"{path.stem} {done}/{steps} after {time.monotonic() - started:.0f} s: {words}", file=sys.stderr,
                  flush=True)
        if time.monotonic() - saved > _SAVE_EVERY_S:
            save(path, parts, done)
            saved = time.monotonic()
    save(path, parts, done)
    return done


def save(path: Path, parts: Mapping[str, Any], done: int) -> None:
    """Writes the state of ``parts`` after ``done`` steps; the file is never half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": done}, unfinished)
    os.replace(unfinished, path)


def rate(step: int, progress: float, warm_up: int = 100, fall: float = 0.3) -> float:
    """Factor on the learning rate: a linear warm-up, constant, and a linear fall to 0 over the last share ``fall``."""
    return min((step + 1) / warm_up, 1.0, (1 - progress) / fall)


class Average:
    """Exponential moving average of a module's parameters, from equal weights at the start to ``decay``."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.count = module, decay, 0
        self.values = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        self.count += 1
        part = 1 - min(self.decay, self.count / (self.count + 9))
        for name, value in self.module.named_parameters():
            self.values[name].lerp_(value.detach(), part)

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def apply(self) -> None:
        """Puts the averages into the module."""
        for name, value in self.module.named_parameters():
            value.copy_(self.values[name])


class Both:
    """Two optimisers as one: Muon for matrices and small kernels (as matrices), AdamW for the rest.

    Args:
        module: what is trained;  inner: whether a parameter of 2 or more dimensions, by name, goes to Muon.
        muon_lr, adam_lr: learning rates at a factor of 1, AdamW's by parameter; Muon's steps are scaled to the size of
            AdamW's.
    """

    def __init__(self, module: nn.Module, inner: Callable[[str, Tensor], bool], muon_lr: float,
                 adam_lr: Callable[[Tensor], float]) -> None:
        named = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
        self._inner = [value for name, value in named if value.ndim >= 2 and inner(name, value)]
        taken = {id(value) for value in self._inner}
        self._rest = [value for _, value in named if id(value) not in taken]
        self._matrices = [value.detach().view(len(value), -1) for value in self._inner]  # the same memory
        self._parts = (
            torch.optim.Muon(self._matrices, lr=muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW([{"params": [value], "lr": adam_lr(value)} for value in self._rest], betas=(0.9, 0.95),
                              weight_decay=0.0),
        )
        self._rates = [[group["lr"] for group in part.param_groups] for part in self._parts]

    def step(self, factor: float) -> None:
        """One step at ``factor`` times the learning rates, on gradients clipped to a norm of 1; clears them."""
        torch.nn.utils.clip_grad_norm_([*self._inner, *self._rest], 1.0)
        for matrix, value in zip(self._matrices, self._inner, strict=True):
            matrix.grad = None if value.grad is None else value.grad.reshape(matrix.shape)
        for part, rates in zip(self._parts, self._rates, strict=True):
            for group, lr in zip(part.param_groups, rates, strict=True):
                group["lr"] = lr * factor
            part.step()
            part.zero_grad(set_to_none=True)
        for value in self._inner:
            value.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {str(place): part.state_dict() for place, part in enumerate(self._parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for place, part in enumerate(self._parts):
            part.load_state_dict(state[str(place)])
