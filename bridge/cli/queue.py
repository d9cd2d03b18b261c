"""Verbs of the queue: relay, worker, and the dead letters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import click
import structlog
from rich.progress import TimeRemainingColumn

from bridge.cli.options import how_many
from bridge.cli.output import Format, format_option, headings, printable, say, show_rows
from bridge.cli.working import bar, collect_seldom
from bridge.errors import BridgeError, ServerAway
from bridge.settings import Settings
from bridge.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

_OPERATOR = click.option(
    "--operator",
    default="",
    metavar="HOST:PORT",
    help="Serve /metrics and /health here, and take events at POST /events.",
)


@click.command()
@_OPERATOR
def relay(operator: str) -> None:
    """Bring outbox rows and spooled events to the queue until MongoDB holds them.

    Several may run at once. sync.yaml (BRIDGE_SYNC) names the outbox, spool directories, SQL
    queues and lists.

    \b
    Example:
      BRIDGE_SQL_URL=mysql://user:password@127.0.0.1/shop  bridgectl relay
    """
    from bridge.daemon import Daemon
    from bridge.queue.relay.relay import RelayCounters
    from bridge.sync.relay import run_relay

    settings = Settings.from_environ()
    counters = RelayCounters()
    with Daemon(settings, "relay", counters, operator) as stop:
        run_relay(settings, stop=stop, log=structlog.get_logger("bridge.relay"), counters=counters)


@click.command()
@_OPERATOR
@click.option("--capture", "captures", is_flag=True, help="Also do what `bridgectl capture` does.")
def worker(operator: str, captures: bool) -> None:
    """Write change events from the queue into MongoDB until stopped. Several may run at once.

    With --capture this process also reads the database's own log. When one of the two ends with an
    error, so does the other, and the exit code is that of the error.

    \b
    Example:
      BRIDGE_BROKER_URL=redis+streams://127.0.0.1:6379/0 \\
      BRIDGE_MONGODB_URL=mongodb://127.0.0.1:27017/bridge  bridgectl worker
    """
    from bridge.daemon import Daemon, together
    from bridge.sync import capture as logged
    from bridge.sync.worker import Counters, run_worker

    settings = Settings.from_environ()
    counters, of_log = Counters(), logged.Counters()
    log, log_of_log = structlog.get_logger("bridge.worker"), structlog.get_logger("bridge.capture")
    collect_seldom()
    beside = {"capture": of_log} if captures else {}
    with Daemon(settings, "worker", counters, operator, beside) as stop:
        work = partial(run_worker, settings, stop=stop, log=log, counters=counters)
        if not captures:
            work()
            return
        together(
            stop,
            work,
            partial(logged.run_capture, settings, stop=stop, log=log_of_log, counters=of_log),
        )


@click.command()
@_OPERATOR
def capture(operator: str) -> None:
    """Write what the database's own log says into MongoDB until stopped.

    For entities of sync.yaml with `log: true` under their `source:`. One process reads at a time;
    another one waits, and reads on when it is gone.

    \b
    Example:
      BRIDGE_SQL_URL=mysql://reader:password@127.0.0.1/shop  bridgectl capture
    """
    from bridge.daemon import Daemon
    from bridge.sync.capture import Counters, run_capture

    settings = Settings.from_environ()
    counters = Counters()
    collect_seldom()
    with Daemon(settings, "capture", counters, operator) as stop:
        run_capture(
            settings, stop=stop, log=structlog.get_logger("bridge.capture"), counters=counters
        )


@click.group()
def dead() -> None:
    """Dead letters: messages that could not be applied, kept for 30 days.

    \b
    Example:
      bridgectl dead list --error schema
      bridgectl dead show 3f2a9c1b77d0
      bridgectl dead retry --all
    """


def _filters(function: F) -> F:
    for option in (
        click.option("--before", metavar="TIME", help="Last failed before: 2h (ago), or RFC 3339."),
        click.option("--since", metavar="TIME", help="Last failed since: 2h (ago), or RFC 3339."),
        click.option("--error", default="", metavar="TEXT", help="Whose error contains this."),
        click.option("--key", default="", help="Of this key."),
        click.option("--entity", default="", help="Of this entity."),
    ):
        function = option(function)
    return function


def _all_or_some(function: F) -> F:
    function = click.option("--all", "everything", is_flag=True, help="All of them.")(function)
    return _filters(click.argument("ids", nargs=-1, metavar="[ID]...")(function))


@dead.command("list")
@_filters
@how_many("--limit", 100, 1, "At most.")
@format_option
def list_(limit: int, output: Format, **filters: Any) -> None:
    """Show dead letters, oldest first. They stay where they are.

    \b
    Example:
      bridgectl dead list --entity project --since 2h
    """
    which = _which((), filters)
    letters, total = _with_letters(lambda found: (found.letters(which, limit), len(found)))
    words = ("id", "last_time: Last failed", "count: Times", "entity", "key", "version", "bytes")
    rows = [_summary(letter) for letter in letters]
    show_rows(rows, headings(*words, "error"), output, title=f"{len(rows)} of {total} dead letters")


@dead.command()
@click.argument("letter_id", metavar="ID")
@format_option
def show(letter_id: str, output: Format) -> None:
    """Show one dead letter with all of its bytes.

    \b
    Example:
      bridgectl dead show 3f2a9c1b77d0
    """
    letters = _with_letters(lambda found: found.letters(_which((letter_id,), {}), 1))
    if not letters:
        raise BridgeError(f"there is no dead letter {letter_id}; `bridgectl dead list` shows them")
    letter = letters[0]
    text = letter.raw.decode("utf-8", "backslashreplace")
    if output == "json":
        say({**_summary(letter), "raw": text, "first_time": letter.first_time}, "json")
        return
    facts = {**_summary(letter), "first failed": letter.first_time, "what it is": letter.part}
    width, ends = max(map(len, facts)), "\n\t"
    for name, value in facts.items():
        click.echo(f"{name:{width}}  {printable(str(value), ends)}")
    click.echo(f"\n{printable(text, ends)}")


@dead.command()
@_all_or_some
@format_option
def retry(ids: tuple[str, ...], everything: bool, output: Format, **filters: Any) -> None:
    """Put dead letters back on the queue. Newer data that came meanwhile stays.

    \b
    Example:
      bridgectl dead retry 3f2a9c1b77d0
      bridgectl dead retry --entity project --error schema
      bridgectl dead retry --all
    """
    from bridge.sync.relay import Sources

    which = _which(ids, filters, everything=everything)
    about: set[tuple[str, str, int]] = set()

    def do(found: Any) -> tuple[int, int]:
        with bar(TimeRemainingColumn()) as shown:
            letters = found.letters(which, None)
            about.update(row for one in letters if (row := one.row()))
            task = shown.add_task("retry", total=len(letters))
            result: tuple[int, int] = found.retry(
                which, progress=lambda done: shown.update(task, completed=done)
            )
            return result

    done, left = _with_letters(do)
    # The relay looks at buried rows seldom.
    for outbox in Sources.of(Settings.from_environ()).in_use():
        for one in about:
            outbox.wake(*one)
    note = f"; {left} are not events and stay" if left else ""
    say({"retried": done, "left": left}, output, f"{done} put back on the queue{note}")
    if not done:
        raise click.exceptions.Exit(1)


@dead.command()
@_all_or_some
@format_option
def drop(ids: tuple[str, ...], everything: bool, output: Format, **filters: Any) -> None:
    """Delete dead letters, and their rows in the outbox.

    \b
    Example:
      bridgectl dead drop 3f2a9c1b77d0
      bridgectl dead drop --before 7d
    """
    from bridge.sync.relay import Sources

    which = _which(ids, filters, everything=everything)
    dropped = _with_letters(lambda found: found.drop(which))
    sources = Sources.of(Settings.from_environ())
    about = [row for letter in dropped if (row := letter.row())]
    rows = sum(outbox.drop(*row) for row in about for outbox in sources.in_use())
    note = f", and {rows} rows of the outbox" if rows else ""
    result = {"dropped": [letter.id for letter in dropped], "outbox_rows": rows}
    say(result, output, f"{len(dropped)} thrown away{note}")
    if not dropped:
        raise click.exceptions.Exit(1)


def _which(ids: tuple[str, ...], filters: dict[str, Any], *, everything: bool | None = None) -> Any:
    from bridge.queue.consumer.dead_letters import Filter

    given = {name: value for name, value in filters.items() if value}
    if everything is not None and not (ids or given or everything):
        raise click.UsageError("which? Name ids or filters, or say --all")
    for name in ("since", "before"):
        if name in given:
            given[name] = _moment(given[name])
    return Filter(ids=frozenset(ids), **given)


def _moment(text: str) -> str:
    """`2h` ago, or an RFC 3339 time, as the letters write it."""
    try:
        moment = datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            hint = "write for example 2h, 7d or 2026-01-31T12:00:00Z"
            raise click.BadParameter(f"{text!r} is no time; {hint}") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _with_letters(do: Callable[[Any], Any]) -> Any:
    """Raises ServerMissing, or ServerAway when the broker goes away meanwhile."""
    from bridge.queue.broker.connection import Link
    from bridge.queue.consumer.dead_letters import DeadLetters
    from bridge.sync.server_errors import broker_missing

    url = Settings.from_environ().broker_url
    try:
        with Link(url) as link:
            return link.do(lambda broker: do(DeadLetters(broker)))
    except ServerAway as error:
        raise broker_missing(url, error) from error


def _summary(letter: Any) -> dict[str, Any]:
    names = ("id", "last_time", "count", "entity", "key", "version", "error", "part")
    return {name: getattr(letter, name) for name in names} | {"bytes": len(letter.raw)}
