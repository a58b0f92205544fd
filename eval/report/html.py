"""Pages from templates: one file each, styles and pictures in it. Needs jinja2 (extra ``report``)."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import Any

from eval.report.measures import Value
from genwm.extras import require
from genwm.text import counted


def rendered(name: str, **values: Any) -> str:
    """The text of a template of this folder. Errors: MissingExtraError (no jinja2)."""
    jinja2 = require("jinja2", "report")
    folder = files("eval.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda part: folder.joinpath(part).read_text(encoding="utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"counted": counted, "percent": percent, "shown": shown, "signed": signed}
    environment.globals["tone"] = tone
    text: str = environment.get_template(name).render(**values)
    return text


def percent(value: Value) -> Any:
    """A share with its interval, for the page."""
    if value.low == value.high:  # one clip, or all alike: no interval to speak of
        return _marked(f"{100 * value.value:.0f}")
    return _marked(f"{100 * value.value:.0f}", f"{100 * value.low:.0f}-{100 * value.high:.0f}")


def shown(value: Value | None, digits: int = 2, factor: float = 1) -> Any:
    """A figure with its interval, for the page."""
    if value is None:
        return ""
    figure, low, high = (f"{factor * end:.{digits}f}" for end in (value.value, value.low, value.high))
    return _marked(figure) if value.low == value.high else _marked(figure, f"{low} to {high}")


def signed(value: Value, digits: int = 0, factor: float = 1) -> Any:
    """A difference with its interval, each with its sign; no difference at all is 0."""
    figure, low, high = (f"{factor * end:+.{digits}f}" for end in (value.value, value.low, value.high))
    if value.value == value.low == value.high == 0:
        return _marked("0")
    return _marked(figure) if value.low == value.high else _marked(figure, f"{low} to {high}")


def tone(gain: float) -> str:
    """The class of a figure by whether it is for the better."""
    return "better" if gain > 1e-9 else "worse" if gain < -1e-9 else ""


def _marked(figure: str, ends: str = "") -> Any:
    interval = f'<span class="ci"> {html.escape(ends)}</span>' if ends else ""
    return require("markupsafe", "report").Markup(figure + interval)
