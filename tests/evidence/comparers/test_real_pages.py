"""Pages that others wrote: one edit of each is one difference."""

from __future__ import annotations

import random
from pathlib import Path

import django
import pytest
from selectolax.lexbor import LexborHTMLParser

from tests.evidence.comparers.pages import found

TEMPLATES = sorted(Path(django.__file__).parent.rglob("*.html"))
PAGES = [path for path in TEMPLATES if path.stat().st_size > 500][:60]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_one_edit_of_a_page_is_one_difference(path: Path) -> None:
    page = LexborHTMLParser(path.read_text(encoding="utf-8")).html or ""
    dice = random.Random(path.stem)
    for edit in ("nothing", "attribute", "left out"):
        edited = LexborHTMLParser(page)
        elements = [one for one in edited.css("body *") if one.tag not in ("br", "option")]
        if not elements or LexborHTMLParser(page).html != page:
            continue
        element = dice.choice(elements)
        if edit == "attribute":
            element.attrs["data-new"] = "x"  # type: ignore[index]
        elif edit == "left out":
            element.decompose()
        if LexborHTMLParser(edited.html or "").html == edited.html:
            assert len(found(page, edited.html or "")) == (edit != "nothing")
