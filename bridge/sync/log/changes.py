"""Changes of rows as events: the newest of each key. Pure. And the port to who only compares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from bridge.errors import UndecodableMessage
from bridge.queue.consumer.dead_letters import DeadLetter
from bridge.queue.events import Event
from bridge.queue.sql.values import to_json
from bridge.sync.dead_letters import letter_of_row
from bridge.sync.log.stream import Change
from bridge.sync.sql.source import BadRow

__all__ = ["Comparing", "events_of"]

SOURCE = "/bridge/log"
"""The `source` of the events."""


class Comparing(Protocol):
    """Who compares the changes of entities that are another's. See `reconcile.compared`."""

    def take(self, changes: Sequence[Change]) -> list[Change]:
        """Those that are to be written."""

    def unsure(self, entity: str, why: str) -> None:
        """Rows were changed that the log does not name."""


def events_of(changes: Sequence[Change]) -> tuple[list[Event], list[DeadLetter]]:
    """The newest of each key; and the dead letters of those that can be no event."""
    newest = {(one.entity, one.key): one for one in changes}
    moments: dict[int, str] = {}
    events, letters = [], []
    for one in newest.values():
        if (moment := moments.get(one.time)) is None:
            found = datetime.fromtimestamp(one.time, UTC).isoformat()
            moment = moments[one.time] = found.replace("+00:00", "Z")
        change = "deleted" if one.data is None else "changed"
        id_ = f"{one.version}"
        try:
            events.append(
                Event(one.entity, change, one.key, one.version, one.data, id_, SOURCE, moment)
            )
        except UndecodableMessage as error:
            raw = to_json(one.data).encode("utf-8", "surrogateescape")
            letters.append(letter_of_row(one.entity, BadRow(raw, str(error), one.key)))
    return events, letters
