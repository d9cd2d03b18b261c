"""Reading the log of a real server: what the tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sql

from bridge.queue.events import Event
from bridge.sync.documents import Mirror
from bridge.sync.log.collations import charsets_of
from bridge.sync.log.format import Kind
from bridge.sync.log.position import Gtid, Position
from bridge.sync.log.replica import Replica
from bridge.sync.log.rows import Reader
from bridge.sync.log.sizes import Misread
from bridge.sync.log.stream import Change, Found, Readers, Stopped, Stream
from bridge.sync.log.tables import Shape

__all__ = ["Place", "end_of", "events_of", "found_in", "raw_since", "readers_of"]


@dataclass(frozen=True)
class Place:
    """A place in a log, between two transactions."""

    file: str
    offset: int


def end_of(engine: sql.Engine) -> Place | None:
    """Where the log ends; None where there is none."""
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SHOW MASTER STATUS").first()
    return None if row is None else Place(str(row[0]), int(row[1]))


def raw_since(engine: sql.Engine, since: Place) -> Iterator[bytes]:
    """The events from a place up to the end that the log has now."""
    with engine.connect() as connection:
        end = Gtid.parse(str(connection.exec_driver_sql("SELECT @@gtid_binlog_pos").scalar()))
    if end is None or end_of(engine) == since:
        return
    stream = Stream(Position(1, None), lambda shape: ())
    with Replica(str(engine.url.render_as_string(hide_password=False))) as replica:
        replica.start_at(since.file, since.offset)
        for raw in replica.events():
            if raw[4] == Kind.HEARTBEAT:
                continue
            stream.feed(raw)
            yield raw
            if stream.position.reaches(end):
                return


def readers_of(engine: sql.Engine, mirror: Mirror) -> Readers:
    """The readers of a mirror whose types are known."""
    charsets = charsets_of(engine)
    with engine.connect() as connection:
        here = str(connection.exec_driver_sql("SELECT DATABASE()").scalar())

    def readers(shape: Shape) -> list[Reader | Stopped]:
        found: list[Reader | Stopped] = []
        for name, entity in mirror.entities.items():
            assert entity.source is not None
            types = mirror.typed(name)
            if (shape.schema, shape.table) != (here, entity.source.table) or types is None:
                continue
            try:
                found.append(Reader(shape, types, entity.source, charsets))
            except Misread as error:
                found.append(Stopped(name, str(error)))
        return found

    return readers


def found_in(engine: sql.Engine, mirror: Mirror, since: Place) -> list[Found]:
    """What the log says of a mirror from a place on."""
    stream = Stream(Position(1, None), readers_of(engine, mirror))
    return [one for raw in raw_since(engine, since) for one in stream.feed(raw)]


def events_of(found: list[Found], versions: Mapping[str, str] | None = None) -> list[Event]:
    """The newest event of each row. versions: entity to the field whose value is its version, to
    compare with what was read in another way."""
    newest = {(one.entity, one.key): one for one in found if isinstance(one, Change)}
    events = []
    for one in newest.values():
        change, version = "deleted" if one.data is None else "changed", one.version
        if versions is not None and one.data is not None:
            version = one.data[versions[one.entity]]
        events.append(Event(one.entity, change, one.key, version, one.data))
    return events
