"""Regeneration, each kind against a property that does not come from its own code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.attacks import Clip, attacks_named, photometry, regeneration, warps
from eval.attacks.regeneration import autoencode
from genwm.errors import InputError
from genwm.video import Planes
from tests.clips import psnr
from tests.eval.edits import edited, planes, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


@pytest.fixture(scope="module")
def frame(clip: Clip) -> Planes:
    return clip.frames[7]


def test_regeneration_smooths_and_keeps_the_picture(frame: Planes) -> None:
    rng = np.random.default_rng(2)
    noise = np.clip(frame.y + rng.normal(0, 6, frame.y.shape), 16, 235)
    noisy = replace(frame, y=np.rint(noise).astype(np.uint8))
    cleaned = regeneration.denoised(noisy, sigma=6)
    assert psnr(cleaned.y, frame.y) > psnr(noisy.y, frame.y) + 1
    soft, sharp = photometry.blurred(frame, sigma=2), regeneration.resharpened(frame, sigma=2, amount=1.5)
    edges = [float(np.abs(np.diff(one.y.astype(int), axis=1)).mean()) for one in (soft, sharp, frame)]
    assert edges[0] < edges[1]
    assert psnr(sharp.y, frame.y) > 20


def test_the_median_is_that_of_its_window() -> None:
    y = np.random.default_rng(0).integers(16, 235, (20, 24))
    result = regeneration.median_filtered(planes(y), size=5).y
    assert result[9, 11] == np.median(y[7:12, 9:14])


def test_jpeg_frames_lose_with_quality(frame: Planes) -> None:
    distances = [psnr(regeneration.as_jpeg(frame, quality=quality).y, frame.y) for quality in (20, 60, 95)]
    assert distances == sorted(distances)
    assert distances[2] > distances[0] + 5


def test_an_autoencoder_is_taken_from_a_folder(clip: Clip, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="regeneration is not tested: it needs the extra 'generate'")
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads only wait for each other on small frames
    model = diffusers.AutoencoderKL(block_out_channels=(8,), latent_channels=4, norm_num_groups=4)
    model.save_pretrained(tmp_path / "vae")
    (attack,) = attacks_named([f"vae={tmp_path / 'vae'}"])
    assert attack.kind == "regeneration"
    small = warps.resized(clip.frames[0], width=66, height=64)
    (shown,), _ = edited(attack.edit, [small])
    assert shown.y.shape == (64, 64)  # a multiple of 8
    assert not np.array_equal(shown.y, small.y[:, :64])
    (tmp_path / "vae").rename(tmp_path / "gone")
    with pytest.raises(InputError, match=r"Expected a folder with an autoencoder's config\.json"):
        attacks_named([attack.id])
    regeneration._autoencoder.cache_clear()
    with pytest.raises(InputError, match=r"Expected a folder with an autoencoder's config\.json"):
        edited(attack.edit, clip.frames[:1])


@pytest.mark.parametrize("count", [1, 17, 20])
def test_an_autoencoder_of_video_regenerates_all_frames(clip: Clip, count: int) -> None:
    pytest.importorskip("diffusers", reason="regeneration is not tested: it needs the extra 'generate'")
    from genwm.tiny import EMBEDDED

    frames = [warps.resized(clip.frames[number % len(clip.frames)], width=160, height=128) for number in range(count)]
    shown, _ = edited(autoencode(EMBEDDED / "vae"), frames)
    assert [frame.y.shape for frame in shown] == [(128, 128)] * count  # a multiple of 64
    for got, frame in zip(shown, frames, strict=True):
        assert 18 < psnr(got.y, frame.y[:, :128]) < 45


def test_what_is_no_autoencoder_of_diffusers_is_refused(clip: Clip, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="regeneration is not tested: it needs the extra 'generate'")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(InputError, match=r"diffusers' autoencoders in .*, got UNet2DModel; give"):
        edited(autoencode(tmp_path), clip.frames[:1])
