"""What a statement in words does to tables, as far as it can be said without parsing SQL. Pure.

In ROW format only definitions of tables and TRUNCATE come in words. Whatever else comes so was made
by a session that writes statements: which rows it changed nobody can say, and through views and
triggers not even which tables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Effect", "effect", "first_word"]

_QUIET = frozenset(
    (
        "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "START", "XA", "SET", "FLUSH",
        "GRANT", "REVOKE", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "INSTALL", "UNINSTALL",
        "KILL", "LOCK", "UNLOCK", "SHUTDOWN", "PURGE", "RESET",
    )
)  # fmt: skip
"""First words of statements that change no row and no table."""
_DATA = frozenset(("INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "CALL", "WITH", "DO", "MERGE"))
_OTHERS = frozenset(
    ("TRIGGER", "VIEW", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "SERVER", "SEQUENCE",
     "PACKAGE", "TEMPORARY", "AGGREGATE")
)  # fmt: skip
"""What can be made and dropped besides tables."""


@dataclass(frozen=True, slots=True)
class Effect:
    """tables: that it names, None for every one of the schema. alters: their definition may be
    another. changes: their rows may be others. why: in words."""

    schema: str
    tables: tuple[str, ...] | None
    alters: bool
    changes: bool
    why: str


_TOKEN = re.compile(
    r"""(?P<skip>\s+|--(?=[\s]|$)[^\n]*|\#[^\n]*|/\*(?![!M])(?:[^*]|\*(?!/))*\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    |(?P<name>`(?:[^`]|``)*`)
    |(?P<word>[\w$\u0080-\U0010ffff]+)
    |(?P<sign>/\*M?!\d*|.)""",
    re.VERBOSE | re.DOTALL,
)


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kind and text of each word, name, string and sign."""
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        value = match[0]
        if kind == "skip" or value.startswith("/*"):
            continue
        if kind == "name":
            value = value[1:-1].replace("``", "`")
        found.append((kind, value))
    return found


def first_word(text: str) -> str:
    """In capitals; empty where there is none."""
    for kind, value in _tokens(text[:4096]):
        if kind == "word":
            return value.upper()
        if value not in "()*/!":
            break
    return ""


def effect(text: str, schema: str) -> Effect | None:
    """What a statement does, None for nothing. schema: the default one of its session."""
    word = first_word(text)
    if word in _QUIET or not word:
        return None
    if word in _DATA:
        why = f"{word} in statement format"
        return Effect(schema, None, alters=False, changes=True, why=why)
    tokens = _tokens(text)
    words = [value.upper() for kind, value in tokens if kind == "word"]
    if word in ("CREATE", "DROP", "ALTER"):
        what = next((one for one in words[1:] if one not in _MODIFIERS), "")
        if what in _OTHERS or "TEMPORARY" in words[1:4]:
            return None
        if what in ("DATABASE", "SCHEMA"):
            if word != "DROP":
                return None
            name = next((v for k, v in reversed(tokens) if k in ("name", "word")), schema)
            return Effect(name, None, alters=True, changes=True, why="DROP DATABASE")
        if what in ("INDEX", "UNIQUE", "FULLTEXT", "SPATIAL"):
            return Effect(schema, _named(tokens), alters=True, changes=False, why=f"{word} INDEX")
    why = " ".join(words[:2])
    return Effect(schema, _named(tokens), alters=True, changes=True, why=why)


_MODIFIERS = frozenset(("OR", "REPLACE", "IF", "NOT", "EXISTS", "ONLINE", "OFFLINE", "IGNORE"))


def _named(tokens: list[tuple[str, str]]) -> tuple[str, ...]:
    """All that could be the name of a table."""
    return tuple(dict.fromkeys(value for kind, value in tokens if kind in ("name", "word")))
