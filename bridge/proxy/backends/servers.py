"""Which of a backend's servers gets the next request, and which are left alone for a while. Pure.

A server that refuses a connection is left alone at once, for nothing was lost: another one is
asked. One that takes requests and gives no answers is left alone after a few of them. Each time
lasts longer than the one before, until it answers. When all are left alone, all are asked.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from urllib.parse import SplitResult, urlsplit

import structlog

__all__ = ["Server", "Servers"]

log = structlog.get_logger("bridge.proxy")

_SILENT = 3  # requests in a row that got no answer
_FIRST, _LONGEST = 1.0, 60.0  # seconds


class Server:
    """One of them. busy: requests that it has now. until: it is left alone before that moment, by
    the monotonic clock, and `why` says why. probed: what the last probe said; None where none is
    made, and `sick` is what was wrong with it."""

    __slots__ = ("busy", "parts", "probed", "sick", "silent", "times", "until", "url", "why")

    def __init__(self, url: str) -> None:
        self.url = url
        self.parts: SplitResult = urlsplit(url)
        self.busy = self.silent = self.times = 0
        self.until = 0.0
        self.probed: bool | None = None
        self.why = self.sick = ""

    def __repr__(self) -> str:
        return f"<Server {self.url}: {self.busy} busy>"

    def is_well(self, now: float) -> bool:
        """Whether it is asked."""
        return self.probed is not False and now >= self.until


class Servers:
    """The servers of the backend `name`. Thread-safe."""

    def __init__(self, name: str, urls: Sequence[str]) -> None:
        self._name = name
        self.all = tuple(map(Server, urls))
        self.many = len(self.all) > 1
        self._turn = 0
        self._lock = threading.Lock()

    def pick(self, now: float, tried: Collection[Server] = ()) -> Server:
        """The one with the fewest requests, of those that are well and were not tried; of equals
        each has its turn. When none is left, the one whose time is over first."""
        if not self.many:
            return self.all[0]
        left = [one for one in self.all if one not in tried] or list(self.all)
        well = [one for one in left if one.is_well(now)]
        if not well:
            return min(left, key=lambda one: one.until)
        with self._lock:
            self._turn += 1
            turn = self._turn
        return min(
            (well[(turn + place) % len(well)] for place in range(len(well))),
            key=lambda one: one.busy,
        )

    def another(self, now: float, tried: Collection[Server]) -> bool:
        """Whether there is one that is well and was not tried."""
        return any(one.is_well(now) and one not in tried for one in self.all)

    def alone(self, now: float) -> dict[str, str]:
        """Those that are left alone now, by URL, and why. The only server of a backend never is."""
        if not self.many:
            return {}
        return {
            one.url: one.sick if one.probed is False else one.why
            for one in self.all
            if not one.is_well(now)
        }

    def refused(self, server: Server, now: float) -> None:
        """There was no connection to it."""
        if self.many:
            self._leave_alone(server, now, "takes no connection")

    def was_silent(self, server: Server, now: float) -> None:
        """It took a request and gave no answer."""
        if not self.many:
            return
        server.silent += 1
        if server.silent >= _SILENT:
            self._leave_alone(server, now, f"gave no answer to {server.silent} requests")

    def answered(self, server: Server) -> None:
        """It gave an answer, whatever that says."""
        if server.silent or server.times:
            server.silent = server.times = 0
            server.until = 0.0

    def told(self, server: Server, well: bool, why: str) -> None:
        """What a probe found."""
        if server.probed is not well:
            if not well:
                log.error("a server is left alone", backend=self._name, server=server.url, why=why)
            elif server.probed is not None:
                log.info("a server is asked again", backend=self._name, server=server.url)
        server.sick = "" if well else why
        server.probed = well

    def _leave_alone(self, server: Server, now: float, why: str) -> None:
        with self._lock:
            if now < server.until:
                return  # others have found it out, too
            seconds = min(_FIRST * 2**server.times, _LONGEST)
            server.why, server.silent, server.times = why, 0, server.times + 1
            server.until = now + seconds
        log.error(
            "a server is left alone",
            backend=self._name,
            server=server.url,
            why=why,
            seconds=seconds,
        )
