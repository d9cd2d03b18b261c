"""One entity on both sides: what SQL and MongoDB have under the same keys.

MongoDB is read before SQL, always, see `bridge.sync.doubts`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sql
from pymongo.database import Database

from bridge.sync.documents import Document, Mirror
from bridge.sync.doubts import KeyState, Pair, verdict
from bridge.sync.guard import Encoded, make_ready
from bridge.sync.log.progress import Progress
from bridge.sync.mongodb import decode
from bridge.sync.reconcile.bookkeeping import tombstone_fault
from bridge.sync.reconcile.contents import Gap, differences, in_words, of_version
from bridge.sync.reconcile.mirrored import DocumentState, Mirrored
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows
from bridge.sync.types.keys import join, split
from bridge.units import in_portions

__all__ = ["KeySnapshot", "Sides"]

KEYS_PER_QUESTION = 500


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """What was found under a key. owner: the key of the row whose event carries it, None where
    nobody knows one. detail: how contents differ, or why there is no event. gaps: where contents
    differ."""

    pair: Pair
    owner: str | None
    found: DocumentState | None
    detail: str = ""
    gaps: tuple[Gap, ...] = ()


class _Writes(NamedTuple):
    """What the events of some rows say. writes: into this collection, by key. versions: by the
    key of the row. wrong: by the key of the row, why no event or no document can be made."""

    writes: dict[str, Encoded]
    versions: dict[str, int]
    wrong: dict[str, str]


class Sides:
    """The rows of an entity and its documents. `beside`: whether versions are beside the table.
    `log`: how far MongoDB has come in the log; None where versions are not those of the log.

    name: the entity; it may be a child.

    Raises BridgeError for an entity without a source, and for one of the log that nobody has
    loaded; every method also raises ServerAway.
    """

    def __init__(
        self, engine: sql.Engine, database: Database[Document], mirror: Mirror, name: str
    ) -> None:
        self.name, self.mirror, self.database = name, mirror, database
        self.parent = mirror.parent_of.get(name)
        self.owner = self.parent or name
        source = mirror.entities[self.owner].source
        self.beside = source is not None and source.owner == "beside"
        self.log: Progress | None = None
        if source is not None and source.owner == "log":
            self.log = Progress(database, engine, name)
        reading = None if self.log is None else self.log.reading
        self.collection = mirror.collection_of(name)
        self.rows = KeyedRows(engine, name, mirror, reading)
        self.mirrored = Mirrored(
            database, self.collection, None if self.log is None else self.log.newest
        )
        self.source = SqlSource(engine, self.owner, mirror, rewrite=True, reading=reading)
        self._owners = self.rows if self.parent is None else KeyedRows(engine, self.owner, mirror)
        self._width = 0
        if self.parent is not None:
            children = mirror.entities[self.parent].children.values()
            [self._width] = {len(child.key) for child in children if child.entity == name}

    def __repr__(self) -> str:
        return f"<Sides of {self.name}>"

    def look(self, keys: Sequence[str], whole: Collection[str] = ()) -> dict[str, KeySnapshot]:
        """Both sides of each key. whole: of these keys the events are made, too, and what they say
        is compared with the whole document."""
        looks: dict[str, KeySnapshot] = {}
        for some in in_portions(keys, KEYS_PER_QUESTION):
            looks |= self._look(some, [key for key in some if key in whole])
        return looks

    def faulty(self, tombstones: Sequence[DocumentState]) -> list[str]:
        """Those of these tombstones that are not as they must be; their keys."""
        held = {one.document["_id"]: one for one in tombstones}
        looks = self._states(list(held), held)
        return [key for key, seen in looks.items() if verdict(self._examined(seen).pair)]

    def _look(self, keys: Sequence[str], whole: Sequence[str]) -> dict[str, KeySnapshot]:
        found = self.mirrored.find(keys)
        found |= self.mirrored.whole(whole)
        looks = self._states(keys, found)
        if whole:
            self._compare(looks, whole)
            for key in whole:
                looks[key] = self._examined(looks[key])
        return looks

    def _states(
        self, keys: Sequence[str], found: Mapping[str, DocumentState]
    ) -> dict[str, KeySnapshot]:
        """What SQL has under these keys, beside what was found in MongoDB before."""
        told, unlookable = self.rows.states(keys)
        owners = {key: one.owner for key, one in told.items()}
        states = {key: one.state for key, one in told.items()}
        if self.parent is not None:
            guessed = {
                key: self._owner_of(key, found.get(key))
                for key in keys
                if key not in told and key not in unlookable
            }
            parents, _ = self._owners.states(sorted(set(guessed.values())))
            owners |= guessed
            for key, owner in guessed.items():
                if (parent := parents.get(owner)) is not None and not parent.state.wrong:
                    # Not in the list of this version: deleted with it.
                    above = parent.state
                    states[key] = KeyState(above.version, False, row=False, most=above.highest)
        looks = {}
        for key in keys:
            held = found.get(key)
            rows = told[key].rows if key in told else 1
            pair = Pair(
                None if held is None else held.state,
                states.get(key),
                unlookable=unlookable.get(key, ""),
                rows=rows,
            )
            text = f"{rows} rows have this key" if rows > 1 else pair.unlookable
            looks[key] = KeySnapshot(pair, owners.get(key), held, text)
        return looks

    def _examined(self, seen: KeySnapshot) -> KeySnapshot:
        """With what is wrong about a tombstone, where both sides say that there is nothing."""
        pair, held = seen.pair, seen.found
        if held is None or held.state.alive or (pair.sql is not None and pair.sql.alive):
            return seen
        child = self.parent is not None
        fault = tombstone_fault(held.document, child=child, now=datetime.now(UTC))
        if not fault and pair.sql is not None:
            fault = _outdated(held.state.version, pair.sql, child=child)
        return replace(seen, pair=replace(pair, fault=fault), detail=fault) if fault else seen

    def _compare(self, looks: dict[str, KeySnapshot], keys: Sequence[str]) -> None:
        owners = sorted({owner for key in keys if (owner := looks[key].owner) is not None})
        made = self._made(owners)
        for key in keys:
            seen = looks[key]
            state = seen.pair.sql
            if (write := made.writes.get(key)) is not None:
                looks[key] = _compared(seen, write)
            elif seen.owner is None or state is None or not state.alive:
                continue
            elif (text := made.wrong.get(seen.owner)) is not None:
                looks[key] = _unusable(seen, state, text)
            elif (version := made.versions.get(seen.owner)) is not None:
                # A child. Its row was read a moment before the event was made.
                if version == state.version:
                    text = f"the event of its {self.parent} does not name it"
                    looks[key] = _unusable(seen, state, text)
                else:
                    pair = replace(seen.pair, sql=KeyState(version, False))
                    looks[key] = replace(seen, pair=pair)

    def _made(self, owners: Sequence[str]) -> _Writes:
        events, bad = self.source.rows_by_keys(owners)
        ready, rejected = make_ready(self.mirror, events)
        wrong = {one.key: one.error for one in bad}
        wrong |= {one.event.key: one.error for one in rejected}
        versions = {one.event.key: one.event.version for one in ready}
        writes = {
            write.key: write
            for one in ready
            for write in (one.own, *one.children)
            if write.collection == self.collection
        }
        return _Writes(writes, versions, wrong)

    def _owner_of(self, key: str, found: DocumentState | None) -> str:
        parent = None if found is None else found.document.get("_parent")
        if isinstance(parent, str) and key.startswith(f"{parent}/"):
            return parent
        # Parts of a key of several columns; a parent of one column has its key as it is.
        parts = key.split("/")[: -self._width]
        return join(split("/".join(parts), len(parts))) if parts else key


def _outdated(version: int, gone: KeyState, *, child: bool) -> str:
    """What is wrong with the version of a tombstone. Children that vanished long ago have that of
    their parent at the time."""
    if version > gone.highest:
        return f"it has version {version}, and SQL never gave one above {gone.highest}"
    if not child and version < gone.lowest:
        return f"it has version {version}, and SQL has deleted the row with {gone.version}"
    return ""


def _unusable(seen: KeySnapshot, state: KeyState, text: str) -> KeySnapshot:
    pair = replace(seen.pair, sql=replace(state, wrong=text))
    return replace(seen, pair=pair, detail=text)


def _compared(look: KeySnapshot, write: Encoded) -> KeySnapshot:
    expected = decode(bytes(write.document.raw))
    alive = expected.get("_del") is not True
    found, pair, ours = look.found, look.pair, bytes(write.document.raw)
    in_log = pair.sql is not None and pair.sql.least is not None
    state = KeyState(write.version, alive, least=0 if in_log else None)
    if found is None or not alive or not found.state.alive:
        return replace(look, pair=replace(pair, sql=state))
    if in_log:
        ours = of_version(ours, found.raw)
    elif found.state.version != write.version:
        return replace(look, pair=replace(pair, sql=state))
    gaps = differences(ours, found.raw)
    pair = replace(pair, sql=state, same=not gaps)
    return replace(look, pair=pair, detail=look.detail or in_words(gaps), gaps=tuple(gaps))
