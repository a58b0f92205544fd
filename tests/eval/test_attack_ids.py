"""Every id of the registry against what the id itself says: sizes, rates and strengths are read from the name, and held
against numpy, scipy, Pillow or what the encoder wrote into the file."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.ndimage import zoom

from eval.attacks import ATTACKS, Attack, Clip, Encode, Maker
from eval.attacks.color import rgb_of
from eval.attacks.model import Still, unchanged
from genwm.video import Planes, probe, read_planes, write_video
from tests.clips import psnr, scene

FPS = Fraction(24)
HEIGHT, WIDTH, COUNT = 160, 192, 24
Check = Callable[[Clip, Attack, re.Match[str]], None]
CHECKS: list[tuple[str, Check]] = []


def for_ids(pattern: str) -> Callable[[Check], Check]:
    """Holds a check for the ids that a pattern matches as a whole."""

    def kept(check: Check) -> Check:
        CHECKS.append((pattern, check))
        return check

    return kept


@pytest.fixture(scope="module")
def clip() -> Clip:
    """24 frames of 192 x 160 that clip nowhere."""
    file = BytesIO()
    tame = [(60 + one * 0.4).astype(np.uint8) for one in scene(WIDTH, HEIGHT, COUNT)]
    write_video(file, tame, fps=FPS, crf=6, preset="ultrafast", threads=1)
    file.seek(0)
    frames = [replace(p, y=p.y.copy(), u=p.u.copy(), v=p.v.copy()) for p in read_planes(file, threads=1)]
    other = [replace(one, y=255 - one.y) for one in frames]
    return Clip(frames, FPS, Maker(same=list, other=lambda _: iter(other), original=lambda: other))  # type: ignore[arg-type]


def shown(clip: Clip, attack: Attack, count: int = 2, seed: int = 1) -> list[Planes]:
    """The first frames after the edit, before the encode."""
    frames, _ = attack.edit(clip.frames[:count], FPS, np.random.default_rng(seed))
    return list(frames)


def rate_of(clip: Clip, attack: Attack) -> tuple[list[Planes], Fraction]:
    frames, fps = attack.edit(clip.frames, FPS, np.random.default_rng(1))
    return list(frames), fps


def written(clip: Clip, attack: Attack, count: int = 3) -> BytesIO:
    return attack.apply(Clip(clip.frames[:count], FPS, clip.maker), np.random.default_rng(1))


def levels(planes: Planes) -> np.ndarray[Any, np.dtype[np.float64]]:
    return rgb_of(planes).astype(float)


# --- the encode that an id names ---


def x26x(file: BytesIO) -> dict[str, str]:
    """The settings that x264 and x265 write into a stream for people to read."""
    text = re.search(rb"options: ([ -~]+)", file.getvalue())
    assert text
    words = (word.partition("=") for word in text[1].decode().split())
    return {name: value for name, _, value in words}


@pytest.mark.parametrize("name", [name for name, one in ATTACKS.items() if isinstance(one.after, Encode)])
def test_the_encode_is_what_the_id_says(name: str) -> None:
    encode = ATTACKS[name].after
    assert isinstance(encode, Encode)
    if said := re.search(r"(?:^|\+)(h264|h265|av1|vp9)\.crf(\d+)", name):
        codec = {"h265": "hevc"}.get(said[1], said[1])
        assert (encode.codec, encode.crf, encode.bitrate_kbps) == (codec, float(said[2]), None)
    elif said := re.fullmatch(r"(h264|h265)\.(\d+)k", name):
        assert (encode.codec, encode.bitrate_kbps, encode.crf) == (
            {"h265": "hevc"}.get(said[1], said[1]),
            int(said[2]),
            None,
        )
    elif name.startswith(("seal.", "combined.", "none")):
        assert encode.codec == "ffv1"


@for_ids(r"h264\.crf(\d+)(?:\.(gop1s|gop10s|ultrafast|slow|444))?")
def x264(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    options = x26x(written(clip, attack))
    assert float(options["crf"]) == float(said[1])
    assert options["rc"] == "crf"
    keys = {"gop1s": "24", "gop10s": "240"}.get(said[2] or "", "250")
    assert options["keyint"] == keys
    # What tells x264's presets apart (x264 --fullhelp).
    subme = {"ultrafast": "0", "slow": "8"}.get(said[2] or "", "7")
    assert options["subme"] == subme
    chroma = probe(written(clip, attack)).pixel_format
    assert chroma == ("yuv444p" if said[2] == "444" else "yuv420p")


@for_ids(r"h265\.crf(\d+)(\.10bit)?")
def x265(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    options = x26x(written(clip, attack))
    assert (float(options["crf"]), options["rc"]) == (float(said[1]), "crf")
    assert probe(written(clip, attack)).pixel_format == ("yuv420p10le" if said[2] else "yuv420p")


@for_ids(r"(h264|h265)\.(\d+)k")
def bitrate(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    options = x26x(written(clip, attack))
    assert int(options["bitrate"]) == int(said[2])
    assert int(options.get("vbv-maxrate") or options["vbv_maxrate"]) == int(said[2])
    assert int(options.get("vbv-bufsize") or options["vbv_bufsize"]) == 2 * int(said[2])


@for_ids(r"(av1|vp9)\.crf(\d+)")
def other_codecs(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """They write no settings: more than 12 steps of CRF to either side are more, and fewer, bytes."""
    assert isinstance(attack.after, Encode)
    file = written(clip, attack, 8)
    assert probe(file).codec == said[1]
    sizes = [
        len(replace(attack.after, crf=float(said[2]) + step).write(clip.frames[:8], FPS).getvalue())
        for step in (-12, 8)
    ]
    assert sizes[0] > len(file.getvalue()) > sizes[1]


@for_ids(r"none")
def identity(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    for one, other in zip(read_planes(written(clip, attack), threads=1), clip.frames, strict=False):
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.u, other.u)


@for_ids(r"(mpeg4|prores|gif)(?:\.q(\d+))?")
def older_codecs(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    file = written(clip, attack)
    assert probe(file).codec == said[1]
    frames = list(read_planes(file, threads=1))
    assert len(frames) == 3
    assert psnr(frames[0].y, clip.frames[0].y) > (40 if said[1] == "prores" else 25)
    if said[2]:  # a coarser quantiser: less
        assert isinstance(attack.after, Encode)
        assert len(replace(attack.after, crf=2 * int(said[2])).write(clip.frames[:3], FPS).getvalue()) < len(
            file.getvalue()
        )


@for_ids(r"still\.(jpeg|webp)(\d+)")
def still(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert isinstance(attack.after, Still)
    file = written(clip, attack)
    image = Image.open(file)
    assert (image.format or "").lower() == said[1]
    wanted = io.BytesIO()
    options: dict[str, Any] = {"subsampling": "4:2:0"} if said[1] == "jpeg" else {}
    Image.fromarray(rgb_of(clip.frames[1])).save(wanted, said[1], quality=int(said[2]), **options)
    assert len(file.getvalue()) == pytest.approx(len(wanted.getvalue()), rel=0.1)
    assert psnr(np.asarray(image.convert("RGB")), np.asarray(Image.open(wanted).convert("RGB"))) > 38


@for_ids(r"(?:seal\.)?jpeg\.(\d+)(?:\+.*)?")
def jpeg(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    file = io.BytesIO()
    Image.fromarray(rgb_of(clip.frames[0])).save(file, "jpeg", quality=int(said[1]), subsampling="4:2:0")
    assert psnr(levels(shown(clip, attack)[0]), np.asarray(Image.open(file)).astype(float)) > 40


# --- geometry ---


def even(side: float) -> int:
    return round(side / 2) * 2


@for_ids(r"(?:seal\.)?crop\.(0?\.?)(\d\d)(?:\.(centre|corner))?(?:\+.*)?")
def crop(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    share = int(said[2]) / 100
    frame = clip.frames[0]
    one = shown(clip, attack)[0]
    height, width = one.y.shape
    assert (height, width) == pytest.approx((share * HEIGHT, share * WIDTH), abs=1.01)
    assert attack.truth["scale"] == pytest.approx(1 / share)
    views = np.lib.stride_tricks.sliding_window_view(frame.y, (height, width))[::2, ::2]
    places = [(2 * top, 2 * left) for top, left in zip(*np.nonzero((views == one.y).all((2, 3))), strict=True)]
    assert len(places) == 1
    if said[3] == "corner":
        assert places == [(0, 0)]
    if said[3] == "centre":
        assert places[0] == pytest.approx(((HEIGHT - height) / 2, (WIDTH - width) / 2), abs=2)


@for_ids(r"combined\.crf(\d+)")
def combined(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert attack.before is not None
    assert (attack.before.codec, attack.before.crf) == ("h264", float(said[1]))
    (one, *_) = read_planes(written(clip, attack), threads=1)
    assert one.y.shape == pytest.approx((0.71 * HEIGHT, 0.71 * WIDTH), abs=1.01)
    assert one.y.max() < 16 + (clip.frames[0].y.max() - 16) * 0.5 + 6


@for_ids(r"(?:seal\.)?(resize|stretch|squeeze)\.([\d.]+?)(?:\+.*)?")
def resize(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    factor = {"1.33": 4 / 3}.get(said[2], float(said[2]))
    across = 1 if said[1] in ("stretch", "squeeze") else factor
    one = shown(clip, attack)[0]
    assert one.y.shape == pytest.approx((across * HEIGHT, factor * WIDTH), abs=2)
    wanted = zoom(
        clip.frames[0].y.astype(float),
        (one.y.shape[0] / HEIGHT, one.y.shape[1] / WIDTH),
        order=3,
        grid_mode=True,
        mode="nearest",
    )
    smooth = [ndimage.gaussian_filter(picture.astype(float), 2) for picture in (wanted, one.y)]
    assert psnr(smooth[0], smooth[1]) > 38


@for_ids(r"(?:seal\.)?(rotate|turn)\.(\d+)(\.black)?(?:\+.*)?")
def rotate(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """scipy's rotation, which is counter-clockwise as well; a quarter turn is clockwise."""
    degrees = int(said[2])
    one = shown(clip, attack)[0].y.astype(float)
    if said[1] == "turn":
        wanted = np.rot90(clip.frames[0].y, 3 if degrees == 90 else 2).astype(float)
        assert psnr(wanted, one) > 45
        return
    frame = clip.frames[0].y.astype(float)
    height, width = (int(0.6 * min(a, b) / 2) * 2 for a, b in zip(one.shape, frame.shape, strict=True))

    def middle(picture: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        soft: np.ndarray[Any, np.dtype[np.float64]] = ndimage.gaussian_filter(picture, 1.5)
        return soft[top : top + height, left : left + width]

    wanted, opposite = (
        middle(ndimage.rotate(frame, turn, reshape=False, order=3, mode="nearest")) for turn in (degrees, -degrees)
    )
    assert psnr(middle(one), wanted) > 32
    assert psnr(middle(one), opposite) < psnr(middle(one), wanted) - 5


@for_ids(r"(?:seal\.)?hflip(?:\+.*)?")
def hflip(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert np.array_equal(shown(clip, attack)[0].y, clip.frames[0].y[:, ::-1])


@for_ids(r"(?:seal\.)?perspective\.([\d.]+?)(?:\+.*)?")
def perspective(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """A white frame is a white quadrilateral: all of the middle, straight sides, within the bound of each corner."""
    share = float(said[1])
    white = replace(clip.frames[0], y=np.full((HEIGHT, WIDTH), 235, np.uint8))
    frames, _ = attack.edit([white], FPS, np.random.default_rng(4))
    covered = next(iter(frames)).y > 125
    rows, columns = int(np.ceil(share * HEIGHT / 2)) + 1, int(np.ceil(share * WIDTH / 2)) + 1
    assert covered[rows:-rows, columns:-columns].all()
    assert covered.mean() < 1
    inner = np.arange(rows, HEIGHT - rows)
    for side in (covered, covered[:, ::-1]):
        edge = side[inner].argmax(axis=1)
        line = np.polyval(np.polyfit(inner, edge, 1), inner)
        assert np.abs(edge - line).max() <= 1.2


@for_ids(r"letterbox\.([\d.]+?)\+.*")
def letterbox(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    one = shown(clip, attack)[0]
    bar = even(float(said[1]) * HEIGHT)
    assert np.array_equal(one.y, np.pad(clip.frames[0].y, ((bar, bar), (0, 0)), constant_values=16))


@for_ids(r"pip\.([\d.]+?)\+.*")
def picture_in_picture(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """What moves between two frames is the small picture alone, and so large."""
    one, other = (frame.y.astype(int) for frame in shown(clip, attack, 24)[::23])
    moved = one != other
    rows, columns = moved.any(axis=1).nonzero()[0], moved.any(axis=0).nonzero()[0]
    assert float(said[1]) * HEIGHT * 0.8 < np.ptp(rows) + 1 <= float(said[1]) * HEIGHT + 2
    assert float(said[1]) * WIDTH * 0.8 < np.ptp(columns) + 1 <= float(said[1]) * WIDTH + 2
    assert one.shape == (HEIGHT, WIDTH)


@for_ids(r"vertical\.(crop|blur)\+.*")
def vertical(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    one = shown(clip, attack)[0].y
    assert one.shape[1] / one.shape[0] == pytest.approx(9 / 16, rel=0.03)
    inner, outer = (one, clip.frames[0].y) if said[1] == "crop" else (clip.frames[0].y, one)
    views = np.lib.stride_tricks.sliding_window_view(outer, inner.shape)
    assert (views == inner).all((2, 3)).sum() == 1


@for_ids(r"(zoom|pan)\.([\d.]+?)\+.*")
def zoom_and_pan(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """The last frame holds 1 / factor of each side, about the centre or in a corner."""
    one = shown(clip, attack, 24)[-1].y.astype(float)
    assert one.shape == (HEIGHT, WIDTH)
    factor = float(said[2])
    height, width = HEIGHT / factor, WIDTH / factor
    top, left = ((HEIGHT - height) / 2, (WIDTH - width) / 2) if said[1] == "zoom" else (HEIGHT - height, WIDTH - width)
    rows, columns = ((np.arange(side) + 0.5) / factor - 0.5 + start for side, start in ((HEIGHT, top), (WIDTH, left)))
    wanted = ndimage.map_coordinates(
        clip.frames[23].y.astype(float), np.meshgrid(rows, columns, indexing="ij"), order=3, mode="nearest"
    )
    assert psnr(ndimage.gaussian_filter(one, 1.5), ndimage.gaussian_filter(wanted, 1.5)) > 32


# --- light and colour ---


@for_ids(r"(?:seal\.)?brightness\.([\d.]+?)(?:\+.*)?")
def brightness(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    wanted = np.clip(levels(clip.frames[0]) * float(said[1]), 0, 255)
    assert psnr(levels(shown(clip, attack)[0]), wanted) > 36


@for_ids(r"(?:seal\.)?contrast\.([\d.]+?)(?:\+.*)?")
def contrast(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    before, after = levels(clip.frames[0]), levels(shown(clip, attack)[0])
    grey = (before @ [0.299, 0.587, 0.114]).mean()  # torchvision's adjust_contrast blends with the mean grey
    wanted = np.clip(grey + float(said[1]) * (before - grey), 0, 255)
    assert psnr(after, wanted) > 34


@for_ids(r"(?:seal\.)?(saturation\.|grey)([\d.]*?)(?:\+.*)?")
def saturation(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    factor = float(said[2]) if said[2] else 0
    one, frame = shown(clip, attack)[0], clip.frames[0]
    assert np.array_equal(one.y, frame.y)
    for after, before in ((one.u, frame.u), (one.v, frame.v)):
        assert np.abs(after - np.clip(128 + factor * (before.astype(float) - 128), 0, 255)).max() <= 0.51


@for_ids(r"(seal\.)?hue\.([-+\d.]+?)(?:\+h264.*)?")
def hue(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    degrees = 360 * float(said[2]) if said[1] else float(said[2])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    before, after = (part.u.astype(float) - 128 + 1j * (part.v.astype(float) - 128) for part in (frame, one))
    assert np.array_equal(one.y, frame.y)
    assert np.abs(after - before * np.exp(1j * np.radians(degrees))).max() <= 1


@for_ids(r"gamma\.([\d.]+?)\+.*")
def gamma(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    wanted = 255 * (levels(clip.frames[0]) / 255) ** float(said[1])
    assert psnr(levels(shown(clip, attack)[0]), wanted) > 34


@for_ids(r"(seal\.)?blur\.([\d.]+?)(?:\+.*)?")
def blur(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    sigma = 1.7 if said[1] else float(said[2])  # OpenCV's sigma for 9 taps: .3 ((9 - 1) / 2 - 1) + .8
    assert sigma == pytest.approx(0.3 * (4 - 1) + 0.8 if said[1] else float(said[2]))
    wanted = ndimage.gaussian_filter(clip.frames[0].y.astype(float), sigma, mode="nearest")
    assert np.abs(shown(clip, attack)[0].y - wanted).max() <= 1.5


@for_ids(r"noise\.(\d+)\+.*")
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
    "trim.0.5s": (12, 24),
    "drop.0.25": (18, 24),
    "repeat.0.25": (30, 24),
    "splice.0.3": (24, 24),
    "average.3": (24, 24),
    "reorder.0.5s": (24, 24),
    "reverse": (24, 24),
}  # frames and rate of 24 frames at 24 a second


@for_ids(rf"({'|'.join(map(re.escape, TIMES))})\+.*")
def time(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """How many frames, at which rate, and which of the clip they are."""
    frames, fps = rate_of(clip, attack)
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


@for_ids(r"(caption|logo|emoji|border\.0\.08|blurbox\.0\.4)\+.*")
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


# --- chains, regeneration, people who can mark ---


@for_ids(r"chain\.(short-video|messenger|repost|screen)")
def chain(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """On a larger clip: sizes, rate and what the last encoder says."""
    frames = [
        replace(one, y=np.kron(one.y, big), u=np.kron(one.u, big), v=np.kron(one.v, big))
        for one in clip.frames[:5]
        for big in (np.ones((4, 4), np.uint8),)
    ]
    file = attack.apply(Clip(frames, FPS), np.random.default_rng(1))
    info, options = probe(file), x26x(file)
    height, width, fps, crf = {
        "short-video": (640, 360, 24, "28"),
        "messenger": (480, 576, 24, None),
        "repost": (540, 648, 24, "30"),
        "screen": (556, 668, 60, "26"),
    }[said[1]]
    assert (info.height, info.width) == pytest.approx((height, width), abs=2)
    assert info.fps == fps
    if crf:
        assert float(options["crf"]) == float(crf)
    else:
        assert (options["bitrate"], options["keyint"]) == ("800", "120")


@for_ids(r"(?:seal\.)?median\.(\d)(?:\+.*)?")
def median(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    size = int(said[1])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    windows = np.lib.stride_tricks.sliding_window_view(frame.y, (size, size))
    inner = size // 2
    assert np.array_equal(one.y[inner:-inner, inner:-inner], np.median(windows, axis=(2, 3)))


@for_ids(r"denoise\.(\d)\+.*")
def denoise(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """scipy's Wiener filter, away from the edges."""
    from scipy.signal import wiener

    one, frame = shown(clip, attack)[0], clip.frames[0]
    wanted = wiener(frame.y.astype(float), 5, noise=float(said[1]) ** 2)
    assert np.abs(one.y - wanted)[4:-4, 4:-4].max() <= 1.01


@for_ids(r"resharpen\.(\d)\+.*")
def resharpen(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    sigma = float(said[1])
    one, frame = shown(clip, attack)[0], clip.frames[0]
    soft = ndimage.gaussian_filter(frame.y.astype(float), sigma, mode="nearest")
    wanted = soft + 1.5 * (soft - ndimage.gaussian_filter(soft, sigma, mode="nearest"))
    assert np.abs(one.y - wanted).max() <= 3  # the soft picture is rounded on the way


@for_ids(r"(subtract\.own|subtract\.16|transplant\.16|overwrite|unmarked)\+h264\.crf23")
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


def checks_of(name: str) -> list[tuple[Check, re.Match[str]]]:
    return [(check, said) for pattern, check in CHECKS if (said := re.fullmatch(pattern, name))]


@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_id_does_what_it_says(clip: Clip, name: str) -> None:
    ((check, said),) = checks_of(name)  # each id has its check, and just one
    check(clip, ATTACKS[name], said)


def test_an_id_that_nobody_checks_is_noticed() -> None:
    assert checks_of("shear.3+h264.crf28") == []
    assert ATTACKS["none"].edit is unchanged
