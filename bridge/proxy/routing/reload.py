"""Keeps the routing table in step with routes.yaml: watch, validate, swap or change nothing.

A load that fails leaves the last good table in place, is tried again, and can be seen in `error`. A
worker that starts while the file is broken runs the last good copy, which is
`bridge.proxy.routing.lastgood`'s. A handler that cannot be imported, or an error page that cannot
be read, is an error too, and tried again, but concerns its route or site only; a table never waits
long for handlers, which come in when they are there. Loading itself is
`bridge.proxy.routing.table`'.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog
from watchfiles import watch

from bridge.errors import ConfigError, Problem
from bridge.logs import traceback_text
from bridge.proxy.routing import lastgood
from bridge.proxy.routing.imports import Imports
from bridge.proxy.routing.load import Handlers, Means, load, load_text
from bridge.proxy.routing.table import RouteTable

__all__ = ["Reloader"]

log = structlog.get_logger("bridge.reload")

_LOOK_EVERY = 500  # milliseconds; for file systems that send no events
_RETRY_AFTER = 2.0  # seconds; a handler's module may be mended without a change of routes.yaml
_PATIENCE = 0.3  # seconds that a changed table waits for handlers that are new
_LOOK_AT_START = 0.05  # seconds between two looks while a start waits for handlers
_SETTLED = 0.1  # seconds; a file that changed later may change again and look the same
_SILENT = 30.0  # seconds without a look, after which nobody seems to watch

Signature = tuple[tuple[int, ...] | None, ...]


class Reloader:
    """The current routing table of this process.

    state_dir: has the last good copy; None: there is none.
    on_change: called after every load, good or bad.
    is_told: whether what `on_change` has written is still there.
    import_limit: seconds after which an import is said to hang; by default the environment's.
    start_within: seconds that the start waits for handlers of routes that have a share; by
        default until they hang.

    `table()` is a plain read of one reference: a request that captured a table keeps it.

    Raises ConfigError when neither the file nor a last good copy can be used.
    """

    def __init__(
        self,
        path: Path,
        state_dir: Path | None = None,
        on_change: Callable[[Reloader], None] = lambda reloader: None,
        *,
        is_told: Callable[[], bool] = lambda: True,
        import_limit: float | None = None,
        start_within: float | None = None,
    ) -> None:
        self.path = path
        self.error: ConfigError | None = None
        self.loaded_at = time.time()
        self._state_dir = state_dir
        self._on_change = on_change
        self._imports = Imports(import_limit)
        self._is_told = is_told
        self._untold = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looked_at = self._tried_at = time.monotonic()
        self._seen = self._look()
        self._begin()
        self._wait_for_handlers(self._imports.limit if start_within is None else start_within)
        self._tell()

    def table(self) -> RouteTable:
        return self._table

    @property
    def watches(self) -> bool:
        """Whether changes of the file are still noticed."""
        if self._thread is None or self._stop.is_set():
            return True
        silent = time.monotonic() - self._looked_at
        return self._thread.is_alive() and silent < _SILENT

    def _begin(self) -> None:
        pages = lastgood.pages(self._state_dir) if self._state_dir else {}
        try:
            self._table = load(self.path, self._means(pages=pages), generation=1)
        except ConfigError as error:
            text = lastgood.text(self._state_dir) if self._state_dir else None
            if text is None:
                raise
            self.error = ConfigError(error.problems)
            try:
                self._table = load_text(text, self.path, self._means(pages=pages), generation=1)
            except ConfigError:  # of an older version of the bridge
                raise self.error from None
            log.error("routes.yaml is broken; running the last good one", errors=str(error))
        else:
            self._note(self._table.problems)
            self._keep()

    def _means(
        self,
        before: RouteTable | None = None,
        pages: Mapping[tuple[str, str], str] | None = None,
    ) -> Means:
        return Means(Handlers.WANTED, self._imports, _PATIENCE, before, pages or {})

    def _wait_for_handlers(self, seconds: float) -> None:
        """Visitors who have had Python's pages should not get legacy's only because a worker is
        new. But whoever takes the share back, meanwhile, needs no handler."""
        until = time.monotonic() + seconds
        while self._needs_late_ones() and time.monotonic() < until:
            time.sleep(_LOOK_AT_START)
            if self._imports.has_news() or self._look() != self._seen:
                self._look_and_load()

    def _needs_late_ones(self) -> bool:
        return any(
            route.share and self._imports.is_late((route.handler, route.spec.handler is not None))
            for route in self._table.routes
            if route.handler and route.app is None
        )

    def check(self, *, force: bool = False) -> None:
        """Load the file if it changed, or if the last attempt failed a while ago, or if handlers
        that were late are there."""
        with self._lock:
            news = self._imports.has_news()
            waited = time.monotonic() - self._tried_at > _RETRY_AFTER
            if force or (self.error and waited) or news or self._look() != self._seen:
                self._look_and_load()
            elif waited and self._is_forgotten():
                self._tried_at = time.monotonic()
                self._keep()
            else:
                return
        self._tell()

    def _is_forgotten(self) -> bool:
        """Whether the state directory does not have what it should: it was emptied, or could not
        be written. Workers to come, and operators, rely on it."""
        if self._state_dir is None:
            return False
        kept = lastgood.is_kept(self._state_dir)
        return bool(self._untold) or not kept or not self._is_told()

    def _look_and_load(self) -> None:
        """Never raises: what nobody thought of is an error of the file, too."""
        now = time.time()
        self._seen, self._tried_at = self._look(), time.monotonic()
        try:
            self._load()
        except (Exception, SystemExit) as error:
            text = f"cannot be loaded: {type(error).__name__}: {error}"
            self.error = ConfigError([Problem(str(self.path), 1, 1, text)])
            log.error("routes.yaml cannot be loaded", traceback=traceback_text(error))
        # Times of files are coarse: what is written at once after this look may look the same.
        if any(one and abs(now - one[0] / 1e9) < _SETTLED for one in self._seen):
            self._seen = ()

    def _load(self) -> None:
        running = self._table
        try:
            table = load(self.path, self._means(running), generation=running.generation + 1)
        except ConfigError as error:
            if str(error) != str(self.error):
                log.error("routes.yaml is broken; the old table stays", errors=str(error))
            # A new one: this one holds on to the frames that it came through, and their tables.
            self.error = ConfigError(error.problems)
            self._complete(running)
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

    def _complete(self, running: RouteTable) -> None:
        """The file is broken: let the old table have what it did not have until now."""
        if not running.problems:
            return
        number = running.generation + 1
        table = load_text(running.text, self.path, self._means(running), generation=number)
        if table.problems != running.problems:
            self._table = table

    def _note(self, problems: tuple[Problem, ...]) -> None:
        """Handlers that cannot be imported, error pages that cannot be read."""
        error = ConfigError(problems) if problems else None
        if error and str(error) != str(self.error):
            log.error(
                "a handler or an error page cannot be used; its route keeps the one it had, or is "
                "legacy's, and its site keeps the page it had, or shows a plain one",
                errors=str(error),
            )
        self.error = error

    def _keep(self) -> None:
        """Remember the table as the last good one."""
        if self._state_dir is not None:
            lastgood.keep(self._state_dir, self._table)

    def _tell(self) -> None:
        try:
            self._on_change(self)
            self._untold = ""
        except Exception as error:  # a full disk, for example; the table is live all the same
            if self._untold != str(error):
                log.error("cannot say what is live", traceback=traceback_text(error))
            self._untold = str(error) or type(error).__name__

    def _look(self) -> Signature:
        self._looked_at = time.monotonic()
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
        """Nothing but `stop` ends this."""
        said = ""
        while not self._stop.is_set():
            try:
                self._follow()
                said = ""
            except BaseException as error:  # the folder is gone for a moment, or inotify is full
                if said != str(error):
                    log.warning("cannot watch the folder of routes.yaml", error=str(error))
                said = str(error)
            self._stop.wait(_LOOK_EVERY / 1000)

    def _follow(self) -> None:
        """Look at once, and whenever something happens in the folder, and now and then."""
        self.check()
        for _ in watch(
            self.path.parent,
            watch_filter=None,
            debounce=100,
            step=50,  # it wakes up so often, whether anything happens or not
            stop_event=self._stop,
            rust_timeout=_LOOK_EVERY,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        ):
            self.check()


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    # The time of the change of the inode cannot be set back, as `cp -p` sets that of the content.
    return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino
