"""What the rows of one source are: its columns, checked against the database, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.queue.database import short
from bridge.sync.models import Source
from bridge.sync.sql.keys import Key
from bridge.yamlfile import did_you_mean

__all__ = ["Rows", "fetch", "trouble"]

# MySQL: no such database, column or table; no right to read one; syntax; a view that lost its
# table. What the operator has to mend, not to wait for.
_MISSING = frozenset({1049, 1054, 1064, 1142, 1143, 1146, 1356})
_ENUM_FLAG, _SET_FLAG = 256, 2048
_MISSING_SQLITE = ("no such", "syntax error", "unrecognized token", "incomplete input")


class Rows:
    """The columns of one source, and where they stand in the rows that `select` gives.

    origin: what to select from. key: the key columns. names: the fields of the data.
    version, deleted: where these columns stand in a row; deleted is None where there is none.
    place: what to call it in messages.

    Raises BridgeError when the table or a column is not there.
    """

    def __init__(self, connection: sql.Connection, entity: str, source: Source) -> None:
        self.place = source.table or f"the query of {entity}"
        self._hint = f"in sync.yaml under `entities: {entity}: source:"
        self.origin = _origin(source)
        try:
            probe = sql.select(sql.text("*")).select_from(self.origin).limit(0)
            found = connection.execute(probe)
            present, by_number = list(map(str, found.keys())), _enumerated(found)
            found.close()
        except sql.exc.DBAPIError as error:
            if not _is_missing(error, connection.dialect.name):
                raise
            what = "table" if source.table else "query"
            raise BridgeError(
                f"entity {entity}: {self.place} cannot be read ({short(error)}): write "
                f"{self._hint} {what}:` one that this database has"
            ) from error

        def column(name: str, where: str) -> str:
            if name in present:
                return name
            # MySQL and SQLite do not care for the case; the rows of SELECT * do.
            for one in present:
                if one.casefold() == name.casefold() and connection.dialect.name != "postgresql":
                    return one
            hint = did_you_mean(name, present)
            raise BridgeError(
                f"entity {entity}: {self.place} has no column {name}; {hint or 'it has'} "
                f"{', '.join(present)}. Write {self._hint} {where}:` one of these"
            )

        key = [column(name, "key") for name in source.key]
        for name in key:
            if name in by_number:
                raise BridgeError(
                    f"entity {entity}: the key column {name} of {self.place} is an ENUM or a SET, "
                    "which MySQL sorts as numbers and compares as text, so that rows would be "
                    f"passed over: write {self._hint} query:` a SELECT with CAST({name} AS CHAR) "
                    f"AS {name}"
                )
        version = column(source.version, "version")
        deleted = column(source.deleted, "deleted") if source.deleted else None
        if source.columns:
            fields = {
                field: column(name, f"columns: {field}") for field, name in source.columns.items()
            }
        else:
            fields = {name: name for name in present if name not in (version, deleted)}
            self._check_names(entity, fields)
        # Each column once, however many parts it has.
        wanted = list(
            dict.fromkeys([*key, version, *([deleted] if deleted else []), *fields.values()])
        )
        self.key: list[sql.ColumnClause[Any]] = [sql.column(name) for name in key]
        self.names = list(fields)
        self.version = wanted.index(version)
        self.deleted = None if deleted is None else wanted.index(deleted)
        self.key_of: Callable[[Any], Key] = _getter([wanted.index(name) for name in key])
        self.values_of: Callable[[Any], Key] = _getter(
            [wanted.index(name) for name in fields.values()]
        )
        self._wanted = wanted

    def select(self) -> sql.Select[Any]:
        """SELECT of the columns that are needed."""
        columns: list[Any] = [sql.column(name) for name in self._wanted]
        return sql.select(*columns).select_from(self.origin)

    def whole(self, row: Any) -> dict[str, Any]:
        """A row by the names of its columns."""
        return dict(zip(self._wanted, row, strict=True))

    def _check_names(self, entity: str, fields: dict[str, str]) -> None:
        wrong = [name for name in fields if name.startswith(("_", "$"))]
        if wrong:
            raise BridgeError(
                f"entity {entity}: {self.place} has the column {wrong[0]}, and a field cannot be "
                f"named so: write {self._hint} columns:` the columns of the data, each with the "
                "name of its field"
            )


def _enumerated(result: sql.CursorResult[Any]) -> set[str]:
    """The columns of MySQL's types ENUM and SET, also those that a query passes on."""
    cursor: Any = result.cursor
    flags = getattr(cursor, "description_flags", None)  # mysqlclient
    if flags is None:  # PyMySQL
        fields = getattr(getattr(cursor, "_result", None), "fields", None) or ()
        flags = [getattr(one, "flags", 0) for one in fields]
    return {
        str(name)
        for name, flag in zip(result.keys(), flags, strict=False)
        if flag & (_ENUM_FLAG | _SET_FLAG)
    }


def _getter(places: list[int]) -> Callable[[Any], Key]:
    if len(places) == 1:
        [place] = places
        return lambda row: (row[place],)
    return itemgetter(*places) if places else lambda row: ()


def _origin(source: Source) -> sql.FromClause:
    if source.table is not None:
        schema, _, name = source.table.rpartition(".")
        return sql.table(name, schema=schema or None)
    # On lines of its own: a comment at its end must not swallow what follows. A colon begins no
    # parameter here.
    query = (source.query or "").strip().rstrip(";").replace(":", r"\:")
    text: Any = sql.text(f"(\n{query}\n) AS q")
    return text  # type: ignore[no-any-return]


def fetch(connection: sql.Connection, statement: sql.Select[Any], origin: Any = None) -> list[Any]:
    """The rows as the driver gives them: SQLAlchemy's own would cost as much again."""
    if origin is not None:
        statement = statement.select_from(origin)
    result = connection.execute(statement)
    cursor: Any = result.cursor
    rows = list(cursor.fetchall())
    result.close()
    return rows


def trouble(error: Exception, entity: str, engine: sql.Engine) -> BridgeError | None:
    """What to say of an error of the database; None when it is none."""
    driver: Any = engine.dialect.loaded_dbapi
    if isinstance(error, sql.exc.TimeoutError):
        return ServerAway(f"the SQL database: {short(error)}")
    if isinstance(error, sql.exc.DBAPIError):
        away = error.connection_invalidated or isinstance(
            error, sql.exc.OperationalError | sql.exc.InterfaceError
        )
        if away and not _is_missing(error, engine.dialect.name):
            return ServerAway(f"the SQL database: {short(error)}")
    elif isinstance(error, driver.OperationalError | driver.InterfaceError):
        return ServerAway(f"the SQL database: {short(error)}")
    elif not isinstance(error, driver.Error | sql.exc.SQLAlchemyError):
        return None
    return BridgeError(f"entity {entity}: the SQL database does not give its rows: {short(error)}")


def _is_missing(error: sql.exc.DBAPIError, dialect: str) -> bool:
    if error.connection_invalidated:
        return False
    cause = error.orig
    if dialect in ("mysql", "mariadb"):
        return bool(cause and cause.args and cause.args[0] in _MISSING)
    if dialect == "sqlite":
        return any(words in str(cause) for words in _MISSING_SQLITE)
    return isinstance(error, sql.exc.ProgrammingError)
