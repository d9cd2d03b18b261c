"""The databases of sites: engines for them, rows that are ours alone, errors fit for a log.

What stands in the tables is `bridge.queue.sql.outbox` and `bridge.queue.sql.queue_table`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.settings import redact_url
from bridge.units import in_portions

__all__ = [
    "PRINTED",
    "at_level",
    "connect",
    "delete",
    "log_text",
    "nested",
    "reading",
    "taking",
]

LOCK_SECONDS = 2
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30
"""A server that does not answer for so long is away: it must not hold up the other sources."""
PRINTED = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""Settings of PostgreSQL with which values become text, here and in triggers."""
# Errors of MySQL whose text shows values: Duplicate entry, Truncated incorrect value, syntax
# error near, Incorrect string value.
_ROWS_PER_DELETION = 500
_TELL_VALUES = frozenset({1062, 1064, 1292, 1366})
_POOL = "bridge"
# A connection that was lost is told by whoever used it. The pool would print a traceback of its
# own, since it could not be rolled back either.
logging.getLogger(f"sqlalchemy.pool.impl.QueuePool.{_POOL}").setLevel(logging.CRITICAL)


def connect(url: str) -> sql.Engine:
    """An engine for `url`; it connects when it is used. Raises BridgeError for a URL that cannot be
    used, with the package that its driver needs."""
    try:
        made = sql.make_url(url)
        if made.drivername in ("mysql", "mariadb"):
            # The driver that the extra `mysql` installs.
            made = made.set(drivername=f"{made.drivername}+pymysql")
        elif made.drivername in ("postgresql", "postgres"):
            made = made.set(drivername="postgresql+psycopg")
        if made.get_backend_name() == "sqlite":
            return _sqlite(made)
        if made.get_backend_name() in ("mysql", "mariadb"):
            made = _in_utf8(made)
        # Not the usual REPEATABLE READ: there InnoDB also locks the gaps between the rows that
        # are read, and the site's INSERTs would wait for us.
        engine = sql.create_engine(
            made,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_recycle=300,
            pool_logging_name=_POOL,
            hide_parameters=True,
            connect_args=_patience(made),
        )
        if made.get_backend_name() == "postgresql":
            sql.event.listen(engine, "connect", _print_alike)
        elif made.get_backend_name() in ("mysql", "mariadb"):
            sql.event.listen(engine, "connect", _compare_alike)
        return engine
    except ModuleNotFoundError as error:
        extra = "mysql" if "mysql" in (error.name or "") else "postgresql"
        raise BridgeError(
            f"the driver for {redact_url(url)} is not installed: "
            f"pip install '/path/to/checkout[{extra}]', from where the bridge was installed"
        ) from None
    except sql.exc.NoSuchModuleError as error:
        raise BridgeError(f"SQL URL {redact_url(url)!r} cannot be used: {error}") from None
    except (sql.exc.ArgumentError, ValueError):
        # Nobody knows where the password is in it.
        raise BridgeError(
            "the SQL URL cannot be used: write for example "
            "mysql://user:password@host:3306/database, with %40 for an @ in the password"
        ) from None


def _in_utf8(url: sql.URL) -> sql.URL:
    """With another charset the server would send ? for what it cannot write."""
    given = url.query.get("charset", "utf8mb4")
    if given != "utf8mb4":
        raise BridgeError(
            f"the SQL URL has charset={given!s}, and the bridge always speaks utf8mb4: leave it "
            "out. Where the bytes of a text are in another character set than its column says, "
            "write in sync.yaml for its field `text: {stored: utf-8, column: latin1}`"
        )
    return url.update_query_dict({"charset": "utf8mb4"})


def _patience(url: sql.URL) -> dict[str, Any]:
    driver = url.drivername.partition("+")[2]
    if driver == "pymysql":
        return {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": ANSWER_SECONDS,
            "write_timeout": ANSWER_SECONDS,
        }
    if driver == "psycopg":
        return {
            "client_encoding": "utf8",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": ANSWER_SECONDS // 3,
            "keepalives_interval": ANSWER_SECONDS // 3,
            "keepalives_count": 2,
            "tcp_user_timeout": ANSWER_SECONDS * 1000,
        }
    return {}


def _print_alike(connection: Any, record: Any) -> None:
    """Values as text do not depend on the settings of a role or a server: keys are such texts."""
    cursor = connection.cursor()
    for name, to in PRINTED.items():
        cursor.execute(f"SET {name} = '{to}'")
    cursor.close()
    connection.commit()


def _compare_alike(connection: Any, record: Any) -> None:
    """A row of MySQL may have a date that no calendar has, and is to be found by it; and nothing
    is padded with blanks, which a server can be told to do."""
    cursor = connection.cursor()
    cursor.execute(
        "SET SESSION sql_mode = CONCAT(REPLACE(@@SESSION.sql_mode, 'PAD_CHAR_TO_FULL_LENGTH', ''), "
        "',ALLOW_INVALID_DATES')"
    )
    cursor.close()


def _sqlite(url: sql.URL) -> sql.Engine:
    engine = sql.create_engine(url, connect_args={"timeout": CONNECT_SECONDS}, hide_parameters=True)

    @sql.event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin too late
        # SQLite keeps any bytes as text. One wrong row must not fail the reading of all.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")

    @sql.event.listens_for(engine, "begin")
    def _(connection: sql.Connection) -> None:
        # Reading first and writing later in one transaction fails under load otherwise.
        only_reads = connection.get_execution_options().get("only_reads")
        connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def reading(engine: sql.Engine) -> Iterator[sql.Connection]:
    """A transaction that only reads, and so locks nothing of a SQLite file against writers."""
    with engine.connect() as connection:
        connection = connection.execution_options(only_reads=True)
        with connection.begin():
            yield connection


@contextmanager
def at_level(engine: sql.Engine, level: str) -> Iterator[sql.Connection]:
    """A connection with another isolation level.

    Raises SQLAlchemy's errors, as all that is done with a connection; SQLAlchemy itself raises the
    driver's where a connection is lost while its level is set or put back. Then it also keeps the
    place in its pool for ever, so the pool is made anew.
    """
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level=level)
    except engine.dialect.loaded_dbapi.Error as error:
        engine.dispose()
        raise sql.exc.OperationalError(f"isolation level {level}", None, error) from error


@contextmanager
def nested(connection: sql.Connection) -> Iterator[None]:
    """What fails in here leaves the transaction of the connection as it was, where it has one."""
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        yield
        return
    with connection.begin_nested():
        yield


@contextmanager
def taking(
    engine: sql.Engine, due: sql.Select[Any], id: sql.ColumnElement[Any], name: str
) -> Iterator[tuple[sql.Connection, list[Any]]]:
    """Run a SELECT whose rows are ours until the end of the transaction, which is the end of
    the context; rows that somebody else takes are left out.

    id: the primary key of the table.
    name: of the table, for servers without SKIP LOCKED.
    """
    if engine.dialect.name == "sqlite":
        with reading(engine) as connection:
            empty = connection.execute(due.limit(1)).first() is None
        with reading(engine) if empty else engine.begin() as connection:
            yield connection, [] if empty else list(connection.execute(due))
        return
    with engine.connect() as connection:
        if _can_skip_locked(engine.dialect):
            with connection.begin():
                yield connection, list(connection.execute(due.with_for_update(skip_locked=True)))
            return
        # Before MySQL 8.0.1 and MariaDB 10.6: one relay at a time.
        lock = f"bridge {name}"[:64]
        with connection.begin():
            locked = connection.execute(sql.select(sql.func.get_lock(lock, LOCK_SECONDS))).scalar()
        try:
            with connection.begin():
                rows: list[Any] = []
                if locked == 1:
                    # First without locks: a lock would wait for the INSERTs of the site.
                    found = connection.execute(due.with_only_columns(id)).scalars()
                    # Then one by one: of several ids the server may make a scan, which waits too.
                    for one in list(found):
                        rows += connection.execute(due.where(id == one).with_for_update())
                yield connection, rows
        finally:
            # After the commit; where the connection broke, the server has done it.
            if locked == 1 and not connection.invalidated:
                with suppress(sql.exc.SQLAlchemyError), connection.begin():
                    connection.execute(sql.select(sql.func.release_lock(lock)))


def delete(connection: sql.Connection, id: sql.ColumnClause[Any], ids: Sequence[Any]) -> int:
    """Delete the rows with these primary keys; how many. id: the column, with its table."""
    if not ids:
        return 0
    table: Any = id.table
    if connection.dialect.name not in ("mysql", "mariadb"):
        return int(connection.execute(sql.delete(table).where(id.in_(ids))).rowcount)
    # Of `IN (…)` InnoDB makes a scan of a small table, also with FORCE INDEX, and then waits for
    # the INSERTs of the site. So one by one, in one statement.
    name = connection.dialect.identifier_preparer.format_table(table)
    column = connection.dialect.identifier_preparer.format_column(id)
    done = 0
    for some in in_portions(ids, _ROWS_PER_DELETION):
        these = " UNION ALL ".join(f"SELECT :i{n} AS wanted" for n in range(len(some)))
        words = (
            f"DELETE {name} FROM ({these}) AS these "
            f"STRAIGHT_JOIN {name} FORCE INDEX (PRIMARY) ON {column} = these.wanted"
        )
        given = {f"i{n}": one for n, one in enumerate(some)}
        done += connection.execute(sql.text(words), given).rowcount
    return done


def _can_skip_locked(dialect: Any) -> bool:
    if dialect.name not in ("mysql", "mariadb"):
        return True
    lowest = (10, 6) if dialect.is_mariadb else (8, 0, 1)
    return tuple(dialect.server_version_info or ()) >= lowest


def log_text(error: BaseException) -> str:
    """What to log of an error: never the statement, its values, or values in its text."""
    cause = getattr(error, "orig", None) or error
    name = type(cause).__name__
    if not isinstance(error, sql.exc.SQLAlchemyError):
        return f"{name}: {cause}"[:300]
    code = cause.args[0] if cause.args and isinstance(cause.args[0], int) else None
    code = code or getattr(cause, "sqlstate", None)
    if isinstance(error, sql.exc.DataError | sql.exc.IntegrityError) or code in _TELL_VALUES:
        return f"{name}: error {code or 'of the database'}; its text may show data, see its log"
    # PostgreSQL shows the statement from the second line on.
    return f"{name}: {str(cause).splitlines()[0] if str(cause) else code}"[:300]
