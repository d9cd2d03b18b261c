"""Mutations that change nothing that anybody could notice, and so outlive every test.

They are named in `equivalent.toml` by the module, the source line's text and the change, with
the reason; and by the function where several lines have that text. A name that stands for no
mutation any more, or for several, is an error.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutations import Mutation

__all__ = ["Equivalents"]

_FILE = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Equivalents:
    """Those of one module: the text of a line, the change on it, and the function that it is in,
    empty for any."""

    named: frozenset[tuple[str, str, str]]

    @classmethod
    def of(cls, module: str, file: Path = _FILE) -> Equivalents:
        """What `file` names of `module`."""
        entries = tomllib.loads(file.read_text()).get("equivalent", [])
        mine = (one for one in entries if one["module"] == module)
        return cls(frozenset((one["line"], one["change"], one.get("function", "")) for one in mine))

    def name(self, mutation: Mutation) -> bool:
        """Whether this mutation is named."""
        text, change = mutation.text, mutation.change
        return not self.named.isdisjoint({(text, change, ""), (text, change, mutation.function)})

    def unmatched(self, every: Iterable[Mutation]) -> list[str]:
        """What is wrong with the file: names that no mutation has, or several."""
        there = Counter(
            name
            for one in every
            for name in {(one.text, one.change, ""), (one.text, one.change, one.function)}
        )
        return [
            f"equivalent.toml names {change!r} in the line {text!r}, which is "
            + (
                f"{there[text, change, function]} mutations: add `function`, or change the code"
                if there[text, change, function]
                else "no mutation any more: take it out"
            )
            for text, change, function in sorted(self.named)
            if there[text, change, function] != 1
        ]
