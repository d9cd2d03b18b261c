"""Giving the versions of an entity to another owner: the database's log, triggers, or a column.

Of two documents the higher version wins, whoever gave it. So what the new owner gives must be above
all that MongoDB has, or its changes are dropped without a word. What sync.yaml says is the owner;
here is looked whether that is so, and the owner is raised above where that can be done without
touching the site's own tables. Nothing here edits sync.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sql
from pymongo.database import Database

from bridge.errors import BridgeError
from bridge.queue.sql.database import reading
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.follow import end_of_log
from bridge.sync.log.kept import KeptLog
from bridge.sync.log.position import LAST_ROW, Position, position_of_version, version
from bridge.sync.log.wanted import of_the_log
from bridge.sync.models import Source
from bridge.sync.mongodb import majority, outages
from bridge.sync.sql import versions
from bridge.sync.sql.learn import learn
from bridge.sync.sql.rows import as_bridge_error
from bridge.sync.triggers.noted import quote
from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.typed import Typed

__all__ = ["To", "Transfer", "transfer"]

To = Literal["log", "triggers", "column"]

_OWNERS = {"log": "log", "triggers": "beside", "column": "column"}
_WRITE = {
    "log": "write `log: true` and leave `version:` out",
    "triggers": "leave both `log:` and `version:` out, or write `log: compare`",
    "column": "leave `log:` out, or write `log: compare`, and write the column as `version:`",
}
_LARGE = frozenset({"bigint", "int8"})


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far it is. highest: the highest version in MongoDB. gives: the lowest that the owner will
    give; None where it gives none yet. did: what was done. write: what to write in sync.yaml first.
    statements: for the database of the site, in this order. then: what to do next.
    """

    entity: str
    to: To
    highest: int
    gives: int | None = None
    did: str = ""
    write: str = ""
    statements: tuple[str, ...] = ()
    then: str = ""

    @property
    def is_done(self) -> bool:
        """Whether everything that the owner gives wins."""
        return not self.write and self.gives is not None and self.gives > self.highest


def transfer(
    engine: sql.Engine,
    url: str,
    database: Database[Document],
    mirror: Mirror,
    entity: str,
    to: To,
    *,
    dry: bool,
) -> Transfer:
    """See to it that the owner whom sync.yaml names gives versions above all in MongoDB.

    engine, url: of the site's database.
    entity, to: whose versions, and who is to give them.
    dry: only look.

    Raises BridgeError for an entity that cannot have this owner, or while the old one still
    writes, and ServerAway.
    """
    source = mirror.entities[entity].source
    if source is None or source.table is None or entity in mirror.parent_of:
        raise BridgeError(
            f"entity {entity} has no table of its own in sync.yaml: only rows of a table can have "
            "another owner of their versions; children have that of their parent"
        )
    found = Transfer(entity, to, _highest(database, mirror.collection_of(entity)))
    if source.owner != _OWNERS[to]:
        return Transfer(
            entity,
            to,
            found.highest,
            write=f"under `entities: {entity}: source:` {_WRITE[to]}",
            then=f"start worker, relay and capture again, and run "
            f"`bridgectl sync owner {entity} --to {to}` once more",
        )
    kept = KeptLog(database)
    try:
        if to == "log":
            return _to_log(url, kept, mirror, found, dry=dry)
        if not dry and not kept.leave(entity):
            raise BridgeError(
                f"the process that reads the log still writes {entity}: start `bridgectl capture` "
                "again, so that it reads sync.yaml, and run this once more"
            )
        if to == "triggers":
            return _to_triggers(engine, found, dry=dry)
        return _to_column(engine, mirror, source, found)
    except sql.exc.SQLAlchemyError as error:
        told = as_bridge_error(error, entity, engine)
        if told is None:
            raise
        raise told from error


def _highest(database: Database[Document], collection: str) -> int:
    """Of all documents, tombstones included; 0 where there are none."""
    numbers = {"_v": {"$type": ["int", "long"]}}
    with outages():
        found = majority(database, collection).find(numbers, {"_v": 1}).sort("_v", -1).limit(1)
        return max([0, *(int(one["_v"]) for one in found)])


# To the log.


def _to_log(url: str, kept: KeptLog, mirror: Mirror, found: Transfer, *, dry: bool) -> Transfer:
    position = kept.read().position
    end = end_of_log(url, 1 if position is None else position.epoch)
    gives = version(end.epoch, end.sequence, LAST_ROW)
    then = f"`bridgectl capture` runs, or is started; then `bridgectl snapshot {found.entity}`"
    if gives > found.highest:
        return _of(found, gives, then=then)
    epoch = position_of_version(found.highest)[0] + 1
    try:
        gives = version(epoch, end.sequence, LAST_ROW)
    except BridgeError as error:
        raise BridgeError(
            f"entity {found.entity}: MongoDB has a document of version {found.highest}, and the "
            f"log can give none above it ({error}): delete the documents of such versions by hand, "
            "and run this again"
        ) from None
    if dry:
        return _of(found, gives, f"epoch {epoch} would begin", then=then)
    if position is None:
        begun = kept.begin(
            Position(**{**_fields(end), "epoch": epoch}), of_the_log(mirror.entities)
        )
    else:
        begun = kept.raise_epoch(position, epoch)
    if not begun:
        raise BridgeError("another process has changed the place in the log: run this again")
    return _of(found, gives, f"epoch {epoch} begins, whose versions are above", then=then)


def _fields(position: Position) -> dict[str, Any]:
    return {name: getattr(position, name) for name in Position.__dataclass_fields__}


# From the log.


def _to_triggers(engine: sql.Engine, found: Transfer, *, dry: bool) -> Transfer:
    entity, then = found.entity, f"`bridgectl snapshot {found.entity}`"
    with engine.begin() as connection:
        base = None
        if sql.inspect(connection).has_table("bridge_versions"):
            base = versions.base_of(connection, entity)
        if base is None:
            return _of(found, None, then=f"`bridgectl sync triggers {entity} --apply`, and this")
        if base > found.highest:
            return _of(found, base, then=then)
        if dry:
            return _of(found, found.highest + 1, "its versions would be raised", then=then)
        raised = versions.raise_base(dialect_of(connection), entity, anew=True, above=found.highest)
        plain = connection.execution_options(no_parameters=True)
        plain.exec_driver_sql(raised)
        base = versions.base_of(connection, entity)
    return _of(found, base, "its versions were raised", then=then)


def _to_column(engine: sql.Engine, mirror: Mirror, source: Source, found: Transfer) -> Transfer:
    entity = found.entity
    with reading(engine) as connection:
        types = learn(connection, mirror, entity)
        assert types is not None
        assert source.version is not None
        column = types.table.column(source.version)
        assert column is not None
        reference = types.rows.c[column.name]
        asked = sql.select(sql.func.min(reference), sql.func.count(), sql.func.count(reference))
        [(lowest, rows, with_version)] = connection.execute(asked.select_from(types.rows))
    gives = found.highest + 1 if not rows else int(lowest or 0)
    if with_version == rows and gives > found.highest:
        then = f"start worker and relay again; then `bridgectl snapshot {entity}`"
        if not rows:
            then = f"rows that come must begin above {found.highest}; {then}"
        return _of(found, gives, then=then)
    least = 0 if with_version < rows else int(lowest)
    return Transfer(
        entity,
        found.to,
        found.highest,
        least,
        statements=_raising(types, source.version, found.highest, least),
        then="run these, and this once more. Code that inserts rows with a version of its own, "
        "such as 1, has to begin above, too",
    )


def _raising(types: Typed, version_: str, highest: int, lowest: int) -> tuple[str, ...]:
    """What raises all rows above, and those that come."""
    column = types.table.column(version_)
    assert column is not None
    table = quote(types.table.dialect, types.table.schema, types.table.name)
    name = quote(types.table.dialect, column.name)
    more = highest + 1 - lowest
    update = f"UPDATE {table} SET {name} = COALESCE({name}, 0) + {more}"  # noqa: S608
    if types.table.dialect == "sqlite":
        return (update,)  # every whole number has 64 bits; a default cannot be changed
    kind = f"ALTER COLUMN {name} TYPE BIGINT"
    if types.table.dialect == "mysql":
        kind = f"MODIFY {name} BIGINT" + ("" if column.nullable else " NOT NULL")
    wider = [] if column.type in _LARGE else [f"ALTER TABLE {table} {kind}"]
    default = f"ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {highest + 1}"
    return (*wider, update, default)


def _of(found: Transfer, gives: int | None, did: str = "", *, then: str = "") -> Transfer:
    return Transfer(found.entity, found.to, found.highest, gives, did, then=then)
