"""What is counted of requests that belong together. Its memory is bounded, whatever is counted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

__all__ = ["Distinct", "Tally"]

_KEPT = 512
_STEP = math.log(1.25)  # times are kept to 25%
_MOST_WORDS = 30  # methods and statuses of one tally


class Distinct:
    """How many different texts there were: exact up to 512, then estimated to some 4% by the
    smallest of their hashes (k minimum values)."""

    __slots__ = ("_hashes", "_largest")

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self._largest = 1 << 64

    def add(self, text: str) -> None:
        raw = text.encode("utf-8", "surrogatepass")
        self._take(int.from_bytes(blake2b(raw, digest_size=8).digest(), "big"))

    def _take(self, hashed: int) -> None:
        if hashed >= self._largest:
            return
        self._hashes.add(hashed)
        if len(self._hashes) >= 2 * _KEPT:
            kept = sorted(self._hashes)[:_KEPT]
            self._hashes, self._largest = set(kept), kept[-1] + 1

    def merge(self, other: Distinct) -> None:
        for hashed in other._hashes:
            self._take(hashed)
        if other._largest < self._largest:
            self._largest = other._largest
            self._hashes = {one for one in self._hashes if one < self._largest}

    def __len__(self) -> int:
        if self._largest == 1 << 64:
            return len(self._hashes)
        kept = sorted(self._hashes)[:_KEPT]
        return round((len(kept) - 1) * (1 << 64) / kept[-1])


@dataclass(slots=True)
class Tally:
    """Requests that belong together.

    `methods` and `statuses` by name; `times` by the logarithm of seconds; `cookies` are answers
    that set one, -1 where the log does not say; `users` are requests of who was logged in by
    HTTP; `urls` are the different addresses, and `example` is the path of the first one.
    """

    requests: int = 0
    bytes: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    cookies: int = -1
    users: int = 0
    urls: Distinct = field(default_factory=Distinct)
    example: str = ""

    def count(self, method: str, status: str, requests: int, size: int) -> None:
        """Add requests that are alike.

        method, status: of each.
        requests, size: how many, and their bytes in all.
        """
        self.requests += requests
        self.bytes += size
        _add(self.methods, method, requests)
        _add(self.statuses, status, requests)

    def took(self, seconds: float, requests: int = 1) -> None:
        self.times[place_of(seconds)] = self.times.get(place_of(seconds), 0) + requests

    def merge(self, other: Tally) -> None:
        self.requests += other.requests
        self.bytes += other.bytes
        self.users += other.users
        self.example = self.example or other.example
        if other.cookies >= 0:
            self.cookies = max(self.cookies, 0) + other.cookies
        for mine, theirs in ((self.methods, other.methods), (self.statuses, other.statuses)):
            for name, count in theirs.items():
                _add(mine, name, count)
        for place, count in other.times.items():
            self.times[place] = self.times.get(place, 0) + count
        self.urls.merge(other.urls)

    @property
    def reads(self) -> int:
        """Requests by GET and HEAD."""
        return self.methods.get("GET", 0) + self.methods.get("HEAD", 0)

    @property
    def good(self) -> int:
        """Requests that were answered with a page: 2xx, or 304."""
        return sum(n for name, n in self.statuses.items() if name[:1] == "2" or name == "304")

    def status(self, *firsts: str) -> int:
        """Requests whose status begins with one of these."""
        return sum(n for name, n in self.statuses.items() if name.startswith(firsts))

    def slowest(self, share: float) -> float | None:
        """Seconds that this share of the requests took at most, to 25%; None without times."""
        left = share * sum(self.times.values())
        for place, seconds in _ascending(self.times):
            left -= self.times[place]
            if left <= 0:
                return seconds
        return None


def place_of(seconds: float) -> int:
    """Where a time is counted."""
    return math.ceil(math.log(min(max(seconds, 1e-4), 1e6)) / _STEP)


def _ascending(times: Mapping[int, int]) -> Iterator[tuple[int, float]]:
    for place in sorted(times):
        yield place, math.exp(place * _STEP)


def _add(counts: dict[str, int], name: str, count: int) -> None:
    """Visitors may invent names without end."""
    if name not in counts and len(counts) >= _MOST_WORDS:
        name = "other"
    counts[name] = counts.get(name, 0) + count
