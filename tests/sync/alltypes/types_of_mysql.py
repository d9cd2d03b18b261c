"""Every type of MariaDB, with the borders that follow from its declaration."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sql

from tests.sync.alltypes.all_types import Declared

__all__ = ["SPATIAL", "columns", "types_of_server"]

SPATIAL = frozenset(
    {
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
    }
)
_COMMON = frozenset({"latin1", "utf8mb4", "ucs2", "sjis", "ascii", "cp1251"})
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_DECIMALS = (
    (1, 0),
    (1, 1),
    (5, 2),
    (10, 0),
    (20, 2),
    (34, 6),
    (35, 4),
    (38, 38),
    (65, 0),
    (65, 30),
)
_DOUBLES = (
    "0",
    "-0e0",
    "1",
    "12",
    "0.1",
    "0.1e0 + 0.2e0",
    "1e15",
    "1e16",
    "123456789012345678",
    "1e100",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "2.2250738585072014e-308",
    "5e-324",
    "-1e-7",
    "1/3e0",
    "9007199254740993",
)
_FLOATS = (
    "0",
    "-0e0",
    "12",
    "0.1",
    "1/3e0",
    "16777217",
    "123456.789",
    "1234567",
    "9999999",
    "1e10",
    "3.402823466e38",
    "-3.402823466e38",
    "1.175494351e-38",
    "1e-45",
    "-1e-7",
    "8388608.5",
)
_DATES = (
    "'2024-02-29'",
    "'0000-00-00'",
    "'2005-03-00'",
    "'2005-00-00'",
    "'0000-03-01'",
    "'2005-02-31'",
    "'1000-01-01'",
    "'0001-01-01'",
    "'1969-12-31'",
    "'9999-12-31'",
)
_MIDNIGHT = " 00:00:00"
_SECONDS = (0, 1, 2**31 - 1, 1_729_987_200, 1_729_990_800, 1_711_846_800)
"""Unix seconds of TIMESTAMP: the zero date for 0, its borders, the hour that Berlin has twice in
autumn, and that which it does not have in spring."""
_TEXTS = (
    "''",
    "' '",
    "'trailing  '",
    "'a\\0b'",
    "'plain'",
    "'Ünïcode é ß'",
    "'Привет'",
    "'日本語'",
    "'a😀'",
    "'x\\'\"\\\\y'",
    "'a/b%2Fc'",
    "'$where'",
    "'\\t\\n'",
    "'%'",
    "'€ † ‡'",
    "'1e3'",
    "'012'",
)
_BYTES = ("x''", "x'00'", "x'ff'", "x'c3a9'", "x'80ff0041'", "x'20'", "x'41200000'")
_JSON = (
    "'{}'",
    "'[]'",
    "'null'",
    "'true'",
    "'\"text\"'",
    "'1'",
    "'1.0'",
    "'12.50'",
    "'-0.0'",
    "'9223372036854775807'",
    "'18446744073709551615'",
    "'123456789012345678901234567890'",
    "'1e400'",
    "'1E+2'",
    "'{\"$a\": 1}'",
    '\'{"a": 1, "a": 2}\'',
    "'{\"\": 1}'",
    '\'{"a.b": [1, {"c": null}]}\'',
    '\'  {"b": 1,  "a": 2}\'',
    "'\"\\\\u00e9\\\\ud83d\\\\ude00\"'",
    '\'{"é": "日"}\'',
    '\'{"base64": "AA=="}\'',
)


def columns(charsets: list[tuple[str, str]]) -> Iterator[Declared]:
    """All of them. charsets: the server's character sets, each with a collation."""
    yield from _numbers()
    yield from _moments()
    for charset, collation in charsets:
        yield from _texts(charset, collation)
    yield from _of_bytes()
    yield from _others()


def _numbers() -> Iterator[Declared]:
    for name, bits in _BITS.items():
        signed = ("0", "1", "-1", str(2 ** (bits - 1) - 1), str(-(2 ** (bits - 1))))
        unsigned = ("0", "1", "42", str(2 ** (bits - 1)), str(2**bits - 1))
        yield Declared("integer", name, signed)
        yield Declared("integer", f"{name} unsigned", unsigned)
        yield Declared("integer", f"{name}(8) zerofill", unsigned)
    yield Declared("integer", "tinyint(1)", ("0", "1", "2", "-1"))
    yield Declared("year", "year", ("0", "1901", "2155", "2026", "'0000'"))
    for bits in (1, 2, 7, 8, 9, 31, 32, 53, 63, 64):
        yield Declared("bit", f"bit({bits})", ("0", "1", str(2**bits - 1), str(2 ** (bits - 1))))
    for digits, scale in _DECIMALS:
        most = "9" * (digits - scale) + "." + "9" * scale
        least = "0." + "0" * (scale - 1) + "1" if scale else "1"
        values = ("0", "-0.0", most, f"-{most}", least, f"-{least}")
        yield Declared("decimal", f"decimal({digits},{scale})", values)
    yield Declared("decimal", "decimal(9,2) unsigned", ("0", "0.01", "9999999.99"))
    yield Declared("decimal", "decimal(9,2) zerofill", ("0", "0.01", "12.50", "9999999.99"))
    yield Declared("double", "double", _DOUBLES)
    yield Declared("double", "double unsigned", tuple(v for v in _DOUBLES if v[0] != "-"))
    yield Declared("double", "double zerofill", ("0", "12", "0.5", "1e100"))
    yield Declared("double", "double(12,3)", ("0", "-0e0", "12.5", "999999999.999", "-0.001"))
    yield Declared("float", "float", _FLOATS)
    yield Declared("float", "float unsigned", tuple(v for v in _FLOATS if v[0] != "-"))
    yield Declared("float", "float zerofill", ("0", "12", "0.5"))
    yield Declared("float", "float(7,3)", ("0", "12.5", "9999.999", "-0.001", "0.1"))
    yield Declared("float", "float(20,10)", ("0", "0.1", "12345.678", "-0.001"))


def _moments() -> Iterator[Declared]:
    yield Declared("date", "date", _DATES)
    for digits in range(7):
        common = digits in (0, 3, 6)
        part = "." + "123456"[:digits] if digits else ""
        most = "." + "9" * digits if digits else ""
        whole = tuple(f"{value[:-1]}{_MIDNIGHT}'" for value in _DATES)
        yield Declared(
            "datetime",
            f"datetime({digits})",
            (
                *whole,
                f"'2024-01-31 12:34:56{part}'",
                f"'9999-12-31 23:59:59{most}'",
                f"'1999-12-31 23:59:59{most}'",
                "'2024-10-27 02:30:00'",
                "'2024-03-31 02:30:00'",
            ),
            common=common,
        )
        moments = tuple(
            f"FROM_UNIXTIME({second}{part if second else ''})" for second in _SECONDS[1:]
        )
        yield Declared(
            "timestamp",
            f"timestamp({digits}) null",
            ("'0000-00-00 00:00:00'", *moments, f"FROM_UNIXTIME({2**31 - 1}{most})"),
            common=common,
        )
        yield Declared(
            "time",
            f"time({digits})",
            (
                "'00:00:00'",
                "'8:05:00'",
                "'-00:00:01'",
                "'26:30:00'",
                f"'-838:59:59{most}'",
                f"'838:59:59{most}'",
                f"'12:34:56{part}'",
                f"'-00:00:00{part}'",
            ),
            common=common,
        )


def _texts(charset: str, collation: str) -> Iterator[Declared]:
    with_it = f"character set {charset} collate {collation}"
    common = charset in _COMMON
    yield Declared("text", f"varchar(40) {with_it}", _TEXTS, common=common)
    yield Declared("text", f"char(40) {with_it}", _TEXTS, common=common)
    if charset not in ("utf8mb4", "latin1"):
        return
    for name in ("tinytext", "text", "mediumtext", "longtext"):
        longest = "REPEAT('x', 255)" if name == "tinytext" else "REPEAT('é', 30000)"
        yield Declared("text", f"{name} {with_it}", (*_TEXTS, longest), key=False)
    members = "('a','b c','','it''s','é','5','a,b')"
    yield Declared(
        "enum",
        f"enum{members} {with_it}",
        ("'a'", "'b c'", "''", "'it''s'", "'é'", "'5'", "1", "6", "'a,b'"),
    )
    yield Declared("enum", f"enum('b','a') {with_it}", ("'a'", "'b'", "'neither'"))
    yield Declared(
        "set",
        f"set('a','b c','it''s','é','5') {with_it}",
        ("'a'", "''", "'a,é'", "'it''s'", "'5'", "31", "5"),
    )


def _of_bytes() -> Iterator[Declared]:
    for size in (1, 4, 16, 255):
        yield Declared("binary", f"binary({size})", _BYTES if size > 1 else _BYTES[:3], True)
    yield Declared("binary", "varbinary(255)", _BYTES, True)
    yield Declared("binary", "char(8) character set binary", _BYTES, True)
    for name in ("tinyblob", "blob", "mediumblob", "longblob"):
        yield Declared("binary", name, (*_BYTES, "REPEAT(x'ff00', 100)"), True, key=False)
    yield Declared("enum", "enum('a','b') character set binary", ("'a'", "'b'"))


def _others() -> Iterator[Declared]:
    yield Declared("json", "json", _JSON, key=False)
    yield Declared(
        "uuid",
        "uuid",
        (
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'123E4567-e89b-12d3-a456-426655440000'",
        ),
    )
    yield Declared("inet4", "inet4", ("'0.0.0.0'", "'255.255.255.255'", "'10.0.0.1'"))
    yield Declared(
        "inet6",
        "inet6",
        (
            "'::'",
            "'::1'",
            "'2001:DB8::ff00:42:8329'",
            "'::ffff:192.168.0.1'",
            "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
        ),
    )


def types_of_server(connection: sql.Connection) -> set[str]:
    """The types that the server takes: every word that it knows is tried as one. It lists none of
    those of places."""
    words = [
        str(row[0])
        for row in connection.exec_driver_sql(
            "SELECT word FROM information_schema.keywords UNION "
            "SELECT plugin_name FROM information_schema.plugins WHERE plugin_type = 'DATA TYPE'"
        )
    ]
    words += SPATIAL
    found = set()
    for word in words:
        if not word.isidentifier():
            continue
        for spelled in (word, f"{word}(1)", f"{word}('a')"):
            try:
                connection.exec_driver_sql(f"CREATE TABLE try_type (c {spelled})")
            except sql.exc.DBAPIError:
                continue
            found |= {
                str(row[0]).casefold()
                for row in connection.exec_driver_sql(
                    "SELECT data_type FROM information_schema.columns "
                    "WHERE table_schema = DATABASE() AND table_name = 'try_type'"
                )
            }
            connection.exec_driver_sql("DROP TABLE try_type")
    return found
