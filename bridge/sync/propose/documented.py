"""The table of rules in docs/sync-yaml.md. Pure; `bridgectl schema types` prints it."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.sync.types.keys import KINDS
from bridge.sync.types.rules import RULES, Family

__all__ = ["BEGIN", "END", "between", "table"]

BEGIN = "<!-- bridgectl schema types -->"
END = "<!-- the end of the types -->"

_DATABASES = {"mysql": "MariaDB, MySQL", "postgresql": "PostgreSQL", "sqlite": "SQLite"}
_REFUSED = "refused; `drop:` it, or select it as text in a `query:`"
_KEYS = {
    "": "cannot be in a key",
    "stored": "as it is stored; bytes as lower-case hexadecimal",
    "utc": f"{KINDS['printed'].words}, in UTC",
}


def table() -> str:
    """Markdown, with a last newline."""
    return "\n".join(_lines()) + "\n"


def between(text: str) -> str:
    """What stands between the two marks of a page. Raises ValueError where they are missing."""
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    return text[start:end].strip("\n") + "\n"


def _lines() -> Iterator[str]:
    for dialect, name in _DATABASES.items():
        yield f"| {name} | in the document | in a key | |"
        yield "|---|---|---|---|"
        for family in RULES:
            if family.dialect == dialect:
                cells = (_types(family), family.value, _key(family), family.note)
                yield "| " + " | ".join(one.replace("|", "\\|") for one in cells) + " |"
        if not any(one.types == ("…",) for one in RULES if one.dialect == dialect):
            yield f"| every other type, geometry too | {_REFUSED} | {_KEYS['']} | |"
        yield ""


def _types(family: Family) -> str:
    if family.types == ("…",):
        return "every other type"
    if family.types == ("",):
        return "no type"
    return ", ".join(f"`{one}`" for one in family.types)


def _key(family: Family) -> str:
    return _KEYS[family.key] if family.key in _KEYS else KINDS[family.key].words
