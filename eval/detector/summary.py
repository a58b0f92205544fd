"""Rows of scores -> the measures of a report, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.synthetic.fusion import probability
from eval.detector.measures import (
    BINS,
    auc,
    brier,
    by_group,
    calibration_error,
    calibration_error_by_chance,
    equal_error_rate,
    halves_apart,
    precision_at,
    reliability,
    roc,
    tpr_at,
)
from eval.detector.protocol import probe
from eval.detector.scores import Score
from genwm.errors import InputError, MissingExtraError
from genwm.text import counted

SCHEMA = "genwm.detector/1"
RATES = (0.01, 0.001)
PREVALENCE = 0.01
LENGTHS_S = (0.0, 2.5, 4.5, 8.0, float("inf"))  # bounds of the ranges of a clip's length
ENOUGH = 5  # clips of a family whose AUC says something of the family


def summarize(rows: Sequence[Score], *, include_seen: bool = False, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Measures by delivery, by generator and by source of one scorer's rows, each AUC with an interval by source.

    Ranks are by ``logit``, how well probabilities are calibrated by ``apart`` where rows have it.
    Clips that the scorer was fitted on are left out unless ``include_seen``. Face swaps ('deepfake') have a row among
    the generators and count nowhere else. Errors: InputError (rows of several scorers, no real or no synthetic clips).
    """
    names = sorted({row.scorer for row in rows})
    if len(names) != 1:
        raise InputError(f"Expected the scores of one scorer, got {len(names)}: {', '.join(names)}; "
                         "use a table for each")  # fmt: skip
    judged = [row for row in rows if row.logit is not None and (include_seen or not row.seen)]
    most = max((row.segments for row in judged if row.delivery == "none"), default=0)
    headline = [row for row in judged if (row.delivery, row.segments) == ("none", most)]
    plain = [row for row in headline if row.label != "deepfake"]
    if {row.label for row in plain} != {"real", "synthetic"}:
        left_out = sum(row.seen for row in rows) if not include_seen else 0
        errors = [row.error for row in rows if row.error]
        first = f", {counted(len(errors), 'row')} with an error, the first '{errors[0]}'" if errors else ""
        raise InputError(f"Expected real and synthetic clips with scores, got {len(plain)} of one kind or none "
                         f"(left out: {counted(left_out, 'row')} of clips that the scorer was fitted on{first}); "
                         "add others, or judge them all the same with --include-seen")  # fmt: skip
    labels, logits, groups = _arrays(plain)
    chances = np.array([probability(logit if row.apart is None else row.apart)
                        for row, logit in zip(plain, logits, strict=True)])  # fmt: skip
    alarms, hits = roc(labels, logits)
    floor, floor_high = halves_apart(logits[labels == 0], groups[labels == 0], seed=seed)
    generators = _generators(headline, logits[labels == 0], groups[labels == 0], draws, seed)
    areas = [row["auc"] for row in generators if row["label"] == "synthetic"]
    by_family = families_of(labels, logits, groups)
    families = [row["auc"] for row in by_family]
    known = [row["auc"] for row in by_family if row["clips"] >= ENOUGH]
    overall: dict[str, Any] = {
        "clips": len(plain), "real": int((labels == 0).sum()), "synthetic": int(labels.sum()),
        "sources": len(np.unique(groups[labels == 0])), "families": len(families),
        "auc": auc(labels, logits), "auc_95": by_group(auc, labels, logits, groups, draws=draws, seed=seed),
        "auc_mean_of_families": float(np.mean(families)), "auc_worst_family": float(np.min(families)),
        "auc_worst_known_family": float(np.min(known)) if known else None, "enough": ENOUGH,
        "auc_mean_of_generators": float(np.mean(areas)), "auc_worst_generator": float(np.min(areas)),
        "tpr": {f"{rate:g}": _rate(labels, logits, groups, rate, draws, seed) for rate in RATES},
        "eer": equal_error_rate(labels, logits), "brier": brier(labels, chances),
        "ece": calibration_error(labels, chances),
        "ece_95": by_group(calibration_error, labels, chances, groups, draws=draws, seed=seed, raised=True),
        "bins": BINS,
        "ece_by_chance": calibration_error_by_chance(chances, seed=seed),
        "real_against_real": {"median": floor, "p95": floor_high},
    }  # fmt: skip
    at_one = overall["tpr"]["0.01"]["value"]
    overall["precision_at_prevalence"] = {
        "prevalence": PREVALENCE, "false_positive_rate": 0.01,
        "value": None if at_one is None else precision_at(at_one, 0.01, PREVALENCE),
    }  # fmt: skip
    return {
        "schema": SCHEMA, "scorer": names[0], "calibrated_apart": any(row.apart is not None for row in plain),
        "overall": overall, "probe": _probes(plain, seed),
        "deliveries": _deliveries(judged, draws, seed), "lengths": _lengths(plain, draws, seed),
        "generators": generators, "sources": _sources(plain),
        "roc": {"false": alarms.tolist(), "true": hits.tolist()}, "reliability": reliability(labels, chances),
        "left_out": {"seen": 0 if include_seen else sum(row.seen for row in rows),
                     "not_judged": sum(row.logit is None for row in rows),
                     "errors": sum(bool(row.error) for row in rows)},
    }  # fmt: skip


def _arrays(rows: Sequence[Score]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.str_]]:
    labels = np.array([row.label != "real" for row in rows], np.int64)
    return labels, np.array([row.logit for row in rows], np.float64), np.array([row.group for row in rows], np.str_)


def _rate(
    labels: NDArray[np.int64], logits: NDArray[np.float64], groups: NDArray[np.str_], rate: float, draws: int, seed: int
) -> dict[str, Any]:
    value = tpr_at(labels, logits, rate)
    if value is None:
        return {"value": None, "refused": f"{round(1 / rate):,} real clips are needed, there are {(labels == 0).sum()}"}

    def measure(truth: NDArray[np.int64], values: NDArray[np.float64]) -> float:
        found = tpr_at(truth, values, rate)
        return float("nan") if found is None else found

    return {"value": value, "interval_95": by_group(measure, labels, logits, groups, draws=draws, seed=seed)}


def _deliveries(rows: Sequence[Score], draws: int, seed: int) -> list[dict[str, Any]]:
    """A row a delivery and number of segments; the loss of AUC is on the clips that both it and 'none' judge, by the
    same number of segments where there are such rows, else by the most."""
    result = []
    untouched = sorted((row for row in rows if row.delivery == "none"), key=lambda row: row.segments)
    for name, count in dict.fromkeys((row.delivery, row.segments) for row in rows):
        found = [row for row in rows if (row.delivery, row.segments) == (name, count) and row.label != "deepfake"]
        labels, logits, groups = _arrays(found)
        if len(set(labels.tolist())) < 2:
            continue
        same = [row for row in untouched if row.segments == count]
        plain = {row.clip: row for row in same or untouched}
        both = [row for row in found if row.clip in plain]
        result.append({
            "delivery": name, "segments": count, "clips": len(found), "auc": auc(labels, logits),
            "auc_95": by_group(auc, labels, logits, groups, draws=draws, seed=seed),
            "tpr_at_1_percent": tpr_at(labels, logits, 0.01),
            "loss": auc(*_arrays([plain[row.clip] for row in both])[:2]) - auc(*_arrays(both)[:2]) if both else None,
        })  # fmt: skip
    return result


def _lengths(rows: Sequence[Score], draws: int, seed: int) -> list[dict[str, Any]]:
    """A row a range of lengths, of the clips whose length is known."""
    result = []
    for low, high in pairwise(LENGTHS_S):
        found = [row for row in rows if row.facts and low <= row.facts[0] < high]
        labels, logits, groups = _arrays(found)
        known = len(set(labels.tolist())) == 2
        result.append({
            "from_s": low, "to_s": high if high < float("inf") else None, "real": int((labels == 0).sum()),
            "synthetic": int(labels.sum()), "auc": auc(labels, logits) if known else None,
            "auc_95": by_group(auc, labels, logits, groups, draws=draws, seed=seed) if known else None,
        })  # fmt: skip
    return result


def _generators(
    rows: Sequence[Score], reals: NDArray[np.float64], sources: NDArray[np.str_], draws: int, seed: int
) -> list[dict[str, Any]]:
    """Each generator against all real clips; the interval is over sources of footage and over its own clips."""
    found = [row for row in rows if row.label != "real"]
    result = []
    for name in sorted({row.generator for row in found}):
        own = [row for row in found if row.generator == name]
        values = np.r_[reals, [row.logit for row in own]]
        labels = np.r_[np.zeros(len(reals), np.int64), np.ones(len(own), np.int64)]
        groups = np.r_[sources, np.array([row.clip for row in own], np.str_)]
        result.append({"generator": name, "family": own[0].group, "label": own[0].label, "clips": len(own),
                       "auc": auc(labels, values),
                       "auc_95": by_group(auc, labels, values, groups, draws=draws // 4, seed=seed)})  # fmt: skip
    return result


def families_of(
    labels: NDArray[np.int64], logits: NDArray[np.float64], groups: NDArray[np.str_]
) -> list[dict[str, Any]]:
    """Clips of each family of generators, and their AUC against all footage."""
    return [{"family": name, "clips": int((groups == name).sum()), "auc": auc(labels[keep], logits[keep])}
            for name in np.unique(groups[labels == 1]) if (keep := (labels == 0) | (groups == name)).any()]  # fmt: skip


def _sources(rows: Sequence[Score]) -> list[dict[str, Any]]:
    """Real footage by source: clips, and the highest probability among them."""
    reals = [row for row in rows if row.label == "real"]
    return [{"source": name, "clips": sum(row.group == name for row in reals),
             "highest": max(probability(row.logit or 0.0) for row in reals if row.group == name)}
            for name in sorted({row.group for row in reals})]  # fmt: skip


def _probes(rows: Sequence[Score], seed: int) -> dict[str, Any]:
    """AUC of container facts alone, as delivered and in canonical form, where the rows have them."""
    known = [row for row in rows if row.facts and row.canonical_facts]
    labels, groups = [int(row.label != "real") for row in known], [row.group for row in known]
    if any(len({row.group for row in known if (row.label == "real") is real}) < 2 for real in (True, False)):
        return {"as_delivered": None, "canonical": None, "why": "fewer than two sources or families with facts"}
    try:
        return {"as_delivered": probe([row.facts for row in known], labels, groups, seed=seed),
                "canonical": probe([row.canonical_facts for row in known], labels, groups, seed=seed),
                "clips": len(known)}  # fmt: skip
    except MissingExtraError as error:
        return {"as_delivered": None, "canonical": None, "why": str(error)}
