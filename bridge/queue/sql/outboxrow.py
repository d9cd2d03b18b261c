"""One row of the outbox, the event that it is, and what all rows together say of the lag. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["CLAIM_BYTES", "Backlog", "Row", "as_many_as_fit", "read", "text"]

CLAIM_BYTES = 16 * 1024 * 1024
"""Payload of one claim, more or less: what a relay has in memory, and does in one lease."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class Row:
    """One row. payload: the state as JSON text, None for a deletion; times in milliseconds.
    buried: whether its event was a dead letter at the last look."""

    id: int
    entity: str
    key: str
    type: str
    payload: str | None
    version: int
    created_at: int
    published_at: int | None
    attempts: int
    buried: bool = False

    @property
    def identity(self) -> tuple[str, str]:
        """Which entity this is about."""
        return self.entity, self.key

    def event(self, source: str) -> bytes:
        """The JSON text of its event, the same bytes every time.

        The payload is not looked into: what is wrong with it is found, and kept, where every
        event is checked.
        """
        moment = _EPOCH + timedelta(milliseconds=min(max(self.created_at, 0), _LAST_MS))
        attributes = {
            "specversion": "1.0",
            "id": f"outbox-{self.id}",
            "source": source,
            "type": self.type,
            "subject": self.key,
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sequence": str(self.version),
            "sequencetype": "Integer",
        }
        text = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
        if self.payload is not None:
            text = f'{text[:-1]},"datacontenttype":"application/json","data":{self.payload}}}'
        # The bytes that the database has, be they UTF-8 or not.
        return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows that are not applied. lag: age of the oldest, in seconds; 0 when there is none.
    buried: further rows, whose events are dead letters. oldest: what the oldest is about, and how
    it fares, in words. ahead: seconds by which its time is in the future; then whoever wrote it
    has a wrong clock, and the lag is only what we know."""

    rows: int = 0
    lag: float = 0.0
    buried: int = 0
    oldest: str = ""
    ahead: float = 0.0

    def __add__(self, other: Backlog) -> Backlog:
        older = max(self, other, key=lambda one: (one.lag, bool(one.oldest)))
        return Backlog(
            self.rows + other.rows,
            older.lag,
            self.buried + other.buried,
            older.oldest,
            max(self.ahead, other.ahead),
        )


def as_many_as_fit(ids: Sequence[int], sizes: Mapping[int, int | None], largest: int) -> list[int]:
    """The ids of the first rows whose payloads are not too much together; at least one."""
    total = 0
    for index, id in enumerate(ids):
        total += min(sizes.get(id) or 0, largest)
        if index and total > CLAIM_BYTES:
            return list(ids[:index])
    return list(ids)


def read(found: Any, offset: int, buried: bool) -> Row:
    """The row that `Outbox` selected. offset: milliseconds that its clock is ahead of ours."""
    id, kind, key, type, payload, version, created_at, published_at, attempts = found
    type = text(type)
    return Row(
        id,
        # Where the two differ, it is the type that the event carries.
        type.rpartition(".")[0] or text(kind),
        text(key),
        type,
        None if payload is None else text(payload),
        version,
        created_at,
        None if published_at is None else published_at - offset,
        attempts,
        buried,
    )


def text(value: Any) -> str:
    """A column may be of another type than ours where the site made the table."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else str(value)
