"""The attacks beyond the table, each against a property that does not come from its own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.attacks import (
    ATTACKS,
    SETS,
    Clip,
    Encode,
    Maker,
    attacks_named,
    chains,
    insiders,
    overlays,
    photometry,
    regeneration,
    temporal,
    warps,
)
from eval.attacks.color import rgb_of
from eval.attacks.extra import GRID_CRFS, GRID_CROPS
from eval.attacks.model import Edit, chained, recoded
from eval.attacks.regeneration import autoencode
from genwm.errors import InputError
from genwm.video import Planes, probe, read_planes, write_video
from tests.clips import psnr, scene

FPS = Fraction(24)
HEIGHT, WIDTH = 160, 192


def decoded(file: BytesIO) -> list[Planes]:
    return [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(file, threads=1)]


@pytest.fixture(scope="module")
def clip() -> Clip:
    """24 frames of 192 x 160, as a decoder gives them."""
    file = BytesIO()
    write_video(file, scene(WIDTH, HEIGHT, 24), fps=FPS, crf=6, preset="ultrafast", threads=1)
    file.seek(0)
    return Clip(decoded(file), FPS)


@pytest.fixture(scope="module")
def frame(clip: Clip) -> Planes:
    return clip.frames[7]


def edited(edit: Edit, frames: Sequence[Planes], seed: int = 5) -> tuple[list[Planes], Fraction]:
    result, fps = edit(frames, FPS, np.random.default_rng(seed))
    return list(result), fps


def same(one: Planes, other: Planes) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "yuv")


def maker(amount: int = 6) -> Maker:
    """A mark that is a still chequer of 4 x 4 blocks of luma; the other is a chequer of 8 x 8."""

    def marked(size: int) -> Any:
        def mark(frames: Iterable[Planes]) -> Iterator[Planes]:
            for one in frames:
                yield replace(one, y=np.clip(one.y + amount * chequer(size, one.y.shape), 0, 255).astype(np.uint8))

        return mark

    return Maker(same=marked(4), other=marked(8), original=list)


def chequer(size: int, shape: tuple[int, ...] = (HEIGHT, WIDTH)) -> np.ndarray[Any, np.dtype[np.int16]]:
    rows, columns = np.indices(shape) // size
    return (1 - 2 * ((rows + columns) % 2)).astype(np.int16)


def presence(frames: Iterable[Planes], size: int = 4) -> float:
    """How much of the chequer is in the mean frame, in levels."""
    mean = np.mean([one.y.astype(float) for one in frames], axis=0)
    return float(((mean - warps.blurred(planes(mean), sigma=3).y) * chequer(size)).mean())


def planes(y: Any) -> Planes:
    y = np.rint(np.asarray(y)).astype(np.uint8)
    grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
    return Planes(y=y, u=grey, v=grey, time_s=0.0, index=0)


# --- the registry ---


def test_sets_name_attacks_that_are_there() -> None:
    assert len(SETS["quick"]) == 20
    for name, members in SETS.items():
        assert len(set(members)) == len(members)
        assert [attack.id for attack in attacks_named([name])] == list(members)
    assert len(SETS["full"]) == len(ATTACKS) >= 120


def test_the_grid_is_every_crop_by_every_crf() -> None:
    assert len(SETS["grid"]) == len(GRID_CROPS) * len(GRID_CRFS)
    for name in SETS["grid"]:
        attack = ATTACKS[name]
        assert isinstance(attack.after, Encode)
        assert name.endswith(f"h264.crf{attack.after.crf:g}")
        assert attack.after.codec == "h264"


def test_sets_and_ids_mix_and_name_each_attack_once() -> None:
    names = [attack.id for attack in attacks_named(["h264.crf30", "quick", "gif"])]
    assert names[0] == "h264.crf30"
    assert names[-1] == "gif"
    assert len(names) == len(set(names)) == 21


def test_the_protocol_of_video_seal_holds_its_rows() -> None:
    rows = SETS["videoseal-72"]
    wanted = {"h264.crf30", "h264.crf40", "h264.crf50", "h265.crf50", "seal.crop.0.71", "seal.perspective.0.5"}
    assert wanted | {f"combined.crf{crf}" for crf in (23, 30, 40, 50)} <= set(rows)
    # Single edits reach the reader without a codec's loss, as arrays do.
    assert all(ATTACKS[name].after == Encode(codec="ffv1") for name in rows if name.startswith("seal."))


# --- codecs ---


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("h265.crf30.10bit", "hevc", "yuv420p10le"),
        ("h264.crf30.444", "h264", "yuv444p"),
        ("prores", "prores", "yuv422p10le"),
        ("mpeg4.q8", "mpeg4", "yuv420p"),
        ("gif", "gif", None),
        ("still.webp75", "webp", None),
    ],
)
def test_codecs_are_what_they_say(clip: Clip, name: str, codec: str, pixels: str | None) -> None:
    short = Clip([replace(one) for one in clip.frames[:3]], FPS)
    file = ATTACKS[name].apply(short, np.random.default_rng(0))
    info = probe(file)
    assert (info.codec, info.width, info.height) == (codec, WIDTH, HEIGHT)
    assert pixels in (None, info.pixel_format)
    assert psnr(rgb_of(decoded(file)[0]), rgb_of(short.frames[0])) > 15 + 10 * (codec != "webp")


def test_444_keeps_the_planes() -> None:
    """Colour is enlarged for it, and comes back when it is halved again."""
    flat = replace(planes(np.full((64, 64), 90)), u=np.full((32, 32), 60, np.uint8), v=np.full((32, 32), 190, np.uint8))
    (back,) = decoded(Encode(codec="h264", crf=4, chroma="4:4:4").write([flat], FPS))
    for name, level in (("y", 90), ("u", 60), ("v", 190)):
        assert np.abs(getattr(back, name).astype(int) - level).max() <= 2


def test_a_fixed_bitrate_is_kept(clip: Clip) -> None:
    long = Clip([*clip.frames, *clip.frames[::-1]] * 3, FPS)  # 6 s
    sizes = [len(ATTACKS[f"h264.{rate}k"].apply(long, np.random.default_rng(0)).getvalue()) for rate in (250, 500)]
    for size, rate in zip(sizes, (250, 500), strict=True):
        assert size * 8 / 6 / 1000 == pytest.approx(rate, rel=0.25)


def test_gops_and_presets(clip: Clip) -> None:
    long = Clip([*clip.frames, *clip.frames[::-1], *clip.frames], FPS)  # 3 s
    keys = {
        name: sum(one.key for one in decoded(ATTACKS[name].apply(long, np.random.default_rng(0))))
        for name in ("h264.crf30.gop1s", "h264.crf30.gop10s")
    }
    assert keys["h264.crf30.gop1s"] >= 3 > keys["h264.crf30.gop10s"]
    sizes = [
        len(ATTACKS[name].apply(long, np.random.default_rng(0)).getvalue())
        for name in ("h264.crf30.ultrafast", "h264.crf30.slow")
    ]
    assert sizes[0] > sizes[1]


def test_recoding_inside_a_chain_is_an_encode(clip: Clip) -> None:
    encode = Encode(codec="h264", crf=45)
    (one, *_), fps = edited(chained(recoded(encode), temporal.reverse()), clip.frames[:4])
    assert fps == FPS
    assert same(one, decoded(encode.write(clip.frames[:4], FPS))[-1])
    assert psnr(one.y, clip.frames[3].y) < 36


# --- geometry ---


def test_perspective_moves_corners_inwards_within_its_bound(clip: Clip) -> None:
    white = [planes(np.full((HEIGHT, WIDTH), 235))]
    for seed in range(6):
        ((shown,), _) = edited(warps.perspective(0.3), white, seed)
        covered = shown.y > 120
        # Nothing but the outer 15 % of each side (.3 of its half) may be lost.
        rows, columns = round(0.15 * HEIGHT) + 1, round(0.15 * WIDTH) + 1
        assert covered[rows:-rows, columns:-columns].all()
        assert 0.49 < covered.mean() < 1
    one, other = (edited(warps.perspective(0.3), clip.frames[:2], 3)[0] for _ in range(2))
    assert all(same(a, b) for a, b in zip(one, other, strict=True))


def test_perspective_of_corners_that_stay_changes_nothing(frame: Planes) -> None:
    still = warps.in_perspective(frame, corners=[(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)])
    assert psnr(still.y, frame.y) > 60


def test_spinning_by_half_a_turn_reverses_both_axes(frame: Planes) -> None:
    result = warps.spun(frame, degrees=180)
    assert psnr(result.y, frame.y[::-1, ::-1]) > 55
    assert psnr(result.u, frame.u[::-1, ::-1]) > 55


def test_spinning_is_counter_clockwise_and_leaves_black_corners() -> None:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    dot = np.exp(-((rows - 80) ** 2 + (columns - 136) ** 2) / 18)
    turned = warps.spun(planes(16 + 200 * dot), degrees=90).y.astype(float) - 16
    y, x = (turned * rows).sum() / turned.sum(), (turned * columns).sum() / turned.sum()
    assert (y + 0.5 - 80, x + 0.5 - 96) == pytest.approx((-40.5, 0.5), abs=0.3)  # from the right to the top
    white = warps.spun(planes(np.full((HEIGHT, WIDTH), 235)), degrees=10)
    assert white.y[0, 0] == white.y[-1, -1] == 16
    assert white.y[HEIGHT // 2, WIDTH // 2] == 235


def test_a_quarter_turn_is_clockwise_and_loses_nothing(frame: Planes) -> None:
    result = warps.quarter_turned(frame)
    assert result.y.shape == (WIDTH, HEIGHT)
    assert np.array_equal(result.y[:, -1], frame.y[0])  # the top row is the right column, from the top
    assert np.array_equal(np.sort(result.u.ravel()), np.sort(frame.u.ravel()))


@pytest.mark.parametrize("shape", [(160, 192), (720, 1280), (1280, 720), (1024, 436), (500, 500)])
def test_a_portrait_window_is_the_largest_of_its_shape(shape: tuple[int, int]) -> None:
    left, top, width, height = warps.portrait_window(*shape)
    assert width / height == pytest.approx(9 / 16, rel=0.03)
    assert width >= shape[1] - 3 or height >= shape[0] - 3
    assert abs(2 * left + width - shape[1]) <= 3
    assert abs(2 * top + height - shape[0]) <= 3
    assert left % 2 == top % 2 == width % 2 == height % 2 == 0


def test_vertical_shows_the_middle_or_the_whole(frame: Planes) -> None:
    cropped = warps.upright(frame)
    assert cropped.y.shape == (160, 90)
    assert np.array_equal(cropped.y, frame.y[:, 50:140])
    whole = warps.on_blur(frame)
    height, width = whole.y.shape
    assert width == WIDTH
    assert height == pytest.approx(WIDTH * 16 / 9, abs=2)
    top = (height - HEIGHT) // 4 * 2
    assert np.array_equal(whole.y[top : top + HEIGHT], frame.y)
    assert np.abs(np.diff(whole.y[:top].astype(int), axis=1)).mean() < 2  # soft


def test_a_picture_in_a_picture_is_small_and_stays_where_it_is(clip: Clip) -> None:
    shown, _ = edited(warps.picture_in_picture(0.6), clip.frames[:3])
    change = np.abs(shown[2].y.astype(int) - shown[0].y)
    rows, columns = np.nonzero(change.any(axis=1))[0], np.nonzero(change.any(axis=0))[0]
    assert np.ptp(rows) < 96
    assert np.ptp(columns) < 116
    small = warps.resized(clip.frames[0], width=116, height=96)
    places = [
        (top, left)
        for top in range(0, 66, 2)
        for left in range(0, 78, 2)
        if np.array_equal(shown[0].y[top : top + 96, left : left + 116], small.y)
    ]
    assert len(places) == 1


def test_panning_goes_from_one_corner_to_the_other(clip: Clip) -> None:
    shown, _ = edited(warps.pan(1.25), [clip.frames[0]] * 5)
    assert {one.y.shape for one in shown} == {(HEIGHT, WIDTH)}
    for one, (top, left) in ((shown[0], (0, 0)), (shown[-1], (32, 38))):
        small = warps.resized(one, width=154, height=128)
        part = clip.frames[0].y[top : top + 128, left : left + 154]
        assert psnr(photometry.blurred(small, sigma=1).y, photometry.blurred(planes(part), sigma=1).y) > 27


# --- time ---


@pytest.mark.parametrize(
    ("edit", "count", "fps"),
    [
        (temporal.to_rate(Fraction(60)), 60, 60),
        (temporal.to_rate(Fraction(12)), 12, 12),
        (temporal.double_rate(), 48, 48),
        (temporal.window_average(3), 24, 24),
        (temporal.reorder(0.25), 24, 24),
        (temporal.reverse(), 24, 24),
        (temporal.splice(0.3), 24, 24),
    ],
)
def test_the_duration_is_kept(clip: Clip, edit: Edit, count: int, fps: int) -> None:
    shown, rate = edited(edit, clip.frames)
    assert (len(shown), rate) == (count, fps)
    assert Fraction(len(shown)) / rate == 1


def test_a_higher_rate_shows_the_frame_that_is_due(clip: Clip) -> None:
    shown, _ = edited(temporal.to_rate(Fraction(60)), clip.frames)
    assert [one.index for one in shown[:10]] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_interpolation_is_the_mean_of_neighbours(clip: Clip) -> None:
    shown, _ = edited(temporal.double_rate(), clip.frames)
    assert all(same(shown[2 * index], one) for index, one in enumerate(clip.frames))
    wanted = (clip.frames[4].y.astype(float) + clip.frames[5].y) / 2
    assert np.abs(shown[9].y - wanted).max() <= 0.5
    average, _ = edited(temporal.window_average(3), clip.frames)
    wanted = np.mean([one.y.astype(float) for one in clip.frames[4:7]], axis=0)
    assert np.abs(average[5].y - wanted).max() <= 0.5


def test_repeats_and_new_orders_lose_no_frame(clip: Clip) -> None:
    shown = [one.index for one in edited(temporal.repeat(0.25), clip.frames)[0]]
    assert sorted(set(shown)) == list(range(24))
    assert (len(shown), shown) == (30, sorted(shown))
    mixed = [one.index for one in edited(temporal.reorder(0.25), clip.frames)[0]]
    assert sorted(mixed) == list(range(24)) != mixed
    assert all(mixed[start : start + 6] == list(range(mixed[start], mixed[start] + 6)) for start in range(0, 24, 6))


def test_a_splice_replaces_the_middle_alone(clip: Clip) -> None:
    shown, _ = edited(temporal.splice(0.25), clip.frames)
    other = [index for index, (a, b) in enumerate(zip(shown, clip.frames, strict=True)) if not same(a, b)]
    assert other == list(range(9, 15))


# --- overlays ---


@pytest.mark.parametrize(
    ("edit", "least", "most"),
    [
        (overlays.logo(), 0.002, 0.02),
        (overlays.emoji(), 0.05, 0.16),
        (overlays.border(0.08), 0.25, 0.28),
        (overlays.blur_box(0.4), 0.1, 0.17),
    ],
)
def test_overlays_cover_the_share_that_they_say(clip: Clip, edit: Edit, least: float, most: float) -> None:
    shown, _ = edited(edit, clip.frames[:2])
    changed = [np.abs(a.y.astype(int) - b.y) > 0 for a, b in zip(shown, clip.frames, strict=False)]
    assert least < changed[0].mean() < most
    assert (changed[0] & changed[1]).sum() > 0.6 * changed[0].sum()  # it stands still


def test_a_border_has_one_colour_and_keeps_the_inside(clip: Clip) -> None:
    ((shown,), _) = edited(overlays.border(0.08), [clip.frames[0]])
    width = round(0.08 * HEIGHT)
    assert np.array_equal(shown.y[width:-width, width:-width], clip.frames[0].y[width:-width, width:-width])
    assert len(np.unique(shown.y[:width])) == len(np.unique(shown.y[:, -width:])) == 1


def test_a_blur_box_takes_detail_away(clip: Clip) -> None:
    ((shown,), _) = edited(overlays.blur_box(0.4), [clip.frames[0]])
    inside = shown.y != clip.frames[0].y
    rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    detail = [np.abs(np.diff(part[box].astype(int), axis=1)).mean() for part in (clip.frames[0].y, shown.y)]
    assert detail[1] < 0.5 * detail[0]


# --- chains, regeneration ---


@pytest.mark.parametrize(
    ("name", "size", "fps"),
    [("chain.short-video", (90, 160), 24), ("chain.messenger", (192, 160), 24), ("chain.screen", (168, 140), 60)],
)
def test_chains_end_in_the_shape_and_rate_that_they_say(clip: Clip, name: str, size: tuple[int, int], fps: int) -> None:
    info = probe(ATTACKS[name].apply(clip, np.random.default_rng(1)))
    assert ((info.width, info.height), info.codec, info.fps) == (size, "h264", fps)


def test_fitting_never_enlarges(frame: Planes) -> None:
    assert chains.fitted(frame, lines=480) is frame
    assert chains.fitted(frame, lines=80).y.shape == (80, 96)


def test_moire_is_within_its_depth_and_stands_still() -> None:
    grey = planes(np.full((HEIGHT, WIDTH), 126))
    (one, other), _ = edited(chains.moire(0.04), [grey, grey])
    assert same(one, other)
    swing = (one.y.astype(float) - 126) / 110
    assert 0.02 < np.abs(swing).max() <= 0.045
    assert abs(swing.mean()) < 0.005


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


# --- people who can mark ---


def test_subtracting_an_estimate_takes_the_mark_away(clip: Clip) -> None:
    made = maker()
    marked = list(made.same(clip.frames))
    assert presence(marked) > 4
    collected, _ = edited(insiders.subtract_collected(24)(made), marked)
    assert abs(presence(collected)) < 0.35 * presence(marked)
    assert psnr(collected[0].y, clip.frames[0].y) > 26
    own, _ = edited(insiders.subtract_own()(made), marked)
    assert abs(presence(own)) < 0.35 * presence(marked)


def test_a_transplant_puts_the_mark_on_a_clip_that_had_none(clip: Clip) -> None:
    made = replace(maker(), original=lambda: clip.frames)
    assert abs(presence(clip.frames)) < 1
    forged, _ = edited(insiders.transplant(24)(made), list(made.same(clip.frames)))
    assert presence(forged) > 3
    assert ATTACKS["transplant.16+h264.crf23"].forges


def test_overwriting_adds_a_second_mark(clip: Clip) -> None:
    made = maker()
    marked = list(made.same(clip.frames))
    twice, _ = edited(insiders.overwrite()(made), marked)
    assert presence(twice, 8) > presence(marked, 8) + 1.5
    assert presence(twice) > 0.7 * presence(marked)


def test_an_attack_that_marks_needs_a_maker(clip: Clip) -> None:
    with pytest.raises(InputError, match=r"^Expected a clip with its maker for overwrite\+h264\.crf23, got none"):
        ATTACKS["overwrite+h264.crf23"].apply(clip, np.random.default_rng(0))


@pytest.mark.parametrize(("width", "height", "count", "full_range"), [(96, 64, 1, False), (64, 112, 2, True)])
def test_every_edit_takes_one_frame_and_upright_clips(width: int, height: int, count: int, full_range: bool) -> None:
    grey = np.full((height, width), 90, np.uint8)
    half = grey[::2, ::2]
    frames = [Planes(y=grey, u=half, v=half, time_s=0.0, index=0, full_range=full_range)] * count
    still = Maker(same=iter, other=iter, original=lambda: frames)  # type: ignore[arg-type]
    for name, attack in ATTACKS.items():
        shown, fps = edited(attack.insider(still) if attack.insider else attack.edit, frames)
        assert shown, name
        assert fps > 0
        for one in shown:
            rows, columns = one.y.shape
            assert one.u.shape == one.v.shape == (rows // 2, columns // 2), name
            assert rows % 2 == columns % 2 == 0
            assert {plane.dtype for plane in (one.y, one.u, one.v)} == {np.dtype(np.uint8)}
            assert one.full_range == full_range
