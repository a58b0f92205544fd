"""Measures against independent formulas and the packages' own results; the runner with a mark of noise."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from eval import tables
from eval.corpus import Video, list_videos
from eval.quality import (
    DISPLAYS,
    Footage,
    Settings,
    bd_rate,
    flicker,
    jod,
    measure,
    ms_ssim,
    psnr,
    rate_points,
    read_rows,
    run,
    ssim,
    summary,
    vmaf,
)  # fmt: skip
from eval.quality import running as running_module
from eval.quality.command import quality
from eval.quality.running import COLUMNS, failures
from genwm.errors import DiskFullError, InputError, MissingExtraError, OutputError
from genwm.video import Planes, VideoInfo, read_planes, read_rgb, write_video
from tests.clips import scene

Frames = NDArray[np.uint8]


def noisy(frames: Frames, sigma: float) -> Frames:
    noise = np.random.default_rng(1).normal(0, sigma, frames.shape)
    return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def rgb() -> Frames:
    return scene(192, 160, 6)


@pytest.fixture(scope="module")
def luma(rgb: Frames) -> Frames:
    return np.ascontiguousarray(rgb[..., 1])


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


# --- ColorVideoVDP


@pytest.fixture(scope="module")
def cvvdp() -> object:
    return pytest.importorskip("pycvvdp", reason="ColorVideoVDP is not tested: it needs the extra 'quality'")


@pytest.mark.usefixtures("cvvdp")
def test_jod_is_ten_for_identical_frames_and_falls_with_noise(rgb: Frames) -> None:
    few = rgb[:2, :96, :128]
    same, little, much = (jod(few, noisy(few, sigma), fps=24) for sigma in (0, 3, 12))
    for display in DISPLAYS:
        assert same[display] == 10
        assert 10 > little[display] > much[display]
    assert little["standard_fhd"] < little["standard_4k"], "larger pixels show more"


@pytest.mark.parametrize(("width", "height", "frames"), [(128, 96, 3), (131, 97, 2), (520, 514, 1)])
def test_jod_is_what_the_package_says(cvvdp: object, width: int, height: int, frames: int) -> None:
    import torch

    one = scene(width, height, frames)
    other = noisy(one, 4)
    found = jod(one, other, fps=30)
    for display in DISPLAYS:
        metric = cvvdp.cvvdp(display_name=display, quiet=True, device=torch.device("cpu"))  # type: ignore[attr-defined]
        with torch.inference_mode():
            fps = 30 if frames > 1 else 0
            expected, _ = metric.predict(other, one, dim_order="FHWC", frames_per_second=fps)
        assert found[display] == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.usefixtures("cvvdp")
def test_the_two_displays_share_their_light() -> None:
    from eval.quality.colorvideovdp import _by_light, _cvvdp

    assert [len(group) for group in _by_light(_cvvdp(display, "cpu") for display in DISPLAYS)] == [2]
    mixed = ("standard_fhd", "standard_phone", "standard_4k")
    assert sorted(len(group) for group in _by_light(_cvvdp(display, "cpu") for display in mixed)) == [1, 2]


@pytest.mark.usefixtures("cvvdp")
def test_jod_refuses_what_it_cannot_judge(rgb: Frames) -> None:
    with pytest.raises(InputError, match="frame rate"):
        jod(rgb, rgb, fps=0)
    with pytest.raises(InputError, match="16 x 16"):
        jod(rgb[:, :8], rgb[:, :8], fps=24)
    with pytest.raises(InputError, match="display"):
        jod(rgb, rgb, fps=24, displays=("no_such_display",))


@pytest.mark.usefixtures("cvvdp")
def test_jod_says_nothing_on_the_side() -> None:
    code = "import numpy as np; from eval.quality import jod; f = np.zeros((2, 32, 32, 3), np.uint8); jod(f, f, fps=9)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- footage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips and a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "one.mkv", scene(162, 130, 26), fps=24, codec="ffv1")
    write_video(folder / "two.mkv", scene(160, 128, 4, seed=2), fps=12, codec="ffv1")
    (folder / "bad.mp4").write_bytes(b"this is no video at all")
    return folder


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


# --- the runner

QUICK = Settings(metrics=("psnr",))


@pytest.fixture
def marked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Noise instead of the mark; lists the clips that were marked."""
    calls: list[str] = []

    def mark(planes: Sequence[Planes], info: VideoInfo, clip: str, settings: Settings) -> list[Planes]:
        calls.append(clip)
        return [replace(frame, y=noisy(frame.y, 2)) for frame in planes]

    monkeypatch.setattr(running_module, "mark_planes", mark)
    return calls


@pytest.fixture
def clips(folder: Path) -> list[Video]:
    return list_videos(folder)


def test_every_clip_gives_one_row(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    assert run(clips, out, settings=QUICK) == 3
    rows = {row["clip"]: row for row in read_rows(out)}
    assert set(rows) == {"one.mkv", "two.mkv", "bad.mp4"}
    assert rows["bad.mp4"]["error"] == "not-media"
    assert rows["bad.mp4"]["luma_psnr"] == ""
    good = rows["one.mkv"]
    assert [good[name] for name in ("width", "height", "short_side", "fps", "frames", "rgb_frames", "error")] == [
        *("162", "130", "130", "24.0000", "26", "24", "")
    ]
    assert 41 < float(good["luma_psnr"]) < 43
    assert good["vmaf"] == good["jod_fhd"] == ""
    assert sorted(marked) == ["one.mkv", "two.mkv"]


def test_a_run_goes_on_where_it_was_killed(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])
    assert len(read_rows(out)) == 2
    marked.clear()
    assert run(clips, out, settings=QUICK) == 1
    assert len(marked) <= 1
    assert {row["clip"] for row in read_rows(out)} == {"one.mkv", "two.mkv", "bad.mp4"}
    assert len(out.read_bytes().splitlines()) == 4
    assert run(clips, out, settings=QUICK) == 0


def test_errors_are_measured_again_only_when_asked(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    assert run(clips, out, settings=QUICK, retry=True) == 1
    assert len(read_rows(out)) == 3


def test_other_strengths_are_other_rows(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    assert run(clips, out, settings=replace(QUICK, strength="strong")) == 3
    assert {row["strength"] for row in read_rows(out)} == {"balanced", "strong"}


def test_another_metric_is_measured_on_rows_that_lack_it(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    more = replace(QUICK, metrics=("ssim",))
    assert run(clips, out, settings=more) == 3
    rows = {row["clip"]: row for row in read_rows(out)}
    assert len(rows) == 3
    assert rows["one.mkv"]["ssim"]
    assert rows["one.mkv"]["luma_psnr"]  # what was there is not lost
    assert run(clips, out, settings=more) == run(clips, out, settings=QUICK) == 0


def test_a_metric_that_fails_takes_nothing_from_a_row(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    """MS-SSIM needs frames of 176 lines."""
    out, told = tmp_path / "rows.csv", list[str]()
    good = [clip for clip in clips if clip.id != "bad.mp4"]
    run(good, out, settings=QUICK)
    before = {row["clip"]: row for row in read_rows(out)}
    more = replace(QUICK, metrics=("msssim",))
    assert run(good, out, settings=more, on_row=lambda row: told.append(row["error"])) == 2
    assert told == ["bad-input", "bad-input"]
    for one in read_rows(out):
        same = before[one["clip"]]
        assert (one["luma_psnr"], one["rgb_psnr"], one["error"]) == (same["luma_psnr"], same["rgb_psnr"], "")
        assert failures(one)["msssim"].startswith("bad-input: Expected frames of 176 x 176 or more for MS-SSIM")
        assert "--metrics psnr,msssim " in one["command"]
    assert run(good, out, settings=more) == 0


def test_a_metric_that_fails_is_named_and_alone_measured_again(
    clips: list[Video], marked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tried = tmp_path / "rows.csv", list[str]()
    good = [clip for clip in clips if clip.id == "one.mkv"]
    settings = replace(QUICK, metrics=("psnr", "ssim", "flicker"))
    measure = running_module.measure

    def noted(*frames: Footage, metrics: Sequence[str], **options: object) -> dict[str, float]:
        tried.extend(metrics)
        return measure(*frames, metrics=metrics, **options)  # type: ignore[arg-type]

    def broken(*frames: Footage, metrics: Sequence[str], **options: object) -> dict[str, float]:
        if metrics[0] == "ssim":
            raise MemoryError("no room; none")
        return noted(*frames, metrics=metrics, **options)

    monkeypatch.setattr(running_module, "measure", broken)
    assert run(good, out, settings=settings) == 1
    (row,) = read_rows(out)
    assert (row["error"], row["ssim"], failures(row)) == ("", "", {"ssim": "internal: MemoryError: no room; none"})
    assert row["luma_psnr"]
    assert row["flicker"]
    assert "- one.mkv (genwm): ssim: internal: MemoryError: no room; none" in summary([row])
    monkeypatch.setattr(running_module, "measure", noted)
    tried.clear()
    assert run(good, out, settings=settings) == 0
    assert run(good, out, settings=settings, retry=True) == 1
    assert tried == ["ssim"]  # the others are there
    (again,) = read_rows(out)
    assert again["ssim"]
    assert again["failed"] == ""
    assert [again[name] for name in ("luma_psnr", "flicker", "command")] == [
        row[name] for name in ("luma_psnr", "flicker", "command")
    ]
    assert run(good, out, settings=settings, retry=True) == 0


def test_where_every_metric_fails_the_row_has_the_error(
    clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    good = [clip for clip in clips if clip.id == "one.mkv"]
    assert run(good, out, settings=replace(QUICK, metrics=("msssim",))) == 1
    assert [row["error"] for row in read_rows(out)] == ["bad-input"]
    assert "- one.mkv (genwm): msssim: bad-input: Expected frames of 176" in summary(read_rows(out))
    assert run(good, out, settings=QUICK) == 1  # another metric is another matter
    (row,) = read_rows(out)
    assert row["luma_psnr"]
    assert set(failures(row)) == {"msssim"}


def test_rows_by_other_versions_are_measured_anew(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    """Figures by two versions of the code are no row."""
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    old = {row["clip"]: row | {"versions": "genwm 0"} for row in read_rows(out)}
    old["one.mkv"] |= {"luma_psnr": "1.0"}
    # A figure that cannot be had again, as MS-SSIM needs frames of 176 lines.
    old["two.mkv"] |= {"msssim": "0.5", "command": old["two.mkv"]["command"].replace("psnr", "psnr,msssim")}
    tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in old.values()))
    assert run(clips, out, settings=replace(QUICK, metrics=("ssim",))) == 2
    new = {row["clip"]: row for row in read_rows(out)}
    assert float(new["one.mkv"]["luma_psnr"]) > 40
    assert new["one.mkv"]["ssim"]
    assert new["one.mkv"]["versions"] != "genwm 0"
    assert new["two.mkv"] == old["two.mkv"]


def test_packages_of_metrics_that_a_row_has_are_needed_too(
    clips: list[Video], marked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    with_vmaf = [row | {"command": row["command"].replace("psnr", "psnr,vmaf"), "versions": "genwm 0"}
                 for row in read_rows(out)]  # fmt: skip
    tables.rewrite(out, COLUMNS, ([row[name] for name in COLUMNS] for row in with_vmaf))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtraError):
        run(clips, out, settings=replace(QUICK, metrics=("ssim",)))
    assert read_rows(out) == with_vmaf


@pytest.mark.parametrize(("changed", "said"), [({"frames": 3}, "frames 3"), ({"seed": 1}, "seed 1")])
def test_other_frames_and_seeds_do_not_continue_a_table(
    clips: list[Video], marked: list[str], tmp_path: Path, changed: dict[str, int], said: str
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    before = out.read_bytes()
    with pytest.raises(OutputError, match=f"^Expected rows with {said} in "):
        run(clips, out, settings=replace(QUICK, **changed))  # type: ignore[arg-type]
    assert out.read_bytes() == before


def test_another_clip_of_the_same_name_does_not_continue_a_table(
    folder: Path, clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    (tmp_path / "one.mkv").write_bytes((folder / "two.mkv").read_bytes())
    with pytest.raises(OutputError, match=r"^Expected the clip one\.mkv that "):
        run([Video(path=tmp_path / "one.mkv", id="one.mkv")], out, settings=QUICK)


def test_a_clip_that_was_mended_is_measured(
    folder: Path, clips: list[Video], marked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    (tmp_path / "bad.mp4").write_bytes((folder / "one.mkv").read_bytes())
    assert run([Video(path=tmp_path / "bad.mp4", id="bad.mp4")], out, settings=QUICK) == 1
    assert {row["clip"]: row["error"] for row in read_rows(out)}["bad.mp4"] == ""


def test_the_first_tables_go_on_and_so_do_the_published(clips: list[Video], marked: list[str], tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run(clips, out, settings=QUICK)
    names = COLUMNS[: COLUMNS.index("message") + 1]
    tables.rewrite(out, names, ([row[name] for name in names] for row in read_rows(out)))
    assert run(clips, out, settings=QUICK) == 0
    published = Path(__file__).parents[2] / "docs" / "results" / "quality.csv"
    rows = read_rows(published)
    listed = [Video(path=Path("gone"), id=row["clip"]) for row in rows if row["strength"] == "balanced"]
    copy = tmp_path / "published.csv"
    copy.write_bytes(published.read_bytes())
    assert run(listed, copy, settings=Settings()) == 0
    assert read_rows(copy) == rows


def test_clips_of_two_sizes_are_counted_apart() -> None:
    text = summary([row("a", jod_fhd="9.9"), row("a", jod_fhd="9.5", lines="480")])
    assert "| genwm balanced colour | 1 | 9.900 / 9.900 |" in text
    assert "| genwm balanced colour at most 480 lines | 1 | 9.500 / 9.500 |" in text


def test_a_fault_of_the_mark_is_a_row_and_the_rest_goes_on(
    clips: list[Video], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> list[Planes]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(running_module, "mark_planes", broken)
    out = tmp_path / "rows.csv"
    assert run(clips, out, settings=QUICK) == 3
    assert {row["error"] for row in read_rows(out)} == {"internal", "not-media"}
    assert "RuntimeError: two lines" in {row["message"] for row in read_rows(out)}


def test_worker_processes_give_the_same_kind_of_rows(folder: Path, tmp_path: Path) -> None:
    bad = [Video(path=folder / name, id=name) for name in ("bad.mp4", "missing.mp4", "gone.mp4")]
    out = tmp_path / "rows.csv"
    assert run(bad, out, settings=QUICK, processes=2) == 3
    assert {row["clip"]: row["error"] for row in read_rows(out)} == {
        "bad.mp4": "not-media",
        "missing.mp4": "not-found",
        "gone.mp4": "not-found",
    }


def test_the_real_mark_is_measured(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    run([Video(path=folder / "two.mkv", id="two.mkv")], out, settings=QUICK)
    (row,) = read_rows(out)
    assert row["error"] == ""
    assert 30 < float(row["luma_psnr"]) < 60


def test_a_file_of_other_columns_is_left_alone(clips: list[Video], tmp_path: Path) -> None:
    out = tmp_path / "other.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns"):
        run(clips, out, settings=QUICK)
    assert out.read_text() == "a,b\n1,2\n"


def test_a_full_disk_is_said_in_one_sentence(
    clips: list[Video], marked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match="free some space"):
        run(clips, tmp_path / "rows.csv", settings=QUICK)


def test_unknown_names_are_refused(clips: list[Video], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="method of genwm, dwtDct, dwtDctSvd, rivaGan"):
        run(clips, tmp_path / "rows.csv", methods=("other",))


# --- summary and command line


def row(clip: str, method: str = "genwm", **values: str) -> dict[str, str]:
    strength, profile = ("balanced", "colour") if method == "genwm" else ("default", "")
    blank = dict.fromkeys(COLUMNS, "")
    return blank | {"clip": clip, "method": method, "strength": strength, "profile": profile, "frames": "72"} | values


def test_summary_gives_mean_worst_and_bars() -> None:
    text = summary([row("a", jod_fhd="9.9", vmaf="96"), row("b", jod_fhd="9.4", vmaf="99")])
    assert "| genwm balanced colour | 2 |" in text
    assert "9.650 / 9.400" in text
    assert "| jod_fhd | 9.650 | 9.7: MISSED | 9.400 | 9.5: MISSED | 1 of 2 | b 9.400, a 9.900 |" in text
    assert "| vmaf | 97.50 | 97: met | 96.00 | 95: met | 0 of 2 |" in text


def test_summary_says_where_rows_are_by_several_versions() -> None:
    rows = [row(clip, jod_fhd="9.9", versions=f"genwm {by}; av 1") for clip, by in (("a", 1), ("b", 1), ("c", 2))]
    assert "Rows by 2 versions of the code: genwm 1: 2, genwm 2: 1." in summary(rows)
    assert "versions" not in summary(rows[:2])


def test_summary_compares_methods_on_shared_clips_and_lists_failures() -> None:
    text = summary(
        [
            row("a", jod_fhd="9.9"),
            row("b", jod_fhd="9.5"),
            row("b", "rivaGan", jod_fhd="9.6"),
            row("c", "rivaGan", error="not-media", message="Expected a video"),
        ]
    )
    shared = text.split("## The 1 clip that")[1]
    assert "9.500 / 9.500" in shared
    assert "9.600 / 9.600" in shared
    assert "- c (rivaGan): not-media: Expected a video" in text


def test_summary_says_of_how_many_clips_a_mean_is() -> None:
    failed = json.dumps({"jod": "internal: MemoryError: none"})
    text = summary([row("a", jod_fhd="9.9", ssim=".9"), row("b", ssim=".8", failed=failed)])
    assert "| genwm balanced colour | 2 | 0.8500 / 0.8000 | 9.900 / 9.900 (1 clip) |" in text
    assert "- b (genwm): jod: internal: MemoryError: none" in text


def test_summary_of_nothing_is_still_a_page() -> None:
    assert summary([]).startswith("# Quality")


def test_the_command_writes_rows_and_summary(folder: Path, marked: list[str], tmp_path: Path) -> None:
    out, page = tmp_path / "rows.csv", tmp_path / "page.md"
    arguments = ["--videos", str(folder), "--out", str(out), "--summary", str(page), "--metrics", "psnr"]
    result = CliRunner().invoke(quality, [*arguments, "--min-short-side", "0", "--limit", "2"])
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert len(read_rows(out)) == 2
    assert page.read_text().startswith("# Quality of marked frames")


def test_the_command_prints_numbers_and_writes_a_page(folder: Path, marked: list[str], tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="pages are not tested: they need the extra 'report'")
    out = tmp_path / "rows.csv"
    arguments = ["--videos", str(folder), "--out", str(out), "--metrics", "psnr"]
    arguments += ["--min-short-side", "0", "--limit", "1"]
    plain = CliRunner().invoke(quality, arguments)
    assert (plain.exit_code, plain.stdout) == (0, "")
    assert out.with_suffix(".md").read_text() in plain.stderr
    result = CliRunner().invoke(quality, [*arguments, "--html", "--json"])
    assert result.exit_code == 0, result.output
    (found,), (cells,) = json.loads(result.stdout), read_rows(out)
    assert found["luma_psnr"] == float(cells["luma_psnr"])
    assert found["width"] == int(cells["width"])
    assert found["vmaf"] is None
    assert found["clip"] == cells["clip"]
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "<h2>All clips measured</h2>" in page
    assert "://" not in page  # nothing from the network


def test_a_folder_without_a_readable_clip_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    arguments = ["--videos", str(tmp_path), "--out", str(tmp_path / "rows.csv"), "--metrics", "psnr"]
    result = CliRunner().invoke(quality, arguments)
    assert result.exit_code == 2
    assert "nothing but errors (1)" in result.stderr.splitlines()[-1]
    assert len(read_rows(tmp_path / "rows.csv")) == 1


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(quality, ["--videos", str(tmp_path / "none"), "--out", str(tmp_path / "rows.csv")])
    assert result.exit_code == 2
    assert result.stderr.startswith("error[not-found]: Expected a folder")
    assert len(result.stderr.splitlines()) == 1
