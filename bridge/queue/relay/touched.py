"""Rows of the outbox that only note that something changed: `<entity>.touched`, without a payload.

Triggers write them. What the row of the site's table is now is fetched when the relay comes to it,
and only then is there a version: whoever reads later has a higher one. Several notes of one key
are one event. Who fetches is handed in (`Fetch`); nothing here knows of tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.outbox import TOUCHED, Row

__all__ = ["CurrentRow", "Fetch", "Resolution", "is_touched", "portions", "resolve"]

KEYS_PER_STEP = 100
"""Keys whose rows are in memory at a time."""


@dataclass(frozen=True, slots=True)
class CurrentRow:
    """What a key is now. version: the one that it was given. event: its bytes; or error: why no
    event can be made of it, with raw, what there is instead of one. others: keys that the note is
    about as well, to be noted on their own."""

    version: int = 0
    event: bytes = b""
    error: str = ""
    raw: bytes = b""
    others: tuple[str, ...] = ()


Fetch = Callable[[str, Sequence[str]], Mapping[str, CurrentRow]]
"""Of an entity, what each of these keys is now. Raises BridgeError when that entity cannot be read,
and ServerAway or SQLAlchemy's errors when nobody can be."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """publish: rows with the version that they have now; events: of these, one for each key. dead:
    the rows of each key of which there is none, with what there is instead. waiting: entities that
    cannot be read with the reason, and their rows. others: what is to be noted, too."""

    publish: list[Row] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    dead: list[tuple[list[Row], CurrentRow]] = field(default_factory=list)
    waiting: list[tuple[str, str, list[Row]]] = field(default_factory=list)
    others: set[tuple[str, str]] = field(default_factory=set)


def is_touched(row: Row) -> bool:
    """Whether a row only notes a change."""
    return row.payload is None and row.type.endswith(TOUCHED)


def portions(rows: Sequence[Row], most: int = KEYS_PER_STEP) -> Iterator[list[Row]]:
    """The same rows in portions of up to so many keys, all rows of a key in one of them."""
    keys = [some for of_keys in _by_key(rows).values() for some in of_keys.values()]
    for start in range(0, len(keys), most):
        yield [row for some in keys[start : start + most] for row in some]


def resolve(rows: Sequence[Row], fetch: Fetch) -> Resolution:
    """Fetch what these rows are about. Raises ServerAway, and SQLAlchemy's errors."""
    found = Resolution()
    for entity, of_keys in _by_key(rows).items():
        try:
            fetched = fetch(entity, list(of_keys))
        except ServerAway:
            raise
        except BridgeError as error:
            all_of_them = [row for some in of_keys.values() for row in some]
            found.waiting.append((entity, str(error), all_of_them))
            continue
        for key, some in of_keys.items():
            one = fetched[key]
            if one.error:
                found.dead.append((some, one))
                continue
            found.others.update((entity, other) for other in one.others)
            found.publish.extend(replace(row, version=one.version) for row in some)
            found.events.append(one.event)
    return found


def _by_key(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    grouped: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.entity, {}).setdefault(row.key, []).append(row)
    return grouped
