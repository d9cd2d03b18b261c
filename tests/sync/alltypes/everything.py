"""A database with a table of every type: what the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bson
import sqlalchemy as sql

from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.sync.documents import Mirror
from bridge.sync.models import File
from tests.sync.alltypes import types_of_mysql, types_of_postgresql, types_of_sqlite
from tests.sync.alltypes.all_types import Declared, Laid, in_tables, lay
from tests.sync.alltypes.exceptions import REFUSED, Differs
from tests.sync.alltypes.producers import Refused, Site
from tests.sync.log.reading import Place, end_of

__all__ = ["Everything", "columns_of", "differences", "documents", "same", "with_every_type"]


@dataclass(frozen=True)
class Everything:
    """A database with all types in it. columns: all of them. many: in all of their forms. began:
    where in its log it was filled, if it has one."""

    site: Site
    tables: list[Laid]
    columns: list[Declared]
    many: bool = True
    began: Place | None = None

    def mirror(self, zone: str | None = None) -> Mirror:
        """An entity for each table. zone: in which PHP's texts of TIMESTAMP are."""
        entities = {
            one.name: {"collection": one.name, "source": one.source()} for one in self.tables
        }
        return Mirror(File.model_validate({"version": 1, "zone": zone, "entities": entities}))


@contextmanager
def with_every_type(dialect: str, url: str, many: bool) -> Iterator[Everything]:
    """The database of this URL, which is empty, with every type and its borders. many: in all
    lengths and character sets."""
    engine = connect(url)
    began = end_of(engine) if dialect == "mysql" else None
    with engine.begin() as connection:
        columns, setup, after = columns_of(connection, dialect)
        columns = [one for one in columns if many or one.common]
        for statement in setup:
            connection.exec_driver_sql(statement)
        tables = [
            lay(connection, f"t{number}", some, after)
            for number, some in enumerate(in_tables(columns, 60))
        ]
    engine.dispose()  # with what was set for the session
    yield Everything(Site(engine, dialect, setup), tables, columns, many, began)
    engine.dispose()


def columns_of(
    connection: sql.Connection, dialect: str
) -> tuple[list[Declared], tuple[str, ...], str]:
    """All of a database's columns, what a session says first, and the options of a table."""
    if dialect == "mysql":
        charsets = [
            (str(row[0]), str(row[1]))
            for row in connection.exec_driver_sql(
                "SELECT character_set_name, default_collate_name "
                "FROM information_schema.character_sets WHERE character_set_name <> 'binary'"
            )
        ]
        setup = ("SET sql_mode = 'ALLOW_INVALID_DATES'", "SET time_zone = '+00:00'")
        return list(types_of_mysql.columns(charsets)), setup, " ROW_FORMAT=DYNAMIC"
    if dialect == "postgresql":
        if "mood" not in types_of_postgresql.types_of_server(connection):
            for statement in types_of_postgresql.FIRST:
                connection.exec_driver_sql(statement)
        kinds = types_of_postgresql.types_of_server(connection)
        return list(types_of_postgresql.columns(kinds)), (), ""
    return list(types_of_sqlite.columns()), (), ""


def documents(mirror: Mirror, events: Iterable[Event]) -> dict[tuple[str, str], dict[str, Any]]:
    """By entity and key, as BSON gives them back."""
    return {
        event.identity: bson.decode(bson.encode(mirror.prepare(event).own.document))
        for event in events
    }


def same(one: Any, other: Any) -> bool:
    """Whether MongoDB would hold the same bytes."""
    return bson.encode({"value": one}) == bson.encode({"value": other})


def differences(
    everything: Everything,
    way: str,
    expected: Mapping[tuple[str, str], Mapping[str, Any]],
    found: Mapping[tuple[str, str], Mapping[str, Any]],
    refused: Refused,
) -> list[Differs]:
    """What is another value in the documents of a way than in those of the snapshot."""
    assert found.keys() == expected.keys()
    wrong = []
    for table in everything.tables:
        for row in range(1, table.rows + 1):
            document, other = expected[table.name, str(row)], found[table.name, str(row)]
            assert (other["_id"], other["_v"], other["id"]) == (str(row), row, row)
            for name, column in table.columns.items():
                is_refused = (table.name, str(row), name) in refused
                there = REFUSED if is_refused else other[name]
                if not same(there, document[name]):
                    literal, dialect = table.literal(name, row), everything.site.dialect
                    wrong.append(Differs(dialect, way, column, literal, document[name], there))
    return wrong
