"""Every id of light, time, overlays, regeneration and of people who can mark, against what the id itself says, by numpy
and scipy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from eval.attacks import ATTACKS, Attack, Clip, Maker
from eval.attacks.color import rgb_of
from genwm.video import Planes
from tests.attack_ids import FPS, HEIGHT, OTHERS, WIDTH, Checks, even, levels, shown, small_clip
from tests.clips import psnr

CHECKS = Checks(*OTHERS)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return small_clip()


# --- light and colour ---


@CHECKS.ids(r"(?:seal\.)?brightness\.([\d.]+?)(?:\+.*)?")
def brightness(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    wanted = np.clip(levels(clip.frames[0]) * float(said[1]), 0, 255)
    assert psnr(levels(shown(clip, attack)[0]), wanted) > 36


@CHECKS.ids(r"(?:seal\.)?contrast\.([\d.]+?)(?:\+.*)?")
def contrast(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    before, after = levels(clip.frames[0]), levels(shown(clip, attack)[0])
    grey = (before @ [0.299, 0.587, 0.114]).mean()  # torchvision's adjust_contrast blends with the mean grey
    wanted = np.clip(grey + float(said[1]) * (before - grey), 0, 255)
    assert psnr(after, wanted) > 34


@CHECKS.ids(r"negative\+.*")
def negative(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """Black is white, and each hue lies opposite."""
    one, frame = shown(clip, attack)[0], clip.frames[0]
    assert psnr(rgb_of(one), 255 - rgb_of(frame)) > 45
    assert np.corrcoef(one.y.ravel(), frame.y.ravel())[0, 1] < -0.99
    assert np.corrcoef(one.u.ravel(), frame.u.ravel())[0, 1] < -0.98


@CHECKS.ids(r"(?:seal\.)?(saturation\.|grey)([\d.]*?)(?:\+.*)?")
def saturation(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    factor = float(said[2]) if said[2] else 0
    one, frame = shown(clip, attack)[0], clip.frames[0]
    assert np.array_equal(one.y, frame.y)
    for after, before in ((one.u, frame.u), (one.v, frame.v)):
        assert np.abs(after - np.clip(128 + factor * (before.astype(float) - 128), 0, 255)).max() <= 0.51


@CHECKS.ids(r"(seal\.)?hue\.([-+\d.]+?)(?:\+h264.*)?")
def hue(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    degrees = 360 * float(said[2]) if said[1] else float(said[2])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    before, after = (part.u.astype(float) - 128 + 1j * (part.v.astype(float) - 128) for part in (frame, one))
    assert np.array_equal(one.y, frame.y)
    assert np.abs(after - before * np.exp(1j * np.radians(degrees))).max() <= 1


@CHECKS.ids(r"gamma\.([\d.]+?)\+.*")
def gamma(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    wanted = 255 * (levels(clip.frames[0]) / 255) ** float(said[1])
    assert psnr(levels(shown(clip, attack)[0]), wanted) > 34


@CHECKS.ids(r"(seal\.)?blur\.([\d.]+?)(?:\+.*)?")
def blur(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    sigma = 1.7 if said[1] else float(said[2])  # OpenCV's sigma for 9 taps: .3 ((9 - 1) / 2 - 1) + .8
    assert sigma == pytest.approx(0.3 * (4 - 1) + 0.8 if said[1] else float(said[2]))
    wanted = ndimage.gaussian_filter(clip.frames[0].y.astype(float), sigma, mode="nearest")
    assert np.abs(shown(clip, attack)[0].y - wanted).max() <= 1.5


@CHECKS.ids(r"noise\.(\d+)\+.*")
def noise(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    grey = replace(
        clip.frames[0],
        y=np.full((HEIGHT, WIDTH), 120, np.uint8),
        u=np.full((80, 96), 128, np.uint8),
        v=np.full((80, 96), 128, np.uint8),
    )
    frames, _ = attack.edit([grey], FPS, np.random.default_rng(3))
    red, green, blue = (0.2126, 0.7152, 0.0722) if grey.color_space == "bt709" else (0.299, 0.587, 0.114)
    wanted = float(said[1]) * np.linalg.norm([red, green, blue]) * 219 / 255
    assert float(next(iter(frames)).y.std()) == pytest.approx(wanted, rel=0.06)


# --- time ---


TIMES = {
    "fps.half": (12, 12),
    "fps.60": (60, 60),
    "interpolate.2": (48, 48),
    "speed.1.25": (19, 24),
    "speed.0.5": (48, 24),
    "trim.0.5s": (12, 24),
    "drop.0.25": (18, 24),
    "repeat.0.25": (30, 24),
    "splice.0.3": (24, 24),
    "average.3": (24, 24),
    "reorder.0.5s": (24, 24),
    "reverse": (24, 24),
}  # frames and rate of 24 frames at 24 a second


@CHECKS.ids(rf"({'|'.join(map(re.escape, TIMES))})\+.*")
def time(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """How many frames, at which rate, and which of the clip they are."""
    made, fps = attack.edit(clip.frames, FPS, np.random.default_rng(1))
    frames = list(made)
    assert (len(frames), float(fps)) == TIMES[said[1]]
    luma = np.stack([one.y for one in clip.frames]).astype(float)
    own = [int(np.abs(luma - one.y).mean((1, 2)).argmin()) for one in frames]
    exact = [bool((luma[place] == one.y).all()) for place, one in zip(own, frames, strict=True)]
    if said[1] == "reverse":
        assert own == list(range(23, -1, -1))
    elif said[1] == "reorder.0.5s":
        assert own in (list(range(24)), [*range(12, 24), *range(12)])
    elif said[1] == "splice.0.3":
        strange = [place for place, one in enumerate(exact) if not one]
        assert strange == list(range(strange[0], strange[0] + 7))  # 30 % of 24
        assert strange[0] + 3 == pytest.approx(12, abs=1)
    elif said[1] == "average.3":
        wanted = ndimage.uniform_filter1d(luma, 3, axis=0, mode="nearest")[1:-1]
        assert np.abs(np.stack([one.y for one in frames])[1:-1] - wanted).max() <= 0.51
    elif said[1] == "interpolate.2":
        assert all(exact[::2])
        assert np.abs(frames[1].y - luma[:2].mean(0)).max() <= 0.51
    else:
        assert all(exact)
        assert own == sorted(own)


# --- overlays ---


@CHECKS.ids(r"(caption|logo|emoji|border\.0\.08|blurbox\.0\.4)\+.*")
def overlay(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """What is changed has the place and colour that the description gives; nothing else is changed."""
    one, frame = shown(clip, attack)[0], clip.frames[0]
    changed = one.y != frame.y
    rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
    if said[1] == "border.0.08":
        width = even(0.08 * HEIGHT)
        assert not changed[width + 2 : -width - 2, width + 2 : -width - 2].any()
        assert len(np.unique(one.y[: width - 2])) == 1
    elif said[1] == "blurbox.0.4":
        assert np.ptp(rows) + 1 == pytest.approx(0.4 * HEIGHT, abs=3)
        assert np.ptp(columns) + 1 == pytest.approx(0.4 * WIDTH, abs=3)
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert np.abs(np.diff(one.y[box].astype(int))).mean() < np.abs(np.diff(frame.y[box].astype(int))).mean() / 2
    elif said[1] == "emoji":
        yellow = rgb_of(one)[changed].astype(int)
        assert np.mean((yellow[:, 0] > 180) & (yellow[:, 1] > 140) & (yellow[:, 2] < 140)) > 0.6
        _, parts = ndimage.label(ndimage.binary_closing(changed, iterations=2))
        assert 1 <= parts <= 3
    elif said[1] == "logo":
        light = one.y[changed].astype(int) - frame.y[changed]
        assert np.mean(light > 0) > 0.6
        assert np.ptp(rows) < 0.3 * HEIGHT
        assert min(rows[0], HEIGHT - 1 - rows[-1]) < 0.2 * HEIGHT
        assert min(columns[0], WIDTH - 1 - columns[-1]) < 0.2 * WIDTH
    else:
        assert rows[0] > 0.7 * HEIGHT
        assert one.y.max() > 200  # white letters
        assert np.median(one.y[changed]) < np.median(frame.y[changed])


# --- regeneration, people who can mark ---


@CHECKS.ids(r"(?:seal\.)?median\.(\d)(?:\+.*)?")
def median(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    size = int(said[1])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    windows = np.lib.stride_tricks.sliding_window_view(frame.y, (size, size))
    inner = size // 2
    assert np.array_equal(one.y[inner:-inner, inner:-inner], np.median(windows, axis=(2, 3)))


@CHECKS.ids(r"denoise\.(\d)\+.*")
def denoise(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """scipy's Wiener filter, away from the edges."""
    from scipy.signal import wiener

    one, frame = shown(clip, attack)[0], clip.frames[0]
    wanted = wiener(frame.y.astype(float), 5, noise=float(said[1]) ** 2)
    assert np.abs(one.y - wanted)[4:-4, 4:-4].max() <= 1.01


@CHECKS.ids(r"resharpen\.(\d)\+.*")
def resharpen(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    sigma = float(said[1])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    soft = ndimage.gaussian_filter(frame.y.astype(float), sigma, mode="nearest")
    wanted = soft + 1.5 * (soft - ndimage.gaussian_filter(soft, sigma, mode="nearest"))
    assert np.abs(one.y - wanted).max() <= 3  # the soft picture is rounded on the way


@CHECKS.ids(r"(subtract\.own|subtract\.16|transplant\.16|overwrite|unmarked)\+h264\.crf23")
def insider(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """With a mark that is an even lift of a chequer's white squares."""
    squares = (np.indices((HEIGHT, WIDTH)) // 4).sum(0) % 2
    pattern = np.where(squares, 4.0, -4.0)

    def marked(frames: Sequence[Planes], sign: int = 1) -> list[Planes]:
        return [replace(one, y=np.clip(one.y + sign * pattern, 0, 255).astype(np.uint8)) for one in frames]

    def presence(frames: Sequence[Planes]) -> float:
        mean = np.mean([one.y.astype(float) for one in frames], axis=0)
        return float(((mean - ndimage.gaussian_filter(mean, 3)) * pattern).mean()) / 16

    maker = Maker(
        same=lambda frames: iter(marked(list(frames))),
        other=lambda frames: iter(marked(list(frames), -1)),
        original=lambda: clip.frames,
    )
    assert attack.insider is not None
    made, fps = attack.insider(maker)(marked(clip.frames), FPS, np.random.default_rng(2))
    left = presence(list(made))
    assert fps == FPS
    assert presence(clip.frames) == pytest.approx(0, abs=0.15)
    low, high = {
        "subtract.own": (-0.3, 0.4),
        "subtract.16": (-0.3, 0.4),
        "transplant.16": (0.6, 1.4),
        "overwrite": (-0.2, 0.2),  # the other mark is this one turned round
        "unmarked": (-0.15, 0.15),
    }[said[1]]
    assert low < left < high
    assert attack.forges == (said[1] in ("transplant.16", "unmarked"))


@pytest.mark.parametrize("name", CHECKS.names)
def test_an_id_does_what_it_says(clip: Clip, name: str) -> None:
    ((check, said),) = CHECKS.of(name)  # each id has its check, and just one
    check(clip, ATTACKS[name], said)
