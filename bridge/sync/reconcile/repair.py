"""Make good what reconciling has found: send the events again that MongoDB ought to hold.

They go the way of every edit, over the queue, and win over the same version (`rewrite`). Those of
an entity of the log, whose edits take no queue, are written at once, with the version at which they
were read: what the log still tells of before is older, and loses.

Only what no event can repair is done here, in the version that is there, so that everything newer
still wins: a child that no event of its parent names is buried, and a tombstone that is not as it
must be is made anew. What MongoDB has ahead of SQL cannot be repaired by sending anything. Nothing
is ever concluded about a key that is not known to have no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue.broker.publisher import Publisher
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.sync.apply import apply
from bridge.sync.checksums import NO_VERSION
from bridge.sync.doubts import KINDS, TOLD, Kind
from bridge.sync.reconcile.sides import KeySnapshot, Sides
from bridge.units import in_portions

__all__ = ["Repair"]

EVENTS_PER_BATCH = 200
MOST_BYTES = 4 * 1024 * 1024
"""Events and JSON of one request to the broker."""

AHEAD = (
    "SQL has an older version, as after restoring a backup: raise the version column of all rows "
    "above MongoDB's highest (without such a column: `bridgectl sync triggers --raise`), then run "
    "`bridgectl snapshot`"
)
AHEAD_OF_LOG = (
    "MongoDB has a version that the log never gave: delete the document by hand, and repair again "
    "(where it is the log that was set back, `bridgectl snapshot` begins a new epoch)"
)
TOO_MANY = (
    "more than half of all documents have no row: that looks like the wrong database, so none of "
    "them is deleted; see whether BRIDGE_SQL_URL and the source in sync.yaml are right"
)
FEW = 100
"""So many documents may be without a row whatever the number of all."""
DOUBLED = (
    "a field is there twice, and MongoDB itself may end when such a document is updated: delete it "
    "by hand (deleting is safe), then repair again"
)
FOREIGN = "its _v is no version, so it is somebody else's: delete the document by hand"


class Repair:
    """Sends what is missing to the queue, or writes it. publisher: for one thread; None where all
    entities are the log's. max_event: bytes of the largest event."""

    def __init__(self, publisher: Publisher | None, max_event: int = MAX_EVENT_BYTES) -> None:
        self._publisher, self._max_event = publisher, max_event

    def send(
        self,
        sides: Sides,
        looks: Mapping[str, KeySnapshot],
        kinds: Mapping[str, Kind],
        documents: int,
    ) -> dict[str, str]:
        """Repair keys. Returns those that cannot be repaired, and why.

        looks, kinds: what was seen of each key, and what is wrong with it.
        documents: how many are alive, of all.

        Raises ServerAway; part of them may then be repaired.
        """
        notes: dict[str, str] = {}
        ahead = AHEAD if sides.log is None else AHEAD_OF_LOG
        rows: dict[str, list[str]] = {}  # key of the row to the keys that its event repairs
        buried: list[Event] = []
        rowless = sum(kinds[key] == "orphan" and _is_unheard_of(looks[key]) for key in kinds)
        doubled = sides.mirrored.doubled([key for key, kind in kinds.items() if kind not in TOLD])
        too_many = rowless > FEW and rowless * 2 > documents
        for key, kind in kinds.items():
            seen = looks[key]
            if kind in TOLD:
                notes[key] = seen.detail or KINDS[kind]
            elif key in doubled:
                notes[key] = DOUBLED
            elif kind == "ahead":
                notes[key] = ahead
            elif _is_foreign(seen):
                notes[key] = FOREIGN
            elif too_many and kind == "orphan" and _is_unheard_of(seen):
                notes[key] = TOO_MANY
            elif kind == "tombstone" and _is_ahead(seen):
                notes[key] = f"{seen.detail}; {ahead}"
            elif kind == "tombstone" and (sides.parent is not None or not _is_late(seen)):
                assert seen.found is not None
                sides.mirrored.mend(key, seen.found, child=sides.parent is not None)
            elif kind == "orphan" and sides.parent is not None:
                assert seen.found is not None
                sides.mirrored.bury(key, seen.found)
            elif seen.owner is not None:
                rows.setdefault(seen.owner, []).append(key)
            else:
                rows[key] = [key]
        for some in in_portions(list(rows), EVENTS_PER_BATCH):
            found, bad = sides.source.rows_by_keys(some)
            told = {event.key for event in found} | {one.key for one in bad}
            lacking = [owner for owner in some if owner not in told]
            # SQL was asked once more, just now; and in another way, which needs no event.
            there, unlookable, version = sides.source.existing(lacking)
            for owner in lacking:
                if owner in there or owner in unlookable:
                    notes[owner] = "a row has come up under this key: ask again"
                elif kinds.get(owner) in ("orphan", "tombstone"):
                    buried += _deletion(sides.name, owner, looks[owner], version, notes)
            for one in bad:
                notes |= dict.fromkeys(rows.get(one.key, ()), one.error)
            notes |= self._deliver(sides, found, rows)
        notes |= self._deliver(sides, buried, rows)
        return notes

    def _deliver(
        self, sides: Sides, events: Sequence[Event], rows: Mapping[str, Sequence[str]]
    ) -> dict[str, str]:
        if sides.log is None:
            return self._publish(events, rows)
        notes: dict[str, str] = {}
        for one in apply(sides.database, sides.mirror, events).failed:
            notes |= dict.fromkeys(rows[one.event.key], one.error)
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
                why = f"its event {error}: `bridgectl snapshot {event.entity} --rewrite` loads it"
                notes |= dict.fromkeys(rows[event.key], why)
                continue
            if texts and (len(texts) >= EVENTS_PER_BATCH or size + len(text) > MOST_BYTES):
                self._send(texts)
                texts, size = [], 0
            texts.append(text)
            size += len(text)
        if texts:
            self._send(texts)
        return notes

    def _send(self, texts: Sequence[str]) -> None:
        if self._publisher is None:
            raise BridgeError("repairing needs the queue: set BRIDGE_BROKER_URL")
        try:
            self._publisher.send(texts)
        except ServerAway as error:
            raise ServerAway(f"the broker: {error}") from error


def _deletion(
    entity: str, key: str, seen: KeySnapshot, asked: int | None, notes: dict[str, str]
) -> list[Event]:
    """asked: the version at which SQL said that there is no row, of an entity of the log."""
    pair = seen.pair
    assert pair.mongodb is not None
    version = max(0, pair.mongodb.version, 0 if pair.sql is None else pair.sql.version)
    version = version if asked is None else asked
    try:
        return [Event(entity, "deleted", key, version, rewrite=True)]
    except UndecodableMessage as error:
        notes[key] = f"no event can be made of it: {error}"
        return []


def _is_unheard_of(seen: KeySnapshot) -> bool:
    """Whether SQL has no row, and no table of versions that knows of its deletion."""
    sql = seen.pair.sql
    # The log's version is only that of the look.
    return sql is None or (not sql.row and (sql.version <= NO_VERSION or sql.least is not None))


def _is_ahead(seen: KeySnapshot) -> bool:
    sql, mongodb = seen.pair.sql, seen.pair.mongodb
    return sql is not None and mongodb is not None and mongodb.version > sql.highest


def _is_late(seen: KeySnapshot) -> bool:
    sql, mongodb = seen.pair.sql, seen.pair.mongodb
    return sql is not None and mongodb is not None and mongodb.version < sql.lowest


def _is_foreign(seen: KeySnapshot) -> bool:
    held = seen.found
    return bool(held and held.state.version == NO_VERSION and held.document.get("_v") is not None)
