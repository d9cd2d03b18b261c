"""What is not compared: the rules of `compare: {ignore: …}` in routes.yaml, ready for use. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from bridge import jsonpath
from bridge.proxy.routing import models

__all__ = ["Effect", "Rule", "Rules"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. kind: header, css, json or regex. value: as in routes.yaml."""

    kind: str
    value: str

    @property
    def text(self) -> str:
        """As a person would write it."""
        return f"{self.kind}: {self.value}"

    @classmethod
    def of(cls, ignore: models.Ignore) -> Rule:
        """That of the file."""
        given = {
            "header": ignore.header,
            "css": ignore.css,
            "json": ignore.json_path,
            "regex": ignore.regex,
        }
        kind, value = next((kind, value) for kind, value in given.items() if value is not None)
        return cls(kind, value.lower() if kind == "header" else value)


@dataclass(frozen=True, slots=True)
class Rules:
    """Those of one route."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, compare: models.Compare, route: str) -> Rules:
        """Those of the file that count on this route."""
        ours = (one for one in compare.ignore if not one.routes or route in one.routes)
        return cls(tuple(dict.fromkeys(map(Rule.of, ours))))

    def values(self, kind: str) -> tuple[str, ...]:
        """Those of one kind."""
        return tuple(rule.value for rule in self.rules if rule.kind == kind)

    @property
    def touch_bodies(self) -> bool:
        """Whether a body is changed by any of them."""
        return any(rule.kind != "header" for rule in self.rules)


@dataclass
class Effect:
    """The rules at work on two answers: `used` are those that took something out."""

    rules: Rules
    used: set[str] = field(default_factory=set)

    def note(self, kind: str, value: str) -> None:
        """It took something out."""
        self.used.add(Rule(kind, value).text)

    def header(self, name: str) -> bool:
        """Whether the header (in lower case) is not compared."""
        if name in self.rules.values("header"):
            self.note("header", name)
            return True
        return False

    def __post_init__(self) -> None:
        self._patterns = self.rules.values("regex")

    def without(self, text: str) -> str:
        """The text without what the regular expressions match."""
        for pattern in self._patterns:
            text, times = _compiled(pattern).subn("", text)
            if times:
                self.note("regex", pattern)
        return text

    @property
    def paths(self) -> list[tuple[str, jsonpath.Path]]:
        """The JSON paths, as written and as read."""
        return [(value, jsonpath.read(value)) for value in self.rules.values("json")]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
