"""Numbers in rows of the log. Pure."""

from __future__ import annotations

import struct

from bridge.queue.events import MAX_VERSION
from bridge.sync.log import tables as log
from bridge.sync.log.sizes import DIGITS, Cell, width
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column

__all__ = ["WHOLES", "bit", "decimal", "double", "single", "whole", "year"]

WHOLES = {
    "tinyint": log.TINY,
    "smallint": log.SHORT,
    "mediumint": log.INT24,
    "int": log.LONG,
    "bigint": log.LONGLONG,
}
_STRUCTS = {
    (log.TINY, False): struct.Struct("<b"),
    (log.TINY, True): struct.Struct("<B"),
    (log.SHORT, False): struct.Struct("<h"),
    (log.SHORT, True): struct.Struct("<H"),
    (log.LONG, False): struct.Struct("<i"),
    (log.LONG, True): struct.Struct("<I"),
    (log.LONGLONG, False): struct.Struct("<q"),
    (log.LONGLONG, True): struct.Struct("<Q"),
}


def whole(physical: Physical, column: Column) -> Cell:
    """TINYINT to BIGINT; above 2^63-1 as text, as events have it."""
    kind = physical.type
    if kind == log.INT24:
        signed = not physical.unsigned
        return lambda raw, at: (int.from_bytes(raw[at : at + 3], "little", signed=signed), at + 3)
    packed = _STRUCTS[kind, physical.unsigned]
    unpack, size = packed.unpack_from, packed.size
    if kind == log.LONGLONG and physical.unsigned:

        def large(raw: bytes, at: int) -> tuple[int | str, int]:
            (found,) = unpack(raw, at)
            return (found if found <= MAX_VERSION else str(found)), at + 8

        return large
    return lambda raw, at: (unpack(raw, at)[0], at + size)


def year(physical: Physical, column: Column) -> Cell:
    """YEAR."""
    return lambda raw, at: ((raw[at] + 1900 if raw[at] else 0), at + 1)


def bit(physical: Physical, column: Column) -> Cell:
    """BIT; above 2^63-1 as text."""
    size = width(physical)
    assert size is not None

    def bits(raw: bytes, at: int) -> tuple[int | str, int]:
        found = int.from_bytes(raw[at : at + size], "big")
        return (found if found <= MAX_VERSION else str(found)), at + size

    return bits


def single(physical: Physical, column: Column) -> Cell:
    """FLOAT."""
    unpack = struct.Struct("<f").unpack_from
    if column.scale is not None:
        return lambda raw, at: (unpack(raw, at)[0], at + 4)
    # SELECT prints six digits of it, and so do drivers read it.
    return lambda raw, at: (float(f"{unpack(raw, at)[0]:.6g}"), at + 4)


def double(physical: Physical, column: Column) -> Cell:
    """DOUBLE."""
    unpack = struct.Struct("<d").unpack_from
    return lambda raw, at: (unpack(raw, at)[0], at + 8)


def decimal(physical: Physical, column: Column) -> Cell:
    """DECIMAL, as text with all digits of its scale.

    It is in groups of nine digits in four bytes, the first one and the last one shorter. The first
    bit is the sign, inverted, and a negative number has all bits inverted.
    """
    precision, scale = physical.meta & 0xFF, physical.meta >> 8
    before = precision - scale
    size = width(physical)
    assert size is not None
    head = [DIGITS[before % 9]] if before % 9 else []
    head += [4] * (before // 9)
    tail = [(4, 9)] * (scale // 9) + ([(DIGITS[scale % 9], scale % 9)] if scale % 9 else [])
    ones = (1 << 8 * size) - 1
    top = 1 << 8 * size - 1

    def read(raw: bytes, at: int) -> tuple[str, int]:
        end = at + size
        bits = int.from_bytes(raw[at:end], "big")
        sign = "" if bits & top else "-"
        bits ^= top
        if sign:
            bits ^= ones
        data = bits.to_bytes(size, "big")
        number, place = 0, 0
        for bytes_ in head:
            number = number * 1_000_000_000 + int.from_bytes(data[place : place + bytes_], "big")
            place += bytes_
        text = f"{sign}{number}"
        if tail:
            text += "."
            for bytes_, digits in tail:
                text += f"{int.from_bytes(data[place : place + bytes_], 'big'):0{digits}}"
                place += bytes_
        return text, end

    return read
