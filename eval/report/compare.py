"""What changed between two runs: the same method on the clips and attacks that both have."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from eval.attacks.registry import ATTACKS
from eval.report.measures import Value, accuracy, known, mean_share, of, ours_first
from eval.robustness import Row
from genwm.text import counted

ALL = "all"
Pairing = tuple[str, str, str, str]  # method, attack, clip, span


@dataclass(frozen=True, kw_only=True)
class Change:
    """One method under one attack, over the clips that both runs have. Differences are B - A, with the interval of the
    paired differences by clip (see `_difference`); ``lost`` counts rows found in A and not in B, ``won`` the others.
    ``sure`` says that the interval of found or exact leaves out 0 and that the sign test over clips (two-sided, exact)
    gives .05 or less, which takes six clips that changed. ``forges``: a mark
    found is a false one, so less is better. The attack ``all`` stands for all that do not forge."""

    method: str
    attack: str
    forges: bool
    clips: int
    present_a: float
    present_b: float
    exact_a: float
    exact_b: float
    present: Value
    exact: Value
    bit_accuracy: Value
    wrong_a: int
    wrong_b: int
    errors_a: int
    errors_b: int
    lost: int
    won: int
    sure: bool

    @property
    def gain(self) -> float:
        """How much better B is: the sum of both differences, below 0 where it is worse."""
        return (self.present.value + self.exact.value) * (-1 if self.forges else 1)

    @property
    def moved(self) -> bool:
        """Whether anything differs."""
        values = (self.present, self.exact, self.bit_accuracy)
        return any(max(abs(one.value), abs(one.low), abs(one.high)) > 1e-9 for one in values) or (
            (self.wrong_a, self.errors_a, self.lost) != (self.wrong_b, self.errors_b, self.won)
        )

    @property
    def worse(self) -> bool:
        """Whether anything got worse: fewer found or exact, more wrong messages or errors."""
        sign = -1 if self.forges else 1
        below = min(sign * self.present.value, sign * self.exact.value) < -1e-9
        return below or self.wrong_b > self.wrong_a or self.errors_b > self.errors_a


@dataclass(frozen=True, kw_only=True)
class Only:
    """Rows that one of the runs (``run``: A or B) has and the other has not, of one method: how many, and of which
    attacks and clips."""

    run: str
    method: str
    rows: int
    attacks: tuple[str, ...]
    clips: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs. ``renamed`` are the two methods that were set against each other although their ids differ, which is
    done where each run has just one."""

    changes: tuple[Change, ...]
    only: tuple[Only, ...]
    renamed: tuple[str, str] | None
    pairs: int


def compared(a: Iterable[Row], b: Iterable[Row]) -> Comparison:
    """The changes by method (ours first), in the registry's order of attacks, "all" first; and what has no pair.

    Rows are paired by method, attack, clip and span; files of one name that differ are no pair, where both runs have
    their SHA-256. Two runs of one method each are paired whatever the methods are.
    """
    a, b = ours_first(a), ours_first(b)
    methods_a, methods_b = (list(dict.fromkeys(of(row) for row in rows)) for rows in (a, b))
    renamed = None
    if len(methods_a) == len(methods_b) == 1 and methods_a != methods_b:
        renamed = (methods_a[0], methods_b[0])

    def name(row: Row) -> str:
        return " to ".join(renamed) if renamed else of(row)

    before, after = ({(name(row), row.attack, row.clip, row.span): row for row in rows} for rows in (a, b))
    groups: defaultdict[tuple[str, str], list[tuple[Row, Row]]] = defaultdict(list)
    both = [key for key, row in before.items() if key in after and _one_clip(row, after[key])]
    paired = set(both)
    for key in both:
        groups[(key[0], key[1])].append((before[key], after[key]))
        if not _forges(key[1]):
            groups[(key[0], ALL)].append((before[key], after[key]))
    places = {attack: place for place, attack in enumerate((ALL, *ATTACKS))}
    methods = list(dict.fromkeys(key[0] for key in both))
    order = sorted(groups, key=lambda key: (methods.index(key[0]), places.get(key[1], len(places)), key[1]))
    return Comparison(
        changes=tuple(_change(method, attack, groups[(method, attack)]) for method, attack in order),
        only=(*_only("A", before, paired), *_only("B", after, paired)),
        renamed=renamed,
        pairs=len(both),
    )


def changes(a: Iterable[Row], b: Iterable[Row]) -> list[Change]:
    """One for each method and attack of both: see `compared`."""
    return list(compared(a, b).changes)


def worse_first(found: Iterable[Change]) -> list[Change]:
    """Single attacks that got worse, the surest first, then by how much."""
    return sorted((one for one in found if one.worse and one.attack != ALL), key=lambda one: (not one.sure, one.gain))


def _one_clip(x: Row, y: Row) -> bool:
    return x.sha256 == y.sha256 or not (x.sha256 and y.sha256)


def _only(run: str, mine: Mapping[Pairing, Row], paired: Set[Pairing]) -> list[Only]:
    left: defaultdict[str, list[Row]] = defaultdict(list)
    for key, row in mine.items():
        if key not in paired:
            left[of(row)].append(row)
    return [
        Only(
            run=run,
            method=method,
            rows=len(rows),
            attacks=tuple(dict.fromkeys(row.attack for row in rows)),
            clips=tuple(dict.fromkeys(row.clip for row in rows)),
        )
        for method, rows in left.items()
    ]


def _change(method: str, attack: str, pairs: Sequence[tuple[Row, Row]]) -> Change:
    clips: defaultdict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for pair in pairs:
        clips[pair[0].clip].append(pair)

    def differences(name: str) -> list[float]:
        def value(row: Row) -> float:
            return accuracy(row) if name == "bit_accuracy" else float(getattr(row, name))

        ordered = [clips[clip] for clip in sorted(clips)]
        return [sum(value(y) - value(x) for x, y in members) / len(members) for members in ordered]

    count = len(pairs)
    present, exact = differences("right_key"), differences("exact")
    return Change(
        method=method,
        attack=attack,
        forges=_forges(attack),
        clips=len(clips),
        present_a=sum(x.right_key for x, _ in pairs) / count,
        present_b=sum(y.right_key for _, y in pairs) / count,
        exact_a=sum(x.exact for x, _ in pairs) / count,
        exact_b=sum(y.exact for _, y in pairs) / count,
        present=_difference(present),
        exact=_difference(exact),
        bit_accuracy=_difference(differences("bit_accuracy")),
        wrong_a=sum(x.wrong_payload for x, _ in pairs),
        wrong_b=sum(y.wrong_payload for _, y in pairs),
        errors_a=sum(bool(x.error) for x, _ in pairs),
        errors_b=sum(bool(y.error) for _, y in pairs),
        lost=sum(x.right_key > y.right_key for x, y in pairs),
        won=sum(x.right_key < y.right_key for x, y in pairs),
        sure=_sure(present) or _sure(exact),
    )


def _difference(values: Sequence[float]) -> Value:
    """The mean of differences in [-1, 1], one a clip, with the interval of shares stretched to that. Clips that differ
    all by the same, by nothing say, show no variance: then there is no interval, unless all is lost or won."""
    alike = max(values) - min(values) < 1e-9
    if alike and abs(values[0]) < 1 - 1e-9:
        return Value(value=values[0], low=values[0], high=values[0])
    share = mean_share([(1 + value) / 2 for value in values])
    return Value(value=2 * share.value - 1, low=2 * share.low - 1, high=2 * share.high - 1)


def _sure(differences: Sequence[float]) -> bool:
    value = _difference(differences)
    up, down = (sum(sign * one > 1e-9 for one in differences) for sign in (1, -1))
    return (value.low > 0 or value.high < 0) and sign_test(up, down) <= 0.05


def sign_test(up: int, down: int) -> float:
    """The chance that of so many fair coins as many or more fall on one side, whichever it is."""
    count = up + down
    tail = sum(math.comb(count, hits) for hits in range(max(up, down), count + 1))
    return min(1.0, 2.0 * tail / 2.0**count)


def _forges(attack: str) -> bool:
    found = known(attack)
    return bool(found and found.forges)


def summary(found: Comparison) -> list[str]:
    """The comparison in a sentence for each method, and one for what is not paired."""
    lines = []
    for one in (change for change in found.changes if change.attack == ALL):
        worse = sum(other.worse for other in found.changes if other.method == one.method and other.attack != ALL)
        lines.append(
            f"{one.method}: found {100 * one.present_a:.1f} % in A and {100 * one.present_b:.1f} % in B, exact "
            f"{100 * one.exact_a:.1f} % and {100 * one.exact_b:.1f} %, on {counted(one.clips, 'clip')}; "
            f"{counted(worse, 'attack') if worse else 'no attack'} worse."
        )
        if one.wrong_b > one.wrong_a:
            lines.append(f"{one.method} gives more wrong messages: {one.wrong_b} in B, {one.wrong_a} in A.")
        if one.errors_b > one.errors_a:
            lines.append(f"{one.method} ends in more errors: {one.errors_b} in B, {one.errors_a} in A.")
    if found.renamed:
        lines.append("The methods have different names: each run has one, so they are set against each other.")
    for run in dict.fromkeys(left.run for left in found.only):
        count = sum(left.rows for left in found.only if left.run == run)
        lines.append(f"In {run} alone, and without a part: {counted(count, 'row')}.")
    return lines


def markdown(found: Comparison, a: str, b: str) -> str:
    """The changes for people: what got worse first, then a table for each method of the attacks that changed."""
    lines = [f"# {b} against {a}\n", *(f"- {line}" for line in summary(found)), ""]
    worse = worse_first(found.changes)
    if worse:
        lines.append(
            "Worse (* where that is no chance: the interval leaves out 0, and a sign test gives .05 or less):\n"
        )
        lines += [
            f"- {one.method}, {one.attack}: found {100 * one.present.value:+.1f}, exact {100 * one.exact.value:+.1f} "
            f"points on {counted(one.clips, 'clip')}{_more(one)}{' *' if one.sure else ''}"
            for one in worse
        ]
        lines.append("")
    for method in dict.fromkeys(one.method for one in found.changes):
        members = [one for one in found.changes if one.method == method]
        changed = [one for one in members if one.attack == ALL or one.moved]
        lines += [f"## {method}\n", f"Without a change: {counted(len(members) - len(changed), 'attack')}.\n"]
        lines += ["| attack | clips | found A | found B | exact A | exact B | bit accuracy, B - A |"]
        lines.append("|---|---|---|---|---|---|---|")
        for one in changed:
            shares = (one.present_a, one.present_b, one.exact_a, one.exact_b)
            cells = " | ".join(f"{100 * value:.1f} %" for value in shares)
            bits = f"{one.bit_accuracy.value:+.3f} [{one.bit_accuracy.low:+.3f}, {one.bit_accuracy.high:+.3f}]"
            lines.append(f"| {one.attack}{' *' if one.sure else ''} | {one.clips} | {cells} | {bits} |")
        lines.append("")
    lines += [said(left) for left in found.only]
    return "\n".join(lines)


def said(left: Only) -> str:
    """What only one run has, as a sentence; at most eight attacks by name."""
    names = ", ".join(left.attacks[:8]) + (f" and {len(left.attacks) - 8} more" if len(left.attacks) > 8 else "")
    clips = counted(len(left.clips), "clip")
    return f"Only in {left.run}: {counted(left.rows, 'row')} of {left.method} on {clips}: {names}."


def _more(one: Change) -> str:
    more = ""
    if one.wrong_b != one.wrong_a:
        more += f", wrong messages {one.wrong_a} to {one.wrong_b}"
    if one.errors_b != one.errors_a:
        more += f", errors {one.errors_a} to {one.errors_b}"
    return more
