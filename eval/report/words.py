"""A summary in Markdown as one page in the reports' style. Needs jinja2 and markdown-it (extra ``report``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.report.html import rendered
from eval.tables import put
from genwm.extras import require


def page(text: str, plots: Sequence[str] = ()) -> str:
    """The page: its title is the first heading, each further heading of the second level begins a section. ``plots``,
    SVG elements, stand before the sections.

    HTML in the text is shown as it stands. Errors: MissingExtraError.
    """
    markdown: Any = require("markdown_it", "report").MarkdownIt("commonmark", {"html": False}).enable("table")
    body: str = markdown.render(text)
    body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    lead, *sections = body.split("<h2>")
    markup = require("markupsafe", "report").Markup
    title = text.partition("\n")[0].lstrip("# ")
    return rendered("words.html.j2", title=title, lead=markup(lead), plots=[markup(plot) for plot in plots],
                    sections=[markup(f"<h2>{section}") for section in sections])


def write_page(path: Path, text: str, plots: Sequence[str] = ()) -> None:
    """Writes `page` to a file. Errors: MissingExtraError; OutputError, DiskFullError."""
    put(path, page(text, plots))
