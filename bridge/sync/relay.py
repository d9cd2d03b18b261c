"""The relay as sync.yaml and the environment describe it; `bridgectl relay` runs it.

How rows move is `bridge.queue.relay.relay`; here are only the connections that it needs.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sql
from pymongo.errors import PyMongoError
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ConfigError, Problem
from bridge.queue.relay.relay import Relay, RelayCounters, SpoolSource
from bridge.queue.relay.spool import Spool
from bridge.queue.sql import cause as sqlcause
from bridge.queue.sql.outbox import Outbox, connect
from bridge.queue.status import QueueStatus, read
from bridge.settings import Settings, redact_url
from bridge.sync.apply import connect as connect_mongodb
from bridge.sync.apply import versions
from bridge.sync.documents import Mirror
from bridge.sync.entities import File, load
from bridge.sync.mongodb import ping
from bridge.sync.probe import logged_entities
from bridge.sync.server_errors import check_broker, mongodb_missing
from bridge.sync.touched import Fetcher

__all__ = ["Sources", "queue_status", "run_relay"]

SPOOLED = "spool.sqlite"
"""In the state directory: the outbox of what comes from spool directories, so that a site
without a database for us has the same guarantee."""


@dataclass(frozen=True)
class Sources:
    """What sync.yaml and the environment name, ready to be looked at. `site` is the outbox in the
    site's database, `spooled` that of the spool directories; each None where there is none."""

    file: File
    site: Outbox | None
    spooled: Outbox | None
    spools: tuple[Spool, ...]

    @classmethod
    def of(cls, settings: Settings) -> Sources:
        """Read sync.yaml. Raises ConfigError, or BridgeError for a URL that cannot be used."""
        file = load(settings.sync)
        site = spooled = None
        if settings.sql_url:
            site = Outbox(
                connect(settings.sql_url),
                table=file.outbox.table,
                keep=file.outbox.keep,
                max_event=file.max_event,
            )
        elif file.queues:
            text = "a SQL queue needs the site's database, where its rows go to the outbox"
            hint = "set BRIDGE_SQL_URL"
            raise ConfigError([Problem(str(settings.sync), 0, 0, text, hint)])
        if file.spool:
            settings.state_dir.mkdir(parents=True, exist_ok=True)
            kept = connect(f"sqlite:///{settings.state_dir / SPOOLED}")
            spooled = Outbox(kept, max_event=file.max_event)
        spools = [Spool(Path(name), max_event=file.max_event) for name in file.spool]
        return cls(file, site, spooled, tuple(spools))

    @property
    def outboxes(self) -> list[Outbox]:
        """Those that are named."""
        return [outbox for outbox in (self.site, self.spooled) if outbox is not None]

    @property
    def of_log_alone(self) -> bool:
        """Whether all entities come from the database's log, so that nothing needs an outbox or a
        worker."""
        return bool(self.file.entities) and logged_entities(self.file) == self.file.entities.keys()

    def in_use(self) -> list[Outbox]:
        """Those that are there: a relay makes the one for spools when it starts, and a database
        whose log is read need not have one."""
        there = []
        if self.site is not None and not (self.of_log_alone and _lacks(self.site)):
            there.append(self.site)
        if self.spooled and Path(str(self.spooled.engine.url.database)).exists():
            there.append(self.spooled)
        return there

    def lag(self) -> float:
        """The age in seconds of the oldest change that MongoDB does not hold, 0 where there is
        none, no outbox, or no answer."""
        found = 0.0
        for outbox in self.in_use():
            with suppress(sql.exc.SQLAlchemyError):
                found = max(found, outbox.backlog().lag)
        return found


def _lacks(outbox: Outbox) -> bool:
    """Whether its table is not there; whoever asks it finds out what else there is."""
    try:
        return not sql.inspect(outbox.engine).has_table(outbox.table.name, outbox.table.schema)
    except sql.exc.SQLAlchemyError:
        return False


def queue_status(settings: Settings, sources: Sources, *, mongodb: bool = True) -> QueueStatus:
    """How the queue is now, and whether MongoDB answers; what does not is named in it. Who is not
    used (`Settings`) is not asked, and neither is MongoDB for callers who know."""
    url = settings.broker_url if settings.uses_broker else None
    asked = mongodb and settings.uses_mongodb
    others = {"mongodb": lambda: ping(settings.mongodb_url)} if asked else {}
    return read(url, settings.state_dir, sources.in_use(), sources.spools, others)


def run_relay(
    settings: Settings,
    *,
    stop: threading.Event,
    log: FilteringBoundLogger,
    counters: RelayCounters | None = None,
) -> RelayCounters:
    """Relay until `stop` is set; return what was done.

    counters: what is counted in; by default new ones.

    Raises ServerMissing when a server does not answer at the start, ConfigError for a wrong
    sync.yaml, and BridgeError when there is nothing to relay or a table is missing.
    """
    counters = RelayCounters() if counters is None else counters
    sources = Sources.of(settings)
    if not sources.outboxes and not sources.file.lists:
        raise BridgeError(
            "there is nothing to relay: set BRIDGE_SQL_URL to the database with the outbox, or "
            f"name spool directories or lists in {settings.sync}"
        )
    mirror = Mirror.of(settings)
    with ExitStack() as stack, connect_mongodb(settings.mongodb_url) as client:
        for outbox in sources.outboxes:
            stack.callback(outbox.engine.dispose)
        check_broker(settings.broker_url)
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
        if sources.site:
            _check_outbox(sources.site, settings)
        if sources.spooled:
            sources.spooled.create()
        database = client.get_default_database()
        source = sources.file.outbox.source
        outboxes = [(sources.site, source)] if sources.site else []
        if sources.spooled:
            # Both count their rows from 1, and an event's id must be one of a kind.
            outboxes.append((sources.spooled, f"{source}#spool"))
        relay = Relay(
            settings.broker_url,
            outboxes=outboxes,
            held=lambda identities: versions(database, mirror, identities),
            log=log,
            spools=[
                SpoolSource(spool, sources.spooled) for spool in sources.spools if sources.spooled
            ],
            queues=[(queue, sources.site) for queue in sources.file.queues if sources.site],
            lists=sources.file.lists,
            fetch=Fetcher(sources.site.engine, mirror, source) if sources.site else None,
            compared=frozenset(
                name
                for name, one in mirror.entities.items()
                if one.source is not None and one.source.owner == "log"
            ),
            counters=counters,
            max_event=sources.file.max_event,
        )
        if not mirror.entities:
            log.warning("relay.no_entities", do=f"name what is mirrored in {settings.sync}")
        log.info("relay.started", outboxes=[outbox.table.fullname for outbox, _ in outboxes])
        relay.run(stop)
    log.info("relay.stopped", published=counters.published, freed=counters.freed)
    return counters


def _check_outbox(outbox: Outbox, settings: Settings) -> None:
    sqlcause.check(outbox.engine)
    try:
        outbox.backlog()
    except sql.exc.SQLAlchemyError as error:
        if sqlcause.cause_of(error, outbox.engine.url).kind == "no table":
            raise _no_table(outbox, redact_url(settings.sql_url)) from error
        raise sqlcause.unusable(error, outbox.engine.url) from error


def _no_table(outbox: Outbox, where: str) -> BridgeError:
    dialect = outbox.engine.dialect.name.replace("mariadb", "mysql")
    return BridgeError(
        f"there is no table {outbox.table.fullname} at {where}: `bridgectl sync triggers --apply` "
        f"makes it, or create it with php/sql/outbox.{dialect}.sql, or name yours in sync.yaml "
        "under `outbox: table:`"
    )
