"""A comparison of two runs on a terminal and as one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.report.compare import ALL, Change, Comparison, said, summary, worse_first
from eval.report.html import rendered
from eval.report.measures import known, of
from eval.robustness import Row
from eval.robustness.summary import said as span_said
from eval.tables import put
from genwm.text import counted


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One thing that a run was made with, in words, in both runs."""

    name: str
    a: str
    b: str

    @property
    def same(self) -> bool:
        return self.a == self.b


def settings(a: Sequence[Row], b: Sequence[Row]) -> list[Setting]:
    """Versions, seeds, spans and what was measured, of two runs."""

    def words(values: Sequence[object]) -> str:
        return ", ".join(map(str, dict.fromkeys(values)))

    def of_run(rows: Sequence[Row]) -> dict[str, str]:
        return {
            "versions": " / ".join(sorted({row.versions for row in rows})),
            "methods": words([of(row) for row in rows]),
            "bits": words([row.bits for row in rows if row.bits]),
            "seeds": words(sorted({row.seed for row in rows})),
            "of each clip": words([span_said(row.span) for row in rows]),
            "attacks": str(len({row.attack for row in rows})),
            "clips": str(len({row.clip for row in rows})),
            "rows": str(len(rows)),
            "errors": str(sum(bool(row.error) for row in rows)),
        }

    first, second = of_run(a), of_run(b)
    return [Setting(name=name, a=first[name], b=second[name]) for name in first]


def document(found: Comparison, made: Sequence[Setting]) -> dict[str, Any]:
    """Everything that a comparison says, for JSON."""
    return {
        "schema": "genwm.eval.compare/1",
        "pairs": found.pairs,
        "renamed": found.renamed,
        "summary": summary(found),
        "settings": [asdict(one) | {"same": one.same} for one in made],
        "changes": [asdict(one) | {"worse": one.worse} for one in found.changes],
        "only": [asdict(one) for one in found.only],
    }


def terminal(found: Comparison, made: Sequence[Setting]) -> str:
    """The comparison as lines for a terminal: differing settings, the whole, then what changed, worse first."""
    lines = [f"{one.name}: {one.a} -> {one.b}" for one in made if not one.same]
    lines += ["", *summary(found), ""]
    changed = ordered(found)
    if changed:
        head = ("", "method", "attack", "clips", "found A", "B", "B - A", "exact A", "B", "B - A", "bits, B - A")
        table = [head, *(_cells(one) for one in changed)]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        left = (True, True, True) + (False,) * 8
        lines += [
            "  ".join(
                cell.ljust(width) if first else cell.rjust(width)
                for cell, width, first in zip(row, widths, left, strict=True)
            ).rstrip()
            for row in table
        ]
        if any(one.sure for one in changed):
            lines.append("* no chance: the interval leaves out 0, and a sign test over clips gives .05 or less")
    same = Counter(one.method for one in found.changes if one.attack != ALL and not one.moved)
    lines += ["", *(f"{method}: {counted(count, 'attack')} without a change." for method, count in same.items())]
    lines += [said(one) for one in found.only]
    return "\n".join(lines)


def ordered(found: Comparison) -> list[Change]:
    """The attacks that changed: those that got worse first, then the others, the most improved first."""
    worse = worse_first(found.changes)
    better = [one for one in found.changes if one.moved and not one.worse and one.attack != ALL]
    return worse + sorted(better, key=lambda one: (not one.sure, -one.gain))


def _cells(one: Change) -> tuple[str, ...]:
    def shares(a: float, b: float, low: float, value: float, high: float) -> tuple[str, ...]:
        ends = "" if low == high else f" [{100 * low:+.0f}, {100 * high:+.0f}]"
        return f"{100 * a:.0f} %", f"{100 * b:.0f} %", f"{100 * value:+.0f}{ends}"

    mark = ("-" if one.worse else "+") + ("*" if one.sure else "")
    found = shares(one.present_a, one.present_b, one.present.low, one.present.value, one.present.high)
    exact = shares(one.exact_a, one.exact_b, one.exact.low, one.exact.value, one.exact.high)
    return (mark, one.method, one.attack, str(one.clips), *found, *exact, f"{one.bit_accuracy.value:+.3f}")


def write_page(out: Path, found: Comparison, made: Sequence[Setting], *, a: str, b: str, title: str = "") -> None:
    """The comparison as one HTML file. Errors: MissingExtraError; OutputError, DiskFullError."""
    changed = ordered(found)
    attacks = {one.attack: attack.description for one in found.changes if (attack := known(one.attack))}
    text = rendered(
        "compare.html.j2",
        title=title or f"{b} against {a}",
        a=a,
        b=b,
        found=found,
        summary=summary(found),
        settings=made,
        totals=[one for one in found.changes if one.attack == ALL],
        worse=[one for one in changed if one.worse],
        better=[one for one in changed if not one.worse],
        same=[one for one in found.changes if not one.moved and one.attack != ALL],
        descriptions=attacks,
    )
    put(out, text)
