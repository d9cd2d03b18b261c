"""The triggers of SQLite as SQL. Pure.

REPLACE deletes the rows that are in its way without a word to any trigger for DELETE (unless
`recursive_triggers` is on). So two more triggers look before the row which these will be. None of
the INSERTs has a conflict clause: that of the site's own statement would be taken instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from bridge.sync.triggers.noted import MOST_KEY, DatabaseObject, TriggerSpec, name_of, quote

__all__ = ["script", "triggers"]

_NOW = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


Unique = Sequence[tuple[str, str]]
"""The columns of a unique index, each with the collation that it is compared by."""


def triggers(noted: TriggerSpec, unique: Sequence[Unique]) -> list[DatabaseObject]:
    """unique: of each unique index, the primary key included."""
    others = [columns for columns in unique if not _is_the_key(noted, columns)]
    bodies = {
        "i": ("AFTER INSERT", [_insert(noted, "NEW")]),
        "u": (
            "AFTER UPDATE",
            [_insert(noted, "NEW"), _insert(noted, "OLD", where=_differ(noted, "OLD", "NEW"))],
        ),
        "d": ("AFTER DELETE", [_insert(noted, "OLD")]),
    }
    if others:
        bodies["ri"] = ("BEFORE INSERT", [_replaced(noted, columns, "NEW") for columns in others])
        bodies["ru"] = ("BEFORE UPDATE", [_replaced(noted, columns, "OLD") for columns in others])
    made = []
    for what, (event, statements) in bodies.items():
        name = name_of(noted.entity, what)
        drop = f"DROP TRIGGER IF EXISTS {quote('sqlite', name)}"
        body = "".join(f"    {one};\n" for one in statements)
        create = (
            f"CREATE TRIGGER {quote('sqlite', name)} {event} ON {quote('sqlite', noted.table.name)}"
            f" FOR EACH ROW\nBEGIN\n{body}END"
        )
        made.append(DatabaseObject(name, (drop, create), create, drop))
    return made


def _is_the_key(noted: TriggerSpec, columns: Unique) -> bool:
    """Whether a row that has the same values in these columns has the same key. Of texts only the
    collation knows which are the same."""
    return {column.name for column in noted.columns} <= {name for name, _ in columns} and all(
        "INT" in column.type.upper() for column in noted.columns
    )


def _differ(noted: TriggerSpec, one: str, other: str) -> str:
    """That two rows have keys of different bytes."""
    return f"CAST({noted.key(one)} AS BLOB) IS NOT CAST({noted.key(other)} AS BLOB)"


def _insert(noted: TriggerSpec, row: str, *, where: str = "", origin: str = "") -> str:
    conditions = [noted.named(row), *([where] if where else [])]
    return (
        f"INSERT INTO {noted.outbox} "
        "(aggregatetype, aggregateid, type, ver, created_at, attempts, next_try) "
        f"SELECT '{noted.about}', substr({noted.key(row)}, 1, {MOST_KEY}), '{noted.type}', 0, "
        f"{_NOW}, 0, 0{origin} WHERE {' AND '.join(conditions)}"
    )


def _replaced(noted: TriggerSpec, columns: Unique, stays: str) -> str:
    """A note of the rows that have a value which is to be NEW's, and which must be unique. stays:
    the row that is not meant, for it is noted anyway."""
    # The index may have another collation than the column.
    names = [(quote("sqlite", column), quote("sqlite", by)) for column, by in columns]
    same = " AND ".join(f"t.{name} = NEW.{name} COLLATE {by}" for name, by in names)
    origin = f" FROM {quote('sqlite', noted.table.name)} AS t"
    return _insert(noted, "t", where=f"{same} AND {_differ(noted, 't', stays)}", origin=origin)


def script(statements: list[str]) -> str:
    """Statements as the client `sqlite3` reads them, in one transaction."""
    return "BEGIN;\n\n" + "".join(f"{one};\n\n" for one in statements) + "COMMIT;\n"
