"""What is written at once, and what the transport is left with."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from bridge.proxy.engine.outlet import descriptor, send


class Transport:
    """Keeps what it is given."""

    def __init__(self, sock: socket.socket | None, *, tls: bool = False) -> None:
        self.extra = {"socket": sock, "sslcontext": object() if tls else None}
        self.waiting = b""
        self.closing = False

    def get_extra_info(self, name: str) -> object:
        return self.extra[name]

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes) -> None:
        self.waiting += data


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def sent(transport: Transport, data: bytes) -> None:
    plain = cast(asyncio.Transport, transport)
    send(plain, descriptor(plain), data)


def test_what_the_socket_takes_is_written_at_once(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    transport = Transport(pair[0])
    sent(transport, b"answer")
    assert pair[1].recv(100) == b"answer"
    assert transport.waiting == b""


def test_what_the_socket_does_not_take_is_the_transports(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    transport = Transport(pair[0])
    data = bytes(range(256)) * 40_000
    sent(transport, data)
    came = b""
    while piece := _received(pair[1]):
        came += piece
    assert came
    assert transport.waiting
    assert came + transport.waiting == data


def test_nothing_overtakes_what_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport(pair[0])
    transport.waiting = b"first "
    sent(transport, b"second")
    assert transport.waiting == b"first second"
    assert _received(pair[1]) == b""


def test_a_closing_connection_gets_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport(pair[0])
    transport.closing = True
    sent(transport, b"answer")
    assert (transport.waiting, _received(pair[1])) == (b"", b"")


def test_the_transport_finds_out_that_a_connection_broke(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    transport = Transport(pair[0])
    pair[1].close()
    sent(transport, b"answer")
    assert transport.waiting == b"answer"


def test_only_the_transport_encrypts(pair: tuple[socket.socket, socket.socket]) -> None:
    transport = Transport(pair[0], tls=True)
    sent(transport, b"secret")
    assert (transport.waiting, _received(pair[1])) == (b"secret", b"")


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""
