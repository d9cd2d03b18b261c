"""Dead letters of what was read from the site's database and is of no use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.broker.connection import Broker, Link
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import LARGEST_EVENT_BYTES, Rejected
from bridge.queue.sql.values import to_json
from bridge.sync.sql.source import BadRow

__all__ = ["keep", "letter_of", "letter_of_row", "too_many"]


def keep(link: Link, letters: Sequence[DeadLetter]) -> None:
    """Put them to the dead letters. Raises ServerAway; some may be kept then."""

    def put(broker: Broker) -> None:
        shelf = DeadLetters(broker)
        for letter in letters:
            shelf.put(letter)

    link.do(put)


def letter_of_row(entity: str, row: BadRow) -> DeadLetter:
    """Of a row that no event can be made of."""
    return replace(DeadLetter.of(row.raw, row.error, part="row"), entity=entity, key=row.key)


def letter_of(rejected: Rejected) -> DeadLetter:
    """Of an event that MongoDB or sync.yaml refuses."""
    event = rejected.event
    try:
        return DeadLetter.of(event.to_json(LARGEST_EVENT_BYTES).encode(), rejected.error)
    except UndecodableMessage:
        # Too large for the queue: no retry could put it there.
        letter = DeadLetter.of(to_json(event.data).encode(), rejected.error, part="row")
        return replace(letter, entity=event.entity, key=event.key, version=str(event.version))


def too_many(entity: str, dead: int) -> BridgeError:
    """What to say when it is hardly the rows that are wrong."""
    return BridgeError(
        f"{dead:,} rows of {entity} became dead letters: bridgectl dead list --entity {entity}. "
        "Mend sync.yaml or the rows, drop the letters with "
        f"`bridgectl dead drop --entity {entity}`, and "
        "run it again with --restart; or go on after them with --max-dead 0"
    )
