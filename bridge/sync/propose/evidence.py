"""In which character set are the texts of a column really? Found by looking at their bytes. Pure.

Text that is UTF-8 in a column that says latin1, and text in columns that say nothing, is what
sites of 2005 are full of. Bytes above 127 that are UTF-8 by chance are rare; they are counted, so
that a person can judge.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field

__all__ = ["Evidence"]

CERTAIN = 9
"""Of ten texts that are not ASCII, so many are of one character set before it is believed."""
ENOUGH = 24
"""Bytes of different values before bytes are taken for text: a packed address of four bytes is
text by chance one time in fifty, 24 bytes never. A byte of UTF-8 above 127 counts
for three."""
MOST_DISTINCT = 1000
"""Values that are remembered to tell how many bytes differ."""

# What no text holds; white space is one.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass
class Evidence:
    """Counts of the values of one column that are not empty.

    plain: of ASCII alone. utf8: of UTF-8 that is not ASCII; cut: those of them that end in the
    middle of a character. other: neither. control: with bytes that no text has. twice: UTF-8 that
    was encoded twice.
    """

    plain: int = 0
    utf8: int = 0
    cut: int = 0
    other: int = 0
    control: int = 0
    twice: int = 0
    _seen: set[bytes] = field(default_factory=set, repr=False)
    _bytes: int = 0

    @property
    def values(self) -> int:
        """How many there were."""
        return self.plain + self.utf8 + self.other + self.control

    def add(self, raw: bytes, *, whole: bool = True) -> None:
        """Look at one value. whole: whether it is all of it."""
        if not raw:
            return
        if len(self._seen) < MOST_DISTINCT and raw not in self._seen:
            self._seen.add(raw)
            self._bytes += len(raw) + 2 * sum(byte >= 0x80 for byte in raw)
        if _CONTROL.search(raw):
            self.control += 1
        elif raw.isascii():
            self.plain += 1
        else:
            self._add(raw, whole)

    def _add(self, raw: bytes, whole: bool) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            text = decoder.decode(raw)
        except UnicodeDecodeError:
            self.other += 1
            return
        if decoder.getstate()[0] and text.isascii():
            # Nothing but the beginning of a character: in latin1 it is a whole one.
            self.other += 1
            return
        self.utf8 += 1
        if whole and decoder.getstate()[0]:
            self.cut += 1
        try:
            again = text.encode("bridge-latin1").decode("utf-8")
        except UnicodeError:
            return
        if not again.isascii():
            self.twice += 1

    @property
    def is_utf8(self) -> bool:
        """Whether a column that says another character set holds UTF-8."""
        return self.utf8 > 0 and self.utf8 >= CERTAIN * self.other

    @property
    def is_text(self) -> bool:
        """Whether a column that says nothing holds UTF-8."""
        return self.control == 0 and self.other == 0 and self.values > 0 and self._bytes >= ENOUGH

    @property
    def is_latin1(self) -> bool:
        """Whether a column that says UTF-8, and does not look, holds latin1."""
        return self.other > 0 and self.other >= CERTAIN * self.utf8

    def __str__(self) -> str:
        counted = (
            (self.plain, "of ASCII"),
            (self.utf8, "of UTF-8"),
            (self.cut, "of them cut off"),
            (self.other, "of neither"),
            (self.control, "with bytes that no text has"),
        )
        said = [f"{count:,} {what}" for count, what in counted if count]
        return f"{self.values:,} values: {', '.join(said)}" if said else "no value"
