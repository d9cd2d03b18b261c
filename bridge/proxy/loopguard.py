"""The same visitor goes round between the same pages: a redirect loop, stopped with a page.

Pure but for the clock it is given. Two sides that each send visitors to the other (a trailing
slash, a login, an old address) are the usual accident of a flip; browsers stop after twenty
rounds, say nothing useful, and try again when asked. A round is counted when the visitor asks
for the very address that the last redirect named. Of addresses only digests are kept: a visitor
chooses how long they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

__all__ = ["LoopGuard", "Round", "loop_name"]

_VISITORS = 10_000  # that are remembered; who was last heard of longest ago is forgotten
_STEPS = 64  # redirects that are remembered of each: 5 rounds of 12 pages, or 20 rounds of 3
_ALL_STEPS = 100_000  # of all visitors together, some 15 MB
_NAMED = 6  # redirects of a cycle that its name has


@dataclass(frozen=True, slots=True)
class Round:
    """A redirect: the route and side that sent it, what was asked for and what is asked next,
    each as method and address (a form that shows itself again after a POST is no loop)."""

    route: str
    backend: str
    asked: str
    named: str

    @classmethod
    def of(
        cls, route: str, backend: str, method: str, address: str, status: int, location: str
    ) -> Round:
        """From a request and its answer; `address` is absolute."""
        named = urljoin(address, location).partition("#")[0]
        again = method if status in (307, 308) or method == "HEAD" else "GET"
        return cls(route, backend, f"{method} {address}", f"{again} {named}")

    def __str__(self) -> str:
        return f"{self.route or '-'} ({self.backend})"


def loop_name(cycle: Sequence[Round]) -> str:
    """The routes of a cycle, and the sides that answered: the same for whoever goes round,
    wherever they began. It is counted, so it is short."""
    names = [str(step) for step in cycle]
    turns = [names[at:] + names[:at] for at in range(len(names))]
    first = min(turns, default=[])
    return " → ".join(first[:_NAMED]) + (" → …" if len(first) > _NAMED else "")


@dataclass(frozen=True, slots=True)
class _Step:
    """What is kept of a Round: `asked` and `named` as digests."""

    when: float
    route: str
    backend: str
    asked: int
    named: int

    def same(self, other: _Step) -> bool:
        return (self.asked, self.named, self.route, self.backend) == (
            other.asked,
            other.named,
            other.route,
            other.backend,
        )


class LoopGuard:
    """`rounds` times the same redirect within `seconds`, with others of its cycle in between or
    not, is a loop. Not thread-safe. Memory is bounded; it only ever holds visitors who were
    redirected. `places` are where they are, each with how many: nobody else need be looked at."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._trails: OrderedDict[int, tuple[str, list[_Step]]] = OrderedDict()
        self._steps = 0  # of all trails

    def __len__(self) -> int:
        """How many visitors are remembered."""
        return len(self._trails)

    def redirected(self, place: str, visitor: str, step: Round, now: float) -> None:
        """`visitor` (a key: browser and cookies) at `place` (an address) was sent on."""
        key = hash((place, visitor))
        known = self._trails.get(key)
        if known is None:
            known = self._trails[key] = place, []
            self.places[place] = self.places.get(place, 0) + 1
        else:
            self._trails.move_to_end(key)
        trail = known[1]
        kept = _Step(now, step.route, step.backend, hash(step.asked), hash(step.named))
        trail.append(kept)
        self._steps += 1
        if len(trail) > _STEPS:
            del trail[0]
            self._steps -= 1
        while len(self._trails) > _VISITORS or self._steps > _ALL_STEPS:
            self._forget(next(iter(self._trails)))

    def _forget(self, key: int) -> None:
        place, trail = self._trails.pop(key)
        self._steps -= len(trail)
        left = self.places[place] = self.places[place] - 1
        if not left:
            del self.places[place]

    def loop(
        self, place: str, visitor: str, asked: str, now: float, rounds: int, seconds: float
    ) -> tuple[Round, ...]:
        """The redirects of the cycle that `visitor` is in when they ask for `asked` once more,
        without their addresses; empty while there is none."""
        key, wanted = hash((place, visitor)), hash(asked)
        known = self._trails.get(key)
        if known is None:
            return ()
        recent = [step for step in known[1] if now - step.when <= seconds]
        if not recent:
            self._forget(key)
            return ()
        led = next((step for step in reversed(recent) if step.named == wanted), None)
        if led is None or sum(map(led.same, recent)) < rounds:
            return ()
        # From the last time that this address was asked for to the redirect that led back to it.
        cycle: list[Round] = []
        for step in reversed(recent):
            if cycle or step.same(led):
                cycle.insert(0, Round(step.route, step.backend, "", ""))
                if step.asked == wanted:
                    return tuple(cycle)
        return ()  # it has never been sent on from here: no cycle
