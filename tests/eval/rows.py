"""What the tests of reports share: rows of robustness and of quality whose answers are known."""

from __future__ import annotations

from pathlib import Path

from eval.methods import METHODS
from eval.quality.running import COLUMNS as QUALITY_COLUMNS
from eval.robustness import Row
from eval.robustness.table import append_row, prepare

ATTACKS = ("h264.crf23", "h264.crf30", "h264.crf40", "crop.71+h264.crf23", "crop.71+h264.crf30", "combined.crf40")


def row(clip: str, attack: str = "h264.crf30", method: str = "lattice.balanced", **values: object) -> Row:
    subject = METHODS[method]
    base: dict[str, object] = dict.fromkeys(("label", "group", "family"), "")
    base |= {"short_side": 480, "frames": 24, "span": "24f", "versions": "genwm 0.1.0", "command": "genwm eval again"}
    base |= {"watermark": subject.name, "strength": subject.strength, "profile": subject.profile}
    return Row(clip=clip, attack=attack, **(base | values))  # type: ignore[arg-type]


def found(clip: str, attack: str = "h264.crf30", method: str = "lattice.balanced", **values: object) -> Row:
    good: dict[str, object] = {"present": 1, "right_key": 1, "exact": 1, "bit_accuracy": 1.0, "log10_p": -20.0}
    return row(clip, attack, method, **(good | values))


def known_rows() -> list[Row]:
    """Ours finds all but CRF 40; dwtDct reads half of the bits everywhere."""
    result = []
    for clip in ("a.mp4", "b.mp4", "c.mp4"):
        for attack in ATTACKS:
            lost = attack == "h264.crf40" and clip == "a.mp4"
            result.append(row(clip, attack, log10_p=-1.0) if lost else found(clip, attack, read_s=0.5, bits=64))
            garbage = {"bit_accuracy": 0.5, "wrong_payload": 1, "log10_p": -0.2, "bits": 32}
            result.append(row(clip, attack, "dwtDct", **garbage))  # type: ignore[arg-type]
    return result


def write(path: Path, rows: list[Row]) -> Path:
    prepare(path)
    for one in rows:
        append_row(path, one)
    return path


def quality_row(clip: str, method: str, **values: str) -> dict[str, str]:
    ours = method.startswith("lattice.")
    blank = dict.fromkeys(QUALITY_COLUMNS, "")
    tags = {"strength": METHODS[method].strength, "profile": "colour" if ours else ""}
    return blank | {"clip": clip, "method": "genwm" if ours else method} | tags | values
