"""Templates, and the timeline that a clip's page draws."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from detectors.record import Record
from genwm.text import chance, counted, shown_lines

HERE = Path(__file__).parent
_VERDICTS = {
    "watermark_detected": "Mark detected", "likely_synthetic": "Likely synthetic", "inconclusive": "Inconclusive",
    "no_evidence": "No evidence", "error": "Unreadable",
}  # fmt: skip
_ACTIONS = {"uphold": "Generated: uphold", "reject": "Not shown to be generated: reject", "escalate": "Pass on"}
_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a clip: ``left`` and ``width`` in per cent of its length, seconds, words for it, and its ``weight``
    between 0 and 1, which is how full it is drawn."""

    left: float
    width: float
    start_s: float
    stop_s: float
    words: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Marked seconds of a clip, those that the classifier looked at, and where the axis has its marks: (per cent,
    words)."""

    length_s: float
    marked: tuple[Span, ...]
    looked_at: tuple[Span, ...]
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, record: Record) -> Timeline | None:
        """None where the length is not known: a still image, or a file that was not read."""
        length = record.input.duration
        if not length:
            return None
        mark, score = record.watermark, record.synthetic
        marked = tuple(
            _span(part.start, part.end, length, f"{part.in_words()}, p = {chance(part.log10_p)}")
            for part in (mark.segments if mark else ()))
        looked_at = tuple(_span(part.start, part.end, length, f"probability {part.probability:.2f}", part.probability)
                          for part in (score.segments if score else ()))
        step = next((step for step in _STEPS_S if length / step <= 10), length)
        ticks = tuple((100 * number * step / length, clock(number * step)) for number in range(int(length / step) + 1))
        return cls(length, marked, looked_at, ticks)


def _span(start_s: float, stop_s: float, length_s: float, words: str, weight: float = 1.0) -> Span:
    left = min(max(start_s / length_s, 0.0), 1.0)
    right = min(max(stop_s / length_s, left), 1.0)
    return Span(100 * left, max(100 * (right - left), 0.4), start_s, stop_s, words, weight)


def clock(seconds: float) -> str:
    """``1:05``, with a decimal under a minute where there is one."""
    seconds = round(seconds, 1)
    if seconds < 60 and seconds % 1:
        return f"0:{seconds:04.1f}"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def when(seconds: float | None) -> str:
    """A time of day in UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "unknown size"
    if count < 1000:
        return counted(count, "byte")
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def render(name: str, **values: Any) -> str:
    """A page as HTML."""
    return _environment().get_template(name).render(**values)


def _readable(value: Any) -> Any:
    """Strangers' text without marks that turn the direction of writing: they would have a name read as another."""
    return shown_lines(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, finalize=_readable)
    environment.filters.update(clock=clock, when=when, size=size, counted=counted)
    environment.globals.update(verdicts=_VERDICTS, action_words=_ACTIONS)
    return environment
