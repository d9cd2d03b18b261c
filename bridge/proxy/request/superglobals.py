"""What `$_GET` and `$_COOKIE` hold for a request: conditions of routes read what PHP reads.

Pure, after php_variables.c of PHP 8. An array's name maps to None: that it is there is all that
a condition can ask of it. Bytes that are no UTF-8 are kept as surrogate escapes, so they equal
nothing that a configuration can say.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

__all__ = ["Values", "php_name", "read_cookies", "read_query"]

Values = Mapping[str, str | None]

_MOST = 1000  # max_input_vars: PHP reads no more
_DEEPEST = 64  # max_input_nesting_level: PHP drops what is deeper
_SPACE = " \t\n\v\f\r"
_TO_UNDERSCORE = str.maketrans(" .[", "___")
_GUARDED = ("__Host-", "__Secure-")


def read_query(query: str) -> Values:
    """`$_GET` of a raw query, which is Latin-1 text: the last of several equal names wins."""
    found: dict[str, str | None] = {}
    count = 0
    for pair in query.split("&"):
        if not pair:
            continue
        count += 1
        if count > _MOST:
            break
        name, _, value = pair.partition("=")
        read = _name(_text(name.replace("+", " ")))
        if read is None:
            continue
        key, depth = read
        if depth > _DEEPEST:
            found.pop(key, None)
        else:
            found[key] = None if depth else _text(value.replace("+", " "))
    return found


def read_cookies(header: str) -> Values:
    """`$_COOKIE` of a Cookie header, which is Latin-1 text: the first of several equal names
    wins, and names are not decoded."""
    found: dict[str, str | None] = {}
    count = 0
    for pair in header.split(";"):
        name, _, value = pair.lstrip(_SPACE).partition("=")
        if not name:
            continue
        count += 1
        if count > _MOST:
            break
        read = _name(name.encode("latin-1", "replace").decode("utf-8", "surrogateescape"))
        if read is None:
            continue
        key, depth = read
        if depth > _DEEPEST:
            found.pop(key, None)
        elif depth:
            found[key] = None
        else:
            found.setdefault(key, _text(value))
    return found


def php_name(name: str) -> str | None:
    """The key that PHP has a value under whose name is `name`; None for an array's and for one
    that PHP drops."""
    read = _name(name)
    return read[0] if read and not read[1] else None


def _name(name: str) -> tuple[str, int] | None:
    """The key at the top, and how many levels of arrays are below it."""
    name = name.partition("\0")[0].lstrip(" ")
    key, bracket, rest = name.partition("[")
    if not key:
        return None
    depth = 0
    if bracket:
        if "]" in rest:
            depth = _depth(rest)
        else:  # no index after all
            key = f"{key}_{rest}"
    key = key.translate(_TO_UNDERSCORE)
    if key.startswith(_GUARDED) and not name.startswith(_GUARDED):
        return None  # a name that only looks like one which browsers guard
    return key, depth


def _depth(rest: str) -> int:
    """How many indices there are from here on, each in its brackets; `rest` is after the first
    of them."""
    depth = 0
    while True:
        depth += 1
        closed = rest.find("]")
        if closed < 0 or rest[closed + 1 : closed + 2] != "[":
            return depth
        rest = rest[closed + 2 :]


def _text(raw: str) -> str:
    return unquote_to_bytes(raw.encode("latin-1", "replace")).decode("utf-8", "surrogateescape")
