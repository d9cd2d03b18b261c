"""Mutations that change nothing that anybody could notice, and so outlive every test.

They are named in `equivalent.toml` by the module, the source line's text and the change, with
the reason. A name that stands for no mutation any more is an error.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutations import Mutation

__all__ = ["Equivalents"]

_FILE = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True)
class Equivalents:
    """Those of one module: the text of a line and the change on it."""

    named: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, module: str, file: Path = _FILE) -> Equivalents:
        """What `file` names of `module`."""
        entries = tomllib.loads(file.read_text()).get("equivalent", [])
        mine = (one for one in entries if one["module"] == module)
        return cls(frozenset((one["line"], one["change"]) for one in mine))

    def name(self, mutation: Mutation) -> bool:
        """Whether this mutation is named."""
        return (mutation.text, mutation.change) in self.named

    def unmatched(self, every: Iterable[Mutation]) -> list[str]:
        """What is wrong with the file: names that no mutation has."""
        there = {(one.text, one.change) for one in every}
        return [
            f"equivalent.toml names {change!r} in the line {text!r}, which is no mutation any more:"
            " take it out"
            for text, change in sorted(self.named - there)
        ]
