"""The verb that shows how everything is now: status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bridge.cli.output import Format, format_option, say, show_rows
from bridge.settings import Settings, redact_url

if TYPE_CHECKING:
    from bridge.proxy.status import WorkerStatus
    from bridge.queue.status import QueueStatus

__all__ = ["status"]

Row = dict[str, str]
Breakers = Mapping[tuple[str, str], tuple[int, int]]


@click.command()
@format_option
def status(output: Format) -> None:
    """How the queue and MongoDB are: what waits where and for how long, and who works on it; and
    how the proxy is: its workers, breakers, redirect loops, visitors with own edits.

    Exits with 1 when something does not answer. What is not used is not asked.

    \b
    Example:
      bridge status
      bridge status -o json
    """
    from bridge.proxy.metrics import breakers, freshness, loops, loops_seen
    from bridge.proxy.status import read_all as proxies
    from bridge.sync import twins
    from bridge.sync.reconcile.reconciled import LastWatch, status_row
    from bridge.sync.relay import Sources, queue_status

    settings = Settings.from_environ()
    found = queue_status(settings, Sources.of(settings))
    workers = proxies(settings.state_dir)
    edits, rounds = freshness(settings.state_dir), loops(settings.state_dir)
    seen = loops_seen(settings.state_dir)
    opened = breakers(settings.state_dir)
    if not workers:  # who was killed could not say that nothing is left alone any more
        opened = {key: (0, times) for key, (_, times) in opened.items()}
    watch = LastWatch(settings)
    last = watch()
    watch.close()
    same = twins.look(settings) if settings.uses_mongodb and "mongodb" not in found.errors else []
    if output == "json":
        kept = ("slot", "pid", "generation", "error")
        more = {
            "proxy": [{name: getattr(one, name) for name in kept} for one in workers],
            "breakers": [
                {"route": route, "cause": cause, "workers": now, "opened": times}
                for (route, cause), (now, times) in opened.items()
            ],
            "freshness": edits,
            "redirect_loops": [{"routes": name, "stopped": n} for name, n in rounds.items()],
            "redirect_loops_seen": [{"routes": name, "seen": n} for name, n in seen.items()],
            "reconciled": [asdict(one) for one in last],
            "twins": [asdict(one) for one in same],
        }
        say({**asdict(found), **more}, "json")
    else:
        rows = [
            *_queue_rows(settings, found),
            *_proxy_rows(settings, workers),
            *_breaker_rows(opened, len(workers)),
            *_edit_rows(edits),
            *_loop_rows("redirect loops stopped", rounds),
            *_loop_rows("redirect loops seen", seen),
            *map(status_row, last),
            *([twins.status_row(same)] if same else []),
            *(
                _row(name, "does not answer", text)
                for name, text in found.errors.items()
                if name != "mongodb"  # has its row among those of the queue
            ),
        ]
        show_rows(rows, {"what": "What", "is": "", "note": ""}, "table")
    if found.errors:
        raise click.exceptions.Exit(1)


def _row(what: str, value: object, note: str = "") -> Row:
    return {"what": what, "is": "–" if value is None else str(value), "note": note}


def _queue_rows(settings: Settings, found: QueueStatus) -> list[Row]:
    rows = []
    if settings.uses_broker:
        rows += [
            _row("queue: waiting", _number(found.ready), redact_url(settings.broker_url)),
            _row("queue: with workers", _number(found.held)),
            _row("dead letters", _number(found.dead), "bridge dead list" if found.dead else ""),
        ]
    else:
        rows.append(_row("queue", "not used", "to use it: BRIDGE_BROKER_URL, or a sync.yaml"))
    if settings.sql_url or found.rows is not None:
        rows.append(_row("outbox: not in MongoDB yet", _number(found.rows)))
        lag = None if found.lag is None else f"{found.lag:.1f} s"
        about = f": {found.oldest}" if found.oldest else ""
        rows.append(_row("lag", lag, f"age of the oldest of them{about}"))
        if found.buried:
            note = "wait for a person: bridge dead list"
            rows.append(_row("outbox: rows of dead letters", _number(found.buried), note))
        if found.ahead:
            note = "whoever wrote the oldest row has a wrong clock: the lag is longer than that"
            rows.append(_row("time of the outbox", f"{found.ahead:,.0f} s in the future", note))
    if found.spool_files is not None:
        rows.append(_row("spool files", _number(found.spool_files)))
    if not settings.uses_mongodb:
        rows.append(_row("MongoDB", "not used", "to use it: BRIDGE_MONGODB_URL, or a sync.yaml"))
    elif error := found.errors.get("mongodb"):
        rows.append(_row("MongoDB", "does not answer", error))
    else:
        rows.append(_row("MongoDB", "answers", redact_url(settings.mongodb_url)))
    for vitals in found.processes:
        totals = ", ".join(f"{name} {count:,}" for name, count in vitals.totals.items() if count)
        rate = vitals.rates.get("received", vitals.rates.get("freed", 0.0))
        rows.append(_row(f"{vitals.kind} {vitals.pid}", f"{rate:,.0f}/s", totals))
    if settings.uses_broker and not any(vitals.kind == "worker" for vitals in found.processes):
        rows.append(_row("worker", "none", "none runs on this machine: bridge worker"))
    return rows


def _proxy_rows(settings: Settings, workers: Sequence[WorkerStatus]) -> list[Row]:
    """A row per worker of `bridge serve`; without routes.yaml nobody misses one."""
    if not workers and settings.routes.exists():
        return [_row("proxy", "none", "none runs on this machine: bridge serve")]
    return [
        _row(
            f"proxy {worker.pid}",
            f"generation {worker.generation}",
            worker.error.partition("\n")[0],
        )
        for worker in workers
    ]


def _breaker_rows(breakers: Breakers, workers: int) -> list[Row]:
    """A row per route that was left to legacy for a while, and why."""
    return [
        _row(
            f"breaker: {route}",
            f"open in {now} of {workers} workers" if now else "closed",
            f"{cause}, opened {times:,} times",
        )
        for (route, cause), (now, times) in breakers.items()
    ]


def _edit_rows(edits: Mapping[str, int]) -> list[Row]:
    """How the requests of visitors with own edits were answered, if there were any."""
    if not edits:
        return []
    counts = ", ".join(f"{how.replace('_', ' ')} {count:,}" for how, count in edits.items())
    return [_row("visitors with own edits", _number(sum(edits.values())), counts)]


def _loop_rows(what: str, loops: Mapping[str, int]) -> list[Row]:
    """A row per pair of routes that sent visitors to each other, the most frequent first."""
    counts = sorted(loops.items(), key=lambda pair: (-pair[1], pair[0]))
    return [_row(what, f"{count:,}", routes) for routes, count in counts]


def _number(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
