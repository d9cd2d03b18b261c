"""Every type of PostgreSQL, with the borders that follow from its declaration.

Types come from pg_type: one that is in no list here fails the test, and arrays, domains, ranges
and composites are made of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import sqlalchemy as sql

from tests.sync.alltypes.all_types import Declared

__all__ = ["FIRST", "WITHOUT_INPUT", "columns", "types_of_server"]

FIRST = (
    "CREATE EXTENSION IF NOT EXISTS hstore",
    "CREATE EXTENSION IF NOT EXISTS citext",
    "CREATE TYPE mood AS ENUM ('sad', 'it''s', 'Ünï', '5', '')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE DOMAIN price AS numeric(9,2)",
    "CREATE DOMAIN mail AS varchar(40)",
    "CREATE TYPE textrange AS RANGE (subtype = text)",
)
WITHOUT_INPUT = frozenset(
    {
        "pg_node_tree",
        "ghstore",
        "pg_ndistinct",
        "pg_dependencies",
        "pg_mcv_list",
        "gtsvector",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
    }
)
"""Of pg_type, but nobody can write a value of them."""

_WHOLE = {"int2": 16, "int4": 32, "int8": 64}
_FLOAT = ("0", "-0", "12", "0.1", "1e15", "1e16", "1e100", "NaN", "Infinity", "-Infinity", "-1e-7")
_TEXT = (
    "",
    " ",
    "trailing  ",
    "Ünïcode é ß",
    "日本語",
    "a😀",
    "x'\"\\y",
    "a/b%2Fc",
    "$where",
    "\t\n",
    "%",
    "1e3",
    "012",
    "{}",
    "NULL",
)
_DATE = (
    "2024-02-29",
    "infinity",
    "-infinity",
    "4713-01-01 BC",
    "0001-01-01",
    "0001-12-31 BC",
    "9999-12-31",
    "10000-01-01",
    "5874897-12-31",
    "1969-12-31",
)
_JSON = (
    "{}",
    "[]",
    "null",
    "true",
    '"text"',
    "1",
    "1.0",
    "12.50",
    "-0.0",
    "9223372036854775807",
    "18446744073709551615",
    "123456789012345678901234567890",
    "1E+2",
    '{"$a": 1}',
    '{"": 1}',
    '{"a.b": [1, {"c": null}]}',
    '  {"b": 1,  "a": 2}',
    '"\\u00e9\\ud83d\\ude00"',
    '{"é": "日"}',
    '{"base64": "AA=="}',
)
_MOMENT = (
    *_DATE[:7],
    "2024-01-31 12:34:56.123456",
    "1999-12-31 23:59:59.999999",
    "2024-10-27 02:30:00",
    "2024-03-31 02:30:00",
    "294276-12-31 23:59:59.999999",
    "10000-01-01",
)
_INPUT: dict[str, tuple[str, ...]] = {
    "bool": ("true", "false"),
    "bytea": ("", "\\x00", "\\xff", "\\xc3a9", "\\x5c", "\\x2741"),
    "char": ("a", "", "\\", "\\303"),
    "name": ("pg_class", "", "É"),
    "text": _TEXT,
    "varchar": _TEXT,
    "bpchar": _TEXT,
    "citext": _TEXT,
    "numeric": (
        "0",
        "-0.00",
        "NaN",
        "Infinity",
        "-Infinity",
        "0.1",
        "12.50",
        "1e30",
        "1e-30",
        "1234567890123456789.12",
        "9" * 34,
        "9" * 35,
        "9" * 60 + ".5",
    ),
    "float4": (*_FLOAT[:6], "3.4028235e38", "1.4e-45", *_FLOAT[7:], "16777217", "0.333333343"),
    "float8": (*_FLOAT, "1.7976931348623157e308", "5e-324", "0.30000000000000004"),
    "money": ("0", "-0.01", "92233720368547758.07", "-92233720368547758.08", "1234.50"),
    "date": _DATE,
    "time": ("00:00:00", "24:00:00", "23:59:59.999999", "08:05:00"),
    "timetz": ("00:00:00+00", "24:00:00-12", "23:59:59.999999+05:30", "08:05:00-03:30:15"),
    "timestamp": _MOMENT,
    "timestamptz": (
        "infinity",
        "-infinity",
        "4714-11-24 00:00:00+00 BC",
        "9999-12-31 23:59:59-05",
        "0001-01-01 00:00:00+00",
        "2024-10-27 00:30:00+00",
        "2024-10-27 01:30:00+00",
        "2024-01-31 12:34:56.123456+05:30",
        "294276-12-31 23:59:59+00",
    ),
    "interval": (
        "0",
        "1 year 2 mons 3 days 04:05:06.789",
        "-1 day",
        "-00:00:01",
        "26:30:00",
        "178000000 years",
        "1 mon -1 day +02:00",
    ),
    "uuid": ("00000000-0000-0000-0000-000000000000", "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}"),
    "inet": ("10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4/100", "0.0.0.0"),
    "cidr": ("10.0.0.0/8", "10.0.0.1", "2001:db8::/32"),
    "macaddr": ("08:00:2b:01:02:03", "FF-FF-FF-FF-FF-FF"),
    "macaddr8": ("08:00:2b:01:02:03:04:05",),
    "bit": ("0", "1"),
    "varbit": ("", "0", "101", "1" * 70),
    "xml": ("<a>é</a>", "text", "<a/><b/>"),
    "json": (*_JSON, '{"a": 1, "a": 2}', '"\\ud800"'),
    "jsonb": _JSON,
    "tsvector": ("", "a:1 b:2A", "'it''s'"),
    "tsquery": ("a & b", "!a | 'b c':*"),
    "jsonpath": ("$.a[*]", "strict $"),
    "point": ("(0,0)", "(-1.5,1e300)", "(NaN,Infinity)"),
    "line": ("{1,2,3}",),
    "lseg": ("[(0,0),(1,1)]",),
    "box": ("(1,1),(0,0)",),
    "path": ("[(0,0),(1,1)]", "((0,0),(1,1))"),
    "polygon": ("((0,0),(1,1),(1,0))",),
    "circle": ("<(0,0),1>",),
    "oid": ("0", "4294967295"),
    "xid": ("0", "4294967295"),
    "xid8": ("0", "18446744073709551615"),
    "cid": ("0", "4294967295"),
    "tid": ("(0,0)", "(4294967295,65535)"),
    "pg_lsn": ("0/0", "FFFFFFFF/FFFFFFFF"),
    "pg_snapshot": ("10:20:10,14,15",),
    "txid_snapshot": ("10:20:10,14,15",),
    "int2vector": ("", "1 2 -3"),
    "oidvector": ("", "1 2"),
    "refcursor": ("c", ""),
    "aclitem": ("postgres=r/postgres",),
    "regclass": ("pg_class", "-"),
    "regtype": ("integer", "text"),
    "regproc": ("now", "-"),
    "regprocedure": ("now()", "-"),
    "regoper": ("|/",),
    "regoperator": ("+(integer,integer)",),
    "regcollation": ('"C"',),
    "regconfig": ("english",),
    "regdictionary": ("simple",),
    "regrole": ("postgres",),
    "regnamespace": ("public",),
    "int4range": ("empty", "[1,5)", "(,)", "[,3]"),
    "int8range": ("empty", "[1,9223372036854775807)"),
    "numrange": ("[1.10,2.50)", "(,NaN]"),
    "daterange": ("[2024-01-01,2024-02-01)", "[,infinity]"),
    "tsrange": ("[2024-01-01 00:00,2024-01-02 12:34:56.5)",),
    "tstzrange": ("[2024-01-01 00:00+02,)",),
    "int4multirange": ("{}", "{[1,2),[3,4)}"),
    "int8multirange": ("{[1,2)}",),
    "nummultirange": ("{[1.5,2)}",),
    "datemultirange": ("{[2024-01-01,2024-01-05)}",),
    "tsmultirange": ("{[2024-01-01 00:00,2024-01-02 00:00)}",),
    "tstzmultirange": ("{[2024-01-01 00:00+02,)}",),
    "hstore": ("", 'a=>1, "b c"=>NULL, é=>"\\"x\\""'),
    "mood": ("sad", "it's", "Ünï", "5", ""),
    "pair": ("(1,a)", '(,"x ""y"" é")', "(,)"),
    "positive": ("1", "2147483647"),
    "price": ("0.00", "12.50", "9999999.99"),
    "mail": ("a@b", ""),
    "textmultirange": ("{[a,b)}",),
    "textrange": ("[a,b)", "[,é]"),
}
for _name, _bits in _WHOLE.items():
    _INPUT[_name] = ("0", "1", "-1", str(2 ** (_bits - 1) - 1), str(-(2 ** (_bits - 1))))

_WITH_LENGTH = (
    ("varchar(40)", "varchar"),
    ("char(40)", "bpchar"),
    ("bit(3)", "bit"),
    ("varbit(80)", "varbit"),
    ("time(0)", "time"),
    ("time(3)", "time"),
    ("timetz(2)", "timetz"),
    ("timestamp(0)", "timestamp"),
    ("timestamp(3)", "timestamp"),
    ("timestamptz(0)", "timestamptz"),
    ("timestamptz(4)", "timestamptz"),
    ("interval(0)", "interval"),
    ("interval day to second", "interval"),
    ('text collate "C"', "text"),
    ('text collate "und-x-icu"', "text"),
    ('varchar(40) collate "en-x-icu"', "varchar"),
)
_NUMERICS = ((1, 0), (5, 2), (2, 5), (5, -2), (20, 2), (34, 6), (35, 4), (60, 30), (1000, 500))
_NO_KEY = frozenset(
    {
        "json",
        "xml",
        "point",
        "line",
        "lseg",
        "box",
        "path",
        "polygon",
        "circle",
        "hstore",
        "cid",
        "xid",
        "aclitem",
        "tid",
        "pg_snapshot",
        "txid_snapshot",
        "jsonpath",
        "refcursor",
        "pair",
    }
)
"""Without an order of a b-tree, or with none that is anybody's key."""


def columns(kinds: set[str]) -> Iterator[Declared]:
    """All of them. kinds: the types of the server."""
    for kind in sorted(kinds - WITHOUT_INPUT):
        if kind not in _INPUT:
            raise AssertionError(f"the type {kind} of the server has no values in this file")
        spelled = '"char"' if kind == "char" else kind
        values = _INPUT[kind]
        yield _declared(kind, spelled, values)
        if kind not in ("char", "name", "positive", "price", "mail"):
            yield _array(kind, spelled, values)
    for spelled, kind in _WITH_LENGTH:
        # The end of time is rounded up to beyond itself.
        values = tuple(one for one in _INPUT[kind] if not one.startswith("294276"))
        values = ("101",) if spelled == "bit(3)" else values
        yield _declared(kind, spelled, values)
    for digits, scale in _NUMERICS:
        most = format(Decimal((0, (9,) * digits, -scale)), "f")
        values = ("0", "NaN", most, f"-{most}", "0.0")
        yield _declared("numeric", f"numeric({digits},{scale})", values)


def _declared(kind: str, spelled: str, values: tuple[str, ...]) -> Declared:
    bare = spelled.partition(" collate")[0]
    made = tuple(f"CAST({_quoted(value)} AS {bare})" for value in values)
    return Declared(kind, spelled, made, kind == "bytea", kind not in _NO_KEY)


def _array(kind: str, spelled: str, values: tuple[str, ...]) -> Declared:
    every = ", ".join(_quoted(value) for value in values)
    made = (
        f"CAST(ARRAY[{every}, NULL] AS {spelled}[])",
        f"CAST(ARRAY[] AS {spelled}[])",
        f"CAST(ARRAY[[{_quoted(values[0])}], [{_quoted(values[-1])}]] AS {spelled}[])",
    )
    common = kind in ("int4", "text", "float8", "numeric", "timestamptz", "bytea", "mood")
    return Declared(f"{kind}[]", f"{spelled}[]", made, key=False, common=common)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def types_of_server(connection: sql.Connection) -> set[str]:
    """Those of which a column can be."""
    return {
        str(row[0])
        for row in connection.exec_driver_sql(
            "SELECT t.typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace "
            "LEFT JOIN pg_class c ON c.oid = t.typrelid "
            "WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm', 'c') AND t.typcategory <> 'A' "
            "AND n.nspname <> 'information_schema' AND n.nspname <> 'pg_toast' "
            "AND (t.typtype <> 'c' OR c.relkind = 'c')"
        )
    }
