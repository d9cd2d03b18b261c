"""What the models of routes.yaml and sync.yaml have in common, and how times, sizes and counts are
written there and on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

__all__ = [
    "Duration",
    "DurationOrZero",
    "Model",
    "Rate",
    "Size",
    "Written",
    "in_portions",
    "parse_duration",
    "parse_rate",
    "roughly",
    "several",
    "size_text",
    "text",
]

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_LONGEST = 36500 * 86400.0  # seconds, a century
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)")
_RATE = re.compile(r"(\d{1,6})\s*/\s*(s|m|h)")
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Model(BaseModel):
    """Base of all: nothing unknown, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_duration(value: object) -> float:
    """Seconds of `500ms`, `5s`, `2m`, `1h` or `30d`. Raises ValueError."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or float(match[1]) == 0:
        raise ValueError(f"{value!r} is no duration above zero; write for example 500ms, 5s or 2m")
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if seconds > _LONGEST:  # clocks and sockets know no such time
        raise ValueError(f"{value!r} is longer than {_LONGEST / 86400:.0f}d; write a shorter time")
    return seconds


def several(count: int, what: str, many: str = "") -> str:
    """`1 route`, `1,024 routes`; `many` where an s does not do."""
    return f"{count:,} {what if count == 1 else many or f'{what}s'}"


def roughly(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h`, `9 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def in_portions(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The same in portions of up to so many, in their order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _parse_size(value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{value!r} is no size; write for example 64KiB, 10MiB or 1GiB")
    return int(match[1]) * _BYTES[match[2]]


def size_text(count: int) -> str:
    """So many bytes as they are written, in the largest unit that makes a whole number."""
    whole = (name for name, size in reversed(_BYTES.items()) if count and count % size == 0)
    unit = next(whole, "B")
    return f"{count // _BYTES[unit]}{unit}"


@dataclass(frozen=True)
class Written:
    """How a value is written in the file: its pattern for editors, and what reads it."""

    pattern: re.Pattern[str]
    description: str
    parse: Callable[[object], Any]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        pattern = f"^(?:{self.pattern.pattern})$"
        return {"type": "string", "pattern": pattern, "description": self.description}


def text(
    pattern: re.Pattern[str], what: str, example: str, fold: Callable[[str], str] = str
) -> Written:
    """A text that has to look like `pattern` after `fold`.

    what, example: the kind of text and one of them, for errors.
    """

    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(fold(value)):
            raise ValueError(f"{value!r} is no {what}; write for example {example}")
        return fold(value)

    return Written(pattern, what, parse)


def _parse_zero(value: object) -> float:
    return 0.0 if value == "0s" else parse_duration(value)


def parse_rate(value: object) -> float:
    """A second of `10/s`, `30/m` or `100/h`. Raises ValueError."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if not match or int(match[1]) == 0:
        raise ValueError(f"{value!r} is no rate above zero; write for example 10/s, 30/m or 100/h")
    return int(match[1]) / {"s": 1, "m": 60, "h": 3600}[match[2]]


Rate = Annotated[float, Written(_RATE, "how often: 10/s, 30/m, 100/h", parse_rate)]
Duration = Annotated[float, Written(_DURATION, "a time: 500ms, 5s, 2m, 1h, 30d", parse_duration)]
Size = Annotated[int, Written(_SIZE, "a size: 64KiB, 10MiB, 1GiB", _parse_size)]
DurationOrZero = Annotated[float, Written(_DURATION, "a time, or 0s for none", _parse_zero)]
