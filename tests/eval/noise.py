"""What the tests of quality share: noise, clips for it, and noise in the place of the mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.quality import Settings
from eval.quality import running as running_module
from genwm.video import Planes, VideoInfo, write_video
from tests.clips import Frames, scene


def noisy(frames: Frames, sigma: float) -> Frames:
    noise = np.random.default_rng(1).normal(0, sigma, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


def two_clips(folder: Path) -> Path:
    """Two clips and a file that is none."""
    write_video(folder / "one.mkv", scene(162, 130, 26), fps=24, codec="ffv1")
    write_video(folder / "two.mkv", scene(160, 128, 4, seed=2), fps=12, codec="ffv1")
    (folder / "bad.mp4").write_bytes(b"this is no video at all")
    return folder


def mark_with_noise(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Noise instead of the mark; lists the clips that were marked."""
    calls: list[str] = []

    def mark(planes: Sequence[Planes], info: VideoInfo, clip: str, settings: Settings) -> list[Planes]:
        calls.append(clip)
        return [replace(frame, y=noisy(frame.y, 2)) for frame in planes]

    monkeypatch.setattr(running_module, "mark_planes", mark)
    return calls
