"""Handlers imported aside, so that no table waits for a module that hangs.

One thread imports one handler after the other, since modules that import each other must not be
imported at the same time. When it is stuck in one, another thread goes on with the rest. What a
table gets is what was imported until then; `news` says that there is more. Importing itself is
`bridge.proxy.routing.handlers`'.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from wsgiref.types import WSGIApplication

from bridge.importing import ImportFailed
from bridge.proxy.routing.handlers import import_handler
from bridge.settings import import_limit

__all__ = ["Handler", "Imports"]

_STUCK = 1.0  # seconds in one import, until another thread goes on with the rest
_LOOK_EVERY = 0.05  # seconds between two looks whether a thread is stuck

Handler = tuple[str, bool]
"""`module:attribute` as the file names it, and whether that is a view."""

Found = WSGIApplication | ImportFailed


@dataclass(frozen=True, slots=True)
class _Import:
    """One that runs: of what, in which thread, and since when."""

    handler: Handler
    thread: int
    since: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


class Imports:
    """The handlers that this process has imported, and imports. Thread-safe.

    limit: seconds after which an import is said to hang; BRIDGE_IMPORT_LIMIT when it is not given.
    It goes on all the same, and counts when it ends: a thread cannot be stopped.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = import_limit() if limit is None else limit
        self._changed = threading.Condition()
        self._queue: deque[Handler] = deque()
        self._running: dict[str, _Import] = {}  # by module
        self._found: dict[Handler, Found] = {}
        self._hung: dict[str, str] = {}  # by module: where it is
        self._worker: threading.Thread | None = None
        self._late: set[Handler] = set()
        self._news = False

    def __repr__(self) -> str:
        waiting = len(self._queue)
        return f"<Imports: {len(self._found)} done, {len(self._running)} run, {waiting} wait>"

    def ask(
        self, wanted: Sequence[Handler], patience: float | None = None
    ) -> Mapping[Handler, Found]:
        """Import `wanted`, in this order, and wait at most `patience` seconds for it; None: until
        no other is left than those that hang.

        What is not there by then is what was imported earlier, or else an ImportFailed that says
        so. What runs already from an earlier call is not waited for.
        """
        with self._changed:
            new = [one for one in dict.fromkeys(wanted) if not self._is_open(one)]
            self._queue.extend(new)
            self._news = False
            until = time.monotonic() + (threading.TIMEOUT_MAX if patience is None else patience)
            self._go_on()
            while any(map(self._is_awaited, new)) and (left := until - time.monotonic()) > 0:
                self._changed.wait(min(left, _LOOK_EVERY))
                self._go_on()
                self._notice_hung()
            self._late = {one for one in wanted if self._is_open(one)}
            return {one: self._state_of(one) for one in wanted}

    def is_late(self, handler: Handler) -> bool:
        """Whether it was asked for, and never was there yet."""
        with self._changed:
            return handler in self._late and handler not in self._found

    def has_news(self) -> bool:
        """Whether what was late at the last `ask` has come, or is said to hang. To be called again
        and again: it also sees to it that one that is stuck holds up no other."""
        with self._changed:
            self._go_on()
            if self._notice_hung():
                self._news = True
            return self._news

    def _is_open(self, handler: Handler) -> bool:
        running = self._running.get(_module(handler))
        return handler in self._queue or (running is not None and running.handler == handler)

    def _is_awaited(self, handler: Handler) -> bool:
        return self._is_open(handler) and _module(handler) not in self._hung

    def _state_of(self, handler: Handler) -> Found:
        found, name, hung = self._found.get(handler), handler[0], self._hung.get(_module(handler))
        if found is not None:
            return found
        if hung is not None:
            return ImportFailed(
                f"handler `{name}` is not imported after {self.limit:g} s{hung}",
                "mend what its module waits for; if it waits for good, mend the module and restart",
            )
        text = f"handler `{name}` is still being imported"
        return ImportFailed(text, "legacy answers its route until it is there")

    def _notice_hung(self) -> bool:
        """Whether one more has taken longer than it may."""
        new = {
            module: _place(module, one.thread)
            for module, one in self._running.items()
            if module not in self._hung and one.seconds >= self.limit
        }
        self._hung.update(new)
        return bool(new)

    def _next(self) -> Handler | None:
        """The first that waits, and not for the module of one that runs."""
        return next((one for one in self._queue if _module(one) not in self._running), None)

    def _go_on(self) -> None:
        """See to it that somebody works on the queue."""
        worker = self._worker
        if worker is not None:
            of_it = [one for one in self._running.values() if one.thread == worker.ident]
            if not any(one.seconds > _STUCK for one in of_it):
                return
        if self._next() is not None:
            self._worker = threading.Thread(target=self._work, name="bridge-import", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                if self._worker is not me:
                    return  # another one has taken over while this one was stuck
                handler = self._next()
                if handler is None:
                    self._worker = None
                    return
                self._queue.remove(handler)
                since = time.monotonic()
                self._running[_module(handler)] = _Import(handler, threading.get_ident(), since)
            found = _import(handler)
            with self._changed:
                del self._running[_module(handler)]
                self._hung.pop(_module(handler), None)
                self._found[handler] = found
                if handler in self._late:
                    self._late.discard(handler)
                    self._news = True
                self._changed.notify_all()


def _module(handler: Handler) -> str:
    return handler[0].partition(":")[0]


def _import(handler: Handler) -> Found:
    name, view = handler
    try:
        return import_handler(name, view=view)
    except ImportFailed as error:
        return ImportFailed(str(error), error.hint)  # without the frames of the module
    except BaseException as error:  # no thread may end while somebody waits for it
        return ImportFailed(
            f"handler `{name}` fails to import: {type(error).__name__}: {error}", "mend the module"
        )


def _place(module: str, thread: int) -> str:
    """Where the import of this module is now, as words that end a sentence."""
    frame: Any = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_globals.get("__name__") == module:
            return f": it is in {frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
