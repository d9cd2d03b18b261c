"""The conditions of a route besides its path: method, site, host, query, cookies and headers.

Pure. The matcher asks for each route that a path fits, best first, whether its conditions hold,
and goes on to the next when they do not: so a route whose conditions fail never hides another
one. A `Question` is one request; it reads the query and the cookies once, however many routes ask
for them, and remembers what the answers depended on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from bridge.proxy.request.hosts import Hosts
from bridge.proxy.request.superglobals import Values, php_name, read_cookies, read_query

if TYPE_CHECKING:
    from bridge.proxy.request.head import Head
    from bridge.proxy.routing import models

__all__ = ["Conditions", "Question"]


class _Conditioned(Protocol):
    """A route."""

    @property
    def conditions(self) -> Conditions: ...


class Question:
    """One request, asked of one route after the other.

    `queried` says whether any answer depended on the query, `headers` on which headers, besides
    the host: other requests for the path may be answered by another route.
    """

    def __init__(self, head: Head, site: str) -> None:
        self.head, self.site = head, site
        self.queried = False
        self.headers: tuple[str, ...] = ()

    @property
    def varies(self) -> bool:
        """Whether anything but the method, the host and the path took part."""
        return self.queried or bool(self.headers)

    @cached_property
    def query(self) -> Values:
        return read_query(self.head.target.query)

    @cached_property
    def cookies(self) -> Values:
        lines = [value for name, value in self.head.headers if name.lower() == "cookie"]
        return read_cookies("; ".join(lines))

    def fits(self, route: _Conditioned) -> bool:
        """Whether the conditions of `route` hold."""
        conditions = route.conditions
        if conditions.looks_into:
            self.queried = self.queried or bool(conditions.query)
            if not set(conditions.headers) <= set(self.headers):
                self.headers = tuple(dict.fromkeys((*self.headers, *conditions.headers)))
        return not conditions.unmet(self)


@dataclass(frozen=True)
class Conditions:
    """What must hold besides the path. `looks_into` says that the query or headers must be read:
    `headers` are the names of these."""

    spec: models.Route
    looks_into: bool = field(init=False)
    headers: tuple[str, ...] = field(init=False)
    query: tuple[tuple[str, str | bool], ...] = field(init=False)
    cookies: tuple[tuple[str, str | bool], ...] = field(init=False)
    _methods: frozenset[str] = field(init=False)
    _hosts: Hosts | None = field(init=False)

    def __post_init__(self) -> None:
        spec = self.spec
        headers = (*spec.headers, *(("Cookie",) if spec.cookies else ()))
        query = tuple((php_name(name) or name, wanted) for name, wanted in spec.query.items())
        cookies = tuple((php_name(name) or name, wanted) for name, wanted in spec.cookies.items())
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "query", query)
        object.__setattr__(self, "cookies", cookies)
        object.__setattr__(self, "looks_into", bool(query or headers))
        object.__setattr__(self, "_methods", frozenset(spec.methods))
        object.__setattr__(self, "_hosts", Hosts({"": [spec.host]}) if spec.host else None)

    def unmet(self, question: Question) -> str:
        """The first condition that does not hold, in words; empty when all hold."""
        spec, head = self.spec, question.head
        if head.method not in self._methods:
            return f"method {head.method} is not in {', '.join(spec.methods)}"
        if spec.site is not None and spec.site != question.site:
            return f"site is {question.site}, not {spec.site}"
        if self._hosts is not None and self._hosts.owner(head.host) is None:
            return f"host is not {spec.host}"
        if not self.looks_into:
            return ""
        for name, wanted in self.query:
            if not _holds(wanted, name in question.query, question.query.get(name)):
                return f"query parameter {_say(name, wanted)}"
        for name, wanted in self.cookies:
            if said := _unmet_cookie(name, wanted, question.cookies):
                return f"cookie {said}"
        for name, wanted in spec.headers.items():
            value = head.get(name)
            if not _holds(wanted, value is not None, value):
                return f"header {_say(name, wanted)}"
        return ""


def _unmet_cookie(name: str, wanted: str | bool, cookies: Values) -> str:
    """Why the condition does not hold; empty where it does. `name*` is any that begins so."""
    if not name.endswith("*"):
        held = _holds(wanted, name in cookies, cookies.get(name))
        return "" if held else _say(name, wanted)
    start = name[:-1]
    found = [one for one in cookies if one.startswith(start)]
    if wanted is False:
        return f"{name} is present: {found[0]}" if found else ""
    held = any(_holds(wanted, True, cookies[one]) for one in found)
    return "" if held else _say(name, wanted)


def _holds(wanted: str | bool, there: bool, value: str | None) -> bool:
    """`value` is None where there is none, and for an array: that equals no text."""
    return there == wanted if isinstance(wanted, bool) else value == wanted


def _say(name: str, wanted: str | bool) -> str:
    if isinstance(wanted, bool):
        return f"{name} is {'absent' if wanted else 'present'}"
    return f"{name} is not {wanted}"
