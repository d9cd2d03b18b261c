"""The look at types, for `bridgectl doctor`: whether tables fit sync.yaml, whether the workers
go by what they are now, zones that nobody named, and texts in another character set than their
column says.

Only asks, never changes. Servers that do not answer are told by `bridge.doctor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.findings import Finding
from bridge.queue.sql.database import connect, reading
from bridge.settings import Settings
from bridge.sync.documents import Mirror
from bridge.sync.mongodb import connect as connect_mongodb
from bridge.sync.propose.advice import charset_of
from bridge.sync.propose.look import look
from bridge.sync.sql.learn import learn
from bridge.sync.sql.watch import STATE_ID
from bridge.sync.state import State
from bridge.sync.types.typed import Typed

__all__ = ["types"]

ROWS = 500
"""That are looked at of each table, and as many of the newest."""


def types(settings: Settings) -> Iterator[Finding]:
    """Of every entity whose source is a table."""
    try:
        mirror = Mirror.of(settings)
        engine = connect(settings.sql_url) if settings.sql_url else None
    except BridgeError:
        return  # told already
    if engine is None:
        return
    try:
        kept = _kept(settings)
        for name, entity in mirror.entities.items():
            if entity.source is not None and entity.source.table is not None:
                yield from _entity(engine, mirror, name, kept.get(name))
    finally:
        engine.dispose()


def _kept(settings: Settings) -> Mapping[str, Any]:
    """By what types the workers went when they last looked."""
    if not settings.uses_mongodb:
        return {}
    try:
        with connect_mongodb(settings.mongodb_url) as client:
            return State(client.get_default_database()).get(STATE_ID) or {}
    except BridgeError:
        return {}


def _entity(
    engine: sql.Engine, mirror: Mirror, name: str, kept: Mapping[str, Any] | None
) -> Iterator[Finding]:
    entity = mirror.entities[name]
    assert entity.source is not None
    what, where = f"types of {name}", str(entity.source.table)
    try:
        with reading(engine) as connection:
            found = learn(connection, mirror, name)
            assert found is not None
            suspects = _suspects(connection, found)
    except BridgeError as error:
        yield Finding("bad", what, where, str(error), "bridgectl check shows the place")
        return
    except sql.exc.SQLAlchemyError:
        return  # told already
    if kept is not None and kept.get("waits"):
        yield Finding("bad", what, where, f"its events wait: {kept['waits']}", "bridgectl check")
    elif kept is not None and kept.get("digest") != found.table.digest:
        at = kept.get("at")
        since = f"{at:%Y-%m-%d %H:%M} UTC" if hasattr(at, "strftime") else "they started"
        says = f"the table has changed since the workers read it ({since})"
        do = f"they read it before its next event; then bridgectl snapshot {name} --rewrite"
        yield Finding("note", what, where, says, do)
    else:
        by = "" if kept is None else ", and the workers go by them"
        yield Finding("ok", what, where, f"{len(found.rules)} columns are known{by}")
    zoned = [
        field
        for field, column in found.columns.items()
        if column.type == "timestamp" and field in found.rules and field not in entity.drop
        and (field not in entity.fields or entity.fields[field].zone is None)
    ]  # fmt: skip
    # The log and what is read from the table beside it are in UTC: no text of PHP's is looked at.
    by_log = entity.source is not None and entity.source.log is True
    if zoned and found.table.dialect == "mysql" and mirror.file.zone is None and not by_log:
        says = f"TIMESTAMP without a zone: {', '.join(zoned)}; PHP's texts of them count as UTC"
        yield Finding("note", what, where, says, "write `zone: Europe/Berlin`, or UTC")
    for says, do in suspects:
        yield Finding("note", what, where, says, do)


def _suspects(connection: sql.Connection, found: Typed) -> list[tuple[str, str]]:
    """Fields whose texts are in another character set than sync.yaml and the column say."""
    seen = look(connection, found, rows=ROWS, limit=0)
    told = []
    for field, one in seen.columns.items():
        rule, column = found.rules[field], found.columns[field]
        evidence = one.evidence
        if evidence is None or rule.codec or not evidence.values or rule.misfit == "dead":
            continue
        stored = charset_of(column, found.table.dialect, evidence)
        if stored is not None:
            inner = ", ".join(f"{key}: {value}" for key, value in stored.items())
            told.append(
                (
                    f"{field} says {column.charset or 'binary'} and holds {stored['stored']} "
                    f"({evidence})",
                    f"fields: {{{field}: {{text: {{{inner}}}}}}}, then "
                    "bridgectl snapshot --rewrite",
                )
            )
    return told
