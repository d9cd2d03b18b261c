"""The proxy's gate, made of the settings: the one that keeps visitors from missing their own edits.

It is the mirror's (`bridge.sync.freshness`). Without keys for it no driver of MongoDB is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextvars import Context
from typing import Any

import structlog

from bridge.errors import ConfigError
from bridge.proxy.gate import Gate, Wanted
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

    return probe.gate_of(settings)


def start_gate(settings: Settings) -> tuple[Gate | None, str]:
    """As `gate_of`, and never fails: while sync.yaml is broken, the gate is the last good one, or
    else one that lets nobody in who has just written something. Then also what is wrong, in
    words."""
    if not settings.freshness_keys:
        return None, ""
    from bridge.sync import probe

    kept = settings.state_dir / _KEPT
    try:
        return probe.gate_of(settings, kept), ""
    except ConfigError as error:
        gate = probe.kept_gate(settings, kept)
        what = "the last good one counts" if gate else "legacy answers who has just written"
        log.error(f"sync.yaml is broken; {what}, until a restart", errors=str(error))
        return gate or _Closed(), f"{error}\n({what}, until this worker is restarted)"


class _Closed:
    """A gate that lets nobody in who has the cookie: legacy always shows the newest."""

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
