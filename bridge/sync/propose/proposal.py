"""The whole of a proposal: reads the tables of a database and looks at their rows.

Only asks. `written` makes the file of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.database import log_text, reading
from bridge.sync.log import needs
from bridge.sync.log.cascades import QUIET
from bridge.sync.log.needs import Need
from bridge.sync.models import MAX_DOCUMENT, File
from bridge.sync.propose.advice import advised, timestamps
from bridge.sync.propose.draft import Draft, Note, draft, why_not
from bridge.sync.propose.look import TableSample, look
from bridge.sync.types import catalog
from bridge.sync.types.column import Table
from bridge.sync.types.typed import typed
from bridge.yamlfile import did_you_mean

__all__ = ["LeftOut", "Progress", "Proposal", "ProposalOptions", "propose"]

Progress = Callable[[str, int, int], None]
"""Is told a table, which of them it is, and how many there are."""


@dataclass(frozen=True, slots=True)
class ProposalOptions:
    """rows: of each table to look at, 0 for none. version: the column that is a version, in the
    tables that have it. outbox: the name of our table. log: whether changes come from the
    database's log."""

    rows: int = 10_000
    version: str = ""
    outbox: str = File(version=1).outbox.table
    log: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A table that cannot be mirrored, and why."""

    table: str
    note: Note


@dataclass(frozen=True)
class Proposal:
    """What would stand in sync.yaml. max_document: bytes; None for the default. timestamps:
    entity to fields of MySQL's TIMESTAMP. needs: what keeps the log from being read, where that
    was asked for; None where it was not."""

    entities: tuple[Draft, ...]
    left_out: tuple[LeftOut, ...]
    max_document: int | None
    timestamps: dict[str, list[str]]
    rows: int
    needs: tuple[Need, ...] | None = None


def propose(
    engine: sql.Engine,
    tables: Sequence[str],
    options: ProposalOptions,
    progress: Progress = lambda table, number, many: None,
) -> Proposal:
    """What would stand in sync.yaml.

    tables: these, or all of the connection's schema where it is empty.

    Raises BridgeError for a table that is not there, and SQLAlchemy's errors.
    """
    lacking: tuple[Need, ...] | None = None
    unseen: dict[str, tuple[Note, ...]] = {}
    with reading(engine) as connection:
        there = catalog.names(connection)
        if options.log:
            lacking, unseen = _of_the_log(connection)
    for name in tables:
        if name not in there and _read(engine, name) is None:
            hint = did_you_mean(name, there) or f"there are: {', '.join(there) or 'none'}"
            raise BridgeError(f"this database has no table {name}: {hint}")
    chosen = list(dict.fromkeys(tables)) or there
    taken: set[str] = set()
    drafts: list[Draft] = []
    left_out: list[LeftOut] = []
    usual = File(version=1).max_document
    over = False
    for number, name in enumerate(chosen):
        progress(name, number, len(chosen))
        found = _read(engine, name)
        if found is None:
            why: Note | None = Note("gone", "it is not there, or this user may not see it")
        else:
            why = why_not(found, options.outbox, log=options.log)
        if found is None or why is not None:
            if why is not None and why.kind != "ours":
                left_out.append(LeftOut(name, why))
            continue
        made = draft(found, taken, options.version, log=options.log)
        taken |= {made.name, str(made.said["collection"])}
        seen = _look(engine, made, options.rows, usual) if options.rows else TableSample()
        over = over or bool(seen.over)
        made = replace(made, notes=(*made.notes, *unseen.get(found.name, ())))
        drafts.append(advised(made, seen))
    progress("", len(chosen), len(chosen))
    zoned = {one.name: fields for one in drafts if (fields := timestamps(one))}
    limit = MAX_DOCUMENT if over else None
    return Proposal(tuple(drafts), tuple(left_out), limit, zoned, options.rows, lacking)


def _of_the_log(
    connection: sql.Connection,
) -> tuple[tuple[Need, ...], dict[str, tuple[Note, ...]]]:
    """What keeps the log from being read, and by table what it does not show."""
    if catalog.dialect_of(connection) != "mysql":
        raise BridgeError("the log is read of MariaDB and MySQL only; leave `--from log` out")
    found: dict[str, tuple[Note, ...]] = {}
    for one in needs.cascades(connection):
        _, name = one.child
        what = " and ".join(
            f"ON {word} {rule}"
            for word, rule in (("DELETE", one.deletes), ("UPDATE", one.updates))
            if rule not in QUIET
        )
        text = f"rows change with those of {one.parent[1]} ({what}), which the log does not show: "
        text += "`bridgectl capture` looks at them when it sees that"
        found[name] = (*found.get(name, ()), Note("cascade", text))
    return tuple(needs.missing(needs.look(connection))), found


def _read(engine: sql.Engine, name: str) -> Table | None:
    with reading(engine) as connection:
        return catalog.read(connection, name)


def _look(engine: sql.Engine, made: Draft, rows: int, limit: int) -> TableSample:
    """In a transaction of its own; a table that cannot be read is told, and harms no other."""
    types = typed(made.name, made.entity, made.table, None)
    try:
        with reading(engine) as connection:
            return look(connection, types, rows=rows, limit=limit)
    except sql.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        return TableSample(failed=log_text(error))
