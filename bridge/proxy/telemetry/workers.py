"""What each worker runs, for people outside: one small file per worker in the state directory.

Written by the workers of `bridgectl serve` after every load, and when what they note of servers has
changed; read by `bridgectl routes`, `bridgectl flip` and the operator's listener. What it runs with
is there too (`bridge.proxy.telemetry.surroundings`), so that a shell can compare. A file has the
name of its process, so that no worker writes or removes another's: after SIGUSR2 those of two
parents serve.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from bridge.files import ProcessFiles, is_stopped
from bridge.prometheus import family, page
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.telemetry.surroundings import code_of, settings_of
from bridge.settings import Settings, redact_url

__all__ = [
    "Alone",
    "Notes",
    "Stranger",
    "WorkerStatus",
    "Writer",
    "alone",
    "metrics",
    "prepare",
    "read_all",
    "remove",
    "rows_of",
    "strangers",
    "tables",
    "write",
]

log = structlog.get_logger("bridge.serve")

TABLES = "bridge_routes_table"
_FOLDER = "workers"
_AGAIN = 2.0  # seconds until a note that could not be written is tried again


@dataclass(frozen=True, slots=True)
class Notes:
    """What a worker has noticed while it serves. `alone`: by backend, the servers that it leaves
    alone, and why. `strangers`: neighbours that seem to be proxies and are not trusted, by address
    or `unix`, and which header of theirs was left out."""

    alone: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    strangers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker: `digest` names the content of its table, `error` is empty when the file is good;
    `rows` is its table as `rows_of` gives it; times are Unix seconds. `settings` and `code` are
    what it runs with, as `bridge.proxy.telemetry.surroundings` has them. `stopped`: its process
    does not run, and is not dead either. `alone` and `strangers` are what `Notes` has."""

    slot: int
    pid: int
    generation: int
    digest: str
    loaded_at: float
    error: str
    rows: list[dict[str, Any]]
    settings: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    alone: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    strangers: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False

    def share_of(self, name: str) -> str | None:
        """The share of the route or group `name` as this worker runs it (`25%`), or None."""
        named = (row for row in self.rows if name in (row["route"], row["group"]))
        return next((row["python"] for row in named), None)

    def missing(self, names: Set[str]) -> list[str]:
        """Which routes with one of these names, or of a group with one, have a Python side that
        this worker cannot import."""
        return [
            row["route"]
            for row in self.rows
            if row["handler"]
            and not row.get("imported", True)
            and names & {row["route"], row["group"]}
        ]


def rows_of(table: RouteTable) -> list[dict[str, Any]]:
    """The table as plain rows, in the order of the file. `imported`: there is a Python side that
    can answer."""
    return [
        {
            "route": route.name,
            "path": route.spec.path,
            "methods": list(route.spec.methods),
            "python": f"{route.share / 1000:g}%" if route.handler else "–",
            "group": route.spec.group or "",
            "handler": route.handler,
            "imported": route.app is not None,
            "legacy": route.spec.legacy or "",
        }
        for route in table.routes
    ]


def _files(state_dir: Path) -> ProcessFiles:
    return ProcessFiles(state_dir, _FOLDER)


def prepare(state_dir: Path) -> None:
    """Begin without workers; called once, before the first one starts."""
    for path in _files(state_dir).paths():
        path.unlink(missing_ok=True)


def write(
    state_dir: Path,
    slot: int,
    reloader: Reloader,
    broken: str = "",
    settings: Settings | None = None,
    notes: Notes = Notes(),
) -> None:
    """Write the file of this process.

    slot: the one that it counts in.
    broken: what is wrong besides routes.yaml.
    settings, notes: what it runs with, and what it has noticed.
    """
    table = reloader.table()
    status = {
        "slot": slot,
        "pid": os.getpid(),
        "generation": table.generation,
        "digest": table.digest,
        "loaded_at": reloader.loaded_at,
        "error": "\n".join(filter(None, (str(reloader.error or ""), broken))),
        "rows": rows_of(table),
        "settings": settings_of(settings) if settings else {},
        "code": code_of(table),
        **asdict(notes),
        "written_at": time.time(),
    }
    _files(state_dir).write(os.getpid(), status)


class Writer:
    """Keeps the file of this process as it is. Thread-safe.

    slot, broken, settings: as for `write`.
    """

    def __init__(
        self, state_dir: Path, slot: int, broken: str = "", settings: Settings | None = None
    ) -> None:
        self._state_dir, self._slot, self._broken = state_dir, slot, broken
        self._settings = settings
        self._reloader: Reloader | None = None
        self._notes = self._written = Notes()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._not_before = 0.0
        self._said = ""

    def loaded(self, reloader: Reloader) -> None:
        """After a load. Raises OSError when it cannot be written."""
        with self._lock:
            self._reloader = reloader
            self._write(reloader)

    def note(self, notes: Notes) -> None:
        """What is noticed at this moment. A change is written by a thread: who calls this has
        visitors to serve."""
        self._notes = notes
        busy = self._thread is not None and self._thread.is_alive()
        if notes == self._written or busy or time.monotonic() < self._not_before:
            return
        self._thread = threading.Thread(target=self._follow, name="bridge-notes", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            with self._lock:
                if self._reloader is not None:
                    self._write(self._reloader)
            self._said = ""
        except OSError as error:
            self._not_before = time.monotonic() + _AGAIN
            if self._said != str(error):
                log.error("cannot say what was noticed", error=str(error))
            self._said = str(error)

    def _write(self, reloader: Reloader) -> None:
        notes = self._notes
        write(self._state_dir, self._slot, reloader, self._broken, self._settings, notes)
        self._written = notes


def is_written(state_dir: Path) -> bool:
    """Whether what this process said is still there. Cheap."""
    return _files(state_dir).path(os.getpid()).is_file()


def remove(state_dir: Path, pid: int) -> None:
    """The worker is gone."""
    _files(state_dir).remove(pid)


def read_all(state_dir: Path) -> list[WorkerStatus]:
    """Every worker that is alive, by slot. Raises StateUnreadable when this user may not look."""

    def made(fields: dict[str, Any]) -> WorkerStatus:
        fields.pop("written_at", None)
        return WorkerStatus(**fields, stopped=is_stopped(fields["pid"]))

    return sorted(_files(state_dir).read(made), key=lambda status: status.slot)


@dataclass(frozen=True, slots=True)
class Alone:
    """A server of a backend that is left alone: in how many `workers`, and why, as `whys`."""

    backend: str
    server: str
    workers: int
    whys: tuple[str, ...]

    def says(self, of: int) -> str:
        """In words; `of` is how many workers there are."""
        return f"left alone in {self.workers} of {of} workers: {'; '.join(self.whys)}"


def alone(workers: Sequence[WorkerStatus]) -> list[Alone]:
    """Which servers these workers leave alone."""
    found: dict[tuple[str, str], list[str]] = {}
    for worker in workers:
        for backend, servers in worker.alone.items():
            for server, why in servers.items():
                found.setdefault((backend, redact_url(server)), []).append(why)
    return [
        Alone(backend, server, len(whys), tuple(dict.fromkeys(whys)))
        for (backend, server), whys in sorted(found.items())
    ]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A neighbour, or `unix`, that sends `header` as a proxy does and is not trusted, in so many
    `workers`."""

    peer: str
    header: str
    workers: int

    @property
    def says(self) -> str:
        """In words."""
        whom, address = f"connections from {self.peer}", self.peer
        if self.peer == "unix":
            whom, address = "connections over the unix socket", "unknown"
        return (
            f"{self.header} of {whom} is left out: all visitors who come that way are "
            f"`{address}` to PHP"
        )

    @property
    def do(self) -> str:
        """What to do about it."""
        return f"if that is your web server, write `trusted_proxies: [{self.peer}]` in routes.yaml"


def strangers(workers: Sequence[WorkerStatus]) -> list[Stranger]:
    """Who seems to be missing in the `trusted_proxies` of these workers."""
    found: Counter[str] = Counter()
    headers: dict[str, str] = {}
    for worker in workers:
        found.update(worker.strangers.keys())
        headers.update(worker.strangers)
    return [Stranger(peer, headers[peer], count) for peer, count in sorted(found.items())]


def tables(state_dir: Path) -> dict[str, int]:
    """The digests of the tables that run, and how many workers run each, the most usual first.
    Raises StateUnreadable."""
    found = Counter(worker.digest for worker in read_all(state_dir))
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def metrics(state_dir: Path) -> bytes:
    """The same in Prometheus' text format: machines that differ have different labels."""
    samples = [({"table": digest}, count) for digest, count in tables(state_dir).items()]
    text = "Workers by the routing table that they run"
    return page(family(TABLES, "gauge", text, samples)) if samples else b""
