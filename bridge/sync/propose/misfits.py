"""What of sync.yaml does not fit the tables that it names, with its place in the file, for
`bridgectl check`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sql

from bridge.errors import Problem
from bridge.sync.models import Entity, File
from bridge.sync.types import catalog
from bridge.sync.types.column import Table
from bridge.sync.types.typed import misfits
from bridge.yamlfile import YamlFile, did_you_mean

__all__ = ["Checked", "check"]


@dataclass
class Checked:
    """tables: how many were looked at. errors: what cannot work. warnings: what is hardly meant."""

    tables: int = 0
    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check(connection: sql.Connection, file: File, yaml: YamlFile) -> Checked:
    """Everything that does not fit. Raises SQLAlchemy's errors."""
    found = Checked()
    for name, entity in file.entities.items():
        if entity.source is None or entity.source.table is None:
            continue
        here = ("entities", name)
        table = catalog.read(connection, entity.source.table)
        if table is None:
            hint = did_you_mean(entity.source.table, catalog.names(connection))
            text = f"the database has no table {entity.source.table}, or this user may not see it"
            where = (*here, "source", "table")
            found.errors.append(yaml.problem(where, text, hint or "grant SELECT on it"))
            continue
        found.tables += 1
        for wrong in misfits(name, entity, table):
            text = f"{table.full_name} {wrong.says}"
            found.errors.append(yaml.problem((*here, *wrong.where), text))
        for place, text, hint in _unknown_fields(entity, table):
            found.warnings.append(
                yaml.problem((*here, *place), text, hint, key=place[0] == "fields")
            )
    return found


def _unknown_fields(
    entity: Entity, table: Table
) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Fields that sync.yaml speaks of and no column of the table becomes."""
    assert entity.source is not None
    there = {*entity.source.columns, *entity.children}
    if not entity.source.columns:
        ours = {entity.source.version, entity.source.deleted}
        there |= {column.name for column in table.columns if column.name not in ours}
    spoken: list[tuple[tuple[str | int, ...], str]] = [
        (("fields", name), name) for name in entity.fields
    ]
    spoken += [(("drop", number), name) for number, name in enumerate(entity.drop)]
    for where, name in spoken:
        if name not in there:
            hint = did_you_mean(name, there) or f"there are: {', '.join(sorted(there))}"
            yield where, f"no column of {table.full_name} becomes `{name}`", hint
