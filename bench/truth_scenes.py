"""The scenes of `bench.truth`: tables of several shapes in a site's database, and their mirror.

A scene is small, is the same at every beginning, and can be damaged in whatever way: `reset` makes
both sides anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.sync.apply import apply
from bridge.sync.checksums import BUCKETS
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.mongodb import TOLERANT
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows
from bridge.sync.types import catalog

__all__ = ["SHAPES", "Scene", "Shape"]

ROWS = 24
DEAD = 3
"""Tombstones."""
VERSION = 5
BASE, ENTRY, GONE = 1000, 2000, 3000
"""Versions beside the table: of rows without an entry, of entries, of entries without a row."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Shape:
    """A kind of entity. columns: of its key, with the type of each database. key: of row `number`.
    text: its key text. source: more of its source in sync.yaml. extra: more columns. unique:
    whether the key is the primary key."""

    name: str
    columns: dict[str, dict[str, str]]
    key: Callable[[int], Key]
    text: Callable[[Key], str]
    source: str = ", version: ver"
    extra: tuple[str, ...] = ("ver BIGINT",)
    unique: bool = True

    @property
    def beside(self) -> bool:
        """Whether versions are beside the table."""
        return self.name == "beside"


def _every(kind: str) -> dict[str, str]:
    return dict.fromkeys(("mysql", "postgresql", "sqlite"), kind)


def _first(key: Key) -> str:
    return str(key[0])


_INTEGER = {"id": _every("INTEGER")}
_WORD = {
    "mysql": "VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
    "postgresql": "VARCHAR(100)",
    "sqlite": "VARCHAR(100) COLLATE NOCASE",
}
_BYTES = {"mysql": "VARBINARY(16)", "postgresql": "BYTEA", "sqlite": "BLOB"}

SHAPES = {
    one.name: one
    for one in (
        Shape("number", _INTEGER, lambda n: (n,), _first),
        Shape("word", {"name": _WORD}, lambda n: (f"Wörd {n}x",), _first),
        Shape(
            "bytes",
            {"id": _BYTES},
            lambda n: (n.to_bytes(2) + b"\xab\0",),
            lambda key: key[0].hex(),
        ),
        Shape(
            "pair",
            {"part": _every("INTEGER"), "path": _every("VARCHAR(60)")},
            lambda n: (n % 5, f"/Path/{n}"),
            lambda key: f"{key[0]}/{key[1].replace('/', '%2F')}",
        ),
        Shape(
            "flagged",
            _INTEGER,
            lambda n: (n,),
            _first,
            ", version: ver, deleted: gone",
            ("ver BIGINT", "gone INTEGER DEFAULT 0"),
        ),
        Shape("loose", _INTEGER, lambda n: (n,), _first, unique=False),
        Shape("beside", _INTEGER, lambda n: (n,), _first, "", ()),
        Shape(
            "child",
            {"album": _every("INTEGER"), "pos": _every("INTEGER")},
            lambda n: (n % 8, n),
            lambda key: f"{key[0]}/{key[1]}",
        ),
    )
}
"""By name."""

VALUES: dict[str, tuple[dict[str, str], Any]] = {
    "n": (_every("INTEGER"), 1),
    "title": (_every("VARCHAR(200)"), "Zoë, 1 & 2"),
    "words": (_every("TEXT"), "long " * 60 + "end"),
    "price": (_every("DECIMAL(10,2)"), "12.50"),
    "size": (
        {"mysql": "DOUBLE", "postgresql": "DOUBLE PRECISION", "sqlite": "REAL"},
        0.0,
    ),
    "ratio": (
        {"mysql": "DOUBLE", "postgresql": "DOUBLE PRECISION", "sqlite": "REAL"},
        2.5,
    ),
    "born": (
        {"mysql": "DATETIME(3)", "postgresql": "TIMESTAMP(3)", "sqlite": "DATETIME"},
        "2024-02-29 12:00:00.250",
    ),
    "day": (_every("DATE"), "2024-02-29"),
    "raw": (
        {"mysql": "VARBINARY(64)", "postgresql": "BYTEA", "sqlite": "BLOB"},
        b"\x00\xff" + b"0" * 14,
    ),
    "flag": ({"mysql": "BIT(1)", "postgresql": "BOOLEAN", "sqlite": "BOOLEAN"}, True),
    "more": (
        _every("JSON"),
        '{"a": [1, 2, {"b": null}], "none": [], "one": ["x"], "in": {"x": 1, "y": {"z": "é"}}}',
    ),
    "absent": (_every("VARCHAR(20)"), None),
}
"""Columns with the value that every row has."""


class Scene:
    """Both sides of one shape. keys: of the living, as texts; dead: of the tombstones."""

    def __init__(
        self, engine: sql.Engine, database: Database[dict[str, Any]], folder: Path, shape: Shape
    ) -> None:
        self.engine, self.database, self.shape = engine, database, shape
        self.dialect = {"mariadb": "mysql"}.get(engine.dialect.name, engine.dialect.name)
        self.entity = "track" if shape.name == "child" else "thing"
        self.numbers = list(range(1, ROWS + 1))
        self.keys = [shape.text(shape.key(n)) for n in self.numbers]
        self.dead_numbers = list(range(101, 101 + DEAD))
        self.dead = [shape.text(shape.key(n)) for n in self.dead_numbers]
        sync = folder / f"{shape.name}.yaml"
        sync.write_text(self._sync(), encoding="utf-8")
        self.mirror = Mirror(load(sync))
        self._saved: dict[str, list[bytes]] = {}
        self._columns = ""
        self.reset()

    @classmethod
    def open(cls, url: str, database: Database[Any], folder: Path, shape: Shape) -> Scene:
        """A scene in an empty database; its engine is to be disposed of."""
        return cls(connect(url), database, folder, shape)

    @property
    def collection(self) -> Any:
        """Of MongoDB, where nothing is too strange to be read."""
        return self.database.get_collection(f"{self.entity}s", codec_options=TOLERANT)

    def _sync(self) -> str:
        key = ", ".join(self.shape.columns)
        lines = ["version: 1", "entities:"]
        if self.shape.name == "child":
            lines += [
                "  album:",
                "    collection: albums",
                "    source: {table: albums, key: id, version: ver}",
                "    children: {tracks: {entity: track, key: pos}}",
            ]
        lines += [
            f"  {self.entity}:",
            f"    collection: {self.entity}s",
            f"    source: {{table: {self.entity}s, key: [{key}]{self.shape.source}}}",
            "  other:",
            "    collection: others",
            "    source: {table: others, key: id, version: ver}",
        ]
        return "\n".join(lines) + "\n"

    # Both sides.

    def reset(self) -> None:
        """Make both sides what they were at the beginning."""
        if self._saved and self._declared() == self._columns:
            self._rows()
        else:
            self._tables()
        for name in ("things", "tracks", "albums", "others"):
            self.database[name].delete_many({})
        if self._saved:
            for name, raws in self._saved.items():
                self.database[name].insert_many([RawBSONDocument(raw) for raw in raws])
            return
        self.mirror_all()
        version = GONE if self.shape.beside else VERSION
        if self.shape.name == "child":
            at = datetime.now(UTC)
            self.collection.insert_many(
                [
                    {"_id": key, "_v": VERSION - 1, "_del": True, "_parent": key.split("/")[0]}
                    | {"_at": at}
                    for key in self.dead
                ]
            )
        elif self.shape.name != "flagged":
            events = [Event(self.entity, "deleted", key, version) for key in self.dead]
            apply(self.database, self.mirror, events)
        self._saved = {
            name: [one.raw for one in self._raw(name).find()]
            for name in ("things", "tracks", "albums")
        }
        self._saved = {name: raws for name, raws in self._saved.items() if raws}

    def mirror_all(self) -> None:
        """What a snapshot does."""
        for name in ("album",) if self.shape.name == "child" else (self.entity,):
            source = SqlSource(self.engine, name, self.mirror)
            apply(self.database, self.mirror, source.chunk(None, 10_000).events)

    def reconcile(self, name: str = "", **asked: Any) -> ReconcileResult:
        """Both sides, deeply and without waiting."""
        how = ReconcileOptions(**{"wait": 0.0, "deep": True, **asked})
        reconciler = Reconciler(self.engine, self.database, self.mirror, how)
        return reconciler.run(name or self.entity)

    def _raw(self, name: str) -> Any:
        options = TOLERANT.with_options(document_class=RawBSONDocument)
        return self.database.get_collection(name, codec_options=options)

    # MongoDB.

    def document(self, key: str) -> dict[str, Any]:
        """What is under a key."""
        found: dict[str, Any] = self.collection.find_one({"_id": key})
        return found

    def documents(self, keys: Sequence[str]) -> list[dict[str, Any]]:
        """What is under these keys, in their order."""
        found = {one["_id"]: one for one in self.collection.find({"_id": {"$in": list(keys)}})}
        return [found[key] for key in keys]

    def put(self, raws: dict[str, bytes]) -> None:
        """Put BSON in the place of documents, by their keys, whatever it is."""
        self.collection.delete_many({"_id": {"$in": list(raws)}})
        self._raw(f"{self.entity}s").insert_many([RawBSONDocument(raw) for raw in raws.values()])

    # SQL.

    @property
    def table(self) -> str:
        return f"{self.entity}s"

    def run(self, *statements: str, **values: Any) -> None:
        """Run statements in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sql.text(statement), values)

    def where(self, number: int) -> tuple[str, dict[str, Any]]:
        """The condition that finds a row, and its parameters."""
        names = list(self.shape.columns)
        condition = " AND ".join(f"{name} = :k{at}" for at, name in enumerate(names))
        return condition, {f"k{at}": one for at, one in enumerate(self.shape.key(number))}

    def living(self) -> list[str]:
        """The keys of all rows that are alive now."""
        rows = KeyedRows(self.engine, self.entity, self.mirror)
        return [one.key for one in rows.keys(frozenset(range(BUCKETS)))]

    def update(self, numbers: Sequence[int], change: str, **values: Any) -> None:
        """Change rows."""
        condition, _ = self.where(1)
        text = sql.text(f"UPDATE {self.table} SET {change} WHERE {condition}")
        with self.engine.begin() as connection:
            connection.execute(text, [self.where(number)[1] | values for number in numbers])

    def delete(self, numbers: Sequence[int]) -> None:
        """Remove rows."""
        condition, _ = self.where(1)
        text = sql.text(f"DELETE FROM {self.table} WHERE {condition}")
        with self.engine.begin() as connection:
            connection.execute(text, [self.where(number)[1] for number in numbers])

    def insert(self, numbers: Sequence[int], **other: Any) -> None:
        """Add rows; `other` has values that are not the usual ones."""
        names = [*self.shape.columns, *VALUES]
        if not self.shape.beside:
            names.append("ver")
        if "gone" in other:
            names.append("gone")
        words = ", ".join(f":{name}" for name in names)
        rows = []
        for number in numbers:
            row = dict(zip(self.shape.columns, self.shape.key(number), strict=True))
            row |= {name: value for name, (_, value) in VALUES.items()}
            rows.append(row | {"ver": VERSION} | other)
        with self.engine.begin() as connection:
            text = f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({words})"
            connection.execute(sql.text(text), rows)

    def _tables(self) -> None:
        shape, dialect = self.shape, self.dialect
        columns = [f"{name} {kinds[dialect]}" for name, kinds in shape.columns.items()]
        columns += [f"{name} {kinds[dialect]}" for name, (kinds, _) in VALUES.items()]
        columns += shape.extra
        if shape.unique:
            columns.append(f"PRIMARY KEY ({', '.join(shape.columns)})")
        self.run(
            *(f"DROP TABLE IF EXISTS {name}" for name in ("things", "tracks", "albums", "others")),
            "DROP TABLE IF EXISTS bridge_versions",
            f"CREATE TABLE {self.table} ({', '.join(columns)})",
            "CREATE TABLE others (id INTEGER PRIMARY KEY, ver BIGINT)",
            "CREATE TABLE albums (id INTEGER PRIMARY KEY, title VARCHAR(50), ver BIGINT)",
        )
        if shape.beside:
            kind = "VARBINARY(1024)" if self.dialect == "mysql" else "VARCHAR(1024)"
            self.run(
                "CREATE TABLE bridge_versions (aggregatetype VARCHAR(64), "
                f"aggregateid {kind}, ver BIGINT, PRIMARY KEY (aggregatetype, aggregateid))"
            )
        self._columns = self._declared()
        self._rows()

    def _declared(self) -> str:
        with self.engine.connect() as connection:
            return catalog.digest(connection, self.table)

    def _rows(self) -> None:
        shape = self.shape
        self.run(f"DELETE FROM {self.table}", "DELETE FROM albums")
        self.insert(self.numbers)
        if shape.name == "child":
            values = ", ".join(f"({number}, 'Album', {VERSION})" for number in range(8))
            self.run(f"INSERT INTO albums VALUES {values}")
        if shape.name == "flagged":
            self.insert(self.dead_numbers, gone=1)
        if shape.beside:
            self._versions()

    def _versions(self) -> None:
        entries = [
            (".base", self.entity, BASE),
            *((self.entity, key, ENTRY + n) for n, key in enumerate(self.keys) if n % 2),
            *((self.entity, key, GONE) for key in self.dead),
        ]
        with self.engine.begin() as connection:
            connection.execute(sql.text("DELETE FROM bridge_versions"))
            connection.execute(
                sql.text("INSERT INTO bridge_versions VALUES (:e, :k, :v)"),
                [dict(zip("ekv", entry, strict=True)) for entry in entries],
            )
