"""`bridgectl snapshot --rewrite --dry-run`: which documents would change, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from bridge.cli.output import Format, show_rows
from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.queue.sql import cause as sqlcause
from bridge.queue.sql.database import connect
from bridge.settings import Settings, redact_url
from bridge.sync.documents import Mirror
from bridge.sync.mongodb import connect as connect_mongodb
from bridge.sync.propose.rewritten import COLUMNS, Rewritten, rewritten, summary
from bridge.sync.server_errors import mongodb_missing
from bridge.sync.snapshot.choice import choose

__all__ = ["dry_run"]


def dry_run(settings: Settings, entities: Sequence[str], rows: int, output: Format) -> None:
    """Show it. Raises ServerMissing, and BridgeError where a source does not fit."""
    mirror = Mirror.of(settings)
    chosen = choose(mirror, entities)
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the site's database, which is to be compared")
    engine = connect(settings.sql_url)
    found: list[Rewritten] = []
    try:
        sqlcause.check(engine)
        with connect_mongodb(settings.mongodb_url) as client:
            database = client.get_default_database()
            for name in chosen:
                found += rewritten(engine, database, mirror, name, rows)
    except ServerAway as error:
        if str(error).startswith("the SQL database"):
            where = redact_url(settings.sql_url)
            raise ServerMissing("the SQL database", where, "its service", error) from error
        raise mongodb_missing(settings.mongodb_url, error) from error
    finally:
        engine.dispose()
    data = [{**asdict(one), "changes": [asdict(c) for c in one.changes.values()]} for one in found]
    table = [
        {"entity": one.entity, **asdict(change), "documents": f"{change.documents:,}"}
        for one in found
        for change in one.changes.values()
    ]
    if output == "json" or table:
        show_rows(table, COLUMNS, output, data=data)
    for one in found:
        click.echo(f"bridge: {summary(one)}", err=True)
    if table:
        click.echo("bridge: to write them: bridgectl snapshot --rewrite", err=True)
