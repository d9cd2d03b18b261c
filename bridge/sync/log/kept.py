"""What MongoDB keeps of the log: how far it is applied, and what of the tables is not as it says.

One document, `log` in `bridge_state`. It is written after what it covers, in one step: whoever
reads a position there finds beside it which entities are not that far.

Two write it, who read the log and who load, and neither takes away what the other one says: each
change is of one entity, and only made where nothing newer is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from bridge.sync.documents import Document
from bridge.sync.entities import STATE
from bridge.sync.log.position import Position
from bridge.sync.mongodb import MAJORITY, majority, outages
from bridge.sync.reached import LOG
from bridge.sync.state import Owner, State

__all__ = ["LEASE", "LOAD", "LOG", "Dirty", "Halted", "Kept", "KeptLog", "Tally"]

LOAD = "bridgectl snapshot"
"""What to do where the log cannot be read on, whatever it is: the load begins at its end."""
LEASE = 15.0
"""Seconds after which another process may read on where the one that reads says nothing."""
MOST_VALUES = 1000
"""Values of a field by which rows are named; where there are more, it is the whole entity."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Rows of an entity that something happened to which the log does not show.

    since, sequence: the transaction; what SQL has after it is right. why: in words. keys: field to
    its values in the rows that are meant; None for all rows. at: when the first of it was found, in
    Unix seconds.
    """

    since: str
    sequence: int
    why: str
    keys: Mapping[str, Sequence[Any]] | None = None
    at: float = 0.0

    def and_(self, later: Dirty) -> Dirty:
        """Both."""
        keys = None
        if self.keys is not None and later.keys is not None:
            both = {
                name: list(dict.fromkeys([*self.keys.get(name, ()), *later.keys.get(name, ())]))
                for name in {**self.keys, **later.keys}
            }
            if all(len(values) <= MOST_VALUES for values in both.values()):
                keys = both
        why = self.why if later.why in self.why.split("; ") else f"{self.why}; {later.why}"
        return Dirty(later.since, later.sequence, why[:200], keys, self.at)


@dataclass(frozen=True, slots=True)
class Halted:
    """An entity whose rows cannot be read. do: the command that heals it."""

    since: str
    sequence: int
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Of an entity that is only compared: how many changes were, how many keys differed, and how
    many changes could not be compared. why: what was told last, of something that differed or could
    not be compared; at: and when."""

    compared: int = 0
    differing: int = 0
    unchecked: int = 0
    why: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """The document. position: None before anybody has read the log. follows: the entities whose
    changes were applied up to it. problem: why nobody reads on, and do: what a person is to do;
    both empty while all is well. tallies: of entities that are only compared."""

    position: Position | None = None
    dirty: Mapping[str, Dirty] = field(default_factory=dict)
    halted: Mapping[str, Halted] = field(default_factory=dict)
    follows: frozenset[str] = frozenset()
    problem: str = ""
    do: str = ""
    tallies: Mapping[str, Tally] = field(default_factory=dict)

    @property
    def why_lost(self) -> str:
        """Why the log cannot be read on from the position; empty where nobody has found that."""
        return self.problem if self.do == LOAD else ""

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Self:
        """As it was kept. Raises BridgeError for a position that cannot be read."""
        found = document or {}
        position = found.get("position")
        return cls(
            None if position is None else Position.of(position),
            {name: Dirty(**one) for name, one in (found.get("dirty") or {}).items() if one},
            {name: Halted(**one) for name, one in (found.get("stopped") or {}).items() if one},
            frozenset(found.get("follows") or ()),
            found.get("problem") or "",
            found.get("do") or "",
            {name: Tally(**one) for name, one in (found.get("compared") or {}).items()},
        )


class KeptLog:
    """The document in a database. Every method raises ServerAway."""

    def __init__(self, database: Database[Document]) -> None:
        self._state = State(database)
        self._collection = majority(database, STATE, write_concern=MAJORITY)

    def read(self) -> Kept:
        """What is there. Raises BridgeError for what another version wrote."""
        return Kept.of(self._state.get(LOG))

    def take(self, owner: Owner, seconds: float) -> bool:
        """Become the one who reads the log, unless another one does who was heard of less than
        `seconds` ago."""
        return self._state.take(LOG, owner, seconds) is not None

    def release(self, owner: Owner) -> None:
        """Let another one read it."""
        self._state.release(LOG, owner, {})

    def follow(self, owner: Owner, names: Iterable[str]) -> list[str]:
        """Say of which entities the changes are applied from now on. Those of them that were not
        before are halted until they are loaded; which."""
        kept, names = self.read(), sorted(names)
        new = [name for name in names if name not in kept.follows]
        fields: Document = {"follows": names}
        for name in kept.follows.difference(names):
            # Another one gives its versions now, and whatever was wrong is its matter.
            fields |= {f"dirty.{name}": None, f"stopped.{name}": None}
        if kept.position is not None:
            fields |= {f"stopped.{name}": _unloaded(name, kept.position) for name in new}
        self._state.keep(LOG, owner, fields)
        return new

    def keep(
        self,
        owner: Owner,
        position: Position | None = None,
        dirty: Mapping[str, Dirty] | None = None,
        halted: Mapping[str, Halted | None] | None = None,
    ) -> bool:
        """Say how far it is, with a sign of life; False where another one reads it now, or it is
        to be read from another place.

        position: None for the same as before.
        dirty, halted: the entities of which something new is to be said, in place of what was
            said of them; None: halted no more. What a load has covered already is not said.
        """
        where: Document = {"_id": LOG, "owner.id": owner.id}
        fields: Document = {"beat": "$$NOW"}
        if position is not None:
            where["position.epoch"] = position.epoch
            fields |= {"position": {"$literal": position.document()}, "problem": "", "do": ""}
        for name, one in (dirty or {}).items():
            fields[f"dirty.{name}"] = _unless_loaded(f"dirty.{name}", name, one)
        for name, stop in (halted or {}).items():
            place = f"stopped.{name}"
            fields[place] = None if stop is None else _unless_loaded(place, name, stop)
        with outages():
            return self._collection.update_one(where, [{"$set": fields}]).matched_count == 1

    def begin(self, position: Position, names: Iterable[str]) -> bool:
        """Let the log be read from here on, where it is read from nowhere yet, or only in an
        earlier epoch; whether it is so now. names: the entities, which are to be loaded."""
        earlier = [{"position": None}, {"position.epoch": {"$lt": position.epoch}}]
        names = sorted(names)
        fields = {
            "position": position.document(),
            "follows": names,
            "problem": "",
            "do": "",
            "dirty": {},
            "loads": {},
            "stopped": {name: _unloaded(name, position) for name in names},
        }
        with outages(), suppress(DuplicateKeyError):
            where = {"_id": LOG, "$or": earlier}
            self._collection.update_one(where, {"$set": fields}, upsert=True)
            return True
        return False

    def begin_anew(self, owner: Owner, position: Position) -> None:
        """Let the log be read from here on, where nothing is written that it says."""
        self._state.keep(LOG, owner, {"position": position.document(), "problem": "", "do": ""})

    def raise_epoch(self, position: Position, epoch: int) -> bool:
        """Go on at the same place with versions of another epoch, above all others; False where it
        is another place meanwhile."""
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, "position.epoch": position.epoch}, {"$set": {"position.epoch": epoch}}
            )
            return found.matched_count == 1

    def leave(self, entity: str) -> bool:
        """Forget an entity whose versions are another's now; False while a process that reads the
        log applies its changes."""
        unset = {f"{place}.{entity}": "" for place in ("dirty", "stopped", "loads")}
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, "$or": [*_unread(), {"follows": {"$ne": entity}}]},
                {"$pull": {"follows": entity}, "$unset": unset},
            )
            return found.matched_count == 1 or self._state.get(LOG) is None

    def load(self, entity: str) -> bool:
        """Before an entity is loaded: see to it that whoever reads the log passes over none of its
        changes; False where a process reads it that does not know the entity."""
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, "$or": [*_unread(), {"follows": entity}]},
                {"$addToSet": {"follows": entity}},
            )
            return found.matched_count == 1

    def healed(self, entity: str, mark: Dirty) -> bool:
        """Take a mark away, unless another one is there by now."""
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, f"dirty.{entity}": asdict(mark)},
                {"$unset": {f"dirty.{entity}": ""}},
            )
            return found.modified_count == 1

    def loaded(self, entity: str, sequence: int) -> bool:
        """Say that MongoDB has all of it, as it was after this transaction or later: what happened
        to it before is no matter any more. False where nobody has applied its changes since."""
        loads = {"sequence": {"$max": [f"$loads.{entity}.sequence", sequence]}}
        covered = {
            place: {"$cond": [{"$gt": [f"${place}.sequence", sequence]}, f"${place}", "$$REMOVE"]}
            for place in (f"dirty.{entity}", f"stopped.{entity}")
        }
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, "follows": entity},
                [{"$set": {f"loads.{entity}": loads, **covered}}],
            )
            return found.matched_count == 1

    def compared(self, entity: str, more: Tally) -> None:
        """Count what was compared of an entity, in addition to what was before."""
        place = f"compared.{entity}"
        counted = {
            f"{place}.{name}": number
            for name, number in asdict(more).items()
            if isinstance(number, int)
        }
        change: Document = {"$inc": counted}
        if more.why:
            change["$set"] = {f"{place}.why": more.why[:200]}
            change["$currentDate"] = {f"{place}.at": True}
        with outages():
            self._collection.update_one({"_id": LOG}, change)

    def cannot(self, owner: Owner, problem: str, do: str, epoch: int | None = None) -> None:
        """Say why the log is not read any further.

        owner: who says it, while it reads.
        problem, do: why, and what a person is to do, empty for nothing.
        epoch: of the place that it was read from. Where a load has begun another one meanwhile, it
            is no problem any more. None: of any.
        """
        where: Document = {"_id": LOG, "owner.id": owner.id}
        if epoch is not None:
            where["position.epoch"] = epoch
        fields = {name: {"$literal": text} for name, text in (("problem", problem), ("do", do))}
        with outages():
            self._collection.update_one(where, [{"$set": {**fields, "beat": "$$NOW"}}])


def _unread() -> list[Document]:
    """That no process reads the log: one of these."""
    silent = {"$expr": {"$lt": ["$beat", {"$subtract": ["$$NOW", int(LEASE * 1000)]}]}}
    return [{"owner": None}, silent]


def _unloaded(entity: str, position: Position) -> Document:
    do = f"bridgectl snapshot {entity}"
    return asdict(Halted(str(position), position.sequence, "it has not been loaded", do))


def _unless_loaded(place: str, entity: str, one: Dirty | Halted) -> Document:
    """As an expression: this, where the entity was not loaded as it is after it."""
    covered = {"$gte": [f"$loads.{entity}.sequence", one.sequence]}
    return {"$cond": [covered, f"${place}", {"$literal": asdict(one)}]}
