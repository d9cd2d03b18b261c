"""What a statement in words does to tables, as far as it can be said without parsing SQL. Pure.

In ROW format only definitions of tables and TRUNCATE come in words. Whatever else comes so was made
by a session that writes statements: which rows it changed nobody can say, and through views,
triggers and functions not even which tables. Of a definition, every name in it may be that of a
table that it is about: rather one too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

__all__ = ["Effect", "effect", "touches", "words"]

_QUIET = frozenset(
    (
        "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "XA", "SET", "FLUSH",
        "GRANT", "REVOKE", "OPTIMIZE", "REPAIR", "CHECK", "INSTALL", "UNINSTALL", "KILL", "LOCK",
        "UNLOCK", "SHUTDOWN", "PURGE", "RESET",
    )
)  # fmt: skip
"""First words of statements that change no row and no table."""
_DEFINES = frozenset(("CREATE", "DROP", "ALTER", "RENAME", "TRUNCATE"))
_OTHERS = frozenset(
    ("TRIGGER", "VIEW", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "SERVER", "SEQUENCE",
     "PACKAGE", "TEMPORARY")
)  # fmt: skip
"""What can be made and dropped besides tables."""
_DATABASES = frozenset(("DATABASE", "SCHEMA"))
_INDEXES = frozenset(("INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"))
_KINDS = _OTHERS | _DATABASES | _INDEXES | {"TABLE", "TABLES"}


@dataclass(frozen=True, slots=True)
class Effect:
    """schema, tables: as of `touches`. alters: their definition may be another. changes: their rows
    may be others. why: in words."""

    schema: str
    tables: tuple[str, ...] | None
    alters: bool
    changes: bool
    why: str


def touches(named: str, names: tuple[str, ...] | None, schema: str, table: str) -> bool:
    """Whether what is said of some tables is said of this one.

    named: the schema of names without one; empty where there is none.
    names: of tables, and perhaps of their schemas; None for all tables of `named`, and of every
        schema where that is empty.
    schema: that the table is in.
    table: its name. What differs in case only is the same to some servers, and so it is here.
    """
    named, schema, table = named.casefold(), schema.casefold(), table.casefold()
    if names is None:
        return named in ("", schema)
    folded = {name.casefold() for name in names}
    return table in folded and (named == schema or schema in folded)


_TOKEN = re.compile(
    r"""(?P<skip>\s+|--(?=[\s]|$)[^\n]*|\#[^\n]*|/\*(?![!M])(?:[^*]|\*(?!/))*\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<name>`(?:[^`]|``)*`)
    |(?P<word>[\w$\u0080-\U0010ffff]+)
    |(?P<sign>/\*M?!\d*|.)""",
    re.VERBOSE | re.DOTALL,
)
_NAMES = re.compile(r"`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\"")
_WORD = re.compile(r"[\w$\u0080-\U0010ffff]+")


def _words(text: str) -> Iterator[tuple[str, int]]:
    """The words that are not in comments, names or strings, in capitals, and where each ends."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "word":
            yield match[0].upper(), match.end()


def words(text: str) -> list[str]:
    """The first few words, in capitals; without comments, names in quotes, and strings."""
    return [word for word, _ in islice(_words(text), 6)]


def effect(text: str, schema: str, *, is_utf8: bool = True) -> Effect | None:
    """What a statement does, None for nothing. schema: the default one of its session. is_utf8:
    whether the names in it are what they seem."""
    text = _without_settings(text)
    first = words(text)
    word = first[0] if first else ""
    if word in _QUIET or not word or first[:2] == ["ANALYZE", "TABLE"]:
        return None
    if word not in _DEFINES:
        why = f"{word} in statement format" if word.isascii() else "a statement"
        return Effect("", None, alters=False, changes=True, why=why)
    kind = next((one for one, _ in _words(text) if one in _KINDS), "TABLE")
    if kind in _OTHERS and word != "TRUNCATE":
        return None
    why = f"{word} {kind}"
    if kind in _DATABASES:
        if word != "DROP" and "REPLACE" not in first:
            return None
        dropped = _last(text) if word == "DROP" and is_utf8 else ""
        return Effect(dropped, None, alters=True, changes=True, why=why)
    changes = kind not in _INDEXES
    if not is_utf8:
        return Effect("", None, alters=True, changes=changes, why=why)
    return Effect(schema, _named(text), alters=True, changes=changes, why=why)


def _without_settings(text: str) -> str:
    """What follows `SET STATEMENT … FOR`."""
    found = _words(text)
    if [word for word, _ in islice(found, 2)] == ["SET", "STATEMENT"]:
        for word, end in found:
            if word == "FOR":
                return _without_settings(text[end:])
    return text


def _last(text: str) -> str:
    """The last name or word."""
    found = ""
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "word":
            found = match[0]
        elif match.lastgroup in ("name", "string"):
            found = _unquoted(match[0])
    return found


def _unquoted(name: str) -> str:
    return name[1:-1].replace(name[0] * 2, name[0])


def _named(text: str) -> tuple[str, ...]:
    """All that could be the name of a table: whatever stands in quotes of a name, and every word,
    also in strings, whose end depends on settings."""
    found = dict.fromkeys(_WORD.findall(text))
    for match in (*_TOKEN.finditer(text), *_NAMES.finditer(text)):
        if match[0][0] in "`\"'":
            found[_unquoted(match[0])] = None
    return tuple(found)
