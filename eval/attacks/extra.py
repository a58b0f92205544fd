"""The attacks beyond the published table, by kind, and the sets that use them."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

from eval.attacks.chains import CHAINS
from eval.attacks.geometry import crop, mirrored, resize, upside_down, zoom
from eval.attacks.insiders import overwrite, subtract_collected, subtract_own, transplant, unmarked
from eval.attacks.making import LOSSLESS, SEAL, codec, combined, edited, encoded, inside, lossless
from eval.attacks.model import Attack, Encode, Still, each
from eval.attacks.overlays import blur_box, border, emoji, logo
from eval.attacks.photometry import blur, brightness, contrast, hue, inverted, saturation
from eval.attacks.regeneration import denoise, jpeg_frames, median, resharpen
from eval.attacks.temporal import double_rate, reorder, repeat, reverse, speed, splice, to_rate, window_average
from eval.attacks.warps import on_blur, pan, perspective, picture_in_picture, quarter_turned, spin, upright

_CODECS = (
    Attack(
        id="none",
        kind="codec",
        description="the marked clip itself, in lossless FFV1",
        source="the identity",
        after=LOSSLESS,
    ),
    codec("h264", "h264", 28),
    codec("h264", "h264", 50),
    codec("h265", "hevc", 50),
    codec("vp9", "vp9", 32),
    codec("av1", "av1", 45),
    *(
        encoded(
            f"{name}.{rate}k",
            f"{words} at {rate} kbit/s",
            Encode(codec=kind, preset=preset, bitrate_kbps=rate),  # type: ignore[arg-type]
        )
        for name, words, kind, preset, rates in (
            ("h264", "x264, preset medium, one pass", "h264", "medium", (250, 500, 1000, 4000)),
            ("h265", "x265, preset medium, one pass", "hevc", "medium", (500,)),
        )
        for rate in rates
    ),
    encoded(
        "h264.crf30.gop1s",
        "x264, preset medium, CRF 30, a key frame every second",
        Encode(codec="h264", crf=30, preset="medium", gop_s=1),
    ),
    encoded(
        "h264.crf30.gop10s",
        "x264, preset medium, CRF 30, a key frame every 10 s",
        Encode(codec="h264", crf=30, preset="medium", gop_s=10),
    ),
    encoded("h264.crf30.ultrafast", "x264, preset ultrafast, CRF 30", Encode(codec="h264", crf=30, preset="ultrafast")),
    encoded("h264.crf30.slow", "x264, preset slow, CRF 30", Encode(codec="h264", crf=30, preset="slow")),
    encoded(
        "h265.crf30.10bit",
        "x265, preset medium, CRF 30, 10 bits",
        Encode(codec="hevc", crf=30, preset="medium", bit_depth=10),
    ),
    encoded(
        "h264.crf30.444",
        "x264, preset medium, CRF 30, 4:4:4",
        Encode(codec="h264", crf=30, preset="medium", chroma="4:4:4"),
    ),
    encoded("mpeg4.q8", "MPEG-4 Part 2, quantiser 8", Encode(codec="mpeg4", crf=8)),
    encoded("prores", "ProRes 422", Encode(codec="prores")),
    encoded("gif", "GIF, 256 colours a frame", Encode(codec="gif")),
    *(
        Attack(
            id=f"still.{kind}{quality}",
            kind="codec",
            description=f"the middle frame of the marked clip as {words} of quality {quality}",
            source="a screenshot",
            after=Still(quality=quality, format=kind),  # type: ignore[arg-type]
        )
        for kind, words, quality in (("jpeg", "a JPEG", 95), ("jpeg", "a JPEG", 50), ("webp", "a WebP", 75))
    ),
    *(
        edited(f"jpeg.{quality}", jpeg_frames(quality), f"each frame a JPEG of {quality}", kind="codec", source=SEAL)
        for quality in (40, 80)
    ),
)

_shape = partial(edited, kind="geometry")
_CROPS = tuple(
    _shape(
        f"crop.{name}",
        crop(side),
        f"cropped to .{name} of each side at a random place" if side < 1 else "not cropped",
        crf=crf,
        source=SEAL,
        truth={"scale": 1 / side, "rotation": 0, "flip": 0},
    )
    for name, side in (("85", 0.85), ("71", 0.71), ("55", 0.55), ("30", 0.30))
    for crf in (23, 30, 40)
    if (name, crf) not in {("55", 30), ("30", 23)}  # in the table
)
_GEOMETRY = (
    *_CROPS,
    *(
        _shape(
            f"crop.55.{place}",
            crop(0.55, place=place),  # type: ignore[arg-type]
            f"cropped to .55 of each side, {words}",
            crf=30,
            truth={"scale": 1 / 0.55, "rotation": 0, "flip": 0},
        )
        for place, words in (("centre", "the middle"), ("corner", "the left upper corner"))
    ),
    _shape("resize.0.35", resize(0.35, 0.35), "0.35 times the width and height", truth={"scale": 1, "rotation": 0}),
    _shape("stretch.1.33", resize(4 / 3, 1), "width times 4/3", truth={"aspect": 4 / 3}),
    _shape("vflip", each(upside_down), "top and bottom exchanged", truth={"scale": 1, "flip": 1}),
    _shape("turn.90", each(quarter_turned), "turned by 90 degrees clockwise, whole"),
    _shape("turn.180", spin(180), "turned by 180 degrees", truth={"scale": 1}),
    _shape("rotate.10.black", spin(10), "turned by 10 degrees at its own size, black corners", truth={"rotation": -10}),
    *(
        _shape(f"perspective.{s:g}", perspective(s), f"corners moved inwards by up to {s:g} of half a side")
        for s in (0.1, 0.3)
    ),
    _shape("pip.0.6", picture_in_picture(0.6), "at .6 of its size, somewhere over another picture"),
    _shape("vertical.crop", each(upright), "cut to the middle 9:16"),
    _shape("vertical.blur", each(on_blur), "whole, in a 9:16 frame over its own blur"),
    _shape("zoom.1.3", zoom(1.3), "slow zoom about the centre from 1 to 1.3 over the clip"),
    _shape("pan.1.3", pan(1.3), "a window of 1/1.3 of each side wanders across, enlarged"),
)
_LIGHT = (edited("negative", each(inverted), "255 - RGB", kind="photometry"),)
_OVERLAYS = (
    edited("logo", logo(), "a white disc with a letter in a corner, 70 % opaque", kind="overlay"),
    edited("emoji", emoji(), "three yellow faces, a quarter of the short side wide", kind="overlay"),
    edited("border.0.08", border(0.08), "a frame of one colour, 8 % of the short side wide", kind="overlay"),
    edited("blurbox.0.4", blur_box(0.4), "a box of .4 of each side blurred, sigma 12", kind="overlay"),
)
_time = partial(edited, kind="time")
_TIME = (
    _time("speed.0.5", speed(0.5), "half as fast at the same rate, nearest frames"),
    _time("fps.60", to_rate(Fraction(60)), "60 frames a second, the nearest frame"),
    _time("interpolate.2", double_rate(), "twice the rate, the mean between any two frames"),
    _time("average.3", window_average(3), "each frame the mean of 3"),
    _time("repeat.0.25", repeat(0.25), "a random quarter of the frames shown twice"),
    _time("reorder.0.5s", reorder(0.5), "parts of half a second in a random order"),
    _time("reverse", reverse(), "played backwards"),
    _time("splice.0.3", splice(0.3), "the middle 30 % replaced by other, unmarked footage"),
)
_CHAINS = tuple(
    Attack(id=name, kind="chain", description=words, source="a typical way of a clip", edit=edit, after=after)
    for name, (edit, after, words) in CHAINS.items()
)
_REGENERATION = (
    edited("resharpen.2", resharpen(2.0, 1.5), "Gaussian blur, sigma 2, then unsharp by 1.5", kind="regeneration"),
    edited("median.5", median(5), "median of 5 x 5", kind="regeneration"),
    edited("denoise.6", denoise(6.0), "Wiener filter of 5 x 5 for noise of 6 levels", kind="regeneration"),
)
_INSIDERS = (
    inside("subtract.own", subtract_own(), "the mean over the clip's frames without its slow part, subtracted"),
    inside("subtract.16", subtract_collected(16), "a mark estimated from 16 other pictures of the key, subtracted"),
    inside("transplant.16", transplant(16), "that estimate added to the unmarked clip", forges=True),
    inside("overwrite", overwrite(), "marked again with another key and payload"),
    inside("unmarked", unmarked(), "no attack: the clip without a mark, in which nothing is to be found", forges=True),
)
# As in Video Seal's evaluation: single edits reach the extractor without loss, the combination as `combined`.
_SEAL = (
    lossless("seal.hflip", each(mirrored), "left and right exchanged", kind="geometry", truth={"flip": 1}),
    *(
        lossless(f"seal.rotate.{d}", spin(d), f"turned by {d} degrees, black corners", kind="geometry")
        for d in (10, 90)
    ),
    *(
        lossless(f"seal.resize.{s:g}", resize(s, s), f"{s:g} times the sides", kind="geometry", truth={"scale": 1})
        for s in (0.55, 0.71)
    ),
    *(
        lossless(f"seal.crop.{s:g}", crop(s), f"cropped to {s:g} of each side", kind="geometry", truth={"scale": 1 / s})
        for s in (0.55, 0.71)
    ),
    lossless("seal.perspective.0.5", perspective(0.5), "corners up to .5 of half a side inwards", kind="geometry"),
    *(lossless(f"seal.brightness.{f:g}", brightness(f), f"RGB times {f:g}", kind="photometry") for f in (0.5, 1.5)),
    *(lossless(f"seal.contrast.{f:g}", contrast(f), f"contrast times {f:g}", kind="photometry") for f in (0.5, 1.5)),
    *(lossless(f"seal.saturation.{f:g}", saturation(f), f"U, V times {f:g}", kind="photometry") for f in (0.5, 1.5)),
    lossless("seal.hue.0.25", hue(90), "(U, V) turned by 90 degrees, a quarter of the circle", kind="photometry"),
    lossless("seal.jpeg.40", jpeg_frames(40), "each frame a JPEG of quality 40", kind="codec"),
    lossless("seal.blur.9", blur(1.7), "Gaussian blur over 9 pixels, sigma 1.7", kind="photometry"),
    lossless("seal.median.9", median(9), "median of 9 x 9", kind="regeneration"),
)

EXTRA: tuple[Attack, ...] = (
    *_CODECS,
    combined(50),
    *_GEOMETRY,
    *_LIGHT,
    *_OVERLAYS,
    *_TIME,
    *_CHAINS,
    *_REGENERATION,
    *_INSIDERS,
    *_SEAL,
)

#: Crop by CRF: every combination of these, for a heat map.
GRID_CRFS = (23, 30, 40)
GRID_CROPS = (("", 1.0), ("crop.85", 0.85), ("crop.71", 0.71), ("crop.55", 0.55), ("crop.30", 0.30))
GRID: tuple[str, ...] = tuple(
    f"{name}+h264.crf{crf}" if name else f"h264.crf{crf}" for name, _ in GRID_CROPS for crf in GRID_CRFS
)

#: Twenty that take minutes.
QUICK: tuple[str, ...] = (
    *("h264.crf23", "h264.crf30", "h264.crf40", "h265.crf40", "av1.crf55", "vp9.crf40"),
    *("combined.crf30", "crop.55+h264.crf30", "resize.0.5+h264.crf30", "rotate.5+h264.crf28", "hflip+h264.crf28"),
    *("brightness.0.5+h264.crf28", "grey+h264.crf28", "noise.8+h264.crf28", "caption+h264.crf28"),
    *("fps.half+h264.crf28", "chain.short-video", "chain.messenger", "resharpen.2+h264.crf28", "still.jpeg80"),
)

#: Video Seal's evaluation of video, in its order: 72 frames, sides by ratio, codecs last. H264rgb is left out (no
#: player or site keeps RGB in H.264), CRF 60 too (x264 ends at 51).
VIDEOSEAL_72: tuple[str, ...] = (
    *("none", "seal.hflip", "seal.rotate.10", "seal.rotate.90", "seal.resize.0.55", "seal.resize.0.71"),
    *("seal.crop.0.55", "seal.crop.0.71", "seal.perspective.0.5", "seal.brightness.0.5", "seal.brightness.1.5"),
    *("seal.contrast.0.5", "seal.contrast.1.5", "seal.saturation.0.5", "seal.saturation.1.5", "seal.hue.0.25"),
    *("seal.jpeg.40", "seal.blur.9", "seal.median.9", "h264.crf30", "h264.crf40", "h264.crf50"),
    *("h265.crf30", "h265.crf40", "h265.crf50", "vp9.crf32"),
    *("combined.crf23", "combined.crf30", "combined.crf40", "combined.crf50"),
)

#: The rows that others have published (see eval/methods/published.toml), and eight more that none of them has.
COMPARISON: tuple[str, ...] = (
    *("h264.crf30", "h264.crf40", "h264.crf50", "h265.crf30", "h265.crf40", "h265.crf50", "vp9.crf32"),
    *("seal.crop.0.71", "seal.crop.0.55", "seal.perspective.0.5", "seal.rotate.10", "seal.rotate.90"),
    *("combined.crf23", "combined.crf30", "combined.crf40", "combined.crf50"),
    *("h264.crf23", "av1.crf55", "resize.0.5+h264.crf30", "grey+h264.crf28", "caption+h264.crf28"),
    *("fps.half+h264.crf28", "chain.short-video", "chain.screen"),
)
