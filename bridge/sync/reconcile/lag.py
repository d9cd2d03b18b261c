"""How far MongoDB is behind, as the outboxes tell."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from bridge.settings import Settings
from bridge.sync.relay import Sources

__all__ = ["outbox_lag"]


def outbox_lag(settings: Settings) -> Callable[[], float]:
    """What gives the age in seconds of the oldest change that MongoDB does not hold, 0 where
    there is none, no outbox, or no answer."""
    sources = Sources.of(settings)

    def lag() -> float:
        found = 0.0
        for outbox in sources.in_use():
            try:
                found = max(found, outbox.backlog().lag)
            except SQLAlchemyError:
                continue
        return found

    return lag
