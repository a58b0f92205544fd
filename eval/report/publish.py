"""This project's own published result, by one command: the run, the page, and the tables of the documentation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from eval.commands.telling import at_work, check_pages, comparing, listing, often_s, reporter, told
from eval.corpus import Video, default_videos, list_videos
from eval.methods import methods_named, read_published
from eval.report.beside import measure_beside, read_quality
from eval.report.matched import matches, quality_by_method
from eval.report.measures import Measure, Value, measures, of_span, ours_first, overall, shared
from eval.report.page import losses, write_page
from eval.robustness import Row, read_rows, run
from eval.robustness.runner import span_of
from eval.robustness.summary import said
from eval.tables import put, versions_said, writing
from genwm.commands.telling import say
from genwm.errors import OutputError
from genwm.scenes import scene
from genwm.text import counted
from genwm.video import write_video

ROWS = Path("docs/results/comparison.csv")
METHODS = ("lattice.balanced", "dwtDctSvd", "dwtDct", "lattice.strong")
PAGES = (Path("docs/evaluation.md"), Path("README.md"))
#: Rows of Video Seal's own list under its own conditions, beside the comparison's.
SEAL_ROWS = "videoseal-72.csv"


@click.command()
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of clips [default: public clips, or scenes].")
@click.option("--out", default=ROWS, show_default=True, type=click.Path(path_type=Path), help="CSV file; continued.")
@click.option("--methods", default=",".join(METHODS), show_default=True, help="Ids, or module:object.")
@click.option("--limit", default=8, show_default=True, type=click.IntRange(1), help="Clips, a fair sample of all.")
@click.option("--max-frames", default=72, show_default=True, type=click.IntRange(1))
@click.option("--lines", type=click.IntRange(64), help="Scale larger clips down to so many lines before marking.")
@click.option("--min-short-side", default=480, show_default=True, type=click.IntRange(0),
              help="Leave out clips of fewer lines on the short side.")
@click.option("--max-short-side", type=click.IntRange(1), help="Leave out clips of more lines on the short side.")
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1),
              help="Clips that are measured at a time.")
@click.option("--span", help="Only rows of this span, such as 72f [default: the run's; without one, all rows'].")
@click.option("--no-run", is_flag=True, help="Measure nothing: make page and tables of the rows that are there.")
@told
def publish(
    videos: Path | None,
    out: Path,
    methods: str,
    limit: int,
    max_frames: int,
    lines: int | None,
    min_short_side: int,
    max_short_side: int | None,
    processes: int,
    span: str | None,
    no_run: bool,
) -> None:
    """Make this project's own published result: measure ours and others on the attacks that others publish, write the
    page beside the rows, and put the tables into docs/evaluation.md and README.md.

    Run it at the root of a checkout. The pictures on the page are of a made scene, never of the clips.
    """
    check_pages()
    if not no_run:
        videos = videos or default_videos(say)
        rows = run(
            videos,
            out,
            attacks=["comparison"],
            methods=methods_named(methods.split(",")),
            max_frames=max_frames,
            lines=lines,
            min_short_side=min_short_side,
            max_short_side=max_short_side,
            limit=limit,
            processes=processes,
            progress=reporter("clips x methods"),
            checking=comparing(),
            listing=listing(),
            working=at_work(),
            every_s=often_s(),
        )
        span = span or span_of(max_frames, None, lines)
        rows = of_span(rows, span)
        measured = {row.clip for row in rows}
        listed = [video for video in list_videos(videos) if video.id in measured]
        measure_beside(out, listed, rows, lines=lines, processes=processes)
    rows = ours_first(of_span(read_rows(out), span))
    if mixed := versions_said(row.versions for row in rows):
        say(mixed)
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "scene.mp4"
        write_video(sample, scene(854, 480, 12, seed=1), fps=24, crf=14, preset="veryfast", threads=1)
        page = write_page(out, title="Watermarks on video, compared", sample=Video(path=sample, id="A made scene"),
                          span=span)
    say(f"wrote {page}")
    quality = read_quality(out, rows[0].span)
    texts = full_table(rows, quality, page), short_table(rows, quality_by_method(quality))
    for path, text in zip(PAGES, texts, strict=True):
        insert(path, text)
        say(f"put the table into {path}")
    seal = out.with_name(SEAL_ROWS)
    if seal.exists():
        insert(PAGES[0], protocol_table(read_rows(seal)), name="protocol")
        say(f"put the rows of {seal} into {PAGES[0]}")


def insert(path: Path, text: str, *, name: str = "comparison") -> None:
    """Puts text between the marks of that name on a page. Raises OutputError where it has none."""
    begin, end = (f"<!-- {name}: {place} -->" for place in ("begin", "end"))
    with writing(path):
        page = path.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise OutputError(
            f"Expected the line {begin} and {end} in {path}, got none; put them where the table belongs"
        )
    replaced = pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)
    if replaced != page:
        put(path, replaced)


def short_table(rows: Sequence[Row], quality: dict[str, dict[str, Value]]) -> str:
    """One line a method."""
    lines = [
        "| method | found | exact message | wrong messages | ColorVideoVDP, JOD | PSNR of RGB |",
        "|---|---|---|---|---|---|",
    ]
    for one in overall(shared(rows)):
        seen = quality.get(one.method.removesuffix(".majority"), {})
        lines.append(
            f"| {one.method} | {_percent(one.present)} | {_percent(one.exact)} | {one.wrong_payload} of {one.rows} | "
            f"{_figure(seen.get('jod_fhd'), 2)} | {_figure(seen.get('rgb_psnr'), 1)} |"
        )
    return "\n".join([*lines, "", _conditions(rows)])


def _conditions(rows: Sequence[Row]) -> str:
    common = shared(rows)
    clips, attacks = {row.clip for row in common}, {row.attack for row in common}
    spans = ", ".join(said(span) for span in sorted({row.span for row in common}))
    return (
        f"Means over {counted(len(attacks), 'attack')} on {counted(len(clips), 'clip')}, {spans}, with 95 % intervals "
        "by clip; found at a false-positive rate of 10^-6. The other methods have no decision of their own and are "
        f"granted one that knows the message; they give a message whatever they read. "
        f"{versions_said(row.versions for row in common)}"
    ).strip()


def full_table(rows: Sequence[Row], quality: Sequence[dict[str, str]], page: Path) -> str:
    """Losses first, then each attack, then what others have published. ``quality``: the rows of a quality run."""
    found = measures(rows)
    parts = [
        short_table(rows, quality_by_method(quality)),
        "",
        f"The page with plots and pictures: [{page.name}](results/{page.name}).",
        "",
    ]
    parts += _losses(found)
    parts += _matched(shared(rows), quality)
    parts += _attacks(found)
    parts += _published(found)
    return "\n".join(parts)


def _losses(found: Sequence[Measure]) -> list[str]:
    behind = losses(found)
    if not behind:
        return ["### Where ours is behind\n", "In no row of these.", ""]
    lines = ["### Where ours is behind\n", "| attack | measure | ours | best other | whose |", "|---|---|---|---|---|"]
    for one in behind:
        whose = f"{one.method}, published" if one.published else one.method
        whose += f"; and {one.others - 1} more" if one.others > 1 else ""
        lines.append(f"| {one.attack} | {one.what} | {one.ours:.2f} | {one.theirs:.2f} | {whose} |")
    return [*lines, ""]


def _matched(rows: Sequence[Row], quality: Sequence[dict[str, str]]) -> list[str]:
    lines = []
    for axis, unit in (("jod_fhd", "ColorVideoVDP (JOD)"), ("rgb_psnr", "PSNR of RGB (dB)")):
        found = matches(rows, quality, axis)  # type: ignore[arg-type]
        if found:
            lines += [
                f"### At the same {unit}\n",
                "| method | quality | found | exact | ours found | ours exact | how ours was matched |",
                "|---|---|---|---|---|---|---|",
            ]
        for one in found:
            values = (one.present, one.exact, one.our_present, one.our_exact)
            shares = ["" if value is None else _percent(value) for value in values]
            lines.append(
                f"| {one.method} | {one.quality:.2f} | {' | '.join(shares)} | "
                f"{one.ours or 'not at all: more visible in every strength that was run'} |"
            )
        lines.append("")
    return lines


def _attacks(found: Sequence[Measure]) -> list[str]:
    methods = list(dict.fromkeys(one.method for one in found))
    by_name = {(one.method, one.attack): one for one in found}
    lines = [
        "### Attack by attack\n",
        "Found [95 % Wilson interval] / exact message in percent of clips; mean bit accuracy, where an unread message "
        "counts as .5.\n",
        "| attack | " + " | ".join(methods) + " |",
        "|---" * (1 + len(methods)) + "|",
    ]
    for attack in dict.fromkeys(one.attack for one in found):
        cells = []
        for method in methods:
            one = by_name.get((method, attack))
            cells.append(
                ""
                if one is None
                else f"{100 * one.present.value:.0f} [{100 * one.present.low:.0f}, {100 * one.present.high:.0f}] / "
                f"{100 * one.exact.value:.0f}; {one.bit_accuracy.value:.2f}"
            )
        lines.append(f"| {attack} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _published(found: Sequence[Measure]) -> list[str]:
    if not found:
        return []
    ours = {one.attack: one for one in found if one.method == found[0].method}
    lines = ["### What others have published\n", "Not run here; mean bit accuracy, their clips and conditions.", ""]
    for source in dict.fromkeys(one.source for one in read_published()):
        entries = [one for one in read_published() if one.source == source]
        names = " | ".join(f"{one.name}, {one.bits} bits" for one in entries)
        lines += [
            f"{source.title}. {source.conditions} {source.note}\n",
            f"| attack | {found[0].method} here | {names} |",
        ]
        lines.append("|---" * (2 + len(entries)) + "|")
        for attack, mine in ours.items():
            if any(attack in one.accuracy for one in entries):
                cells = (f"{one.accuracy[attack]:.2f}" if attack in one.accuracy else "" for one in entries)
                lines.append(f"| {attack} | {mine.bit_accuracy.value:.2f} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def protocol_table(rows: Sequence[Row]) -> str:
    """Every row of a protocol that others have published, ours beside theirs."""
    found, others = measures(rows), read_published()
    clips, spans = {row.clip for row in rows}, ", ".join(said(span) for span in sorted({row.span for row in rows}))
    heads = [f"{one.name}, {one.source.title.rpartition(', ')[2]}" for one in others]
    lines = [
        f"{found[0].method} on {counted(len(clips), 'clip')}, {spans}: found at a false-positive rate of 10^-6 and "
        "exact message, in clips; mean bit accuracy, where an unread message counts as .5. Beside it the mean bit "
        f"accuracies that others have published, on their own clips. "
        f"{versions_said(row.versions for row in rows)}".strip() + "\n",
        "| attack | found | exact | bit accuracy | " + " | ".join(heads) + " |",
        "|---" * (4 + len(others)) + "|",
    ]
    for one in found:
        theirs = (f"{other.accuracy[one.attack]:.2f}" if one.attack in other.accuracy else "" for other in others)
        lines.append(
            f"| {one.attack} | {round(one.present.value * len(clips))} | {round(one.exact.value * len(clips))} | "
            f"{one.bit_accuracy.value:.2f} | " + " | ".join(theirs) + " |"
        )
    return "\n".join(lines)


def _percent(value: Value) -> str:
    return f"{100 * value.value:.0f} % [{100 * value.low:.0f}, {100 * value.high:.0f}]"


def _figure(value: Value | None, digits: int) -> str:
    if value is None or value.low == value.high:  # one clip, or all alike: no interval to speak of
        return "" if value is None else f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"
