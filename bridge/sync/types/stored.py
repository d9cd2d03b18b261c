"""Keys of SQLite, which keeps a value of any type in any column: one text may be several values.
Pure."""

from __future__ import annotations

import re
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.sync.types.keys import Unlookable

__all__ = ["candidates", "number_first", "text_of_any", "whole_first"]

_MOST = 1e15
"""From here on SQLite prints a REAL with an exponent, and with fewer digits than it has."""


def text_of_any(found: Any) -> str:
    """The text of a key. Raises UndecodableMessage for a number that SQLite prints otherwise."""
    if isinstance(found, bytes):
        return found.hex()
    if isinstance(found, float) and (
        "e" in (text := repr(found)) or not abs(found) < _MOST or float(f"{found:.15g}") != found
    ):
        raise UndecodableMessage(f"a key column holds {text}, which SQLite prints otherwise")
    return str(found)


def candidates(text: str) -> list[Any]:
    """The values whose text this is, the most likely one first."""
    found: list[Any] = [text]
    if not _PERHAPS.fullmatch(text):
        return found
    if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        found.append(int(text))
    if _REAL.fullmatch(text) and repr(float(text)) == text:
        found.append(float(text))
    if len(text) % 2 == 0 and _HEX.fullmatch(text):
        found.append(bytes.fromhex(text))
    return found


def whole_first(text: str) -> list[Any]:
    """Of a column that makes whole numbers of texts that are some."""
    if _DIGITS.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return [int(text)]
    return number_first(text)


def number_first(text: str) -> list[Any]:
    """Of a column that keeps numbers as they are. Raises Unlookable for one that SQLite prints
    otherwise, for then the row of this text may be there all the same."""
    if _PRINTED.fullmatch(text) and ("e" in text or not abs(float(text)) < _MOST):
        raise Unlookable("SQLite prints this number otherwise")
    return candidates(text)


_DIGITS = re.compile(r"[+-]?[0-9]{1,40}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_REAL = re.compile(r"-?[0-9]{1,16}\.[0-9]{1,16}")
_PRINTED = re.compile(r"-?[0-9]{1,400}\.[0-9]{1,400}(?:e[+-][0-9]{1,3})?")
_PERHAPS = re.compile(r"[0-9a-f.-]*")  # a number or bytes; most texts are none
_HEX = re.compile(r"[0-9a-f]*")
