"""How attacks of one kind are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from eval.attacks.geometry import crop
from eval.attacks.model import Attack, Edit, Encode, Kind, Maker, unchanged
from eval.attacks.photometry import dimmed
from genwm.video import VideoCodec

ENCODERS: dict[VideoCodec, tuple[str, str]] = {
    "h264": ("x264, preset", "medium"),
    "hevc": ("x265, preset", "medium"),
    "av1": ("SVT-AV1, preset", "8"),
    "vp9": ("libvpx-vp9, good, cpu-used", "4"),
}
SEAL = "Video Seal's evaluation"
USUAL = "a usual edit"
LOSSLESS = Encode(codec="ffv1")


def encode(codec: VideoCodec, crf: float, gop_s: float | None = None) -> Encode:
    return Encode(codec=codec, crf=crf, preset=ENCODERS[codec][1], gop_s=gop_s)


def codec(name: str, codec: VideoCodec, crf: float) -> Attack:
    return Attack(
        id=f"{name}.crf{crf:g}",
        kind="codec",
        description=f"{' '.join(ENCODERS[codec])}, CRF {crf:g}, the encoder's own key frames",
        source="the encoder",
        after=encode(codec, crf),
    )


def encoded(name: str, description: str, after: Encode) -> Attack:
    """An encode that is described in words."""
    return Attack(id=name, kind="codec", description=description, source="the encoder", after=after)


def combined(crf: float) -> Attack:
    # Video Seal hands the dimmed crop to its extractor as arrays; a reader of files gets it without loss.
    return Attack(
        id=f"combined.crf{crf:g}",
        kind="chain",
        description=f"H.264 CRF {crf:g}, decoded, cropped to .71 of each side at a random place, brightness x 0.5; "
        "kept in lossless FFV1",
        source=f"{SEAL}, 'combined'",
        before=encode("h264", crf),
        edit=crop(0.71, lambda planes: dimmed(planes, factor=0.5)),
        after=LOSSLESS,
        truth={"scale": 1 / 0.71, "rotation": 0, "flip": 0},
    )


def edited(
    name: str,
    edit: Edit,
    description: str,
    *,
    kind: Kind,
    source: str = USUAL,
    crf: float = 28,
    gop_s: float | None = None,
    truth: Mapping[str, float] | None = None,
    whole_id: bool = False,
) -> Attack:
    """An edit, then H.264 at ``crf``; the id says so unless ``name`` is the ``whole_id``."""
    keys = f" with a key frame every {gop_s:g} s" if gop_s else ""
    return Attack(
        id=name if whole_id else f"{name}+h264.crf{crf:g}",
        kind=kind,
        description=f"{description}; then H.264 CRF {crf:g}{keys}",
        source=source,
        edit=edit,
        after=encode("h264", crf, gop_s),
        truth=truth or {},
    )


def lossless(
    name: str, edit: Edit, description: str, *, kind: Kind, truth: Mapping[str, float] | None = None
) -> Attack:
    """An edit of Video Seal's evaluation, whose extractor gets the arrays: kept without loss."""
    return Attack(
        id=name,
        kind=kind,
        description=f"{description}; kept in lossless FFV1",
        source=SEAL,
        edit=edit,
        after=LOSSLESS,
        truth=truth or {},
    )


def inside(
    name: str, insider: Callable[[Maker], Edit], description: str, *, crf: float = 23, forges: bool = False
) -> Attack:
    """An edit of someone who can mark, then H.264 at ``crf``."""
    return Attack(
        id=f"{name}+h264.crf{crf:g}",
        kind="estimation",
        description=f"{description}; then H.264 CRF {crf:g}",
        source="a copy or collusion attack",
        edit=unchanged,
        insider=insider,
        after=encode("h264", crf),
        forges=forges,
    )
