"""Entities and the readers of their rows, without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bridge.sync.log.charsets import Charset, Charsets
from bridge.sync.log.rows import Reader
from bridge.sync.log.tables import Shape
from bridge.sync.models import Entity
from bridge.sync.types.column import Column, Table
from bridge.sync.types.typed import Typed, typed

__all__ = ["CHARSETS", "UTF8", "reader_of", "types_of"]

UTF8, LATIN1, UCS2 = 45, 8, 35
_LATIN1 = "".join(f"{bytes((one,)).decode('latin-1')}0\n" for one in range(256))
CHARSETS = Charsets(
    {
        **dict.fromkeys((UTF8, 46), Charset("utf8mb4", 4)),
        LATIN1: Charset("latin1", 1),
        UCS2: Charset("ucs2", 2),
    },
    lambda question: _LATIN1,
)


def types_of(
    declared: Sequence[Column],
    key: Sequence[str] = ("id",),
    *,
    name: str = "thing",
    fields: Mapping[str, Any] | None = None,
    **source: Any,
) -> tuple[Typed, Entity]:
    """An entity of a table with these columns."""
    place = {"table": "things", "key": list(key), "log": True, **source}
    made = {"collection": "things", "source": place, "fields": fields or {}}
    entity = Entity.model_validate(made)
    return typed(name, entity, Table("mysql", None, "things", tuple(declared)), None), entity


def reader_of(shape: Shape, types: Typed, entity: Entity) -> Reader:
    """Of the rows of a table as the log describes it."""
    assert entity.source is not None
    return Reader(shape, types, entity.source, CHARSETS)
