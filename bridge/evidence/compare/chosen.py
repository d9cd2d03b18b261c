"""Which requests are compared: those of addresses, or a sample of a log's, spread over routes and
distinct addresses.

The sample is drawn by a digest of each address, so that the same log gives the same one.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bridge.errors import BridgeError, VisitorError, WrongUsage
from bridge.evidence.answers import Asked
from bridge.evidence.logs import Entry
from bridge.proxy.request.head import Headers
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools.explain import head_for
from bridge.proxy.tools.redirects import start_of

__all__ = ["Chosen", "One", "from_addresses", "from_log"]

_DISTINCT = 1_000_000  # addresses that are held where all are to be compared


@dataclass(frozen=True, slots=True)
class One:
    """A request to compare, and its route."""

    route: str
    asked: Asked


@dataclass(slots=True)
class Chosen:
    """The requests, in the order in which they are asked. `left` says what was not taken, and how
    often; `distinct` is how many different addresses of routes with a Python side were seen."""

    ones: list[One] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    distinct: int = 0


class _Addresses:
    """Finds the route of an address."""

    def __init__(self, table: RouteTable, headers: Headers) -> None:
        self._table, self._headers = table, headers

    def one(self, url: str, method: str = "GET") -> One | str:
        """The request for an absolute address; or in words why there is none to compare."""
        try:
            head = head_for(self._table, method, url, self._headers, "127.0.0.1")
        except VisitorError as error:
            return f"no address: {error.reason}"
        site = self._table.hosts.owner(head.host)
        if site is None:
            return "of a host that no site has"
        found, _ = self._table.look_up(head, site)
        if found is None or found[0].app is None:
            return "of no route with a Python side"
        host = head.headers[0][1]
        others = [(name, value) for name, value in head.headers if name != "Host"]
        asked = Asked(method, head.target.raw, host, others, head.scheme)
        return One(found[0].name, asked)


def from_addresses(
    table: RouteTable, urls: Sequence[str], headers: Headers, routes: Collection[str] = ()
) -> Chosen:
    """The requests for these addresses.

    urls: absolute, or paths on a host of the first site.
    headers: sent with each request.
    routes: only of these; all, where there are none.

    Raises BridgeError for an address that has no route with a Python side.
    """
    chosen, addresses = Chosen(), _Addresses(table, headers)
    for url in dict.fromkeys(urls):
        one = addresses.one(start_of(table, url))
        if isinstance(one, str):
            raise BridgeError(f"{url!r} is {one}; `bridgectl explain GET {url}` says who answers")
        if not routes or one.route in routes:
            chosen.ones.append(one)
    chosen.distinct = len(chosen.ones)
    return chosen


def from_log(
    table: RouteTable,
    entries: Iterable[Entry],
    headers: Headers,
    routes: Collection[str] = (),
    sample: int = 0,
) -> Chosen:
    """A sample of the GETs of a log.

    entries: its lines.
    headers: sent with each request.
    routes: only of these; all, where there are none.
    sample: how many distinct addresses; 0 for all.

    Raises WrongUsage for a log with too many addresses to take all.
    """
    chosen, addresses = Chosen(), _Addresses(table, headers)
    first_host = start_of(table, "/")[:-1]
    held: dict[str, _Lowest] = {}
    seen: set[int] = set()
    for entry in entries:
        if entry.method != "GET":
            chosen.left[f"{entry.method}: only a GET is asked again"] += 1
            continue
        url = f"http://{entry.host}{entry.target}" if entry.host else f"{first_host}{entry.target}"
        rank = _rank(url)
        if rank in seen:
            continue
        if len(seen) >= _DISTINCT:
            if not sample:
                raise WrongUsage(f"the log has more than {_DISTINCT:,} addresses; use --sample")
            seen.clear()  # the sample tells by itself what it has seen
        seen.add(rank)
        one = addresses.one(url)
        if isinstance(one, str):
            chosen.left[one] += 1
        elif routes and one.route not in routes:
            chosen.left["of other routes"] += 1
        else:
            chosen.distinct += 1
            held.setdefault(one.route, _Lowest(sample)).take(rank, one)
    chosen.ones = _spread([held[route].ones() for route in sorted(held)], sample)
    return chosen


def _rank(url: str) -> int:
    text = url.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


class _Lowest:
    """Of what it is given, those with the lowest ranks: `most` of them, 0 for all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ones: dict[int, One] = {}
        self._highest: list[int] = []  # a heap of the negative ranks

    def take(self, rank: int, one: One) -> None:
        if rank in self._ones:
            return
        self._ones[rank] = one
        heapq.heappush(self._highest, -rank)
        if self._most and len(self._ones) > self._most:
            del self._ones[-heapq.heappop(self._highest)]

    def ones(self) -> list[One]:
        """In the order of their ranks."""
        return [one for _, one in sorted(self._ones.items(), key=lambda item: item[0])]


def _spread(lines: Sequence[Sequence[One]], most: int) -> list[One]:
    """In turns one of each line, as long as there are any."""
    found: list[One] = []
    for turn in range(max(map(len, lines), default=0)):
        for line in lines:
            if turn < len(line) and (not most or len(found) < most):
                found.append(line[turn])
    return found
