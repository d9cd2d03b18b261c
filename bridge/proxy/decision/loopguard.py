"""The same visitor goes round between the same pages: a redirect loop.

Pure but for the clock it is given. Two sides that each send visitors to the other (a trailing
slash, a login, an old address) are the usual accident of a flip; browsers stop after twenty
redirects, say nothing useful, and try again when asked. A `Trail` is one visitor's redirects
without a gap: each was asked for at the very address that the one before named. Who is stopped
has brought their own, signed, in a cookie, so it counts over all workers and machines, and
nobody's redirects count for another. `LoopGuard` keeps those of everybody else, by what browsers
look like: enough to tell of a loop, and too little to stop anybody.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import NamedTuple

from itsdangerous import BadData, URLSafeSerializer

from bridge.proxy.request.address import resolve
from bridge.proxy.request.hosts import Hosts

__all__ = [
    "LoopGuard",
    "Sender",
    "Signed",
    "Step",
    "Trail",
    "asked_for",
    "domain_for",
    "loop_name",
    "senders",
    "sent_to",
]

_VISITORS = 10_000  # that are remembered; who was last heard of longest ago is forgotten
_KEPT = 20  # redirects of a trail: browsers follow no more
_GIVES_UP = 18  # redirects after which a long cycle counts, so that browsers see our page
_LONGEST = 2048  # characters of a cookie that is verified
_NAMED = 6  # redirects of a cycle that its name has


class Sender(NamedTuple):
    """Who sent a visitor on: the route, and the side that answered for it."""

    route: str
    backend: str

    def __str__(self) -> str:
        return f"{self.route or '-'} ({self.backend})"

    @property
    def code(self) -> str:
        """What stands for it in a cookie: names are not for visitors."""
        return _digest(self.route)[:5] + _digest(self.backend)[:3]


class Step(NamedTuple):
    """A redirect: when it was, in Unix seconds, what was asked for, and the code of its Sender."""

    when: float
    asked: str
    sender: str


class Trail(NamedTuple):
    """Redirects one after the other; `expected` is what the last one makes the visitor ask for.
    `told` says that its cycle has been counted."""

    expected: str
    steps: tuple[Step, ...] = ()
    told: bool = False

    def then(self, step: Step, expected: str) -> Trail:
        return Trail(expected, (*self.steps, step)[-_KEPT:], self.told)

    def leads_back(self, expected: str, asked: str = "") -> bool:
        """Whether `expected` is where the visitor was before, or has `asked` for now."""
        return expected == asked or any(step.asked == expected for step in self.steps)

    def cycle(self, now: float, rounds: int, seconds: float) -> tuple[str, ...]:
        """The senders of the cycle that has been gone round `rounds` times within `seconds`,
        in order and completely; empty while there is none. Two rounds at least, and fewer than
        `rounds` where a browser would give up before."""
        recent = [step for step in self.steps if now - step.when <= seconds]
        redirects = [step[1:] for step in recent]
        for length in range(1, len(recent) // 2 + 1):
            last = redirects[-length:]
            if last[0][0] != self.expected or redirects[-2 * length : -length] != last:
                continue
            wanted = max(2, min(rounds, _GIVES_UP // length))
            whole = redirects[-length * wanted :] == last * wanted
            return tuple(sender for _, sender in last) if whole else ()
        return ()


@lru_cache(maxsize=8192)
def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(blake2b(text.encode(), digest_size=6).digest()).decode()


def _request(method: str, form: str) -> str:
    digest = blake2b(f"{method} {form}".encode(), digest_size=6).digest()
    return base64.urlsafe_b64encode(digest).decode()


def asked_for(method: str, scheme: str, host: str, target: str) -> str | None:
    """What stands for a request in a trail, None where its address is none.

    method: a form that shows itself again after a POST is no loop.
    scheme, host, target: as `address.resolve` takes them.
    """
    form = resolve(scheme, host, target)
    return None if form is None else _request(method, form)


def sent_to(
    method: str,
    scheme: str,
    host: str,
    target: str,
    status: int,
    location: str,
    hosts: Hosts | None = None,
) -> str | None:
    """What a browser asks for next; None where that is nothing by HTTP.

    method, scheme, host, target: what it asked for.
    status, location: of the answer.
    hosts: None at none of these, too: a way that leads elsewhere has a gap when it comes back.
    """
    form = resolve(scheme, host, target, location)
    if form is not None and hosts is not None:
        name = form.partition("/")[0]
        if not name.startswith("[") and hosts.owner(name) is None:
            return None
    again = method if status in (307, 308) or method == "HEAD" else "GET"
    return None if form is None else _request(again, form)


def loop_name(cycle: Sequence[Sender]) -> str:
    """The routes of a cycle, and the sides that answered: the same for whoever goes round,
    wherever they began. It is counted, so it is short."""
    names = [str(step) for step in cycle]
    turns = [names[at:] + names[:at] for at in range(len(names))]
    first = min(turns, default=[])
    return " → ".join(first[:_NAMED]) + (" → …" if len(first) > _NAMED else "")


def senders(
    codes: Iterable[str], routes: Iterable[str], backends: Iterable[str]
) -> tuple[Sender, ...]:
    """Those whose codes these are; `?` where another machine has another table."""
    names = {_digest(name)[:5]: name for name in (*routes, "")}
    sides = {_digest(name)[:3]: name for name in backends}
    return tuple(Sender(names.get(code[:5], "?"), sides.get(code[5:], "?")) for code in codes)


@lru_cache(maxsize=1024)
def domain_for(patterns: tuple[str, ...], host: str) -> str:
    """The domain of a cookie that all hosts of a site get, for one who asks for `host`; empty
    where it is for that host alone. Only a name that the site has listed can be one, or what
    stands behind its `*.`: never one that is shared with strangers."""
    name = host.partition(":")[0]
    own = [pattern.partition(":")[0] for pattern in patterns if not pattern.startswith("[")]
    above = [
        domain
        for domain in (one.removeprefix("*.") for one in own)
        if "." in domain and (name == domain or name.endswith(f".{domain}"))
    ]
    shortest = min(above, key=len, default="")
    others = any(one.endswith(f".{shortest}") for one in own)
    return shortest if shortest and others else ""


class Signed:
    """Trails in cookies, signed with `secret`: the same one on every machine, or each counts by
    itself."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeSerializer(
            secret, salt="bridge.trail", signer_kwargs={"digest_method": sha256}
        )

    def write(self, trail: Trail) -> str:
        """The value of the cookie, of at most some 900 characters."""
        start = int(trail.steps[0].when)
        steps = [
            [round((step.when - start) * 1000), step.asked + step.sender] for step in trail.steps
        ]
        value = self._serializer.dumps([trail.expected, int(trail.told), start, steps])
        return value if isinstance(value, str) else value.decode()

    def read(self, values: Iterable[str], asked: str) -> Trail | None:
        """The trail among the values of cookies that leads to `asked`, or None."""
        for value in values:
            if len(value) > _LONGEST:
                continue
            try:
                expected, told, start, steps = self._serializer.loads(value)
                if expected == asked:
                    made = (Step(start + ms / 1000, text[:8], text[8:]) for ms, text in steps)
                    return Trail(expected, tuple(made), bool(told))
            except (BadData, ValueError, TypeError):
                continue
        return None


class LoopGuard:
    """The trails of visitors who were redirected lately and brought none. Not thread-safe. Memory
    is bounded. `places` are where they are, each with how many: nobody else need be looked at."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._trails: OrderedDict[int, tuple[str, Trail]] = OrderedDict()

    def __len__(self) -> int:
        """How many visitors are remembered."""
        return len(self._trails)

    def take(self, place: str, visitor: str, asked: str) -> Trail | None:
        """The trail of `visitor` (a key: browser and cookies) at `place` (an address) that leads
        to `asked`. It is gone then: what is no redirect ends it."""
        key = hash((place, visitor))
        known = self._trails.get(key)
        if known is None or known[1].expected != asked:
            return None
        self._forget(key)
        return known[1]

    def keep(self, place: str, visitor: str, trail: Trail) -> None:
        """`visitor` was sent on."""
        key = hash((place, visitor))
        if key in self._trails:
            self._forget(key)
        self._trails[key] = place, trail
        self.places[place] = self.places.get(place, 0) + 1
        if len(self._trails) > _VISITORS:
            self._forget(next(iter(self._trails)))

    def _forget(self, key: int) -> None:
        place, _ = self._trails.pop(key)
        left = self.places[place] = self.places[place] - 1
        if not left:
            del self.places[place]
