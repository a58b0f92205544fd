"""Rows of a robustness run as measures by method and attack, each with its interval of 95 % by clip."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.attacks import Attack, attack_named
from eval.attacks.registry import ATTACKS
from eval.intervals import of_mean, of_median, of_shares, wilson
from eval.methods import Lattice, method_id
from eval.robustness import Row
from genwm.errors import InputError

#: Bit accuracy of a message that was not read: what guessing gives.
UNREAD = 0.5


@dataclass(frozen=True, kw_only=True)
class Value:
    """A figure with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One method under one attack, over clips. A row with an error counts as not found.

    ``present`` and ``exact`` are shares in [0, 1] (Wilson), ``bit_accuracy`` a mean in which an unread message counts
    as one half, ``log10_p`` a median (see `eval.intervals`). ``scale_error`` and ``aspect_error`` are means of
    abs(found / true - 1), ``rotation_error`` that of the degrees (Student), ``flip_error`` the share that was taken for
    mirrored, or not, wrongly (Wilson), over found marks; None where the attack has no such truth.
    ``wrong_payload`` counts messages that were given and not embedded, ``wrong_payload_rate`` is their share of the
    clips (Wilson); ``wrong_key`` counts marks found under another key.
    """

    method: str
    attack: str
    kind: str
    forges: bool
    clips: int
    errors: int
    present: Value
    exact: Value
    bit_accuracy: Value
    log10_p: Value | None
    wrong_payload: int
    wrong_key: int
    scale_error: Value | None
    rotation_error: Value | None
    aspect_error: Value | None
    flip_error: Value | None
    mark_ms: float | None
    read_s: float | None
    wrong_payload_rate: Value


@dataclass(frozen=True, kw_only=True)
class Overall:
    """One method over the attacks that do not forge: the mean over attacks of each clip's shares, then over clips
    (`eval.intervals.of_shares`)."""

    method: str
    clips: int
    attacks: int
    present: Value
    exact: Value
    bit_accuracy: Value
    wrong_payload: int
    wrong_key: int
    errors: int
    rows: int
    mark_ms: float | None
    read_s: float | None
    bits: int | None
    wrong_payload_rate: Value


def of(row: Row) -> str:
    """The method's id of a row."""
    return method_id(row.watermark, row.strength, row.profile)


def known(attack: str) -> Attack | None:
    """The attack of that id, None where this version has none."""
    return attack_named(attack) if attack in ATTACKS or attack.startswith("vae=") else None


def of_span(rows: Iterable[Row], span: str | None = None) -> list[Row]:
    """The rows of a span, or of the one that all have. Errors: InputError where there is no such row, or ``span`` is
    None and the rows have several: a clip measured under two spans would count as two clips."""
    rows = list(rows)
    spans = sorted({row.span for row in rows})
    if span is None and len(spans) > 1:
        raise InputError(
            f"Expected rows of one span, got {', '.join(spans)}; choose one with --span of report or publish"
        )
    if span is not None and span not in spans:
        raise InputError(f"Expected rows of span {span}, got {', '.join(spans) or 'none'}; choose one of these")
    return rows if span is None else [row for row in rows if row.span == span]


def measures(rows: Iterable[Row]) -> list[Measure]:
    """One for each method (in the order in which they come) and attack (in the registry's order), of rows of one span.
    Errors: those of `of_span`."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in of_span(rows):
        groups[(of(row), row.attack)].append(row)
    methods = list(dict.fromkeys(method for method, _ in groups))
    places = {name: place for place, name in enumerate(ATTACKS)}

    def order(key: tuple[str, str]) -> tuple[int, int, str]:
        return methods.index(key[0]), places.get(key[1], len(places)), key[1]

    return [_measure(*key, groups[key]) for key in sorted(groups, key=order)]


def _measure(method: str, name: str, rows: Sequence[Row]) -> Measure:
    attack = known(name)
    truth: Mapping[str, float] = attack.truth if attack else {}
    found = [row for row in rows if row.right_key]
    scales = [abs(row.scale / truth["scale"] - 1) for row in found if "scale" in truth and row.scale is not None]
    turns = [abs(row.rotation - truth["rotation"]) for row in found if "rotation" in truth and row.rotation is not None]
    aspects = [abs(row.aspect / truth["aspect"] - 1) for row in found if "aspect" in truth and row.aspect is not None]
    flips = [row.flip != truth["flip"] for row in found if "flip" in truth and row.flip is not None]
    levels = [row.log10_p for row in rows if row.log10_p is not None]
    return Measure(
        method=method,
        attack=name,
        kind=attack.kind if attack else "",
        forges=bool(attack and attack.forges),
        clips=len(rows),
        errors=sum(bool(row.error) for row in rows),
        present=share(sum(row.right_key for row in rows), len(rows)),
        exact=share(sum(row.exact for row in rows), len(rows)),
        bit_accuracy=mean_share([accuracy(row) for row in rows]),
        log10_p=median(levels) if levels else None,
        wrong_payload=sum(row.wrong_payload for row in rows),
        wrong_key=sum(row.present and not row.right_key for row in rows),
        scale_error=_mean_error(scales) if scales else None,
        rotation_error=_mean_error(turns) if turns else None,
        aspect_error=_mean_error(aspects) if aspects else None,
        flip_error=share(sum(flips), len(flips)) if flips else None,
        mark_ms=_mean(row.mark_ms_per_frame for row in rows),
        read_s=_mean(row.read_s for row in rows),
        wrong_payload_rate=share(sum(row.wrong_payload for row in rows), len(rows)),
    )


def overall(rows: Iterable[Row]) -> list[Overall]:
    """One for each method, in the order in which they come, of rows of one span. Errors: those of `of_span`."""
    return [_overall(method, members) for method, members in by_method(of_span(rows)).items()]


def by_method(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of attacks that do not forge by method, in the order in which they come."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        attack = known(row.attack)
        if not (attack and attack.forges):
            groups[of(row)].append(row)
    return groups


def by_clip(rows: Iterable[Row], value: Callable[[Row], float]) -> dict[str, float]:
    """The mean over each clip's rows."""
    clips: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        clips[row.clip].append(value(row))
    return {clip: statistics.fmean(values) for clip, values in clips.items()}


def _overall(method: str, rows: Sequence[Row]) -> Overall:
    def over_clips(value: Callable[[Row], float]) -> Value:
        return mean_share(list(by_clip(rows, value).values()))

    return Overall(
        method=method,
        clips=len({row.clip for row in rows}),
        attacks=len({row.attack for row in rows}),
        present=over_clips(lambda row: row.right_key),
        exact=over_clips(lambda row: row.exact),
        bit_accuracy=over_clips(accuracy),
        wrong_payload=sum(row.wrong_payload for row in rows),
        wrong_key=sum(row.present and not row.right_key for row in rows),
        errors=sum(bool(row.error) for row in rows),
        rows=len(rows),
        mark_ms=_mean(row.mark_ms_per_frame for row in rows),
        read_s=_mean(row.read_s for row in rows),
        bits=next((row.bits for row in rows if row.bits), None),
        wrong_payload_rate=over_clips(lambda row: row.wrong_payload),
    )


def ours_first(rows: Iterable[Row]) -> list[Row]:
    """The rows with this project's own mark before the others, whatever order they were measured in."""
    return sorted(rows, key=lambda row: row.watermark != Lattice().name)


def shared(rows: Sequence[Row]) -> list[Row]:
    """The rows of (clip, attack) pairs that every method of the rows was measured on: what can be compared."""
    methods = {of(row) for row in rows}
    seen: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in rows:
        seen[(row.clip, row.attack, row.span)].add(of(row))
    return [row for row in rows if seen[(row.clip, row.attack, row.span)] == methods]


def accuracy(row: Row) -> float:
    return UNREAD if row.bit_accuracy is None else row.bit_accuracy


def share(hits: int, count: int) -> Value:
    low, high = wilson(hits, count)
    return Value(value=hits / count if count else 0.0, low=low, high=high)


def mean_share(values: Sequence[float]) -> Value:
    """The mean of shares in [0, 1], one a clip."""
    low, high = of_shares(values)
    return Value(value=statistics.fmean(values), low=low, high=high)


def mean(values: Sequence[float]) -> Value:
    """The mean of figures without bounds, one a clip."""
    low, high = of_mean(values)
    return Value(value=statistics.fmean(values), low=low, high=high)


def _mean_error(values: Sequence[float]) -> Value:
    """The mean of errors without a sign, one a clip."""
    found = mean(values)
    return replace(found, low=max(0.0, found.low))


def median(values: Sequence[float]) -> Value:
    low, high = of_median(values)
    return Value(value=statistics.median(values), low=low, high=high)


def _mean(values: Iterable[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    return statistics.fmean(known_values) if known_values else None
