"""A difference with all that is needed to say whether it is noise. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.evidence.comparers.difference import Difference, excerpts, group_of

__all__ = ["LONGEST", "Found"]

LONGEST = 20_000
"""Characters of a value that are looked at; the rest is in what its digest says."""

_SEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\uf700-\uf7ff]")


@dataclass(frozen=True, slots=True)
class Found:
    """One place where two answers differ.

    place, what: as in Difference.
    spot: the same place, by the structure of the first answer alone: two comparisons with the
        same first answer have equal spots for equal places.
    old, new: the values; empty where there is none.
    label: what stands before it and says what the value means, such as the head of its row.
    kind: value (a text, an attribute, a header), node (something missing or added) or order.
    look: of a node, what it looks like without its texts.
    """

    place: str
    what: str
    spot: str
    old: str
    new: str
    label: str = ""
    kind: str = "value"
    look: str = ""

    @property
    def group(self) -> str:
        """As in Difference."""
        return group_of(self.place)

    def shown(self) -> Difference:
        """For people and for the store."""
        old, new = excerpts(_printable(self.old), _printable(self.new))
        return Difference(_printable(self.place), _printable(self.group), self.what, old, new)


def _printable(text: str) -> str:
    """Without what no terminal, database or page can hold."""
    return _SEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\u{code:04x}" if 0xD800 <= code <= 0xDFFF else f"\\x{code & 0xFF:02x}"
