"""What the rows of one source are: what to select of them, checked against the database, and the
errors of reading them.

Of a table the columns are typed (`bridge.sync.types`), and what is read is what every producer
sends. Of a query nothing is declared: its values are as the driver gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import nested
from bridge.queue.sql.values import AS_THEY_ARE
from bridge.queue.sql.values import plain as plain_value
from bridge.sync.documents import Mirror
from bridge.sync.models import Source
from bridge.sync.sql import versions
from bridge.sync.sql.keys import by_value, keys_of, one_of
from bridge.sync.sql.learn import learn
from bridge.sync.sql.moments import ONE_VERSION
from bridge.sync.types import wire
from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.keys import Unlookable, join
from bridge.sync.types.typed import Typed
from bridge.sync.types.wire import KeyColumn, key_in_sql, printed_text
from bridge.units import in_portions
from bridge.yamlfile import did_you_mean

__all__ = ["KEYS_PER_QUESTION", "Lookup", "Rows", "as_bridge_error", "fetch"]

KEYS_PER_QUESTION = 500
"""Keys in one question: beyond 1000 MariaDB makes a table of them."""

_ENUM_FLAG, _SET_FLAG = 256, 2048


class Rows:
    """One source, ready to be read.

    table: the rows alone; origin: what to select from, with their versions. key: the key columns.
    unique: whether no two rows can have a key that the database takes for the same, as far as is
    known. version, deleted: expressions; deleted is None where there is none. beside: whether the
    version is in a table of the bridge's; in_log: whether it is that of the reading, see
    `bridge.sync.sql.moments`. names: the fields of the data. place: what to call it in messages.

    Raises BridgeError when the table or a column is not there.
    """

    def __init__(self, connection: sql.Connection, mirror: Mirror, entity: str) -> None:
        source = mirror.entities[entity].source
        assert source is not None
        self.entity, self.place = entity, source.table or f"the query of {entity}"
        self.dialect = dialect_of(connection)
        parent = mirror.entities[mirror.parent_of.get(entity, entity)].source
        # A child has the versions of its parent, wherever they are.
        owner = None if parent is None else parent.owner
        self.beside = source.owner == owner == "beside"
        self.in_log = owner == "log"
        self.types = learn(connection, mirror, entity)
        self.unique = False
        if self.types is None:
            self._of_query(connection, source)
        else:
            self._of_table(connection, source, self.types)
        self._arrange()

    # Of a table.

    def _of_table(self, connection: sql.Connection, source: Source, types: Typed) -> None:
        table, rows = types.table, types.rows
        named = {column.column.name for column in types.key}
        self.unique = any(one and named >= set(one) for one in (table.key, *table.unique))
        self.key: list[KeyColumn] = list(types.key)
        self.table: Any = rows
        self.origin: Any = rows
        if self.beside:
            if versions_missing := self._versions_missing(connection):
                raise BridgeError(versions_missing)
            if key_in_sql(self.key, self.dialect) is None:
                raise BridgeError(
                    f"entity {self.entity}: the database cannot write the key of {self.place}, so "
                    "that no version can be beside the table: name another key, or a column that "
                    "grows with every change as `version:`"
                )
            self.origin, self.version = versions.joined(rows, self.key, self.entity, self.dialect)
        elif source.version is None:
            self.version = sql.literal_column(str(ONE_VERSION))
        else:
            self.version = rows.c[_name(types, source.version)]
        self.deleted: Any = None
        if source.deleted is not None:
            self.deleted = rows.c[_name(types, source.deleted)]
        self.names = [field for field in types.columns if field in types.rules]
        self._values: list[Any] = []
        self._plain: list[Callable[[Any], Any] | None] = []
        for field in self.names:
            rule, column = types.rules[field], types.columns[field]
            self._values.append(wire.value(rows.c[column.name], rule, table.dialect))
            self._plain.append(wire.plain(rule, table.dialect))

    def _versions_missing(self, connection: sql.Connection) -> str:
        advice = f"run `bridgectl sync triggers {self.entity} --apply`"
        try:
            with nested(connection):
                found = versions.base_of(connection, self.entity)
        except sql.exc.DBAPIError as error:
            if cause_of(error, connection.engine.url).kind != "no table":
                raise
            return (
                f"entity {self.entity}: {self.place} has no `version:` in sync.yaml, and there is "
                f"no table bridge_versions with the versions beside it: {advice}, or name the "
                "column that grows with every change"
            )
        if found is None:
            return (
                f"entity {self.entity}: bridge_versions has no versions of {self.place}, because "
                f"it has no triggers of the bridge: {advice}"
            )
        return ""

    # Of a query.

    def _of_query(self, connection: sql.Connection, source: Source) -> None:
        self._hint = f"in sync.yaml under `entities: {self.entity}: source:"
        # On lines of its own: a comment at its end must not swallow what follows. A colon begins
        # no parameter here.
        query = (source.query or "").strip().rstrip(";").replace(":", r"\:")
        try:
            origin: Any = sql.text(f"(\n{query}\n) AS q")
            probe = sql.select(sql.text("*")).select_from(origin).limit(0)
            found = connection.execute(probe)
            present, by_number = list(map(str, found.keys())), _enumerated(found)
            found.close()
        except sql.exc.DBAPIError as error:
            cause = cause_of(error, connection.engine.url)
            if cause.waits:
                raise
            do = cause.do
            if cause.kind in ("no table", "no column", "wrong SQL"):
                do = f"write {self._hint} query:` one that this database has"
            raise BridgeError(
                f"entity {self.entity}: {self.place} cannot be read, the database {cause.says}: "
                f"{do}"
            ) from error
        assert source.version is not None
        key = [self._column(name, "key", present) for name in source.key]
        for name in key:
            if name in by_number:
                raise BridgeError(
                    f"entity {self.entity}: the key column {name} of {self.place} is an ENUM or a "
                    "SET, which MySQL sorts as numbers and compares as text, so that rows would be "
                    f"passed over: write {self._hint} query:` a SELECT with CAST({name} AS CHAR) "
                    f"AS {name}"
                )
        version = self._column(source.version, "version", present)
        deleted = self._column(source.deleted, "deleted", present) if source.deleted else None
        if source.columns:
            fields = {
                field: self._column(name, f"columns: {field}", present)
                for field, name in source.columns.items()
            }
        else:
            fields = {name: name for name in present if name not in (version, deleted)}
            if wrong := [name for name in fields if name.startswith(("_", "$"))]:
                raise BridgeError(
                    f"entity {self.entity}: {self.place} has the column {wrong[0]}, and a field "
                    f"cannot be named so: write {self._hint} columns:` the columns of the data, "
                    "each with the name of its field"
                )
        columns: list[Any] = [sql.column(name) for name in present]
        rows = sql.text(f"{query}\n").columns(*columns).subquery()
        self.table = self.origin = rows
        self.key = self._untyped_key(connection, [rows.c[name] for name in key])
        self.version = rows.c[version]
        self.deleted = None if deleted is None else rows.c[deleted]
        self.names = list(fields)
        self._values = [rows.c[name] for name in fields.values()]
        self._plain = [None for _ in fields]

    def _untyped_key(self, connection: sql.Connection, columns: Sequence[Any]) -> list[KeyColumn]:
        named = [column.is_not(None) for column in columns]
        found = fetch(connection, sql.select(*columns).where(*named).limit(1))
        # Without a row there is nothing to find, and nothing to be in order.
        example = found[0] if found else [""] * len(columns)
        return [by_value(column, one) for column, one in zip(columns, example, strict=True)]

    def _column(self, name: str, where: str, present: Sequence[str]) -> str:
        if name in present:
            return name
        # MySQL and SQLite do not care for the case; the rows of SELECT * do.
        for one in present:
            if one.casefold() == name.casefold() and self.dialect != "postgresql":
                return one
        hint = did_you_mean(name, present)
        raise BridgeError(
            f"entity {self.entity}: {self.place} has no column {name}; {hint or 'it has'} "
            f"{', '.join(present)}. Write {self._hint} {where}:` one of these"
        )

    # Of both.

    def _arrange(self) -> None:
        """Where everything stands in a row; each expression is selected once."""
        self._wanted: list[Any] = []
        places: dict[int, int] = {}

        def place(expression: Any) -> int:
            if id(expression) not in places:
                places[id(expression)] = len(self._wanted)
                self._wanted.append(expression)
            return places[id(expression)]

        key = [place(column.printed) for column in self.key]
        self.version_at = place(self.version)
        self.deleted_at = None if self.deleted is None else place(self.deleted)
        values = [place(one) for one in self._values]
        self.key_of: Callable[[Any], tuple[Any, ...]] = _getter(key)
        self._values_of = _getter(values)
        self.text_of = _namer(self.key)
        # Most values are what JSON has already: which are not is known of a table.
        makers = zip(self.names, self._plain, strict=True)
        self._convert = [(name, make) for name, make in makers if make]

    def data(self, row: Any) -> dict[str, Any]:
        """The data of an event. Raises UndecodableMessage."""
        found = dict(zip(self.names, self._values_of(row)))  # noqa: B905 - as long by their making
        if self.types is None:
            for name, value in found.items():
                if type(value) not in AS_THEY_ARE:
                    found[name] = plain_value(value)
            return found
        for name, make in self._convert:
            if (value := found[name]) is not None:
                found[name] = make(value)
        return found

    def select(self) -> sql.Select[Any]:
        """SELECT of what is needed."""
        return sql.select(*self._wanted).select_from(self.origin)

    def count(self, connection: sql.Connection, *where: sql.ColumnElement[bool]) -> int:
        """How many rows there are, deleted ones included."""
        counted = sql.select(sql.func.count()).select_from(self.table).where(*where)
        return int(fetch(connection, counted)[0][0])

    def select_keys(self) -> sql.Select[Any]:
        """SELECT of what `text_of` takes."""
        return sql.select(*(column.printed for column in self.key)).select_from(self.table)

    def name_of(self, key: tuple[Any, ...]) -> str:
        """The key of a row for a message, of any row."""
        try:
            if None in key:
                key = tuple("" if one is None else one for one in key)
            return self.text_of(key)
        except (UndecodableMessage, ValueError, TypeError):
            return "/".join(map(repr, key))

    def named(self) -> sql.ColumnElement[bool]:
        """That a row has a key."""
        # Of a column that cannot be NULL it is not asked: MySQL says yes for a zero date there.
        # SQLite has NULL in a primary key.
        nullable = [
            one.left.is_not(None)
            for one in self.key
            if one.column.nullable or self.dialect == "sqlite"
        ]
        return sql.and_(sql.true(), *nullable)

    def order(self) -> list[Any]:
        """What to order by."""
        return [column.left for column in self.key]

    def whole(self, row: Any) -> dict[str, Any]:
        """A row by the names of its key columns and fields, for a dead letter."""
        key = dict(zip((one.column.name for one in self.key), self.key_of(row), strict=True))
        return {**key, **dict(zip(self.names, self._values_of(row), strict=True))}


class Lookup:
    """Rows by the texts of their keys.

    unlookable: those texts that no row can have, each with the reason. That a row of such a key
    is not there is not known of any of them.
    """

    def __init__(self, rows: Rows, keys: Iterable[str], *, lead: bool = False) -> None:
        self._rows, self._lead = rows, lead
        self._wanted = set(keys)
        self.unlookable: dict[str, str] = {}
        asked: dict[tuple[Any, ...], None] = {}
        columns, types = rows.key, rows.types
        for text in self._wanted:
            try:
                for key in keys_of(columns, text):
                    asked[key] = None
                if types is not None and (why := types.is_lookable(text)):
                    self.unlookable[text] = why
            except Unlookable as error:
                self.unlookable[text] = str(error)
        self._asked = list(asked)

    def there(self, connection: sql.Connection) -> set[str]:
        """Which of the texts have a row."""
        name_of = self._rows.name_of
        found = self._found(connection, self._rows.select_keys())
        return self._wanted.intersection(name_of(tuple(row)) for some in found for row in some)

    def batches(
        self,
        connection: sql.Connection,
        select: sql.Select[Any],
        key_of: Callable[[Any], tuple[Any, ...]],
    ) -> Iterator[list[Any]]:
        """What `select` gives of the rows with these keys, each once; of a key that several rows
        have, all of them."""
        name_of = self._rows.name_of
        seen: set[tuple[Any, ...]] = set()
        for rows in self._found(connection, select):
            # What the database takes for equal need not be.
            these = [
                row
                for row in rows
                if (key := key_of(row)) not in seen and name_of(key) in self._wanted
            ]
            # One text may be several values, asked for in several portions.
            seen.update(map(key_of, these))
            yield these

    def _found(self, connection: sql.Connection, select: sql.Select[Any]) -> Iterator[list[Any]]:
        for some in in_portions(self._asked, KEYS_PER_QUESTION):
            which = select.where(one_of(self._rows.key, some, lead=self._lead))
            yield fetch(connection, which)


def _namer(columns: Sequence[KeyColumn]) -> Callable[[tuple[Any, ...]], str]:
    """What makes the key of a row of the values of its key columns."""
    texts = [column.text for column in columns]
    if len(texts) == 1:
        [text] = texts
        return lambda key: text(key[0])

    def named(key: tuple[Any, ...]) -> str:
        return join([text(value) for text, value in zip(texts, key, strict=True)])

    if any(column.dynamic or column.text is not printed_text for column in columns):
        return named
    slashes = len(texts) - 1

    def quickly(key: tuple[Any, ...]) -> str:
        found = "/".join([value if type(value) is str else str(value) for value in key])
        return found if found.count("/") == slashes and "%" not in found else named(key)

    return quickly


def _name(types: Typed, name: str) -> str:
    found = types.table.column(name)
    if found is None:
        there = ", ".join(column.name for column in types.table.columns)
        raise BridgeError(
            f"entity {types.entity}: {types.table.full_name} has no column {name}; it has {there}"
        )
    return found.name


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


def _getter(places: list[int]) -> Callable[[Any], tuple[Any, ...]]:
    if len(places) == 1:
        [place] = places
        return lambda row: (row[place],)
    return itemgetter(*places) if places else lambda row: ()


def fetch(connection: sql.Connection, statement: sql.Select[Any], origin: Any = None) -> list[Any]:
    """The rows as the driver gives them: SQLAlchemy's own would cost as much again."""
    if origin is not None:
        statement = statement.select_from(origin)
    result = connection.execute(statement)
    cursor: Any = result.cursor
    rows = list(cursor.fetchall())
    result.close()
    return rows


def as_bridge_error(error: Exception, entity: str, engine: sql.Engine) -> BridgeError | None:
    """What to say of an error of the database; None when it is none."""
    driver: Any = engine.dialect.loaded_dbapi
    if not isinstance(error, driver.Error | sql.exc.SQLAlchemyError):
        return None
    cause = cause_of(error, engine.url)
    if cause.waits:
        return ServerAway(f"the SQL database {cause}")
    return BridgeError(f"entity {entity}: the SQL database does not give its rows: it {cause}")
