"""Rows summed up: rates with their intervals, against what the mark must reach."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from eval.attacks import ATTACKS
from eval.corpus import SIZE_CLASSES, size_class
from eval.intervals import wilson
from eval.robustness.table import Row
from eval.tables import rewrite


class Floor(NamedTuple):
    """Least rates in percent for clips of 720 lines or more, and of 480 to 719: present, then exact."""

    present: tuple[float, float]
    exact: tuple[float, float]


def _floors() -> dict[str, Floor]:
    edits = Floor((99, 96), (95, 85))
    hard = Floor((99, 96), (70, 50))  # grey, rotation and enlargement
    floors = {
        "h264.crf23": Floor((100, 100), (99, 98)),
        "h264.crf30": Floor((100, 100), (99, 98)),
        "h264.crf40": Floor((97, 85), (60, 35)),
        "h265.crf30": Floor((100, 99), (99, 97)),
        "h265.crf40": Floor((85, 60), (35, 15)),
        "av1.crf35": Floor((100, 99), (99, 98)),
        "av1.crf55": Floor((98, 85), (90, 60)),
        "vp9.crf40": Floor((99, 97), (98, 93)),
        "combined.crf23": Floor((100, 99), (99, 97)),
        "combined.crf30": Floor((100, 97), (97, 88)),
        "combined.crf40": Floor((80, 50), (35, 10)),
        "crop.55+h264.crf30": Floor((99, 95), (95, 82)),
        "crop.30+h264.crf23": Floor((99, 95), (95, 82)),
        "resize.0.5+h264.crf30": Floor((97, 80), (65, 20)),
        "zoom.1.12+h264.crf28": Floor((95, 85), (60, 40)),
        "still.jpeg80": Floor((95, 85), (60, 30)),
    }
    for name in ("resize.1.5+h264.crf28", "rotate.5+h264.crf28", "grey+h264.crf28"):
        floors[name] = hard
    for name in (
        *("hflip", "squeeze.0.75", "letterbox.0.2", "brightness.0.5", "brightness.1.5", "contrast.0.5", "contrast.1.5"),
        *("saturation.0.5", "saturation.1.5", "hue.+30", "hue.-30", "gamma.0.7", "gamma.1.4", "blur.1.6", "noise.8"),
        *("caption", "fps.half", "drop.0.25", "speed.1.25"),
    ):
        floors[f"{name}+h264.crf28"] = edits
    floors["trim.0.5s+h264.crf30"] = edits
    return floors


# What the balanced mark must reach over the first 72 frames, and the more so over 10 s. The size classes are the first
# two of SIZE_CLASSES.
FLOORS: Mapping[str, Floor] = _floors()


#: The class of clips of which nothing is known but that they could not be read.
UNKNOWN = "unknown size"
_SIZES = (*(name for _, name in SIZE_CLASSES), UNKNOWN)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All clips of one size class under one attack. Rates and intervals are in percent; a row with an error counts as
    not found. ``present`` counts detections under the right key, ``wrong_key`` the others. A floor is None where
    none is set; ``met`` compares the measured rate with it."""

    watermark: str
    strength: str
    profile: str
    span: str
    attack: str
    size: str
    clips: int
    errors: int
    present: int
    present_rate: float
    present_low: float
    present_high: float
    present_floor: float | None
    exact: int
    exact_rate: float
    exact_low: float
    exact_high: float
    exact_floor: float | None
    wrong_payload: int
    wrong_key: int
    median_log10_p: float | None
    mean_read_s: float | None

    @property
    def present_met(self) -> bool | None:
        return None if self.present_floor is None else self.present_rate >= self.present_floor

    @property
    def exact_met(self) -> bool | None:
        return None if self.exact_floor is None else self.exact_rate >= self.exact_floor


def summarize(rows: Iterable[Row]) -> list[Cell]:
    """One cell for each watermark, setting, attack (in the registry's order) and size class that has rows."""
    cells: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        size = size_class(row.short_side) if row.short_side else UNKNOWN
        cells[(row.watermark, row.strength, row.profile, row.span, row.attack, size)].append(row)
    attacks = {name: place for place, name in enumerate(ATTACKS)}
    sizes = {name: place for place, name in enumerate(_SIZES)}

    def order(key: tuple[str, ...]) -> tuple[Any, ...]:
        return (*key[:4], attacks.get(key[4], len(attacks)), key[4], sizes[key[5]])

    return [_cell(key, cells[key]) for key in sorted(cells, key=order)]


def _cell(key: tuple[str, ...], rows: Sequence[Row]) -> Cell:
    watermark, strength, profile, span, attack, size = key
    count = len(rows)
    present, exact = sum(row.right_key for row in rows), sum(row.exact for row in rows)
    present_low, present_high = wilson(present, count)
    exact_low, exact_high = wilson(exact, count)
    names = _SIZES[:2]
    bound = strength == "balanced" and span in ("72f", "10s") and size in names
    floor = FLOORS.get(attack) if bound else None
    levels = [row.log10_p for row in rows if row.log10_p is not None]
    times = [row.read_s for row in rows if row.read_s is not None]
    return Cell(
        watermark=watermark,
        strength=strength,
        profile=profile,
        span=span,
        attack=attack,
        size=size,
        clips=count,
        errors=sum(bool(row.error) for row in rows),
        present=present,
        present_rate=100 * present / count,
        present_low=100 * present_low,
        present_high=100 * present_high,
        present_floor=floor.present[names.index(size)] if floor else None,
        exact=exact,
        exact_rate=100 * exact / count,
        exact_low=100 * exact_low,
        exact_high=100 * exact_high,
        exact_floor=floor.exact[names.index(size)] if floor else None,
        wrong_payload=sum(row.wrong_payload for row in rows),
        wrong_key=sum(row.present and not row.right_key for row in rows),
        median_log10_p=round(statistics.median(levels), 3) if levels else None,
        mean_read_s=round(statistics.fmean(times), 3) if times else None,
    )


def said(span: str) -> str:
    """A span of rows in words."""
    much, _, lines = span.partition("@")
    words = f"first {much[:-1]} {'frames' if much.endswith('f') else 's'}"
    return f"{words}, at most {lines} lines" if lines else words


def markdown(cells: Sequence[Cell]) -> str:
    """The summary for people: what misses its floor first, then a table for each setting."""
    settings: defaultdict[tuple[str, str, str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        settings[(cell.watermark, cell.strength, cell.profile, cell.span)].append(cell)
    parts = [part for setting, group in settings.items() for part in _section(setting, group)]
    return "\n".join(parts) + "\n"


def _section(setting: tuple[str, str, str, str], cells: Sequence[Cell]) -> Iterator[str]:
    watermark, strength, profile, span = setting
    much = said(span)
    yield f"## {watermark}, {strength}, {profile}, {much}\n"
    yield (
        f"Files with a wrong payload: {sum(cell.wrong_payload for cell in cells)}; with a wrong key: "
        f"{sum(cell.wrong_key for cell in cells)}; errors: {sum(cell.errors for cell in cells)}; "
        f"of {sum(cell.clips for cell in cells)}.\n"
    )
    forging = [cell for cell in cells if cell.attack in ATTACKS and ATTACKS[cell.attack].forges]
    if forging:
        names = ", ".join(dict.fromkeys(cell.attack for cell in forging))
        hits, count = sum(cell.present for cell in forging), sum(cell.clips for cell in forging)
        yield f"False marks, in copies of clips that nobody marked ({names}): {hits} of {count}.\n"
    missed = [
        f"- {cell.attack}, {cell.size} lines: {what} {rate:.1f} % of {cell.clips}, floor {floor:g} %"
        for cell in cells
        for what, rate, floor, met in (
            ("present", cell.present_rate, cell.present_floor, cell.present_met),
            ("exact", cell.exact_rate, cell.exact_floor, cell.exact_met),
        )
        if met is False
    ]
    if missed:
        yield "Below the floor:\n"
        yield from missed
        yield ""
    sizes = [name for name in _SIZES if any(cell.size == name for cell in cells)]
    yield "Rate in percent [95 % Wilson interval], hits/clips, and the floor where there is one; median log10 p.\n"
    yield "| attack | " + " | ".join(f"{size}: present | exact | log10 p" for size in sizes) + " |"
    yield "|---|" + "---|" * (3 * len(sizes))
    found = {(cell.attack, cell.size): cell for cell in cells}
    for attack in dict.fromkeys(cell.attack for cell in cells):
        columns = [_columns(found.get((attack, size))) for size in sizes]
        yield f"| {attack} | " + " | ".join(columns) + " |"
    yield ""


def _columns(cell: Cell | None) -> str:
    if cell is None:
        return " | | "
    present = _rate(cell.present, cell.clips, cell.present_low, cell.present_high, cell.present_floor, cell.present_met)
    exact = _rate(cell.exact, cell.clips, cell.exact_low, cell.exact_high, cell.exact_floor, cell.exact_met)
    level = "" if cell.median_log10_p is None else f"{cell.median_log10_p:.1f}"
    return f"{present} | {exact} | {level}"


def _rate(hits: int, count: int, low: float, high: float, floor: float | None, met: bool | None) -> str:
    text = f"{100 * hits / count:.1f} [{low:.0f}, {high:.0f}] {hits}/{count}"
    return text if floor is None else f"{text} {'≥' if met else '**<**'} {floor:g}"


def write_summary(cells: Sequence[Cell], path: str | os.PathLike[str]) -> None:
    """The cells as CSV."""
    rows = (asdict(cell).values() for cell in cells)
    rounded = ([f"{value:.2f}" if isinstance(value, float) else value for value in row] for row in rows)
    rewrite(Path(path), [field.name for field in fields(Cell)], rounded)
