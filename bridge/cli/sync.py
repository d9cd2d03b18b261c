"""Verbs of the mirror itself: sync init, sync triggers; others are in `propose` and `owner`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bridge.cli.options import check_entities
from bridge.cli.output import Format, as_json, format_option, headings, show_rows
from bridge.cli.owner import owner
from bridge.cli.propose import propose, types
from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.settings import Settings, redact_url

if TYPE_CHECKING:
    from bridge.sync.triggers.commands import TriggerState

__all__ = ["sync"]

_DONE = {"create": "made", "replace": "replaced", "retire": "retired", "keep": "is there"}
_WOULD = {name: f"would be {done}" for name, done in _DONE.items()} | {"keep": "is there"}


@click.group()
def sync() -> None:
    """From a database to a mirror: sync.yaml, types, triggers, and indexes of MongoDB.

    \b
    Example:
      bridgectl sync propose --write
      bridgectl sync types
      bridgectl sync init --dry-run
    """


sync.add_command(propose)
sync.add_command(types)
sync.add_command(owner)


@sync.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@format_option
def init(dry_run: bool, output: Format) -> None:
    """Make the indexes that sync.yaml declares, and those of the mirror. Safe to repeat.

    A worker makes missing indexes at its start. This verb also replaces the bridge's own indexes
    whose declaration has changed, and waits until all are built.

    \b
    Example:
      bridgectl sync init
    """
    from bridge.sync import indexes
    from bridge.sync.documents import Mirror
    from bridge.sync.mongodb import connect
    from bridge.sync.server_errors import mongodb_missing, no_entities

    settings = Settings.from_environ()
    mirror = Mirror.of(settings)
    if not mirror.entities:
        raise no_entities(settings)
    with connect(settings.mongodb_url, answer=None) as client:
        database = client.get_default_database()
        try:
            steps = (indexes.plan if dry_run else indexes.run)(database, mirror)
        except ServerAway as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
    words = _WOULD if dry_run else _DONE
    rows = [{**asdict(step), "state": words.get(step.action, step.action)} for step in steps]
    show_rows(rows, headings("collection", "index", "fields", "state", "note"), output)
    if hindered := [step for step in steps if step.action == "in the way"]:
        names = ", ".join(f"{step.collection}.{step.index}" for step in hindered)
        raise BridgeError(f"another index is in the way of {names}: drop it as the note says")
    sources = [one.source for one in mirror.entities.values()]
    owners = {one.owner if one else "" for one in sources}
    if not dry_run:
        way = [
            *(["sync triggers --apply"] if "beside" in owners else ()),
            *(["capture"] if any(one and one.log for one in sources) else ()),
            *(["worker", "relay"] if owners != {"log"} else ()),
            "snapshot",
            "reconcile --deep",
        ]
        click.echo(f"bridge: next: {'; '.join(f'bridgectl {one}' for one in way)}", err=True)


@sync.command()
@click.argument("entities", nargs=-1, metavar="[ENTITY]...")
@click.option("--apply", is_flag=True, help="Run it: make missing triggers.")
@click.option("--check", is_flag=True, help="Check them; exit code 1 if one is missing or old.")
@click.option("--drop", is_flag=True, help="Remove the triggers.")
@click.option(
    "--raise",
    "anew",
    is_flag=True,
    help="Give every row a new version, for example after the database was restored.",
)
@format_option
def triggers(
    entities: tuple[str, ...], apply: bool, check: bool, drop: bool, anew: bool, output: Format
) -> None:
    """Note every change of the tables without a `version:`, by triggers of the bridge.

    Without an option it prints the SQL, for a user who has the rights to run it. It is about all
    entities that need triggers, or those named, with their children. A trigger writes one row to
    the outbox after the site's own row, and locks nothing that other statements wait for.

    \b
    Example:
      bridgectl sync triggers > triggers.sql        # and mysql shop < triggers.sql
      bridgectl sync triggers order customer --apply
      bridgectl sync triggers --check
    """
    from bridge.queue.sql.database import connect
    from bridge.queue.sql.outbox import Outbox
    from bridge.sync.documents import Mirror
    from bridge.sync.server_errors import no_entities
    from bridge.sync.triggers.commands import Triggers

    asked = {"apply": apply, "check": check, "drop": drop, "raise": anew}
    ways = [name for name, given in asked.items() if given]
    if len(ways) > 1:
        raise click.UsageError(f"--{' and --'.join(ways)}? Give one of them")
    way = ways[0] if ways else None
    settings = Settings.from_environ()
    mirror = Mirror.of(settings)
    if way != "drop":
        check_entities(settings, mirror, entities)
        if not mirror.entities:
            raise no_entities(settings)
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the database of the site, which has its tables")
    engine = connect(settings.sql_url)
    try:
        outbox = Outbox(engine, table=mirror.file.outbox.table)
        made = Triggers(engine, mirror, outbox)
        if way is None:
            text = made.script(entities)
            click.echo(as_json({"sql": text}) if output == "json" else text)
            return
        do = {
            "apply": made.apply,
            "check": made.check,
            "drop": made.drop,
            "raise": made.raise_versions,
        }[way]
        states = do(entities)
    except ServerAway as error:
        where = redact_url(settings.sql_url)
        raise ServerMissing("the SQL database", where, "its service", error) from error
    finally:
        engine.dispose()
    _show_triggers(states, output)
    if way == "check" and not all(state.good for state in states):
        raise click.exceptions.Exit(1)


def _show_triggers(states: Sequence[TriggerState], output: Format) -> None:
    rows = [asdict(state) for state in states]
    for row in rows:
        row["state"] = f"{row['state']}, unproven" if row["unproven"] else row["state"]
    words = ("entity", "table", "state: Triggers", "did: Done", "do: To do", "unseen: Not seen")
    shown = {key: word for key, word in headings(*words).items() if any(row[key] for row in rows)}
    show_rows(rows, shown, output, data=[asdict(state) for state in states])
