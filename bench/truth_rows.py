"""What `bench.truth` does to the site's database: rows, keys, versions, and the table itself,
behind the back of every trigger and producer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.truth_damage import Damage, Found, named
from bench.truth_scenes import BASE, SHAPES, VERSION, Scene

__all__ = ["rows"]

OWN_VERSION = tuple(name for name in SHAPES if name not in ("beside", "child"))
"""Shapes with a column for the version of each row."""


def _numbers(scene: Scene, keys: Sequence[str]) -> list[int]:
    return [scene.numbers[scene.keys.index(key)] for key in keys]


def _updated(change: str, kind: str, **values: Any) -> Callable[[Scene, Sequence[str]], Found]:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        scene.update(_numbers(scene, keys), change, **values)
        return named(keys, kind)

    return do


def _contents() -> Iterator[Damage]:
    changes: dict[str, tuple[str, Any]] = {
        "case": ("title", "ZOË, 1 & 2"),
        "blank at the end": ("title", "Zoë, 1 & 2 "),
        "NFD": ("title", "Zoe\u0308, 1 & 2"),
        "NULL": ("title", None),
        "empty": ("title", ""),
        "cent": ("price", "12.51"),
        "negative": ("price", "-12.50"),
        "price NULL": ("price", None),
        "last bit": ("ratio", 2.5000000000000004),
        "a millisecond": ("born", "2024-02-29 12:00:00.251"),
        "a day": ("day", "2024-02-28"),
        "a byte": ("raw", b"\x01\xff" + b"0" * 14),
        "bytes NULL": ("raw", None),
        "false": ("flag", False),
        "nested": ("more", '{"a": [1, 2, {}]}'),
        "empty instead of NULL": ("absent", ""),
        "number": ("n", 2),
        "end of a long text": ("words", "long " * 60 + "enD"),
    }
    for name, (column, value) in changes.items():
        do = _updated(f"{column} = :value", "different", value=value)
        yield Damage(f"row: {name}", do, repairable=True)


def _versions() -> Iterator[Damage]:
    for name, change, kind in (
        ("raised", "ver = ver + 1", "behind"),
        ("lowered", "ver = ver - 1", "ahead"),
        ("zero", "ver = 0", "ahead"),
        ("far ahead", "ver = 4611686018427387904", "behind"),
        ("NULL", "ver = NULL", "unusable"),
        ("negative", "ver = -5", "unusable"),
    ):
        do = _updated(change, kind)
        yield Damage(f"version: {name}", do, shapes=OWN_VERSION, repairable=kind == "behind")


def _parents() -> Iterator[Damage]:
    """The versions of children are those of their parents."""

    def do(change: str, kind: str) -> Callable[[Scene, Sequence[str]], Found]:
        def changed(scene: Scene, keys: Sequence[str]) -> Found:
            parents = {int(key.split("/")[0]) for key in keys}
            for parent in parents:
                scene.run(f"UPDATE albums SET ver = {change} WHERE id = {parent}")
            return named((k for k in scene.keys if int(k.split("/")[0]) in parents), kind)

        return changed

    only = ("child",)
    yield Damage("parent: raised", do("ver + 1", "behind"), shapes=only, repairable=True)
    yield Damage("parent: lowered", do("ver - 1", "ahead"), shapes=only)
    yield Damage("parent: NULL", do("NULL", "unusable"), shapes=only)

    def removed(scene: Scene, keys: Sequence[str]) -> Found:
        parents = {int(key.split("/")[0]) for key in keys}
        for parent in parents:
            scene.run(f"DELETE FROM albums WHERE id = {parent}")
        return named((k for k in scene.keys if int(k.split("/")[0]) in parents), "orphan")

    yield Damage("parent: removed", removed, shapes=only, repairable=True)

    def moved(scene: Scene, keys: Sequence[str]) -> Found:
        found: Found = {}
        for key, number in zip(keys, _numbers(scene, keys), strict=True):
            condition, values = scene.where(number)
            other = (number + 1) % 8
            scene.run(f"UPDATE tracks SET album = {other} WHERE {condition}", **values)
            found |= named([f"{other}/{number}"], "missing") | named([key], "orphan")
        return found

    yield Damage("parent: another", moved, shapes=only, repairable=True)


def _whole() -> Iterator[Damage]:
    def removed(scene: Scene, keys: Sequence[str]) -> Found:
        scene.delete(_numbers(scene, keys))
        return named(keys, "orphan")

    def emptied(scene: Scene, keys: Sequence[str]) -> Found:
        scene.run(f"DELETE FROM {scene.table}")
        return named(scene.keys, "orphan")

    def added(scene: Scene, keys: Sequence[str]) -> Found:
        new = list(range(201, 201 + len(keys)))
        scene.insert(new)
        return named([scene.shape.text(scene.shape.key(n)) for n in new], "missing")

    def replaced(scene: Scene, keys: Sequence[str]) -> Found:
        removed(scene, keys)
        return named(keys, "orphan") | added(scene, keys)

    yield Damage("row removed", removed, repairable=True)
    yield Damage("table emptied", emptied, sizes=(1,), repairable=True)
    yield Damage("row added", added, repairable=True)
    yield Damage("rows removed, and as many added", replaced, repairable=True)
    for at, column in enumerate(("id", "name", "path", "pos")):
        yield Damage(f"key: {column}", _rekeyed(column), repairable=column != "id" or at < 0)


def _rekeyed(column: str) -> Callable[[Scene, Sequence[str]], Found | None]:
    def do(scene: Scene, keys: Sequence[str]) -> Found | None:
        if column not in scene.shape.columns:
            return None
        place = list(scene.shape.columns).index(column)
        found: Found = named(keys, "orphan")
        for number in _numbers(scene, keys):
            values = list(scene.shape.key(number))
            values[place] = scene.shape.key(number + 300)[place] if number < 200 else 0
            scene.update([number], f"{column} = :new", new=values[place])
            found |= named([scene.shape.text(tuple(values))], "missing")
        return found

    return do


def _spelled() -> Iterator[Damage]:
    """Keys that a collation takes for equal are two keys."""
    changes: dict[str, Callable[[str], str]] = {
        "upper case": str.upper,
        "NFD": lambda text: text.replace("ö", "o\u0308"),
        "without the accent": lambda text: text.replace("ö", "o"),
        "blank at the end": lambda text: text + " ",
    }

    def do(change: Callable[[str], str]) -> Callable[[Scene, Sequence[str]], Found]:
        def changed(scene: Scene, keys: Sequence[str]) -> Found:
            for number, key in zip(_numbers(scene, keys), keys, strict=True):
                scene.update([number], "name = :new", new=change(key))
            return named(keys, "orphan") | named(map(change, keys), "missing")

        return changed

    for name, change in changes.items():
        yield Damage(f"spelling: {name}", do(change), shapes=("word",), repairable=True)


def _loose() -> Iterator[Damage]:
    only = ("loose",)

    def doubled(**other: Any) -> Callable[[Scene, Sequence[str]], Found]:
        def do(scene: Scene, keys: Sequence[str]) -> Found:
            scene.insert(_numbers(scene, keys), **other)
            return named(keys, "duplicate")

        return do

    yield Damage("doubled: the same", doubled(), shapes=only)
    yield Damage("doubled: other content", doubled(title="other"), shapes=only)
    yield Damage("doubled: other version", doubled(ver=VERSION + 1), shapes=only)
    yield Damage("doubled: no version", doubled(ver=None), shapes=only)

    def nameless(scene: Scene, keys: Sequence[str]) -> Found:
        scene.update(_numbers(scene, keys), "id = NULL")
        return named(keys, "orphan") | {"": {"nameless": len(keys)}}

    yield Damage("key: NULL", nameless, shapes=only)

    def hidden(scene: Scene, keys: Sequence[str]) -> Found:
        # As many rows as documents.
        numbers = _numbers(scene, keys)
        scene.insert(numbers)
        rest = [key for key in scene.keys if key not in keys][: len(keys)]
        scene.delete(_numbers(scene, rest))
        return named(keys, "duplicate") | named(rest, "orphan")

    yield Damage("doubled, and as many removed", hidden, sizes=(1, 3), shapes=only)


def _flags() -> Iterator[Damage]:
    only = ("flagged",)
    yield Damage("flag: set", _updated("gone = 1", "orphan"), shapes=only, repairable=True)
    later = _updated("gone = 1, ver = ver + 1", "orphan")
    yield Damage("flag: set with a version", later, shapes=only, repairable=True)

    def back(change: str, kind: str) -> Callable[[Scene, Sequence[str]], Found]:
        def do(scene: Scene, keys: Sequence[str]) -> Found:
            some = len(keys)
            scene.update(scene.dead_numbers[:some], change)
            return named(scene.dead[:some], kind)

        return do

    for name, change, kind in (
        ("taken back", "gone = 0", "ahead"),
        ("taken back with a version", "gone = 0, ver = ver + 1", "missing"),
        ("NULL", "gone = NULL", "ahead"),
        ("deleted again", "ver = ver + 1", "tombstone"),
        ("deleted before", "ver = ver - 1", "tombstone"),
    ):
        mendable = kind == "missing" or name == "deleted again"
        yield Damage(
            f"flag: {name}", back(change, kind), sizes=(1, 3), shapes=only, repairable=mendable
        )


def _entries() -> Iterator[Damage]:
    only = ("beside",)

    def entries(change: str, kinds: tuple[str, str]) -> Callable[[Scene, Sequence[str]], Found]:
        """kinds: of rows with an entry, and of rows without one."""

        def do(scene: Scene, keys: Sequence[str]) -> Found:
            found: Found = {}
            for key in keys:
                scene.run(change, entity=scene.entity, key=key)
                if kind := kinds[scene.keys.index(key) % 2 == 0]:
                    found |= named([key], kind)
            return found or None  # type: ignore[return-value]

        return do

    here = "WHERE aggregatetype = :entity AND aggregateid = :key"
    update = "UPDATE bridge_versions SET ver = "
    for name, change, kinds, mendable in (
        ("removed", f"DELETE FROM bridge_versions {here}", ("ahead", ""), False),
        ("raised", f"{update} ver + 1 {here}", ("behind", ""), True),
        ("lowered", f"{update} ver - 1 {here}", ("ahead", ""), False),
        ("below the base", f"{update} {BASE - 1} {here}", ("ahead", ""), False),
    ):
        yield Damage(
            f"entry: {name}", entries(change, kinds), (3, 24), shapes=only, repairable=mendable
        )

    def base(change: str, kind: str) -> Callable[[Scene, Sequence[str]], Found]:
        def do(scene: Scene, keys: Sequence[str]) -> Found:
            scene.run(f"{update} {change} WHERE aggregatetype = '.base'")
            return named(scene.keys[::2], kind)

        return do

    yield Damage("base: raised", base("ver + 1", "behind"), (1,), shapes=only, repairable=True)
    yield Damage("base: lowered", base("ver - 1", "ahead"), (1,), shapes=only)

    def graves(change: str) -> Callable[[Scene, Sequence[str]], Found]:
        def do(scene: Scene, keys: Sequence[str]) -> Found:
            some = scene.dead[: len(keys)]
            for key in some:
                scene.run(change, entity=scene.entity, key=key)
            return named(some, "tombstone")

        return do

    for name, change, mendable in (
        ("raised", f"{update} ver + 1 {here}", True),
        ("lowered", f"{update} ver - 1 {here}", False),
        ("removed", f"DELETE FROM bridge_versions {here}", False),
    ):
        yield Damage(
            f"entry of the dead: {name}", graves(change), (1, 3), shapes=only, repairable=mendable
        )


def _tables() -> Iterator[Damage]:
    """The table is another one than it was when it was mirrored."""

    def altered(
        *statements: str, dialects: tuple[str, ...] = ("mysql", "postgresql", "sqlite")
    ) -> Callable[[Scene, Sequence[str]], Found | None]:
        def do(scene: Scene, keys: Sequence[str]) -> Found | None:
            if scene.dialect not in dialects:
                return None
            scene.run(*(text.format(table=scene.table) for text in statements))
            return named(scene.keys, "different")

        return do

    alter, one = "ALTER TABLE {table}", (1,)
    yield Damage("column dropped", altered(f"{alter} DROP COLUMN n"), one, repairable=True)
    yield Damage("column added", altered(f"{alter} ADD COLUMN later INTEGER"), one, repairable=True)
    renamed = altered(f"{alter} RENAME COLUMN n TO m")
    yield Damage("column renamed", renamed, one, repairable=True)
    only = ("mysql",)
    for name, change in (
        ("number to text", "MODIFY n VARCHAR(10)"),
        ("number to double", "MODIFY n DOUBLE"),
        ("decimals of another scale", "MODIFY price DECIMAL(12,3)"),
        ("decimal to double", "MODIFY price DOUBLE"),
        ("moment to text", "MODIFY born VARCHAR(40)"),
        ("moment without milliseconds", "MODIFY born DATETIME"),
        ("day to moment", "MODIFY day DATETIME"),
        ("bytes to text of latin1", "MODIFY raw VARCHAR(64) CHARACTER SET latin1"),
        ("bit to number", "MODIFY flag TINYINT"),
    ):
        do = altered(f"{alter} {change}", dialects=only)
        yield Damage(f"column: {name}", do, one, repairable=True)
    double = altered(
        f"{alter} MODIFY title VARBINARY(400)",
        f"{alter} MODIFY title VARCHAR(200) CHARACTER SET latin1",
        f"{alter} MODIFY title VARCHAR(200) CHARACTER SET utf8mb4",
        dialects=only,
    )
    yield Damage("column: converted twice", double, one, repairable=True)
    marks = altered(
        "UPDATE {table} SET title = REPLACE(title, 'ë', '?')",
        f"{alter} MODIFY title VARCHAR(200) CHARACTER SET ascii",
        dialects=only,
    )
    yield Damage("column: charset without the letters", marks, one, repairable=True)
    for name, change in (
        ("number to text", "ALTER n TYPE VARCHAR(10)"),
        ("number to numeric", "ALTER n TYPE NUMERIC(10,1)"),
        ("decimals of another scale", "ALTER price TYPE NUMERIC(12,3)"),
        ("moment to text", "ALTER born TYPE TEXT"),
        ("bytes to text", "ALTER raw TYPE TEXT USING encode(raw, 'hex')"),
        ("boolean to number", "ALTER flag TYPE INTEGER USING flag::int"),
        ("day to moment", "ALTER day TYPE TIMESTAMP"),
    ):
        do = altered(f"{alter} {change}", dialects=("postgresql",))
        yield Damage(f"column (PostgreSQL): {name}", do, one, repairable=True)

    def text_version(scene: Scene, keys: Sequence[str]) -> Found | None:
        if scene.dialect == "postgresql":
            scene.run(f"ALTER TABLE {scene.table} ALTER ver TYPE VARCHAR(30)")
        elif scene.dialect == "mysql":
            scene.run(f"ALTER TABLE {scene.table} MODIFY ver VARCHAR(30)")
        scene.update(_numbers(scene, keys), "ver = 'v5'")
        return named(keys, "unusable")

    yield Damage("version: text", text_version, shapes=OWN_VERSION)


def rows() -> Iterator[Damage]:
    """Every damage of the site's database."""
    yield from _contents()
    yield from _versions()
    yield from _parents()
    yield from _whole()
    yield from _spelled()
    yield from _loose()
    yield from _flags()
    yield from _entries()
    yield from _tables()
