"""How the queue is: what waits, where, for how long; for `bridgectl status` and for Prometheus.

Everything is asked where it is true: the broker, the outbox, the spool directories, and the
workers and relays of this machine. What does not answer is named, and the rest is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import BridgeError
from bridge.prometheus import family, page
from bridge.queue import vitals
from bridge.queue.broker.connection import Link
from bridge.queue.relay.spool import Spool
from bridge.queue.sql.cause import cause_of, check_there
from bridge.queue.sql.outbox import Backlog, Outbox
from bridge.queue.vitals import ProcessStatus

__all__ = ["KEEP", "QueueStatus", "behind", "metrics", "missing", "read"]

PATIENCE = 5.0
"""Seconds that a broker may take for an answer to somebody who only looks."""
KEEP = 2.0
"""Seconds that one look serves all who ask."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """ready: messages that nobody holds. held: those that a worker holds; None where the broker
    does not say. dead: dead letters. rows, lag: what the outboxes hold, and the age in seconds of
    the oldest; None without an outbox. buried: rows besides, whose events are dead letters.
    oldest: what the oldest row is about. ahead: seconds by which its time is in the future.
    spool_files: None without a spool. processes: workers and
    relays of this machine. asked: who is used here and was asked, by name; errors: which of them
    did not answer, and why."""

    ready: int | None = None
    held: int | None = None
    dead: int | None = None
    rows: int | None = None
    lag: float | None = None
    buried: int | None = None
    oldest: str = ""
    ahead: float = 0.0
    spool_files: int | None = None
    processes: Sequence[ProcessStatus] = ()
    asked: Sequence[str] = ()
    errors: Mapping[str, str] = field(default_factory=dict)


def read(
    broker_url: str | None,
    state_dir: Path,
    outboxes: Sequence[Outbox],
    spools: Sequence[Spool],
    others: Mapping[str, Callable[[], None]] | None = None,
) -> QueueStatus:
    """Ask everybody once, each for a few seconds at most.

    broker_url: None where there is no queue.
    others: who else is asked, by name; each raises BridgeError when it does not answer.
    """
    found: dict[str, Any] = {"processes": vitals.read_all(state_dir)}
    errors: dict[str, str] = {}
    there = {"broker": broker_url is not None, "outbox": bool(outboxes), "spool": bool(spools)}
    if broker_url is not None:
        try:
            with Link(broker_url, socket_timeout=PATIENCE) as link:
                found |= asdict(link.do(lambda broker: broker.counts()))
        except BridgeError as error:
            errors["broker"] = str(error)
    for name, ask in (others or {}).items():
        there[name] = True
        try:
            ask()
        except BridgeError as error:
            errors[name] = str(error)
    if outboxes:
        try:
            for outbox in outboxes:
                check_there(outbox.engine.url)
            found |= asdict(sum((outbox.backlog() for outbox in outboxes), Backlog()))
        except BridgeError as error:
            errors["outbox"] = str(error)
        except SQLAlchemyError as error:
            errors["outbox"] = f"the SQL database {cause_of(error, outboxes[0].engine.url)}"
    if spools:
        try:
            found["spool_files"] = sum(spool.waiting() for spool in spools)
        except OSError as error:
            errors["spool"] = str(error)
    return QueueStatus(
        **found,
        asked=tuple(name for name, used in there.items() if used),
        errors={name: text[:300] for name, text in errors.items()},
    )


def behind(status: QueueStatus) -> str:
    """What a lag is about, for a person who waits, and the command that shows more."""
    what = f"its oldest row is {status.oldest}; " if status.oldest else ""
    if error := status.errors.get("broker"):
        what += f"the broker does not answer ({error}); "
    else:
        what += missing(status, "relay") + missing(status, "worker")
    return f"{what}`bridgectl status` shows what waits"


def missing(status: QueueStatus, kind: str) -> str:
    """That no worker, or no relay, runs on this machine; empty where one does."""
    if any(one.kind == kind for one in status.processes):
        return ""
    return f"no `bridgectl {kind}` runs on this machine; "


_GAUGES = {
    "ready": ("bridge_queue_ready", "Messages that no worker holds"),
    "held": ("bridge_queue_held", "Messages that workers hold"),
    "dead": ("bridge_dead_letters", "Messages that nobody could use, kept for a person"),
    "rows": ("bridge_outbox_rows", "Rows of the outbox that MongoDB does not hold"),
    "lag": ("bridge_lag_seconds", "Age of the oldest row that MongoDB does not hold"),
    "buried": ("bridge_outbox_dead_rows", "Rows of the outbox whose events are dead letters"),
    "spool_files": ("bridge_spool_files", "Spool files that wait for the relay"),
}


def metrics(status: QueueStatus) -> bytes:
    """The status in Prometheus' text format; what is not known is left out."""
    lines: list[str] = []
    for name, (metric, text) in _GAUGES.items():
        if (value := getattr(status, name)) is not None:
            lines += family(metric, "gauge", text, [({}, float(value))])
    up = [({"what": what}, float(what not in status.errors)) for what in status.asked]
    lines += family("bridge_up", "gauge", "1 where it answers", up)
    totals, rates = (
        [
            ({"process": f"{one.kind}-{one.pid}", "outcome": outcome}, float(value))
            for one in status.processes
            for outcome, value in numbers(one).items()
        ]
        for numbers in (attrgetter("totals"), attrgetter("rates"))
    )
    lines += family("bridge_queue_events_total", "counter", "What workers and relays did", totals)
    text = "The same per second, over the last two"
    return page([*lines, *family("bridge_queue_rate", "gauge", text, rates)])
