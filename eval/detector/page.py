"""A summary in words, as Markdown, and its plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genwm.text import counted

#: Columns of words, which are set from the left.
_WORDS = ("value", "family", "label")
_READING = ("1 always stands for synthetic. Intervals of 95 % by bootstrap over sources and families. Every clip was "
            "brought to the same rate, length and size and encoded in one way before it was scored.")
_APART = (" Out of fold: ranks are by the one calibration that ships, the Brier score and the calibration error by "
          "calibrations that saw nothing of a clip's source or family.")


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or value != value else f"{value:.{digits}f}"


def _interval(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None or not ends:
        return _number(value)
    return f"{_number(value)} ({_number(ends[0], 2)} to {_number(ends[1], 2)})"


def _facts(summary: dict[str, Any]) -> list[Sequence[str]]:
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
        ("clips", f"{all_['real']} real of {counted(all_['sources'], 'source')}, {all_['synthetic']} synthetic of "
                  f"{counted(all_['families'], 'family', 'families')}"),
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
    lengths = [
        (f"{row['from_s']:g} s or more" if row["to_s"] is None else f"{row['from_s']:g} to {row['to_s']:g} s",
         str(row["real"]), str(row["synthetic"]), "-" if row["auc"] is None else _interval(row["auc"], row["auc_95"]))
        for row in summary["lengths"]
    ]  # fmt: skip
    sources = [(row["source"], str(row["clips"]), _number(row["highest"], 2)) for row in summary["sources"]]
    return [
        ("All clips", ("what", "value"), _facts(summary)),
        ("By delivery: codec and CRF, crop, size", ("delivery", "segments", "clips", "AUC", "found at 1 %", "AUC lost"),
         list(deliveries)),
        ("By length of the clip as it came", ("length", "real", "synthetic", "AUC"), list(lengths)),
        ("By generator, against all real clips", ("generator", "family", "label", "clips", "AUC"), list(generators)),
        ("Real footage by source", ("source", "clips", "highest probability"), list(sources)),
    ]  # fmt: skip


def _left_out(summary: dict[str, Any]) -> str:
    left = summary["left_out"]
    return (f"Left out: {counted(left['seen'], 'row')} of clips that the scorer was fitted on, "
            f"{counted(left['not_judged'], 'row')} of clips that cannot be judged, {left['errors']} of them for an "
            "error.")  # fmt: skip


def markdown(summary: dict[str, Any]) -> str:
    """The summary as Markdown."""
    reading = _READING + (_APART if summary["calibrated_apart"] else "")
    lines = [f"# Detector {summary['scorer']}", "", f"{_left_out(summary)} {reading}"]
    for title, header, rows in _tables(summary):
        lines += ["", f"## {title}", "", f"| {' | '.join(header)} |"]
        lines += ["|" + "".join(":---|" if name in _WORDS else "---|" for name in header)]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def plots(summary: dict[str, Any]) -> list[str]:
    """ROC and reliability, as SVG. Errors: MissingExtraError (no matplotlib)."""
    from eval.report.plots import unit_square

    curve = list(zip(summary["roc"]["false"], summary["roc"]["true"], strict=True))
    dots = [(stated, share) for _, stated, share in summary["reliability"]]
    return [
        unit_square(curve, title="ROC", across="false alarms", up="found", joined=True),
        unit_square(dots, title="Reliability", across="stated probability", up="share of synthetic clips"),
    ]
