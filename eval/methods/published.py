"""What others have published, read from ``published.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where figures are from: ``conditions`` they were measured under, and a ``note`` on what they do not say."""

    id: str
    title: str
    conditions: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """One method of one source: the length of its message, mean bit accuracy by attack id, and quality (PSNR in dB,
    SSIM in [0, 1], VMAF in [0, 100]) where it was given."""

    source: Source
    name: str
    bits: int
    psnr: float | None = None
    ssim: float | None = None
    vmaf: float | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)


@cache
def read_published() -> tuple[Published, ...]:
    """All methods, in the file's order."""
    table = tomllib.loads(files("eval.methods").joinpath("published.toml").read_text(encoding="utf-8"))
    sources = {entry["id"]: Source(**entry) for entry in table["source"]}
    return tuple(Published(**{**entry, "source": sources[entry["source"]]}) for entry in table["method"])
