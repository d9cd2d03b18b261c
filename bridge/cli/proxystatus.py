"""What `bridgectl status` shows of the proxy: shares, who answered, legacy, workers, breakers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bridge.errors import ConfigError
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.serve.lock import AFTER_A_KILL, killed
from bridge.proxy.telemetry import scrape as samples
from bridge.proxy.telemetry import shadowing
from bridge.proxy.telemetry import workers as status
from bridge.proxy.telemetry.surroundings import Compared, compare
from bridge.proxy.tools.reach import Reached, ask_all
from bridge.settings import Settings
from bridge.units import several

__all__ = ["Proxy", "Row", "look", "row"]

Row = dict[str, str]
Counts = Mapping[tuple[str, str], int]


def row(what: str, value: object, note: str = "") -> Row:
    """One row of the table; `value` None is not known."""
    return {"what": what, "is": "–" if value is None else str(value), "note": note}


@dataclass(frozen=True, slots=True)
class Share:
    """A group, or a route without one, that has a Python side. `python`: its share (`5%`), of each
    table that runs; `routes`: those of it; `answered`: requests by backend since `bridgectl serve`
    was started; `fallbacks`: those among them that legacy answered instead of Python, by reason."""

    name: str
    python: tuple[str, ...]
    routes: tuple[str, ...]
    answered: Mapping[str, int]
    fallbacks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Proxy:
    """How the proxy is. `used`: there is a routes.yaml, or a worker; `broken` says what is wrong
    with the file; `failures`: requests without an answer by backend and stage; `killed`: the parent
    that was killed or crashed; `shadow`: what is wrong with the process that compares."""

    used: bool
    workers: Sequence[status.WorkerStatus]
    differs: Compared
    broken: str
    shares: Sequence[Share]
    answered: Mapping[str, int]
    failures: Counts
    legacy: Sequence[tuple[str, Reached]]
    alone: Sequence[status.Alone]
    strangers: Sequence[status.Stranger]
    breakers: Mapping[tuple[str, str], tuple[int, int]]
    freshness: Mapping[str, int]
    log_ends: Mapping[str, int]
    loops: Mapping[str, int]
    loops_seen: Mapping[str, int]
    killed: int | None = None
    shadow: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """For programs."""
        kept = ("slot", "pid", "generation", "digest", "error", "stopped")
        return {
            "proxy": [{name: getattr(one, name) for name in kept} for one in self.workers],
            "routes_error": self.broken,
            "differs": self.differs.says,
            "shares": [asdict(one) for one in self.shares],
            "answered": dict(self.answered),
            "failures": [
                {"backend": backend, "stage": stage, "requests": count}
                for (backend, stage), count in self.failures.items()
            ],
            "legacy": [
                {"backend": name, "server": one.where, "well": one.well, "says": one.says}
                for name, one in self.legacy
            ],
            "left_alone": [asdict(one) for one in self.alone],
            "strangers": [asdict(one) for one in self.strangers],
            "breakers": [
                {"route": route, "cause": cause, "workers": now, "opened": times}
                for (route, cause), (now, times) in self.breakers.items()
            ],
            "freshness": dict(self.freshness),
            "log_ends": dict(self.log_ends),
            "redirect_loops": [{"routes": name, "stopped": n} for name, n in self.loops.items()],
            "redirect_loops_seen": [
                {"routes": name, "seen": n} for name, n in self.loops_seen.items()
            ],
        }

    def rows(self) -> list[Row]:
        """For people."""
        return [
            *self._worker_rows(),
            *map(_share_row, self.shares),
            *([row("answered", _number(self.answered), _counts(self.answered))] * self.used),
            *(self._legacy_row(name, one) for name, one in self.legacy),
            *(
                row(f"legacy {one.backend}", one.says(len(self.workers)), one.server)
                for one in self.alone
            ),
            *(
                row("trusted_proxies", f"lacks {one.peer}?", f"{one.says}; {one.do}")
                for one in self.strangers
            ),
            *self._breaker_rows(),
            *self._edit_rows(),
            *self._log_end_rows(),
            *self._loop_rows(),
            *([row("shadow", "silent", self.shadow)] if self.shadow else []),
        ]

    def _worker_rows(self) -> list[Row]:
        """A row per worker of `bridgectl serve`; without routes.yaml nobody misses one."""
        rows = [row("routes.yaml", "broken", self.broken)] if self.broken else []
        if self.killed is not None:
            rows.append(row("proxy", "was killed", self.errors["proxy"]))
        elif not self.workers and self.used:
            rows.append(row("proxy", "none", "none runs on this machine: bridgectl serve"))
        for worker in self.workers:
            state = "stopped" if worker.stopped else f"generation {worker.generation}"
            note = f"answers no requests: kill -CONT {worker.pid}" if worker.stopped else ""
            rows.append(row(f"proxy {worker.pid}", state, note or worker.error.partition("\n")[0]))
        return rows + [row("proxy", "differs", says) for says in self.differs.says]

    def _legacy_row(self, name: str, found: Reached) -> Row:
        failures = {
            stage: count for (backend, stage), count in self.failures.items() if backend == name
        }
        note = found.where
        if failures:
            note += f"; requests without an answer: {_counts(failures)}"
        return row(f"legacy {name}", found.says, note)

    def _breaker_rows(self) -> list[Row]:
        """A row per route that was left to legacy for a while, and why."""
        return [
            row(
                f"breaker: {route}",
                f"open in {now} of {several(len(self.workers), 'worker')}" if now else "closed",
                f"{cause}, opened {several(times, 'time')}",
            )
            for (route, cause), (now, times) in self.breakers.items()
        ]

    def _edit_rows(self) -> list[Row]:
        """How the requests of visitors with own edits were answered, if there were any."""
        if not self.freshness:
            return []
        counts = {how.replace("_", " "): count for how, count in self.freshness.items()}
        return [row("visitors with own edits", _number(counts), _counts(counts))]

    def _log_end_rows(self) -> list[Row]:
        """How often the database was asked where its log ends, if it was."""
        counts = self.log_ends
        return [row("log's end asked for", _number(counts), _counts(counts))] if counts else []

    def _loop_rows(self) -> list[Row]:
        """A row per pair of routes that sent visitors to each other, the most frequent first."""
        return [
            row(f"redirect loops {what}", f"{count:,}", routes)
            for what, loops in (("stopped", self.loops), ("seen", self.loops_seen))
            for routes, count in sorted(loops.items(), key=lambda pair: (-pair[1], pair[0]))
        ]


def look(settings: Settings) -> Proxy:
    """Ask the state directory, routes.yaml and every backend. Raises StateUnreadable."""
    workers = status.read_all(settings.state_dir)
    is_there = os.path.exists(settings.routes)
    broken, rows = "", []
    legacy: Sequence[tuple[str, Reached]] = ()
    if is_there:
        try:
            table = load(settings.routes, handlers=Handlers.NAMED)
            rows, legacy = status.rows_of(table), ask_all(table.file)
        except ConfigError as error:
            broken = str(error).partition("\n")[0]
    breakers = samples.breakers(settings.state_dir)
    if not workers:  # who was killed could not say that nothing is left alone any more
        breakers = {key: (0, times) for key, (_, times) in breakers.items()}
    answered = samples.answered(settings.state_dir)
    fallbacks = samples.by_two(settings.state_dir, samples.FALLBACKS)
    dead, silent = killed(settings.state_dir), shadowing.trouble(settings.state_dir)
    was_killed = f"bridgectl serve (process {dead}) was killed or crashed: {AFTER_A_KILL}"
    return Proxy(
        used=is_there or bool(workers),
        workers=workers,
        differs=compare(workers, settings),
        broken=broken,
        shares=_shares([worker.rows for worker in workers] or [rows], answered, fallbacks),
        answered=_by_second(answered),
        failures=samples.by_two(settings.state_dir, samples.FAILED),
        legacy=legacy,
        alone=status.alone(workers),
        strangers=status.strangers(workers),
        breakers=breakers,
        freshness=samples.freshness(settings.state_dir),
        log_ends=samples.log_ends(settings.state_dir),
        loops=samples.loops(settings.state_dir),
        loops_seen=samples.loops_seen(settings.state_dir),
        killed=dead,
        shadow=silent,
        errors={
            **({"shadow": silent} if silent else {}),
            **({} if dead is None else {"proxy": was_killed}),
            **{f"legacy {name}": one.says for name, one in legacy if not one.well},
            **{f"proxy {worker.pid}": "stopped" for worker in workers if worker.stopped},
        },
    )


def _shares(
    tables: Sequence[Sequence[Mapping[str, Any]]], answered: Counts, fallbacks: Counts
) -> list[Share]:
    """Every share of these tables, each of them as rows, in the order of the first."""
    routes: dict[str, dict[str, None]] = {}
    python: dict[str, dict[str, None]] = {}
    for rows in tables:
        for one in rows:
            if one["handler"]:
                name = one["group"] or one["route"]
                routes.setdefault(name, {})[one["route"]] = None
                python.setdefault(name, {})[one["python"]] = None
    return [
        Share(
            name,
            tuple(python[name]),
            tuple(own),
            _by_second({key: count for key, count in answered.items() if key[0] in own}),
            _by_second({key: count for key, count in fallbacks.items() if key[0] in own}),
        )
        for name, own in routes.items()
    ]


def _by_second(counts: Counts) -> dict[str, int]:
    """Added up by the second label."""
    found: dict[str, int] = {}
    for (_, second), count in counts.items():
        found[second] = found.get(second, 0) + count
    return {name: found[name] for name in sorted(found) if found[name]}


def _share_row(share: Share) -> Row:
    note = f"answered by {_counts(share.answered)}" if share.answered else "no request for it"
    if share.fallbacks:
        note += f"; by legacy instead of Python: {_counts(share.fallbacks)}"
    return row(f"share: {share.name}", ", ".join(share.python), note)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _number(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"
