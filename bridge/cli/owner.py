"""The verb that gives the versions of an entity to another owner: sync owner."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bridge.cli.options import check_entities
from bridge.cli.output import Format, as_json, format_option
from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.settings import Settings, redact_url

if TYPE_CHECKING:
    from bridge.sync.owners import To, Transfer

__all__ = ["owner"]


@click.command()
@click.argument("entity")
@click.option(
    "--to",
    type=click.Choice(["log", "triggers", "column"]),
    required=True,
    help="Who is to give the versions: the database's log, triggers, or a column.",
)
@click.option("--dry-run", is_flag=True, help="Only look, and say what would be done.")
@format_option
def owner(entity: str, to: To, dry_run: bool, output: Format) -> None:
    """Give the versions of an entity to another owner, above all that MongoDB has.

    It says what to write in sync.yaml, and does not write it. When sync.yaml names the owner, the
    same command looks whether everything that the owner gives will win, and raises the owner where
    that takes no change of the site's tables; else it prints the SQL. Run it until it is done.

    The exit code is 0 when it is done, and 1 when something is left to do.

    \b
    Example:
      bridgectl sync owner project --to log
      bridgectl sync owner project --to triggers --dry-run
    """
    from bridge.queue.sql import cause as sqlcause
    from bridge.queue.sql.database import connect
    from bridge.sync.documents import Mirror
    from bridge.sync.mongodb import connect as connect_mongodb
    from bridge.sync.owners import transfer
    from bridge.sync.server_errors import mongodb_missing

    settings = Settings.from_environ()
    mirror = Mirror.of(settings)
    check_entities(settings, mirror, [entity])
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the database of the site, which has its tables")
    engine = connect(settings.sql_url)
    try:
        sqlcause.check(engine)
        with connect_mongodb(settings.mongodb_url, answer=120.0) as client:
            database = client.get_default_database()
            found = transfer(engine, settings.sql_url, database, mirror, entity, to, dry=dry_run)
    except ServerAway as error:
        if str(error).startswith("the SQL database"):
            where = redact_url(settings.sql_url)
            raise ServerMissing("the SQL database", where, "its service", error) from error
        raise mongodb_missing(settings.mongodb_url, error) from error
    finally:
        engine.dispose()
    if output == "json":
        click.echo(as_json({**asdict(found), "done": found.is_done}))
    else:
        _show(found)
    if not found.is_done:
        raise click.exceptions.Exit(1)


def _show(found: Transfer) -> None:
    click.echo(f"{found.entity}: the highest version in MongoDB is {found.highest}")
    if found.gives is not None:
        click.echo(f"{found.to}: gives {found.gives} or more")
    if found.did:
        click.echo(f"done: {found.did}")
    if found.write:
        click.echo(f"in sync.yaml: {found.write}")
    for statement in found.statements:
        click.echo(f"{statement};")
    click.echo(f"next: {found.then}")
