"""Forms of a page, filled in as a browser does: hidden fields and what was chosen before go back
with what the visitor changes."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import urljoin

import requests

Fields = dict[str, str]


class _Forms(HTMLParser):
    """All forms of a page: (attributes, fields) of each."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[tuple[Mapping[str, str], Fields]] = []
        self._select: str | None = None
        self._text: tuple[str, list[str]] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((given, {}))
        elif not self.forms:
            return
        elif tag == "input":
            self._input(given)
        elif tag == "select":
            self._select = given.get("name")
        elif tag == "option" and self._select:
            fields = self.forms[-1][1]
            if "selected" in given or self._select not in fields:
                fields[self._select] = given.get("value", "")
        elif tag == "textarea":
            self._text = (given.get("name", ""), [])

    def handle_data(self, data: str) -> None:
        if self._text:
            self._text[1].append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None
        elif tag == "textarea" and self._text:
            name, parts = self._text
            # A browser leaves out the first line break.
            self.forms[-1][1][name] = "".join(parts).removeprefix("\n")
            self._text = None

    def _input(self, given: Mapping[str, str]) -> None:
        kind, name = given.get("type", "text"), given.get("name")
        if not name or kind in ("submit", "button", "image", "reset", "file"):
            return
        if kind not in ("checkbox", "radio"):
            self.forms[-1][1][name] = given.get("value", "")
        elif "checked" in given:
            self.forms[-1][1][name] = given.get("value", "on")


def fill_in(
    session: requests.Session,
    page: str,
    form: str,
    changes: Mapping[str, str],
    files: Mapping[str, tuple[str, bytes, str]] | None = None,
) -> requests.Response:
    """Open a page, change fields of the form with this id, name or action, and send it.

    files: by field, the name, content and type of a file. Raises AssertionError when the page has
    no such form, and requests.HTTPError when one of the answers is an error.
    """
    opened = session.get(page)
    opened.raise_for_status()
    reader = _Forms()
    reader.feed(opened.text)
    for given, fields in reader.forms:
        if form in (given.get("id"), given.get("name"), given.get("action")):
            target = urljoin(opened.url, given.get("action") or opened.url)
            answer = session.post(target, data=fields | dict(changes), files=files)
            answer.raise_for_status()
            return answer
    found = [given.get("id") or given.get("action") for given, _ in reader.forms]
    raise AssertionError(f"{opened.url} has no form {form!r}, but {found}")
