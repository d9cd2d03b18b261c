"""Deletions that nobody told us of: documents that are alive in MongoDB and have no row.

MongoDB is asked first, SQL after it, and SQL once more before anything is buried: a row that was
only on its way is there then. What is buried gets the very version that MongoDB holds, so that
whatever is newer wins; of an entity of the log that of the moment at which SQL was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from pymongo.database import Database

from bridge.errors import BridgeError
from bridge.queue.events import MAX_VERSION, Event
from bridge.sync.documents import Document
from bridge.sync.mongodb import majority, outages
from bridge.sync.reconcile.mirrored import Mirrored
from bridge.sync.sql.source import Existing
from bridge.sync.types.keys import Unlookable
from bridge.sync.types.typed import Typed
from bridge.units import in_portions

__all__ = ["Alive", "batches", "burial", "bury_renamed", "check_amount", "renamed", "walk"]

Alive = dict[str, int]
"""Key to version, of documents that are alive."""

There = Callable[[Sequence[str]], Existing]

FEW = 100
"""So many may be gone without a question."""


def walk(
    database: Database[Document], collection: str, after: str | None, size: int
) -> tuple[Alive, str | None]:
    """Documents that are alive, by key; and the last key looked at, None when these were all.

    after: the key that comes before them; None at first.
    size: how many are looked at.

    What has no text as its `_id`, or no version, is not ours and left out. Raises ServerAway.
    """
    where: Document = {"$gte": ""} if after is None else {"$gt": after}
    with outages():
        wanted = majority(database, collection).find({"_id": where}, {"_v": 1, "_del": 1})
        found = list(wanted.sort("_id", 1).hint([("_id", 1)]).limit(size))
    alive = {
        document["_id"]: int(version)
        for document in found
        if not document.get("_del")
        and isinstance(version := document.get("_v"), int)
        and 0 <= version <= MAX_VERSION
    }
    return alive, found[-1]["_id"] if len(found) == size else None


def batches(alive: Alive, size: int) -> Iterator[Alive]:
    """Parts of up to `size`."""
    return map(dict, in_portions(list(alive.items()), size))


def burial(entity: str, alive: Alive, there: There) -> list[Event]:
    """The deletions of those that have no row now: of an entity of the log in the version at which
    SQL said so."""
    found = there(list(alive))
    asked = found.version
    return [
        Event(
            entity,
            "deleted",
            key,
            version if asked is None else asked,
            source="/bridge/snapshot",
            rewrite=True,
        )
        for key, version in alive.items()
        if key not in found.there and key not in found.unlookable
    ]


def renamed(types: Typed | None, keys: Iterable[str]) -> dict[str, str]:
    """Of keys that no row can have, those that are only written otherwise than a row's: by an
    earlier version of the bridge, as `00000042` for 42. Each with the key of that row."""
    found: dict[str, str] = {}
    for key in keys if types is not None else ():
        with suppress(Unlookable):
            if (name := types.canonical(key)) != key:  # type: ignore[union-attr]
                found[key] = name
    return found


def bury_renamed(
    database: Database[Document], collection: str, names: Mapping[str, str]
) -> set[str]:
    """Put tombstones in the places of documents whose row has a document under its own key; which.
    names: what `renamed` gave, of rows that are there. Raises ServerAway."""
    mirrored = Mirrored(database, collection)
    held = mirrored.find([*names, *names.values()])
    return {
        key
        for key, name in names.items()
        if name in held and held[name].state.alive and key in held and mirrored.bury(key, held[key])
    }


def check_amount(entity: str, gone: Alive, alive: int) -> None:
    """Raises BridgeError when so many are gone that it is more likely the wrong database."""
    if len(gone) > FEW and len(gone) * 2 > alive:
        some = ", ".join(ascii(key) for key in list(gone)[:3])
        raise BridgeError(
            f"{len(gone):,} of the {alive:,} documents of {entity} have no row ({some} …). Is "
            "BRIDGE_SQL_URL the right database, and the source in sync.yaml the right table? If "
            f"so, bury them with: bridgectl snapshot {entity} --bury-all"
        )
