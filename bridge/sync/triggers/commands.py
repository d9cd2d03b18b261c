"""What `bridgectl sync triggers` does: the SQL for every entity that needs triggers, run or shown;
what is there; what no trigger sees of these tables.

First the triggers, then the base version: a row may be read only when every change of it is noted.
Where triggers were missing for a while, all rows get a new version, for nobody knows which of them
changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.database import log_text, reading
from bridge.queue.sql.outbox import Outbox
from bridge.sync.documents import Mirror
from bridge.sync.sql import versions
from bridge.sync.sql.learn import learn
from bridge.sync.sql.rows import as_bridge_error
from bridge.sync.triggers import mysql, postgresql, sqlite
from bridge.sync.triggers.blind import unseen
from bridge.sync.triggers.made import (
    below,
    bodies,
    explained,
    left_over,
    may_not,
    same,
    schema_of,
    uniques,
)
from bridge.sync.triggers.noted import (
    DatabaseObject,
    TriggerSpec,
    needs_none,
    noted,
    quote,
    with_triggers,
)
from bridge.sync.types import catalog
from bridge.sync.types.catalog import dialect_of

__all__ = ["TriggerState", "Triggers"]

Is = Literal["there", "missing", "outdated", "no base", "not needed", "dropped", "raised"]

LOCK_SECONDS = 5
"""So long may CREATE TRIGGER wait for the table: whoever comes after it waits as well."""


@dataclass(frozen=True, slots=True)
class TriggerState:
    """How the triggers of one entity are. did: what was done; do: what is to be done, for example
    for want of a right; unseen: what no trigger sees of this table; unproven: the server is one
    that this was written for, and never tried with."""

    entity: str
    table: str
    state: Is
    did: str = ""
    do: str = ""
    unseen: tuple[str, ...] = ()
    unproven: bool = False

    @property
    def good(self) -> bool:
        """Whether every change is noted."""
        return self.state in ("there", "not needed")


@dataclass(frozen=True)
class _Plan:
    """Of one entity. state: as it is now. made: what there has to be; wrong: those of it that are
    not there as they have to be."""

    noted: TriggerSpec
    state: TriggerState
    made: Sequence[DatabaseObject]
    wrong: Sequence[DatabaseObject]


class Triggers:
    """The triggers of one database. outbox: where they write.

    Every method raises BridgeError with what to do, and ServerAway.
    """

    def __init__(self, engine: sql.Engine, mirror: Mirror, outbox: Outbox) -> None:
        self._engine, self._mirror, self._outbox = engine, mirror, outbox

    def entities(self, names: Sequence[str]) -> list[str]:
        """Those that are meant: with their children, and all for none."""
        if not names:
            return with_triggers(self._mirror)
        found: dict[str, None] = {}
        for name in names:
            found[name] = None
            for child in self._mirror.entities[name].children.values():
                found[child.entity] = None
        return list(found)

    def check(self, names: Sequence[str]) -> list[TriggerState]:
        """What is there."""
        with self._errors(), reading(self._engine) as connection:
            return [self._look(connection, name)[0] for name in self.entities(names)]

    def script(self, names: Sequence[str]) -> str:
        """All of the SQL, whatever is there, for the client program of the database."""
        with self._errors(), reading(self._engine) as connection:
            dialect = dialect_of(connection)
            statements = [*self._tables(connection)]
            if dialect == "mysql":
                statements += mysql.SESSION
            for name in self.entities(names):
                if (plan := self._look(connection, name)[1]) is not None:
                    statements += [one for made in plan.made for one in made.create]
                    statements.append(versions.raise_base(dialect, name, anew=False))
        scripts = {"mysql": mysql.script, "postgresql": postgresql.script, "sqlite": sqlite.script}
        return scripts[dialect](statements)

    def apply(self, names: Sequence[str]) -> list[TriggerState]:
        """Make what is not there as it has to be."""
        with self._errors(), self._engine.begin() as connection:
            _run(connection, *self._tables(connection))
        return [self._apply(name) for name in self.entities(names)]

    def drop(self, names: Sequence[str]) -> list[TriggerState]:
        """Remove them, and forget that there were some. names: also of what is no entity of
        sync.yaml any more."""
        found = []
        known = [name for name in names if name in self._mirror.entities]
        others = [name for name in names if name not in self._mirror.entities]
        for name in (*(self.entities(known) if known or not names else ()), *others):
            entity = self._mirror.entities.get(name)
            table = (entity.source and entity.source.table if entity else "") or ""
            with self._errors(), self._engine.begin() as connection:
                _be_quick(connection)
                statements = left_over(connection, name, self._schema(connection))
                _run(connection, *statements)
                if sql.inspect(connection).has_table("bridge_versions"):
                    _run(connection, versions.forget_base(dialect_of(connection), name))
            did = f"{len(statements)} dropped" if statements else "there were none"
            found.append(TriggerState(name, table, "dropped", did))
        return found

    def raise_versions(self, names: Sequence[str]) -> list[TriggerState]:
        """Give every row of these entities a new version, by one row for each of them."""
        found = []
        for name in self.entities(names):
            with self._errors(), self._engine.begin() as connection:
                state, plan = self._look(connection, name)
                if plan is not None:
                    if not state.good:
                        raise BridgeError(
                            f"entity {name}: its triggers are {state.state}: first run "
                            f"`bridgectl sync triggers {name} --apply`"
                        )
                    dialect = dialect_of(connection)
                    _run(connection, versions.raise_base(dialect, name, anew=True))
                    did = f"every row has a new version now: run `bridgectl snapshot {name}`"
                    state = replace(state, state="raised", did=did)
            found.append(state)
        return found

    def _apply(self, name: str) -> TriggerState:
        with self._errors(name), self._engine.begin() as connection:
            _be_quick(connection)
            state, plan = self._look(connection, name)
            if plan is None or (state.good and not plan.wrong):
                return state
            dialect = dialect_of(connection)
            if dialect == "mysql":
                _run(connection, *mysql.SESSION)
            for made in plan.wrong:
                _run(connection, *made.create)
            # What changed while one was missing is not known. MySQL cannot replace one at once.
            gap = state.state == "missing" or (state.state == "outdated" and state.unproven)
            had = self._base(connection, name) is not None
            _run(connection, versions.raise_base(dialect, name, anew=gap and had))
            did = f"{len(plan.wrong)} made"
            if gap and had:
                did += f"; every row has a new version now: run `bridgectl snapshot {name}`"
            elif not had:
                did += f"; the first load is `bridgectl snapshot {name}`"
            return replace(state, state="there", did=did, do="")

    def _base(self, connection: sql.Connection, name: str) -> int | None:
        if not sql.inspect(connection).has_table("bridge_versions"):
            return None
        return versions.base_of(connection, name)

    def _look(self, connection: sql.Connection, name: str) -> tuple[TriggerState, _Plan | None]:
        if why := needs_none(self._mirror, name):
            return TriggerState(name, "", "not needed", do=why), None
        types = learn(connection, self._mirror, name)
        assert types is not None
        schema = self._schema(connection)
        dialect = dialect_of(connection)
        outbox = self._outbox_name(connection, types.table.schema)
        one = noted(self._mirror, types, outbox)
        if dialect == "postgresql":
            # The search_path of the function does not lead there.
            one = replace(one, table=replace(one.table, schema=schema_of(connection, one.table)))
        strange: Sequence[str] = ()
        heirs: Sequence[tuple[str, bool]] = ()
        if dialect == "mysql":
            made = mysql.triggers(one, mariadb=catalog.is_mariadb(connection))
        elif dialect == "postgresql":
            made = postgresql.triggers(one, schema)
            heirs = below(connection, str(one.table.schema), one.table.name)
        else:
            unique, strange = uniques(connection, types.table)
            made = sqlite.triggers(one, unique)
        there = bodies(connection, one, schema)
        wrong = [each for each in made if not same(there.get(each.name, ""), each.body)]
        is_: Is = "there"
        if any(each.name not in there for each in wrong):
            is_ = "missing"
        elif wrong:
            is_ = "outdated"
        elif self._base(connection, name) is None:
            is_ = "no base"
        lacking = may_not(connection, types.table, schema) if wrong else ""
        do = lacking or ("" if is_ == "there" else f"bridgectl sync triggers {name} --apply")
        state = TriggerState(
            name,
            types.table.full_name,
            is_,
            do=do,
            unseen=tuple(unseen(types.table, strange, heirs)),
            unproven=dialect == "mysql" and not catalog.is_mariadb(connection),
        )
        return state, _Plan(one, state, made, wrong)

    def _schema(self, connection: sql.Connection) -> str:
        if dialect_of(connection) != "postgresql":
            return ""
        return str(connection.execute(sql.text("SELECT current_schema()")).scalar())

    def _outbox_name(self, connection: sql.Connection, schema: str | None) -> str:
        """The outbox as a trigger on a table of this schema names it."""
        dialect, table = dialect_of(connection), self._outbox.table
        if dialect == "sqlite":
            if schema not in (None, "main") or table.schema not in (None, "main"):
                raise BridgeError(
                    "triggers of SQLite write only to tables of their own file: put the table and "
                    "the outbox in the file of BRIDGE_SQL_URL, and name them without a schema"
                )
            return quote(dialect, table.name)
        if table.schema:
            return quote(dialect, table.schema, table.name)
        if dialect == "postgresql":
            return quote(dialect, self._schema(connection), table.name)
        if schema is None:
            return quote(dialect, table.name)
        here = connection.execute(sql.text("SELECT DATABASE()")).scalar()
        return quote(dialect, str(here), table.name)

    def _tables(self, connection: sql.Connection) -> Iterator[str]:
        """Statements that make the bridge's two tables where they are not there."""
        table, dialect = self._outbox.table, dialect_of(connection)
        there = catalog.read(connection, table.fullname)
        if there is None:
            # What is printed may be run again. MySQL cannot say so of an index, MariaDB can.
            again = dialect != "mysql" or catalog.is_mariadb(connection)
            make: Any = sql.schema.CreateTable(table, if_not_exists=True)
            yield str(make.compile(dialect=connection.dialect)).strip()
            for index in table.indexes:
                make = sql.schema.CreateIndex(index, if_not_exists=again)
                yield str(make.compile(dialect=connection.dialect))
        elif dialect == "mysql":
            key = there.column("aggregateid")
            if key is None or key.charset not in ("utf8mb4", "") or (key.length or 0) < 1024:
                raise BridgeError(
                    f"the column aggregateid of {table.fullname} cannot hold every key: "
                    f"ALTER TABLE {table.fullname} MODIFY aggregateid VARCHAR(1024) CHARACTER SET "
                    "utf8mb4 COLLATE utf8mb4_bin NOT NULL"
                )
        yield versions.definition(dialect)

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except sql.exc.DBAPIError as error:
            types = self._mirror.typed(name) if name else None
            if types is not None and (told := explained(error.orig, types.table)):
                raise BridgeError(f"entity {name}: {told}") from error
            found = as_bridge_error(error, name, self._engine)
            if isinstance(found, ServerAway):
                raise found from error
            about = f"entity {name}: " if name else ""
            raise BridgeError(
                f"{about}the triggers cannot be made or looked at: {log_text(error)}. "
                "`bridgectl sync triggers --check` shows what is there. The rights that it takes "
                "are in docs/sync.md; or let who has them run what `bridgectl sync triggers` prints"
            ) from error


def _run(connection: sql.Connection, *statements: str) -> None:
    # Without parameters nobody looks for any: a percent sign is one.
    plain = connection.execution_options(no_parameters=True)
    for statement in statements:
        plain.exec_driver_sql(statement)


def _be_quick(connection: sql.Connection) -> None:
    """Not to wait long for a table, because all who come later wait for us then."""
    if dialect_of(connection) == "mysql":
        connection.detach()  # what is set here is not for whoever comes next
    settings: Mapping[str, str] = {
        "mysql": f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}",
        "postgresql": f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'",
    }
    if statement := settings.get(dialect_of(connection)):
        _run(connection, statement)
