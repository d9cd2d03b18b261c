"""A flip decided on a log: who changes sides, how much comes to Python, and what follows.

Pure but for the clock of the log. Lines of the bridge's own log are decided by the bucket that
they have; others, and lines that nobody's bucket decided, by the visitor's address and browser,
which is an estimate. Memory is bounded: by routes, hours, and visitors of half an hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import VisitorError
from bridge.evidence.logs.entry import Entry
from bridge.evidence.plan.again import Again, again, bucket_of, doubt
from bridge.evidence.plan.tables import Tables
from bridge.evidence.plan.threads import threads_for
from bridge.evidence.survey.paths import Paths
from bridge.evidence.survey.survey import parsed_target
from bridge.evidence.survey.tally import Distinct
from bridge.proxy.decision.buckets import bucket
from bridge.proxy.decision.decide import PYTHON, Decider
from bridge.proxy.request.cookies import SHARE_COOKIE
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools.explain import head_for

__all__ = ["Change", "Plan"]

_AFTER = 1800.0  # seconds in which a POST follows a page
_VISITORS = 100_000
_LATE = 600  # seconds that a line may stand behind others
_EXAMPLES = 5
_HOURS = 24 * 366


@dataclass
class Change:
    """Requests of one route that change sides, and whose. `hours` are by Unix seconds of their
    beginning."""

    to_python: int = 0
    to_legacy: int = 0
    visitors: Distinct = field(default_factory=Distinct)
    hours: dict[int, int] = field(default_factory=dict)


@dataclass
class _Times:
    """Seconds that requests took."""

    count: int = 0
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


class Plan:
    """What another table would have done to the requests of a log.

    tables: the one as it is, and those that the log may have been decided by.
    then: the one as it would be.

    Counts of requests: `requests` in all; `reproduced` were decided as the log says by the table
    that they name, `different` otherwise, with `examples`; those of `unknown` name a table that
    the history does not tell; `estimated` have no bucket of their own; `undecided` name a route
    or site that the file no longer has. `visitors` are all who change sides.
    """

    def __init__(self, tables: Tables, then: RouteTable) -> None:
        self._tables, self._now, self._then = tables, tables.now, then
        self._deciders = Decider(tables.now), Decider(then)
        self.requests = self.reproduced = self.different = self.unknown = 0
        self.estimated = self.undecided = 0
        self.python_now = self.python_then = 0
        self.peak_now = self.peak_then = 0
        self.peak_at = 0
        self.examples: list[str] = []
        self.changes: dict[str, Change] = {}
        self.visitors = Distinct()
        self.posts = Paths(10_000)
        self.following = 0
        self._per_second: dict[int, list[int]] = {}
        self._newest = 0
        self._times = {True: _Times(), False: _Times()}
        self._moved: OrderedDict[str, float] = OrderedDict()

    def add(self, entry: Entry) -> None:
        """Decide one request twice."""
        self.requests += 1
        if entry.ours is not None:
            self._check(entry.ours)
            if self._is_before_the_routes(entry.ours):
                found = self._of_others(entry)
            else:
                found = self._of_ours(entry, entry.ours)
        else:
            found = self._of_others(entry)
        if found is None:
            self.undecided += 1
            return
        route, now, then = found
        self._count(entry, route, now.side == PYTHON, then.side == PYTHON)

    def _is_before_the_routes(self, line: Mapping[str, Any]) -> bool:
        """Whether a line is of another file, which had no route for it, or another one: then it is
        decided by matching its path, as a line of another server's log."""
        if not line.get("reason") or self._tables.get(str(line.get("table", ""))) is not None:
            return False
        known = line.get("site") in self._now.file.sites
        return not known or self._now.route(str(line.get("route", ""))) is None

    def _check(self, line: Mapping[str, Any]) -> None:
        table = self._tables.get(str(line.get("table", "")))
        if table is None:
            self.unknown += 1
            return
        why = doubt(table, line)
        if not why:
            self.reproduced += 1
            return
        self.different += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"request {line.get('request_id', '?')}: {why}")

    def _of_ours(self, entry: Entry, line: Mapping[str, Any]) -> tuple[str, Again, Again] | None:
        number = bucket_of(line)
        now, then = (again(table, line, number) for table in (self._now, self._then))
        if now is None or then is None:
            route = self._now.route(str(line.get("route", "")))
            if route is None:
                return None
            sticky = (
                self._now.file.sites[line["site"]].sticky
                if line.get("site") in self._now.file.sites
                else None
            )
            if sticky is None:
                return None
            by_address = bool(sticky.address)
            if number is None and not by_address:
                self.estimated += 1
            key = entry.client if by_address else _visitor(entry)
            guessed = bucket(route.share_key, key)
            now, then = (again(table, line, guessed) for table in (self._now, self._then))
            if now is None or then is None:
                return None
        return str(line.get("route", "")), now, then

    def _of_others(self, entry: Entry) -> tuple[str, Again, Again] | None:
        """By real matching; the visitor's key is made of what the log has of them."""
        self.estimated += 1
        key = f"{bucket('visitor', _visitor(entry)):05}{bucket('again', _visitor(entry)):05}"
        found = []
        for decider in self._deciders:
            table = decider.table
            owner = table.hosts.owner(entry.host.lower()) if entry.host else None
            site = owner or next(iter(table.file.sites))
            sticky = table.file.sites[site].sticky
            headers = [("Cookie", f"{sticky.cookie or SHARE_COOKIE}={key}")]
            headers += [(sticky.header, key)] if sticky.header else []
            headers += [("Host", entry.host)] if owner else []
            try:
                raw = entry.target.encode("latin-1", "replace").decode("utf-8", "replace")
                head = head_for(table, entry.method or "GET", raw, headers, entry.client)
                decision = decider.decide(head, table.trusted.client(head), entry.time, key)
            except (VisitorError, ValueError):
                return None
            found.append(
                (
                    decision.route.name if decision.route else "",
                    Again(decision.backend, decision.reason, decision.detail),
                )
            )
        (route, now), (_, then) = found
        return route, now, then

    def _count(self, entry: Entry, route: str, now: bool, then: bool) -> None:
        self.python_now += now
        self.python_then += then
        if entry.time and (now or then):
            self._tick(int(entry.time), now, then)
        if entry.seconds is not None and then:
            by_python = entry.ours is not None and entry.ours.get("backend") == PYTHON
            self._times[by_python].add(entry.seconds)
        visitor = _visitor(entry)
        if now != then:
            change = self.changes.setdefault(route, Change())
            change.to_python += then
            change.to_legacy += now
            change.visitors.add(visitor)
            self.visitors.add(visitor)
            hour = int(entry.time) // 3600 * 3600
            if hour in change.hours or len(change.hours) < _HOURS:
                change.hours[hour] = change.hours.get(hour, 0) + 1
            self._moved[visitor] = entry.time
            self._moved.move_to_end(visitor)
            if len(self._moved) > _VISITORS:
                self._moved.popitem(last=False)
        elif entry.method == "POST":
            at = self._moved.get(visitor)
            if at is not None and 0 <= entry.time - at <= _AFTER:
                self._follows(entry)

    def _follows(self, entry: Entry) -> None:
        target = parsed_target(entry.method, entry.target)
        if target is not None and target.path is not None:
            self.following += 1
            tally = self.posts.at(target.path, target.query)
            tally.count(entry.method, str(entry.status), 1, entry.bytes)
            tally.urls.add(entry.target)

    def _tick(self, second: int, now: bool, then: bool) -> None:
        counts = self._per_second.setdefault(second, [0, 0])
        counts[0] += now
        counts[1] += then
        if second > self._newest:
            self._newest = second
            if len(self._per_second) > 2 * _LATE:
                self._settle(second - _LATE)

    def _settle(self, before: int) -> None:
        """Nothing comes any more for seconds before this one."""
        for second in [one for one in self._per_second if one < before]:
            now, then = self._per_second.pop(second)
            self.peak_now = max(self.peak_now, now)
            if then > self.peak_then:
                self.peak_then, self.peak_at = then, second

    def end(self) -> None:
        """The log is through."""
        self._settle(self._newest + 1)

    @property
    def times(self) -> tuple[float, str] | None:
        """Seconds that a request of Python takes on average, and by whose lines that is:
        `python`, or `legacy` where Python has none yet; None where no times are known."""
        for by_python, whose in ((True, "python"), (False, "legacy")):
            if (mean := self._times[by_python].mean) is not None:
                return mean, whose
        return None

    @property
    def threads(self) -> int | None:
        """Handler threads for the peak, enough 99% of the time; None without times."""
        times = self.times
        return None if times is None else threads_for(self.peak_then, times[0])


def _visitor(entry: Entry) -> str:
    return f"{entry.client} {entry.agent}"
