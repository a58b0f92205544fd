"""Evidence pages: one HTML file for each content that was scanned, and an index with filters.

Every page stands alone: styles, script and pictures are inside it, so it can be archived or sent as it is. Names of
files are strangers' text and are escaped; pictures are blurred until asked for.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from detectors.heat import shapes
from detectors.record import VERDICTS, Record
from detectors.scan.files import replaced
from detectors.scan.objects import is_url
from detectors.scan.settings import MIB, Limits, Settings
from detectors.scan.single import Picture
from detectors.verdict import Policy, policy_text
from genwm.errors import OutputError, OutputExistsError
from genwm.text import chance, counted, quoted, shown, shown_lines

WORDS = {
    "watermark_detected": "watermark detected",
    "likely_synthetic": "likely synthetic",
    "inconclusive": "inconclusive",
    "no_evidence": "no evidence",
    "error": "error",
}
_FOLDER = "files"
#: What a page calls the policy file that its command needs, and whose text it shows.
_POLICY = "policy.toml"
#: Columns of the index, and which of them are numbers.
_HEADS = ("File", "Verdict", "Mark, log10 p", "Payload", "Classifier", "Seconds", "Remarks")
_NUMBERS = {"Mark, log10 p", "Classifier", "Seconds"}
#: Pixels of a lane of the timeline, and in it of its label and its bar.
_LANE, _LABEL, _BAR = 46, 20, 18


class Pages:
    """Writes evidence pages below a folder, which is made if need be."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._settings = settings
        index = folder / "index.html"
        if index.exists() and not (folder / _FOLDER).is_dir():
            raise OutputExistsError(f"Expected a new folder or pages of an earlier scan at {folder}, got another "
                                    f"{index.name}; choose another with --html")
        try:
            (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Expected a folder for pages at {folder}, got '{error.strerror}'; choose another"
                              ) from None

    def write(self, record: Record, pictures: Sequence[Picture]) -> None:
        """The page of one record. A duplicate has that of the file whose bytes it shares."""
        if record.duplicate_of is None:
            _write(self.folder / page_name(record), page(record, pictures, self._settings))

    def write_index(self, records: Iterable[Record]) -> None:
        """The index of all records under these settings, with a page for each that has none yet."""
        rows = []
        digest = self._settings.digest
        for record in records:
            if record.settings != digest:
                continue
            if not (self.folder / page_name(record)).exists():
                _write(self.folder / page_name(record), page(record, (), self._settings))
            rows.append(_row(record))
        _write(self.folder / "index.html", _index(rows))


def page_name(record: Record) -> str:
    """Name of a record's page, relative to the index: the same bytes under the same settings, the same page."""
    content = f"{record.input.sha256 or record.input.path} {record.settings}"
    return f"{_FOLDER}/{hashlib.sha256(content.encode()).hexdigest()[:24]}.html"


def page(record: Record, pictures: Sequence[Picture], settings: Settings) -> str:
    """One record as HTML."""
    parts = [f'<p><a href="../index.html">All files</a></p><h1>{_text(record.input.path)}</h1>', _verdict(record)]
    if record.error is not None:
        parts.append(f"<p><code>{_text(record.error.code)}</code> {_text(record.error.message)}</p>")
    if record.reasons:
        parts.append(f'<ol class="reasons">{"".join(f"<li>{_text(reason)}</li>" for reason in record.reasons)}</ol>')
    if record.contradictions:
        parts.append('<div class="against"><strong>This evidence speaks against itself.</strong> '
                     f"{' '.join(map(_text, record.contradictions))}</div>")
    if record.warnings:
        parts.append(f'<p class="soft">Warnings: {_text("; ".join(text.rstrip(".") for text in record.warnings))}.'
                     "</p>")
    if pictures:
        looked_at = record.synthetic is not None and any(part.place for part in record.synthetic.segments)
        heat = f'<input type="checkbox" id="heat" checked> {_legend(pictures)}' if looked_at else ""
        figures = "".join(_figure(picture, record) for picture in pictures)
        parts.append('<h2>Frames</h2><input type="checkbox" id="clear"> <label for="clear">Show them clearly</label> '
                     f'{heat}<div class="frames">{figures}</div>')
    if record.input.duration:
        parts.append(f"<h2>Timeline</h2>{timeline(record)}")
    parts += [f"<h2>Evidence</h2>{_facts(_evidence(record))}", f"<h2>File</h2>{_facts(_file(record))}",
              f"<h2>How to reproduce</h2>{_reproduce(record, settings)}",
              f"<h2>Record</h2><details><summary>JSON</summary>{_lines(_pretty(record))}</details>"]
    return _document(record.input.path, "".join(parts))


def timeline(record: Record) -> str:
    """Marked and suspicious seconds as SVG, one lane each; what the classifier looked at is as filled as suspicious."""
    lanes: list[tuple[str, str, list[tuple[float, float, float, str]]]] = []
    if record.watermark is not None:
        lanes.append(("marked", "marked", [
            (part.start, part.end, 1.0, f"{part.in_words()}, p = {chance(part.log10_p)}")
            for part in record.watermark.segments
        ]))
    if record.synthetic is not None:
        lanes.append(("classifier, the more filled the more suspicious", "suspect", [
            (part.start, part.end, part.probability, f"probability {part.probability:.2f}")
            for part in record.synthetic.segments
        ]))
    length = max([record.input.duration or 0.0, *(end for _, _, spans in lanes for _, end, _, _ in spans)])
    share = 100 / length
    bottom, digits = _LANE * len(lanes), 1 if length >= 2 else 2
    shapes = []
    for number, (label, kind, spans) in enumerate(lanes):
        top = number * _LANE + _LABEL
        shapes.append(f'<text x="0" y="{top - 5}">{label}</text><rect class="lane" x="0" y="{top}" width="100%" '
                      f'height="{_BAR}"/>')
        shapes += [
            f'<rect class="{kind}" x="{start * share:.2f}%" y="{top}" width="{max((end - start) * share, 0.3):.2f}%" '
            f'height="{_BAR}" fill-opacity="{weight:.2f}">'
            f"<title>{start:.1f} - {end:.1f} s: {_text(says)}</title></rect>"
            for start, end, weight, says in spans
        ]
    for step, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
        place = f"{25 * step}%"
        words = f"{length * step / 4:.{digits}f} s"
        shapes.append(f'<line class="tick" x1="{place}" x2="{place}" y1="{bottom}" y2="{bottom + 6}"/>'
                      f'<text x="{place}" y="{bottom + 20}" text-anchor="{anchor}">{words}</text>')
    empty = "" if any(spans for _, _, spans in lanes) else '<p class="soft">No second stands out.</p>'
    return f'<svg class="timeline" height="{bottom + 26}" role="img">{"".join(shapes)}</svg>{empty}'


def _evidence(record: Record) -> list[tuple[str, str]]:
    mark, score, provenance = record.watermark, record.synthetic, record.provenance
    facts = [("Manifest (C2PA)", provenance.c2pa.replace("_", " "))]
    if provenance.signer:
        facts.append(("Signed by", provenance.signer))
    if mark is None:
        facts.append(("Watermark", "not looked for"))
    else:
        facts += [("Watermark", mark.status.replace("_", " ")),
                  ("Chance explains it with", f"p = {chance(mark.log10_p)}")]
        if mark.key:
            facts += [("Key", mark.key), ("Payload", mark.payload or "too weak to read")]
        if mark.geometry is not None:
            facts.append(("Picture", mark.geometry.in_words()))
    facts.append(("Registry", provenance.registry.replace("_", " ")))
    if score is None:
        facts.append(("Classifier", "not asked"))
    else:
        says = f"{score.status.replace('_', ' ')}: probability {score.probability:.3f}"
        facts += [("Classifier", says if score.judged else "could not judge the file"), ("Model", score.model)]
        if score.false_positive_rate is not None:
            facts.append(("Camera footage that scores as high", f"{100 * score.false_positive_rate:.2g} %"))
        if score.channels:
            facts.append(("Cues, towards synthetic where positive",
                          ", ".join(f"{name} {value:+.2f}" for name, value in score.channels.items())))
    return facts


def _file(record: Record) -> list[tuple[str, str]]:
    source = record.input
    facts = [("Path", source.path)]
    if record.duplicate_of is not None:
        facts.append(("Same bytes as", record.duplicate_of))
    size = "none" if source.bytes is None else f"{source.bytes:,} bytes"
    facts += [("SHA-256", source.sha256 or "none"), ("Size", size)]
    if source.container:
        rate = f", {source.fps:g} frames a second" if source.fps else ""
        length = f", {source.duration:g} s" if source.duration else ""
        facts.append(("Video", f"{source.container}, {source.codec}, {source.width} x {source.height}{rate}{length}; "
                               f"frames used: {source.frames_read}"))
    return facts


def _reproduce(record: Record, settings: Settings) -> str:
    keys = ", ".join(f"{key.name} ({key.id})" for key in settings.keys) or "none"
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    name = record.input.path
    path = quoted(name)
    command = " ".join(["genwm scan", *map(shlex.quote, _options(settings)), path])
    if not is_url(name):
        command = f"sha256sum {path}\n{command}"
    facts = _facts([("Keys (public ids)", keys), ("Policy", record.policy or "default"),
                    ("Settings", record.settings or "none"), ("Versions", versions)])
    policy = "" if settings.policy == Policy() else f"<p>{_POLICY}:</p>{_lines(policy_text(settings.policy))}"
    return f"{_lines(command)}{policy}{facts}"


def _options(settings: Settings) -> list[str]:
    """What 'genwm scan' has to be told for these settings. Keys are always named: what is in a keyring changes."""
    limits, usual = settings.limits, Limits()
    options = [f"--{name}" for name in ("timeline", "everywhere") if getattr(settings, name)]
    if settings.policy != Policy():
        options += ["--policy", _POLICY]
    for key in settings.keys:
        options += ["--key", key.name]
    if settings.model is not None:
        options += ["--model", settings.model]
    if settings.trust is not None:
        options += ["--trust", settings.trust]
    if limits.time_s != usual.time_s:
        options += ["--time-limit", str(limits.time_s)]
    if limits.memory_bytes != usual.memory_bytes:
        options += ["--memory-limit", str(round(limits.memory_bytes / MIB))]
    return options


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts)
    return f'<table class="facts">{rows}</table>'


def _figure(picture: Picture, record: Record) -> str:
    data = base64.b64encode(picture.jpeg).decode()
    return (f'<figure><div class="frame"><img alt="frame at {picture.time_s:.1f} s" '
            f'src="data:image/jpeg;base64,{data}">{_heat(picture, record)}</div>'
            f"<figcaption>{picture.time_s:.1f} s</figcaption></figure>")


def _legend(pictures: Sequence[Picture]) -> str:
    maps = ("; filled: what looks more synthetic than the rest of its frame, in the most suspicious frames"
            if any(picture.heat for picture in pictures) else "")
    return f'<label for="heat">Outlined: parts that the classifier looked at{maps}</label>'


def _heat(picture: Picture, record: Record) -> str:
    """The parts of the picture that the classifier looked at around that time, outlined over its heat map."""
    source = record.input
    if record.synthetic is None or not source.width or not source.height:
        return ""
    outlines = []
    for part in record.synthetic.segments:
        if part.place is None or not part.start - 0.1 <= picture.time_s <= part.end + 0.1:
            continue
        top, left, height, width = part.place
        outlines.append(f'<rect class="place" x="{left}" y="{top}" width="{width}" height="{height}"><title>'
                        f"{part.start:.1f} - {part.end:.1f} s: probability {part.probability:.2f}</title></rect>")
    if not outlines and not picture.heat:
        return ""
    # Evidence pictures have the pixels of the file, which need not be square.
    box = f'viewBox="0 0 {source.width} {source.height}" preserveAspectRatio="none"'
    return f'<svg class="heat" {box}>{shapes(picture.heat)}{"".join(outlines)}</svg>'


def _row(record: Record) -> str:
    mark, score = record.watermark, record.synthetic
    says = record.error.code if record.error else "; ".join(record.contradictions)
    if record.duplicate_of is not None:
        says = f"same bytes as {record.duplicate_of}" + (f"; {says}" if says else "")
    values = (
        f'<a href="{page_name(record)}">{_text(record.input.path)}</a>',
        f'<span class="verdict {record.verdict}">{WORDS[record.verdict]}</span>',
        "" if mark is None else f"{mark.log10_p:.1f}",
        f"<code>{mark.payload}</code>" if mark and mark.payload else "",
        "" if score is None else f"{score.probability:.2f}" if score.judged else "not judged",
        f"{record.input.duration:.1f}" if record.input.duration else "",
        _text(says),
    )
    cells = "".join(f'<td data-label="{head}"{_kind(head)}>{value}</td>'
                    for head, value in zip(_HEADS, values, strict=True))
    return f'<tr data-verdict="{record.verdict}">{cells}</tr>'


def _kind(head: str) -> str:
    return ' class="number"' if head in _NUMBERS else ""


def _index(rows: Sequence[str]) -> str:
    counts = {verdict: sum(f'data-verdict="{verdict}"' in row for row in rows) for verdict in VERDICTS}
    boxes = "".join(
        f'<label><input type="checkbox" name="verdict" value="{verdict}" checked> '
        f'<span class="verdict {verdict}">{WORDS[verdict]}</span> {counts[verdict]}</label>'
        for verdict in VERDICTS
    )
    head = "".join(f"<th{_kind(name)}>{name}</th>" for name in _HEADS)
    return _document("genwm scan", (
        f'<h1>Scan of {counted(len(rows), "file")}</h1><div class="filters">{boxes}'
        '<input type="search" placeholder="name, payload, error code" aria-label="Search">'
        f'<span class="soft"><span id="shown">{len(rows)}</span> shown</span></div>'
        '<p class="soft">No evidence does not mean that a video is camera footage.</p>'
        f'<table class="index"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f"<script>{_asset('index.js')}</script>"
    ))


def _verdict(record: Record) -> str:
    return f'<p class="verdict {record.verdict}">{WORDS[record.verdict]}</p>'


def _document(title: str, body: str) -> str:
    # Nothing is loaded from anywhere, whatever the names of files say.
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{_asset('page.css')}</style></head><body>{body}</body></html>\n")


@cache
def _asset(name: str) -> str:
    return (resources.files("detectors.scan") / "assets" / name).read_text(encoding="utf-8")


def _pretty(record: Record) -> str:
    document: Any = json.loads(record.to_json())
    return json.dumps(document, indent=2, ensure_ascii=False)


def _text(text: str) -> str:
    """A line for HTML. Marks that turn the direction of writing would have a name read as another."""
    return html.escape(shown(text), quote=True)


def _lines(text: str) -> str:
    return f"<pre>{html.escape(shown_lines(text))}</pre>"


def _write(path: Path, document: str) -> None:
    with replaced(path) as file:
        file.write(document)
