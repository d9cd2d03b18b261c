"""What may stand in sync.yaml: frozen models that forbid unknown keys.

How the parts have to fit each other, and what the file refers to, is checked by
`bridge.sync.entities`, which knows the places in the file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from bridge.entity import ENTITY
from bridge.queue.events import MAX_EVENT_BYTES
from bridge.queue.sources import COLUMN, Identifier, OutboxTable, SqlQueue, TableName
from bridge.sync.charsets import codec_of
from bridge.units import Duration, Model, Size, text

__all__ = [
    "COLLECTION",
    "MAX_DOCUMENT",
    "TWIN",
    "Child",
    "Conversion",
    "Entity",
    "FieldRule",
    "File",
    "Index",
    "Reconcile",
    "Source",
]

MAX_DOCUMENT = 16 * 1024 * 1024
"""Bytes of BSON: MongoDB's own limit of one document."""

TWIN = "_twin"
"""The last field of every unique index; see `bridge.sync.twins`."""

Conversion = Literal[
    "string",
    "integer",
    "number",
    "boolean",
    "date",
    "time",
    "datetime",
    "decimal",
    "binary",
    "json",
]
Misfit = Literal["text", "null", "dead"]
Owner = Literal["column", "beside", "log"]

_FIELD = re.compile(r"[^_$.\0][^.\0]*")
COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,119}")
_INDEXED = re.compile(r"-?[^$\0-][^\0]*")
_HOOK = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

EntityName = Annotated[str, text(ENTITY, "name of an entity", "project")]
FieldName = Annotated[str, text(_FIELD, "name of a field (no dot, no _ or $ first)", "summary")]
CollectionName = Annotated[str, text(COLLECTION, "name of a collection", "projects")]
IndexedField = Annotated[str, text(_INDEXED, "field to index", "-updated")]
HookName = Annotated[str, text(_HOOK, "name of a Python function", "shop.mirror:project")]


def _one_or_more(pattern: str) -> list[Any]:
    """Annotations for a list that may be written as its only member."""
    one = {"type": "string", "pattern": pattern}
    many = {"type": "array", "items": one, "minItems": 1}
    return [BeforeValidator(_some), WithJsonSchema({"anyOf": [one, many]})]


def _some(found: Any) -> Any:
    if isinstance(found, list) and not found:
        raise ValueError("is empty; name one or more")
    return (found,) if isinstance(found, str) else found


def _one_word(found: Any) -> Any:
    """One error and not one for each of the two that it may be."""
    if isinstance(found, bool) or found == "compare":
        return found
    raise ValueError("the log is the source, or only compared; write true, or compare, or leave it")


def _known_zone(found: str) -> str:
    try:
        ZoneInfo(found)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise ValueError(
            f"there is no time zone {found!r}; write for example Europe/Berlin or UTC"
        ) from None
    return found


def _known_charset(found: str) -> str:
    codec_of(found)
    return found


Zone = Annotated[str, AfterValidator(_known_zone)]
Charset = Annotated[str, AfterValidator(_known_charset)]


class _Model(Model):
    model_config = ConfigDict(populate_by_name=True)


class Source(_Model):
    """Where the rows of an entity are, in the database of BRIDGE_SQL_URL.

    table or query: one of the two. key: the column, or columns, that name the row; joined with
    `/` they are the key of the events. version: the column that grows with every change.
    Without it versions are in a table of ours (`bridgectl sync triggers`). log: whether changes
    and versions come from the database's own log; `compare`: they come by the other way, and what
    the log tells is only compared. deleted: a column that is true in rows that stand for a
    deletion. columns: field of the data to column; without it, all columns but version and deleted
    under their own names.
    """

    table: TableName | None = None
    query: str | None = None
    key: Annotated[
        tuple[Identifier, ...],
        *_one_or_more(f"^{COLUMN}$"),
    ]
    version: Identifier | None = None
    log: Annotated[bool | Literal["compare"], BeforeValidator(_one_word)] = False
    deleted: Identifier | None = None
    columns: dict[FieldName, Identifier] = Field(default_factory=dict)

    @property
    def owner(self) -> Owner:
        """Who gives the versions of the rows: a `column` of theirs, the bridge's table `beside`
        theirs, or the `log` of the database."""
        if self.log is True:
            return "log"
        return "column" if self.version is not None else "beside"

    @model_validator(mode="after")
    def _one_of(self) -> Source:
        if (self.table is None) == (self.query is None):
            raise ValueError("give one place of the rows; write table or query")
        if self.log and self.query is not None:
            raise ValueError(
                "the log has the rows of tables, and not those of a query; write table, or leave "
                "log out"
            )
        if self.log is True and self.version is not None:
            raise ValueError(
                "the log gives the versions; leave version out, or write log: compare, which "
                "gives none"
            )
        if self.version is None and self.table is None:
            raise ValueError(
                "the rows of a query need a version: select it, and write `version:` its name"
            )
        return self


class Text(_Model):
    """What the bytes of a text really are. stored: the character set that they are in. column: the
    one that the column is declared with, which is checked; `binary` for a column without one."""

    stored: Charset
    column: str | None = None


class FieldRule(_Model):
    """What becomes of one field of the data. as: its name in the document. type: its type there,
    instead of what the column of a table has; without a table None leaves it as it came. zone: the
    time zone of texts that name none. misfit: what becomes of a value that does not fit. text:
    for text whose bytes are in another character set than the column says."""

    as_: FieldName | None = Field(None, alias="as")
    type: Conversion | None = None
    zone: Zone | None = None
    misfit: Misfit | None = None
    text: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, found: Any) -> Any:
        return {"type": found} if isinstance(found, str) else found

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        whole: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        kinds = {"enum": list(Conversion.__args__)}  # type: ignore[attr-defined]
        return {"anyOf": [kinds, whole]}


class Index(_Model):
    """An index of the collection. fields: `-` in front is descending."""

    fields: Annotated[tuple[IndexedField, ...], BeforeValidator(_some)]
    unique: bool = False

    @model_validator(mode="before")
    @classmethod
    def _short(cls, found: Any) -> Any:
        if isinstance(found, str):
            return {"fields": [found]}
        return {"fields": found} if isinstance(found, list) else found

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        whole: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        names = whole["properties"]["fields"]
        return {"anyOf": [names["items"], names, whole]}

    @property
    def named(self) -> list[tuple[str, int]]:
        """The fields that sync.yaml names, with their direction, 1 or -1."""
        return [(name.removeprefix("-"), -1 if name[0] == "-" else 1) for name in self.fields]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Field and direction as MongoDB takes them."""
        return [*self.named, *([(TWIN, 1)] if self.unique else [])]

    @property
    def name(self) -> str:
        """Its name in MongoDB: `bridge_` and what it is about."""
        words = [field if direction == 1 else f"{field}_desc" for field, direction in self.named]
        return "_".join(["bridge", *words, *(["unique"] if self.unique else [])])


class Child(_Model):
    """A list in the data whose members become documents of their own.

    entity: what they are. key: the field, or fields, of a member that name it within its parent.
    """

    entity: EntityName
    key: Annotated[tuple[FieldName, ...], *_one_or_more("^[^_$.][^.]*$")]


class Entity(_Model):
    """What is mirrored to one collection.

    schema: JSON Schema of the data of its events, or a path to one beside sync.yaml. fields: new
    names and types. drop: fields that are left out. hook: `module:function`, called with the data
    after that and with the event; what it returns is stored. indexes: of the collection.
    children: field of the data to what its members are.
    """

    collection: CollectionName
    source: Source | None = None
    schema_: dict[str, Any] | str | None = Field(None, alias="schema")
    fields: dict[FieldName, FieldRule] = Field(default_factory=dict)
    drop: tuple[FieldName, ...] = ()
    hook: HookName | None = None
    indexes: tuple[Index, ...] = ()
    children: dict[FieldName, Child] = Field(default_factory=dict)


class Reconcile(_Model):
    """When a worker compares both sides by itself. every: from one end to the next beginning.
    rate: rows a second, at most. repair: whether it also repairs."""

    every: Duration
    rate: int = Field(5000, ge=1)
    repair: bool = False


class File(Model):
    """All of sync.yaml.

    zone: the time zone in which PHP's texts of TIMESTAMP columns are. outbox: the table that PHP
    writes its changes to. spool: directories that it writes them to where it has no transaction.
    queues: SQL queue tables of the site's own, emptied into the outbox. lists: Redis lists that
    programs fill in the format of Kombu's stock transport. entities: what is mirrored, by the name
    in events. max_document: bytes of BSON of one document. reconcile: None: only when somebody
    asks.
    """

    version: Literal[1]
    zone: Zone | None = None
    outbox: OutboxTable = Field(default_factory=OutboxTable)
    spool: list[str] = Field(default_factory=list)
    queues: list[SqlQueue] = Field(default_factory=list)
    lists: list[str] = Field(default_factory=list)
    entities: dict[EntityName, Entity] = Field(default_factory=dict)
    max_document: Size = MAX_EVENT_BYTES
    reconcile: Reconcile | None = None

    @property
    def max_event(self) -> int:
        """Bytes of JSON of one event: twice max_document where that was raised.

        Text has as many bytes in JSON as in BSON, numbers up to two and a half times as many,
        bytes in base64 a third more; only escapes are worse, six for one. So twice as many leave
        room for nearly every document that MongoDB takes, and bound what a program has in memory.
        """
        raised = self.max_document > MAX_EVENT_BYTES
        return 2 * self.max_document if raised else MAX_EVENT_BYTES
