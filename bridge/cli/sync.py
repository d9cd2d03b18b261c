"""Verbs of the mirror itself: sync init; others are in `propose` and `triggers`."""

from __future__ import annotations

from dataclasses import asdict

import click

from bridge.cli.output import Format, format_option, show_rows
from bridge.cli.propose import propose, types
from bridge.cli.triggers import triggers
from bridge.errors import BridgeError, ServerAway
from bridge.settings import Settings

__all__ = ["sync"]

_DONE = {"create": "made", "replace": "replaced", "retire": "retired", "keep": "is there"}
_WOULD = {
    "create": "would be made",
    "replace": "would be replaced",
    "retire": "would be retired",
    "keep": "is there",
}


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
sync.add_command(triggers)


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
    headings = {
        "collection": "Collection",
        "index": "Index",
        "fields": "Fields",
        "state": "State",
        "note": "Note",
    }
    show_rows(rows, headings, output)
    if hindered := [step for step in steps if step.action == "in the way"]:
        names = ", ".join(f"{step.collection}.{step.index}" for step in hindered)
        raise BridgeError(f"another index is in the way of {names}: drop it as the note says")
    tables = [
        one
        for one in mirror.entities.values()
        if one.source is not None and one.source.version is None
    ]
    first = "bridgectl sync triggers --apply; " if tables else ""
    if not dry_run:
        click.echo(
            f"bridge: next: {first}bridgectl worker and bridgectl relay; bridgectl snapshot; "
            "bridgectl reconcile --deep",
            err=True,
        )
