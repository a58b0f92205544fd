"""What changed between two runs: the same method on the clips and attacks that both have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.attacks.registry import ATTACKS
from eval.report.measures import Value, accuracy, mean, of
from eval.robustness import Row


@dataclass(frozen=True, kw_only=True)
class Change:
    """One method under one attack, over the clips that both runs have. Differences are B - A, with the interval of the
    paired differences by clip (bootstrap); ``lost`` counts clips found in A and not in B, ``won`` the others.
    ``sure`` says that the interval of found or exact leaves out 0."""

    method: str
    attack: str
    clips: int
    present_a: float
    present_b: float
    exact_a: float
    exact_b: float
    present: Value
    exact: Value
    bit_accuracy: Value
    lost: int
    won: int
    sure: bool


def changes(a: Iterable[Row], b: Iterable[Row]) -> list[Change]:
    """One for each method and attack of both, in the registry's order; "all" stands for all attacks together."""
    before, after = ({(of(row), row.attack, row.clip, row.span): row for row in rows} for rows in (a, b))
    groups: defaultdict[tuple[str, str], list[tuple[Row, Row]]] = defaultdict(list)
    for key in before.keys() & after.keys():
        groups[(key[0], key[1])].append((before[key], after[key]))
        groups[(key[0], "all")].append((before[key], after[key]))
    places = {name: place for place, name in enumerate(("all", *ATTACKS))}
    order = sorted(groups, key=lambda key: (key[0], places.get(key[1], len(places)), key[1]))
    return [_change(method, attack, groups[(method, attack)]) for method, attack in order]


def _change(method: str, attack: str, pairs: Sequence[tuple[Row, Row]]) -> Change:
    clips: defaultdict[str, list[tuple[Row, Row]]] = defaultdict(list)
    for pair in pairs:
        clips[pair[0].clip].append(pair)

    def difference(name: str) -> Value:
        def value(row: Row) -> float:
            return accuracy(row) if name == "bit_accuracy" else float(getattr(row, name))

        ordered = [clips[clip] for clip in sorted(clips)]
        return mean([sum(value(y) - value(x) for x, y in members) / len(members) for members in ordered])

    count = len(pairs)
    present, exact = difference("right_key"), difference("exact")
    return Change(
        method=method,
        attack=attack,
        clips=len(clips),
        present_a=sum(x.right_key for x, _ in pairs) / count,
        present_b=sum(y.right_key for _, y in pairs) / count,
        exact_a=sum(x.exact for x, _ in pairs) / count,
        exact_b=sum(y.exact for _, y in pairs) / count,
        present=present,
        exact=exact,
        bit_accuracy=difference("bit_accuracy"),
        lost=sum(x.right_key > y.right_key for x, y in pairs),
        won=sum(x.right_key < y.right_key for x, y in pairs),
        sure=any(value.low > 0 or value.high < 0 for value in (present, exact)) and len(clips) > 1,
    )


def markdown(found: Sequence[Change], a: str, b: str) -> str:
    """The changes for people: what got worse first, then a table for each method of the attacks that changed."""
    lines = [f"# {b} against {a}\n"]
    worse = [one for one in found if one.present.value < 0 or one.exact.value < 0]
    if worse:
        lines.append("Worse (* where the interval leaves out no change):\n")
        lines += [
            f"- {one.method}, {one.attack}: found {100 * one.present.value:+.1f}, exact {100 * one.exact.value:+.1f} "
            f"points on {one.clips} clips{' *' if one.sure else ''}"
            for one in worse
        ]
        lines.append("")
    for method in dict.fromkeys(one.method for one in found):
        members = [one for one in found if one.method == method]
        changed = [one for one in members if one.attack == "all" or one.lost or one.won or _moved(one)]
        lines += [f"## {method}\n", f"{len(members) - len(changed)} attacks did not change.\n"]
        lines += ["| attack | clips | found A | found B | exact A | exact B | bit accuracy, B - A |"]
        lines.append("|---|---|---|---|---|---|---|")
        for one in changed:
            shares = (one.present_a, one.present_b, one.exact_a, one.exact_b)
            cells = " | ".join(f"{100 * value:.1f} %" for value in shares)
            bits = f"{one.bit_accuracy.value:+.3f} [{one.bit_accuracy.low:+.3f}, {one.bit_accuracy.high:+.3f}]"
            lines.append(f"| {one.attack}{' *' if one.sure else ''} | {one.clips} | {cells} | {bits} |")
        lines.append("")
    return "\n".join(lines)


def _moved(one: Change) -> bool:
    return any(abs(value.value) > 1e-9 for value in (one.present, one.exact, one.bit_accuracy))
