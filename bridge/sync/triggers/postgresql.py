"""The triggers of PostgreSQL as SQL: one function for each table, and the triggers that call it.
Pure.

The function runs with the rights of whoever made it (SECURITY DEFINER), so that no role of the
site needs any on the outbox; its search_path is fixed, as such a function needs it. Its settings
make keys the same text whatever the session's are. TRUNCATE is seen before it happens, and every
row that is to go is noted.
"""

from __future__ import annotations

from itertools import count

from bridge.queue.sql.database import PRINTED
from bridge.sync.triggers.noted import MOST_KEY, DatabaseObject, TriggerSpec, name_of, quote

__all__ = ["SETTINGS", "script", "triggers"]

SETTINGS = {"search_path": "pg_catalog, pg_temp", **PRINTED}
_NOW = "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"
ROW, TRUNCATE = 29, 34
"""pg_trigger.tgtype: after each row of INSERT, UPDATE and DELETE; before the statement TRUNCATE."""


def triggers(noted: TriggerSpec, schema: str) -> list[DatabaseObject]:
    """schema: where the function is, which is that of the bridge's tables."""
    function = name_of(noted.entity, "touch")
    called = quote("postgresql", schema, function)
    body = _body(noted)
    # One that is nowhere in it: names of columns may hold anything.
    mark = next(one for n in count() if (one := f"$bridge{n or ''}$") not in body)
    settings = "".join(f"\nSET {name} = {_setting(name, to)}" for name, to in SETTINGS.items())
    create = (
        f"CREATE OR REPLACE FUNCTION {called}() RETURNS trigger\n"
        f"LANGUAGE plpgsql SECURITY DEFINER{settings}\nAS {mark}{body}{mark}"
    )
    made = [
        DatabaseObject(
            function,
            (create,),
            " ".join(("definer", *sorted(f"{name}={to}" for name, to in SETTINGS.items()), body)),
            f"DROP FUNCTION IF EXISTS {called}()",
        )
    ]
    for what, when, kind in (
        ("n", "AFTER INSERT OR UPDATE OR DELETE", ROW),
        ("t", "BEFORE TRUNCATE", TRUNCATE),
    ):
        name = name_of(noted.entity, what)
        drop = f"DROP TRIGGER IF EXISTS {quote('postgresql', name)} ON {noted.place}"
        each = "ROW" if kind == ROW else "STATEMENT"
        create = (
            f"CREATE TRIGGER {quote('postgresql', name)} {when} ON {noted.place}\n"
            f"FOR EACH {each} EXECUTE FUNCTION {called}()"
        )
        made.append(DatabaseObject(name, (drop, create), f"{kind} {schema}.{function}", drop))
    return made


def _setting(name: str, to: str) -> str:
    # A list of names in quotes would be one name.
    return to if name == "search_path" else f"'{to}'"


def _body(noted: TriggerSpec) -> str:
    columns = "(aggregatetype, aggregateid, type, ver, created_at, attempts, next_try)"

    def values(row: str) -> str:
        return (
            f"'{noted.about}', left({noted.key(row)}, {MOST_KEY}), '{noted.type}', 0, {_NOW}, 0, 0"
        )

    def insert(row: str) -> str:
        plain = f"INSERT INTO {noted.outbox} {columns}\n        VALUES ({values(row)});"
        named = noted.named(row)
        return f"IF {named} THEN\n        {plain}\n        END IF;" if named else plain

    named = f" WHERE {noted.named('t')}" if noted.named("t") else ""
    changed = f'({noted.key("OLD")}) COLLATE "C" IS DISTINCT FROM ({noted.key("NEW")}) COLLATE "C"'
    return f"""
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO {noted.outbox} {columns}
        SELECT {values("t")} FROM {noted.place} AS t{named};
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        {insert("NEW")}
    END IF;
    IF TG_OP = 'DELETE' THEN
        {insert("OLD")}
    ELSIF TG_OP = 'UPDATE' THEN
        IF {changed} THEN
            {insert("OLD")}
        END IF;
    END IF;
    RETURN NULL;
END
"""


def script(statements: list[str]) -> str:
    """Statements as psql reads them, in one transaction."""
    return "BEGIN;\n\n" + "".join(f"{one};\n\n" for one in statements) + "COMMIT;\n"
