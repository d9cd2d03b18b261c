"""The documentation leads where it says."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from stack.process import REPOSITORY

PAGES = [
    *(REPOSITORY / name for name in ("README.md", "php/README.md", "examples/forge/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]

page = pytest.mark.parametrize("page", PAGES, ids=lambda one: str(one.relative_to(REPOSITORY)))


def anchors(text: str) -> set[str]:
    """What a link may have behind its `#`, as GitHub makes it of headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@page
def test_every_link_to_a_page_leads_to_it_and_to_its_heading(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", text):
        name, _, anchor = link.partition("#")
        there = page.parent / name if name else page
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(link)
    assert broken == []


@page
def test_every_module_that_is_named_is_there(page: Path) -> None:
    """Those of the three parts: `bridge.events` is a queue."""
    missing = []
    for name in re.findall(r"`(bridge\.(?:proxy|queue|sync|errors)(?:\.\w+)*)`", page.read_text()):
        try:
            resolve_name(name)
        except (ImportError, AttributeError):
            missing.append(name)
    assert missing == []
