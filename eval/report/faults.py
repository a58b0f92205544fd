"""What does not work at all, in words: what a page must say before any table."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.attacks.insiders import UNMARKED
from eval.report.measures import Value, known, of
from eval.robustness import Row
from genwm.text import counted

#: A message is no better than guessed where the mean share of its right bits is below this, over so many messages.
GUESSED, MESSAGES = 0.6, 4
#: Below these a mark is plainly seen: one JOD less than 10 is what three in four viewers prefer the original to (R. K.
#: Mantiuk et al., ColorVideoVDP, 2024); 30 dB is where noise begins to be seen on most clips.
SEEN = (("jod_fhd", 9.0, "ColorVideoVDP {:.2f} JOD of 10"), ("rgb_psnr", 30.0, "PSNR {:.1f} dB"))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that a method does wrong, as a sentence without the method's id. ``code`` is stable: errors,
    false-mark, wrong-key, wrong-message, guessed, nothing-found or visible."""

    method: str
    code: str
    sentence: str


def faults(rows: Sequence[Row], quality: Mapping[str, Mapping[str, Value]]) -> list[Fault]:
    """By method, in the order of the rows. Counts are over all rows of the method, intervals play no part: one wrong
    message is said."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[of(row)].append(row)
    return [
        Fault(method=method, code=code, sentence=sentence)
        for method, members in groups.items()
        for code, sentence in (
            *_said(members),
            *_seen(quality.get(method.removesuffix(".majority"), {})),
        )
    ]


def _said(rows: Sequence[Row]) -> list[tuple[str, str]]:
    found = []
    errors = Counter(row.error for row in rows if row.error)
    if errors:
        kinds = ", ".join(f"{code} {count}" for code, count in errors.most_common())
        found.append(("errors", f"{_of(errors.total(), rows)} ended in an error ({kinds}) and count as not found."))
    bare = [row for row in rows if row.attack == UNMARKED and not row.error]
    wrong = sum(row.present for row in bare)
    if wrong:
        found.append(("false-mark", f"It calls clips marked that are not: {_of(wrong, bare)} without a mark."))
    wrong = sum(row.present and not row.right_key for row in rows)
    if wrong:
        sentence = f"It finds marks that are not there: a key that was not used is named in {_of(wrong, rows)}."
        found.append(("wrong-key", sentence))
    sure = [row for row in rows if row.right_key and not _forges(row)]
    wrong = sum(row.wrong_payload for row in sure)
    if wrong:
        found.append(("wrong-message", f"It gives wrong messages: {_of(wrong, sure)} in which it finds the mark."))
    given = [row.bit_accuracy for row in rows if row.bit_accuracy is not None and not _forges(row)]
    if len(given) >= MESSAGES and statistics.fmean(given) < GUESSED:
        share = 100 * statistics.fmean(given)
        sentence = (
            f"Its messages are no better than guesses: {share:.0f} % of the bits of {len(given)} messages are right."
        )
        found.append(("guessed", sentence))
    read = [row for row in rows if not row.error and not _forges(row)]
    if read and not any(row.right_key for row in read):
        found.append(("nothing-found", f"It finds its mark in none of {counted(len(read), 'row')}."))
    return found


def _seen(quality: Mapping[str, Value]) -> list[tuple[str, str]]:
    low = [
        text.format(quality[name].value)
        for name, least, text in SEEN
        if name in quality and quality[name].value < least
    ]
    return [("visible", f"It damages the picture: {', '.join(low)}.")] if low else []


def _forges(row: Row) -> bool:
    attack = known(row.attack)
    return bool(attack and attack.forges)


def _of(count: int, rows: Sequence[Row]) -> str:
    return f"{count} of {counted(len(rows), 'row')}"
