"""Verbs about the table as it runs: routes, preview."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from bridge.cli.options import ALL, complete_names
from bridge.cli.output import Format, format_option, headings, say, show_rows, visible
from bridge.errors import BridgeError, ConfigError, FlipRefused, StateUnreadable
from bridge.proxy.decision import preview as previews
from bridge.proxy.request.cookies import PREVIEW_COOKIE
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.telemetry import workers as status
from bridge.proxy.telemetry.surroundings import compare
from bridge.settings import Settings, doubts
from bridge.units import parse_duration


@click.command()
@format_option
def routes(output: Format) -> None:
    """Show the routing table as it runs, and each worker's generation of it.

    \b
    Example:
      bridgectl routes -o json
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
    evidence, unknown = _evidence(settings)
    data = {
        "file": {"path": str(settings.routes), "table": digest, "error": file_error},
        "workers": [{k: v for k, v in asdict(worker).items() if k != "rows"} for worker in workers],
        "routes": running,
        "evidence": evidence,
    }
    words = ["route", "path", "methods", "python", "group", "handler", "legacy"]
    compared = evidence["routes"]
    if compared:
        words += ["compared", "different", "bound: Under (95%)"]
        running = [{**row, **compared.get(row["route"], {})} for row in running]
    show_rows(running, headings(*words), output, data=data)
    if output == "json":
        return
    if not workers:
        say(
            None, output, f"\nNo worker runs (state directory {settings.state_dir}); file as it is."
        )
        say(None, output, "To start: bridgectl serve --bind 127.0.0.1:8080")
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
        columns = ("slot: Worker", "pid: PID", "generation", "table", "since: Live since (UTC)")
        show_rows(worker_rows, headings(*columns, "state"), output)
    if file_error:
        say(None, output, f"\n{settings.routes} is broken:\n{file_error}")
    if unknown:
        say(None, output, f"\nWhat was compared is not known: {unknown}")
    for said in dict.fromkeys(worker.error for worker in workers):
        if said and said != file_error:
            say(None, output, f"\nWhat workers say:\n{said}")


def _evidence(settings: Settings) -> tuple[dict[str, Any], str]:
    """What was compared of the release that the files are now, by route, with the upper bound of
    what is different in percent; and why that is not known, or nothing."""
    from bridge.evidence.rate import percent
    from bridge.evidence.standing import standing

    try:
        found = standing(settings)
    except ConfigError:
        return {"release": "", "rules": "", "routes": {}}, ""  # said elsewhere
    except BridgeError as error:
        return {"release": "", "rules": "", "routes": {}}, str(error)
    routes = {
        name: {
            "compared": counts.compared,
            **counts.by_kind,
            "bound": "" if (bound := found.upper_bound(name)) is None else percent(bound),
        }
        for name, counts in found.counts.items()
    }
    return {"release": found.release, "rules": found.rules, "routes": routes}, ""


def _state(worker: status.WorkerStatus, digest: str) -> str:
    """What a worker runs, beside the file whose table is `digest`."""
    if worker.digest != digest:
        return "old table: the file is broken" if worker.error else "not yet as in the file"
    return "as in the file, but for handlers" if worker.error else "as in the file"


@click.command()
@click.argument("name", metavar="ROUTE-OR-GROUP|ALL", shell_complete=complete_names)
@click.argument("side", type=click.Choice(["python", "legacy"]))
@click.option("--for", "duration", default="8h", show_default=True, help="How long: 30m, 8h, 2d.")
@format_option
def preview(name: str, side: str, duration: str, output: Format) -> None:
    """Make a signed cookie that picks a side for one browser, whatever the share is.

    It needs the same BRIDGE_SECRET as `bridgectl serve`, and warns when that has another or none,
    and when the secret can be guessed.

    \b
    Example:
      bridgectl preview project python --for 2h
    """
    settings = Settings.from_environ()
    table = load(settings.routes, handlers=Handlers.NAMED)
    try:
        seconds = parse_duration(duration)
        if not 1 <= seconds <= previews.LONGEST:
            raise ValueError(f"{duration!r} is not between 1s and 400d, as long as browsers allow")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None
    key = previews.EVERY_ROUTE
    if name != ALL:
        keys = {route.name: route.share_key for route in table.routes if route.handler}
        keys |= {group: f"group:{group}" for group in table.file.groups}
        if name not in keys:
            raise FlipRefused(
                f"no route or group `{name}` with a Python side; see `bridgectl routes`"
            )
        key = keys[name]
    expires = int(time.time() + seconds)
    picked: previews.Side = "python" if side == "python" else "legacy"
    value = previews.make(settings.secret, picked, key, expires)
    cookie = f"{PREVIEW_COOKIE}={value}"
    odd = _odd_about_the_secret(settings)
    data = {"cookie": cookie, "expires": expires, "side": side, "name": name, "doubts": odd}
    until = f"{datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M}"
    assignment = f"{cookie}; path=/; max-age={int(seconds)}"
    text = (
        f"{side} answers {name} in browsers with this cookie, until {until} UTC.\n"
        f'In the browser\'s console:  document.cookie = "{assignment}"\n'
        f"With curl:                 curl -b '{cookie}' …\n"
        f'To end it:                 document.cookie = "{PREVIEW_COOKIE}=; path=/; max-age=0"'
    )
    say(data, output, text)
    for says in odd:
        click.echo(visible(f"bridge: {says}"), err=True)


def _odd_about_the_secret(settings: Settings) -> list[str]:
    """Why a cookie that it signs may count for nothing, or for anybody, in sentences."""
    name = "BRIDGE_SECRET"
    found = [f"{what} {says}: {do}" for what, says, do in doubts() if what == name]
    try:
        differs = compare(status.read_all(settings.state_dir), settings).settings.get(name)
    except StateUnreadable as error:
        return [*found, f"{error}; whether it has the same {name} is not known"]
    if differs:
        found.append(
            f"the cookie is ignored: {name} differs: {differs}; set the same for both and restart"
        )
    return found
