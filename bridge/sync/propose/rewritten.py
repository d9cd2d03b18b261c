"""Which documents `bridgectl snapshot --rewrite` would change, and how: by field, old type and
new type. For who has changed sync.yaml, and for who upgrades.

Only reads. A document whose version is not that of its row is counted apart: it changes by its
event, whatever is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import bson
import sqlalchemy as sql
from bson.codec_options import CodecOptions
from bson.decimal128 import Decimal128
from pymongo.database import Database

from bridge.errors import UnusableEvent
from bridge.sync.documents import Document, Mirror, Write
from bridge.sync.log.progress import Progress
from bridge.sync.mongodb import outages
from bridge.sync.reconcile.contents import differences
from bridge.sync.sql.source import SqlSource
from bridge.sync.types.keys import Unlookable

__all__ = ["COLUMNS", "Rewritten", "TypeChange", "rewritten", "summary"]

ROWS_PER_STEP = 1000
"""Rows of one read."""
_ONCE = datetime(2000, 1, 1, tzinfo=UTC)
"""Documents end with a time, which is not compared."""
SHOWN = 40
"""Characters of an example."""
COLUMNS = {
    "entity": "Entity",
    "field": "Field",
    "was": "Was",
    "becomes": "Becomes",
    "documents": "Documents",
    "key": "For example",
    "before": "Before",
    "after": "After",
}

_NAMES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "double",
    str: "text",
    bytes: "binary",
    dict: "object",
    list: "list",
    Decimal128: "decimal",
    type(None): "null",
}


@dataclass
class TypeChange:
    """One field that changes from one type to another. documents: how many. key, before, after:
    the first one."""

    field: str
    was: str
    becomes: str
    documents: int
    key: str
    before: str
    after: str


@dataclass
class Rewritten:
    """What would become of the documents of one entity. rows: looked at, of a child those of its
    parent. all: whether these were all. same: documents that stay as they are; changed: that would
    be replaced; missing: not there; other: of another version; unusable: rows or events that make
    no document. old_keys: documents under a key that is written otherwise now; old_key: one of
    them."""

    entity: str
    rows: int = 0
    all: bool = False
    same: int = 0
    changed: int = 0
    missing: int = 0
    other: int = 0
    unusable: int = 0
    old_keys: int = 0
    old_key: str = ""
    changes: dict[tuple[str, str, str], TypeChange] = field(default_factory=dict)


def rewritten(
    engine: sql.Engine,
    database: Database[Document],
    mirror: Mirror,
    name: str,
    rows: int,
    progress: Callable[[int], None] = lambda count: None,
) -> list[Rewritten]:
    """Of rows of the entity `name`, and of its children.

    rows: the first so many, 0 for all.
    progress: is told how many were looked at.

    Raises BridgeError when its source does not fit, ServerAway.
    """
    said = mirror.entities[name].source
    in_log = said is not None and said.owner == "log"
    reading = Progress(database, engine, name).reading if in_log else None
    source = SqlSource(engine, name, mirror, rewrite=True, reading=reading)
    children = [child.entity for child in mirror.entities[name].children.values()]
    found = {
        mirror.collection_of(entity): Rewritten(entity)
        for entity in dict.fromkeys((name, *children))
    }
    own, position = found[mirror.collection_of(name)], None
    while not rows or own.rows < rows:
        size = ROWS_PER_STEP if not rows else min(ROWS_PER_STEP, rows - own.rows)
        chunk = source.chunk(position, size)
        own.rows += chunk.rows
        own.unusable += len(chunk.bad)
        writes: list[Write] = []
        for event in chunk.events:
            try:
                prepared = mirror.prepare(event)
            except UnusableEvent:
                own.unusable += 1
                continue
            writes += [prepared.own, *prepared.children]
        for collection, one in found.items():
            these = [write for write in writes if write.collection == collection]
            _compare(database, one, these, in_log=in_log)
        progress(own.rows)
        position = chunk.last
        if chunk.rows < size or position is None:
            for one in found.values():
                one.all = True
            break
    for one in found.values():
        one.rows = own.rows
        _look_at_keys(database, mirror, one, rows)
    return list(found.values())


def _look_at_keys(database: Database[Document], mirror: Mirror, into: Rewritten, rows: int) -> None:
    """Count the documents that a snapshot leaves where they are, because no row is called so."""
    collection = database[mirror.collection_of(into.entity)]
    alive = collection.find({"_del": {"$ne": True}}, {"_id": True}).limit(rows)
    with outages():
        for document in alive:
            key = document["_id"]
            if not isinstance(key, str):
                continue
            try:
                now = mirror.key_of(into.entity, key)
            except Unlookable:
                now = ""
            if now != key:
                into.old_keys += 1
                into.old_key = into.old_key or key


def _compare(
    database: Database[Document], into: Rewritten, writes: Sequence[Write], *, in_log: bool
) -> None:
    """in_log: whether rows say nothing of their versions."""
    if not writes:
        return
    keys = [write.key for write in writes]
    options: CodecOptions[Document] = CodecOptions(tz_aware=False)
    with outages():
        collection = database.get_collection(writes[0].collection, codec_options=options)
        there = {one["_id"]: one for one in collection.find({"_id": {"$in": keys}})}
    for write in writes:
        old = there.get(write.key)
        if old is None or old.get("_del"):
            into.missing += 1
        elif (old.get("_v") != write.version and not in_log) or write.document.get("_del"):
            into.other += 1
        else:
            _document(into, write, old)


def _document(into: Rewritten, write: Write, old: Document) -> None:
    try:
        new: Document = bson.decode(bson.encode(write.document))
    except (bson.errors.BSONError, OverflowError, UnicodeError):
        into.unusable += 1
        return
    changed = False
    for name in dict.fromkeys((*new, *old)):
        if name.startswith("_"):
            continue
        pair = [{name: one[name]} if name in one else {} for one in (new, old)]
        now, before = (bson.encode({**side, "_at": _ONCE}) for side in pair)
        if not differences(now, before):
            continue
        changed = True
        was, becomes = _kind(old, name), _kind(new, name)
        change = into.changes.get((name, was, becomes))
        if change is None:
            change = TypeChange(
                name, was, becomes, 0, write.key, _shown(old, name), _shown(new, name)
            )
            into.changes[name, was, becomes] = change
        change.documents += 1
    into.changed += changed
    into.same += not changed


def _kind(document: Document, name: str) -> str:
    if name not in document:
        return "nothing"
    value = document[name]
    words = (word for kind, word in _NAMES.items() if isinstance(value, kind))
    return next(words, type(value).__name__)


def _shown(document: Document, name: str) -> str:
    if name not in document:
        return ""
    value: Any = document[name]
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def summary(found: Rewritten) -> str:
    """In words, for one line."""
    if not found.rows:
        return f"{found.entity}: no rows"
    seen = "" if found.all else f", of the first {found.rows:,} rows"
    said = [f"{found.changed:,} documents would change, {found.same:,} stay"]
    for count, words in (
        (found.missing, "are not there"),
        (found.other, "have another version"),
        (found.unusable, "rows make no document"),
        (found.old_keys, f"stay under a key that no row has now, such as {found.old_key!a}"),
    ):
        if count:
            said.append(f"{count:,} {words}")
    return f"{found.entity}: {', '.join(said)}{seen}"
