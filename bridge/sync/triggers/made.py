"""What of the bridge's triggers a database has, and what it says of the rights to make them.

Only asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql

from bridge.queue.sql.database import nested
from bridge.sync.triggers.noted import TriggerSpec, name_of, quote
from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.column import Table

__all__ = ["bodies", "explained", "left_over", "may_not", "same", "schema_of", "uniques"]

_BLANK = re.compile(r"\s+")

_MYSQL = """
SELECT trigger_name, action_statement, sql_mode, definer FROM information_schema.triggers
WHERE event_object_schema = COALESCE(:schema, DATABASE()) AND event_object_table = :name
    AND action_timing = 'AFTER'
"""
_PG_TRIGGERS = """
SELECT t.tgname, t.tgtype, n.nspname, p.proname FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace s ON s.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE c.relname = :name AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND t.tgqual IS NULL
    AND (s.nspname = CAST(:schema AS text)
        OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
"""
_PG_FUNCTION = """
SELECT p.prosecdef, p.proconfig, p.prosrc FROM pg_proc p JOIN pg_namespace n
    ON n.oid = p.pronamespace
WHERE n.nspname = :schema AND p.proname = :name AND p.pronargs = 0
"""
_PG_RIGHTS = """
SELECT has_table_privilege(c.oid, 'TRIGGER'), has_table_privilege(c.oid, 'SELECT'),
    has_schema_privilege(CAST(:ours AS text), 'CREATE')
FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
WHERE c.relname = :name AND (s.nspname = CAST(:schema AS text)
    OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
"""


def bodies(connection: sql.Connection, noted: TriggerSpec, schema: str) -> Mapping[str, str]:
    """What the database has on the table, by name, as `DatabaseObject.body` is. schema: of the
    bridge's tables in PostgreSQL. Raises SQLAlchemy's errors."""
    where = {"schema": noted.table.schema, "name": noted.table.name}
    dialect = dialect_of(connection)
    if dialect == "mysql":
        of_mysql: dict[str, str] = {}
        for name, body, mode, user in connection.execute(sql.text(_MYSQL), where).all():
            # With another mode a note could fail that this one makes; without its user every one.
            gone = "" if _is_there(connection, str(user)) else f"made by {user}, who is gone: "
            of_mysql[str(name)] = f"{gone}{mode} {body}" if mode or gone else str(body)
        return of_mysql
    if dialect == "sqlite":
        words = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name"
        found = connection.execute(sql.text(words + " COLLATE NOCASE"), {"name": noted.table.name})
        return {str(name): str(text) for name, text in found}
    there = {
        str(name): f"{kind} {space}.{function}"
        for name, kind, space, function in connection.execute(sql.text(_PG_TRIGGERS), where)
    }
    function = name_of(noted.entity, "touch")
    for definer, settings, source in connection.execute(
        sql.text(_PG_FUNCTION), {"schema": schema, "name": function}
    ):
        words = "definer" if definer else "invoker"
        there[function] = " ".join((words, *sorted(settings or ()), str(source)))
    return there


def _is_there(connection: sql.Connection, definer: str) -> bool:
    """Whether there is the user of MySQL whom a trigger runs as; where nobody may tell, yes."""
    user, _, host = definer.rpartition("@")
    words = "SELECT COUNT(*) FROM mysql.user WHERE user = :user AND host = :host"
    try:
        with nested(connection):
            there = connection.execute(sql.text(words), {"user": user, "host": host}).scalar_one()
            any_ = connection.exec_driver_sql("SELECT COUNT(*) FROM mysql.user").scalar_one()
    except sql.exc.DBAPIError:
        return True  # no right to look, or a server without grants
    return bool(there) or not any_


def schema_of(connection: sql.Connection, table: Table) -> str:
    """The schema of PostgreSQL that a table is in."""
    if table.schema is not None:
        return table.schema
    words = (
        "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relname = :name AND pg_table_is_visible(c.oid)"
    )
    return str(connection.execute(sql.text(words), {"name": table.name}).scalar_one())


def same(one: str, other: str) -> bool:
    """Whether two bodies are equal: clients change white space."""
    return _BLANK.sub(" ", one).strip() == _BLANK.sub(" ", other).strip()


def left_over(connection: sql.Connection, entity: str, schema: str) -> list[str]:
    """Statements that drop every trigger that is called like one of this entity's, also of tables
    that sync.yaml does not name any more. Those of a bridge of another database, or schema of
    PostgreSQL, are left alone: they write to an outbox of their own. schema: of the bridge's
    tables in PostgreSQL."""
    names = [name_of(entity, what) for what in ("i", "u", "d", "ri", "ru", "n", "t")]
    dialect = dialect_of(connection)
    given: Any = sql.bindparam("names", names, expanding=True)
    if dialect == "mysql":
        words = (
            "SELECT trigger_schema, trigger_name FROM information_schema.triggers "
            "WHERE trigger_name IN :names AND (trigger_schema = DATABASE() "
            "OR LOCATE(CONCAT('INSERT INTO `', DATABASE(), '`.'), action_statement) > 0)"
        )
        rows = connection.execute(sql.text(words).bindparams(given))
        return [f"DROP TRIGGER IF EXISTS {quote(dialect, *row)}" for row in rows]
    if dialect == "sqlite":
        words = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name IN :names"
        rows = connection.execute(sql.text(words).bindparams(given))
        return [f"DROP TRIGGER IF EXISTS {quote(dialect, *row)}" for row in rows]
    words = (
        "SELECT t.tgname, s.nspname, c.relname FROM pg_trigger t JOIN pg_class c "
        "ON c.oid = t.tgrelid JOIN pg_namespace s ON s.oid = c.relnamespace "
        "JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE NOT t.tgisinternal AND NOT c.relispartition AND t.tgname IN :names "
        "AND n.nspname = :schema"
    )
    rows = connection.execute(sql.text(words).bindparams(given), {"schema": schema})
    drops = [
        f"DROP TRIGGER IF EXISTS {quote(dialect, name)} ON {quote(dialect, schema, table)}"
        for name, schema, table in rows
    ]
    words = (
        "SELECT n.nspname, p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE p.proname = :name AND p.pronargs = 0 AND n.nspname = :schema"
    )
    which = {"name": name_of(entity, "touch"), "schema": schema}
    functions = connection.execute(sql.text(words), which)
    return drops + [f"DROP FUNCTION IF EXISTS {quote(dialect, *row)}()" for row in functions]


def uniques(
    connection: sql.Connection, table: Table
) -> tuple[list[tuple[tuple[str, str], ...]], list[str]]:
    """Of SQLite: the columns of every unique index with the collation that it compares them by,
    the primary key included, and the names of those over expressions, which cannot be followed."""
    # A whole number that is the primary key has no index.
    found = [tuple((column, "BINARY") for column in table.key)] if table.key else []
    strange: list[str] = []
    name = "'" + table.name.replace("'", "''") + "'"
    for row in connection.exec_driver_sql(f"PRAGMA index_list({name})").all():
        if not row[2]:
            continue
        index = "'" + str(row[1]).replace("'", "''") + "'"
        parts = connection.exec_driver_sql(f"PRAGMA index_xinfo({index})").all()
        key = [part for part in parts if part[5]]
        if any(part[2] is None for part in key):
            strange.append(str(row[1]))
        else:
            found.append(tuple((str(part[2]), str(part[4])) for part in key))
    return list(dict.fromkeys(found)), strange


_BELOW = """
SELECT c.oid::regclass::text, c.relispartition
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE p.relname = :name AND p.relnamespace = CAST(:schema AS regnamespace) ORDER BY 1
"""


def below(connection: sql.Connection, schema: str, name: str) -> list[tuple[str, bool]]:
    """Of a table of PostgreSQL: the tables whose rows are its own, too, and whether each is a
    partition of it."""
    where = {"schema": quote("postgresql", schema), "name": name}
    return [(str(child), bool(part)) for child, part in connection.execute(sql.text(_BELOW), where)]


# Rights.

_LOGGED = (
    "the server writes a binary log, and lets only SUPER make triggers: set "
    "log_bin_trust_function_creators = 1, or ask the hosting to run what "
    "`bridgectl sync triggers` prints"
)


def may_not(connection: sql.Connection, table: Table, schema: str) -> str:
    """What is missing to make the triggers, and what to do; empty where nothing is, or where it
    cannot be told. schema: of the bridge's tables in PostgreSQL."""
    dialect = dialect_of(connection)
    if dialect == "postgresql":
        where = {"schema": table.schema, "name": table.name, "ours": schema}
        row = connection.execute(sql.text(_PG_RIGHTS), where).first()
        rights = ("TRIGGER", "SELECT") if row is not None else ()
        lacking = [right for right, has in zip(rights, row or (), strict=False) if not has]
        if lacking:
            return f"GRANT {', '.join(lacking)} ON {table.full_name} TO the user of the bridge"
        if row is not None and not row[2]:
            return f"GRANT CREATE ON SCHEMA {schema} TO the user of the bridge"
        return ""
    return _mysql_may_not(connection, table) if dialect == "mysql" else ""


def _mysql_may_not(connection: sql.Connection, table: Table) -> str:
    try:
        with nested(connection):
            grants = [str(row[0]) for row in connection.exec_driver_sql("SHOW GRANTS")]
    except sql.exc.DBAPIError:
        return ""  # a server without grants
    schema = table.schema or str(connection.execute(sql.text("SELECT DATABASE()")).scalar())
    rights = _rights(grants, schema, table.name)
    if not rights & {"TRIGGER", "ALL PRIVILEGES", "ALL"}:
        return f"GRANT TRIGGER ON {table.full_name} TO the user of the bridge"
    everywhere = _rights([one for one in grants if " ON *.* " in one], "", "")
    if everywhere & {"SUPER", "ALL PRIVILEGES", "SET_USER_ID", "BINLOG ADMIN"}:
        return ""
    words = "SELECT @@log_bin, @@log_bin_trust_function_creators"
    logged, trusted = connection.exec_driver_sql(words).one()
    return _LOGGED if logged and not trusted else ""


_GRANT = re.compile(r"GRANT (.+?) ON (?:TABLE )?(\S+?|`.+?`\.`.+?`|`.+?`\.\*) TO ")


def _rights(grants: Sequence[str], schema: str, table: str) -> set[str]:
    """The rights that lines of SHOW GRANTS give on a table."""
    found: set[str] = set()
    for line in grants:
        if (grant := _GRANT.match(line)) is None:
            continue
        where = grant[2]
        on_schema, _, on_table = where.rpartition(".")
        if where != "*.*":
            if not _matches(on_schema.strip("`"), schema):
                continue
            if on_table != "*" and on_table.strip("`") != table:
                continue
        found |= {one.strip().upper() for one in grant[1].split(",")}
    return found


def _matches(pattern: str, name: str) -> bool:
    """As MySQL matches names of databases in grants: % and _, with \\ before one that is meant."""
    regex = ""
    for escaped, one in re.findall(r"(\\)?(.)", pattern):
        if escaped or one not in "%_":
            regex += re.escape(one)
        else:
            regex += ".*" if one == "%" else "."
    return re.fullmatch(regex, name, re.DOTALL) is not None


def explained(error: Any, table: Table) -> str:
    """What an error of making triggers means, and what to do; empty where that is not known."""
    number = error.args[0] if error.args else None
    code: Any = number if isinstance(number, int) else getattr(error, "sqlstate", None)
    place = table.full_name
    told = {
        1419: f"triggers on {place} cannot be made: {_LOGGED}",
        1142: f"triggers on {place} cannot be made: GRANT TRIGGER ON {place}, and CREATE and "
        "INSERT, SELECT, UPDATE, DELETE on the bridge's two tables",
        1044: f"the user of the bridge may not use the database of {place}: GRANT it CREATE there",
        1205: f"{place} was in use for longer than the bridge makes others wait: try again, best "
        "when no long transaction runs on it",
        1235: "this server takes one trigger for each event of a table, and the site has its own: "
        "MySQL takes several since 5.7.2, MariaDB since 10.2.3",
        "42501": f"triggers on {place} cannot be made: GRANT TRIGGER, SELECT ON {place}, and CREATE"
        " on the schema of the bridge's tables",
        "55P03": f"{place} was in use for longer than the bridge makes others wait: try again, best"
        " when no long transaction runs on it",
    }
    return told.get(code, "")
