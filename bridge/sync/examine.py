"""The examination of what the mirror reads and writes, for `bridgectl doctor`: sources, outbox,
log, and the collections.

Only asks, never changes. Servers that do not answer at all are told by `bridge.doctor`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sql
from pymongo.errors import PyMongoError

from bridge.errors import BridgeError, ConfigError, ServerAway
from bridge.findings import Finding
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import connect as connect_sql
from bridge.queue.sql.database import reading
from bridge.queue.sql.outbox import Outbox
from bridge.settings import Settings
from bridge.sync import twins
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.log.findings import findings as log_findings
from bridge.sync.models import TWIN, Source
from bridge.sync.mongodb import connect
from bridge.sync.reconcile.results import read_all
from bridge.sync.sql.rows import Rows
from bridge.units import several

__all__ = ["collections", "log", "rights", "sources"]

PATIENCE = 3.0
"""Seconds for MongoDB."""
FEW = 1000
"""So many rows without a version are counted; of more it is said that they are more."""


def sources(engine: sql.Engine, mirror: Mirror) -> Iterator[Finding]:
    """Of every entity with a source: whether it can be read, whether its key names one row, and
    whether every row has a version."""
    for name, entity in mirror.entities.items():
        if entity.source is None:
            continue
        what, where = f"source of {name}", entity.source.table or "a query"
        wrong = False
        try:
            with reading(engine) as connection:
                rows = Rows(connection, mirror, name)
                for finding in _source(connection, rows, entity.source, what, where):
                    wrong = True
                    yield finding
        except BridgeError as error:
            yield Finding("bad", what, where, str(error), "see there")
        except sql.exc.SQLAlchemyError as error:
            cause = cause_of(error, engine.url)
            yield Finding("bad", what, where, f"the SQL database {cause.says}", cause.do)
        else:
            if not wrong:
                yield Finding("ok", what, where, "can be read; its key is unique")


def _source(
    connection: sql.Connection, rows: Rows, source: Source, what: str, where: str
) -> Iterator[Finding]:
    if source.table is not None and not _is_unique(connection, source.table, source.key):
        key = ", ".join(source.key)
        yield Finding(
            "bad",
            what,
            where,
            f"the key ({key}) is neither the primary key nor unique: two rows may be one document",
            f"write the primary key as `key:`, or ALTER TABLE {source.table} ADD UNIQUE ({key})",
        )
    if source.owner != "column":
        return  # beside the table none is NULL, and in the log neither
    lacking: sql.Select[Any] = sql.select(sql.literal_column("1")).select_from(rows.origin)
    some = lacking.where(rows.version.is_(None)).limit(FEW + 1).subquery()
    counted = sql.select(sql.func.count()).select_from(some)
    if found := int(connection.execute(counted).scalar_one()):
        many = several(min(found, FEW), "row has", "rows have")
        many = f"more than {many}" if found > FEW else many
        do = f"set {source.version} to 1 where it is NULL, and make the column NOT NULL"
        says = f"{many} no version: not mirrored"
        yield Finding("bad", what, where, says, do if source.table else "mend the query")


def _is_unique(connection: sql.Connection, table: str, key: Sequence[str]) -> bool:
    """Whether the database keeps two rows from having the same key. A view has no keys, and is
    given the benefit of the doubt."""
    with warnings.catch_warnings():
        # SQLAlchemy warns of types that it does not know, such as POINT.
        warnings.simplefilter("ignore", sql.exc.SAWarning)
        return _has_unique(connection, table, key)


def _has_unique(connection: sql.Connection, table: str, key: Sequence[str]) -> bool:
    schema, _, name = table.rpartition(".")
    inspector = sql.inspect(connection)
    place = {"schema": schema or None}
    if connection.dialect.name == "sqlite" and (sets := _sqlite_keys(connection, name)):
        return _covers(sets, key)
    try:
        sets = [inspector.get_pk_constraint(name, **place)["constrained_columns"]]
        sets += [one["column_names"] for one in inspector.get_unique_constraints(name, **place)]
        sets += [
            [str(column) for column in one["column_names"]]
            for one in inspector.get_indexes(name, **place)
            if one["unique"] and not one.get("dialect_options", {}).get("postgresql_where")
        ]
        if name in inspector.get_view_names(**place):
            return True
    except sql.exc.NoSuchTableError:
        return True  # `Rows` could read it
    return _covers(sets, key)


def _covers(sets: Sequence[Sequence[str]], key: Sequence[str]) -> bool:
    wanted = {column.casefold() for column in key}
    return any(one and {str(column).casefold() for column in one} <= wanted for one in sets)


def _sqlite_keys(connection: sql.Connection, table: str) -> list[list[str]]:
    """The sets of columns that are unique; SQLAlchemy does not see all that a column declares."""
    ask = "SELECT name, pk FROM pragma_table_info(:table)"
    columns = connection.execute(sql.text(ask), {"table": table})
    sets = [[name for name, number in columns if number]]
    ask = 'SELECT name FROM pragma_index_list(:table) WHERE "unique" AND NOT partial'
    for (index,) in connection.execute(sql.text(ask), {"table": table}).all():
        ask = "SELECT name FROM pragma_index_info(:index)"
        sets.append(list(connection.execute(sql.text(ask), {"index": index}).scalars()))
    return [one for one in sets if one and None not in one]


def rights(outbox: Outbox) -> Iterator[Finding]:
    """What of the outbox the relay may not do."""
    table = outbox.table
    never = sql.literal(1) == sql.literal(0)
    attempts = [
        table.insert().from_select(["ver"], sql.select(table.c.ver).where(never)),
        table.update().values(ver=table.c.ver).where(never),
        table.delete().where(never),
    ]
    for attempt in attempts:
        try:
            with outbox.engine.connect() as connection, connection.begin() as transaction:
                connection.execute(attempt)
                transaction.rollback()
        except sql.exc.SQLAlchemyError as error:
            cause = cause_of(error, outbox.engine.url)
            if cause.kind == "no right":
                verb = type(attempt).__name__.upper()
                do = cause.do.replace("GRANT SELECT", f"GRANT {verb}")
                yield Finding("bad", "outbox", table.fullname, f"the database {cause.says}", do)


def collections(settings: Settings) -> Iterator[Finding]:
    """Twins, and indexes that would refuse documents; nothing where MongoDB does not answer."""
    file = load(settings.sync)
    for one in twins.look(settings):
        do = "both are kept; where SQL has both for good, remove `unique: true` in sync.yaml"
        yield Finding(
            "note", "same unique value", file.entities[one.entity].collection, str(one), do
        )
    if not file.entities:
        return
    with connect(settings.mongodb_url, patience=1.0, answer=2.0) as client:
        database = client.get_default_database()
        for entity in file.entities.values():
            try:
                found = list(database[entity.collection].list_indexes())
            except PyMongoError:
                return
            for index in found:
                if index.get("unique") and TWIN not in index["key"]:
                    name = index["name"]
                    says = f"the unique index {name} is not the mirror's, and refuses documents"
                    do = (
                        f'db["{entity.collection}"].dropIndex("{name}"), and write it in sync.yaml '
                        "under `indexes:` as {fields: […], unique: true}"
                    )
                    yield Finding("bad", "MongoDB", entity.collection, says, do)


def log(settings: Settings) -> Iterator[Finding]:
    """The database's own log, where sync.yaml names it as a source. What is wrong with sync.yaml,
    and servers that do not answer, were told before."""
    try:
        entities = load(settings.sync).entities
    except ConfigError:
        return
    if not settings.uses_mongodb:
        return
    if not settings.sql_url:
        if any(one.source is not None and one.source.log for one in entities.values()):
            do = "set BRIDGE_SQL_URL to the site's database"
            yield Finding("bad", "database's log", "BRIDGE_SQL_URL", "not set", do)
        return
    engine = connect_sql(settings.sql_url)
    try:
        with connect(settings.mongodb_url, patience=PATIENCE) as client:
            options = client.codec_options.with_options(tz_aware=True)
            database = client.get_default_database(codec_options=options)
            since = {one.entity: one.age + one.seconds for one in read_all(database) if one.deep}
            yield from log_findings(engine, database, entities, since)
    except (sql.exc.SQLAlchemyError, ServerAway):
        return
    except BridgeError as error:
        yield Finding("bad", "database's log", "", str(error), "see there")
    finally:
        engine.dispose()
