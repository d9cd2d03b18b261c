"""Redirect loops found before a flip: follow redirects with both sides answering.

Each address is asked of Python, as routes.yaml would have it at 100%, and of legacy, as at 0%;
each of the two answers leads on. So every mixture of sides is followed. Cookies are kept along
the way, as a browser keeps them.

The search tells states apart by address and names of cookies, so that a session id that changes
with every answer does not make it endless. What looks like a cycle is then walked for real, and
only what leads round and round is called a loop. Both sides are asked through the WSGI shell:
headers and addresses are those that visitors would see.
"""

from __future__ import annotations

import contextlib
import string
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import Request

from bridge.errors import BridgeError, WrongUsage
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.request.hosts import as_ascii, host_of
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools.sides import LEGACY, Sides, environ_of
from bridge.reasons import Reason

__all__ = ["Found", "Hop", "Loop", "Step", "follow", "start_of"]

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_BROWSER = "Mozilla/5.0 (bridgectl check)"
_APART = 3600.0  # seconds between two requests, for breakers and the guard of live requests

Cookies = frozenset[tuple[str, str, str]]
"""Domain, path and name of each."""


@dataclass(frozen=True, slots=True)
class Step:
    """One answer: `side` (python or legacy) answered `url` for `route`, and sends to `named`,
    which is empty where it is no redirect. `error` says why nobody could answer, `fallback` why
    legacy did instead of Python."""

    url: str
    side: str
    route: str
    share_key: str
    status: int
    named: str
    error: str = ""
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class Hop:
    """A redirect of a loop: the `sides` that send visitors from `url` to `named`."""

    url: str
    route: str
    sides: tuple[str, ...]
    named: str


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop, from its first address round to it. `moved`: only who changes sides within a
    route or group goes round: a visitor without cookies, or one whose handler fails."""

    hops: tuple[Hop, ...]
    moved: bool


@dataclass(slots=True)
class Found:
    """What following has found. `complete` is false where the limit of requests ended it;
    `long` are chains that had not ended after the limit of redirects, `left` addresses of other
    sites. `failed` are those that a side did not answer: where legacy answered for Python, they
    say nothing of Python."""

    loops: list[Loop] = field(default_factory=list)
    long: list[tuple[str, ...]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[Step] = field(default_factory=list)
    requests: int = 0
    complete: bool = True

    @property
    def good(self) -> bool:
        return self.complete and not (self.loops or self.long or self.failed)


def start_of(table: RouteTable, url: str) -> str:
    """The absolute address for `url`: absolute itself, or a path on a host of the first site.
    Raises WrongUsage for what is no address, and BridgeError for another site's."""
    if url.startswith("/"):
        url = f"http://{host_of(table.file.hosts, next(iter(table.file.sites)))}{url}"
    given = url
    try:
        url = _plain(url, "utf-8")
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise WrongUsage(f"{given!r} is no address to follow; write /path or https://host/path")
    if table.hosts.owner(parts.netloc) is None:
        raise BridgeError(f"{given!r} is on no site's list of hosts; add it to `hosts:`")
    return url


def _plain(url: str, encoding: str) -> str:
    """As a browser asks for it: no fragment, and ASCII only."""
    host = urlsplit(url).netloc
    if not host.isascii():
        with contextlib.suppress(ValueError):  # then it is nobody's, and said to be
            url = url.replace(host, as_ascii(host.encode(encoding).decode()), 1)
    return quote(url.partition("#")[0], safe=string.punctuation, encoding=encoding)


def follow(
    table: RouteTable,
    urls: Sequence[str],
    *,
    headers: Sequence[tuple[str, str]] = (),
    hops: int = 20,
    most: int = 1000,
) -> Found:
    """Follow redirects, of both sides.

    urls: of `start_of`.
    headers: sent with each request.
    hops, most: redirects in a row, and requests in all, at most.
    """
    sides = _Sides(table, headers, most)
    try:
        return _Search(sides, table.file.redirect_loops.rounds, hops).run(urls)
    finally:
        sides.close()


class _TooMany(Exception):
    """The limit of requests is reached."""


class _Sides:
    """Asks one side or the other, without following."""

    def __init__(self, table: RouteTable, headers: Sequence[tuple[str, str]], most: int) -> None:
        self._table, self._headers, self._most = table, headers, most
        self._now, self._apart = time.time(), table.file.redirect_loops.within + _APART
        self._of = Sides(table, clock=lambda: self._now)
        self.requests = 0

    def close(self) -> None:
        self._of.close()

    def is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        ours = parts.scheme in ("http", "https")
        return ours and self._table.hosts.owner(parts.netloc) is not None

    def ask(self, side: str, url: str, jar: CookieJar) -> Step:
        """What `side` answers; `jar` takes its cookies. Raises _TooMany."""
        if self.requests >= self._most:
            raise _TooMany
        self.requests += 1
        self._now += self._apart
        heard = self._of.ask(side, self._environ(url, jar))  # the body is of no interest
        outcome, message = heard.outcome, Message()
        for name, value in heard.headers:
            message[name] = value
        jar.extract_cookies(_Response(message), _request(url))  # type: ignore[arg-type]
        location = message.get("Location", "") if heard.status in _REDIRECTS else ""
        try:
            named = _plain(urljoin(url, location), "latin-1") if location else ""
        except ValueError:
            named = ""  # no address that a browser would go to
        route = self._table.route(outcome.route) if outcome.route else None
        by_python = outcome.handler >= 0 and not outcome.fallback
        return Step(
            url,
            PYTHON if by_python else LEGACY,
            outcome.route,
            _share_key(route),
            heard.status,
            named,
            outcome.error,
            outcome.fallback,
        )

    def _environ(self, url: str, jar: CookieJar) -> dict[str, Any]:
        parts = urlsplit(url)
        raw = url[len(f"{parts.scheme}://{parts.netloc}") :]
        raw = raw if raw.startswith("/") else f"/{raw}"
        given = {"User-Agent": _BROWSER, "Accept": "text/html,*/*;q=0.8"}
        given |= {name.title(): value for name, value in self._headers}
        request = _request(url)
        jar.add_cookie_header(request)
        cookies = [given.get("Cookie", ""), request.get_header("Cookie", "") or ""]
        given["Cookie"] = "; ".join(filter(None, cookies))
        return environ_of("GET", parts.netloc, raw, list(given.items()), scheme=parts.scheme)


@dataclass(frozen=True, slots=True)
class _Response:
    """What CookieJar wants of a response."""

    message: Message

    def info(self) -> Message:
        return self.message


def _request(url: str) -> Request:
    """What CookieJar wants of a request; nothing is opened with it."""
    return Request(url)  # noqa: S310 - see there


def _share_key(route: Any) -> str:
    return route.share_key if route is not None and route.app is not None else ""


def _copy(jar: CookieJar) -> CookieJar:
    copied = CookieJar()
    for cookie in jar:
        copied.set_cookie(cookie)
    return copied


def _names(jar: CookieJar) -> Cookies:
    return frozenset((cookie.domain, cookie.path, cookie.name) for cookie in jar)


_Node = tuple[str, Cookies]


@dataclass(frozen=True, slots=True)
class _Edge:
    start: _Node
    step: Step
    end: _Node


class _Search:
    """A search in breadth over what both sides answer, then a look for cycles in what it saw."""

    def __init__(self, sides: _Sides, rounds: int, hops: int) -> None:
        self._sides, self._rounds, self._hops = sides, rounds, hops
        self._from: dict[_Node, list[_Edge]] = {}  # edges by where they begin
        self._way: dict[_Node, tuple[_Edge, ...]] = {}  # the shortest to each node
        self._found = Found()

    def run(self, urls: Sequence[str]) -> Found:
        found = self._found
        try:
            self._explore(urls)
            self._look_for_loops()
        except _TooMany:
            found.complete = False
        found.requests = self._sides.requests
        found.left = sorted(set(found.left))
        return found

    def _explore(self, urls: Sequence[str]) -> None:
        line: deque[tuple[_Node, CookieJar]] = deque()
        for url in dict.fromkeys(urls):
            node = url, frozenset[tuple[str, str, str]]()
            self._way[node] = ()
            line.append((node, CookieJar()))
        while line:
            node, jar = line.popleft()
            edges = self._from[node] = []
            for step, after in self._answers(node[0], jar):
                if step.error or step.fallback not in ("", Reason.DECLINED):
                    self._found.failed.append(step)
                if not step.named:
                    continue
                if not self._sides.is_ours(step.named):
                    self._found.left.append(step.named)
                    continue
                edge = _Edge(node, step, (step.named, _names(after)))
                edges.append(edge)
                if edge.end in self._way:
                    continue
                way = self._way[edge.end] = (*self._way[node], edge)
                if len(way) > self._hops:
                    self._found.long.append(tuple(one.start[0] for one in way))
                else:
                    line.append((edge.end, after))

    def _answers(self, url: str, jar: CookieJar) -> list[tuple[Step, CookieJar]]:
        """The answers of both sides; only one where no handler answers."""
        answers = []
        for side in (PYTHON, LEGACY):
            after = _copy(jar)
            step = self._sides.ask(side, url, after)
            answers.append((step, after))
            if step.side == LEGACY:
                break
        return answers

    def _look_for_loops(self) -> None:
        seen: set[frozenset[tuple[str, str]]] = set()
        loops: dict[tuple[str, ...], list[tuple[Step, ...]]] = {}
        for edges in list(self._from.values()):
            for edge in edges:
                cycle = self._cycle(edge)
                if cycle is None:
                    continue
                steps = tuple(one.step for one in cycle)
                same = frozenset((step.url, step.side) for step in steps)
                if same not in seen and self._goes_round(self._way[cycle[0].start], steps):
                    seen.add(same)
                    steps = _from_the_first(steps)
                    loops.setdefault(tuple(step.url for step in steps), []).append(steps)
        self._found.loops = [_merged(kinds) for kinds in loops.values()]

    def _cycle(self, first: _Edge) -> tuple[_Edge, ...] | None:
        """The shortest way from the end of `first` back to its start, with `first` before it."""
        ways: dict[_Node, tuple[_Edge, ...]] = {first.end: (first,)}
        line = deque([first.end])
        while line:
            node = line.popleft()
            if node == first.start:
                return ways[node]
            for edge in self._from.get(node, ()):
                if edge.end not in ways:
                    ways[edge.end] = (*ways[node], edge)
                    line.append(edge.end)
        return None

    def _goes_round(self, way: Sequence[_Edge], cycle: tuple[Step, ...]) -> bool:
        """Walk to the cycle and round, with the cookies as they come, as often as it takes to
        be stopped."""
        jar = CookieJar()
        steps = (*(edge.step for edge in way), *(cycle * self._rounds))
        for step in steps:
            again = self._sides.ask(step.side, step.url, jar)
            if (again.side, again.named) != (step.side, step.named):
                return False
        return True


def _from_the_first(cycle: tuple[Step, ...]) -> tuple[Step, ...]:
    """The same cycle, from the address that is first in the alphabet."""
    first = min(range(len(cycle)), key=lambda at: cycle[at].url)
    return cycle[first:] + cycle[:first]


def _merged(kinds: Sequence[tuple[Step, ...]]) -> Loop:
    """One loop of cycles over the same addresses, whichever sides answer."""
    hops = []
    for steps in zip(*kinds, strict=True):
        sides = tuple(dict.fromkeys(step.side for step in steps))
        hops.append(Hop(steps[0].url, steps[0].route, sides, steps[0].named))
    return Loop(tuple(hops), all(map(_moved, kinds)))


def _moved(cycle: Sequence[Step]) -> bool:
    """Whether two sides of one route or group answer in the cycle."""
    sides: dict[str, set[str]] = {}
    for step in cycle:
        if step.share_key:
            sides.setdefault(step.share_key, set()).add(step.side)
    return any(len(both) > 1 for both in sides.values())
