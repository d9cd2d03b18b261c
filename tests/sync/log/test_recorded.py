"""What a real MariaDB wrote, of every type: it is read as SELECT gave it, and damaged it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.queue.events import Event
from bridge.sync.documents import Mirror
from bridge.sync.log.format import Kind, LogUnreadable
from bridge.sync.log.position import Position
from bridge.sync.log.rows import Reader
from bridge.sync.log.sizes import Misread
from bridge.sync.log.stream import Change, Found, Stopped, Stream
from bridge.sync.log.tables import Shape
from bridge.sync.models import File
from bridge.sync.types.column import Column
from tests.sync.log.entities import reader_of, types_of
from tests.sync.log.record import recorded

RECORDED = recorded()
EVENTS: Sequence[bytes] = RECORDED["events"]
TYPES = {
    name: types_of(
        [Column(**{**one, "members": tuple(one["members"])}) for one in columns],
        name=name,
        version="ver",
        log=False,
    )
    for name, columns in RECORDED["tables"].items()
}


def readers(shape: Shape) -> Sequence[Reader | Stopped]:
    try:
        return (reader_of(shape, *TYPES[shape.table]),)
    except Misread as error:
        return (Stopped(shape.table, str(error)),)


def read(events: Sequence[bytes]) -> list[Found]:
    stream = Stream(Position(1, None), readers)
    return [one for raw in events for one in stream.feed(raw)]


CHANGES = [one for one in read(EVENTS) if isinstance(one, Change)]


def document(name: str, key: str, data: dict[str, Any]) -> bytes:
    """As MongoDB would hold it."""
    source = {"table": name, "key": "id", "version": "ver"}
    entity = {"collection": name, "source": source}
    mirror = Mirror(File.model_validate({"version": 1, "entities": {name: entity}}))
    mirror.learn(name, TYPES[name][0])
    return bson.encode(mirror.prepare(Event(name, "changed", key, 1, data)).own.document)


def test_all_that_was_written_is_read_as_select_gives_it() -> None:
    """Of every type; and what is no more is gone."""
    left: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TYPES}
    for one in CHANGES:
        if one.data is None:
            left[one.entity].pop(one.key, None)
        else:
            left[one.entity][one.key] = one.data
    for name, rows in RECORDED["rows"].items():
        assert left[name].keys() == rows.keys()
        assert "3" not in rows
        for key, row in rows.items():
            assert document(name, key, left[name][key]) == document(name, key, row)


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_an_event_that_is_cut_off_is_not_read(number: int) -> None:
    """Wherever it is cut."""
    raw = EVENTS[number]
    for size in (*range(min(len(raw), 40)), *range(40, len(raw), 7)):
        stream = _fed(number)
        with pytest.raises(LogUnreadable):
            stream.feed(raw[:size])


def _fed(number: int) -> Stream:
    """A stream that knows whether there are checksums, and nothing else."""
    stream = Stream(Position(1, None), readers)
    if number > 1:
        for raw in EVENTS[:2]:
            stream.feed(raw)
    return stream


@given(st.integers(1, len(EVENTS) - 1), st.data())
def test_an_event_with_a_wrong_bit_is_not_read(number: int, data: st.DataObject) -> None:
    raw = bytearray(EVENTS[number])
    place = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[place // 8] ^= 1 << place % 8
    with pytest.raises(LogUnreadable):
        _fed(number).feed(bytes(raw))


def _bare(raw: bytes) -> bytes:
    """As a server without checksums has it."""
    if raw[4] == Kind.FORMAT_DESCRIPTION:
        return raw[:-5] + b"\0" + raw[-4:]
    size = len(raw) - 4
    return raw[:9] + size.to_bytes(4, "little") + raw[13:-4]


BARE = [_bare(raw) for raw in EVENTS]


@given(st.integers(2, len(EVENTS) - 1), st.data())
def test_without_checksums_a_cut_event_gives_nothing_else(number: int, data: st.DataObject) -> None:
    """Fewer rows at most, where it ends with one, or none of a table that has no names then."""
    raw = BARE[number]
    size = data.draw(st.integers(19, len(raw) - 1))
    cut = raw[:9] + size.to_bytes(4, "little") + raw[13:size]
    try:
        found = [one for one in read([*BARE[:number], cut]) if isinstance(one, Change)]
    except LogUnreadable:
        return
    assert found == CHANGES[: len(found)]


def test_without_checksums_the_same_is_read() -> None:
    assert [one for one in read(BARE) if isinstance(one, Change)] == CHANGES
