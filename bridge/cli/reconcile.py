"""The verb that proves both sides equal: reconcile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from time import monotonic
from typing import Any

import click
from pymongo.errors import PyMongoError
from rich.progress import TimeRemainingColumn

from bridge.cli.options import check_entities, how_many, seconds
from bridge.cli.output import Format, format_option, headings, printable, say, show_rows
from bridge.cli.working import bar
from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.settings import Settings, redact_url

__all__ = ["reconcile"]


@click.command()
@click.argument("entities", nargs=-1, metavar="[ENTITY]...")
@click.option("--deep", is_flag=True, help="Also compare contents and check tombstones.")
@click.option(
    "--values",
    is_flag=True,
    help="Show both values of what differs; compares contents, as --deep does.",
)
@click.option("--repair", is_flag=True, help="Send the events that MongoDB lacks.")
@click.option("--rate", type=click.IntRange(0), default=0, metavar="N", help="Most rows a second.")
@click.option(
    "--wait",
    default="30s",
    show_default=True,
    callback=seconds,
    help="How long a difference must last; lag is not a difference.",
)
@how_many("--limit", 50, 0, "Most to show.")
@format_option
def reconcile(
    entities: tuple[str, ...],
    deep: bool,
    values: bool,
    repair: bool,
    rate: int,
    wait: float,
    limit: int,
    output: Format,
) -> None:
    """Prove that SQL and MongoDB hold the same, or list what differs. The site stays live.

    The exit code is 0 when both sides are equal or everything was repaired, and 1 when something
    differs.

    \b
    Example:
      bridgectl reconcile
      bridgectl reconcile project --deep --repair
      bridgectl reconcile project --values
      bridgectl reconcile --rate 5000 -o json
    """
    from bridge.queue.broker.publisher import Publisher
    from bridge.queue.sql import cause as sqlcause
    from bridge.queue.sql.database import connect as connect_sql
    from bridge.sync.documents import Mirror
    from bridge.sync.mongodb import connect
    from bridge.sync.reconcile import results as reconciled
    from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
    from bridge.sync.reconcile.repair import Repair
    from bridge.sync.relay import Sources
    from bridge.sync.server_errors import check_broker, mongodb_missing, no_entities
    from bridge.sync.state import State

    deep = deep or values
    settings = Settings.from_environ()
    mirror = Mirror.of(settings)
    if not mirror.entities:
        raise no_entities(settings)
    check_entities(settings, mirror, entities)
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the site's database, to compare MongoDB with")
    engine = connect_sql(settings.sql_url)
    sqlcause.check(engine)
    began = monotonic()
    with connect(settings.mongodb_url, answer=120.0) as client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
        publisher = repairing = None
        if repair:
            if _needs_queue(mirror, entities):
                check_broker(settings.broker_url)
                publisher = Publisher(settings.broker_url)
            repairing = Repair(publisher, mirror.file.max_event)
        lag = Sources.of(settings).lag
        database = client.get_default_database()
        with _progress() as tell:
            reconciler = Reconciler(
                engine,
                database,
                mirror,
                ReconcileOptions(rate, wait, deep, values, repairing),
                lag=lag,
                progress=tell,
            )
            names, unchecked = reconciler.checkable()
            names = _chosen(entities, names, unchecked)
            behind, results = lag(), []
            try:
                for name in names:
                    results.append(result := reconciler.run(name))
                    reconciled.keep(State(database), result, deep=deep)
            except ServerAway as error:
                raise _gone(settings, error) from error
            finally:
                if publisher is not None:
                    publisher.close()
                engine.dispose()
    equal = all(result.equal for result in results)
    if output == "json":
        rows, summing = sum(one.rows for one in results), sum(one.summing for one in results)
        data = {
            "equal": equal,
            "entities": [_as_data(result, mirror, deep) for result in results],
            "unchecked": unchecked,
            "lag": behind,
            "rows": rows,
            "seconds": round(monotonic() - began, 3),
            "rows_per_s": round(rows / summing) if summing else 0,
        }
        say(data, "json")
    else:
        _show(results, unchecked, limit, behind)
    if not equal:
        raise click.exceptions.Exit(1)


def _needs_queue(mirror: Any, asked: Sequence[str]) -> bool:
    """Whether a repair of any of these entities, of all for none, goes over the queue."""
    sources = [one.source for name, one in mirror.entities.items() if not asked or name in asked]
    return any(source is not None and source.owner != "log" for source in sources)


def _chosen(asked: Sequence[str], names: Sequence[str], unchecked: Mapping[str, str]) -> list[str]:
    """The entities to reconcile, parents first."""
    for name in asked:
        if name in unchecked:
            raise BridgeError(
                f"{name} cannot be checked: {unchecked[name]}; write in sync.yaml under "
                f"`entities: {name}: source:` the table with its key and version"
            )
    if not names:
        raise BridgeError(
            "nothing can be checked: no entity has a source; write in sync.yaml under `entities:` "
            "for each the table with its key and version as `source:`"
        )
    return [name for name in names if not asked or name in asked]


def _gone(settings: Settings, error: ServerAway) -> ServerMissing:
    """Which of the servers went away meanwhile."""
    from bridge.sync.server_errors import broker_missing, mongodb_missing

    if str(error).startswith("the SQL database"):
        where = redact_url(settings.sql_url)
        text = f"{error} ({where}); run the same command again"
        return ServerMissing("the SQL database", where, "", error, text=text)
    if str(error).startswith("the broker"):
        return broker_missing(settings.broker_url, error)
    return mongodb_missing(settings.mongodb_url, error)


def _as_data(result: Any, mirror: Any, deep: bool) -> dict[str, Any]:
    return {
        "entity": result.entity,
        "collection": mirror.collection_of(result.entity),
        "equal": result.equal,
        "rows": result.rows,
        "documents": result.documents,
        "explained": result.explained,
        "compared": result.compared,
        "deep": deep,
        "seconds": round(result.seconds, 3),
        "rows_per_s": round(result.rate),
        "counts": result.by_kind,
        "repaired": result.repaired,
        "more": result.more,
        "differences": [asdict(one) for one in result.differences],
    }


def _show(results: Sequence[Any], unchecked: Mapping[str, str], limit: int, lag: float) -> None:
    from bridge.sync.doubts import KINDS
    from bridge.sync.reconcile.reconciler import MOST_KEYS

    rows = [
        {
            "entity": one.entity,
            "rows": f"{one.rows:,}",
            "documents": f"{one.documents:,}",
            "differs": _numbers(one.by_kind) or "nothing",
            "repaired": _numbers(one.repaired),
            "seconds": f"{one.seconds:.1f}",
        }
        for one in results
    ]
    rows += [
        {"entity": name, "differs": f"cannot be checked: {why}"} for name, why in unchecked.items()
    ]
    words = ("entity", "rows", "documents", "differs", "repaired", "seconds")
    show_rows(rows, headings(*words), "table")
    found = [(one.entity, difference) for one in results for difference in one.differences]
    if found:
        click.echo()
        shown = [
            {
                "entity": entity,
                "key": printable(one.key),
                "kind": one.kind,
                "sql": "–" if one.sql is None else one.sql,
                "mongodb": "–" if one.mongodb is None else one.mongodb,
                "note": printable(one.detail or KINDS[one.kind]),
            }
            for entity, one in found[:limit]
        ]
        words = ("entity", "key", "kind: What", "sql: SQL", "mongodb: MongoDB", "note")
        show_rows(shown, headings(*words), "table")
        _show_values(found[:limit])
    if len(found) > limit:
        click.echo(f"\n{len(found) - limit:,} more; --limit shows more, -o json all of them")
    for one in results:
        if one.more:
            click.echo(
                f"\n{one.entity}: more than {MOST_KEYS:,} keys differ; load it with "
                f"`bridgectl snapshot {one.entity}` and run this again"
            )
    if found and lag:
        click.echo(f"\nThe outbox was {lag:.0f} s behind at the start: `bridgectl status` says why")


def _show_values(found: Sequence[tuple[str, Any]]) -> None:
    """Both values of each field that differs; they are on one line each already."""
    shown = [
        {"entity": entity, "key": printable(one.key)}
        | {name: printable(value) for name, value in gap.items()}
        for entity, one in found
        for gap in one.values
    ]
    if shown:
        click.echo()
        words = ("entity", "key", "field", "sql: SQL", "mongodb: MongoDB")
        show_rows(shown, headings(*words), "table")


def _numbers(by_kind: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in by_kind.items())


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    with bar(TimeRemainingColumn()) as progress:
        task = None
        shown = ""

        def tell(what: str, done: int, total: int) -> None:
            nonlocal task, shown
            if task is None or what != shown:
                if task is not None:
                    progress.remove_task(task)
                shown, task = what, progress.add_task(what, total=total or None)
            progress.update(task, completed=done, total=max(done, total) or None)

        yield tell
