"""Compares many requests at a time, not faster than legacy may be asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.compare.chosen import One
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.order import Order, Verdict

__all__ = ["Paced", "Tally", "run"]


@dataclass
class Paced:
    """Asks legacy, with `rate` requests a second at most (0: as fast as it goes), from several
    threads."""

    ask: Callable[[Asked], Answer]
    rate: float
    requests: int = 0
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Answer:
        with self._lock:
            now = time.monotonic()
            moment = max(now, self._next)
            self._next = moment + (1 / self.rate if self.rate else 0.0)
            self.requests += 1
        if moment > now:
            time.sleep(moment - now)
        return self.ask(asked)


@dataclass
class Tally:
    """How many were of which kind, by route."""

    kinds: dict[str, Counter[Kind]] = field(default_factory=dict)

    def note(self, route: str, kind: Kind) -> None:
        self.kinds.setdefault(route, Counter())[kind] += 1

    @property
    def different(self) -> int:
        return sum(counts[Kind.DIFFERENT] for counts in self.kinds.values())


Told = Callable[[int, One, Verdict], None]
"""Is told of each verdict, with the number of its request, by the thread that calls `run`."""


def run(
    order: Order,
    ones: Iterable[tuple[int, One]],
    rules: Mapping[str, Rules],
    again: Mapping[str, bool],
    told: Told,
    *,
    at_once: int,
    stop: threading.Event,
) -> None:
    """Compare these requests.

    ones: with their numbers.
    rules, again: by route; see `Order.compare`.
    told: in the order in which they are through.
    at_once: comparisons at a time.
    stop: nothing new is begun once it is set.
    """

    def one_by_one(number: int, one: One) -> tuple[int, One, Verdict]:
        verdict = order.compare(
            one.asked, rules[one.route], route=one.route, again=again[one.route]
        )
        return number, one, verdict

    line = iter(ones)
    with ThreadPoolExecutor(at_once, "compare") as threads:
        running: set[Future[tuple[int, One, Verdict]]] = set()
        while True:
            if not stop.is_set():
                free = at_once - len(running)
                running |= {threads.submit(one_by_one, *item) for item in islice(line, free)}
            if not running:
                return
            done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                told(*future.result())
