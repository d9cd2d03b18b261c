"""Which column has which value in a document, and how it is read: the table of rules. Pure.

`rule` decides by the column as the database declares it, and by what sync.yaml says of its field.
The table in docs/sync-yaml.md is made from RULES.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from bridge.errors import UnusableEvent
from bridge.queue.events import Number, dump_json
from bridge.sync.charsets import codec_of
from bridge.sync.models import FieldRule
from bridge.sync.types import values
from bridge.sync.types.column import Column

__all__ = ["RULES", "Family", "Rule", "Unknown", "field_convert", "rule"]

Convert = Callable[[Any], Any]

_MOST_DIGITS = 34
"""Of MongoDB's decimals."""


class Unknown(ValueError):
    """A column that has no rule. Its text says what to do."""


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table: columns that are treated alike.

    dialect, types: of the database. value: what the document holds, in words. kind: the type of
    sync.yaml that it is. read: how it is selected, see `wire`. key: the kind of `keys` that it is
    in a key; empty where no row can be named by it. note: what else there is to know.
    """

    dialect: str
    types: tuple[str, ...]
    kind: str
    value: str
    read: str = "as is"
    key: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one column. family: its row of the table. convert: what a producer sends to
    the value of the document; raises ValueError. plain: a type whose values already are that.
    codec: of bytes that are text. misfit: what becomes of a value that does not fit: `text`,
    `null` or `dead`."""

    family: Family
    convert: Convert
    plain: type | None = None
    codec: str = ""
    misfit: str = "text"


def _families() -> Iterator[Family]:
    whole = "64-bit integer"
    yield Family("mysql", ("tinyint", "smallint", "mediumint", "int", "bigint"), "integer", whole,
                 "as is", "whole", "BIGINT UNSIGNED above 2^63-1: decimal")  # fmt: skip
    yield Family("postgresql", ("int2", "int4", "int8"), "integer", whole, "as is", "whole")
    yield Family("postgresql", ("oid",), "integer", whole, "as is", "object id")
    yield Family("sqlite", ("INT…",), "integer", whole, "as is", "stored")
    yield Family("mysql", ("year",), "integer", "64-bit integer", "number", "whole")
    yield Family("mysql", ("bit",), "integer", "64-bit integer", "number", "whole",
                 "BIT(1): boolean; BIT(64) above 2^63-1: decimal")  # fmt: skip
    printed, moment = "as the database prints it", "moment, UTC, milliseconds"
    yield Family("mysql", ("decimal",), "decimal", "decimal, exactly", "text", "decimal",
                 "more than 34 digits: text")  # fmt: skip
    yield Family("postgresql", ("numeric",), "decimal", "decimal, exactly", "text", "any decimal",
                 "declared with more than 34 digits: text; NaN and infinities stay")  # fmt: skip
    yield Family("postgresql", ("money",), "decimal", "decimal, exactly", "number")
    yield Family("sqlite", ("DECIMAL", "NUMERIC", "MONEY"), "decimal", "decimal", "as is", "stored",
                 "SQLite itself keeps at most 15 digits")  # fmt: skip
    yield Family("mysql", ("float",), "number", "double with the 6 digits that SELECT prints",
                 "as is", "printed")  # fmt: skip
    yield Family("mysql", ("double",), "number", "double", "as is", "printed")
    yield Family("postgresql", ("float4", "float8"), "number", "double", "as is", "printed",
                 "NaN, infinities stay")  # fmt: skip
    yield Family("sqlite", ("REAL", "FLOA…", "DOUB…"), "number", "double", "as is", "stored")
    text = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set")
    yield Family("mysql", text, "string", "text", "as is", "text")
    yield Family("postgresql", ("text", "varchar", "char", "name", "citext"), "string", "text",
                 "as is", "text without NUL")  # fmt: skip
    yield Family("postgresql", ("bpchar",), "string", "text without the blanks at its end", "text",
                 "text without NUL")  # fmt: skip
    yield Family("sqlite", ("CHAR…", "CLOB", "TEXT…"), "string", "text", "as is", "stored")
    yield Family(
        "mysql", ("uuid", "inet4", "inet6"), "string", f"text, {printed}", "text", "printed"
    )
    yield Family("postgresql", ("uuid",), "string", "text, lower case", "text", "uuid")
    yield Family("mysql", ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"),
                 "binary", "binary", "bytes", "bytes", "`text: {stored: utf-8}`: text")  # fmt: skip
    yield Family("postgresql", ("bytea",), "binary", "binary", "bytes", "bytes")
    yield Family("sqlite", ("BLOB",), "binary", "binary", "bytes", "stored")
    yield Family("postgresql", ("bool",), "boolean", "boolean", "as is", "boolean")
    yield Family("sqlite", ("BOOL…",), "boolean", "boolean", "as is", "stored")
    yield Family(
        "mysql", ("date",), "date", "text YYYY-MM-DD", "text", "lax day", "zero date: null"
    )
    yield Family("postgresql", ("date",), "date", "text YYYY-MM-DD", "text", "day",
                 "infinity and BC: text, as PostgreSQL prints it")  # fmt: skip
    yield Family("sqlite", ("DATE",), "date", "text YYYY-MM-DD", "as is", "stored")
    yield Family("mysql", ("datetime",), "datetime", moment, "text", "lax moment",
                 "in `zone`, UTC without one; zero date: null; 2005-03-00: text")  # fmt: skip
    yield Family("mysql", ("timestamp",), "datetime", moment, "utc", "utc",
                 "PHP's text is in `zone`; zero date: null")  # fmt: skip
    yield Family("postgresql", ("timestamp",), "datetime", moment, "text",
                 "moment", "in `zone`, UTC without one; infinity, year 10000: text")  # fmt: skip
    yield Family("postgresql", ("timestamptz",), "datetime", moment, "text",
                 "printed", "infinity, BC, year 10000: text")  # fmt: skip
    yield Family("sqlite", ("DATETIME", "TIMESTAMP"), "datetime", moment,
                 "as is", "stored", "a number is Unix seconds")  # fmt: skip
    yield Family("mysql", ("time",), "time", "text [-]HH:MM:SS", "text", "printed")
    yield Family("postgresql", ("time", "timetz"), "time", "text HH:MM:SS", "text", "printed")
    yield Family("sqlite", ("TIME",), "time", "text HH:MM:SS", "as is", "stored")
    yield Family("postgresql", ("inet",), "string", f"text, {printed}", "address", "printed")
    yield Family("mysql", ("json",), "json", "what the JSON holds", "text", "",
                 "also MariaDB's JSON; values that a document cannot hold: text")  # fmt: skip
    yield Family("postgresql", ("json", "jsonb"), "json", "what the JSON holds", "text", "",
                 "values that a document cannot hold: text")  # fmt: skip
    yield Family("sqlite", ("JSON",), "json", "what the JSON holds")
    yield Family(
        "sqlite", ("",), "any", "what is stored: number, text or binary", "as is", "stored"
    )
    yield Family("sqlite", ("…",), "numeric", "number or text", "as is", "stored")
    yield Family("postgresql", ("…",), "string", f"text, {printed}", "text", "printed",
                 "enums, arrays, ranges, intervals, geometry …")  # fmt: skip


RULES: tuple[Family, ...] = tuple(_families())
"""The table, in the order of the docs. `…` stands for any letters; alone, for all that is left."""

_EXACT: Mapping[tuple[str, str], Family] = {
    (family.dialect, name): family for family in RULES for name in family.types if "…" not in name
}


def rule(column: Column, dialect: str, field: FieldRule | None = None) -> Rule:
    """What becomes of a column. field: what sync.yaml says of it. Raises Unknown for a column that
    has no rule."""
    made = _by_type(column, dialect)
    return made if field is None else _overridden(made, column, field)


def field_convert(field: FieldRule) -> Convert | None:
    """What becomes of a field of which no column is known; None: it stays as it is. What the
    function raises is ValueError."""
    convert = _of_type(field, None)
    if convert is None and field.text is not None:
        convert = partial(values.stored_text, codec=codec_of(field.text.stored))
    return convert


def misfitting(
    value: Any, policy: str, place: str, error: ValueError, convert: Convert | None = None
) -> Any:
    """What the document holds where a value does not fit.

    policy: `null`, `text` or `dead`.
    place: what the error is about.
    convert: what did not take it; bytes and a boolean may fit as the text that they are.

    Raises UnusableEvent for `dead`.
    """
    text = _as_text(value, error)
    is_read = isinstance(error, values.NotThatText)
    if convert is not None and type(value) in (bool, dict) and not is_read:
        with suppress(ValueError):
            return convert(text)
    if policy == "null":
        return None
    if policy == "text":
        return text
    shown = ascii(value)
    shown = shown if len(shown) <= 300 else shown[:297] + "..."
    raise UnusableEvent(f"{place} {error}: {shown}") from None


def _as_text(value: Any, error: ValueError) -> str:
    if isinstance(error, values.NotThatText):
        return error.text
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, dict) and set(value) == {values.BYTES}:
        with suppress(ValueError):
            return values.string(value)
    if isinstance(value, list | dict):
        return dump_json(value)
    if isinstance(value, Number):
        # Exact, unless it is the digits that a program has for a float.
        text = value.text.casefold()
        return text.removesuffix(".0") if value and "e" not in text else values.string(value + 0.0)
    return values.string(value)


def _by_type(column: Column, dialect: str) -> Rule:
    family = family_of(column, dialect)
    if family is None:
        raise Unknown(
            f"the type, {column.declared}, has no rule: write `drop: [{column.name}]`, or a "
            "`query:` that selects it as text, for example with ST_AsText()"
        )
    if column.json and family.kind == "string":
        family = replace(family, kind="json", value="what the JSON holds")
    if dialect == "mysql":
        return _of_mysql(column, family)
    if dialect == "postgresql":
        return _of_postgresql(column, family)
    if family.kind == "decimal":
        return Rule(family, values.shortest_decimal)
    return _of_kind(family)


def family_of(column: Column, dialect: str) -> Family | None:
    """The row of the table that a column is in."""
    if dialect == "sqlite":
        return _of_affinity(column.type.upper())
    if (found := _EXACT.get((dialect, column.type))) is not None:
        return found
    return _EXACT_REST if dialect == "postgresql" else None


_EXACT_REST = RULES[-1]


def _of_affinity(declared: str) -> Family:
    """SQLite's own rules of affinity, and before them the names that mean more."""
    word = re.split(r"[\s(]", declared.strip(), maxsplit=1)[0]
    if (found := _EXACT.get(("sqlite", word))) is not None and word not in ("NUMERIC",):
        return found
    for part, like in (
        ("BOOL", "BOOL…"),
        ("INT", "INT…"),
        ("CHAR", "CHAR…"),
        ("CLOB", "CHAR…"),
        ("TEXT", "CHAR…"),
        ("BLOB", "BLOB"),
        ("REAL", "REAL"),
        ("FLOA", "REAL"),
        ("DOUB", "REAL"),
    ):
        if part in declared:
            return next(one for one in RULES if one.dialect == "sqlite" and like in one.types)
    if word == "NUMERIC":
        return _EXACT["sqlite", "NUMERIC"]
    return next(one for one in RULES if one.dialect == "sqlite" and "…" in one.types)


def _of_mysql(column: Column, family: Family) -> Rule:
    if column.type == "bit":
        if column.length == 1:
            return Rule(replace(family, kind="boolean", value="boolean"), values.boolean, bool)
        return Rule(family, values.whole, int)
    if column.members and column.charset == "binary":
        return _of_kind(replace(family, read="text"))
    if column.type == "bigint" and column.unsigned:
        return Rule(family, values.whole, int)
    if column.type == "time":
        return Rule(family, partial(values.time, digits=column.scale))
    if family.kind == "number":
        # FLOAT(M, D) and DOUBLE(M, D) print D digits after the point.
        if column.scale is not None:
            return Rule(family, partial(values.double, digits=column.scale))
        return Rule(family, values.single if column.type == "float" else values.double)
    return _of_digits(column, family) if family.kind == "decimal" else _of_kind(family)


def _of_postgresql(column: Column, family: Family) -> Rule:
    if column.type == "money":
        return Rule(family, _money)
    if column.type == "bpchar":
        return Rule(family, lambda value: values.string(value).rstrip(" "))
    if column.type == "uuid":
        return Rule(family, lambda value: values.string(value).lower())
    return _of_digits(column, family) if family.kind == "decimal" else _of_kind(family)


def _of_digits(column: Column, family: Family) -> Rule:
    if column.length is not None and column.length > _MOST_DIGITS:
        family = replace(family, kind="string", value="text")
        return Rule(family, partial(values.decimal_text, scale=column.scale))
    return Rule(family, values.with_scale(column.scale))


def _of_kind(family: Family) -> Rule:
    kind = family.kind
    if kind == "any":
        return Rule(family, _as_stored)
    if kind == "numeric":
        return Rule(family, _numeric)
    plain: type | None = {"string": str, "boolean": bool, "integer": int}.get(kind)
    return Rule(family, values.CONVERSIONS[kind], plain)


def _overridden(made: Rule, column: Column, field: FieldRule) -> Rule:
    if field.text is not None:
        codec = codec_of(field.text.stored)
        family = replace(made.family, kind="string", value="text", read="stored")
        if family.key:
            family = replace(family, key="stored text")
        convert: Convert = partial(values.stored_text, codec=codec)
        made = Rule(family, convert, str, codec)
    if field.type is not None:
        unix = made.family.kind in ("integer", "decimal", "number", "numeric")
        convert = _of_type(field, unix) or made.convert
        if field.type == "decimal" and made.family.kind == "decimal":
            convert = values.with_scale(column.scale)
        if made.codec:
            stored = made.convert
            inner = convert
            convert = lambda value: inner(stored(value))  # noqa: E731
        family = replace(made.family, kind=field.type)
        plain = str if field.type == "string" else None
        made = Rule(family, convert, plain, made.codec, "dead")
    elif field.zone is not None and made.family.kind == "datetime":
        made = replace(made, convert=partial(values.moment, zone=ZoneInfo(field.zone)))
    return made if field.misfit is None else replace(made, misfit=field.misfit)


def _of_type(field: FieldRule, unix: bool | None) -> Convert | None:
    if field.type == "datetime":
        zone: tzinfo = UTC if field.zone is None else ZoneInfo(field.zone)
        return partial(values.moment, zone=zone, unix=unix or None)
    return None if field.type is None else values.CONVERSIONS[field.type]


_CENTS = re.compile(r"[.,٫]([0-9]{1,2})[^0-9]*$")


def _money(value: Any) -> Any:
    """PostgreSQL's money however `lc_monetary` prints it: `-$1,234.50`, `($5.00)`, `1.234,50 €`."""
    if not isinstance(value, str) or isinstance(value, bool):
        return values.decimal(value, 2)
    cents = _CENTS.search(value)
    whole = re.sub(r"[^0-9]", "", value[: cents.start()] if cents else value)
    if (not whole and cents is None) or value[0] in '[{"':
        raise ValueError("is no money")
    minus = "-" if "-" in value or "(" in value else ""
    return values.decimal(f"{minus}{whole or 0}.{cents[1] if cents else 0}", 2)


def _as_stored(value: Any) -> Any:
    """Of SQLite's columns without a type."""
    if isinstance(value, dict):
        return values.binary(value)
    return float(value) + 0.0 if isinstance(value, float) else value


def _numeric(value: Any) -> Any:
    """Of SQLite's columns of NUMERIC affinity: what looks like a number is one there, too."""
    if isinstance(value, dict):
        return values.binary(value)
    for convert in (values.integer, values.double):
        try:
            found = convert(value)
        except ValueError:
            continue
        if isinstance(found, int) or math.isfinite(found):
            return found
    return values.string(value)
