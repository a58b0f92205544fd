"""Codecs beyond the table, each against a property that does not come from its own code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eval.attacks import ATTACKS, Clip, Encode, temporal
from eval.attacks.color import rgb_of
from eval.attacks.model import chained, recoded
from genwm.video import probe
from tests.clips import psnr
from tests.eval.edits import FPS, HEIGHT, WIDTH, decoded, edited, planes, same, short_clip


@pytest.fixture(scope="module")
def clip() -> Clip:
    return short_clip()


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
