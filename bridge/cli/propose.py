"""Verbs that begin with the site's database: sync propose, sync types."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bridge.cli.options import check_entities, how_many
from bridge.cli.output import Format, as_json, format_option, show_rows
from bridge.cli.working import bar
from bridge.errors import BridgeError, ConfigError
from bridge.settings import Settings, redact_url
from bridge.units import several

if TYPE_CHECKING:
    import sqlalchemy as sql

    from bridge.sync.propose.proposal import Progress

__all__ = ["propose", "types"]


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--write", is_flag=True, help="Write it to BRIDGE_SYNC instead of printing it.")
@click.option("--force", is_flag=True, help="With --write: overwrite the existing file.")
@how_many(
    "--rows",
    10_000,
    0,
    "Rows of each table to read; 0: only its definition.",
    most=1_000_000,
    n="N",
)
@click.option(
    "--version",
    default="",
    metavar="COLUMN",
    help="The column that every change raises, in the tables that have it.",
)
@click.option(
    "--from",
    "way",
    type=click.Choice(["triggers", "log"]),
    default="triggers",
    help="How changes come: by triggers and the outbox, or from the database's own log.",
)
@format_option
def propose(
    tables: tuple[str, ...],
    write: bool,
    force: bool,
    rows: int,
    version: str,
    way: str,
    output: Format,
) -> None:
    """Write a sync.yaml from the database of BRIDGE_SQL_URL: all of its tables, or those named.

    The file has their keys and indexes, and comments on what does not mirror well. Some rows of
    each table are read to find texts in another character set than their column says.
    `bridgectl check` accepts the file as it is. The database is not changed.

    With `--from log` it says what the server lacks (settings, rights) so that its log can be read,
    each with the statement that mends it, and what the log does not show of these tables.

    \b
    Example:
      bridgectl sync propose > sync.yaml
      bridgectl sync propose wp_posts wp_postmeta --write
      bridgectl sync propose --from log
    """
    from bridge.sync.entities import load
    from bridge.sync.propose.proposal import ProposalOptions
    from bridge.sync.propose.proposal import propose as proposed
    from bridge.sync.propose.written import as_data, next_steps, written

    settings = Settings.from_environ()
    if force and not write:
        raise click.UsageError("--force is for --write")
    if write and os.path.exists(settings.sync) and not force:
        raise BridgeError(
            f"{settings.sync} is there already: leave --write out to see the proposal, or replace "
            "the file with --write --force"
        )
    log = way == "log"
    if log and version:
        raise click.UsageError("--version is for triggers: the log gives the versions")
    options = ProposalOptions(rows, version, log=log)
    # `> sync.yaml` has made an empty file of it already.
    with suppress(ConfigError):
        options = replace(options, outbox=load(settings.sync).outbox.table)
    with _database(settings, "the tables to propose") as engine, _progress() as tell:
        found = proposed(engine, tables, options, tell)
    text = written(found, redact_url(settings.sql_url))
    if write:
        settings.sync.write_text(text, encoding="utf-8")
    if output == "json":
        click.echo(as_json(as_data(found)))
    elif not write:
        click.echo(text, nl=False)
    if write:
        many = several(len(found.entities), "table")
        click.echo(f"bridge: {settings.sync} is written: {many}", err=True)
        click.echo(f"bridge: read its comments, then: {'; '.join(next_steps(log=log))}", err=True)
    for need in found.needs or ():
        kind = "better" if need.is_advice else "missing"
        click.echo(f"bridge: {kind}: {need.says}: {need.do}", err=True)


@click.command()
@click.argument("entities", nargs=-1, metavar="[ENTITY]...")
@format_option
def types(entities: tuple[str, ...], output: Format) -> None:
    """Show what each column of the mirrored tables becomes, and how keys are written.

    It shows all entities of sync.yaml whose source is a table, or those named.

    \b
    Example:
      bridgectl sync types project
      bridgectl sync types -o json
    """
    from bridge.queue.sql.database import reading
    from bridge.sync.documents import Mirror
    from bridge.sync.propose.listed import COLUMNS, listed
    from bridge.sync.server_errors import no_entities
    from bridge.sync.sql.learn import learn

    settings = Settings.from_environ()
    mirror = Mirror.of(settings)
    if not mirror.entities:
        raise no_entities(settings)
    check_entities(settings, mirror, entities)
    rows: list[dict[str, str]] = []
    untyped: list[str] = []
    with _database(settings, "types") as engine, reading(engine) as connection:
        for name in entities or mirror.entities:
            found = learn(connection, mirror, name)
            if found is None:
                untyped.append(name)
            else:
                rows += listed(found, mirror.entities[name], mirror.file.zone)
    show_rows(rows, COLUMNS, output)
    if untyped:
        names = ", ".join(untyped)
        click.echo(f"bridge: no table, so stored as their producers send them: {names}", err=True)


@contextmanager
def _database(settings: Settings, what: str) -> Iterator[sql.Engine]:
    """The site's database, and its errors as people need them."""
    from sqlalchemy.exc import SQLAlchemyError

    from bridge.queue.sql import cause as sqlcause
    from bridge.queue.sql.database import connect

    if not settings.sql_url:
        raise BridgeError(
            f"set BRIDGE_SQL_URL, or BRIDGE_SQL_URL_FILE, to the site's database: {what} are read "
            "from it"
        )
    engine = connect(settings.sql_url)
    try:
        sqlcause.check(engine)
        yield engine
    except SQLAlchemyError as error:
        raise sqlcause.unusable(error, engine.url) from error
    finally:
        engine.dispose()


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error where that is a terminal."""
    with bar() as progress:
        task = progress.add_task("tables", total=None)

        def tell(table: str, number: int, many: int) -> None:
            progress.update(task, description=table or "tables", completed=number, total=many)

        yield tell
