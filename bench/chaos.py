"""A chaos run of the proxy alone: while twelve visitors ask and check every answer, workers are
killed; legacy is stopped, killed, hangs and writes garbage; handlers raise, hang and cannot be
imported; routes.yaml, the error page and the state directory are broken, cut and gone; and nobody
reads the access log. All at random, and at the same time.

No answer may be wrong, and none missing but those that a killed worker had in its hands. After each
round, when all is mended, every worker must be well again within a bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from bench.chaos_harms import (
    GOOD_CODE,
    LogReader,
    Step,
    harm_code,
    harm_page,
    harm_routes,
    harm_state,
    mend_page,
    mend_state,
    plan,
    save,
)
from bench.chaos_pages import OWN_PAGE
from bench.chaos_site import HARMLESS, MODE_FILE, ROUTES
from bench.chaos_visitors import Found, Troubles, Visitor
from bench.report import BenchmarkFailed, Report
from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe, PythonServer
from stack.errors import TimedOut
from stack.waiting import wait_for

__all__ = ["Chaos", "run"]

VISITORS = 12
WORKERS = 2
ROUND = 20.0  # seconds
WELL_WITHIN = 40.0  # seconds; a worker that could not start is tried again after up to 30
QUICK = 15.0  # seconds in all
CODE = "chaos_code"


class Legacy(PythonServer):
    """`bench.chaos_site`."""

    name: ClassVar[str] = "chaos-legacy"

    @property
    def mode(self) -> Path:
        """The file with its mode."""
        return self.directory / "mode"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "bench.chaos_site", str(self.port), str(self.mode)]


@dataclass
class Chaos:
    """folder: for all files. seconds: for how long. serve: the class of the proxy, which a test may
    damage. steps: what is broken, in place of a plan for each round."""

    folder: Path
    seconds: float
    seed: int
    serve: type[BridgeServe] = BridgeServe
    steps: Sequence[Step] | None = None
    say: Callable[[str], None] = lambda text: None
    found: Found = field(default_factory=Found)
    harms: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.troubles = Troubles()
        self.site, self.state = self.folder / "site", self.folder / "state"
        self.routes, self.page = self.site / "routes.yaml", self.site / "sorry.html"
        self.code = self.folder / "code" / f"{CODE}.py"
        self.fifo, self.handlers = self.folder / "log", self.folder / "handlers"
        for folder in (self.site, self.state, self.code.parent):
            folder.mkdir(parents=True)
        os.mkfifo(self.fifo)
        self.legacy = Legacy(self.folder / "legacy")
        self.proxy = self.serve(
            self.folder / "serve",
            env={
                "BRIDGE_ROUTES": str(self.routes),
                "BRIDGE_STATE_DIR": str(self.state),
                "BRIDGE_IMPORT_LIMIT": "1s",
                MODE_FILE: str(self.handlers),
                "PYTHONPATH": str(self.code.parent),
                # A file that is mended within a second, at the same size, is another one.
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            workers=WORKERS,
            options=["--access-log", str(self.fifo)],
        )
        self.number = 0
        self.good = ""
        self._swap()
        mend_page(self.page)
        save(self.code, GOOD_CODE.encode())

    def run(self) -> Found:
        """Raises BenchmarkFailed when the proxy is not well some time after a round, StackError
        when a server does not start."""
        stop = threading.Event()
        reader = self.reader = LogReader(self.fifo)
        with self.legacy, self.proxy:
            reader.start()
            self._wait_until_well()
            address = (self.proxy.host, self.proxy.port)
            visitors = [
                Visitor(number, address, self.seed, self.troubles, self.found, stop)
                for number in range(VISITORS)
            ]
            for visitor in visitors:
                visitor.start()
            until = time.monotonic() + self.seconds
            try:
                while (left := until - time.monotonic()) > 1:
                    self._round(min(left, ROUND))
                    self.say(
                        f"{until - time.monotonic():.0f} s left: {self.found.checked} checked, "
                        f"{self.found.wrong} wrong, {self.found.missing} missing"
                    )
            finally:
                stop.set()
                for visitor in visitors:
                    visitor.join(30)
                reader.end()
        return self.found

    def _round(self, seconds: float) -> None:
        """Break what the plan says, mend it when its time has come, and wait until all is well."""
        began = time.monotonic()
        due: list[tuple[float, Callable[[], None]]] = []
        steps = plan(self.chance, seconds) if self.steps is None else list(self.steps)
        try:
            while steps or due:
                now = time.monotonic() - began
                for one in [one for one in due if one[0] <= now]:
                    due.remove(one)
                    one[1]()
                while steps and steps[0].at <= now:
                    step = steps.pop(0)
                    self.harms[f"{step.part}: {step.way}"] += 1
                    due.append((now + step.lasts, self._break(step)))
                time.sleep(0.01)
        finally:
            for _, mend in due:
                mend()
        self._wait_until_well()

    def _break(self, step: Step) -> Callable[[], None]:
        """Do it; what mends it."""
        trouble = None
        if step.part in ("workers", "legacy", "handlers", "routes") and step.way not in HARMLESS:
            trouble = self.troubles.begin(step.part)
        mend = getattr(self, f"_break_{step.part}")(step)
        if step.part == "workers" and trouble is not None:
            self.troubles.end(trouble)
            return lambda: None

        def mended() -> None:
            mend()
            if trouble is not None:
                self.troubles.end(trouble)

        return mended

    def _break_workers(self, step: Step) -> None:
        pids = [pid for pid in children(self.proxy.pid) if pid != self.proxy.pid]
        random.Random(step.seed).shuffle(pids)
        for pid in pids if step.way == "all" else pids[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _break_legacy(self, step: Step) -> Callable[[], object]:
        if step.way == "kill":
            self.legacy.kill()
            return self.legacy.start
        if step.way == "stop":
            os.kill(self.legacy.pid, signal.SIGSTOP)
            return lambda: os.kill(self.legacy.pid, signal.SIGCONT)
        save(self.legacy.mode, step.way.encode(), 1)
        return lambda: save(self.legacy.mode, b"fine", 1)

    def _break_handlers(self, step: Step) -> Callable[[], object]:
        save(self.handlers, step.way.encode(), 1)
        return lambda: save(self.handlers, b"fine", 1)

    def _break_code(self, step: Step) -> Callable[[], object]:
        harm_code(self.code, step)
        return lambda: save(self.code, GOOD_CODE.encode(), 1)

    def _break_routes(self, step: Step) -> Callable[[], object]:
        if step.way == "swap":
            self._swap(step.seed)
            return lambda: None
        harm_routes(self.routes, self.good, step)
        return lambda: self._swap(step.seed)

    def _break_page(self, step: Step) -> Callable[[], object]:
        harm_page(self.page, step)
        return lambda: mend_page(self.page)

    def _break_state(self, step: Step) -> Callable[[], object]:
        harm_state(self.state, step)
        return lambda: mend_state(self.state)

    def _break_log(self, step: Step) -> Callable[[], object]:
        self.reader.turn(step.way)
        return lambda: self.reader.turn("")

    def _swap(self, seed: int = 0) -> None:
        """The next good table."""
        self.number += 1
        places = {
            "HOST": self.proxy.address,
            "SITE": self.legacy.url,
            "CODE": CODE,
            "NUMBER": str(self.number),
            "SHARE": str((0, 30, 50, 100)[self.number % 4]),
        }
        text = ROUTES
        for place, value in places.items():
            text = text.replace(f"@{place}@", value)
        self.good = text
        save(self.routes, text.encode(), seed)

    def _wait_until_well(self) -> None:
        """Every worker has the last good table, and nothing to complain of."""

        def well() -> bool:
            workers = read_all(self.state)
            return len(workers) == WORKERS and all(
                not one.error and one.digest == table for one in workers
            )

        named = "\0".join([self.good, OWN_PAGE])
        table = hashlib.sha256(named.encode()).hexdigest()[:12]
        try:
            wait_for(well, WELL_WITHIN, "all workers to be well", interval=0.05)
        except TimedOut as late:
            workers = [(one.pid, one.digest, one.error) for one in read_all(self.state)]
            raise BenchmarkFailed(
                f"{late}; seed {self.seed}, table {table}, workers {workers}; the log is "
                f"{self.proxy.log} and ends: {self.proxy.log_text()[-3000:]}\n"
                f"{self.found.wrong} wrong, {self.found.missing} missing: {self.found.examples}"
            ) from None


def children(pid: int) -> list[int]:
    """Process ids of those that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(one) for one in text.split()]


def run(
    folder: Path, rounds: int, seconds: int, progress: Console, *, seed: int | None = None
) -> Report:
    """For so many seconds; with --quick, for 15. Raises BenchmarkFailed when the proxy is not well
    again after a round, and StackError when a server does not start."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    progress.print(f"seed {seed}", style="dim")
    chaos = Chaos(
        folder,
        QUICK if rounds == 1 else seconds,
        seed,
        say=lambda text: progress.print(text, style="dim"),
    )
    found = chaos.run()
    report = Report("chaos", ("", "count"))
    report.figures = {
        "checked": found.checked,
        "wrong": found.wrong,
        "missing": found.missing,
        "in_flight": found.in_flight,
        "harms": chaos.harms.total(),
        "killed": sum(n for name, n in chaos.harms.items() if name.startswith("workers")),
        "slowest_s": round(found.slowest, 2),
        "seed": seed,
    }
    counts = {**report.figures, **dict(sorted(found.kinds.items())), **chaos.harms}
    report.rows = [(name, f"{value:,g}") for name, value in counts.items()]
    if found.wrong or found.missing:
        report.failure = "\n".join(["answers are wrong or missing:", *found.examples])
    return report
