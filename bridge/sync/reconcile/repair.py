"""Make good what reconciling has found: send the events again that MongoDB ought to hold.

They go the way of every edit, over the queue, and win over the same version (`rewrite`). Only a
child that no event of its parent names is buried here, in its own version, so that everything
newer still wins. What MongoDB has ahead of SQL cannot be repaired by sending anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.errors import ServerAway, UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.queue.publisher import Publisher
from bridge.sync.reconcile.checksums import NO_VERSION
from bridge.sync.reconcile.doubts import Kind
from bridge.sync.reconcile.sides import Look, Sides

__all__ = ["Repair"]

AT_ONCE = 200
MOST_BYTES = 4 * 1024 * 1024
"""Events and JSON of one request to the broker."""

AHEAD = (
    "SQL has an older version, as after restoring a backup: raise the version column of all rows "
    "above MongoDB's highest, then run `bridge snapshot`"
)
TOO_MANY = (
    "more than half of all documents have no row: that looks like the wrong database, so none of "
    "them is deleted; see whether BRIDGE_SQL_URL and the source in sync.yaml are right"
)
FEW = 100
"""So many documents may be without a row whatever the number of all."""
FOREIGN = "its _v is no version, so it is somebody else's: delete the document by hand"


class Repair:
    """Sends what is missing to the queue. publisher: for one thread. max_event: bytes of the
    largest event."""

    def __init__(self, publisher: Publisher, max_event: int = MAX_EVENT_BYTES) -> None:
        self._publisher, self._max_event = publisher, max_event

    def send(
        self, sides: Sides, looks: Mapping[str, Look], kinds: Mapping[str, Kind], documents: int
    ) -> dict[str, str]:
        """Repair these keys. documents: how many are alive, of all. Returns the keys that cannot
        be repaired, and why.

        Raises ServerAway; part of them may then be repaired.
        """
        notes: dict[str, str] = {}
        rows: dict[str, list[str]] = {}  # key of the row to the keys that its event repairs
        buried: list[Event] = []
        rowless = sum(kinds[key] == "orphan" and looks[key].pair.sql is None for key in kinds)
        too_many = rowless > FEW and rowless * 2 > documents
        for key, kind in kinds.items():
            seen = looks[key]
            if kind in ("unusable", "unlookable"):
                notes[key] = seen.detail
            elif kind == "ahead":
                notes[key] = AHEAD
            elif _is_foreign(seen):
                notes[key] = FOREIGN
            elif too_many and kind == "orphan" and seen.pair.sql is None:
                notes[key] = TOO_MANY
            elif kind == "orphan" and sides.parent is not None:
                assert seen.found is not None
                sides.mirrored.bury(key, seen.found)
            elif seen.owner is not None:
                rows.setdefault(seen.owner, []).append(key)
            else:
                rows[key] = [key]
        events = []
        owners = list(rows)
        for start in range(0, len(owners), AT_ONCE):
            some = owners[start : start + AT_ONCE]
            found = {event.key: event for event in sides.events(some)}
            for owner in some:
                if (event := found.get(owner)) is not None:
                    events.append(event)
                elif kinds.get(owner) == "orphan":
                    # SQL was asked once more, just now.
                    mongodb = looks[owner].pair.mongodb
                    assert mongodb is not None
                    try:
                        buried.append(
                            Event(sides.name, "deleted", owner, mongodb.version, rewrite=True)
                        )
                    except UndecodableMessage as error:
                        notes[owner] = f"no event can be made of it: {error}"
            notes |= self._publish(events, rows)
            events = []
        notes |= self._publish(buried, rows)
        return notes

    def _publish(
        self, events: Sequence[Event], rows: Mapping[str, Sequence[str]]
    ) -> dict[str, str]:
        notes: dict[str, str] = {}
        texts: list[str] = []
        size = 0
        for event in events:
            try:
                text = event.to_json(self._max_event)
            except UndecodableMessage as error:
                why = f"its event {error}: `bridge snapshot {event.entity} --rewrite` loads it"
                notes |= dict.fromkeys(rows[event.key], why)
                continue
            if texts and (len(texts) >= AT_ONCE or size + len(text) > MOST_BYTES):
                self._send(texts)
                texts, size = [], 0
            texts.append(text)
            size += len(text)
        if texts:
            self._send(texts)
        return notes

    def _send(self, texts: Sequence[str]) -> None:
        try:
            self._publisher.send(texts)
        except ServerAway as error:
            raise ServerAway(f"the broker: {error}") from error


def _is_foreign(seen: Look) -> bool:
    if (held := seen.found) is None or held.state.version != NO_VERSION:
        return False
    return held.document.get("_v") is not None
