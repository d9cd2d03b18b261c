"""What `bridge compare` finds on the forge: seeded defects, and nothing else.

Twenty kinds of innocent noise are in the pages of both sides. Each defect is switched on by itself
and must be found under its place. Then, without any, thousands of requests are compared while
projects are edited and the worker that mirrors them stands still for half of the time; whatever
is called different there is a false alarm.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from bench.evidence_noise import ROUTER
from bench.report import BenchmarkFailed
from bridge.evidence.answers import Asked, Kind
from bridge.evidence.order import Verdict
from stack.site import LOGIN, DemoSite
from stack.visitor import Visitor

__all__ = ["Found", "found"]

_PAGES = 60  # addresses of each kind
_TRIES = 4  # addresses on which a defect is looked for
_STANDS = 0.5  # seconds for which the worker stands still, and then works
_AT_ONCE = 4


@dataclass
class Found:
    """found: the defects that were found under their place. missed: the others, with what was
    found instead. false: differences where there are none, with their places. kinds: how many of
    the comparisons without a defect were of which kind. requests: to legacy for these."""

    found: list[str] = field(default_factory=list)
    missed: dict[str, str] = field(default_factory=dict)
    false: list[str] = field(default_factory=list)
    kinds: Counter[Kind] = field(default_factory=Counter)
    requests: int = 0
    edits: int = 0

    @property
    def defects(self) -> int:
        return len(self.found) + len(self.missed)


def found(folder: Path, comparisons: int, console: Console) -> Found:
    """comparisons: how many without a defect. Raises BenchmarkFailed and StackError."""
    site = DemoSite(folder / "site")
    site.php.env["EVIDENCE_ROUTER"] = str(site.php.router)
    site.php.router = ROUTER
    with site:
        text = site.routes.read_text(encoding="utf-8")
        views = "examples.forge.consumer.views:old_address"
        text = re.sub(r"examples\.forge\.consumer\.views:(?!old)", "bench.evidence_defects:", text)
        assert views in text
        site.routes.write_text(text, encoding="utf-8")
        os.environ.update(site.env)
        return _Run(site, console).run(comparisons)


class _Run:
    """One run on one site."""

    def __init__(self, site: DemoSite, console: Console) -> None:
        from bridge.evidence.asking import Both
        from bridge.evidence.comparers.ignoring import Rules
        from bridge.evidence.judge import Judge
        from bridge.evidence.order import Order
        from bridge.proxy.routing.load import load

        self.site, self.console = site, console
        self.table = load(site.routes)
        self.both = Both(self.table, handlers=_AT_ONCE)
        self.judge = Judge(children=os.cpu_count() or 1)
        # Nothing is edited while defects are looked for, so nothing needs to be waited for.
        self.order = Order(self._legacy, self.both.python, self.judge, patience=0.0)
        self.rules = Rules.of(self.table.file.compare, "")
        self.result = Found()
        self.pages = self._pages()

    def _legacy(self, asked: Asked) -> Any:
        self.result.requests += 1
        return self.both.legacy(asked)

    def _pages(self) -> dict[str, list[str]]:
        """Addresses by the view that answers them."""
        path = self.site.directory / "forge" / "forge.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as database:
            names = [row[0] for row in database.execute("SELECT name FROM projects ORDER BY name")]
            files = database.execute("SELECT project, filename FROM releases ORDER BY project")
            downloads = [f"/download/{quote(name)}/{quote(file)}" for name, file in files]
        step = max(1, len(names) // _PAGES)
        some = names[::step][:_PAGES]
        return {
            "project": [f"/project/{quote(name)}" for name in some],
            "releases": [f"/project/{quote(name)}/releases" for name in some],
            "projects": ["/projects", "/", *(f"/projects?p={page}" for page in range(2, 5))],
            "download": downloads[:_PAGES],
        }

    def run(self, comparisons: int) -> Found:
        try:
            with self.judge:
                self._look_for_defects()
                self._look_for_none(comparisons)
        finally:
            self.both.close()
        return self.result

    def _compare(self, path: str) -> Verdict:
        asked = Asked("GET", path, f"127.0.0.1:{self.site.port}")
        return self.order.compare(asked, self.rules)

    def _look_for_defects(self) -> None:
        from bench.evidence_defects import DEFECTS, switch

        for defect in DEFECTS.values():
            switch.active = defect.name
            said: list[str] = []
            for path in self.pages[defect.page][:_TRIES]:
                verdict = self._compare(path)
                if verdict.kind is Kind.DIFFERENT:
                    said += [f"{one.what} {one.group}" for one in verdict.differences]
            if any(re.search(defect.place, group) for group in said):
                self.result.found.append(defect.name)
            else:
                self.result.missed[defect.name] = "; ".join(dict.fromkeys(said)) or "nothing"
            self.console.print(f"{defect.name}: {Counter(said).most_common(3) or 'not found'}")
        switch.active = ""

    def _look_for_none(self, comparisons: int) -> None:
        from bridge.evidence.order import Order

        self.order = Order(self._legacy, self.both.python, self.judge)
        self.result.requests = 0
        paths = itertools.cycle([path for pages in self.pages.values() for path in pages])
        first = self._compare(self.pages["project"][0])
        if first.kind is not Kind.NOISE:
            raise BenchmarkFailed(f"with noise on both sides a page is {first.kind}: {first}")
        with self._edits(), self._slow_worker(), ThreadPoolExecutor(_AT_ONCE) as threads:
            chosen = itertools.islice(paths, comparisons)
            for path, verdict in threads.map(lambda path: (path, self._compare(path)), chosen):
                self.result.kinds[verdict.kind] += 1
                if verdict.kind is Kind.DIFFERENT:
                    places = ", ".join(f"{one.what} {one.place}" for one in verdict.differences)
                    self.result.false.append(f"{path}: {places} {verdict.why}")
                done = self.result.kinds.total()
                if done % 500 == 0:
                    self.console.print(f"{done:,} compared: {dict(self.result.kinds)}")

    @contextlib.contextmanager
    def _edits(self) -> Iterator[None]:
        """Projects are edited all the time."""
        with self._again_and_again(self._edit):
            yield

    def _edit(self, stop: threading.Event) -> None:
        pages = itertools.cycle(self.pages["project"])
        with Visitor(self.site.url) as maintainer:
            maintainer.log_in(*LOGIN)
            while not stop.wait(0.1):
                self.result.edits += 1
                maintainer.edit(f"{next(pages)}/edit", summary=f"Edit {self.result.edits}")

    @contextlib.contextmanager
    def _slow_worker(self) -> Iterator[None]:
        """The worker stands still for half of the time."""
        pid = self.site.worker.pid

        def stand(stop: threading.Event) -> None:
            for number in itertools.cycle((signal.SIGSTOP, signal.SIGCONT)):
                os.kill(pid, number)
                if stop.wait(_STANDS):
                    break
            os.kill(pid, signal.SIGCONT)

        with self._again_and_again(stand):
            yield

    @contextlib.contextmanager
    def _again_and_again(self, what: Any) -> Iterator[None]:
        stop, wrong = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                what(stop)
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
        if wrong:
            raise BenchmarkFailed(f"{what.__name__} failed: {wrong[0]!r}")
