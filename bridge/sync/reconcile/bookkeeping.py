"""The fields of a document that are the mirror's own: what they may be. Pure.

Everything with `_` in front that is not named here does not belong into a document.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bson.datetime_ms import DatetimeMS

from bridge.sync.checksums import NO_VERSION, version_in
from bridge.sync.documents import Document
from bridge.sync.models import TWIN

__all__ = ["SAID", "is_moment", "may_have", "tombstone_fault"]

SAID = frozenset({"_id", "_v", "_parent"})
"""What the event says, and what is compared with it."""

TOMBSTONE = frozenset({"_id", "_v", "_del", "_at"})
"""What a tombstone has; of a child `_parent`, too."""

AHEAD = timedelta(days=1)
"""So far the clocks of MongoDB and of this machine may be apart."""


def is_moment(value: Any) -> bool:
    """Whether a value is a date of BSON, of whatever year."""
    return isinstance(value, datetime | DatetimeMS)


def may_have(document: Document, name: str) -> bool:
    """Whether a document that is alive may have this field, of those that no event says."""
    if name == "_at":
        return True
    # As long as another document has the same value of a unique index.
    return name == TWIN and document[name] == document["_id"]


def tombstone_fault(document: Document, *, child: bool, now: datetime) -> str:
    """What is wrong with a tombstone, in words; empty where nothing is. now: with its zone."""
    if document.get("_del") is not True:
        return "_del holds true in a list, and is not true"
    allowed = TOMBSTONE | {"_parent"} if child else TOMBSTONE
    for name in document:
        if name not in allowed:
            return f"it still has {name}, and a tombstone keeps nothing of the document"
    if version_in(document) == NO_VERSION:
        return "its _v is no version, so nothing newer may win over it"
    if "_parent" in document and not isinstance(document["_parent"], str):
        return "its _parent is no text"
    at = document.get("_at")
    if not is_moment(at):
        return "its _at is no moment, so MongoDB never removes it"
    if _milliseconds(at) > _milliseconds(now + AHEAD):
        return "its _at is in the future, so MongoDB removes it much too late"
    return ""


def _milliseconds(moment: Any) -> int:
    if isinstance(moment, DatetimeMS):
        return int(moment)
    return int(moment.replace(tzinfo=UTC).timestamp() * 1000)
