"""MySQL says by a number where its log ends, and is asked to go on after it. There is no MySQL
here: the server is a double with the answers that MySQL's manual gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.errors import BridgeError
from bridge.sync.gtid import Gtid
from bridge.sync.log import follow
from bridge.sync.log.follow import AnotherHistory, Follower, end_of_log
from bridge.sync.log.position import Position
from bridge.sync.log.replica import LogGone
from tests.sync.log.made import UUID, Maker

URL = "mysql://reader@db.example.org/shop"
ANSWERS = {
    "SELECT @@log_bin": 1,
    "SELECT @@global.gtid_executed": f"{UUID}:1-77",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY": None,
    "SELECT @@server_uuid": UUID,
}
AT_77 = Position(1, Gtid(UUID, 0, 77), server=UUID)


class Double:
    """An engine and its one connection. asked: the statements, in order."""

    driver = SimpleNamespace(Error=OSError)
    dialect = SimpleNamespace(name="mysql", is_mariadb=False, loaded_dbapi=driver)

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers, self.asked = answers, list[str]()

    @contextmanager
    def connect(self) -> Iterator[Double]:
        yield self

    begin = connect

    def execution_options(self, **options: str) -> Double:
        assert options == {"isolation_level": "REPEATABLE READ"}
        return self

    def exec_driver_sql(self, statement: str) -> Any:
        self.asked.append(statement)
        return SimpleNamespace(scalar=lambda: self.answers[statement])

    def dispose(self) -> None:
        self.asked.append("")


@pytest.fixture
def mysql(monkeypatch: pytest.MonkeyPatch) -> Double:
    made = Double(dict(ANSWERS))
    monkeypatch.setattr(follow, "connect", lambda url: made)
    monkeypatch.setattr(follow, "Replica", None)  # asks nothing of the kind
    return made


def test_the_end_of_the_log_is_a_number_without_a_file(mysql: Double) -> None:
    assert end_of_log(URL, 1) == AT_77
    assert mysql.asked == [*ANSWERS, ""]


def test_a_server_without_a_transaction_is_at_the_beginning(mysql: Double) -> None:
    mysql.answers["SELECT @@global.gtid_executed"] = ""

    assert end_of_log(URL, 3) == Position(3, None, server=UUID)


def test_a_server_that_writes_no_log_is_refused(mysql: Double) -> None:
    mysql.answers["SELECT @@log_bin"] = 0

    with pytest.raises(BridgeError, match="writes no log"):
        end_of_log(URL, 1)


def test_transactions_of_several_servers_are_refused(mysql: Double) -> None:
    mysql.answers["SELECT @@global.gtid_executed"] = f"{UUID}:1-77,\n{UUID[::-1]}:1-5"

    with pytest.raises(BridgeError, match="follows one"):
        end_of_log(URL, 1)


class Replica:
    """Sends these events. begun: after which transaction."""

    def __init__(self, events: list[bytes | Exception]) -> None:
        self._events, self.begun, self.closed = events, list[Gtid | None](), False

    def start_after(self, gtid: Gtid | None) -> None:
        self.begun.append(gtid)

    def events(self) -> Iterator[bytes]:
        while self._events:
            one = self._events.pop(0)
            if isinstance(one, Exception):
                raise one
            yield one

    def has_more(self) -> bool:
        return bool(self._events)

    def close(self) -> None:
        self.closed = True


def test_reading_begins_after_the_number_and_learns_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maker = Maker("8.0.36")
    events = [maker.rotation("binlog.000007"), maker.described()]
    maker.at = 5000  # what is before was read
    begins = maker.at
    events += [maker.mysql_gtid(78), maker.said("BEGIN"), maker.xid()]
    replica = Replica(list(events))
    monkeypatch.setattr(follow, "Replica", lambda url: replica)

    with Follower(URL, AT_77, lambda shape: ()) as follower:
        assert follower.stream.position == AT_77
        assert list(follower.found()) == [[], [], []]
        found = follower.stream.position

    assert replica.begun == [AT_77.gtid]
    assert replica.closed
    assert (found.gtid, found.file) == (Gtid(UUID, 0, 78), "binlog.000007")
    assert (found.start, found.end, found.made) == (begins, maker.at, 1_600_000_000)


def test_a_number_that_the_server_has_not_or_no_more_is_another_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica([LogGone("the server does not have the log from there on: purged")])
    monkeypatch.setattr(follow, "Replica", lambda url: replica)

    with pytest.raises(AnotherHistory, match="thrown away"):
        Follower(URL, AT_77, lambda shape: ())
    assert replica.closed
