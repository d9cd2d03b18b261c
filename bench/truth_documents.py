"""What `bench.truth` does to MongoDB: everything that a document, a key or a tombstone can be and
should not, and what changes nothing."""

from __future__ import annotations

import operator
import struct
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import bson
from bson import Binary, Code, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

from bench.truth_damage import Damage, Found, named
from bench.truth_scenes import SHAPES, VERSION, Scene
from bridge.sync.mongodb import TOLERANT

__all__ = ["documents", "harmless"]

MISSING = object()
NOW = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
Change = Callable[[Any], Any]


def element(name: str, value: Any) -> bytes:
    """One field as BSON."""
    return bson.encode({name: value}, codec_options=TOLERANT)[4:-1]


def text_element(name: str, raw: bytes, kind: int = 2) -> bytes:
    """A text of these bytes, whatever they are."""
    return bytes([kind]) + name.encode() + b"\0" + struct.pack("<i", len(raw) + 1) + raw + b"\0"


def framed(elements: bytes) -> bytes:
    """Fields as a document."""
    return struct.pack("<i", len(elements) + 5) + elements + b"\0"


def rebuilt(document: dict[str, Any], field: str, instead: bytes) -> bytes:
    """A document with other bytes in the place of a field."""
    return framed(
        b"".join(
            instead if name == field else element(name, value) for name, value in document.items()
        )
    )


def _set(field: str, change: Change) -> Callable[[Scene, Sequence[str]], Found]:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        raws = {}
        for document in scene.documents(keys):
            value = change(document.get(field))
            if value is MISSING:
                document.pop(field, None)
            else:
                document[field] = value
            raws[document["_id"]] = bson.encode(document, codec_options=TOLERANT)
        scene.put(raws)
        return named(keys, "different")

    return do


def _changed(scene: Scene, keys: Sequence[str], change: Change) -> dict[str, bytes]:
    return {
        one["_id"]: bson.encode(change(one), codec_options=TOLERANT)
        for one in scene.documents(keys)
    }


def _always(value: Any) -> Change:
    return lambda found: value


OTHERS: dict[str, Any] = {
    "missing": MISSING,
    "MinKey": MinKey(),
    "MaxKey": MaxKey(),
    "Regex": Regex("1"),
    "ObjectId": ObjectId(),
    "Timestamp": Timestamp(1, 1),
    "Code": Code("1"),
    "list": [],
    "object": {},
}
"""What no field here holds."""


def _text() -> dict[str, Change]:
    return {
        "null": _always(None),
        "empty": _always(""),
        "NFD": lambda t: unicodedata.normalize("NFD", t),
        "blank at the end": lambda t: t + " ",
        "blank in front": lambda t: " " + t,
        "NUL at the end": lambda t: t + "\0",
        "BOM": lambda t: "\ufeff" + t,
        "zero-width space": lambda t: t + "\u200b",
        "no-break space": lambda t: t.replace(" ", "\u00a0", 1),
        "case": lambda t: t.swapcase(),
        "another alphabet": lambda t: t.replace("o", "\u043e", 1),
        "mojibake": lambda t: t.encode().decode("latin-1"),
        "question marks": lambda t: t.encode("ascii", "replace").decode(),
        "cut off": lambda t: t[:-1],
        "entities": lambda t: t.replace("&", "&amp;"),
        "newline": lambda t: t + "\n",
        "Windows newline": lambda t: t + "\r\n",
        "binary": lambda t: t.encode(),
        "Code of the same": lambda t: Code(t),
        "list of one": lambda t: [t],
        "emoji": lambda t: t + "😀",
    }


def _values() -> Iterator[tuple[str, str, Change]]:
    for field in ("n", "title", "price", "born", "raw", "flag", "more", "ratio"):
        for name, value in OTHERS.items():
            yield field, name, _always(value)
    for name, change in _text().items():
        yield "title", name, change
    yield "words", "one letter at the end", lambda t: t[:-1] + "t"
    yield "words", "one letter in the middle", lambda t: t[:150] + "_" + t[151:]
    whole = {
        "boolean": True, "double": 1.0, "decimal": Decimal128("1"), "text": "1", "null": None,
        "2": 2, "-1": -1, "2^40": 2**40, "list of one": [1], "moment": NOW, "binary": b"1",
        "NaN": float("nan"), "false": False,
    }  # fmt: skip
    for name, value in whole.items():
        yield "n", name, _always(value)
    yield "price", "double", lambda d: float(d.to_decimal())
    yield "price", "text", str
    yield "price", "one more zero", lambda d: Decimal128(f"{d}0")
    yield "price", "another cent", lambda d: Decimal128(d.to_decimal() + 1)
    yield "price", "negative", lambda d: Decimal128(-d.to_decimal())
    for name, value in {
        "NaN": Decimal128("NaN"), "Infinity": Decimal128("Infinity"), "integer": 12,
        "null": None, "zero": Decimal128("0"),
    }.items():  # fmt: skip
        yield "price", name, _always(value)
    for name, value in {
        "-0.0": -0.0, "integer": 0, "NaN": float("nan"), "smallest": 5e-324, "text": "0",
        "decimal": Decimal128("0"), "infinity": float("inf"), "null": None, "false": False,
    }.items():  # fmt: skip
        yield "size", name, _always(value)
    yield "ratio", "last bit", _always(2.5000000000000004)
    yield "ratio", "text", _always("2.5")
    for name, by in {"1 ms later": 1, "1 ms earlier": -1, "1 h later": 3_600_000}.items():
        yield "born", name, partial(operator.add, timedelta(milliseconds=by))
    yield "born", "whole second", lambda at: at.replace(microsecond=0)
    yield "born", "text", lambda at: at.isoformat()
    yield "born", "milliseconds", lambda at: Int64(int(at.replace(tzinfo=UTC).timestamp() * 1000))
    yield "born", "1970", _always(datetime(1970, 1, 1))
    yield "born", "year 10000", _always(DatetimeMS(253402300800000))
    yield "born", "before all years", _always(DatetimeMS(-(2**62)))
    yield "born", "null", _always(None)
    yield "day", "moment", _always(datetime(2024, 2, 29))
    yield "day", "without a zero", _always("2024-2-29")
    yield "day", "day before", _always("2024-02-28")
    yield "day", "null", _always(None)
    for kind in (2, 3, 4, 5, 0x80):
        yield "raw", f"subtype {kind}", partial(Binary, subtype=kind)
    yield "raw", "hexadecimal", lambda raw: raw.hex()
    yield "raw", "one more byte", lambda raw: raw + b"\0"
    yield "raw", "empty", _always(b"")
    yield "raw", "null", _always(None)
    yield "raw", "list of numbers", list
    for name, value in {
        "1": 1, "1.0": 1.0, "text": "true", "false": False, "null": None,
        "decimal": Decimal128("1"), "list of one": [True],
    }.items():  # fmt: skip
        yield "flag", name, _always(value)
    for name, value in {
        "missing": MISSING,
        "empty": "",
        "0": 0,
        "false": False,
        "list": [],
    }.items():
        yield "absent", name, _always(value)
    yield "more", "order of a list", lambda m: m | {"a": [m["a"][1], m["a"][0], m["a"][2]]}
    yield "more", "empty list missing", lambda m: {k: v for k, v in m.items() if k != "none"}
    yield "more", "list of one unpacked", lambda m: m | {"one": "x"}
    yield "more", "nested null missing", lambda m: m | {"a": [*m["a"][:2], {}]}
    yield "more", "list in a list", lambda m: m | {"a": [m["a"]]}
    yield "more", "member more", lambda m: m | {"a": [*m["a"], None]}
    yield "more", "name of another case", lambda m: {k.upper(): v for k, v in m.items()}
    yield "more", "dotted name", lambda m: {k: v for k, v in m.items() if k != "in"} | {"in.x": 1}
    yield "more", "nested type", lambda m: m | {"in": m["in"] | {"x": True}}
    yield "more", "nested double", lambda m: m | {"in": m["in"] | {"x": 1.0}}
    yield "more", "nested NFD", lambda m: m | {"in": m["in"] | {"y": {"z": "e\u0301"}}}
    yield "more", "nested extra", lambda m: m | {"in": m["in"] | {"more": None}}
    yield "more", "text of JSON", str
    yield "extra", "a value", _always(1)
    yield "extra", "null", _always(None)
    yield "Title", "name of another case", _always("Zoë, 1 & 2")
    yield "more.in.x", "dotted name", _always(1)
    yield "", "name without a letter", _always(1)
    yield "title ", "name with a blank", _always("Zoë, 1 & 2")


def _raw(name: str, make: Callable[[dict[str, Any]], bytes], *, repairable: bool = True) -> Damage:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        scene.put({one["_id"]: make(one) for one in scene.documents(keys)})
        return named(keys, "different")

    return Damage(name, do, repairable=repairable)


def _raws() -> Iterator[Damage]:
    title = "Zoë, 1 & 2".encode()
    # MongoDB itself ends when it is to update these.
    for name, make in {
        "a field twice": lambda d: rebuilt(d, "n", element("n", 7) + element("n", d["n"])),
        "a field twice, and another value": lambda d: rebuilt(
            d, "n", element("n", 7) + element("n", 8)
        ),
        "a nested field twice": lambda d: rebuilt(
            d, "more", b"\x03more\0" + framed(element("in", 1) + bson.encode(d["more"])[4:-1])
        ),
    }.items():
        yield _raw(name, make, repairable=False)
    yield _raw(
        "a text of latin1",
        lambda d: rebuilt(d, "title", text_element("title", d["title"].encode("latin-1"))),
    )
    yield _raw("a symbol", lambda d: rebuilt(d, "title", text_element("title", title, 0x0E)))
    yield _raw("undefined", lambda d: rebuilt(d, "absent", b"\x06absent\0"))


def _bookkeeping() -> Iterator[Damage]:
    behind: dict[str, Change] = {
        "lower": lambda v: v - 1, "missing": _always(MISSING), "null": _always(None),
        "text": str, "decimal": lambda v: Decimal128(str(v)), "NaN": _always(float("nan")),
        "fraction": lambda v: v - 0.5, "list": lambda v: [v], "moment": _always(NOW),
        "boolean": _always(True), "negative": _always(-5), "object": lambda v: {"v": v},
    }  # fmt: skip
    for name, change in behind.items():
        mendable = name in ("lower", "missing", "null", "negative")
        yield _version(f"_v: {name}", change, "behind", repairable=mendable)
    yield _version("_v: higher", lambda v: v + 1, "ahead")
    yield _version("_v: far ahead", _always(Int64(2**62)), "ahead")
    for name, value in {"missing": MISSING, "null": None, "text": "now", "number": 5}.items():
        yield Damage(f"_at: {name}", _set("_at", _always(value)), repairable=True)
    for name, value in {"false": False, "1": 1, "text": "true", "null": None}.items():
        yield Damage(f"_del: {name}", _set("_del", _always(value)), repairable=True)
    yield Damage("_twin of another", _set("_twin", _always("x")), repairable=True)
    yield Damage("_swept", _set("_swept", _always(1)), repairable=True)
    yield Damage("_parent of another", _set("_parent", _always("77")), repairable=True)
    yield Damage("_parent null", _set("_parent", _always(None)), repairable=True)


def _version(name: str, change: Change, kind: str, *, repairable: bool = False) -> Damage:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        _set("_v", change)(scene, keys)
        return named(keys, kind)

    return Damage(name, do, repairable=repairable)


def _dead(name: str, change: Callable[[dict[str, Any]], Any], kind: str, **more: Any) -> Damage:
    """A living document becomes something that counts as deleted."""

    def do(scene: Scene, keys: Sequence[str]) -> Found:
        scene.put(_changed(scene, keys, change))
        return named(keys, kind)

    return Damage(name, do, **more)


def _grave(found: dict[str, Any], version: int) -> dict[str, Any]:
    return {"_id": found["_id"], "_v": version, "_del": True, "_at": NOW}


def _whole() -> Iterator[Damage]:
    yield _dead("buried alive", lambda d: _grave(d, d["_v"]), "ahead")
    yield _dead("buried later", lambda d: _grave(d, d["_v"] + 1), "ahead")
    yield _dead("buried before", lambda d: _grave(d, d["_v"] - 1), "missing", repairable=True)
    yield _dead("_del: true", lambda d: d | {"_del": True}, "ahead")
    yield _dead("_del: list with true", lambda d: d | {"_del": [True]}, "ahead")

    def removed(scene: Scene, keys: Sequence[str]) -> Found:
        scene.collection.delete_many({"_id": {"$in": list(keys)}})
        return named(keys, "missing")

    yield Damage("removed", removed, repairable=True)

    def moved(scene: Scene, keys: Sequence[str]) -> Found:
        scene.database.others.insert_many(scene.documents(keys))
        removed(scene, keys)
        return named(keys, "missing")

    yield Damage("moved to another collection", moved, elsewhere="other")

    def swapped(scene: Scene, keys: Sequence[str]) -> Found:
        some = [keys[0], next(key for key in scene.keys if key != keys[0])]
        first, second = map(scene.document, some)
        changed = [first | {"title": "first"}, second | {"title": "second"}]
        raws = {}
        for key, document, own in zip(some, reversed(changed), (first, second), strict=True):
            raws[key] = bson.encode(document | {"_id": key, "_v": own["_v"]})
        scene.put(raws)
        return named(some, "different")

    yield Damage("contents of two swapped", swapped, sizes=(1,))

    def opposite(scene: Scene, keys: Sequence[str]) -> Found:
        some = list(keys)[: len(keys) // 2 * 2]
        raws = {}
        for at, one in enumerate(scene.documents(some)):
            raws[one["_id"]] = bson.encode(one | {"_v": one["_v"] + (1 if at % 2 else -1)})
        scene.put(raws)
        return named(some[::2], "behind") | named(some[1::2], "ahead")

    yield Damage("versions up and down", opposite, sizes=(2, 24))

    def traded(scene: Scene, keys: Sequence[str]) -> Found:
        # As many documents as before.
        removed(scene, keys)
        rest = [scene.shape.text(scene.shape.key(n)) for n in range(201, 201 + len(keys))]
        scene.collection.insert_many([{"_id": key, "_v": 1, "_at": NOW} for key in rest])
        return named(keys, "missing") | named(rest, "orphan")

    yield Damage("removed, and as many others", traded, repairable=True)


def _keys() -> Iterator[Damage]:
    changes: dict[str, Callable[[str], Any]] = {
        "blank at the end": lambda k: k + " ",
        "blank in front": lambda k: " " + k,
        "zero in front": lambda k: "0" + k,
        "NUL at the end": lambda k: k + "\0",
        "upper case": str.upper,
        "NFD": lambda k: unicodedata.normalize("NFD", k),
        "slash as it is": lambda k: k.replace("%2F", "/"),
        "slash of lower case": lambda k: k.replace("%2F", "%2f"),
        "escaped twice": lambda k: k.replace("%2F", "%252F"),
        "one part more": lambda k: k + "/x",
        "emoji": lambda k: k + "😀",
        "too long": lambda k: k + "y" * 1100,
        "dot zero": lambda k: k + ".0",
        "plus in front": lambda k: "+" + k,
        "empty": lambda k: "",
    }
    for name, change in changes.items():
        yield Damage(
            f"key: {name}", _renamed(change), sizes=(1,) if name == "empty" else (1, 3, 24)
        )
    ids: dict[str, Callable[[str], Any]] = {
        "ObjectId": lambda k: ObjectId(),
        "binary": str.encode,
        "object": lambda k: {"id": k},
        "hash": hash,
        "double": lambda k: float(hash(k)),
        "moment": lambda k: datetime(1970, 1, 1) + timedelta(milliseconds=abs(hash(k)) % 10**12),
    }
    for name, change in ids.items():
        yield Damage(f"_id: {name}", _foreign(change))
    yield Damage("_id: text of latin1", _latin1_id)


def _renamed(change: Callable[[str], Any]) -> Callable[[Scene, Sequence[str]], Found | None]:
    def do(scene: Scene, keys: Sequence[str]) -> Found | None:
        new = {key: change(key) for key in keys}
        if any(key == other for key, other in new.items()):
            return None
        found = scene.documents(keys)
        scene.collection.delete_many({"_id": {"$in": list(keys)}})
        scene.collection.insert_many([one | {"_id": new[one["_id"]]} for one in found])
        strangers = named(list(new.values()), "orphan", "unlookable", "ahead")
        return named(keys, "missing") | strangers

    return do


def _foreign(change: Callable[[str], Any]) -> Callable[[Scene, Sequence[str]], Found]:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        found = scene.documents(keys)
        scene.collection.delete_many({"_id": {"$in": list(keys)}})
        scene.collection.insert_many([one | {"_id": change(one["_id"])} for one in found])
        return named(keys, "missing") | {"": {"foreign": len(keys)}}

    return do


def _latin1_id(scene: Scene, keys: Sequence[str]) -> Found:
    scene.put(
        {
            one["_id"]: rebuilt(one, "_id", text_element("_id", b"\xe9%d" % at))
            for at, one in enumerate(scene.documents(keys))
        }
    )
    return named(keys, "missing") | {"": {"foreign": len(keys)}}


def _added() -> Iterator[Damage]:
    def orphan(scene: Scene, keys: Sequence[str]) -> Found:
        rest = [scene.shape.text(scene.shape.key(n)) for n in range(201, 201 + len(keys))]
        like = scene.document(keys[0])
        some = [like | {"_id": key, "_v": 1} for key in rest]
        scene.collection.insert_many(some)
        return named(rest, "orphan")

    yield Damage("documents too many", orphan, repairable=True)

    def risen(scene: Scene, keys: Sequence[str]) -> Found:
        like = scene.document(keys[0])
        some = scene.dead[: len(keys)]
        scene.put(_changed(scene, some, lambda t: like | {"_id": t["_id"], "_v": t["_v"]}))
        return named(some, "orphan")

    yield Damage("the dead are alive", risen, sizes=(1, 3), repairable=True)


def _tombstones() -> Iterator[Damage]:
    faults: dict[str, Change] = {
        "a field left": lambda t: t | {"title": "x"},
        "a field of ours": lambda t: t | {"_swept": 1},
        "_twin": lambda t: t | {"_twin": t["_id"]},
        "_at missing": lambda t: {k: v for k, v in t.items() if k != "_at"},
        "_at null": lambda t: t | {"_at": None},
        "_at text": lambda t: t | {"_at": "2024-01-01"},
        "_at seconds": lambda t: t | {"_at": 1700000000},
        "_at far ahead": lambda t: t | {"_at": NOW + timedelta(days=4000)},
        "_at in the year 10000": lambda t: t | {"_at": DatetimeMS(253402300800000)},
        "_at list": lambda t: t | {"_at": [NOW]},
        "_del in a list": lambda t: t | {"_del": [True]},
        "_parent null": lambda t: t | {"_parent": None},
        "_parent number": lambda t: t | {"_parent": 1},
    }
    versions: dict[str, Change] = {
        "text": str, "null": _always(None), "NaN": _always(float("nan")),
        "fraction": lambda v: v + 0.5, "list": lambda v: [v],
    }  # fmt: skip
    for name, change in faults.items():
        yield Damage(f"tombstone: {name}", _graves(change), sizes=(1, 3), repairable=True)
    without = _graves(lambda t: {k: v for k, v in t.items() if k != "_v"})
    yield Damage("tombstone: _v missing", without, sizes=(1, 3))
    for name, change in versions.items():
        yield Damage(f"tombstone: _v {name}", _graves(_of_version(change)), sizes=(1, 3))
    known = ("flagged", "beside")
    yield Damage(
        "tombstone: of the future",
        _graves(lambda t: t | {"_v": Int64(2**61)}),
        sizes=(1, 3),
        shapes=(*known, "child"),
    )
    yield Damage(
        "tombstone: one version ahead",
        _graves(lambda t: t | {"_v": t["_v"] + 2}),
        sizes=(1, 3),
        shapes=(*known, "child"),
    )
    yield Damage(
        "tombstone: of an earlier version",
        _graves(lambda t: t | {"_v": t["_v"] - 1}),
        sizes=(1, 3),
        shapes=known,
        repairable=True,
    )
    yield Damage(
        "tombstone: _parent where there is none",
        _graves(lambda t: t | {"_parent": "1"}),
        sizes=(1, 3),
        shapes=tuple(name for name in SHAPES if name != "child"),
        repairable=True,
    )


def _of_version(change: Change) -> Change:
    return lambda found: found | {"_v": change(found["_v"])}


def _graves(change: Change) -> Callable[[Scene, Sequence[str]], Found]:
    def do(scene: Scene, keys: Sequence[str]) -> Found:
        some = scene.dead[: len(keys)]
        scene.put(_changed(scene, some, change))
        return named(some, "tombstone")

    return do


def documents() -> Iterator[Damage]:
    """Every damage of MongoDB."""
    for field, name, change in _values():
        yield Damage(f"{field or 'no name'}: {name}", _set(field, change), repairable=True)
    yield from _raws()
    yield from _bookkeeping()
    yield from _whole()
    yield from _keys()
    yield from _added()
    yield from _tombstones()


def harmless() -> Iterator[Damage]:
    """What changes nothing: `reconcile` must be silent."""

    def order(scene: Scene, keys: Sequence[str]) -> Found:
        scene.put(_changed(scene, keys, lambda d: {"_id": d["_id"]} | dict(reversed(d.items()))))
        return {}

    def same(field: str, change: Change) -> Callable[[Scene, Sequence[str]], Found]:
        def do(scene: Scene, keys: Sequence[str]) -> Found:
            _set(field, change)(scene, keys)
            return {}

        return do

    def forgotten(scene: Scene, keys: Sequence[str]) -> Found:
        scene.collection.delete_many({"_id": {"$in": scene.dead[: len(keys)]}})
        return {}

    yield Damage("another order of fields", order)
    yield Damage("an integer of 64 bits", same("n", Int64))
    yield Damage("a version of floating point", same("_v", float))
    yield Damage("a version of 64 bits", same("_v", Int64))
    yield Damage("another time of the write", same("_at", lambda at: at - timedelta(days=100)))
    yield Damage("a tombstone removed in time", forgotten, sizes=(1, 3))
    yield Damage("a document elsewhere", _elsewhere)


def _elsewhere(scene: Scene, keys: Sequence[str]) -> Found:
    scene.database.strangers.delete_many({})
    scene.database.strangers.insert_many([{"_id": key, "_v": VERSION} for key in keys])
    return {}
