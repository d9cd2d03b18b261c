"""Verbs about the table as it runs: routes, flip, history, preview."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from bridge.cli.output import Format, format_option, say, show_rows
from bridge.errors import BridgeError, ConfigError, FlipRefused, StateUnreadable
from bridge.proxy import flip as flipping
from bridge.proxy import preview as previews
from bridge.proxy import status
from bridge.proxy.routes import Handlers, load
from bridge.settings import Settings
from bridge.units import parse_duration

ALL = "ALL"
_LIVE_WITHIN = 5.0  # seconds that `flip` waits for the workers


def _complete_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    # While words are completed, the group has read --routes and BRIDGE_ROUTES, but has not run.
    file = ctx.find_root().params["routes_file"]
    try:
        table = load(Path(file), handlers=Handlers.NAMED)
    except BridgeError:
        return []
    own = [route.name for route in table.routes if route.handler and not route.spec.group]
    return [name for name in (*table.file.groups, *own, ALL) if name.startswith(incomplete)]


@click.command()
@format_option
def routes(output: Format) -> None:
    """Show the table as it runs, and each worker's generation of it.

    \b
    Example:
      bridge routes -o json
    """
    settings = Settings.from_environ()
    workers = status.read_all(settings.state_dir)
    file_error, digest = "", ""
    try:
        table = load(settings.routes, handlers=Handlers.NAMED)
        digest, rows = table.digest, status.rows_of(table)
    except ConfigError as error:
        file_error, rows = str(error), []
    running = workers[0].rows if workers else rows
    data = {
        "file": {"path": str(settings.routes), "table": digest, "error": file_error},
        "workers": [{k: v for k, v in asdict(worker).items() if k != "rows"} for worker in workers],
        "routes": running,
    }
    headings = {
        "route": "Route",
        "path": "Path",
        "methods": "Methods",
        "python": "Python",
        "group": "Group",
        "handler": "Handler",
        "legacy": "Legacy",
    }
    show_rows(running, headings, output, data=data)
    if output == "json":
        return
    if not workers:
        say(
            None, output, f"\nNo worker runs (state directory {settings.state_dir}); file as it is."
        )
        say(None, output, "To start: bridge serve --bind 127.0.0.1:8080")
    else:
        say(None, output, "")
        worker_rows = [
            {
                "slot": worker.slot,
                "pid": worker.pid,
                "generation": worker.generation,
                "table": worker.digest,
                "since": f"{datetime.fromtimestamp(worker.loaded_at, UTC):%Y-%m-%d %H:%M:%S}",
                "state": _state(worker, digest),
            }
            for worker in workers
        ]
        headings = {
            "slot": "Worker",
            "pid": "PID",
            "generation": "Generation",
            "table": "Table",
            "since": "Live since (UTC)",
            "state": "State",
        }
        show_rows(worker_rows, headings, output)
    if file_error:
        say(None, output, f"\n{settings.routes} is broken:\n{file_error}")
    for said in dict.fromkeys(worker.error for worker in workers):
        if said and said != file_error:
            say(None, output, f"\nWhat workers say:\n{said}")


def _state(worker: status.WorkerStatus, digest: str) -> str:
    """What a worker runs, beside the file whose table is `digest`."""
    if worker.digest != digest:
        return "old table: the file is broken" if worker.error else "not yet as in the file"
    return "as in the file, but for handlers" if worker.error else "as in the file"


@click.command()
@click.argument("name", metavar="ROUTE-OR-GROUP|ALL", shell_complete=_complete_names)
@click.argument("share", metavar="PERCENT")
@click.option("--why", required=True, help="Kept in the history; whoever undoes it reads it.")
@click.option("--who", default="", help="Default: the user of the shell.")
@format_option
def flip(name: str, share: str, why: str, who: str, output: Format) -> None:
    """Set the share of the visitors that Python answers, and wait until every worker has it.

    Exactly one line of routes.yaml changes; comments and layout stay. ALL, which takes 0% only,
    gives everything back to legacy at once.

    \b
    Example:
      bridge flip project 5% --why "first visitors"
      bridge flip project 0% --why "undo: wrong dates"
      bridge flip ALL 0% --why "MongoDB is gone"
    """
    settings = Settings.from_environ()
    if share.replace(".", "", 1).isdigit():
        share += "%"
    who = who or os.environ.get("SUDO_USER") or _user()
    if name == ALL:
        _flip_all(settings, share, who=who, why=why, output=output)
        return
    done = flipping.flip(settings.routes, name, share, who=who, why=why)
    workers, live, seconds = _wait_live(settings, [done])
    data = {**asdict(done), "workers": workers, "live": live, "seconds": round(seconds, 3)}
    if not done.changed:
        say(data, output, f"{name} is at {done.new} already; nothing changed")
        return
    text = f"{name}: {done.old} → {done.new} ({settings.routes}:{done.line}); "
    text += _how_live(workers, live, seconds)
    text += f"\nundo: bridge flip {name} {done.old} --why …"
    say(data, output, text)
    if live < workers:
        raise click.exceptions.Exit(1)


def _flip_all(settings: Settings, share: str, *, who: str, why: str, output: Format) -> None:
    if share != "0%":
        raise FlipRefused("ALL takes 0% only: everything back to legacy; flip others by name")
    flips = flipping.flip_all(settings.routes, share, who=who, why=why)
    workers, live, seconds = _wait_live(settings, flips)
    data = {
        "flips": [asdict(one) for one in flips],
        "workers": workers,
        "live": live,
        "seconds": round(seconds, 3),
    }
    if not flips:
        say(data, output, "everything is at 0% already; nothing changed")
        return
    lines = [f"{one.name}: {one.old} → {one.new} ({settings.routes}:{one.line})" for one in flips]
    lines.append(_how_live(workers, live, seconds))
    lines += [f"undo: bridge flip {one.name} {one.old} --why …" for one in flips]
    say(data, output, "\n".join(lines))
    if live < workers:
        raise click.exceptions.Exit(1)


def _how_live(workers: int, live: int, seconds: float) -> str:
    if workers == 0:
        return "no worker runs here"
    if live == workers:
        return f"live in {live} of {workers} workers after {seconds:.2f} s"
    return f"only {live} of {workers} workers have it after {seconds:.0f} s, see `bridge routes`"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _wait_live(settings: Settings, flips: Sequence[flipping.Flip]) -> tuple[int, int, float]:
    """Workers, how many of them have the new shares, and the seconds that took.

    The share is looked for and not only the table that the flip made: another flip may have
    replaced that before a worker loaded it.
    """
    begin = time.monotonic()
    while True:
        try:
            workers = status.read_all(settings.state_dir)
        except StateUnreadable as error:
            raise BridgeError(
                f"changed, but {error.folder} cannot be read as this user: "
                "not known whether it is live"
            ) from None
        live = sum(
            all(
                one.digest == worker.digest or worker.share_of(one.name) == one.new for one in flips
            )
            for worker in workers
        )
        waited = time.monotonic() - begin
        if live == len(workers) or waited > _LIVE_WITHIN:
            return len(workers), live, waited
        time.sleep(0.02)


@click.command()
@format_option
def history(output: Format) -> None:
    """Show the flips so far: when, who, what and why.

    \b
    Example:
      bridge history -o json
    """
    flips = [asdict(flip) for flip in flipping.read_history(Settings.from_environ().routes)]
    columns = {"at": "When", "who": "Who", "name": "What", "old": "From", "new": "To", "why": "Why"}
    show_rows(flips, columns, output)


@click.command()
@click.argument("name", metavar="ROUTE-OR-GROUP|ALL", shell_complete=_complete_names)
@click.argument("side", type=click.Choice(["python", "legacy"]))
@click.option("--for", "duration", default="8h", show_default=True, help="How long: 30m, 8h, 2d.")
@format_option
def preview(name: str, side: str, duration: str, output: Format) -> None:
    """Make a signed cookie that picks a side for one browser, whatever the share is.

    Needs BRIDGE_SECRET, the same as `bridge serve` has.

    \b
    Example:
      bridge preview project python --for 2h
    """
    settings = Settings.from_environ()
    table = load(settings.routes, handlers=Handlers.NAMED)
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    key = previews.EVERY_ROUTE
    if name != ALL:
        keys = {route.name: route.share_key for route in table.routes if route.handler}
        keys |= {group: f"group:{group}" for group in table.file.groups}
        if name not in keys:
            raise FlipRefused(f"no route or group `{name}` with a Python side; see `bridge routes`")
        key = keys[name]
    expires = int(time.time() + seconds)
    picked: previews.Side = "python" if side == "python" else "legacy"
    value = previews.make(settings.secret, picked, key, expires)
    cookie = f"{previews.COOKIE}={value}"
    data = {"cookie": cookie, "expires": expires, "side": side, "name": name}
    until = f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M}"
    assignment = f"{cookie}; path=/; max-age={int(seconds)}"
    text = (
        f"{side} answers {name} for whoever has this cookie, until {until} UTC.\n"
        f'In the browser\'s console:  document.cookie = "{assignment}"\n'
        f"With curl:                 curl -b '{cookie}' …\n"
        f'To end it:                 document.cookie = "{previews.COOKIE}=; path=/; max-age=0"'
    )
    say(data, output, text)
