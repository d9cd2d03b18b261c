"""What `bridgectl relay` reads from, as it stands in sync.yaml.

Frozen models that forbid unknown keys; the file as a whole is `bridge.sync.entities`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bridge.units import DurationOrZero, Model, text

__all__ = ["ColumnValue", "Data", "OutboxTable", "SqlQueue"]

COLUMN = r"[^\0]{1,128}"
"""Any name that a database takes; those that need quotes get them."""
_NAME = re.compile(COLUMN)
PLAIN_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63})?")
_TABLE = re.compile(r"[^\0.]{1,128}(?:\.[^\0.]{1,128})?")
Identifier = Annotated[str, text(_NAME, "name of a column", "project_id")]
OurTable = Annotated[
    str, text(PLAIN_TABLE, "name of a table", "bridge_outbox or shop.bridge_outbox")
]
TableName = Annotated[str, text(_TABLE, "name of a table", "bridge_outbox or shop.bridge_outbox")]


class OutboxTable(Model):
    """The outbox table in the database of BRIDGE_SQL_URL.

    table: its name. source: path or URL that names the site in its events. keep: how long rows
    stay after MongoDB holds them; `0s` deletes them at once.
    """

    table: OurTable = "bridge_outbox"
    source: str = Field("/site", min_length=1)
    keep: DurationOrZero = 0.0


class ColumnValue(Model):
    """A value that stands in a column of the row.

    values: what the values of the column mean, for example {I: changed, D: deleted}.
    """

    column: Identifier
    values: dict[str | int, str] = Field(default_factory=dict)


class Data(Model):
    """The state of the entity: one of three.

    columns: field of the document to column of the row. json: a column that holds the state as
    a JSON object. query: a SELECT that gives the row of the entity, with `:key` in it; a column
    `ver` of it is the version where the queue has none.
    """

    columns: dict[str, Identifier] = Field(default_factory=dict)
    json_: Identifier | None = Field(None, alias="json")
    query: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Data:
        if sum(map(bool, (self.columns, self.json_, self.query))) != 1:
            raise ValueError("give one way to the state; write columns, json or query")
        if self.query is not None and ":key" not in self.query:
            raise ValueError("the query must ask for one entity; write … WHERE name = :key")
        return self


class SqlQueue(Model):
    """A queue table of the site's own, which is emptied into the outbox.

    table, id: the table and its primary key. where: which rows are waiting, as SQL; all if
    missing. entity, change, key, version: constants or columns. data: the state.
    done: `delete`, or the columns to set on a row that was taken.
    """

    table: TableName
    id: Identifier = "id"
    where: str = ""
    entity: str | ColumnValue
    change: Literal["changed", "deleted"] | ColumnValue = "changed"
    key: ColumnValue
    version: ColumnValue | None = None
    data: Data
    done: Literal["delete"] | dict[Identifier, str | int | float | bool | None] = "delete"

    @model_validator(mode="after")
    def _version_somewhere(self) -> SqlQueue:
        if self.version is not None:
            return self
        if self.data.query is None:
            raise ValueError(
                "a version is needed; name the column that holds it, or a query that selects ver"
            )
        if self.change != "changed":
            raise ValueError(
                "a deletion needs a version too, and no query finds it any more; "
                "name the column of the queue that holds the version"
            )
        return self

    @model_validator(mode="after")
    def _ends(self) -> SqlQueue:
        if self.done != "delete" and not (self.done and self.where):
            raise ValueError(
                "rows that stay would be taken again for ever; say which ones wait and what "
                "marks the others, for example `where: processed = 0`, `done: {processed: 1}`"
            )
        return self
