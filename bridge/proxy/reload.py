"""Keeps the routing table in step with routes.yaml: watch, validate, swap or change nothing.

A load that fails leaves the last good table in place, is tried again, and can be seen in
`error`. A worker that starts while the file is broken runs the last good copy, which is kept in
the state directory. A handler that cannot be imported is an error too, and tried again, but
concerns its route only. Loading itself is `bridge.proxy.routes`'.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from watchfiles import watch

from bridge.errors import ConfigError, Problem
from bridge.files import write_atomically
from bridge.proxy.routes import Handlers, RouteTable, load, load_text

__all__ = ["LAST_GOOD", "Reloader"]

log = structlog.get_logger("bridge.reload")

LAST_GOOD = "last-good.yaml"
_LOOK_EVERY = 500  # milliseconds; for file systems that send no events
_RETRY_AFTER = 2.0  # seconds; a handler's module may be mended without a change of routes.yaml

Signature = tuple[tuple[int, int, int] | None, ...]


class Reloader:
    """The current routing table of this process.

    `table()` is a plain read of one reference: a request that captured a table keeps it.
    `on_change` is called after every load, good or bad.
    """

    def __init__(
        self,
        path: Path,
        state_dir: Path | None = None,
        on_change: Callable[[Reloader], None] = lambda reloader: None,
    ) -> None:
        """Load the file. Raises ConfigError when neither it nor a last good copy can be used."""
        self.path = path
        self.error: ConfigError | None = None
        self.loaded_at = time.time()
        self._state_dir = state_dir
        self._on_change = on_change
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tried_at = time.monotonic()
        self._seen = self._look()
        try:
            self._table = load(path, generation=1, handlers=Handlers.WANTED)
            self._note(self._table.problems)
            self._keep()
        except ConfigError as error:
            last_good = state_dir / LAST_GOOD if state_dir else None
            if last_good is None or not last_good.exists():
                raise
            self.error = error
            text = last_good.read_text(encoding="utf-8")
            self._table = load_text(text, path, generation=1, handlers=Handlers.WANTED)
            log.error("routes.yaml is broken; running the last good one", errors=str(error))
        on_change(self)

    def table(self) -> RouteTable:
        return self._table

    def check(self, *, force: bool = False) -> None:
        """Load the file if it changed, or if the last attempt failed a while ago."""
        with self._lock:
            seen = self._look()
            retry = self.error and time.monotonic() - self._tried_at > _RETRY_AFTER
            if seen == self._seen and not retry and not force:
                return
            self._seen, self._tried_at = seen, time.monotonic()
            self._load()
        self._on_change(self)

    def _load(self) -> None:
        running = self._table
        try:
            table = load(
                self.path,
                generation=running.generation + 1,
                handlers=Handlers.WANTED,
                before=running,
            )
        except ConfigError as error:
            if str(error) != str(self.error):
                log.error("routes.yaml is broken; the old table stays", errors=str(error))
            self.error = error
            return
        had = self.error
        self._note(table.problems)
        # Same content means same table: touching the file makes no new generation.
        if table.digest != running.digest or table.problems != running.problems:
            self._table, self.loaded_at = table, time.time()
        elif str(had) == str(self.error):
            return
        log.info("routes.yaml is live", generation=self._table.generation, table=table.digest)
        self._keep()

    def _note(self, problems: tuple[Problem, ...]) -> None:
        """Handlers that cannot be imported."""
        error = ConfigError(list(problems)) if problems else None
        if error and str(error) != str(self.error):
            log.error(
                "a handler cannot be imported; its route keeps the one it had, or is legacy's",
                errors=str(error),
            )
        self.error = error

    def _keep(self) -> None:
        """Remember the text as the last good one."""
        if self._state_dir is None:
            return
        try:
            write_atomically(self._state_dir / LAST_GOOD, self._table.text)
        except OSError as error:
            log.warning("cannot keep the last good routes.yaml", error=str(error))

    def _look(self) -> Signature:
        table = getattr(self, "_table", None)
        return tuple(_stat(path) for path in (self.path, *(table.watched if table else ())))

    def start(self) -> None:
        """Watch the file from a daemon thread."""
        self._thread = threading.Thread(target=self._watch, name="bridge-reload", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(5)

    def check_soon(self) -> None:
        """Load at once, from a signal handler: never in the interrupted thread."""
        threading.Thread(target=self.check, kwargs={"force": True}, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                for _ in watch(
                    self.path.parent,
                    watch_filter=None,
                    debounce=50,
                    step=10,
                    stop_event=self._stop,
                    rust_timeout=_LOOK_EVERY,
                    yield_on_timeout=True,
                    raise_interrupt=False,
                    recursive=False,
                ):
                    self.check()
            except Exception as error:  # the folder is gone for a moment, or inotify is full
                log.warning("cannot watch the folder of routes.yaml", error=str(error))
                self._stop.wait(_LOOK_EVERY / 1000)
                self.check()


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
