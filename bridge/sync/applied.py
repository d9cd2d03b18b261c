"""What came of a batch of events."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.queue.events import Event, Rejected

__all__ = ["Applied"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch.

    applied: events of which MongoDB now holds this version or a newer one.
    failed: events that can never be written.
    written: how many events changed MongoDB. stale: of how many it had this version or a newer
    one already. Children are not counted. doubled: how many writes met another document with the
    same value of a unique index, and were made nevertheless (`bridge.sync.twins`).
    """

    applied: tuple[Event, ...] = ()
    failed: tuple[Rejected, ...] = ()
    written: int = 0
    stale: int = 0
    doubled: int = 0

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.applied + other.applied,
            self.failed + other.failed,
            self.written + other.written,
            self.stale + other.stale,
            self.doubled + other.doubled,
        )
