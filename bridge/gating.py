"""The proxy's gate and its marker, made of the settings: visitors are not to miss their own edits.

They are the mirror's (`bridge.sync.freshness`, `bridge.sync.marker`). Without keys for them no
driver of a database is loaded. The marker is for entities that come from the database's own log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextvars import Context
from typing import Any

import structlog

from bridge.errors import BridgeError, ConfigError
from bridge.proxy.gate import Gate, Marker, Wanted
from bridge.settings import Settings

__all__ = ["gate_of", "start_gate"]

log = structlog.get_logger("bridge.freshness")

_KEPT = "last-good.mirrored.json"


def gate_of(settings: Settings) -> Gate | None:
    """The gate of `settings.freshness_keys`, None without keys. It connects to MongoDB when it is
    first needed. Raises ConfigError for sync.yaml."""
    if not settings.freshness_keys:
        return None
    from bridge.sync import probe

    gate = probe.gate_of(settings)
    gate.marker = _marker(settings, gate.log)
    return gate


def start_gate(settings: Settings) -> tuple[Gate | None, str]:
    """As `gate_of`, and never fails: while sync.yaml is broken, the gate is the last good one, or
    else one that lets nobody in who has just written something. Then also what is wrong, in
    words."""
    if not settings.freshness_keys:
        return None, ""
    from bridge.sync import probe

    kept = settings.state_dir / _KEPT
    broken = ""
    try:
        gate = probe.gate_of(settings, kept)
    except ConfigError as error:
        found = probe.kept_gate(settings, kept)
        what = "the last good one counts" if found else "legacy answers who has just written"
        log.error(f"sync.yaml is broken; {what}, until a restart", errors=str(error))
        broken = f"{error}\n({what}, until this worker is restarted)"
        if found is None:
            return _Closed(), broken
        gate = found
    if gate.log and not settings.sql_url:
        log.warning(
            "BRIDGE_SQL_URL is not set: visitors may miss for a moment what they have just written",
            entities=", ".join(sorted(gate.log)),
        )
    try:
        gate.marker = _marker(settings, gate.log)
    except BridgeError as error:
        log.error("visitors' cookies do not say where the log ends", cause=str(error))
    return gate, broken


def _marker(settings: Settings, of_log: Collection[str]) -> Marker | None:
    """What marks the answers of legacy for the entities of the log; None where there are none, or
    where the database is not known. It connects when it is first asked.

    Raises BridgeError for the URL of the database.
    """
    if not of_log or not settings.sql_url:
        return None
    from bridge.sync.log.end import LogEnds
    from bridge.sync.marker import Marker
    from bridge.sync.tokens import Keys

    ends = LogEnds(settings.sql_url)
    return Marker(Keys(settings.freshness_keys), ends.ask, ends.budget)


class _Closed:
    """A gate that lets nobody in who has the cookie: legacy always shows the newest."""

    marker: Marker | None = None
    log: frozenset[str] = frozenset()

    def __init__(self) -> None:
        from bridge.sync.freshness import COOKIE

        self.cookie = COOKIE

    def wanted(self, cookies: Iterable[str]) -> Wanted | None:
        return _Refused() if any(cookies) else None

    def ensure(self, wanted: Any, reads: Collection[str]) -> bool:
        return False


class _Refused:
    refused = True
    outcome = "legacy"

    def settled(self, now: float) -> bool:
        return False

    def context(self) -> Context:
        return Context()
