"""What an event becomes under sync.yaml: the documents that MongoDB is to hold.

Pure: nothing here talks to a server. One event is one document, and one more for each member of
the lists that sync.yaml splits out of it. Writing them is `bridge.sync.apply`.

The steps: (1) check the data with the schema, (2) split the children off, (3) leave out, rename,
convert, (4) call the hook.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bridge.errors import ConfigError, Problem, UnusableEvent
from bridge.importing import ImportFailed, import_callable
from bridge.queue.events import MAX_KEY_BYTES, Event
from bridge.settings import Settings
from bridge.sync.entities import compile_schema, read
from bridge.sync.models import Child, Entity, File
from bridge.sync.types.keys import KINDS, Unlookable, join, split
from bridge.sync.types.rules import field_convert, misfitting
from bridge.sync.types.typed import Typed
from bridge.sync.types.values import binary

__all__ = ["Document", "Mirror", "Prepared", "Write"]

Document = dict[str, Any]
Hook = Callable[[Document, Event], Document]


class Write(NamedTuple):
    """One guarded write. document: whole, with `_id` and `_v`; a tombstone has `_del`."""

    collection: str
    key: str
    version: int
    document: Document
    rewrite: bool


class Prepared(NamedTuple):
    """What one event is to do: its own document, those of its children, and the collections in
    which children that it does not name have vanished."""

    event: Event
    own: Write
    children: tuple[Write, ...] = ()
    child_collections: tuple[str, ...] = ()


class Mirror:
    """sync.yaml, ready to be applied. Raises ImportFailed when a hook cannot be imported."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.entities: Mapping[str, Entity] = file.entities
        self.parent_of: Mapping[str, str] = {
            child.entity: name
            for name, entity in file.entities.items()
            for child in entity.children.values()
        }
        self._types: dict[str, Typed | None] = {}
        self._shapes = {name: self._shape_of(name) for name in file.entities}

    @classmethod
    def of(cls, settings: Settings) -> Mirror:
        """That of BRIDGE_SYNC. Raises ConfigError with every error, also of hooks."""
        file, yaml = read(settings.sync)
        problems: list[Problem] = []
        for name, entity in file.entities.items():
            if entity.hook and yaml:
                try:
                    import_callable(entity.hook, "hook")
                except ImportFailed as error:
                    where = ("entities", name, "hook")
                    problems.append(yaml.problem(where, str(error), error.hint))
        if problems:
            raise ConfigError(problems)
        return cls(file)

    def typed(self, entity: str) -> Typed | None:
        """What is known of the entity's table; None where nothing is, or it has none."""
        return self._types.get(entity)

    def learn(self, entity: str, types: Typed | None) -> None:
        """From now on, documents of this entity have these types. None: forget them."""
        self._types[entity] = types
        for name in (entity, *self.parent_of.get(entity, "").split()):
            self._shapes[name] = self._shape_of(name)

    def key_of(self, entity: str, key: str) -> str:
        """The key under which a document is, of one that a producer wrote. Raises Unlookable."""
        types = self._types.get(entity)
        return key if types is None else types.canonical(key)

    def _shape_of(self, name: str) -> _Shape:
        return _Shape.of(name, self.file.entities, self._types)

    def collection_of(self, entity: str) -> str:
        """Where an entity is mirrored to. Raises UnusableEvent."""
        return self._shape(entity).collection

    def prepare(self, event: Event) -> Prepared:
        """The documents of an event. Raises UnusableEvent."""
        shape = self._shape(event.entity)
        if (parent := self.parent_of.get(event.entity)) is not None:
            raise UnusableEvent(
                f"{event.entity} comes with its {parent}: send an event of the {parent}, or remove "
                f"it from the children of {parent} in sync.yaml"
            )
        collections = tuple(child.collection for _, _, child in shape.children)
        version = event.version
        try:
            key = self.key_of(event.entity, event.key)
        except Unlookable as error:
            raise UnusableEvent(f"no row has the key {_short(ascii(event.key))}: {error}") from None
        if event.data is None:
            gone: Document = {"_id": key, "_v": version, "_del": True}
            own = Write(shape.collection, key, version, gone, event.rewrite)
            return Prepared(event, own, (), collections)
        shape.check(event.data, "data")
        data = dict(event.data)
        children: list[Write] = []
        for field, child, inner in shape.children:
            members = _members(data, field)
            children += _split(event, key, field, child, inner, members)
        document = {"_id": key, "_v": version, **shape.document(data, event)}
        own = Write(shape.collection, key, version, document, event.rewrite)
        return Prepared(event, own, tuple(children), collections)

    def _shape(self, entity: str) -> _Shape:
        try:
            return self._shapes[entity]
        except KeyError:
            known = ", ".join(sorted(self._shapes)) or "none"
            text = f"{entity} is mirrored nowhere; entities of sync.yaml: {known}"
            raise UnusableEvent(text) from None


Conversion = tuple[str, Callable[[Any], Any], str]
"""Field, function, and what becomes of a value that does not fit."""


class _Conversions:
    """Which fields have to be converted. That hangs on the types of their values alone, and few
    events of an entity differ in these.

    every: each field with a type whose values stay as they are.
    """

    __slots__ = ("_every", "_fields", "_known")

    def __init__(self, every: Sequence[tuple[type | None, Conversion]]) -> None:
        self._every = every
        self._fields = [conversion[0] for _, conversion in every]
        self._known: dict[tuple[type, ...], list[Conversion]] = {}

    def of(self, data: Document) -> list[Conversion]:
        """Those that these data need."""
        types = tuple(map(type, map(data.get, self._fields)))
        if (found := self._known.get(types)) is None:
            if len(self._known) >= MOST_KINDS:
                self._known.clear()
            found = self._known[types] = [
                conversion
                for kind, (plain, conversion) in zip(types, self._every, strict=True)
                if kind is not plain and kind is not type(None)
            ]
        return found


MOST_KINDS = 1000
"""Combinations of types that are remembered of an entity."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """One entity, compiled. types: of its table, where they are known. width:
    columns of the key of its table; 0 where it has none."""

    collection: str
    schema: Any
    drop: frozenset[str]
    names: Mapping[str, str]
    conversions: _Conversions
    hook_name: str
    hook: Hook | None
    types: Typed | None
    width: int
    children: tuple[tuple[str, Child, _Shape], ...]

    @classmethod
    def of(
        cls, name: str, entities: Mapping[str, Entity], types: Mapping[str, Typed | None]
    ) -> _Shape:
        entity = entities[name]
        schema = entity.schema_
        return cls(
            collection=entity.collection,
            schema=compile_schema(schema) if isinstance(schema, dict) else None,
            drop=frozenset(entity.drop),
            names={field: rule.as_ for field, rule in entity.fields.items() if rule.as_},
            conversions=_Conversions(list(_conversions(entity, types.get(name)))),
            hook_name=entity.hook or "",
            hook=import_callable(entity.hook, "hook") if entity.hook else None,
            types=types.get(name),
            width=0 if entity.source is None else len(entity.source.key),
            children=tuple(
                (field, child, cls.of(child.entity, entities, types))
                for field, child in entity.children.items()
            ),
        )

    def check(self, data: object, place: str) -> None:
        """(1)"""
        if self.schema is None or self.schema.is_valid(data):
            return
        error = next(iter(self.schema.iter_errors(data)))
        where = "".join(
            f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path
        )
        raise UnusableEvent(f"schema: {place}{where}: {_short(error.message)}")

    def document(self, data: Document, event: Event) -> Document:
        """(3) and (4); `data` is ours to change."""
        for field in self.drop:
            data.pop(field, None)
        for field, convert, misfit in self.conversions.of(data):
            value = data[field]
            try:
                data[field] = convert(value)
            except ValueError as error:
                data[field] = misfitting(value, misfit, f"data.{field}", error, convert)
        if self.names:
            renamed: Document = {}
            for field, value in data.items():
                name = self.names.get(field, field)
                if name != field and name in data and name not in self.names:
                    raise UnusableEvent(f"data.{field} becomes {name}, which is there, too")
                renamed[name] = value
            data = renamed
        return data if self.hook is None else self._hooked(data, event)

    def _hooked(self, data: Document, event: Event) -> Document:
        assert self.hook is not None
        try:
            found = self.hook(data, event)
        except Exception as error:
            text = f"the hook {self.hook_name} failed: {type(error).__name__}: {error}"
            raise UnusableEvent(_short(text)) from error
        if not isinstance(found, dict):
            text = f"gave {type(found).__name__}, and must give the document as a dict"
            raise UnusableEvent(f"the hook {self.hook_name} {text}")
        for name in found:
            if not isinstance(name, str) or name[:1] in ("_", "$", "") or "\0" in name:
                text = (
                    f"gave a field {_short(ascii(name))}; names with _ or $ first are not its own"
                )
                raise UnusableEvent(f"the hook {self.hook_name} {text}")
        return found


def _members(data: Document, field: str) -> list[Any]:
    if field not in data:
        text = "is missing: an event has all that there are, [] when there are none"
        raise UnusableEvent(f"data.{field} {text}")
    members = data.pop(field)
    if not isinstance(members, list):
        raise UnusableEvent(f"data.{field} must be a list of objects")
    return members


def _conversions(entity: Entity, types: Typed | None) -> Iterator[tuple[type | None, Conversion]]:
    """What becomes of which field."""
    known = {} if types is None else types.rules
    for field, rule in known.items():
        if field not in entity.drop:
            yield rule.plain, (field, rule.convert, rule.misfit)
    for field, said in entity.fields.items():
        if field not in known and (convert := field_convert(said)) is not None:
            yield None, (field, convert, said.misfit or "dead")


def _split(
    event: Event, owner: str, field: str, child: Child, shape: _Shape, members: list[Any]
) -> list[Write]:
    """(2) The documents of the members of one list. owner: the key of the parent."""
    writes, seen = [], set()
    for number, member in enumerate(members):
        place = f"data.{field}[{number}]"
        if not isinstance(member, dict):
            raise UnusableEvent(f"{place} must be an object")
        for name in member:
            if name.startswith("_"):
                raise UnusableEvent(f"{place}.{name}: names with _ first are the mirror's own")
        shape.check(member, place)
        key = _child_key(owner, member, child, shape, place)
        if key in seen:
            raise UnusableEvent(f"{place} is named like another one: {_short(ascii(key))}")
        if len(key.encode()) > MAX_KEY_BYTES:
            raise UnusableEvent(f"{place}: its key has more than {MAX_KEY_BYTES} bytes of UTF-8")
        seen.add(key)
        inner = shape.document(dict(member), event)
        document = {"_id": key, "_v": event.version, "_parent": owner, **inner}
        writes.append(Write(shape.collection, key, event.version, document, event.rewrite))
    return writes


def _child_key(owner: str, member: Document, child: Child, shape: _Shape, place: str) -> str:
    own = [_part(member, name, place) for name in child.key]
    if (width := shape.width - len(own)) < 1:
        return "/".join([owner, *own])
    parts = [owner, *own]
    try:
        parts = [*split(owner, width), *own]
        if shape.types is None:
            return join(parts)
        key = shape.types.key
        for place_, name in enumerate(child.key, width):
            if key[place_].kind is KINDS["bytes"]:
                parts[place_] = binary(member[name]).hex()
        return join([column.canonical(part) for column, part in zip(key, parts, strict=True)])
    except ValueError as error:
        raise UnusableEvent(
            f"{place}: no row has the key {_short(ascii(parts))}: {error}"
        ) from None


def _part(member: Document, name: str, place: str) -> str:
    value = member.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnusableEvent(f"{place}.{name} must name it, as text or a whole number")
    return str(value)


def _short(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "..."
