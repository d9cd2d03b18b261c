"""How fast the database's log is decoded: the same bytes of a real MariaDB, by us and by PyPI's
mysql-replication, in one process and in turns.

Rows of 6 columns and of the 23 of WordPress's wp_posts are inserted, updated and deleted, a hundred
with each statement. Ours is all from an event's bytes to changes of an entity with their keys and
versions; the library's is all from a packet to its rows. What both say is compared once before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from pymysql.protocol import MysqlPacket
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent
from rich.console import Console

from bench.log_site import CHANGES, KEY, LOG, TABLES, say, statements
from bench.report import BenchmarkFailed
from bridge.queue.sql.database import connect, reading
from bridge.sync.documents import Mirror
from bridge.sync.log.charsets import Charsets
from bridge.sync.log.collations import charsets_of
from bridge.sync.log.format import Kind
from bridge.sync.log.position import Position
from bridge.sync.log.replica import Replica
from bridge.sync.log.rows import Reader
from bridge.sync.log.stream import Change, Stream
from bridge.sync.log.tables import Shape
from bridge.sync.models import File
from bridge.sync.sql.learn import learn
from stack.mariadb import MariaDB

__all__ = ["Case", "decode"]

COUNTS, QUICK_COUNTS = {"six": 20_000, "posts": 6_000}, {"six": 500, "posts": 200}
EVENTS = {"insert": WriteRowsEvent, "update": UpdateRowsEvent, "delete": DeleteRowsEvent}


def decode(folder: Path, rounds: int, progress: Console) -> list[Case]:
    """Rounds in turns; one round is short. Raises BenchmarkFailed and StackError."""
    counts = QUICK_COUNTS if rounds == 1 else COUNTS
    with MariaDB(folder / "mariadb", database="site", options=LOG, buffer_pool="256M") as server:
        engine = connect(server.url)
        cases = [
            case for table, count in counts.items() for case in _recorded(engine, table, count)
        ]
        ours, library = _Ours(engine), _Library(server)
        for case in cases:
            _same(case, ours.read(case), library.read(case))
        for number in range(rounds):
            progress.print(f"decode: round {number + 1} of {rounds}", style="dim")
            for case in cases:
                ways: list[tuple[list[float], Callable[[], Callable[[], int]]]] = [
                    (case.ours, lambda case=case: ours.timed(case)),  # type: ignore[misc]
                    (case.library, lambda case=case: library.timed(case)),  # type: ignore[misc]
                ]
                # No way is always the first one.
                for rates, prepare in ways if number % 2 else reversed(ways):
                    rates.append(_rate(case, prepare()))
        engine.dispose()
    return cases


@dataclass
class Case:
    """Events of one kind of change of a table, from the beginning of a file of the log on. rows:
    how many there are. ours, library: rows a second, of each round."""

    table: str
    change: str
    rows: int
    events: list[bytes]
    ours: list[float] = field(default_factory=list)
    library: list[float] = field(default_factory=list)


def _rate(case: Case, read: Callable[[], int]) -> float:
    began = time.perf_counter()
    rows = read()
    took = time.perf_counter() - began
    if rows != case.rows:
        raise BenchmarkFailed(f"{case.change} of {case.table}: {rows} rows of {case.rows}")
    return rows / took


# The log.


def _recorded(engine: sql.Engine, table: str, count: int) -> Iterator[Case]:
    """Make the changes, each kind in a file of its own, and keep the bytes of the log."""
    say(engine, TABLES[table])
    for change in CHANGES:
        say(engine, "FLUSH BINARY LOGS", *statements(table, change, 1, count))
        yield Case(table, change, count, list(_events(engine)))


def _events(engine: sql.Engine) -> Iterator[bytes]:
    """All of the last file of the log."""
    with engine.connect() as connection:
        file, end = connection.exec_driver_sql("SHOW MASTER STATUS").one()[:2]
    with Replica(engine.url.render_as_string(hide_password=False)) as replica:
        replica.start_at(str(file), 4)
        stream = Stream(Position(1, None), lambda shape: ())
        for raw in replica.events():
            stream.feed(raw)
            if raw[4] != Kind.HEARTBEAT:
                yield raw
            if stream.position.end == end:
                return


# The two ways.


class _Ours:
    def __init__(self, engine: sql.Engine) -> None:
        sources = {table: {"table": table, "key": KEY[table], "log": True} for table in KEY}
        entities = {name: {"collection": name, "source": one} for name, one in sources.items()}
        self._mirror = Mirror(File.model_validate({"version": 1, "entities": entities}))
        self._charsets: Charsets = charsets_of(engine)
        with reading(engine) as connection:
            for name in KEY:
                learn(connection, self._mirror, name)

    def read(self, case: Case) -> list[Change]:
        """All changes."""
        stream = self._stream()
        return [one for raw in case.events for one in stream.feed(raw) if type(one) is Change]

    def timed(self, case: Case) -> Callable[[], int]:
        """Reads them all and says how many there are."""
        feed = self._stream().feed
        return lambda: sum(len(feed(raw)) for raw in case.events)

    def _stream(self) -> Stream:
        return Stream(Position(1, None), self._readers)

    def _readers(self, shape: Shape) -> Sequence[Reader]:
        types = self._mirror.typed(shape.table)
        source = self._mirror.entities[shape.table].source
        assert types is not None
        assert source is not None
        return (Reader(shape, types, source, self._charsets),)


class _Packets:
    """What the library takes for its connection: it has all packets, and an end."""

    def __init__(self, events: Sequence[bytes]) -> None:
        end = MysqlPacket(b"\xfe\0\0\0\0", "utf8mb4")
        self._packets = iter([*(MysqlPacket(b"\0" + one, "utf8mb4") for one in events), end])

    def _read_packet(self) -> MysqlPacket:
        return next(self._packets)

    def close(self) -> None:
        """Nothing is open."""


class _Library:
    def __init__(self, server: MariaDB) -> None:
        self._where = {"host": server.host, "port": server.port, "user": "root", "passwd": ""}

    def read(self, case: Case) -> list[Mapping[str, Any]]:
        """All rows."""
        reader = self._reader(case)
        return [row for event in reader for row in event.rows]

    def timed(self, case: Case) -> Callable[[], int]:
        """Reads them all and says how many there are."""
        reader = self._reader(case)
        return lambda: sum(len(event.rows) for event in reader)

    def _reader(self, case: Case) -> Any:
        reader = BinLogStreamReader(
            connection_settings=self._where,
            server_id=99,
            blocking=True,
            log_file="bin.000001",
            log_pos=4,
            resume_stream=True,
            only_events=[EVENTS[case.change]],
            is_mariadb=True,
            enable_logging=False,
        )
        # It connects, so that it knows of checksums; then it reads what was recorded.
        reader._BinLogStreamReader__connect_to_stream()
        reader._stream_connection.close()
        reader._stream_connection = _Packets(case.events)
        return reader


def _same(case: Case, ours: Sequence[Change], library: Sequence[Mapping[str, Any]]) -> None:
    """Raises BenchmarkFailed where the two do not say the same."""
    for change, row in zip(ours, library, strict=True):
        values = row["after_values"] if case.change == "update" else row["values"]
        if change.key != str(values[KEY[case.table]]):
            raise BenchmarkFailed(f"{case.change} of {case.table}: key {change.key}, not {values}")
        for name, found in (change.data or {}).items():
            if str(found) != str(values[name]):
                raise BenchmarkFailed(f"{case.table}.{name}: {found!r}, not {values[name]!r}")
