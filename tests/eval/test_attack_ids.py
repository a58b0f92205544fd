"""Every id of codecs, geometry and chains against what the id itself says: sizes and strengths are read from the name,
and held against numpy, scipy, Pillow or what the encoder wrote into the file."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.ndimage import zoom

from eval.attacks import ATTACKS, Attack, Clip, Encode
from eval.attacks.color import rgb_of
from eval.attacks.model import Still
from genwm.video import probe, read_planes
from tests.attack_ids import FIRST, FPS, HEIGHT, WIDTH, Checks, even, levels, shown, small_clip, written, x26x
from tests.clips import psnr

CHECKS = Checks(*FIRST)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return small_clip()


# --- the encode that an id names ---


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


@CHECKS.ids(r"h264\.crf(\d+)(?:\.(gop1s|gop10s|ultrafast|slow|444))?")
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


@CHECKS.ids(r"h265\.crf(\d+)(\.10bit)?")
def x265(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    options = x26x(written(clip, attack))
    assert (float(options["crf"]), options["rc"]) == (float(said[1]), "crf")
    assert probe(written(clip, attack)).pixel_format == ("yuv420p10le" if said[2] else "yuv420p")


@CHECKS.ids(r"(h264|h265)\.(\d+)k")
def bitrate(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    options = x26x(written(clip, attack))
    assert int(options["bitrate"]) == int(said[2])
    assert int(options.get("vbv-maxrate") or options["vbv_maxrate"]) == int(said[2])
    assert int(options.get("vbv-bufsize") or options["vbv_bufsize"]) == 2 * int(said[2])


@CHECKS.ids(r"(av1|vp9)\.crf(\d+)")
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


@CHECKS.ids(r"none")
def identity(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    for one, other in zip(read_planes(written(clip, attack), threads=1), clip.frames, strict=False):
        assert np.array_equal(one.y, other.y)
        assert np.array_equal(one.u, other.u)


@CHECKS.ids(r"(mpeg4|prores|gif)(?:\.q(\d+))?")
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


@CHECKS.ids(r"still\.(jpeg|webp)(\d+)")
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


@CHECKS.ids(r"(?:seal\.)?jpeg\.(\d+)(?:\+.*)?")
def jpeg(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    file = io.BytesIO()
    Image.fromarray(rgb_of(clip.frames[0])).save(file, "jpeg", quality=int(said[1]), subsampling="4:2:0")
    assert psnr(levels(shown(clip, attack)[0]), np.asarray(Image.open(file)).astype(float)) > 40


# --- geometry ---


@CHECKS.ids(r"(?:seal\.)?crop\.(0?\.?)(\d\d)(?:\.(centre|corner))?(?:\+.*)?")
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


@CHECKS.ids(r"combined\.crf(\d+)")
def combined(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert attack.before is not None
    assert (attack.before.codec, attack.before.crf) == ("h264", float(said[1]))
    (one, *_) = read_planes(written(clip, attack), threads=1)
    assert one.y.shape == pytest.approx((0.71 * HEIGHT, 0.71 * WIDTH), abs=1.01)
    assert one.y.max() < 16 + (clip.frames[0].y.max() - 16) * 0.5 + 6


@CHECKS.ids(r"(?:seal\.)?(resize|stretch|squeeze)\.([\d.]+?)(?:\+.*)?")
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


@CHECKS.ids(r"(?:seal\.)?(rotate|turn)\.(\d+)(\.black)?(?:\+.*)?")
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


@CHECKS.ids(r"(?:seal\.)?hflip(?:\+.*)?")
def hflip(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert np.array_equal(shown(clip, attack)[0].y, clip.frames[0].y[:, ::-1])


@CHECKS.ids(r"vflip\+.*")
def vflip(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    assert np.array_equal(shown(clip, attack)[0].y, clip.frames[0].y[::-1])
    assert np.array_equal(shown(clip, attack)[0].u, clip.frames[0].u[::-1])


@CHECKS.ids(r"(?:seal\.)?perspective\.([\d.]+?)(?:\+.*)?")
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


@CHECKS.ids(r"letterbox\.([\d.]+?)\+.*")
def letterbox(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    one = shown(clip, attack)[0]
    bar = even(float(said[1]) * HEIGHT)
    assert np.array_equal(one.y, np.pad(clip.frames[0].y, ((bar, bar), (0, 0)), constant_values=16))


@CHECKS.ids(r"pip\.([\d.]+?)\+.*")
def picture_in_picture(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    """What moves between two frames is the small picture alone, and so large."""
    one, other = (frame.y.astype(int) for frame in shown(clip, attack, 24)[::23])
    moved = one != other
    rows, columns = moved.any(axis=1).nonzero()[0], moved.any(axis=0).nonzero()[0]
    assert float(said[1]) * HEIGHT * 0.8 < np.ptp(rows) + 1 <= float(said[1]) * HEIGHT + 2
    assert float(said[1]) * WIDTH * 0.8 < np.ptp(columns) + 1 <= float(said[1]) * WIDTH + 2
    assert one.shape == (HEIGHT, WIDTH)


@CHECKS.ids(r"vertical\.(crop|blur)\+.*")
def vertical(clip: Clip, attack: Attack, said: re.Match[str]) -> None:
    one = shown(clip, attack)[0].y
    assert one.shape[1] / one.shape[0] == pytest.approx(9 / 16, rel=0.03)
    inner, outer = (one, clip.frames[0].y) if said[1] == "crop" else (clip.frames[0].y, one)
    views = np.lib.stride_tricks.sliding_window_view(outer, inner.shape)
    assert (views == inner).all((2, 3)).sum() == 1


@CHECKS.ids(r"(zoom|pan)\.([\d.]+?)\+.*")
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


# --- chains ---


@CHECKS.ids(r"chain\.(short-video|messenger|repost|screen)")
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


@pytest.mark.parametrize("name", CHECKS.names)
def test_an_id_does_what_it_says(clip: Clip, name: str) -> None:
    ((check, said),) = CHECKS.of(name)  # each id has its check, and just one
    check(clip, ATTACKS[name], said)


def test_an_id_that_nobody_checks_is_noticed() -> None:
    assert CHECKS.of("shear.3+h264.crf28") == []
