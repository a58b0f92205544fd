"""A run as one HTML page that needs nothing beside it, and as JSON and CSV. Needs jinja2 and matplotlib."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from eval.corpus import Video, list_videos
from eval.methods import is_foreign, read_published
from eval.report import plots
from eval.report.beside import measured_costs, read_quality
from eval.report.faults import faults
from eval.report.html import rendered
from eval.report.matched import Axis, matches, quality_by_method
from eval.report.measures import Measure, Value, known, measures, of, of_span, ours_first, overall, shared
from eval.report.thumbnails import Thumbnails, thumbnails
from eval.robustness import Row, read_rows
from eval.robustness.summary import said
from eval.tables import put, versions_said
from genwm.errors import GenwmError, InputError

SCHEMA = "genwm.eval/1"
WORST = 12


@dataclass(frozen=True, kw_only=True)
class Loss:
    """An attack and a measure in which the first method is behind others: ``theirs`` is the best of them, by
    ``method``, ``others`` how many there are; shares in [0, 1]. ``published`` says that the figures are not of this
    run."""

    attack: str
    what: str
    ours: float
    theirs: float
    method: str
    others: int
    published: bool = False


def losses(all_measures: Sequence[Measure]) -> list[Loss]:
    """Where the first method of the rows is behind others on the same clips, and behind published bit accuracies
    (other clips, other conditions), largest first. Other strengths of the first method are no others."""
    if not all_measures:
        return []
    first = all_measures[0].method
    ours = {one.attack: one for one in all_measures if one.method == first and not one.forges}
    family = first if is_foreign(first) else first.split(".")[0] + "."
    behind: defaultdict[tuple[str, str, bool], list[tuple[float, str]]] = defaultdict(list)
    for one in all_measures:
        if one.attack in ours and not one.method.startswith(family):
            behind[one.attack, "found", False].append((one.present.value, one.method))
            behind[one.attack, "exact", False].append((one.exact.value, one.method))
    for published in read_published():
        for attack, theirs in published.accuracy.items():
            if attack in ours:
                behind[attack, "bit accuracy", True].append((theirs, f"{published.name}, {published.source.title}"))
    found = []
    for (attack, what, elsewhere), others in behind.items():
        mine = ours[attack]
        value = {"found": mine.present, "exact": mine.exact, "bit accuracy": mine.bit_accuracy}[what].value
        # Published figures have two digits.
        better = [one for one in others if one[0] > (round(value, 2) if elsewhere else value)]
        if better:
            theirs, method = max(better)
            count = len(better)
            found.append(
                Loss(
                    attack=attack,
                    what=what,
                    ours=value,
                    theirs=theirs,
                    method=method,
                    others=count,
                    published=elsewhere,
                )
            )
    return sorted(found, key=lambda loss: (loss.published, loss.ours - loss.theirs))


def worst(rows: Sequence[Row]) -> list[Row]:
    """The first method's rows that fell furthest short: errors, wrong keys and payloads, marks not found, payloads not
    exact; each clip at most three times."""
    first = of(rows[0]) if rows else ""

    def badness(row: Row) -> tuple[Any, ...]:
        wrong = bool(row.error) or row.wrong_payload or (row.present and not row.right_key)
        return (not wrong, row.right_key, row.exact, row.log10_p or 0.0)

    short = sorted((row for row in rows if of(row) == first and not row.exact and not _forges(row)), key=badness)
    kept: list[Row] = []
    for row in short:
        if sum(one.clip == row.clip for one in kept) < 3 and len(kept) < WORST:
            kept.append(row)
    return kept


def _forges(row: Row) -> bool:
    attack = known(row.attack)
    return bool(attack and attack.forges)


def write_page(
    out: Path, *, videos: Path | None = None, title: str = "", sample: Video | None = None, span: str | None = None
) -> Path:
    """Writes ``OUT.html``, ``OUT.json`` and ``OUT.measures.csv`` for the rows of ``OUT`` and what stands beside them.

    ``videos`` is the folder of the clips, for the pictures (none without it); ``sample`` the clip that is shown;
    ``span`` chooses among rows of several. Returns the page's path. Errors: those of read_rows; InputError (no rows, or
    several spans and none chosen); MissingExtraError; OutputError, DiskFullError.
    """
    rows = ours_first(of_span(read_rows(out), span))
    if not rows:
        raise InputError(f"Expected rows of a robustness run in {out}, got none; run it first")
    quality_rows, costs = read_quality(out, rows[0].span), measured_costs(out, rows)
    quality = quality_by_method(quality_rows)
    common = shared(rows)
    comparable = bool(common)
    common = common or rows
    all_measures, totals = measures(rows), overall(common)
    matched = {axis: matches(common, quality_rows, axis) for axis in get_args(Axis)}
    found_faults = faults(rows, quality)
    document = {
        "schema": SCHEMA,
        "rows": out.name,
        "versions": sorted({row.versions for row in rows}),
        "seeds": sorted({row.seed for row in rows}),
        "spans": sorted({row.span for row in rows}),
        "clips": sorted({row.clip for row in rows}),
        "measures": [asdict(one) for one in all_measures],
        "overall": [asdict(one) for one in totals],
        "quality": {
            method: {name: asdict(value) for name, value in found.items()} for method, found in quality.items()
        },
        "matched": {axis: [one.flat() for one in found] for axis, found in matched.items()},
        "costs": [asdict(one) for one in costs],
        "faults": [asdict(one) for one in found_faults],
        "losses": [asdict(one) for one in losses(all_measures)],
        "worst": [asdict(row) for row in worst(rows)],
    }
    methods = list(dict.fromkeys(one.method for one in all_measures))
    text = rendered(
        "page.html.j2",
        title=title or f"Watermarks under attack: {', '.join(methods)}",
        document=document,
        rows=rows,
        methods=methods,
        colours={method: plots.themed(plots.colour(methods, method)) for method in methods},
        measures=all_measures,
        table=_table(all_measures, methods),
        overall=totals,
        compared=len({(row.clip, row.attack) for row in common}) if comparable else 0,
        quality=quality,
        costs=costs,
        matched=matched,
        faults=found_faults,
        losses=losses(all_measures),
        worst=worst(rows),
        published=_published(all_measures),
        mixed=versions_said(row.versions for row in rows),
        spans=[said(span) for span in sorted({row.span for row in rows})],
        survival=plots.survival(all_measures),
        against_jod=plots.against_quality(totals, quality, "jod_fhd", "ColorVideoVDP, standard_fhd, JOD"),
        against_psnr=plots.against_quality(totals, quality, "rgb_psnr", "PSNR of RGB, dB"),
        heat_maps=[plot for plot in (plots.heat_map(all_measures, method) for method in methods) if plot],
        pictures=_pictures(rows, methods, videos, sample),
        command=shlex.join(
            ["genwm", "eval", "report", out.name]
            + (["--videos", str(videos)] if videos else [])
            + (["--span", span] if span else [])
        ),
        descriptions={name: attack.description for one in all_measures if (attack := known(name := one.attack))},
    )
    page = out.with_suffix(".html")
    put(page, text)
    put(out.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    put(out.with_suffix(".measures.csv"), _csv(all_measures))
    return page


def _table(all_measures: Sequence[Measure], methods: Sequence[str]) -> list[tuple[str, str, list[Measure | None]]]:
    """Attack, kind, and the measure of each method; attacks of one kind together."""
    found = {(one.attack, one.method): one for one in all_measures}
    attacks = {one.attack: one.kind for one in all_measures}
    kinds = list(dict.fromkeys(attacks.values()))
    ordered = sorted(attacks.items(), key=lambda item: kinds.index(item[1]))
    return [(name, kind, [found.get((name, method)) for method in methods]) for name, kind in ordered]


def _published(all_measures: Sequence[Measure]) -> list[dict[str, Any]]:
    """By source: published bit accuracies on attacks that were run here, beside the first method's."""
    if not all_measures:
        return []
    ours = {one.attack: one for one in all_measures if one.method == all_measures[0].method}
    result = []
    for source in dict.fromkeys(one.source for one in read_published()):
        entries = [one for one in read_published() if one.source == source]
        attacks = [name for name in ours if any(name in one.accuracy for one in entries)]
        if attacks:
            table = [(name, ours[name], [one.accuracy.get(name) for one in entries]) for name in attacks]
            result.append({"source": source, "methods": entries, "table": table})
    return result


def _pictures(
    rows: Sequence[Row], methods: Sequence[str], videos: Path | None, sample: Video | None
) -> Thumbnails | None:
    attacks = list(dict.fromkeys(row.attack for row in rows))
    if sample is None and videos is not None:
        measured = {row.clip for row in rows if not row.error}
        try:
            sample = next((video for video in list_videos(videos) if video.id in measured), None)
        except GenwmError:
            return None
    if sample is None:
        return None
    try:
        return thumbnails(sample, methods, attacks, lines=480, seed=rows[0].seed)
    except GenwmError:
        return None


def _csv(all_measures: Sequence[Measure]) -> str:
    """One line for each method and attack, with the ends of the intervals."""
    text = io.StringIO()
    measured = {field.name for field in fields(Measure) if "Value" in str(field.type)}
    lines = []
    for one in all_measures:
        line: dict[str, object] = {}
        for name, value in vars(one).items():
            if isinstance(value, Value):
                line |= {
                    name: _short(value.value),
                    f"{name}_low": _short(value.low),
                    f"{name}_high": _short(value.high),
                }
            elif name in measured:
                line |= {name: "", f"{name}_low": "", f"{name}_high": ""}
            else:
                line[name] = _short(value) if isinstance(value, float) else value
        lines.append(line)
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _short(value: float) -> str:
    return f"{value:.4g}"
