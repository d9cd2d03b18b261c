"""Visitors of the demo site: one who logs in and edits, and many who keep reading one page.

They see what a browser sees: forms with their hidden tokens, cookies, kept-alive connections.
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import requests

from stack.errors import StackError

__all__ = ["Form", "Readers", "Visitor", "forms_of"]


@dataclass
class Form:
    """A form of a page: where it goes, its fields with their values, and their types."""

    action: str = ""
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def name_of(self, kind: str) -> str:
        """The name of the first field of this type ("text", "password", …).

        Raises StackError when there is none.
        """
        for name, its_kind in self.types.items():
            if its_kind == kind:
                return name
        raise StackError(f"the form for {self.action!r} has no {kind} field: {self.types}")


class _Forms(HTMLParser):
    """Collects forms with their inputs, text areas and selections."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self._textarea = ""
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        elif not self.forms:
            return
        name, form = given.get("name", ""), self.forms[-1]
        if tag == "input" and name:
            form.fields[name] = given.get("value", "")
            form.types[name] = given.get("type", "text")
        elif tag == "textarea" and name:
            self._textarea, form.fields[name], form.types[name] = name, "", "textarea"
        elif tag == "select" and name:
            self._select, form.types[name] = name, "select"
        elif tag == "option" and self._select and "selected" in given:
            form.fields[self._select] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            self._textarea = ""
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._textarea:
            fields = self.forms[-1].fields
            # A browser drops the line end right after <textarea>.
            fields[self._textarea] += data if fields[self._textarea] else data.removeprefix("\n")


def forms_of(html: str) -> list[Form]:
    """All forms of a page, in order."""
    parser = _Forms()
    parser.feed(html)
    parser.close()
    return parser.forms


class Visitor:
    """A browser with cookies. Raises StackError when a page is not what it should be."""

    def __init__(self, site: str, bound: float = 30.0) -> None:
        self.site, self.bound = site, bound
        self.session = requests.Session()
        # Nothing of the caller's environment, such as a proxy, belongs in between.
        self.session.trust_env = False

    def get(self, path: str) -> requests.Response:
        """GET a page of the site; any status."""
        return self.session.get(self.site + path, timeout=self.bound)

    def submit(self, path: str, form: Form) -> requests.Response:
        """Send a form found at `path`; the answer before any redirect is followed."""
        return self.session.post(
            urljoin(self.site + path, form.action or path),
            data=form.fields,
            timeout=self.bound,
            allow_redirects=False,
        )

    def log_in(self, user: str, password: str) -> None:
        """Log in at /login, with the token of the form."""
        form = self._form("/login", "password")
        form.fields[form.name_of("text")] = user
        form.fields[form.name_of("password")] = password
        self._accepted(self.submit("/login", form), "the login")

    def edit(self, path: str, **fields: str) -> requests.Response:
        """Change fields of the form at `path` and send it; returns the answer to the POST."""
        form = self._form(path, *fields)
        form.fields.update(fields)
        return self._accepted(self.submit(path, form), f"the edit at {path}")

    def close(self) -> None:
        """Close its connections."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _form(self, path: str, *names: str) -> Form:
        page = self.get(path)
        if page.ok:
            for form in forms_of(page.text):
                if form.method == "post" and all(name in form.fields for name in names):
                    return form
        raise StackError(f"{path} ({page.status_code}) has no form with {', '.join(names)}")

    def _accepted(self, answer: requests.Response, what: str) -> requests.Response:
        if answer.status_code not in (302, 303):
            raise StackError(f"{what} was answered with {answer.status_code}, not with a redirect")
        return answer


class Readers:
    """Threads that read one page again and again over kept-alive connections.

    What is not a 200 with exactly the bytes of `expected` goes to `failures`, in words. As a
    context manager it starts them and, at the end, stops and joins them.
    """

    def __init__(self, url: str, expected: bytes, *, threads: int = 4, pause: float = 0.002):
        self.url, self.expected, self.pause = url, expected, pause
        self.failures: list[str] = []
        self._counts = [0] * threads
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(number,), name=f"reader-{number}")
            for number in range(threads)
        ]

    @property
    def requests(self) -> int:
        """Requests answered so far, in whatever way."""
        return sum(self._counts)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _read(self, number: int) -> None:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        while not self._end.is_set():
            try:
                connection.request("GET", parts.path)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            else:
                if answer.status != 200:
                    self.failures.append(f"status {answer.status}")
                elif body != self.expected:
                    self.failures.append(f"another page: {len(body)} bytes: {body[:200]!r}")
            self._counts[number] += 1
            time.sleep(self.pause)
        connection.close()
