"""Measures of quality against independent formulas and the packages' own results."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eval.quality import Footage, bd_rate, flicker, jod, measure, ms_ssim, psnr, rate_points, ssim, vmaf
from genwm.errors import InputError, MissingExtraError
from genwm.video import read_planes, read_rgb
from tests.clips import Frames, scene
from tests.eval.noise import noisy, two_clips


@pytest.fixture(scope="module")
def rgb() -> Frames:
    return scene(192, 160, 6)


@pytest.fixture(scope="module")
def luma(rgb: Frames) -> Frames:
    return np.ascontiguousarray(rgb[..., 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_clips(tmp_path_factory.mktemp("videos"))


# --- PSNR and SSIM


@given(arrays.arrays(np.uint8, (2, 2, 3, 4)))
def test_psnr_is_its_formula(pair: Frames) -> None:
    error = np.mean((pair[0].astype(float) - pair[1]) ** 2)
    assert psnr(pair[0], pair[1]) == pytest.approx(20 * math.log10(255 / math.sqrt(error)) if error else math.inf)


def test_psnr_of_a_shift_by_two_levels(luma: Frames) -> None:
    grey = luma // 2
    assert psnr(grey, grey + 2) == pytest.approx(20 * math.log10(255 / 2))


def brute_force_ssim(one: Frames, other: Frames) -> float:
    """Wang et al. 2004 word by word, window by window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(one.shape[0] - 10):
        for column in range(one.shape[1] - 10):
            x, y = (frame[row : row + 11, column : column + 11].astype(float) for frame in (one, other))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
            cxy = (window * (x - mx) * (y - my)).sum()
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            values.append((2 * mx * my + c1) * (2 * cxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def test_ssim_is_its_formula(luma: Frames) -> None:
    one = luma[:2, 40:60, 50:74]
    other = noisy(one, 9)
    expected = np.mean([brute_force_ssim(a, b) for a, b in zip(one, other, strict=True)])
    assert ssim(one, other) == pytest.approx(expected, abs=1e-5)


@settings(max_examples=10)
@given(st.integers(0, 255), st.integers(0, 255))
def test_ssim_of_flat_frames_compares_their_levels(a: int, b: int) -> None:
    c1 = (0.01 * 255) ** 2
    flat = np.ones((1, 12, 13), np.uint8)
    assert ssim(flat * np.uint8(a), flat * np.uint8(b)) == pytest.approx(
        (2 * a * b + c1) / (a**2 + b**2 + c1), abs=1e-4
    )


def test_ssim_of_identical_frames_is_one(luma: Frames) -> None:
    assert ssim(luma, luma) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x.astype(float), lambda x: x[..., None]])
def test_frames_that_do_not_match_are_refused(luma: Frames, change: object) -> None:
    assert callable(change)
    for compare in (ssim, vmaf):
        with pytest.raises(InputError, match="Expected two uint8 arrays"):
            compare(luma, change(luma))


def test_no_frames_are_refused(luma: Frames) -> None:
    with pytest.raises(InputError, match="at least one frame"):
        psnr(luma[:0], luma[:0])


# --- MS-SSIM, flicker, bit rate


def test_ms_ssim_is_libvmafs(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="MS-SSIM is not compared: it needs 'quality'")
    one = np.ascontiguousarray(scene(256, 208, 2)[..., 1])
    for sigma in (3, 9):
        other = noisy(one, sigma)
        for name, frames in (("one", one), ("other", other)):
            (tmp_path / f"{name}.raw").write_bytes(frames.tobytes())
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "256x208", "-r", "25", "-i"]
        log = tmp_path / "log.csv"
        measure = f"libvmaf=feature=name=float_ms_ssim:log_fmt=csv:log_path={log}"
        inputs = [*source, str(tmp_path / "other.raw"), *source, str(tmp_path / "one.raw")]
        command = [imageio_ffmpeg.get_ffmpeg_exe(), *inputs, "-lavfi", f"[0:v][1:v]{measure}", "-f", "null", "-"]
        subprocess.run(command, check=True, capture_output=True)
        head, *lines = log.read_text().splitlines()
        place = head.split(",").index("float_ms_ssim")
        expected = np.mean([float(line.split(",")[place]) for line in lines])
        assert ms_ssim(one, other) == pytest.approx(expected, abs=0.004)
    assert ms_ssim(one, one) == pytest.approx(1, abs=1e-6)


def test_ms_ssim_needs_five_scales(luma: Frames) -> None:
    with pytest.raises(InputError, match="176"):
        ms_ssim(luma, luma)


def test_flicker_is_of_the_change_alone(luma: Frames) -> None:
    grey = luma // 2 + 40
    assert flicker(grey, grey + 3) == 0  # it stands still, whatever moves below
    blinking = grey + np.where(np.arange(len(grey)) % 2, 4, 0).astype(np.uint8)[:, None, None]
    assert flicker(grey, blinking) == pytest.approx(4)
    assert flicker(grey[:1], grey[:1] + 3) == 0
    noise = np.random.default_rng(0).normal(0, 5, grey.shape)
    assert flicker(grey, np.rint(grey + noise).astype(np.uint8)) == pytest.approx(5 * math.sqrt(2), rel=0.03)


def test_bd_rate_of_known_curves() -> None:
    curve = [(100 * 2 ** (step / 2), 30 + 2 * step) for step in range(4)]
    dearer = [(1.1 * rate, quality) for rate, quality in curve]
    assert bd_rate(curve, curve) == pytest.approx(0, abs=1e-9)
    assert bd_rate(curve, dearer) == pytest.approx(10)
    assert bd_rate(dearer, curve) == pytest.approx(100 * (1 / 1.1 - 1))
    # Straight in log rate over dB (a doubling is 4 dB): what is .5 dB worse at any rate needs 2^(1/8) times the rate.
    worse = [(rate, quality - 0.5) for rate, quality in curve]
    assert bd_rate(curve, worse) == pytest.approx(100 * (2 ** (1 / 8) - 1))
    with pytest.raises(InputError, match="share qualities"):
        bd_rate(curve, [(rate, quality + 50) for rate, quality in curve])


def test_noise_costs_an_encoder_rate(folder: Path) -> None:
    reader = read_planes(folder / "one.mkv", max_frames=8)
    planes = [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in reader]
    loud = [replace(one, y=noisy(one.y, 4)) for one in planes]
    points = [rate_points(frames, Fraction(24)) for frames in (planes, loud)]
    assert all(a[0] > b[0] and a[1] > b[1] for a, b in pairwise(points[0]))  # a higher CRF: less rate, less quality
    assert bd_rate(*points) > 10


# --- VMAF


def test_vmaf_knows_identical_frames_and_orders_noise(luma: Frames) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="VMAF is not tested: it needs the extra 'quality'")
    identity, little, much = vmaf(luma, luma), vmaf(luma, noisy(luma, 3)), vmaf(luma, noisy(luma, 12))
    assert 95 <= identity <= 100
    assert identity > little > much


def test_vmaf_takes_odd_sizes_and_refuses_tiny_ones(luma: Frames) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="VMAF is not tested: it needs the extra 'quality'")
    odd = luma[:2, :131, :149]
    assert vmaf(odd, odd) >= 95
    with pytest.raises(InputError, match="2 x 2"):
        vmaf(luma[:2, :2, :2], luma[:2, :2, :2])


@pytest.mark.parametrize(("module", "compare"), [("imageio_ffmpeg", "vmaf"), ("pycvvdp", "jod")])
def test_a_missing_package_is_named_with_its_extra(
    module: str, compare: str, rgb: Frames, luma: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eval.quality import colorvideovdp

    colorvideovdp.load_package.cache_clear()
    colorvideovdp._cvvdp.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"genwm\[quality\]"):
        vmaf(luma, luma) if compare == "vmaf" else jod(rgb, rgb, fps=24)


# --- footage


def test_footage_of_planes_is_what_players_show(folder: Path) -> None:
    planes = [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(folder / "one.mkv")]
    shown = np.stack([frame for _, frame in read_rgb(folder / "one.mkv")])
    footage = Footage.from_planes(planes)
    assert footage.luma.shape == (26, 130, 162)
    np.testing.assert_array_equal(footage.rgb, shown[:24])


def test_luma_of_rgb_is_what_the_encoder_makes(folder: Path) -> None:
    frames = scene(162, 130, 3)
    stored = np.stack([p.y.copy() for p in read_planes(folder / "one.mkv", max_frames=3)])
    made = Footage.from_rgb(frames, space="bt601").luma
    assert np.abs(made.astype(int) - stored).max() <= 1


def test_measure_names_its_columns(rgb: Frames) -> None:
    one, other = (Footage.from_rgb(frames, space="bt709") for frames in (rgb, noisy(rgb, 2)))
    values = measure(one, other, fps=24, metrics=("psnr", "ssim"))
    assert set(values) == {"luma_psnr", "rgb_psnr", "ssim"}
    assert values["rgb_psnr"] == psnr(rgb, noisy(rgb, 2))
    assert values["luma_psnr"] > values["rgb_psnr"], "luma averages the noise of three channels"
