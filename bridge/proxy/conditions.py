"""The conditions of a route besides its path: method, site, host, query and headers.

Pure. Werkzeug's matcher asks a rule `method in rule.methods` and goes on to the next best rule
when the answer is no; `Conditions` stands in for that set and is asked with a `Question` that
carries the whole request head. So a route whose conditions fail never hides another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.proxy.hosts import Hosts
from bridge.proxy.target import parse_query

if TYPE_CHECKING:
    from bridge.proxy import models
    from bridge.proxy.head import Head

__all__ = ["Conditions", "Question"]


class Question(str):
    """A method name that brings the request head along through Werkzeug's matcher."""

    head: Head
    site: str
    varies: bool
    """Whether any rule's answer depended on the query or on headers besides the host."""

    @classmethod
    def about(cls, head: Head, site: str) -> Question:
        question = cls(head.method)
        question.head, question.site, question.varies = head, site, False
        return question

    def upper(self) -> Question:
        return self


@dataclass(frozen=True)
class Conditions:
    """What must hold besides the path."""

    spec: models.Route
    _methods: frozenset[str] = field(init=False)
    _hosts: Hosts | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_methods", frozenset(self.spec.methods))
        hosts = Hosts({"": [self.spec.host]}) if self.spec.host else None
        object.__setattr__(self, "_hosts", hosts)

    def __contains__(self, question: object) -> bool:
        if not isinstance(question, Question):
            return False
        if self.spec.query or self.spec.headers:
            question.varies = True
        return not self.unmet(question.head, question.site)

    def __iter__(self) -> Iterator[str]:
        """Empty: Werkzeug collects methods for an Allow header that we never send."""
        return iter(())

    def unmet(self, head: Head, site: str) -> str:
        """The first condition that does not hold, in words; empty when all hold."""
        spec = self.spec
        if head.method not in self._methods:
            return f"method {head.method} is not in {', '.join(spec.methods)}"
        path = head.target.path or ""
        if path.endswith("/") != spec.path.endswith("/") and not spec.path.endswith(">"):
            return "the trailing slash differs"
        if path.endswith("/") and spec.path.endswith(">") and "<path:" not in spec.path:
            return "the trailing slash differs"
        if spec.site is not None and spec.site != site:
            return f"site is {site}, not {spec.site}"
        if self._hosts is not None and self._hosts.owner(head.host) is None:
            return f"host is not {spec.host}"
        if spec.query:
            query = parse_query(head.target.query)
            for name, wanted in spec.query.items():
                if not _holds(wanted, query.get(name)):
                    return f"query parameter {_say(name, wanted)}"
        for name, wanted in spec.headers.items():
            if not _holds(wanted, head.get(name)):
                return f"header {_say(name, wanted)}"
        return ""


def _holds(wanted: str | bool, value: str | None) -> bool:
    if isinstance(wanted, bool):
        return (value is not None) == wanted
    return value == wanted


def _say(name: str, wanted: str | bool) -> str:
    if isinstance(wanted, bool):
        return f"{name} is {'absent' if wanted else 'present'}"
    return f"{name} is not {wanted}"
