"""The main process of `bridgectl serve`: which workers there are, and who takes whose place.

gunicorn's arbiter forks, watches and reaps. Different here: SIGHUP replaces nobody, a worker that
has served its time goes on until the next one serves, and a worker that cannot start ends no
site that runs.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from bridge.proxy.serve.engineworker import EARLY, LEAVING, REPLACED, SERVING

__all__ = ["BridgeArbiter"]

_ENDING = 2  # workers that end slowly for each that serves, before no more are replaced
_LONGEST_WAIT = 30.0  # seconds between two workers that cannot start


class BridgeArbiter(Arbiter):  # type: ignore[misc]
    """SIGHUP is handed to the workers; none is replaced. SIGUSR2 starts `bridge` anew."""

    num_workers: int

    def __init__(self, application: Any) -> None:
        super().__init__(application)
        # gunicorn would run the script itself, whose folder would then be searched for modules.
        self.START_CTX["args"] = [sys.executable, "-m", "bridge", *sys.argv[1:]]
        self._told: set[int] = set()  # workers in whose place others serve
        self._has_served = False
        self._failed_starts = 0
        self._not_before = 0.0

    def manage_workers(self) -> None:
        """One more for each that leaves; who leaves is told to end when enough others serve.

        Who ends may take long, for a large download. So that they do not become many, a worker
        whose turn it is goes on while too many do.
        """
        self.app.keep_beside()
        if time.monotonic() < self._not_before:
            return
        wanted = self.num_workers
        self._told &= self.WORKERS.keys()
        serving = self._serving()
        leaving = [pid for pid in serving if self.WORKERS[pid].stage == LEAVING]
        leaving = leaving[: max(0, _ENDING * wanted - len(self._told))]
        self.num_workers = wanted + len(self._told) + len(leaving)
        try:
            super().manage_workers()
        finally:
            self.num_workers = wanted
        serving = self._serving()
        self._has_served = self._has_served or bool(serving)
        if len(serving) - len(leaving) >= wanted:
            self._failed_starts = 0
            for pid in leaving:
                self._told.add(pid)
                self.WORKERS[pid].tell(REPLACED)
                self.kill_worker(pid, signal.SIGTERM)

    def _serving(self) -> list[int]:
        """The workers that let visitors in, and will."""
        return [
            pid
            for pid, worker in self.WORKERS.items()
            if worker.stage in (SERVING, LEAVING) and pid not in self._told
        ]

    def reap_workers(self) -> None:
        """gunicorn gives up when a worker cannot start. It may be a full disk, while the other
        workers serve; so only when none has ever served."""
        try:
            super().reap_workers()
        except HaltServer as failure:
            if not self._has_served:
                raise
            self._failed_starts += 1
            wait = min(2.0 ** (self._failed_starts - 1), _LONGEST_WAIT)
            self._not_before = time.monotonic() + wait
            self.log.error("%s Trying again in %g s", failure.reason, wait)

    def spawn_worker(self) -> Any:
        """Signals for a worker that has no handlers yet wait until it has: they would go to
        copies of the arbiter's, and be lost."""
        signal.pthread_sigmask(signal.SIG_BLOCK, EARLY)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)

    def stop(self, graceful: bool = True) -> None:
        """After SIGUSR2 there is another parent, whose workers serve."""
        if self.reexec_pid:
            for worker in self.WORKERS.values():
                worker.tell(LEAVING)
        super().stop(graceful)

    def handle_hup(self) -> None:
        self.log.info("Reloading routes.yaml in every worker")
        self.kill_workers(signal.SIGHUP)
