"""The verb that loads MongoDB from the site's database: snapshot."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import TextColumn, TimeRemainingColumn

from bridge.cli.options import check_entities, how_many, seconds
from bridge.cli.output import Format, format_option, headings, show_rows
from bridge.cli.working import bar, collect_seldom
from bridge.errors import BridgeError, ServerAway, ServerMissing, Stopped
from bridge.settings import Settings, redact_url

if TYPE_CHECKING:
    from bridge.sync.snapshot.load import Progress, SnapshotResult

__all__ = ["snapshot"]

LINE_EVERY = 5.0
"""Seconds between two lines where there is no terminal for a bar."""

COLUMNS = headings(
    *("entity", "rows", "written", "stale: As new already", "buried: Row gone"),
    *("dead: Dead letters", "seconds", "rate: Rows/s"),
)


@click.command()
@click.argument("entities", nargs=-1, metavar="[ENTITY]...")
@click.option("--restart", is_flag=True, help="Start again, not at the checkpoint.")
@click.option(
    "--rewrite", is_flag=True, help="Also write equal versions, after a change of sync.yaml."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --rewrite: only show which documents would change, and how.",
)
@how_many("--rows", 10_000, 0, "With --dry-run: rows of each entity to read; 0: all.", n="N")
@how_many("--chunk", 1000, 1, "Rows in one chunk.", most=100_000)
@click.option("--rate", type=click.IntRange(0), default=0, metavar="N", help="Most rows a second.")
@click.option(
    "--max-lag",
    default="5s",
    show_default=True,
    callback=seconds,
    help="Pause while the outbox is further behind; 0s: never.",
)
@how_many("--max-waiting", 10_000, 0, "Pause while more messages wait on the queue; 0: never.")
@how_many("--max-dead", 10_000, 0, "Stop when so many rows have become dead letters; 0: never.")
@click.option("--bury-all", is_flag=True, help="Delete documents that have no row, however many.")
@click.option("--pause", is_flag=True, help="Make the running one wait.")
@click.option("--continue", "go_on", is_flag=True, help="Let the waiting one go on.")
@format_option
def snapshot(
    entities: tuple[str, ...],
    restart: bool,
    rewrite: bool,
    dry_run: bool,
    rows: int,
    chunk: int,
    rate: int,
    max_lag: float,
    max_waiting: int,
    max_dead: int,
    bury_all: bool,
    pause: bool,
    go_on: bool,
    output: Format,
) -> None:
    """Load MongoDB from the site's database, first or again, while both are live.

    It loads all entities of sync.yaml that have a source, or those named; children come with their
    parent. It does not use the queue, so visitors' edits do not wait behind it, and newer versions
    in MongoDB stay. After it was stopped or killed, the same command goes on from its checkpoint,
    on any machine. At the end it deletes documents that have no row any more.

    The exit code is 1 when rows became dead letters, and when it was stopped.

    \b
    Example:
      bridgectl snapshot
      bridgectl snapshot project --rate 2000
      bridgectl snapshot --rewrite --dry-run  what a change of sync.yaml, or an upgrade, changes
      bridgectl snapshot project --pause      the running one waits, wherever it runs
      bridgectl snapshot project --continue   and goes on
    """
    from bridge.sync.documents import Mirror
    from bridge.sync.snapshot.load import SnapshotOptions, run

    settings = Settings.from_environ()
    if pause and go_on:
        raise click.UsageError("--pause or --continue? Give one of the two")
    check_entities(settings, Mirror.of(settings), entities)
    if dry_run:
        if not rewrite:
            raise click.UsageError("--dry-run is for --rewrite")
        _only_show(settings, entities, rows, output)
        return
    if pause or go_on:
        _pause(settings, entities, pause, output)
        return
    options = SnapshotOptions(
        restart, rewrite, chunk, max_lag, max_waiting, rate, max_dead, bury_all
    )
    collect_seldom()
    stop = threading.Event()
    try:
        with _signals(stop), _Display() as display:
            results = run(
                settings, entities, options, stop=stop, say=display.say, show=display.show
            )
    except Stopped:
        click.echo("bridge: stopped; the same command goes on from here", err=True)
        raise click.exceptions.Exit(1) from None
    _tell(results, output)


def _tell(results: list[SnapshotResult], output: Format) -> None:
    data = [asdict(result) for result in results]
    rows = [{name: _number(value) for name, value in row.items()} for row in data]
    show_rows(rows, COLUMNS, output, data=data)
    if any(result.dead for result in results):
        click.echo("bridge: some rows became dead letters: bridgectl dead list", err=True)
        raise click.exceptions.Exit(1)


def _only_show(settings: Settings, entities: Sequence[str], rows: int, output: Format) -> None:
    """Show which documents would change, and how. Raises ServerMissing, and BridgeError where a
    source does not fit."""
    from bridge.queue.sql import cause as sqlcause
    from bridge.queue.sql.database import connect
    from bridge.sync.documents import Mirror
    from bridge.sync.mongodb import connect as connect_mongodb
    from bridge.sync.propose import rewritten as rewriting
    from bridge.sync.server_errors import mongodb_missing
    from bridge.sync.snapshot.choice import choose

    mirror = Mirror.of(settings)
    chosen = choose(mirror, entities)
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the site's database, which is to be compared")
    engine = connect(settings.sql_url)
    found: list[rewriting.Rewritten] = []
    try:
        sqlcause.check(engine)
        with connect_mongodb(settings.mongodb_url) as client:
            database = client.get_default_database()
            for name in chosen:
                found += rewriting.rewritten(engine, database, mirror, name, rows)
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
        show_rows(table, rewriting.COLUMNS, output, data=data)
    for one in found:
        click.echo(f"bridge: {rewriting.summary(one)}", err=True)
    if table:
        click.echo("bridge: to write them: bridgectl snapshot --rewrite", err=True)


def _pause(settings: Settings, entities: tuple[str, ...], paused: bool, output: Format) -> None:
    from bridge.sync.snapshot.choice import pause

    found = pause(settings, entities, paused=paused)
    rows = [
        {
            "entity": name,
            "state": ("pauses" if paused else "goes on") if there else "none unfinished",
        }
        for name, there in found.items()
    ]
    show_rows(rows, {"entity": "Entity", "state": "Snapshot"}, output)
    if not any(found.values()):
        raise click.exceptions.Exit(1)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops cleanly, a second one at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Display:
    """A bar on standard error where that is a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, soft_wrap=True)
        note = TextColumn("{task.fields[note]}")
        self._bar = bar(note, TimeRemainingColumn(), console=self._console)
        self._tasks: dict[str, Any] = {}
        self._since: dict[str, float] = {}
        self._line_at = monotonic() + LINE_EVERY

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(f"bridge: {line}", markup=False, highlight=False)

    def show(self, progress: Progress) -> None:
        """How far it is."""
        point, now = progress.checkpoint, monotonic()
        name, total = progress.entity, max(point.total, point.rows)
        since = self._since.setdefault(name, now)
        rate = progress.rows / (now - since) if now - since > 0.5 else 0.0
        note = f"{rate:,.0f} rows/s" if rate else ""
        if point.phase == "gone":
            note = "looking for rows that are gone"
        if progress.waiting:
            note = "waiting"
        if not self._bar.disable:
            if name not in self._tasks:
                self._tasks[name] = self._bar.add_task(name, total=total, note="")
            self._bar.update(self._tasks[name], completed=point.rows, total=total, note=note)
        elif now >= self._line_at:
            self._line_at = now + LINE_EVERY
            left = (total - point.rows) / rate if rate else 0.0
            ahead = f", {left:,.0f} s left" if left >= 1 and not progress.waiting else ""
            self.say(f"{name}: {point.rows:,} of {total:,} rows, {note}{ahead}")


def _number(value: object) -> object:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
