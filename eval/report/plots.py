"""The plots of a report, as SVG that a page holds inline. Needs matplotlib (extra ``report``)."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from typing import Any

from eval.attacks.extra import GRID_CRFS, GRID_CROPS
from eval.report.measures import Measure, Overall, Value
from genwm.extras import require

#: M. Okabe, K. Ito: colours that people of every colour vision tell apart.
COLOURS = ("#0072b2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7a7a7a")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "genwm",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#30343b",
    "xtick.color": "#30343b",
    "ytick.color": "#30343b",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


#: Colours that follow light and dark, and the page's own names for them.
_THEME = {"#30343b": "--ink", "#000000": "--ink", "#8a8f98": "--axis", "#f3f5f8": "--band", "#dfe3e8": "--line",
          "#0072b2": "--blue"}  # fmt: skip


def colour(methods: Sequence[str], method: str) -> str:
    return COLOURS[list(methods).index(method) % len(COLOURS)]


def themed(style: str) -> str:
    """CSS in which the colours of text, axes and bands are those of the page, and as before outside of one."""
    return re.sub("|".join(_THEME), lambda found: f"var({_THEME[found[0]]}, {found[0]})", style)


def survival(measures: Sequence[Measure]) -> str:
    """Detection by attack: a dot a method with its interval, attacks from top to bottom."""
    pyplot = _pyplot()
    methods = list(dict.fromkeys(one.method for one in measures))
    kinds = list(dict.fromkeys(one.kind for one in measures))
    ordered = sorted(measures, key=lambda one: kinds.index(one.kind))
    attacks = list(dict.fromkeys(one.attack for one in ordered))
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(8.6, 0.6 + max(0.29, 0.1 * len(methods)) * len(attacks)))
        step = 0.64 / max(1, len(methods))
        for one in measures:
            y = attacks.index(one.attack) + (methods.index(one.method) - (len(methods) - 1) / 2) * step
            shown = colour(methods, one.method)
            axes.plot([100 * one.present.low, 100 * one.present.high], [y, y], color=shown, alpha=0.35, linewidth=2.2)
            axes.plot(100 * one.present.value, y, "o", color=shown, markersize=4.6)
        for place in range(0, len(attacks), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="#f3f5f8", zorder=0, linewidth=0)
        axes.set_yticks(range(len(attacks)), attacks)
        axes.set_ylim(len(attacks) - 0.5, -0.5)
        axes.set_xlim(-2, 102)
        axes.set_xlabel("clips on which the mark is found, % (bars: 95 % Wilson intervals)")
        axes.tick_params(axis="y", length=0)
        axes.xaxis.grid(True, color="#dfe3e8", linewidth=0.7)
        axes.set_axisbelow(True)
        return _svg(figure, "Detection by attack and method")


def against_quality(
    overall: Sequence[Overall], quality: dict[str, dict[str, Value]], axis: str, label: str
) -> str | None:
    """Mean detection over attacks against a measure of quality; None where no method has one."""
    pyplot = _pyplot()
    methods = [one.method for one in overall]
    points = [
        (quality[base][axis], one)
        for one in overall
        if axis in quality.get(base := one.method.removesuffix(".majority"), {})
    ]
    if not points:
        return None
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(5.6, 3.9))
        named = [one for one in points if one[1].method.startswith("lattice.") and not one[1].method.endswith(".luma")]
        ours = sorted((x.value, one.present.value) for x, one in named)
        axes.plot([x for x, _ in ours], [100 * y for _, y in ours], color="#b9c4d2", linewidth=1.4, zorder=1)
        for x, one in points:
            shown, y = colour(methods, one.method), one.present
            axes.plot([x.low, x.high], [100 * y.value] * 2, color=shown, alpha=0.4, linewidth=2)
            axes.plot([x.value] * 2, [100 * y.low, 100 * y.high], color=shown, alpha=0.4, linewidth=2)
            axes.plot(x.value, 100 * y.value, "o", color=shown, markersize=6.5)
        axes.set_ylim(-3, 103)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.22 * (right - left))  # room for the names
        places = [(x.value, 100 * one.present.value) for x, one in points]
        offsets = label_offsets(places, near=(0.3 * 1.22 * (right - left), 7.0))  # a name's width and height
        for (_, one), place, offset in zip(points, places, offsets, strict=True):
            axes.annotate(
                one.method, place, xytext=(7, offset), textcoords="offset points", color="#30343b", fontsize=9
            )
        axes.set_xlabel(label)
        axes.set_ylabel("found, mean over attacks, %")
        axes.grid(True, color="#dfe3e8", linewidth=0.7)
        axes.set_axisbelow(True)
        return _svg(figure, f"Detection against {label}")


def label_offsets(points: Sequence[tuple[float, float]], *, near: tuple[float, float]) -> list[int]:
    """How far above its point each name begins, in typographic points, so that names of neighbours do not lie on each
    other: of points that are no further apart than ``near``, across and up, in the units of the points. Names go to 7,
    and on to the free place next below or above."""
    places = (7, -15, 19, -27, 31)
    chosen: dict[int, int] = {}
    for index in sorted(range(len(points)), key=lambda index: points[index]):
        x, y = points[index]
        taken = {place for other, place in chosen.items()
                 if abs(points[other][0] - x) <= near[0] and abs(points[other][1] - y) <= near[1]}  # fmt: skip
        chosen[index] = next((place for place in places if place not in taken), places[0])
    return [chosen[index] for index in range(len(points))]


def heat_map(measures: Sequence[Measure], method: str) -> str | None:
    """Crop by CRF: the share of clips found and, below it, of exact payloads. None without those attacks."""
    found = {one.attack: one for one in measures if one.method == method}
    cells = [
        (row, column, found[name])
        for row, (crop, _) in enumerate(GRID_CROPS)
        for column, crf in enumerate(GRID_CRFS)
        if (name := f"{crop}+h264.crf{crf}" if crop else f"h264.crf{crf}") in found
    ]
    if len({row for row, _, _ in cells}) < 3 or len({column for _, column, _ in cells}) < 2:
        return None
    pyplot = _pyplot()
    with pyplot.rc_context(_STYLE):
        figure, axes = pyplot.subplots(figsize=(4.3, 3.3))
        image = [[float("nan")] * len(GRID_CRFS) for _ in GRID_CROPS]
        for row, column, one in cells:
            image[row][column] = 100 * one.present.value
            light = one.present.value < 0.55
            axes.text(
                column,
                row,
                f"{100 * one.present.value:.0f} %\nexact {100 * one.exact.value:.0f} %",
                ha="center",
                va="center",
                fontsize=8.5,
                color="#20242a" if light else "white",
            )
        axes.imshow(image, cmap="Blues", vmin=0, vmax=115, aspect="auto")
        axes.set_xticks(range(len(GRID_CRFS)), [f"CRF {crf}" for crf in GRID_CRFS])
        axes.set_yticks(range(len(GRID_CROPS)), [f"{100 * side:.0f} % of a side" for _, side in GRID_CROPS])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(method, fontsize=10, color="#30343b")
        return _svg(figure, f"Crop by CRF, {method}")


def unit_square(
    points: Sequence[tuple[float, float]], *, title: str, across: str, up: str, joined: bool = False
) -> str:
    """Points from 0 to 1 both ways, as a line or as dots, beside the diagonal."""
    with _pyplot().rc_context(_STYLE):
        figure, axes = _pyplot().subplots(figsize=(4.2, 4.0))
        axes.plot([0, 1], [0, 1], "--", color="#8a8f98", linewidth=1)
        axes.plot(*zip(*points, strict=True), "-" if joined else "o", color=COLOURS[0], clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=across, ylabel=up, aspect="equal")
        axes.set_title(title, fontsize=10, color="#30343b")
        axes.grid(True, color="#dfe3e8", linewidth=0.7)
        axes.set_axisbelow(True)
        return _svg(figure, title)


def _pyplot() -> Any:
    require("matplotlib", "report").use("Agg")
    return require("matplotlib.pyplot", "report")


def _svg(figure: Any, title: str) -> str:
    """The figure as an ``<svg>`` element that scales with the page, for people who see it and who hear it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    _pyplot().close(figure)
    body = text.getvalue()
    svg = body[body.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids are shared by all plots of a page: make them this one's own.
    mark = re.sub(r"\W+", "-", title)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{mark}-", svg)
    svg = re.sub(r'style="[^"]*"', lambda style: themed(style[0]), svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
