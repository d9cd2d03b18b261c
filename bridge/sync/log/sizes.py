"""How long values in rows of the log are, and who reads them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bridge.sync.log import tables as log
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column

__all__ = [
    "DIGITS",
    "Cell",
    "Misread",
    "Skip",
    "char_length",
    "other",
    "prefix",
    "skip",
    "width",
]

Cell = Callable[[bytes, int], tuple[Any, int]]
"""Reads one value that is not NULL: of bytes and a place, the value and where it ends."""
Skip = Callable[[bytes, int], int]
"""Of bytes and a place, where the value ends."""


class Misread(ValueError):
    """A column whose values in the log are not what the table's column says. The text follows the
    name of the column."""


def other(physical: Physical, column: Column) -> Misread:
    """The column is another one."""
    sign = " unsigned" if physical.unsigned else ""
    return Misread(f"is {column.declared}, and the log has kind {physical.type}{sign} there")


_FIXED = {
    log.TINY: 1,
    log.SHORT: 2,
    log.INT24: 3,
    log.LONG: 4,
    log.LONGLONG: 8,
    log.FLOAT: 4,
    log.DOUBLE: 8,
    log.YEAR: 1,
    log.DATE: 3,
    log.NEWDATE: 3,
    log.TIME: 3,
    log.DATETIME: 8,
    log.TIMESTAMP: 4,
}
_FRACTIONS = {log.TIMESTAMP2: 4, log.DATETIME2: 5, log.TIME2: 3}
DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes of so many decimal digits."""


def width(physical: Physical) -> int | None:
    """Bytes of each value; None where they differ."""
    kind, meta = physical.type, physical.meta
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == log.NEWDECIMAL:
        precision, scale = meta & 0xFF, meta >> 8
        whole = precision - scale
        return whole // 9 * 4 + DIGITS[whole % 9] + scale // 9 * 4 + DIGITS[scale % 9]
    if kind == log.BIT:
        return ((meta >> 8) * 8 + (meta & 0xFF) + 7) // 8
    if kind in (log.ENUM, log.SET):
        return meta
    if kind in _FRACTIONS:
        return _FRACTIONS[kind] + (meta + 1) // 2
    return None


def prefix(physical: Physical) -> int:
    """Bytes that say how long a value is. Raises Misread."""
    kind, meta = physical.type, physical.meta
    if kind in (log.VARCHAR, log.VAR_STRING, log.VARCHAR_COMPRESSED):
        return 1 if meta < 256 else 2
    if kind == log.STRING:
        return 1 if char_length(meta) < 256 else 2
    if kind in (log.BLOB, log.BLOB_COMPRESSED, log.GEOMETRY, log.JSON):
        return meta
    raise Misread(f"is of kind {kind} in the log, which is not known")


def char_length(meta: int) -> int:
    """Bytes of the longest value of a STRING."""
    # Two bits of the length are in the byte of the type, inverted.
    return (meta >> 8) | (((meta & 0x30) ^ 0x30) << 4)


def skip(columns: Iterable[Physical]) -> list[Skip]:
    """Of columns behind each other that nobody wants, none of them NULL. Raises Misread."""
    found: list[Skip] = []
    fixed = 0
    for one in columns:
        if (bytes_ := width(one)) is not None:
            fixed += bytes_
            continue
        try:
            size = prefix(one)
        except Misread as error:
            raise Misread(f"has a column {one.name} that {error}") from None
        found += [*_past(fixed), _past_prefixed(size)]
        fixed = 0
    return found + _past(fixed)


def _past(fixed: int) -> list[Skip]:
    return [lambda raw, at: at + fixed] if fixed else []


def _past_prefixed(size: int) -> Skip:
    if size == 1:
        return lambda raw, at: at + 1 + raw[at]
    if size == 2:
        return lambda raw, at: at + 2 + raw[at] + (raw[at + 1] << 8)
    return lambda raw, at: at + size + int.from_bytes(raw[at : at + size], "little")
