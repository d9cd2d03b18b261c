"""What surrounds `bridgectl worker` and `bridgectl relay`: signals, the log, their vitals, and the
operator's listener."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from bridge import logs
from bridge.operator import check_address, serve_in_thread
from bridge.overview import whole
from bridge.queue.vitals import Vitals
from bridge.settings import Settings

__all__ = ["Daemon", "together"]


class Daemon:
    """Entering gives the event that SIGTERM and SIGINT set.

    settings: whose state directory, and whose servers the listener asks.
    kind: `worker`, `relay` or `capture`.
    counters: a dataclass of numbers, which are shown.
    operator: host:port of the listener; empty for none. Raises WrongUsage, or BridgeError when it
        could be reached from other machines without a token.
    beside: of what else runs in this process, kind to counters.
    """

    def __init__(
        self,
        settings: Settings,
        kind: str,
        counters: Any,
        operator: str,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        if operator:
            check_address(operator, settings.operator_token)
        self._settings, self._operator = settings, operator
        self._vitals = [
            Vitals(settings.state_dir, one, partial(asdict, numbers))
            for one, numbers in {kind: counters, **(beside or {})}.items()
        ]
        self._ends = ExitStack()
        self.stop = threading.Event()

    def __enter__(self) -> threading.Event:
        logs.configure()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda signum, frame: self.stop.set())
        with ExitStack() as ends:
            if self._operator:
                app = whole(self._settings, ends, proxy=False)
                ends.callback(serve_in_thread(self._operator, app))
            for one in self._vitals:
                ends.enter_context(one)
            self._ends = ends.pop_all()
        return self.stop

    def __exit__(self, *error: object) -> None:
        self._ends.close()


def together(stop: threading.Event, one: Callable[[], object], other: Callable[[], object]) -> None:
    """Run two that end when `stop` is set, the other one on a thread of its own. When either ends,
    for whatever reason, the other is stopped, too: neither is there alone. Raises what the first
    one of them raised."""
    errors: list[BaseException] = []

    def run(what: Callable[[], object]) -> None:
        try:
            what()
        except BaseException as error:
            errors.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=run, args=(other,), name="other", daemon=True)
    thread.start()
    run(one)
    thread.join()
    if errors:
        raise errors[0]
