"""What the shadow has found goes to where `bridgectl compare` keeps it too, under the release of
the handlers that this process has imported."""

from __future__ import annotations

import threading

from bridge.cached import Cached
from bridge.evidence.answers import Asked
from bridge.evidence.differences.found import Found
from bridge.evidence.differences.store import Evidence
from bridge.evidence.order import Verdict
from bridge.evidence.release import release_of, rules_of
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.shadow.copies import Copied
from bridge.settings import Settings

__all__ = ["Keeping"]

_RULES = 5.0  # seconds that sync.yaml is taken to be as it was


class Keeping:
    """Keeps findings. Thread-safe. Raises BridgeError when it is made, where nobody can tell one
    release from another."""

    def __init__(self, settings: Settings, table: RouteTable) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._release = self._release_of(table)
        self._spec = table.file.compare
        self._evidence = Evidence(settings.state_dir, self._spec)
        self._rules = Cached(lambda: rules_of(settings), _RULES)

    def is_of(self, table: RouteTable) -> bool:
        """Whether the handlers of a new table are those that were imported; what is kept from now
        on is kept as that table says. Raises BridgeError."""
        with self._lock:
            if table.file.compare != self._spec:
                self._spec = table.file.compare
                self._evidence.close()
                self._evidence = Evidence(self._settings.state_dir, self._spec)
        return self._release_of(table) == self._release

    def keep(self, copied: Copied, asked: Asked, verdict: Verdict) -> None:
        """Note what was found. Raises BridgeError where sync.yaml cannot be read."""
        found = Found(
            copied.route,
            "shadow",
            verdict.kind,
            asked,
            verdict.legacy,
            verdict.python,
            verdict.differences,
            copied.at,
            self._release,
            self._rules(),
            verdict.why,
        )
        with self._lock:
            evidence = self._evidence
        evidence.note(found)

    def close(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            self._evidence.close()

    def _release_of(self, table: RouteTable) -> str:
        return release_of((route.handler for route in table.routes), self._settings)
