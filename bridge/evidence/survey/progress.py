"""How far a site is on its way to Python, by the bridge's own log: the share of requests that
Python answers, by day, and what is left. Pure; bounded by days and routes, of which a few
thousands are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.evidence.logs.entry import time_of
from bridge.proxy.decision.decide import PYTHON

__all__ = ["Day", "Left", "Progress"]

_MOST = 5000


@dataclass(frozen=True)
class Day:
    """Requests of one day (UTC, `2026-05-17`), and those of them that Python answered."""

    day: str
    requests: int
    python: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.python / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Left:
    """A route (empty: none takes them), its requests, and those that Python did not answer."""

    route: str
    requests: int
    left: int


class Progress:
    """What lines of the bridge's own log say of it."""

    def __init__(self) -> None:
        self._days: dict[str, list[int]] = {}
        self._routes: dict[str, list[float]] = {}
        self.last = 0.0

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line. What the bridge answers itself without a site was no request for one."""
        python = line.get("backend") == PYTHON
        time = str(line.get("time", ""))
        route = str(line.get("route", ""))
        at = time_of(time)
        self.last = max(self.last, at)
        if (day := self._place(self._days, time[:10])) is not None:
            day[0] += 1
            day[1] += python
        if (one := self._place(self._routes, route)) is not None:
            one[0] += 1
            one[1] += python
            one[2] = max(one[2], at)

    @staticmethod
    def _place(places: dict[str, list[Any]], name: str) -> list[Any] | None:
        if name not in places and len(places) >= _MOST:
            return None
        return places.setdefault(name, [0, 0, 0.0])

    def days(self) -> list[Day]:
        """Each day, the oldest first."""
        return [Day(day, n[0], n[1]) for day, n in sorted(self._days.items())]

    def left(self) -> list[Left]:
        """What Python does not answer yet, the most first."""
        found = [
            Left(name, int(n[0]), int(n[0] - n[1]))
            for name, n in self._routes.items()
            if n[0] > n[1]
        ]
        return sorted(found, key=lambda one: (-one.left, one.route))

    def unused(self, routes: Iterator[str], since: float) -> list[str]:
        """Those of these routes that nobody has asked for since then, in Unix seconds."""
        return [name for name in routes if self._routes.get(name, [0, 0, -1.0])[2] < since]
