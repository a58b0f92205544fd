"""The attacks by name, and the sets that are measured together. ``DEFAULT`` is the published table, in its order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import partial

from eval.attacks.extra import COMPARISON, EXTRA, GRID, QUICK, VIDEOSEAL_72
from eval.attacks.geometry import crop, letterbox, mirrored, resize, rotate, zoom
from eval.attacks.making import SEAL, codec, combined, edited
from eval.attacks.model import Attack, Still, each
from eval.attacks.overlays import caption
from eval.attacks.photometry import blur, brightness, contrast, gamma, hue, noise, saturation
from eval.attacks.regeneration import autoencode, check_autoencoder
from eval.attacks.temporal import drop, halve_rate, speed, trim_start
from genwm.errors import InputError

_FACTORS = (0.5, 1.5)
_light = partial(edited, kind="photometry")
_shape = partial(edited, kind="geometry")
_time = partial(edited, kind="time")

_TABLE = (
    *(codec("h264", "h264", crf) for crf in (23, 30, 40)),
    *(codec("h265", "hevc", crf) for crf in (30, 40)),
    *(codec("av1", "av1", crf) for crf in (35, 55)),
    codec("vp9", "vp9", 40),
    *(combined(crf) for crf in (23, 30, 40)),
    *(
        _shape(
            f"crop.{name}",
            crop(side),
            f"cropped to .{name} of each side at a random place",
            source=SEAL,
            crf=crf,
            truth={"scale": 1 / side, "rotation": 0, "flip": 0},
        )
        for name, side, crf in (("55", 0.55, 30), ("30", 0.30, 23))
    ),
    _shape("resize.0.5", resize(0.5, 0.5), "half the width and height", crf=30, truth={"scale": 1, "rotation": 0}),
    _shape("zoom.1.12", zoom(1.12), "slow zoom about the centre from 1 to 1.12 over the clip"),
    _shape("resize.1.5", resize(1.5, 1.5), "1.5 times the width and height", truth={"scale": 1, "rotation": 0}),
    _shape(
        "rotate.5",
        rotate(5),
        "turned by 5 degrees about the centre, black corners cut away, shape kept",
        truth={"rotation": -5, "flip": 0},
    ),
    _shape("hflip", each(mirrored), "left and right exchanged", truth={"scale": 1, "flip": 1}),
    _shape("squeeze.0.75", resize(0.75, 1), "width times 0.75, as 16:9 squeezed to 4:3", truth={"aspect": 0.75}),
    _shape("letterbox.0.2", letterbox(0.2), "black bars of 20 % of the height each, added above and below"),
    *(_light(f"brightness.{f:g}", brightness(f), f"RGB times {f:g}", source=SEAL) for f in _FACTORS),
    *(_light(f"contrast.{f:g}", contrast(f), f"RGB contrast times {f:g}", source=SEAL) for f in _FACTORS),
    *(_light(f"saturation.{f:g}", saturation(f), f"U and V times {f:g}", source="FFmpeg's hue=s") for f in _FACTORS),
    *(_light(f"hue.{d:+g}", hue(d), f"(U, V) turned by {d:g} degrees", source="FFmpeg's hue=h") for d in (30, -30)),
    _light("grey", saturation(0), "colour removed", source="FFmpeg's hue=s"),
    *(_light(f"gamma.{g:g}", gamma(g), f"RGB to the power of {g:g}", source="FFmpeg's lutrgb") for g in (0.7, 1.4)),
    _light("blur.1.6", blur(1.6), "Gaussian blur, sigma 1.6 pixels"),
    _light("noise.8", noise(8), "Gaussian noise on RGB, sigma 8 levels"),
    edited("caption", caption(), "a still caption, two lines of white text on a box of 60 % black", kind="overlay"),
    _time("fps.half", halve_rate(), "every second frame at half the rate"),
    _time("drop.0.25", drop(0.25), "a random quarter of the frames left out"),
    _time("speed.1.25", speed(1.25), "1.25 times as fast at the same rate, nearest frames"),
    _time("trim.0.5s", trim_start(0.5), "half a second cut off the start", crf=30, gop_s=1),
    Attack(
        id="still.jpeg80",
        kind="codec",
        description="the middle frame of the marked clip as a JPEG of quality 80, 4:2:0",
        source="a screenshot",
        after=Still(quality=80),
    ),
)

ATTACKS: dict[str, Attack] = {attack.id: attack for attack in (*_TABLE, *EXTRA)}
DEFAULT: tuple[str, ...] = tuple(attack.id for attack in _TABLE)

#: Names that stand for several attacks: what is in them, in the order of reports.
SETS: Mapping[str, tuple[str, ...]] = {
    "table": DEFAULT,
    "quick": QUICK,
    "grid": GRID,
    "videoseal-72": VIDEOSEAL_72,
    "comparison": COMPARISON,
    "full": tuple(ATTACKS),
}
AUTOENCODER = "vae="


def attacks_named(ids: Iterable[str] | None = None) -> list[Attack]:
    """The attacks of those ids or sets in that order, each once; None: the table. ``vae=FOLDER`` is regeneration by
    the autoencoder in a folder. Unknown ids and folders without an autoencoder raise InputError."""
    names = [part for name in (("table",) if ids is None else ids) for part in SETS.get(name, (name,))]
    for name in names:
        if name.startswith(AUTOENCODER):  # now rather than after marking every clip
            check_autoencoder(name.removeprefix(AUTOENCODER))
    return [attack_named(name) for name in dict.fromkeys(names)]


def attack_named(name: str) -> Attack:
    """The attack of that id; InputError names the sets and the nearest ids. The folder of ``vae=`` may be gone: rows
    outlive it."""
    if name.startswith(AUTOENCODER):
        folder = name.removeprefix(AUTOENCODER)
        return edited(
            name,
            autoencode(folder),
            f"encoded and decoded by the autoencoder in {folder}",
            kind="regeneration",
            whole_id=True,
        )
    if name not in ATTACKS:
        near = get_close_matches(name, ATTACKS, n=3, cutoff=0.6)
        hint = f", perhaps {' or '.join(near)}" if near else ""
        raise InputError(
            f"Expected an attack's id, {AUTOENCODER}FOLDER or a set ({', '.join(SETS)}), got {name!r}; "
            f"choose from the list of --attacks list{hint}"
        )
    return ATTACKS[name]
