"""The types that a worker goes by: learned at its start, and looked at again before every batch.

An event is made after the change of its table was committed, so what the table is when the event
is here is what its data are of, or newer. A table that does not fit sync.yaml any more holds up
the events of its own entity, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

import sqlalchemy as sql
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.cause import absent, cause_of
from bridge.queue.sql.database import at_level, connect, reading
from bridge.sync.documents import Mirror
from bridge.sync.sql.learn import learn, refresh
from bridge.sync.state import State

__all__ = ["STATE_ID", "TypeWatch"]

STATE_ID = "types"
"""Of the document in `bridge_state` that says by which types the workers go: entity to digest of
its table, when it was read, and what does not fit, empty where it does."""


class TypeWatch:
    """Looks at the tables of a mirror's entities. For one thread.

    sql_url: the site's database; empty where no entity has a table.
    state: where the types are kept by which the workers go.

    Raises BridgeError for a URL that cannot be used.
    """

    def __init__(
        self, sql_url: str, mirror: Mirror, state: State, log: FilteringBoundLogger
    ) -> None:
        self._mirror, self._state, self._log = mirror, state, log
        self._tables = frozenset(
            name
            for name, entity in mirror.entities.items()
            if entity.source is not None and entity.source.table is not None
        )
        if self._tables and not sql_url:
            names = ", ".join(sorted(self._tables))
            raise BridgeError(
                f"set BRIDGE_SQL_URL for the worker, too: the types of {names} are read from their "
                "tables, and whether these have changed is looked at before every batch"
            )
        self._engine = connect(sql_url) if self._tables else None
        self._connection: sql.Connection | None = None
        self._kept = ExitStack()  # the connection
        self._waiting: dict[str, str] = {}

    def start(self) -> None:
        """Learn all types. Raises BridgeError for a table that does not fit, ServerAway."""
        if self._engine is None:
            return
        with self._connected() as connection:
            for name in sorted(self._tables):
                learn(connection, self._mirror, name)
        self._keep(self._tables)

    def look(self, entities: Iterable[str]) -> dict[str, str]:
        """Look at the tables of these entities, and of their children. Gives those whose events
        have to wait, each with the reason. Raises ServerAway."""
        if self._engine is None:
            return {}
        family = self._family(entities)
        if not family:
            return {}
        waiting: dict[str, str] = {}
        changed: list[str] = []
        with self._connected() as connection:
            for name in family:
                try:
                    changed += refresh(connection, self._mirror, [name])
                except BridgeError as error:
                    waiting[self._mirror.parent_of.get(name, name)] = str(error)
        for name in changed:
            do = f"bridgectl snapshot {name} --rewrite: older documents keep their types until then"
            self._log.warning("types.changed", entity=name, do=do)
        if changed or waiting != self._waiting:
            self._keep(family)
        for name, why in waiting.items():
            if self._waiting.get(name) != why:
                self._log.error("types.waiting", entity=name, cause=why)
        self._waiting = {
            name: why for name, why in self._waiting.items() if name not in family
        } | waiting
        return waiting

    def close(self) -> None:
        """Let go of the database."""
        self._hang_up()
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[sql.Connection]:
        """A connection that is kept, outside of any transaction: a batch must not pay for a new
        one. Errors of the database are an outage, which is waited for."""
        assert self._engine is not None
        if (cause := absent(self._engine.url)) is not None:
            raise ServerAway(f"the SQL database {cause.says}: {cause.do}")
        try:
            if self._engine.dialect.name == "sqlite":
                with reading(self._engine) as connection:
                    yield connection
                return
            if self._connection is None:
                made = at_level(self._engine, "AUTOCOMMIT")
                self._connection = self._kept.enter_context(made)
            yield self._connection
        except sql.exc.SQLAlchemyError as error:
            self._hang_up()
            why = cause_of(error, self._engine.url)
            raise ServerAway(f"the SQL database {why}") from error

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sql.exc.SQLAlchemyError), self._kept:
                connection.invalidate()

    def _family(self, entities: Iterable[str]) -> Sequence[str]:
        names: dict[str, None] = {}
        for entity in entities:
            names[entity] = None
            found = self._mirror.entities.get(entity)
            if found is not None:
                names.update(dict.fromkeys(child.entity for child in found.children.values()))
        return [name for name in names if name in self._tables]

    def _keep(self, names: Iterable[str]) -> None:
        """Say by what this worker goes, for `bridgectl doctor`."""
        now = datetime.now(UTC)
        said = self._state.get(STATE_ID) or {}
        for name in names:
            known = self._mirror.typed(name)
            said[name] = {
                "digest": "" if known is None else known.table.digest,
                "at": now,
                "waits": "" if known else "its table does not fit sync.yaml",
            }
        said.pop("_id", None)
        self._state.put(STATE_ID, said)
