"""What MongoDB keeps of the log: how far it is applied, and what of the tables is not as it says.

One document, `log` in `bridge_state`. It is written after what it covers, in one step: whoever
reads a position there finds beside it which entities are not that far.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pymongo.database import Database

from bridge.sync.documents import Document
from bridge.sync.entities import STATE
from bridge.sync.log.position import Position
from bridge.sync.mongodb import MAJORITY, majority, outages
from bridge.sync.reached import LOG
from bridge.sync.state import Owner, State

__all__ = ["LOG", "Dirty", "Halted", "Kept", "KeptLog"]

MOST_VALUES = 1000
"""Values of a field by which rows are named; where there are more, it is the whole entity."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Rows of an entity that something happened to which the log does not show.

    since, sequence: the transaction; what SQL has after it is right. why: in words. keys: field to
    its values in the rows that are meant; None for all rows.
    """

    since: str
    sequence: int
    why: str
    keys: Mapping[str, Sequence[Any]] | None = None

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
        return Dirty(later.since, later.sequence, why[:200], keys)


@dataclass(frozen=True, slots=True)
class Halted:
    """An entity whose rows cannot be read. do: the command that heals it."""

    since: str
    sequence: int
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The document. position: None before anybody has read the log. problem: why nobody reads on,
    and do: what a person is to do; both empty while all is well."""

    position: Position | None = None
    dirty: Mapping[str, Dirty] = field(default_factory=dict)
    halted: Mapping[str, Halted] = field(default_factory=dict)
    problem: str = ""
    do: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> Self:
        """As it was kept. Raises BridgeError for a position that cannot be read."""
        found = document or {}
        position = found.get("position")
        return cls(
            None if position is None else Position.of(position),
            {name: Dirty(**one) for name, one in (found.get("dirty") or {}).items() if one},
            {name: Halted(**one) for name, one in (found.get("stopped") or {}).items() if one},
            found.get("problem") or "",
            found.get("do") or "",
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

    def keep(
        self,
        owner: Owner,
        position: Position | None = None,
        dirty: Mapping[str, Dirty] | None = None,
        halted: Mapping[str, Halted | None] | None = None,
    ) -> bool:
        """Say how far it is, with a sign of life; False where another one reads it now.

        position: None for the same as before.
        dirty, halted: the entities of which something new is to be said; None: halted no more.
        """
        fields: Document = {}
        if position is not None:
            fields |= {"position": position.document(), "problem": "", "do": ""}
        for name, one in (dirty or {}).items():
            fields[f"dirty.{name}"] = asdict(one)
        for name, stop in (halted or {}).items():
            fields[f"stopped.{name}"] = None if stop is None else asdict(stop)
        return self._state.keep(LOG, owner, fields) is not None

    def begin(self, position: Position) -> None:
        """Let the log be read from here on, whatever was there: for a load into which all that the
        log has told so far goes, or for another history."""
        fields = {"position": position.document(), "problem": "", "do": "", "stopped": {}}
        with outages():
            self._collection.update_one({"_id": LOG}, {"$set": fields}, upsert=True)

    def healed(self, entity: str, mark: Dirty) -> bool:
        """Take a mark away, unless more was found since."""
        with outages():
            found = self._collection.update_one(
                {"_id": LOG, f"dirty.{entity}.sequence": mark.sequence},
                {"$unset": {f"dirty.{entity}": ""}},
            )
            return found.modified_count == 1

    def loaded(self, entity: str) -> None:
        """Rows of it can be read again, and all of them were."""
        with outages():
            self._collection.update_one({"_id": LOG}, {"$unset": {f"stopped.{entity}": ""}})

    def cannot(self, owner: Owner, problem: str, do: str) -> None:
        """Say why the log is not read any further."""
        self._state.keep(LOG, owner, {"problem": problem, "do": do})
