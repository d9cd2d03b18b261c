"""What the tests of the producer share: the streams, and something else where Redis should be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import redis

from bridge.queue.events import Event

PRODUCER = Path(__file__).parents[2] / "php" / "BridgeProducer.php"
SQL = PRODUCER.parent / "sql"
PUBLISH = (
    "echo json_encode(array($bridge->publish('project', 'changed', 'vim', 1, array('n' => 1)),"
    " $bridge->error()));"
)

Page = Callable[..., str]


class Listener:
    """Something that accepts connections where Redis should be, and counts them.

    answer: pieces of bytes sent to the first connection; without any, silence.
    Set hang_up, and the connection is closed after them.
    """

    def __init__(self, *answer: bytes) -> None:
        self._answer = answer
        self.hang_up = False
        self._server = socket.socket()
        # What is sent to somebody who does not read must not fit into the buffer.
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self._server.settimeout(10)
        self._open: list[socket.socket] = []
        self.port: int = self._server.getsockname()[1]
        if answer:
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        self._open.append(connection)
        connection.recv(65536)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in self._answer:
            connection.sendall(piece)
        if self.hang_up:
            connection.close()

    def connections(self) -> int:
        """How many connections wait to be accepted; each is counted once."""
        self._server.setblocking(False)
        count = 0
        while True:
            try:
                self._open.append(self._server.accept()[0])
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        for connection in (*self._open, self._server):
            connection.close()


def events_on(client: redis.Redis, queue: str = "bridge.events") -> list[Event]:
    """The events on the stream, oldest first; each entry holds the event's JSON and no more."""
    entries = client.xrange(queue)
    assert all(list(fields) == [b"body"] for _, fields in entries)  # type: ignore[union-attr]
    return [Event.parse(fields[b"body"]) for _, fields in entries]  # type: ignore[union-attr]


def event_on(client: redis.Redis, queue: str = "bridge.events") -> Event:
    """The one event on the stream."""
    (event,) = events_on(client, queue)
    return event
