"""Over TLS an answer ends as over plain TCP: whole however slowly it is read, or plainly cut."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.proxy.engine.limits import Limits
from bridge.proxy.routing.table import RouteTable
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import request
from tests.proxy.site import TOP, table

SIZE = 8_000_000


@pytest.fixture
def routes(backend: Backend) -> RouteTable:
    return table(
        'name: large, path: /large, handler: "tests.proxy.engine.inside:large", python: 100%',
        top=TOP.replace(":8090", f":{backend.port}"),
    )


@contextlib.contextmanager
def visitor(inside: Inside, certificate: tuple[Path, Path]) -> Iterator[ssl.SSLSocket]:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    # An end without a goodbye is an error, as for browsers.
    trust.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    told = {"server_hostname": "127.0.0.1", "suppress_ragged_eofs": False}
    with (
        socket.create_connection(inside.address, timeout=BOUND) as sock,
        trust.wrap_socket(sock, **told) as secure,  # type: ignore[arg-type]
    ):
        yield secure


def read(sock: ssl.SSLSocket, pause: float = 0.0) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
        time.sleep(pause)
    return data


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_large_answer_at_the_end_of_a_connection_is_whole(
    routes: RouteTable, tls: ssl.SSLContext, certificate: tuple[Path, Path], version: str
) -> None:
    """It is read for seconds after the last of it was written."""
    limits = Limits(stall=1.0)
    with engine(routes, tls=tls, limits=limits) as inside, visitor(inside, certificate) as sock:
        sock.sendall(request("GET", "/large", "Connection: close", host=HOST, version=version))
        assert len(read(sock, 0.008).partition(b"\r\n\r\n")[2]) == SIZE


def test_who_stops_reading_at_the_end_is_ended(
    routes: RouteTable, tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    limits = Limits(stall=0.5)
    with engine(routes, tls=tls, limits=limits) as inside, visitor(inside, certificate) as sock:
        sock.sendall(request("GET", "/large", "Connection: close", host=HOST))
        inside.wait_until_empty()


def test_an_answer_without_a_length_that_breaks_off_is_not_taken_for_whole(
    routes: RouteTable, backend: Backend, tls: ssl.SSLContext, certificate: tuple[Path, Path]
) -> None:
    def breaks_off(call: Call) -> None:
        call.send(plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b""))
        call.send(b"5\r\nhello\r\n")
        time.sleep(0.2)
        call.reset()

    backend.when("/breaks", breaks_off)
    with engine(routes, tls=tls) as inside, visitor(inside, certificate) as sock:
        sock.sendall(request("GET", "/breaks", host=HOST, version="1.0"))
        with pytest.raises(OSError, match=r"EOF|reset"):
            read(sock)
