"""One connection to legacy, without a server around it: what can block, and for how long."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bridge.errors import LegacyError, VisitorError
from bridge.proxy.backends.servers import Server
from bridge.proxy.hooks import Outcome
from bridge.proxy.routing import models
from bridge.proxy.wsgi.connection import Connection
from bridge.proxy.wsgi.legacy import Exchange, LegacyPool
from bridge.proxy.wsgi.upload import EarlyAnswer
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain

Pair = tuple[Connection, socket.socket]


def asked(pool: LegacyPool) -> Exchange:
    return pool.exchange("GET", "/", [("Host", "a")], None, None, Outcome("", 0, ""))


@pytest.fixture
def legacy() -> Iterator[Pair]:
    """A connection and its other end."""
    ours, theirs = socket.socketpair()
    yield Connection(ours, Server("http://legacy.test")), theirs
    ours.close()
    theirs.close()


@pytest.fixture
def visitor() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A visitor's connection: our end and theirs."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


class TestConnection:
    def test_a_silent_connection_has_no_news(self, legacy: Pair) -> None:
        connection, _ = legacy
        assert not connection.has_news()

    def test_bytes_and_a_hang_up_are_news(self, legacy: Pair) -> None:
        connection, other = legacy
        other.sendall(b"x")
        assert connection.has_news()
        assert connection.receive(1) == b"x"
        assert not connection.has_news()
        other.close()
        assert connection.has_news()
        assert connection.receive(1) == b""

    def test_sending_to_a_full_connection_ends_in_time(self, legacy: Pair) -> None:
        connection, _ = legacy
        with pytest.raises(TimeoutError):
            connection.send(b"x" * 10_000_000, 0.05)

    def test_an_answer_ends_sending_that_blocks(self, legacy: Pair) -> None:
        """The other side has answered and reads no more."""
        connection, other = legacy
        other.sendall(b"HTTP/1.1 413")
        with pytest.raises(EarlyAnswer):
            connection.send(b"x" * 10_000_000, 10)
        assert connection.receive(1) == b"HTTP/1.1 413"

    def test_waiting_for_the_visitor_ends_when_they_send(
        self, legacy: Pair, visitor: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = visitor
        theirs.sendall(b"x")
        legacy[0].wait_for_visitor(ours, BOUND)
        assert ours.recv(1) == b"x"

    def test_waiting_for_the_visitor_ends_when_they_leave(
        self, legacy: Pair, visitor: tuple[socket.socket, socket.socket]
    ) -> None:
        ours, theirs = visitor
        theirs.close()
        legacy[0].wait_for_visitor(ours, BOUND)
        assert ours.recv(1) == b""

    def test_waiting_for_the_visitor_ends_when_legacy_answers(
        self, legacy: Pair, visitor: tuple[socket.socket, socket.socket]
    ) -> None:
        connection, other = legacy
        other.sendall(b"x")
        with pytest.raises(EarlyAnswer):
            connection.wait_for_visitor(visitor[0], BOUND)

    def test_a_visitor_who_sends_nothing_is_not_waited_for_without_end(
        self, legacy: Pair, visitor: tuple[socket.socket, socket.socket]
    ) -> None:
        with pytest.raises(VisitorError) as caught:
            legacy[0].wait_for_visitor(visitor[0], 0.05)
        assert caught.value.status == 408


class TestPool:
    def pool(self, backend: Backend) -> LegacyPool:
        return LegacyPool("php", models.Backend(url=f"http://127.0.0.1:{backend.port}"))

    def test_it_says_how_many_connections_it_has(self, backend: Backend) -> None:
        pool = self.pool(backend)
        assert repr(pool) == "<LegacyPool php: 0 active, 0 idle>"
        exchange = asked(pool)
        assert b"".join(exchange) == b"ok"
        exchange.close()
        assert repr(pool) == "<LegacyPool php: 0 active, 1 idle>"
        pool.close()
        assert repr(pool) == "<LegacyPool php: 0 active, 0 idle>"

    def test_an_answer_that_nobody_reads_gives_its_place_back(self, backend: Backend) -> None:
        backend.when("/", plain(body=b"x" * 1_000_000))
        pool = self.pool(backend)
        exchange = asked(pool)
        assert repr(pool) == "<LegacyPool php: 1 active, 0 idle>"
        exchange.close()
        exchange.close()
        assert repr(pool) == "<LegacyPool php: 0 active, 0 idle>"

    def test_only_some_requests_are_sent_again(self, backend: Backend) -> None:
        """A backend that drops every second request is broken, not restarting: what would
        double its load ends in an error."""

        def every_second(call: Call) -> None:
            if call.received.turn == 2:
                call.close()
            else:
                call.send(plain())

        backend.when("/", every_second)
        pool = self.pool(backend)

        def ask() -> bool:
            try:
                exchange = asked(pool)
            except LegacyError as error:
                return error.stage != "first_byte"
            return b"".join(exchange) == b"ok"

        answered = [ask() for _ in range(40)]
        assert all(answered[:11])
        assert not all(answered)
        assert len(backend.received) < 60
        pool.close()

    def test_the_line_of_those_who_wait_is_bounded(self, backend: Backend) -> None:
        """One has the only place, one waits for it, and the next one is refused at once."""
        body = b"x" * 1_000_000
        backend.when("/", plain(body=body))
        limits = models.Limits(max_in_flight=1, waiting=1)
        url = f"http://127.0.0.1:{backend.port}"
        timeouts = models.Timeouts.model_validate({"wait": "10s"})
        pool = LegacyPool("php", models.Backend(url=url, limits=limits, timeouts=timeouts))
        first = asked(pool)
        with ThreadPoolExecutor(1) as threads:
            second = threads.submit(asked, pool)
            wait_for(lambda: pool._waiting == 1, BOUND, "the second in the line")
            with pytest.raises(LegacyError, match="1 requests are in flight") as caught:
                asked(pool)
            assert (caught.value.stage, caught.value.status) == ("wait", 503)
            first.close()
            with contextlib.closing(second.result(BOUND)) as answer:
                assert b"".join(answer) == body
        pool.close()

    def test_a_pool_that_is_closed_keeps_no_connection(self, backend: Backend) -> None:
        """A reload has replaced it; what still runs on it ends well."""
        pool = self.pool(backend)
        exchange = asked(pool)
        pool.close()
        assert b"".join(exchange) == b"ok"
        exchange.close()
        pool.close()
        assert repr(pool) == "<LegacyPool php: 0 active, 0 idle>"
