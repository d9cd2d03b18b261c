"""The process: takes copies, lets a few threads compare them, and ends rather than do harm.

Whoever started it starts it again, so every bound has the same answer: say why, and end. It ends
when it has too much memory, when handlers keep all threads, and when nobody is its parent any
more. It follows routes.yaml as the workers do.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import structlog

from bridge.errors import BridgeError
from bridge.evidence.answers import Kind
from bridge.evidence.asking import Both
from bridge.evidence.judge import Judge
from bridge.evidence.shadow.backlog import Backlog
from bridge.evidence.shadow.bounds import memory_used
from bridge.evidence.shadow.intake import Intake
from bridge.evidence.shadow.keeping import Keeping
from bridge.evidence.shadow.looking import Looking
from bridge.evidence.shadow.unfinished import Unfinished
from bridge.logs import traceback_text
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.shadow.copies import Copied
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.shadowing import Alive, Tallies
from bridge.settings import Settings

__all__ = ["Limits", "Process"]

log = structlog.get_logger("bridge.shadow")

_BEAT = 0.5  # seconds
_ALONE = -1  # in place of a thread's number
_HANG = 10.0  # seconds beyond a handler's own time


@dataclass(frozen=True, slots=True)
class Limits:
    """What the shadow may have.

    memory: bytes. threads: copies that are compared at a time.
    waiting, bytes: of the copies that wait.
    asking: seconds that the comparison of one may take beyond its handler's time.
    tables: how often routes.yaml may change until it begins anew: threads of the handlers of old
        tables stay.
    """

    memory: int = 512 * 2**20
    threads: int = 4
    waiting: int = 1000
    bytes: int = 64 * 2**20
    asking: float = 300.0
    tables: int = 200


class Process:
    """The shadow of one state directory.

    parent: id of the process that starts it again; 0: there is none.
    """

    def __init__(self, settings: Settings, parent: int, limits: Limits) -> None:
        state_dir = settings.state_dir
        self._parent, self._limits = parent, limits
        self._alive = Alive(state_dir)
        # Handlers may take long to import; that is looked after by whoever started us.
        self._tallies = Tallies(state_dir)
        self._tallies.add(scrape.SHADOW_STARTS)
        self._backlog = Backlog(limits.waiting, limits.bytes)
        self._lock = threading.Lock()
        self._both: Both | None = None
        self._tables = 0
        self._reloader = Reloader(settings.routes, state_dir)
        self._keeping = Keeping(settings, self._reloader.table())
        self._judge = Judge(children=min(limits.threads, os.cpu_count() or 1))
        self._looking = Looking(self._sides, self._judge, self._keeping.keep)
        self._outdated = ""
        self._since: dict[int, float] = {}  # by thread, since when it is at work on one copy
        self._unfinished = Unfinished(state_dir)
        self._ready = threading.Event()
        self._intake = Intake(
            state_dir, self._take, lambda: self._tallies.add(scrape.SHADOW_DROPPED, "broken")
        )

    def run(self) -> str:
        """Serve; returns why it has to end."""
        try:
            return self._run()
        finally:
            self._keeping.close()
            self._judge.close()

    def _run(self) -> str:
        self._reloader.start()
        threading.Thread(target=self._intake.run, name="shadow-intake", daemon=True).start()
        threading.Thread(target=self._again, name="shadow-again", daemon=True).start()
        for number in range(self._limits.threads):
            name = f"shadow-{number}"
            threading.Thread(target=self._work, args=(number,), name=name, daemon=True).start()
        while not (why := self._why_not_go_on()):
            try:
                self._alive.beat(_HANG + self._patience)
            except OSError as error:
                return f"it cannot say that it lives: {error}"
            self._tallies.set(scrape.SHADOW_WAITING, len(self._backlog))
            self._tallies.set(scrape.SHADOW_BYTES, memory_used())
            time.sleep(_BEAT)
        return why

    def _take(self, copied: Copied) -> None:
        if not self._backlog.put(copied):
            self._tallies.add(scrape.SHADOW_DROPPED, "full")

    def _work(self, number: int) -> None:
        self._ready.wait()
        while True:
            copied = self._backlog.get()
            self._since[number] = time.monotonic()
            self._unfinished.begin(str(number), copied)
            kind = self._looking.look(copied)
            self._unfinished.end(str(number))
            self._tallies.add(scrape.SHADOW, copied.route, kind)
            self._since.pop(number, None)

    def _again(self) -> None:
        """What the last process did not finish, one after the other: it may have died of it."""
        try:
            for left in self._unfinished.left():
                self._since[_ALONE] = time.monotonic()
                if left.kills:
                    self._looking.died(left.copied)
                    self._tallies.add(scrape.SHADOW, left.copied.route, Kind.DIFFERENT)
                    continue
                self._unfinished.begin_again(left)
                kind = self._looking.look(left.copied)
                self._unfinished.end()
                self._tallies.add(scrape.SHADOW, left.copied.route, kind)
        except Exception as error:
            log.error("bug in the shadow", traceback=traceback_text(error))
        finally:
            self._since.pop(_ALONE, None)
            self._ready.set()

    def _sides(self) -> Both:
        """Both sides of the table of the moment."""
        table = self._reloader.table()
        with self._lock:
            both = self._both
            if both is None or both.table is not table:
                if both is not None:
                    both.close()
                    self._look_at_release(table)
                largest = max(
                    (r.spec.shadow.body for r in table.routes if r.spec.shadow), default=0
                )
                both = Both(table, body=largest, handlers=self._limits.threads)
                self._both = both
                self._tables += 1
            return both

    def _look_at_release(self, table: RouteTable) -> None:
        """Modules that are imported stay as they are, whatever their files say by now."""
        try:
            if not self._keeping.is_of(table):
                self._outdated = "the handlers are of another release by now"
        except BridgeError as error:
            self._outdated = str(error)

    @property
    def _patience(self) -> float:
        """Seconds that a handler may take."""
        return _slowest(self._reloader.table())

    def _why_not_go_on(self) -> str:
        limits = self._limits
        if self._outdated:
            return self._outdated
        if self._parent and os.getppid() != self._parent:
            return "its parent is gone"
        if (used := memory_used()) > limits.memory:
            return f"it has {used / 2**20:,.0f} MiB of memory"
        if self._looking.stuck:
            return "handlers do not end, and keep all threads"
        longest = limits.asking + self._patience
        if any(time.monotonic() - since > longest for since in list(self._since.values())):
            return f"a comparison took longer than {longest:,.0f} s"
        if self._tables > limits.tables:
            return "routes.yaml has changed very often"
        return ""


def _slowest(table: RouteTable) -> float:
    return max((route.spec.timeout for route in table.routes if route.spec.shadow), default=0.0)
