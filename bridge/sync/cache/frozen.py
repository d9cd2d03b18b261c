"""Documents that nobody can damage: what the cache hands out to many readers at once.

Pure. An object becomes a read-only mapping, a list becomes a tuple, at every depth. Of the
mirror's own fields only `_id` and `_v` are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof, intern
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["NEVER", "Document", "Frozen", "freeze", "thaw", "version_of"]

Document = Mapping[str, Any]
"""Read-only; `dict(document)` or `thaw(document)` is a copy to change."""

NEVER = -1
"""The version of what is not there, or was not written by the bridge."""

# Shared by every document, or there once however often it is used.
_SHARED = (bool, type(None))
_OF_THE_SITE = ("_id", "_v")


class Frozen(NamedTuple):
    """document: None for one that is not there. version: NEVER, or that of the document or its
    tombstone. size: bytes of memory that it takes by itself."""

    document: Document | None
    version: int
    size: int


def freeze(found: Mapping[str, Any] | None) -> Frozen:
    """What MongoDB holds, as readers get it; a tombstone is no document, but has a version."""
    version = version_of(found)
    if found is None or found.get("_del") is True:
        return Frozen(None, version, 0)
    kept = {name: value for name, value in found.items() if name[:1] != "_" or name in _OF_THE_SITE}
    document, size = _object(kept)
    return Frozen(document, version, size)


def thaw(value: Any) -> Any:
    """A copy in plain dicts and lists, for `json.dumps` and for changes."""
    if isinstance(value, Mapping):
        return {name: thaw(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [thaw(inner) for inner in value]
    return value


def version_of(found: Mapping[str, Any] | None) -> int:
    """`_v` of a document, NEVER where there is none."""
    version = None if found is None else found.get("_v")
    return version if isinstance(version, int) else NEVER


def _object(value: Mapping[str, Any]) -> tuple[Document, int]:
    plain: dict[str, Any] = {}
    size = 0
    for name, inner in value.items():
        # Documents of one kind have the same names; interned, they are in memory once.
        frozen, bytes_ = _value(inner)
        plain[intern(name)] = frozen
        size += bytes_
    document = MappingProxyType(plain)
    return document, size + getsizeof(plain) + getsizeof(document)


def _value(value: Any) -> tuple[Any, int]:
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple):
        members = [_value(inner) for inner in value]
        frozen = tuple(member for member, _ in members)
        return frozen, getsizeof(frozen) + sum(size for _, size in members)
    return value, 0 if isinstance(value, _SHARED) else getsizeof(value)
