"""How columns are selected and compared, so that what is read does not depend on a driver, on a
session's settings or on the time zone of whoever asks. SQL expressions; nothing here asks a server.

`value` is the expression of a column's value, `plain` makes of what the driver gives what an event
has. `KeyColumn` is a column of the key. A column is any reference: `t.name`, or `NEW.name` in a
trigger.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_VERSION
from bridge.sync.charsets import readable
from bridge.sync.types.column import Column
from bridge.sync.types.keys import KINDS, Kind, Unlookable
from bridge.sync.types.rules import Rule
from bridge.sync.types.stored import candidates, number_first, text_of_any, whole_first
from bridge.sync.types.values import BYTES, EXACT, whole

__all__ = [
    "KeyColumn",
    "as_text",
    "key_column",
    "key_in_sql",
    "plain",
    "printed_text",
    "value",
]

Expression = sql.ColumnElement[Any]
NO_TYPE = sql.types.NullType()


def as_text(column: Any, dialect: str) -> Expression:
    """A value as the database prints it."""
    if dialect == "mysql":
        return sql.cast(column, mysql.CHAR(charset="utf8mb4"))
    return sql.cast(column, sql.Text)


def value(column: Any, rule: Rule, dialect: str) -> Expression:
    """What to SELECT for a column."""
    read = rule.family.read
    if read == "text":
        return as_text(column, dialect)
    if read == "address":
        return sql.func.abbrev(column)
    if read == "number":
        if dialect == "postgresql":
            return as_text(sql.cast(column, sql.Numeric), dialect)
        return column + sql.literal_column("0")  # type: ignore[no-any-return]
    if read == "utc":
        return as_text(_Utc(column), dialect)
    if read == "stored":
        return _raw(column, rule, dialect)
    return column  # type: ignore[no-any-return]


def plain(rule: Rule, dialect: str) -> Callable[[Any], Any] | None:
    """From what the driver gives, never None, to what an event has; None: it is that already."""
    read = rule.family.read
    if read == "utc":
        return _with_z
    if read == "stored":
        codec = rule.codec
        return lambda found: _decoded(found, codec)
    if read == "bytes":
        return _base64
    if dialect == "sqlite":
        return _of_sqlite if rule.family.kind in ("binary", "any", "numeric") else _text_of_sqlite
    if rule.convert is whole and rule.plain is int:
        return _large_as_text
    if rule.family.kind == "number" and dialect == "postgresql":
        return _finite
    if read == "number":
        return lambda found: int(found) if isinstance(found, Decimal) else found
    # A database of PostgreSQL without an encoding gives texts as bytes.
    return _text_of_bytes if dialect == "postgresql" and rule.plain is str else None


class _Utc(sql.sql.functions.FunctionElement[str]):
    """A TIMESTAMP of MySQL in UTC, whatever the zone of the session: it is never written out in
    that zone, where an hour of autumn is there twice."""

    type = sql.String()
    inherit_cache = True


@compiles(_Utc)
def _compile_utc(element: Any, compiler: Any, **options: Any) -> str:
    [column] = element.clauses
    name = compiler.process(column, **options)
    moment = f"DATE_ADD('1970-01-01 00:00:00', INTERVAL UNIX_TIMESTAMP({name}) SECOND)"
    # The zero date is second 0, and no other moment is.
    return f"IF(UNIX_TIMESTAMP({name}) = 0, CAST({name} AS CHAR), CAST({moment} AS CHAR))"


def _raw(column: Any, rule: Rule, dialect: str) -> Expression:
    """The bytes that a text is kept in."""
    if dialect == "mysql":
        return sql.cast(column, sql.LargeBinary)
    if dialect == "sqlite":
        return sql.cast(column, sql.BLOB)
    if rule.family.kind == "binary" or rule.family.types == ("bytea",):
        return column  # type: ignore[no-any-return]
    encoding = sql.func.current_setting("server_encoding")
    return sql.func.convert_to(sql.cast(column, sql.Text), sql.cast(encoding, sql.Text))


def _with_z(found: Any) -> Any:
    # The zero date is none, in every zone.
    return found if str(found).startswith("0000") else f"{found}Z"


def _decoded(found: Any, codec: str) -> Any:
    raw = bytes(found) if not isinstance(found, str) else found.encode("utf-8", "surrogateescape")
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return {BYTES: base64.b64encode(raw).decode("ascii")}


def _base64(found: Any) -> Any:
    # SQLite keeps whatever it is given.
    if isinstance(found, float):
        found = _finite(found)
    if isinstance(found, str):
        found = found.encode("utf-8", "surrogateescape")
    if isinstance(found, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(found)).decode("ascii")
    return found


def _of_sqlite(found: Any) -> Any:
    if type(found) is bytes:
        return {BYTES: base64.b64encode(found).decode("ascii")}
    return _text_of_sqlite(found)


def _text_of_sqlite(found: Any) -> Any:
    """Where PHP sees no difference between bytes and text."""
    kind = type(found)
    if kind is str:
        return found if found.isascii() else readable(found.encode("utf-8", "surrogateescape"))
    if kind is bytes:
        return readable(found)
    return _finite(found) if kind is float else found


def _finite(found: float) -> float | str:
    """JSON has no word for the others; this one is PostgreSQL's."""
    if math.isfinite(found):
        return found
    return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"


def _large_as_text(found: int | Decimal) -> int | str:
    """Events have whole numbers of 64 bits."""
    return int(found) if found <= MAX_VERSION else str(found)


def _text_of_bytes(found: Any) -> Any:
    """Of a text whose bytes are no UTF-8, or that the driver gives as bytes."""
    return readable(bytes(found)) if isinstance(found, bytes | bytearray | memoryview) else found


# Keys.


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column of the key. Rows are in the order of `left`, and found by it.

    kind: how its text is parsed and written. printed: what to SELECT for what `text` makes the
    text of. in_sql: the text, as the database itself makes it; None where it cannot. bound: what
    a parameter becomes that is compared with `left`; None: nothing. dynamic: whether one text may
    be values of several types.
    """

    column: Column
    kind: Kind
    printed: Expression
    left: Expression
    in_sql: Expression | None
    text: Callable[[Any], str]
    bound: Callable[[Any], Expression] | None = None
    dynamic: bool = False

    def values(self, text: str) -> Sequence[Any]:
        """What `left` can be where this is its text, most likely value first. Raises Unlookable."""
        found = self.kind.parse(text)
        return found if isinstance(found, list) else [found]

    def canonical(self, text: str) -> str:
        """The text that the row has, of one that a producer wrote. Raises Unlookable."""
        return self.kind.text(self.kind.parse(text))


def key_column(reference: Any, column: Column, rule: Rule, dialect: str) -> KeyColumn | None:
    """A column as a part of a key; None where its values cannot name a row.

    reference, column: in a statement, and as the catalog has it.
    """
    family = rule.family
    if family.key == "":
        return None
    if family.key == "stored":
        return _of_any(reference, column, _PARSED.get(family.kind, number_first))
    if family.key == "stored text":
        return _stored_text(reference, column, rule, dialect)
    if family.key == "bytes":
        return _bytes(reference, column, dialect)
    kind = KINDS["printed" if family.key == "utc" else family.key]
    if family.key == "printed" and dialect == "postgresql":
        kind = KINDS["printed without NUL"]
    text = as_text(reference, dialect)
    if family.read == "address":
        text = sql.func.abbrev(reference)
    printed: Any = text
    left: Any = reference
    bound = None
    if family.key in ("whole", "object id", "decimal", "any decimal"):
        number = reference
        if column.zerofill or family.read == "number":
            number = reference + sql.literal_column("0")
        text = as_text(number, dialect)
        printed = text if "decimal" in family.key else number
        if "decimal" in family.key:
            kind = _of_scale(kind, column.scale)
    elif family.key in ("text", "text without NUL"):
        if column.members:
            # Sorted as numbers and compared as text.
            left = text
        elif column.type != "bpchar":
            printed = reference
            bound = _in_charset(column) if dialect == "mysql" else None
    elif family.key == "boolean":
        printed = text = as_text(sql.cast(reference, sql.Integer), dialect)
    elif family.key == "utc":
        printed = left = text = as_text(_Utc(reference), dialect)
    elif family.key == "printed":
        left = text
    elif dialect == "postgresql":
        casts: dict[str, Any] = {"uuid": sql.UUID(), "day": sql.Date(), "moment": sql.DateTime()}
        bound = partial(sql.cast, type_=casts[family.key])
    return KeyColumn(column, kind, printed, left, text, printed_text, bound)


def key_in_sql(columns: Sequence[KeyColumn], dialect: str) -> Expression | None:
    """The key of a row as the database makes it: the same text as `keys.join`. None where it
    cannot."""
    parts = [one.in_sql for one in columns]
    if any(part is None for part in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    whole: Any = None
    for part in parts:
        escaped: Any = part
        for these, written in (("%25", "%2525"), ("%2F", "%252F"), ("/", "%2F")):
            escaped = sql.func.replace(escaped, _quoted(these), _quoted(written))
        if whole is None:
            whole = escaped
        elif dialect == "sqlite":
            whole = whole.op("||")(_quoted("/")).op("||")(escaped)
        else:
            whole = sql.func.concat(whole, _quoted("/"), escaped)
    return whole  # type: ignore[no-any-return]


def _quoted(text: str) -> Expression:
    # Doubled: a driver takes one for the beginning of a parameter.
    return sql.literal_column("'" + text + "'")


def printed_text(found: Any) -> str:
    """The text of what the driver gives, where that is the database's own text or a number."""
    return found if type(found) is str else str(found)


def _of_scale(kind: Kind, scale: int | None) -> Kind:
    """Decimals as a column of this scale prints them."""
    if scale is None:
        return kind
    unit = Decimal(1).scaleb(-scale)

    def text(number: Decimal) -> str:
        if not number.is_finite() or number != (exact := number.quantize(unit, context=EXACT)):
            return kind.text(number)
        return format(exact, "f")

    return replace(kind, text=text)


def _in_charset(column: Column) -> Callable[[Any], Expression] | None:
    """A text in the character set of its column: else the server refuses to compare it."""
    if column.charset in ("", "utf8mb4"):
        return None
    charset: Any = sql.literal_column(column.charset)
    collation: Any = sql.literal_column(column.collation)
    return lambda parameter: _InCharset(parameter, charset, collation)


class _InCharset(sql.sql.functions.FunctionElement[str]):
    type = sql.String()
    inherit_cache = True


@compiles(_InCharset)
def _compile_in_charset(element: Any, compiler: Any, **options: Any) -> str:
    parameter, charset, collation = (compiler.process(one, **options) for one in element.clauses)
    return f"CONVERT({parameter} USING {charset}) COLLATE {collation}"


def _bytes(reference: Any, column: Column, dialect: str) -> KeyColumn:
    if dialect == "postgresql":
        printed: Any = sql.func.encode(reference, sql.literal_column("'hex'"))
    else:
        printed = as_text(sql.func.lower(sql.func.hex(reference)), dialect)
    return KeyColumn(
        column, KINDS["bytes"], reference, reference, printed, lambda raw: bytes(raw).hex()
    )


def _stored_text(reference: Any, column: Column, rule: Rule, dialect: str) -> KeyColumn:
    """Text in bytes of another character set."""
    codec = rule.codec
    raw = _raw(reference, rule, dialect)

    def parse(text: str) -> bytes:
        try:
            return text.encode(codec)
        except UnicodeEncodeError:
            raise Unlookable(f"it cannot be written in {codec}") from None

    def text(found: Any) -> str:
        decoded = _decoded(found, codec)
        if isinstance(decoded, str):
            return decoded
        raise UndecodableMessage(f"the key column {column.name} holds what is no {codec}")

    kind = Kind("the text", parse, lambda found: found.decode(codec))
    in_sql = _AsUtf8(raw) if dialect == "mysql" and codec == "utf-8" else None
    return KeyColumn(column, kind, raw, raw, in_sql, text)


class _AsUtf8(sql.sql.functions.FunctionElement[str]):
    type = sql.String()
    inherit_cache = True


@compiles(_AsUtf8)
def _compile_as_utf8(element: Any, compiler: Any, **options: Any) -> str:
    [raw] = element.clauses
    return f"CONVERT({compiler.process(raw, **options)} USING utf8mb4)"


# SQLite keeps a value of any type in any column, so that one text may be several values.


_PARSED = {"integer": whole_first, "string": candidates}
"""Only a column of texts keeps one that looks like a number as it is."""


def _of_any(reference: Any, column: Column, parse: Callable[[str], list[Any]]) -> KeyColumn:
    blob = sql.func.lower(sql.func.hex(reference))
    kind_of = sql.func.typeof(reference)
    in_sql = sql.case(
        (kind_of == sql.literal_column("'blob'"), blob), else_=sql.cast(reference, sql.Text)
    )
    kind = Kind("as it is stored; bytes as hexadecimal", parse, lambda found: str(found[0]))
    return KeyColumn(column, kind, reference, reference, in_sql, text_of_any, dynamic=True)
