"""A summary in words: Markdown, and one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_STYLE = """
body{margin:0;background:#f6f7f9;color:#1f2329;font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 6px}h2{font-size:18px;margin:30px 0 8px}
p{max-width:78ch}.soft{color:#5d6570}
section{background:#fff;border:1px solid #dfe3e8;border-radius:10px;padding:4px 18px 14px;margin:14px 0}
.plots{display:flex;flex-wrap:wrap;gap:20px}.plots figure{margin:0}svg{max-width:100%}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;width:100%}
th,td{text-align:right;padding:4px 9px;border-bottom:1px solid #dfe3e8;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:#5d6570}
"""
_SIZE, _EDGE = 300, 40


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _interval(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None or not ends:
        return _number(value)
    return f"{_number(value)} ({_number(ends[0], 2)} to {_number(ends[1], 2)})"


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to say of all clips: names and values."""
    all_, probe = summary["overall"], summary["probe"]
    precision = all_["precision_at_prevalence"]
    rates = [
        (f"synthetic clips found at {float(rate):.1%} false alarms",
         _interval(found["value"], found.get("interval_95")) if found["value"] is not None
         else f"not stated: {found['refused']}")
        for rate, found in all_["tpr"].items()
    ]  # fmt: skip
    floor = all_["real_against_real"]
    return [
        ("clips", f"{all_['real']} real of {all_['sources']} sources, {all_['synthetic']} synthetic of "
                  f"{all_['families']} families"),
        ("AUC (95 % by source and family)", _interval(all_["auc"], all_["auc_95"])),
        (f"AUC by family: mean, worst, worst of those with {all_['enough']} clips or more",
         f"{_number(all_['auc_mean_of_families'])}, {_number(all_['auc_worst_family'])}, "
         f"{_number(all_['auc_worst_known_family'])}"),
        ("AUC by generator: mean, worst",
         f"{_number(all_['auc_mean_of_generators'])}, {_number(all_['auc_worst_generator'])}"),
        *rates,
        (f"right alarms where {precision['prevalence']:.0%} of clips are synthetic, at 1 % false alarms",
         _number(precision["value"])),
        ("equal error rate, Brier score", f"{_number(all_['eer'])}, {_number(all_['brier'])}"),
        (f"calibration error ({all_['bins']} bins)", _interval(all_["ece"], all_["ece_95"])),
        ("the same of a scorer without fault on so many clips: median, 95th percentile",
         f"{_number(all_['ece_by_chance'][0])}, {_number(all_['ece_by_chance'][1])}"),
        ("real against real: AUC between halves of the sources, median and 95th percentile",
         f"{_number(floor['median'])}, {_number(floor['p95'])}"),
        ("container facts alone, AUC: as delivered, in canonical form",
         f"{_number(probe['as_delivered'])}, {_number(probe['canonical'])}"
         + (f" ({probe['why']})" if "why" in probe else "")),
    ]  # fmt: skip


def _tables(summary: dict[str, Any]) -> list[tuple[str, Sequence[str], list[Sequence[str]]]]:
    deliveries = [
        (row["delivery"], str(row["segments"]), str(row["clips"]), _interval(row["auc"], row["auc_95"]),
         _number(row["tpr_at_1_percent"]), _number(row["loss"]))
        for row in summary["deliveries"]
    ]  # fmt: skip
    generators = [(row["generator"], row["family"], row["label"], str(row["clips"]),
                   _interval(row["auc"], row["auc_95"])) for row in summary["generators"]]  # fmt: skip
    sources = [(row["source"], str(row["clips"]), _number(row["highest"], 2)) for row in summary["sources"]]
    return [
        ("By delivery: codec and CRF, crop, size", ("delivery", "segments", "clips", "AUC", "found at 1 %", "AUC lost"),
         list(deliveries)),
        ("By generator, against all real clips", ("generator", "family", "label", "clips", "AUC"), list(generators)),
        ("Real footage by source", ("source", "clips", "highest probability"), list(sources)),
    ]  # fmt: skip


def _left_out(summary: dict[str, Any]) -> str:
    left = summary["left_out"]
    return (f"Left out: {left['seen']} rows of clips that the scorer was fitted on, {left['not_judged']} rows of clips "
            f"that cannot be judged, {left['errors']} of them for an error.")  # fmt: skip


def markdown(summary: dict[str, Any]) -> str:
    """The summary as Markdown."""
    lines = [f"# Detector {summary['scorer']}", "", _left_out(summary), "", "| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _facts(summary)]
    for title, header, rows in _tables(summary):
        lines += ["", f"## {title}", "", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def page(summary: dict[str, Any]) -> str:
    """The summary as one HTML page with its plots."""
    curve = list(zip(summary["roc"]["false"], summary["roc"]["true"], strict=True))
    dots = [(mean, share) for _, mean, share in summary["reliability"]]
    facts = _table(("what", "value"), _facts(summary))
    sections = "".join(f"<section><h2>{escape(title)}</h2>{_table(header, rows)}</section>"
                       for title, header, rows in _tables(summary))  # fmt: skip
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Detector {escape(summary["scorer"])}</title><style>{_STYLE}</style></head><body><main>
<h1>Detector {escape(summary["scorer"])}</h1>
<p class="soft">{escape(_left_out(summary))} 1 always stands for synthetic. Intervals of 95 % by bootstrap over sources
and families. Every clip was brought to the same rate, length and size and encoded in one way before it was scored.</p>
<section><h2>All clips</h2>{facts}</section>
<section><h2>ROC and reliability</h2><div class="plots">
{_plot("ROC", "false alarms", "found", curve, line=True)}
{_plot("Reliability", "stated probability", "share of synthetic clips", dots, line=False)}
</div></section>
{sections}</main></body></html>
"""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _plot(title: str, across: str, up: str, points: Sequence[tuple[float, float]], *, line: bool) -> str:
    """A square plot of points in [0, 1] as SVG, with the diagonal."""
    whole = _SIZE + 2 * _EDGE

    def place(x: float, y: float) -> tuple[float, float]:
        return _EDGE + _SIZE * x, _EDGE / 2 + _SIZE * (1 - y)

    placed = [place(x, y) for x, y in points]
    if line:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        drawn = f'<polyline points="{path}" fill="none" stroke="#0072B2" stroke-width="2"/>'
    else:
        drawn = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#0072B2"/>' for x, y in placed)
    ticks = "".join(
        f'<text x="{place(t, 0)[0]:.0f}" y="{place(t, 0)[1] + 15:.0f}" text-anchor="middle">{t:g}</text>'
        f'<text x="{_EDGE - 6}" y="{place(0, t)[1] + 4:.0f}" text-anchor="end">{t:g}</text>'
        for t in (0, 0.25, 0.5, 0.75, 1)
    )
    (left, bottom), (right, top) = place(0, 0), place(1, 1)
    return (
        f'<figure><svg role="img" aria-label="{escape(title)}" viewBox="0 0 {whole} {whole}" width="{whole}" '
        f'font-size="11" fill="#30343b"><rect x="{left}" y="{top}" width="{_SIZE}" height="{_SIZE}" fill="none" '
        f'stroke="#8a8f98"/><line x1="{left}" y1="{bottom}" x2="{right}" y2="{top}" stroke="#b9c4d2" '
        f'stroke-dasharray="4 4"/>{ticks}{drawn}'
        f'<text x="{_EDGE + _SIZE / 2}" y="{whole - 25}" text-anchor="middle">{escape(across)}</text>'
        f'<text transform="translate(10 {_EDGE / 2 + _SIZE / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
        "</svg></figure>"
    )
