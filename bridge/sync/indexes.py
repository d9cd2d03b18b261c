"""The indexes that the mirror needs and that sync.yaml declares.

`plan` says what is there and what is missing, `run` makes it. Names of ours begin with `bridge_`;
an index of another name is never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from bridge.errors import BridgeError
from bridge.sync.documents import Document, Mirror
from bridge.sync.entities import TOMBSTONES, TWINS
from bridge.sync.models import TWIN, Index
from bridge.sync.mongodb import TOMBSTONE_SECONDS, as_outage, message_of
from bridge.sync.twins import DUPLICATE_KEY, MARKED, mark_doubles

__all__ = ["Action", "Step", "declared", "ensure", "plan", "run"]

Action = Literal["create", "replace", "retire", "keep", "in the way", "no longer declared"]
"""retire: a unique index of an earlier release, which refuses what a mirror must bear. It goes when
those that are declared are there, also at the start of a worker."""
Fields = tuple[tuple[str, Any], ...]

OURS = "bridge_"
NAMESPACE_NOT_FOUND = 26
INDEX_NOT_FOUND = 27
INDEX_CONFLICTS = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict
TRIES = 5
"""To make a unique index while others write documents that are like others."""
# What of an index decides whether it is the one that was meant.
OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression", "collation")
# Two indexes with the same fields may exist side by side if they differ in one of these.
TOLD_APART = ("unique", "sparse", "partialFilterExpression", "collation")


@dataclass(frozen=True, slots=True)
class Declared:
    """One index as it should be. options: as MongoDB takes them."""

    collection: str
    name: str
    fields: Fields
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One index and what is to be done. note: what a person should know."""

    collection: str
    index: str
    action: Action
    fields: str
    note: str = ""


def declared(mirror: Mirror) -> list[Declared]:
    """All indexes that should be there, in the order of sync.yaml."""
    wanted = []
    for name, entity in mirror.entities.items():
        indexes = [*entity.indexes]
        if name in mirror.parent_of:
            # A parent's children are swept by what is older than the parent.
            indexes.insert(0, Index(fields=("_parent", "_v")))
        tombstones = {
            "expireAfterSeconds": TOMBSTONE_SECONDS,
            "partialFilterExpression": {"_del": True},
        }
        wanted.append(Declared(entity.collection, TOMBSTONES, (("_at", 1),), tombstones))
        wanted += [_declared(entity.collection, index) for index in dict.fromkeys(indexes)]
        if any(index.unique for index in indexes):
            marked = {"partialFilterExpression": MARKED}
            wanted.append(Declared(entity.collection, TWINS, ((TWIN, 1),), marked))
    return wanted


def _declared(collection: str, index: Index) -> Declared:
    options: dict[str, Any] = {}
    if index.unique:
        # Tombstones have none of the fields, and are many.
        there = {field: {"$exists": True} for field, _ in index.named}
        options = {"unique": True, "partialFilterExpression": there}
    return Declared(collection, index.name, tuple(index.keys), options)


def plan(database: Database[Document], mirror: Mirror) -> list[Step]:
    """What `run` would do, each index one step. Raises ServerAway."""
    return [step for step, _ in _plan(database, mirror)]


def _plan(database: Database[Document], mirror: Mirror) -> list[tuple[Step, Declared | None]]:
    wanted = declared(mirror)
    steps: list[tuple[Step, Declared | None]] = []
    for entity in mirror.entities.values():
        members = [one for one in wanted if one.collection == entity.collection]
        steps += _compare(entity.collection, members, _there(database, entity.collection))
    return steps


def _there(database: Database[Document], collection: str) -> list[Mapping[str, Any]]:
    try:
        return [dict(index) for index in database[collection].list_indexes()]
    except PyMongoError as error:
        if isinstance(error, OperationFailure) and error.code == NAMESPACE_NOT_FOUND:
            return []
        raise as_outage(error) from error


def _compare(
    collection: str, wanted: Sequence[Declared], there: Iterable[Mapping[str, Any]]
) -> list[tuple[Step, Declared | None]]:
    by_name = {str(index["name"]): index for index in there}
    steps: list[tuple[Step, Declared | None]] = []
    for one in wanted:
        action, note = _action(one, by_name)
        steps.append((Step(collection, one.name, action, _show(one.fields), note), one))
    names = {one.name for one in wanted}
    for name, index in by_name.items():
        if name.startswith(OURS) and name not in names and _refuses_twins(index):
            note = "a unique index of an earlier release, which would refuse documents"
            step = Step(collection, name, "retire", _show(_fields(index)), note)
            steps.append((step, None))
        elif name.startswith(OURS) and name not in names:
            note = f"it stays until you drop it: {_drop(collection, name)}"
            fields = _show(_fields(index))
            steps.append((Step(collection, name, "no longer declared", fields, note), None))
    return steps


def _action(one: Declared, there: Mapping[str, Mapping[str, Any]]) -> tuple[Action, str]:
    if (same := there.get(one.name)) is not None:
        if _fields(same) == one.fields and _options(same) == one.options:
            return "keep", ""
        found = f"now {_show(_fields(same))}{_words(_options(same))}"
        return "retire" if _refuses_twins(same) else "replace", found
    for name, other in there.items():
        if _fields(other) != one.fields:
            continue
        if _options(other) == one.options:
            return "keep", f"there as {name}"
        if _options(other, TOLD_APART) == {
            option: value for option, value in one.options.items() if option in TOLD_APART
        }:
            drop = _drop(one.collection, name)
            return "in the way", f"{name} has other options{_words(_options(other))}; {drop}"
    return "create", ""


def _refuses_twins(index: Mapping[str, Any]) -> bool:
    return bool(index.get("unique")) and TWIN not in index["key"]


def _fields(index: Mapping[str, Any]) -> Fields:
    # MongoDB gives directions back as it got them, which may be 1.0.
    return tuple((field, direction) for field, direction in index["key"].items())


def _options(index: Mapping[str, Any], which: Sequence[str] = OPTIONS) -> dict[str, Any]:
    # 0 is a value: expireAfterSeconds.
    return {
        name: _plain(found)
        for name in which
        if (found := index.get(name)) is not None and found is not False
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _show(fields: Fields) -> str:
    return ", ".join(field if direction != -1 else f"-{field}" for field, direction in fields)


def _words(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}: {value}" for name, value in options.items())


def _drop(collection: str, name: str) -> str:
    return f'db["{collection}"].dropIndex("{name}")'


def ensure(database: Database[Document], mirror: Mirror) -> None:
    """Create what is missing, and retire what would refuse documents; nothing else is changed. For
    the start of a worker. Raises ServerAway, or BridgeError where an index differs from what is
    declared."""
    steps = _plan(database, mirror)
    _check(step for step, _ in steps)
    for step, _ in steps:
        if step.action == "replace":
            raise BridgeError(
                f"the index {step.index} of {step.collection} is not as sync.yaml declares it "
                f"({step.note}): run `bridgectl sync init`, which replaces it"
            )
    _make(database, steps)


def run(database: Database[Document], mirror: Mirror) -> list[Step]:
    """Create what is missing and replace what differs; gives back what was found before.

    Safe to repeat, and while workers run. Raises ServerAway, or BridgeError where an index is in
    the way, before anything is changed. Documents with the same in a unique index are marked as
    twins.
    """
    steps = _plan(database, mirror)
    _check(step for step, _ in steps)
    _make(database, steps)
    return [step for step, _ in steps]


def _check(steps: Iterable[Step]) -> None:
    for step in steps:
        if step.action == "in the way":
            raise BridgeError(
                f"the index {step.index} of {step.collection} cannot be made, because another one "
                f"is in the way: {step.note}"
            )


def _make(database: Database[Document], steps: Iterable[tuple[Step, Declared | None]]) -> None:
    for step, one in steps:
        if step.action not in ("create", "replace", "retire"):
            continue
        try:
            if step.action != "create":
                _drop_index(database[step.collection], step.index)
            if one is not None:
                _create(database[one.collection], one)
        except OperationFailure as error:
            where = f"the index {step.index} of {step.collection} cannot be made"
            if error.code in INDEX_CONFLICTS:
                text = f"{where}: {message_of(error)} Drop what is in the way."
                raise BridgeError(text) from error
            if error.code == DUPLICATE_KEY:
                text = f"{where}: its values are not unique: {message_of(error)}"
                raise BridgeError(text) from error
            raise as_outage(error) from error
        except PyMongoError as error:
            raise as_outage(error) from error


def _create(collection: Collection[Document], one: Declared) -> None:
    for tries in range(TRIES):
        try:
            collection.create_index(list(one.fields), name=one.name, **one.options)
            return
        except OperationFailure as error:
            if error.code != DUPLICATE_KEY or tries == TRIES - 1:
                raise
        mark_doubles(collection, [field for field, _ in one.fields if field != TWIN])


def _drop_index(collection: Collection[Document], name: str) -> None:
    try:
        collection.drop_index(name)
    except OperationFailure as error:
        if error.code != INDEX_NOT_FOUND:  # somebody else was faster
            raise
