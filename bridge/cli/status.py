"""Verbs that show how everything is now: status, and doctor, which says what to do about it."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from bridge.cli.output import Format, format_option, say, show_rows
from bridge.cli.proxystatus import Row, look, row
from bridge.files import is_stopped
from bridge.queue.status import QueueStatus, missing
from bridge.queue.vitals import ProcessStatus
from bridge.settings import Settings, redact_url

__all__ = ["doctor", "status"]

_SILENT = 15.0  # seconds; who works writes every two


@click.command()
@format_option
def status(output: Format) -> None:
    """Show the state of queue, MongoDB and proxy: what waits where, for how long, and which
    processes work on it; shares and who answered, workers, legacy, breakers, redirect loops,
    visitors with own edits.

    The exit code is 1 when a server does not answer or a process was stopped. Servers that are not
    used are not asked.

    \b
    Example:
      bridgectl status
      bridgectl status -o json
    """
    from bridge.sync import twins
    from bridge.sync.log.shown import LogWatch, failures, status_rows
    from bridge.sync.reconcile.results import LastWatch, status_row
    from bridge.sync.relay import Sources, queue_status

    settings = Settings.from_environ()
    sources = Sources.of(settings)
    found = queue_status(settings, sources)
    proxy = look(settings)
    watch = LastWatch(settings)
    last = watch()
    watch.close()
    with_log = LogWatch(settings)
    of_log = with_log()
    with_log.close()
    same = twins.look(settings) if settings.uses_mongodb and "mongodb" not in found.errors else []
    silent = {f"{one.kind} {one.pid}": says for one in found.processes if (says := _silent(one))}
    errors = {**found.errors, **proxy.errors, **silent, **failures(of_log)}
    wanted = _wanted(settings, found, of_log_alone=sources.of_log_alone)
    if output == "json":
        more = {
            **proxy.data(),
            "reconciled": [asdict(one) for one in last],
            "log": None if of_log is None else asdict(of_log),
            "twins": [asdict(one) for one in same],
            "missing": [kind for kind in wanted if missing(found, kind)],
        }
        say({**asdict(found), **more, "errors": errors}, "json")
    else:
        began = {one.entity: one.age + one.seconds for one in last if one.deep}
        rows = [
            *_queue_rows(settings, found, wanted),
            *(status_rows(of_log, began) if of_log else ()),
            *proxy.rows(),
            *map(status_row, last),
            *([twins.status_row(same)] if same else []),
            *(
                row(name, "does not answer", text)
                for name, text in found.errors.items()
                if name != "mongodb"  # has its row among those of the queue
            ),
        ]
        show_rows(rows, {"what": "What", "is": "", "note": ""}, "table")
    if errors:
        raise click.exceptions.Exit(1)


def _wanted(settings: Settings, found: QueueStatus, *, of_log_alone: bool) -> list[str]:
    """Who has to run, on this machine or on another one, so that edits arrive. of_log_alone:
    whether they all come from the database's log; who reads that has a row of its own."""
    relay = found.rows is not None or "outbox" in found.asked or "spool" in found.asked
    worker = settings.uses_broker and (relay or not of_log_alone)
    return ["worker"] * worker + ["relay"] * relay


def _silent(vitals: ProcessStatus) -> str:
    """Why a process that is there does nothing, or nothing where it does."""
    if is_stopped(vitals.pid):
        return f"stopped, and does nothing: kill -CONT {vitals.pid}"
    seconds = time.time() - vitals.written_at
    return f"gave no sign of life for {seconds:,.0f} s; see its log" if seconds > _SILENT else ""


def _queue_rows(settings: Settings, found: QueueStatus, wanted: list[str]) -> list[Row]:
    rows = []
    if settings.uses_broker:
        rows += [
            row("queue: waiting", _number(found.ready), redact_url(settings.broker_url)),
            row("queue: with workers", _number(found.held)),
            row("dead letters", _number(found.dead), "bridgectl dead list" if found.dead else ""),
        ]
    else:
        rows.append(row("queue", "not used", "to use it: BRIDGE_BROKER_URL, or a sync.yaml"))
    if "outbox" in found.asked:
        rows.append(row("outbox: not in MongoDB yet", _number(found.rows)))
        lag = None if found.lag is None else f"{found.lag:.1f} s"
        about = f": {found.oldest}" if found.oldest else ""
        rows.append(row("lag", lag, f"age of the oldest of them{about}"))
        if found.buried:
            note = "wait for a person: bridgectl dead list"
            rows.append(row("outbox: rows of dead letters", _number(found.buried), note))
        if found.ahead:
            note = "the oldest row was written with a wrong clock: the lag is longer than that"
            rows.append(row("time of the outbox", f"{found.ahead:,.0f} s in the future", note))
    if found.spool_files is not None:
        rows.append(row("spool files", _number(found.spool_files)))
    if not settings.uses_mongodb:
        rows.append(row("MongoDB", "not used", "to use it: BRIDGE_MONGODB_URL, or a sync.yaml"))
    elif error := found.errors.get("mongodb"):
        rows.append(row("MongoDB", "does not answer", error))
    else:
        rows.append(row("MongoDB", "answers", redact_url(settings.mongodb_url)))
    for vitals in found.processes:
        totals = ", ".join(f"{name} {count:,}" for name, count in vitals.totals.items() if count)
        rate = vitals.rates.get("received", vitals.rates.get("freed", 0.0))
        silent = _silent(vitals)
        state = "silent" if silent else f"{rate:,.0f}/s"
        rows.append(row(f"{vitals.kind} {vitals.pid}", state, silent or totals))
    for kind in wanted:
        if missing(found, kind):
            rows.append(row(kind, "none", f"none runs on this machine: bridgectl {kind}"))
    return rows


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


@click.command()
@format_option
def doctor(output: Format) -> None:
    """Ask every configured server, and report what is wrong with it and what to do.

    \b
    Example:
      bridgectl doctor -o json
    """
    from bridge.doctor import examine

    findings = [asdict(finding) for finding in examine(Settings.from_environ())]
    columns = {"state": "", "what": "What", "where": "Where", "says": "Finding", "do": "To do"}
    show_rows(findings, columns, output)
    if any(finding["state"] == "bad" for finding in findings):
        raise click.exceptions.Exit(1)
