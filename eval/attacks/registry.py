"""The attacks by name. ``DEFAULT`` is the published table, in its order; a few more are there to be asked for."""

from __future__ import annotations

from collections.abc import Iterable

from eval.attacks.geometry import crop, letterbox, mirrored, resize, rotate, zoom
from eval.attacks.model import Attack, Edit, Encode, Still, each
from eval.attacks.overlays import caption
from eval.attacks.photometry import blur, brightness, contrast, dimmed, gamma, hue, noise, saturation
from eval.attacks.temporal import drop, halve_rate, speed, trim_start
from genwm.errors import InputError
from genwm.video import VideoCodec

_ENCODERS: dict[VideoCodec, tuple[str, str]] = {
    "h264": ("x264, preset", "medium"),
    "hevc": ("x265, preset", "medium"),
    "av1": ("SVT-AV1, preset", "8"),
    "vp9": ("libvpx-vp9, good, cpu-used", "4"),
}
_SEAL = "Video Seal's evaluation"
_USUAL = "a usual edit"
_FACTORS = (0.5, 1.5)


def _encode(codec: VideoCodec, crf: float, gop_s: float | None = None) -> Encode:
    return Encode(codec=codec, crf=crf, preset=_ENCODERS[codec][1], gop_s=gop_s)


def _codec(name: str, codec: VideoCodec, crf: float) -> Attack:
    return Attack(
        id=f"{name}.crf{crf:g}",
        description=f"{' '.join(_ENCODERS[codec])}, CRF {crf:g}, the encoder's own key frames",
        source="the encoder",
        after=_encode(codec, crf),
    )


def _combined(crf: float) -> Attack:
    # Video Seal hands the dimmed crop to its extractor as arrays; a reader of files gets it without loss.
    return Attack(
        id=f"combined.crf{crf:g}",
        description=f"H.264 CRF {crf:g}, decoded, cropped to .71 of each side at a random place, brightness x 0.5; "
        "kept in lossless FFV1",
        source=f"{_SEAL}, 'combined'",
        before=_encode("h264", crf),
        edit=crop(0.71, lambda planes: dimmed(planes, factor=0.5)),
        after=Encode(codec="ffv1"),
    )


def _edited(
    name: str, edit: Edit, description: str, *, source: str = _USUAL, crf: float = 28, gop_s: float | None = None
) -> Attack:
    keys = f" with a key frame every {gop_s:g} s" if gop_s else ""
    return Attack(
        id=f"{name}+h264.crf{crf:g}",
        description=f"{description}; then H.264 CRF {crf:g}{keys}",
        source=source,
        edit=edit,
        after=_encode("h264", crf, gop_s),
    )


_TABLE = (
    *(_codec("h264", "h264", crf) for crf in (23, 30, 40)),
    *(_codec("h265", "hevc", crf) for crf in (30, 40)),
    *(_codec("av1", "av1", crf) for crf in (35, 55)),
    _codec("vp9", "vp9", 40),
    *(_combined(crf) for crf in (23, 30, 40)),
    _edited("crop.55", crop(0.55), "cropped to .55 of each side at a random place", source=_SEAL, crf=30),
    _edited("crop.30", crop(0.30), "cropped to .30 of each side at a random place", source=_SEAL, crf=23),
    _edited("resize.0.5", resize(0.5, 0.5), "half the width and height", crf=30),
    _edited("zoom.1.12", zoom(1.12), "slow zoom about the centre from 1 to 1.12 over the clip"),
    _edited("resize.1.5", resize(1.5, 1.5), "1.5 times the width and height"),
    _edited("rotate.5", rotate(5), "turned by 5 degrees about the centre, black corners cut away, shape kept"),
    _edited("hflip", each(mirrored), "left and right exchanged"),
    _edited("squeeze.0.75", resize(0.75, 1), "width times 0.75, as 16:9 squeezed to 4:3"),
    _edited("letterbox.0.2", letterbox(0.2), "black bars of 20 % of the height each, added above and below"),
    *(_edited(f"brightness.{f:g}", brightness(f), f"RGB times {f:g}", source=_SEAL) for f in _FACTORS),
    *(_edited(f"contrast.{f:g}", contrast(f), f"RGB contrast times {f:g}", source=_SEAL) for f in _FACTORS),
    *(_edited(f"saturation.{f:g}", saturation(f), f"U and V times {f:g}", source="FFmpeg's hue=s") for f in _FACTORS),
    *(_edited(f"hue.{d:+g}", hue(d), f"(U, V) turned by {d:g} degrees", source="FFmpeg's hue=h") for d in (30, -30)),
    _edited("grey", saturation(0), "colour removed", source="FFmpeg's hue=s"),
    *(_edited(f"gamma.{g:g}", gamma(g), f"RGB to the power of {g:g}", source="FFmpeg's lutrgb") for g in (0.7, 1.4)),
    _edited("blur.1.6", blur(1.6), "Gaussian blur, sigma 1.6 pixels"),
    _edited("noise.8", noise(8), "Gaussian noise on RGB, sigma 8 levels"),
    _edited("caption", caption(), "a still caption, two lines of white text on a box of 60 % black"),
    _edited("fps.half", halve_rate(), "every second frame at half the rate"),
    _edited("drop.0.25", drop(0.25), "a random quarter of the frames left out"),
    _edited("speed.1.25", speed(1.25), "1.25 times as fast at the same rate, nearest frames"),
    _edited("trim.0.5s", trim_start(0.5), "half a second cut off the start", crf=30, gop_s=1),
    Attack(
        id="still.jpeg80",
        description="the middle frame of the marked clip as a JPEG of quality 80, 4:2:0",
        source="a screenshot",
        after=Still(quality=80),
    ),
)

_EXTRA = (
    Attack(
        id="none",
        description="the marked clip itself, in lossless FFV1",
        source="the identity",
        after=Encode(codec="ffv1"),
    ),
    _codec("h264", "h264", 28),
    _codec("h264", "h264", 50),
    _combined(50),
)

ATTACKS: dict[str, Attack] = {attack.id: attack for attack in (*_TABLE, *_EXTRA)}
DEFAULT: tuple[str, ...] = tuple(attack.id for attack in _TABLE)


def attacks_named(ids: Iterable[str] | None = None) -> list[Attack]:
    """The attacks of those ids in that order, each once; None: the table. Unknown ids raise InputError."""
    wanted = list(dict.fromkeys(DEFAULT if ids is None else ids))
    unknown = [name for name in wanted if name not in ATTACKS]
    if unknown:
        raise InputError(f"Expected attacks of {', '.join(ATTACKS)}, got {', '.join(unknown)}; choose from the list")
    return [ATTACKS[name] for name in wanted]
