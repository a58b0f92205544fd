"""Steadier frames: what flickers stands still, what moves or fades stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from genwm.steadying import steadied  # noqa: E402
from genwm.temporal import steadiness  # noqa: E402

Clip = torch.Tensor


def textured(count: int, *, height: int = 64, width: int = 96, seed: int = 1) -> Clip:
    """``(count, 3, H, W)``, the same picture each time."""
    picture = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed)) * 0.4 + 0.3
    return picture.expand(count, 3, height, width).clone()


def flickering(clip: Clip, levels: float = 1.5, seed: int = 2) -> Clip:
    """Each frame a little brighter or darker, in patches of 16 pixels."""
    count, _, height, width = clip.shape
    change = torch.randn(count, 1, height // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    return clip + change.repeat_interleave(16, 2).repeat_interleave(16, 3) * levels / 255


def filtered(clip: Clip, **settings: float) -> Clip:
    return torch.stack(list(steadied(iter(clip), **settings)))  # type: ignore[arg-type]


def bytes_of(clip: Clip) -> np.ndarray:
    return np.asarray((clip.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1))


def test_what_flickers_gets_several_times_steadier() -> None:
    still = textured(30)
    shaken = flickering(still)
    result = filtered(shaken)
    assert result.shape == shaken.shape
    assert (result - still).abs().mean() < 0.4 * (shaken - still).abs().mean()
    assert steadiness(bytes_of(result)).flicker < 0.3 * steadiness(bytes_of(shaken)).flicker


def test_a_clip_that_stands_still_is_unchanged() -> None:
    still = textured(7)
    torch.testing.assert_close(filtered(still), still)


def test_a_linear_fade_is_kept_away_from_the_ends() -> None:
    fading = textured(40) + torch.linspace(0, 0.3, 40).view(-1, 1, 1, 1)
    change = (filtered(fading) - fading).abs().amax(dim=(1, 2, 3))
    assert change[13:27].max() < 1e-3
    assert change.max() < 4 / 255


def test_what_moves_stays_as_sharp_as_it_was() -> None:
    clip = textured(24)
    for time, frame in enumerate(clip):
        frame[:, 20:44, 3 * time : 3 * time + 20] = 0.95  # as bright as nothing around it
    result = filtered(clip)
    moved = (clip[1:] - clip[:-1]).abs().amax(1) > 0.1
    assert moved.any()
    assert (result - clip)[1:].abs().amax(1)[moved].mean() < 0.02


def test_a_cut_is_not_blended() -> None:
    clip = torch.cat([textured(12), 1 - textured(12, seed=5) * 0.5])
    torch.testing.assert_close(filtered(clip), clip, atol=2e-3, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 12, 13, 25, 26, 40])
def test_every_frame_comes_out_in_order_whatever_the_length(count: int) -> None:
    shaken = flickering(textured(count, height=16, width=32))
    result = filtered(shaken, passes=1)
    assert len(result) == count
    coarse = torch.nn.functional.avg_pool2d(shaken, 8)
    for time in range(count):  # the definition, written out
        total, weights = shaken[time].clone(), torch.ones(1, 16, 32)
        for step in range(1, 13):
            sides = [time + sign * step for sign in (-1, 1) if 0 <= time + sign * step < count]
            if not sides:
                continue
            gap = (coarse[sides].mean(0) - coarse[time]).abs().amax(0)
            weight = torch.exp(-((gap * 255 / 4) ** 2))
            weight = torch.nn.functional.interpolate(weight[None, None], (16, 32), mode="bilinear")[0]
            weight = weight * torch.exp(-(((shaken[sides].mean(0) - shaken[time]).abs().amax(0) * 255 / 12) ** 2))
            total += weight * shaken[sides].sum(0)
            weights += len(sides) * weight
        torch.testing.assert_close(result[time], total / weights)


def test_it_holds_only_the_frames_that_it_needs() -> None:
    taken = 0

    def counted() -> object:
        nonlocal taken
        for frame in textured(60, height=16, width=16):
            taken += 1
            yield frame

    frames = steadied(counted(), reach=3, passes=2)  # type: ignore[arg-type]
    next(frames)
    assert taken == 7
    next(frames)
    assert taken == 8
    assert len(list(frames)) == 58


def test_types_and_odd_sizes_are_kept() -> None:
    clip = torch.rand(5, 3, 27, 35).to(torch.float16)
    result = filtered(clip)
    assert result.dtype == torch.float16
    assert result.shape == clip.shape
