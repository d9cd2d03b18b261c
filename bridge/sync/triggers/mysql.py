"""The triggers of MySQL and MariaDB as SQL. Pure.

Each is AFTER the row, reads nothing, and makes one plain INSERT of a row with an automatic id:
InnoDB locks nothing for it that another transaction could wait for. They keep the sql_mode of the
session that creates them, which is empty (`SESSION`): so nothing in them is strict, and a CHAR is
never padded.
"""

from __future__ import annotations

from bridge.sync.triggers.noted import MOST_KEY, DatabaseObject, TriggerSpec, name_of, quote

__all__ = ["SESSION", "script", "triggers"]

SESSION = ("SET NAMES utf8mb4", "SET SESSION sql_mode = ''")
"""What comes before CREATE TRIGGER on the same connection."""
# Not UNIX_TIMESTAMP(NOW(3)): an hour of the night in autumn is there twice.
_NOW = "UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000"
_DELIMITERS = ("//", "$$", "!!", "~~", ";;;")


def triggers(noted: TriggerSpec, *, mariadb: bool) -> list[DatabaseObject]:
    """For INSERT, UPDATE and DELETE. mariadb: whether the server replaces a trigger in one step."""
    update = [_insert(noted, "NEW")]
    update.append(
        f"IF NOT CAST({noted.key('OLD')} AS BINARY) <=> CAST({noted.key('NEW')} AS BINARY) THEN\n"
        f"    {_insert(noted, 'OLD')};\nEND IF"
    )
    bodies = {
        "i": ("INSERT", [_insert(noted, "NEW")]),
        "u": ("UPDATE", update),
        "d": ("DELETE", [_insert(noted, "OLD")]),
    }
    made = []
    for what, (event, statements) in bodies.items():
        body = statements[0]
        if len(statements) > 1:
            body = "BEGIN\n" + "".join(f"{one};\n" for one in statements) + "END"
        name = name_of(noted.entity, what)
        full = quote("mysql", noted.table.schema, name)
        drop = f"DROP TRIGGER IF EXISTS {full}"
        create = f"TRIGGER {full} AFTER {event} ON {noted.place} FOR EACH ROW\n{body}"
        if mariadb:
            made.append(DatabaseObject(name, (f"CREATE OR REPLACE {create}",), body, drop))
        else:
            made.append(DatabaseObject(name, (drop, f"CREATE {create}"), body, drop))
    return made


def _insert(noted: TriggerSpec, row: str) -> str:
    insert = (
        f"INSERT INTO {noted.outbox} "
        "(aggregatetype, aggregateid, type, ver, created_at, attempts, next_try) "
        f"VALUES ('{noted.about}', LEFT({noted.key(row)}, {MOST_KEY}), '{noted.type}', 0, {_NOW}, "
        "0, 0)"
    )
    # As a condition, not INSERT … SELECT: that would lock all ids of the outbox.
    named = noted.named(row)
    return f"IF {named} THEN\n    {insert};\nEND IF" if named else insert


def script(statements: list[str]) -> str:
    """Statements as the client `mysql` reads them."""
    lines = []
    for statement in statements:
        if ";" not in statement:
            lines.append(f"{statement};")
            continue
        # One that is nowhere in it: names of columns may hold anything.
        mark = next((one for one in _DELIMITERS if one not in statement), "//bridge//")
        lines.append(f"DELIMITER {mark}\n{statement}{mark}\nDELIMITER ;")
    return "\n\n".join(lines) + "\n"
