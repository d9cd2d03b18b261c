"""Who is asked again when two answers differ, and what becomes of it.

(1) Legacy has answered. (2) Python is asked for the same. (3) Equal: done, and legacy has had no
request more. (4) Else legacy is asked again, then Python again: what legacy does not answer twice
alike is noise; what is gone when the documents of a side have moved on is lag; what stays is
different. (5) Before that is said, Python alone is asked for a moment more, for a mirror that is
still behind, and legacy a last time: dice may fall alike twice. Neither is done for what has stayed
before.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.asking import NoAnswer
from bridge.evidence.comparers.difference import Difference, Differences, NotComparable
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.comparers.noise import Settled, Way

__all__ = ["Comparing", "Order", "Verdict"]

_PATIENCE = 2.0  # seconds that a mirror may be behind, before a difference is one
_PAUSE = 0.1  # seconds
_SURE = 20  # times in a row that waiting was in vain, until a difference of the kind is certain
_OFTEN = 3  # requests in which legacy differs from itself at a place, until that is the route's way
_MOST_PLACES, _MOST_WAYS = 100, 20  # of a route, and of a place, that are remembered


class Comparing(Protocol):
    """What compares, such as `bridge.evidence.judge`."""

    def find(self, legacy: Answer, python: Answer, rules: Rules) -> Differences:
        """Where two answers differ. Raises NotComparable."""

    def settle(
        self,
        legacy: Answer,
        python: Answer,
        legacy_again: Answer,
        python_again: Answer,
        rules: Rules,
        *,
        known: Collection[Way] = (),
        more: Sequence[Answer] = (),
    ) -> Settled:
        """What of the differences is noise, and what is gone.

        legacy, python, legacy_again, python_again: the first and the second answers.
        rules: what is not compared.
        known: how pages of the route differ from themselves.
        more: further answers of legacy to the same request.

        Raises NotComparable.
        """


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one comparison. `differences` are those that count for its kind; `why` says
    in words what is no difference; the answers are the last ones, None where a side gave none;
    `used` are the rules that hid something, as `Rule.text`."""

    kind: Kind
    why: str = ""
    differences: tuple[Difference, ...] = ()
    legacy: Answer | None = None
    python: Answer | None = None
    used: frozenset[str] = frozenset()


class _Ways:
    """How the pages of one route differ from themselves, learned from request to request: dice may
    fall alike twice. What was seen once may have been an edit, and is no way of the page's."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self._ways: dict[tuple[str, str, str], dict[Way, None]] = {}

    def learn(self, ways: Collection[Way]) -> None:
        """Those of one request."""
        for way in ways:
            key = way.group, way.kind, way.label
            if key not in self._ways and len(self._ways) >= _MOST_PLACES:
                continue
            here = self._ways.setdefault(key, {})
            here[way] = None
            if len(here) > _MOST_WAYS:
                del here[next(iter(here))]
        self._seen.update({(way.group, way.kind, way.label) for way in ways} & self._ways.keys())

    def known(self) -> tuple[Way, ...]:
        """Those that were seen often."""
        often = [ways for key, ways in self._ways.items() if self._seen[key] >= _OFTEN]
        return tuple(way for ways in often for way in ways)


@dataclass
class Order:
    """Compares one request after another; for several threads.

    legacy, python: ask a side. They raise NoAnswer.
    patience: seconds that a mirror may be behind.
    """

    legacy: Callable[[Asked], Answer]
    python: Callable[[Asked], Answer]
    judge: Comparing
    patience: float = _PATIENCE
    _in_vain: Counter[tuple[str, str]] = field(default_factory=Counter)
    _ways: dict[str, _Ways] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def compare(
        self,
        asked: Asked,
        rules: Rules,
        *,
        route: str = "",
        legacy: Answer | None = None,
        again: bool = True,
    ) -> Verdict:
        """Ask, and compare.

        rules: what is not compared.
        route: its name: what is learned of one is no good for another.
        legacy: its answer, where it has given one already.
        again: whether legacy may be asked a second time.
        """
        try:
            if legacy is None:
                legacy = self.legacy(asked)
            return self._compare(asked, rules, route, legacy, again)
        except NoAnswer as error:
            differences = (_failed(error, legacy),) if error.kind is Kind.DIFFERENT else ()
            return Verdict(error.kind, error.why, differences, legacy)
        except NotComparable as error:
            return Verdict(Kind.NOT_COMPARED, str(error), (), legacy)

    def _compare(
        self, asked: Asked, rules: Rules, route: str, legacy: Answer, again: bool
    ) -> Verdict:
        python = self.python(asked)
        found = self.judge.find(legacy, python, rules)
        if not found:
            return Verdict(Kind.SAME, "", (), legacy, python, found.used)
        if not again:
            why = "legacy may not be asked again, so noise cannot be told"
            return Verdict(Kind.DIFFERENT, why, tuple(found), legacy, python, found.used)
        legacy_again, python_again = self.legacy(asked), self.python(asked)
        settled = self._settle(route, legacy, python, legacy_again, python_again, rules)
        if settled.different and not self._stayed(route, settled):
            newer = self._wait(asked, python_again)
            if newer is not None:
                # The mirror was behind: now both sides once more.
                legacy, python = legacy_again, python_again
                legacy_again, python_again = self.legacy(asked), newer
                settled = self._settle(route, legacy, python, legacy_again, python_again, rules)
            if settled.different:
                more = (self.legacy(asked),)
                pairs = legacy, python, legacy_again, python_again
                settled = self._settle(route, *pairs, rules, more=more)
            if newer is None:
                self._stays(route, settled)
            else:
                self._moved(route)
        return _verdict(settled, (legacy, python), (legacy_again, python_again))

    def _settle(self, route: str, *given: Any, more: Sequence[Answer] = ()) -> Settled:
        with self._lock:
            known = self._ways.setdefault(route, _Ways()).known()
        settled = self.judge.settle(*given, known=known, more=more)
        # Where both sides are alike a moment later the page has been edited, and was no dice.
        if settled.learned and self.judge.find(*given[2:5]):
            with self._lock:
                self._ways[route].learn(settled.learned)
        return settled

    def _stayed(self, route: str, settled: Settled) -> bool:
        """Whether all of the differences are of a kind that has stayed before."""
        with self._lock:
            return all(self._in_vain[route, one.group] >= _SURE for one in settled.different)

    def _stays(self, route: str, settled: Settled) -> None:
        with self._lock:
            self._in_vain.update({(route, one.group) for one in settled.different})

    def _moved(self, route: str) -> None:
        """The mirror is behind now and then: nothing is certain."""
        with self._lock:
            for place in [place for place in self._in_vain if place[0] == route]:
                del self._in_vain[place]

    def _wait(self, asked: Asked, last: Answer) -> Answer | None:
        """Python's answer as soon as it is made of other documents; None when that does not
        happen, or nobody could tell."""
        if not last.reads:
            return None
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            time.sleep(_PAUSE)
            newer = self.python(asked)
            if newer.reads != last.reads:
                return newer
        return None


def _verdict(
    settled: Settled, first: tuple[Answer, Answer], last: tuple[Answer, Answer]
) -> Verdict:
    (legacy, python), (legacy_again, python_again) = first, last
    used = settled.used
    if settled.different:
        different = tuple(settled.different)
        return Verdict(Kind.DIFFERENT, "", different, legacy_again, python_again, used)
    if settled.gone:
        moved = python.reads != python_again.reads
        if moved:
            why = "the documents were older; asked again it is the same"
            return Verdict(Kind.LAG, why, tuple(settled.gone), legacy, python, used)
        why = "Python's answer was another one a moment later, of the same documents"
        return Verdict(Kind.DIFFERENT, why, tuple(settled.gone), legacy, python, used)
    noise = tuple(settled.noise)
    return Verdict(Kind.NOISE, "", noise, legacy_again, python_again, used)


def _failed(error: NoAnswer, legacy: Answer | None) -> Difference:
    """What to say of a Python side that gave no answer where legacy gave one."""
    status = str(legacy.status) if legacy is not None else ""
    return Difference("answer", "answer", str(error.reason) or "failed", status, error.why[:200])
