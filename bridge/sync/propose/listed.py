"""What each column of the mirrored tables becomes, as rows of a table for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.sync.models import Entity
from bridge.sync.types.column import Column
from bridge.sync.types.typed import Typed

__all__ = ["COLUMNS", "listed"]

COLUMNS = {
    "entity": "Entity",
    "field": "Field",
    "column": "Column",
    "declared": "Declared",
    "document": "In the document",
    "misfit": "What does not fit",
    "key": "In the key",
    "note": "Note",
}
_MISFIT = {"text": "stays text", "null": "null", "dead": "dead letter"}


def listed(types: Typed, entity: Entity, zone: str | None) -> Iterator[dict[str, str]]:
    """A row for each field, and for key columns that are no field. zone: that of sync.yaml."""
    parts = {one.column.name: one for one in types.key}
    seen = set()
    for field, column in types.columns.items():
        seen.add(column.name)
        part = parts.get(column.name)
        rule = types.rules.get(field)
        said = entity.fields.get(field)
        row = dict.fromkeys(COLUMNS, "") | {
            "entity": types.entity,
            "field": field if said is None or said.as_ is None else said.as_,
            "column": column.name,
            "declared": _declared(column),
            "document": "dropped",
            "key": "" if part is None else part.kind.words,
        }
        if rule is not None and field not in entity.drop:
            row["document"] = rule.family.value
            if said is not None and said.type is not None:
                row["document"] = said.type
            row["misfit"] = _MISFIT[rule.misfit]
            # Of several types, what is said of them need not be of this one.
            alone = len(rule.family.types) == 1 or (column.type == "bigint" and column.unsigned)
            usual = rule.family.note if alone else ""
            row["note"] = "; ".join(_notes(field, entity, usual, column, zone, types))
        yield row
    for name, part in parts.items():
        if name not in seen:
            yield dict.fromkeys(COLUMNS, "") | {
                "entity": types.entity,
                "column": name,
                "declared": _declared(part.column),
                "key": part.kind.words,
            }


def _declared(column: Column) -> str:
    null = "" if column.nullable else "NOT NULL"
    return " ".join(filter(None, (column.declared, column.charset, null)))


def _notes(
    field: str, entity: Entity, usual: str, column: Column, zone: str | None, types: Typed
) -> Iterator[str]:
    said = entity.fields.get(field)
    if said is not None and said.text is not None:
        yield f"its bytes are {said.text.stored}"
    if said is not None and said.type is not None:
        yield "as sync.yaml says"
    elif (said is None or said.text is None) and usual:
        yield usual
    named = None if said is None else said.zone
    if types.table.dialect == "mysql" and column.type == "timestamp":
        yield f"PHP's texts in {named or zone or 'UTC, because no `zone` is given'}"
    elif named is not None:
        yield f"in {named}"
