"""The event: the full state of one entity at one version, or its deletion.

On the wire it is CloudEvents 1.0 JSON with the `sequence` extension as version. Everything that
MongoDB could not store, or that two sides could read differently, is refused here, so that what
follows can trust an Event. How events travel is left to the other modules of this package.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn

from bridge.entity import ENTITY
from bridge.errors import UndecodableMessage

__all__ = [
    "LARGER",
    "LARGEST_EVENT_BYTES",
    "MAX_DEPTH",
    "MAX_EVENT_BYTES",
    "MAX_KEY_BYTES",
    "MAX_VERSION",
    "Event",
    "Number",
    "Rejected",
    "check_data",
    "dump_json",
    "load_json",
]

MAX_EVENT_BYTES = 1024 * 1024
"""The longest JSON text of one event where nothing else is said."""
LARGEST_EVENT_BYTES = 32 * 1024 * 1024
"""Whatever is said: twice MongoDB's largest document, see `File.max_event` of sync.yaml."""
MAX_KEY_BYTES = 1024
"""The longest key of an entity, in UTF-8."""
MAX_VERSION = 2**63 - 1
"""Versions and all other integers are MongoDB's 64-bit integers."""
_LEAST = -(2**63)
MAX_DEPTH = 64
"""Levels of nested objects and lists in `data`; MongoDB stops at 100, its own command included."""

LARGER = "leave fields out, or raise max_document in sync.yaml"
"""What to do where an event is too large."""

SPECVERSION = "1.0"
SEQUENCE = re.compile(r"0|[1-9][0-9]{0,18}")
CHANGES = ("changed", "deleted")


class Number(float):
    """A number of a JSON text that is written with a point or an exponent. text: as it is written
    there, because a decimal of a database has more digits than a float."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __reduce__(self) -> tuple[type[Number], tuple[str]]:
        return Number, (self.text,)


def _new_id() -> str:
    return uuid.uuid4().hex


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one entity.

    entity: kind of thing, for example `project`: lower-case letters, digits and `_`.
    change: `changed` or `deleted`.
    key: what names the entity among its kind, at most 1024 bytes of UTF-8; the empty text is one
        as good as any other.
    version: grows with every change of the entity, deletions included; 0 to 2**63 - 1.
    data: the full state as a JSON object for `changed`, None for `deleted`. At its top level no
        name may begin with `_`: those are the mirror's own. No name at any level may begin with
        `$`, which MongoDB's drivers would read as a reference or an operator.
    id: unique among the events of `source`, which is the path or URL of the sender.
    time: when the change was made, RFC 3339.
    rewrite: whether it may also replace the same version, unless that is a deletion: for repairs,
        and for a load after sync.yaml has changed.

    Raises UndecodableMessage, with the name of the wrong field, when it could not be stored.
    """

    entity: str
    change: str
    key: str
    version: int
    data: dict[str, Any] | None = None
    id: str = field(default_factory=_new_id)
    source: str = "/bridge"
    time: str = field(default_factory=_now)
    rewrite: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.entity, str) or not ENTITY.fullmatch(self.entity):
            _refuse("type", f"{_show(self.entity)} is no name of an entity")
        if self.change not in CHANGES:
            _refuse("type", f"ends with {_show(self.change)}, not with changed or deleted")
        if len(_utf8("subject", self.key)) > MAX_KEY_BYTES:
            _refuse("subject", f"the key must have at most {MAX_KEY_BYTES} bytes of UTF-8")
        if type(self.version) is not int or not 0 <= self.version <= MAX_VERSION:
            _refuse("sequence", f"the version must be an integer from 0 to {MAX_VERSION}")
        for name in ("id", "source"):
            if not _utf8(name, getattr(self, name)):
                _refuse(name, "is empty")
        _check_time(self.time)
        if type(self.rewrite) is not bool:
            _refuse("rewrite", f"must be true or false, not {_show(self.rewrite)}")
        if self.change == "deleted":
            if self.data is not None:
                _refuse("data", "a deletion carries none")
        else:
            check_data(self.data)

    @property
    def identity(self) -> tuple[str, str]:
        """Which entity this is about: its kind and its key."""
        return self.entity, self.key

    @classmethod
    def parse(cls, message: bytes | str | dict[str, Any], limit: int = MAX_EVENT_BYTES) -> Event:
        """The event in a JSON text of at most `limit` bytes, or in what one was decoded to. Raises
        UndecodableMessage, with the name of the wrong field."""
        if isinstance(message, (bytes, str)):
            attributes = load_json(message, limit, LARGER)
        else:
            attributes = message
        if not isinstance(attributes, dict):
            raise UndecodableMessage(f"not a JSON object but {_kind(attributes)}")
        if (found := attributes.get("specversion")) != SPECVERSION:
            _refuse("specversion", f'must be "{SPECVERSION}", not {_show(found)}')
        content = attributes.get("datacontenttype", "application/json")
        if content != "application/json":
            _refuse("datacontenttype", f"must be application/json, not {_show(content)}")
        if (found := attributes.get("sequencetype")) != "Integer":
            _refuse("sequencetype", f'must be "Integer", not {_show(found)}')
        sequence = _text(attributes, "sequence")
        if not SEQUENCE.fullmatch(sequence):
            _refuse("sequence", f"must be the version in decimal digits, not {_show(sequence)}")
        entity, _, change = _text(attributes, "type").rpartition(".")
        return cls(
            entity=entity,
            change=change,
            key=_text(attributes, "subject"),
            version=int(sequence),
            data=attributes.get("data"),
            id=_text(attributes, "id"),
            source=_text(attributes, "source"),
            time=_text(attributes, "time"),
            rewrite=attributes.get("rewrite", False),
        )

    def to_json(self, limit: int = MAX_EVENT_BYTES) -> str:
        """The JSON text that `parse` reads. Raises UndecodableMessage when it has more than
        `limit` bytes."""
        attributes: dict[str, Any] = {
            "specversion": SPECVERSION,
            "id": self.id,
            "source": self.source,
            "type": f"{self.entity}.{self.change}",
            "subject": self.key,
            "time": self.time,
            "sequence": str(self.version),
            "sequencetype": "Integer",
        }
        if self.data is not None:
            attributes |= {"datacontenttype": "application/json", "data": self.data}
        if self.rewrite:
            attributes["rewrite"] = True
        text = dump_json(attributes)
        _check_size(len(text.encode()), limit, LARGER)
        return text


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that its receiver cannot use, and why. wait: seconds after which it may; 0 where it
    never can."""

    event: Event
    error: str
    wait: float = 0.0


def load_json(text: bytes | str, limit: int, larger: str = "") -> Any:
    """Decode JSON strictly: UTF-8, no name twice in an object, no NaN, at most `limit` bytes.
    larger: what to do where it has more.

    Raises UndecodableMessage.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
        _check_size(len(raw), limit, larger)
        return _DECODER.decode(raw.decode("utf-8"))
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise UndecodableMessage(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise UndecodableMessage("not usable JSON: nested too deeply") from None
    except ValueError as error:
        raise UndecodableMessage(f"not JSON: {error}") from None


def dump_json(value: Any) -> str:
    """JSON of what `load_json` gives, every number as it was written there."""
    numbers: list[str] = []
    plain = _marked(value, numbers)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for index, number in enumerate(numbers):
        text = text.replace(f'"{_mark(index)}"', number, 1)
    return text


def _mark(index: int) -> str:
    # Half of a surrogate pair, which no checked data hold.
    return f"\udfff{index}"


def _marked(value: Any, numbers: list[str]) -> Any:
    kind = type(value)
    if kind is Number:
        numbers.append(value.text)
        return _mark(len(numbers) - 1)
    if kind is dict:
        return {name: _marked(inner, numbers) for name, inner in value.items()}
    if kind is list:
        return [_marked(inner, numbers) for inner in value]
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise UndecodableMessage(f"{_show(name)} stands twice in one object")
            seen.add(name)
    return result


def _refuse_constant(word: str) -> NoReturn:
    raise UndecodableMessage(f"{word} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=Number
)


def _check_size(found: int, limit: int, larger: str) -> None:
    if found > limit:
        hint = f"; {larger}" if larger else ""
        raise UndecodableMessage(f"has {found} bytes, more than {limit}{hint}")


def _check_time(time: str) -> None:
    try:
        moment = datetime.fromisoformat(time)
    except (TypeError, ValueError):
        _refuse("time", f"is no RFC 3339 time: {_show(time)}")
    if moment.tzinfo is None:
        _refuse("time", f"has no time zone: {_show(time)}")


class _Place:
    """Where in `data` a value stands; its text is only made for an error."""

    __slots__ = ("parent", "step")

    def __init__(self, parent: _Place | None, step: str | int) -> None:
        self.parent, self.step = parent, step

    def __str__(self) -> str:
        steps: list[str] = []
        place: _Place | None = self
        while place is not None:
            steps.append(f"[{place.step}]" if isinstance(place.step, int) else f".{place.step}")
            place = place.parent
        return "".join(reversed(steps)).removeprefix(".")


def check_data(data: object) -> None:
    """Refuse what BSON cannot hold or would not give back as it was, and names of our own. Raises
    UndecodableMessage, with the place."""
    if not isinstance(data, dict):
        _refuse("data", f"must be a JSON object, not {_kind(data)}")
    for name in data:
        if isinstance(name, str) and name.startswith("_"):
            _refuse(f"data.{name}", "names with _ at the start are the mirror's own")
    # A stack of our own: the depth is the sender's choice.
    todo: list[tuple[_Place, int, object]] = [(_Place(None, "data"), 1, data)]
    while todo:
        place, depth, value = todo.pop()
        if isinstance(value, dict):
            steps: Iterable[tuple[Any, Any]] = value.items()
            for name in value:
                # The same as `_check_name`, for names as they nearly always are.
                if not (type(name) is str and name.isidentifier() and name.isascii()):
                    _check_name(place, name)
        elif isinstance(value, list):
            steps = enumerate(value)
        else:
            _check_scalar(place, value)
            continue
        if depth > MAX_DEPTH:
            _refuse(place, f"is nested deeper than {MAX_DEPTH} levels")
        for step, inner in steps:
            # Most values are plain; that they cost nothing is paid back for each event.
            kind = type(inner)
            if kind is str:
                if inner.isascii():
                    continue
            elif kind is int:
                if _LEAST <= inner <= MAX_VERSION:
                    continue
            elif inner is None or kind is bool:
                continue
            todo.append((_Place(place, step), depth + 1, inner))


def _check_name(place: _Place, name: object) -> None:
    if not isinstance(name, str):
        _refuse(place, f"has a name that is no string: {_show(name)}")
    if name.startswith("$"):
        _refuse(f"{place}.{name}", "names with $ at the start cannot be stored faithfully")
    if "\0" in name:
        _refuse(place, f"has a name with a NUL in it: {_show(name)}")
    if not name.isascii():
        _utf8(place, name)


def _check_scalar(place: _Place, value: object) -> None:
    if isinstance(value, str):
        _utf8(place, value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            _refuse(place, "is an integer of more than 64 bits; send it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            _refuse(place, f"is {value}, which JSON does not have")
    else:
        _refuse(place, f"is no JSON value but {_kind(value)}")


def _text(attributes: dict[str, Any], name: str) -> str:
    if name not in attributes:
        _refuse(name, "is missing")
    value = attributes[name]
    if not isinstance(value, str):
        _refuse(name, f"must be a string, not {_kind(value)}")
    return value


def _utf8(where: object, value: object) -> bytes:
    if not isinstance(value, str):
        _refuse(where, f"must be a string, not {_kind(value)}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        _refuse(where, "holds half of a surrogate pair, which is no character")


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def _show(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _refuse(where: object, what: str) -> NoReturn:
    # The name comes from the sender too: whatever it holds, the message stays short and printable.
    name = str(where).encode("ascii", "backslashreplace").decode()
    raise UndecodableMessage(f"{name if len(name) <= 120 else name[:117] + '...'}: {what}")
