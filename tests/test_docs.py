"""Links of the documentation lead somewhere. `make docs` checks the same, and more, with mkdocs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def _anchors(page: Path) -> set[str]:
    """Ids that headings of a page get: lower case, words joined by hyphens."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in (one or other for one, other in _LINK.findall(text)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} in {page.name} leads nowhere"
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), f"{link} in {page.name}: no such heading"
        if page.name != "README.md" or page.parent != ROOT:
            assert target.is_relative_to(ROOT / "docs"), f"{link} in {page.name} leaves docs/, where the site ends"


def test_the_navigation_names_pages_that_exist() -> None:
    for page in re.findall(r"^\s+- (?:[\w ]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE):
        assert (ROOT / "docs" / page).is_file()


def test_commands_that_the_pages_show_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    commands = set(project["project"]["entry-points"]["genwm.commands"])
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), re.DOTALL))
        shown = set(re.findall(r"^(?:\$ )?genwm ([a-z]+)\b", blocks, re.MULTILINE))
        assert shown <= commands, f"{page.name} shows {sorted(shown - commands)}"
