"""The table of an entity with the rule of each of its columns. Pure.

`typed` puts a table and an entity of sync.yaml together, and says everything that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.sync.charsets import codec_of
from bridge.sync.models import Entity, FieldRule, Source
from bridge.sync.types.column import Column, Table
from bridge.sync.types.keys import KINDS, Unlookable, join, split
from bridge.sync.types.rules import Rule, Unknown, rule
from bridge.sync.types.stored import candidates, whole_first
from bridge.sync.types.wire import KeyColumn, key_column
from bridge.yamlfile import did_you_mean

__all__ = ["Misfit", "Typed", "misfits", "part_of_key", "typed"]


class Misfit(NamedTuple):
    """What of an entity does not fit its table. where: the place below the entity in sync.yaml.
    says: it follows the name of the table."""

    where: tuple[str, ...]
    says: str


@dataclass(frozen=True)
class Typed:
    """What is known of the rows of one entity.

    rows: the table, to select from. columns, rules: by field of the data. key: its
    columns, of `rows`.
    """

    entity: str
    table: Table
    rows: sql.FromClause
    columns: Mapping[str, Column]
    rules: Mapping[str, Rule]
    key: tuple[KeyColumn, ...]
    plain: re.Pattern[str] | None = None

    def canonical(self, key: str) -> str:
        """The key that the row has, of one that a producer wrote. Raises Unlookable."""
        if self.plain is not None and self.plain.fullmatch(key):
            return key
        parts = split(key, len(self.key))
        return join([column.canonical(part) for column, part in zip(self.key, parts, strict=True)])

    def key_like(self, field: str) -> KeyColumn | None:
        """The column of a field, to be asked for its values as for those of a key; None where they
        name no row."""
        column = self.columns.get(field)
        if column is None:
            return None
        for one in self.key:
            if one.column == column:
                return one
        return part_of_key(self.rows.c[column.name], self.table.dialect, column)

    def is_lookable(self, key: str) -> str:
        """Empty for a key that a row can have, else why none can."""
        try:
            found = self.canonical(key)
        except Unlookable as error:
            return str(error)
        return "" if found == key else f"a row with this key would be called {found!a}"


def typed(name: str, entity: Entity, table: Table, zone: str | None) -> Typed:
    """The rules of an entity's table.

    zone: of texts of TIMESTAMP, from sync.yaml.

    Raises BridgeError with everything that is wrong.
    """
    made, wrong = _fitted(name, entity, table, zone)
    if wrong:
        says = "; it ".join(one.says for one in wrong)
        raise BridgeError(
            f"entity {name}: {table.full_name} {says}. That is in sync.yaml under "
            f"`entities: {name}:`"
        )
    return made


def misfits(name: str, entity: Entity, table: Table) -> list[Misfit]:
    """Everything of an entity that does not fit its table."""
    return _fitted(name, entity, table, None)[1]


def _fitted(
    name: str, entity: Entity, table: Table, zone: str | None
) -> tuple[Typed, list[Misfit]]:
    source = entity.source
    assert source is not None
    wrong: list[Misfit] = []
    if source.log and table.elsewhere:
        text = f"{table.elsewhere}, and the log has its changes under the names of other tables, "
        text += "or not at all; name a table whose own rows they are, or leave `log` out"
        wrong.append(Misfit(("source", "table"), text))
    fields = _fields(source, table, wrong)
    rules: dict[str, Rule] = {}
    dropped = {*entity.drop, *entity.children}
    for field, column in fields.items():
        said = entity.fields.get(field)
        if said is not None and said.text is not None:
            _check_charset(field, column, said, wrong)
        # Only texts of TIMESTAMP are in the zone of whoever reads them.
        unzoned = said is None or (said.zone is None and said.type == "datetime")
        if unzoned and zone is not None and column.type == "timestamp":
            said = (said or FieldRule.model_validate({})).model_copy(update={"zone": zone})
        try:
            rules[field] = rule(column, table.dialect, said)
        except Unknown as error:
            if field not in dropped:
                text = f"has a column {column.name} of which {error}"
                wrong.append(Misfit(("source", "columns", field), text))
    rows = sql.table(
        table.name, *(sql.column(one.name) for one in table.columns), schema=table.schema
    ).alias()
    key: list[KeyColumn] = []
    for name_ in source.key:
        found = _known(table, name_, "key", wrong)
        if found is None:
            continue
        said = next((entity.fields.get(f) for f, one in fields.items() if one == found), None)
        made = part_of_key(rows.c[found.name], table.dialect, found, said)
        if made is None:
            text = f"has {found.name} in its key, and the database does not find a "
            text += f"{found.declared} again; name another key"
            wrong.append(Misfit(("source", "key"), text))
        elif source.log and found.type in ("float", "double"):
            text = f"has {found.name} in its key, and the log does not have the text of a "
            text += f"{found.declared}; name another key, or leave `log` out"
            wrong.append(Misfit(("source", "key"), text))
        else:
            key.append(made)
    return Typed(name, table, rows, fields, rules, tuple(key), _plain(key)), wrong


def _plain(key: Sequence[KeyColumn]) -> re.Pattern[str] | None:
    """What needs no parsing, because it would only be written again as it is."""
    parts = {"whole": r"(?:0|-?[1-9][0-9]{0,17})", "text": "[^/%\\ud800-\\udfff]*"}
    kinds = {id(KINDS[name]): name for name in parts}
    # SQLite's.
    stored: dict[Callable[[str], Any], str] = {whole_first: "whole", candidates: "text"}
    names = [
        stored.get(column.kind.parse) if column.dynamic else kinds.get(id(column.kind))
        for column in key
    ]
    if None in names:
        return None
    if names == ["text"]:
        return re.compile("[^\\ud800-\\udfff]*")
    return re.compile("/".join(parts[name] for name in names if name))


def part_of_key(
    reference: Any, dialect: str, column: Column, said: FieldRule | None = None
) -> KeyColumn | None:
    """A column of a key. None where its values name no row.

    reference, column: in a statement, and as the catalog has it.
    said: of its field in sync.yaml; only the character set matters, as types of fields are not
        types of keys.
    """
    only = FieldRule.model_validate({})
    if said is not None:
        only = only.model_copy(update={"text": said.text})
    try:
        return key_column(reference, column, rule(column, dialect, only), dialect)
    except Unknown:
        return None


def _fields(source: Source, table: Table, wrong: list[Misfit]) -> dict[str, Column]:
    if source.columns:
        found = {}
        for field, name in source.columns.items():
            if (column := _known(table, name, f"columns: {field}", wrong)) is not None:
                found[field] = column
        return found
    ours = {
        column.name
        for where, name in (("version", source.version), ("deleted", source.deleted))
        if name is not None and (column := _known(table, name, where, wrong)) is not None
    }
    found = {
        column.name: column
        for column in table.columns
        if not column.hidden and column.name not in ours
    }
    bad = [name for name in found if name[:1] in ("_", "$") or "." in name]
    if bad:
        text = f"has the column {bad[0]}, and a field cannot be named so: write under "
        text += "`source: columns:` the columns of the data, each with the name of its field"
        wrong.append(Misfit(("source", "table"), text))
    return found


def _known(table: Table, name: str, where: str, wrong: list[Misfit]) -> Column | None:
    if (found := table.column(name)) is not None:
        return found
    there = [column.name for column in table.columns]
    hint = did_you_mean(name, there) or "there are"
    text = f"has no column {name}; {hint} {', '.join(there)}. Write in sync.yaml under "
    text += f"`source: {where}:` one of these"
    wrong.append(Misfit(("source", *where.split(": ", 1)), text))
    return None


def _check_charset(field: str, column: Column, said: FieldRule, wrong: list[Misfit]) -> None:
    assert said.text is not None
    if (declared := said.text.column) is None:
        return
    really = column.charset or "binary"
    same = really == declared or (
        "binary" not in (really, declared) and codec_of(really) == codec_of(declared)
    )
    if not same:
        text = f"has {really} in the column of {field}, not {declared}"
        wrong.append(Misfit(("fields", field, "text", "column"), text))
