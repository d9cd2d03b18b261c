"""Fields that are for one connection only go no further, in both directions (RFC 9110, 7.6.1)."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge

FIELDS = [
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authenticate: Basic",
    "Proxy-Authorization: Basic dTpw",
    "TE: gzip",
    "Trailer: X-Checksum",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
]


@pytest.mark.parametrize("field", FIELDS)
def test_a_visitors_hop_by_hop_field_stops_here(
    bridge: Bridge, backend: Backend, field: str
) -> None:
    assert bridge.ask("GET", "/", field).status == 200
    assert backend.only().get(field.partition(":")[0]) is None


@pytest.mark.parametrize("field", [*FIELDS, "Connection: X-Anything"])
def test_a_hop_by_hop_field_of_legacy_stops_here(
    bridge: Bridge, backend: Backend, field: str
) -> None:
    name, _, value = field.partition(": ")
    backend.when("/", plain("200 OK", field))
    got = bridge.ask("GET", "/")
    assert got.body == b"ok"
    assert value not in got.all(name)


@pytest.mark.parametrize(
    "connection", ["X-One, x-two", "close, X-ONE ,x-Two", "keep-alive,X-One,,X-Two"]
)
def test_what_connection_names_in_a_request_stops_here(
    bridge: Bridge, backend: Backend, connection: str
) -> None:
    bridge.ask("GET", "/", f"Connection: {connection}", "X-One: 1", "X-Two: 2", "X-Three: 3")
    received = backend.only()
    assert received.get("Connection") is None
    assert received.get("X-One") is None
    assert received.get("X-Two") is None
    assert received.get("X-Three") == "3"


def test_what_connection_names_in_an_answer_stops_here(bridge: Bridge, backend: Backend) -> None:
    backend.when("/", plain("200 OK", "Connection: X-One", "X-One: 1", "X-Two: 2"))
    got = bridge.ask("GET", "/")
    assert got.get("X-One") is None
    assert got.get("X-Two") == "2"


def test_two_connection_fields_both_count(bridge: Bridge, backend: Backend) -> None:
    backend.when(
        "/", plain("200 OK", "Connection: X-One", "X-One: 1", "connection: X-Two", "X-Two: 2")
    )
    got = bridge.ask("GET", "/")
    assert got.get("X-One") is None
    assert got.get("X-Two") is None


def test_a_visitor_cannot_remove_what_the_bridge_adds(bridge: Bridge, backend: Backend) -> None:
    """`Connection: X-Forwarded-For` would hide who asks from the legacy side."""
    bridge.ask(
        "GET", "/", "Connection: Host, X-Forwarded-For, X-Bridge-Hop, Content-Length", body=b"x"
    )
    received = backend.only()
    assert received.get("Host") == "main.test"
    assert received.get("X-Forwarded-For") == "127.0.0.1"
    assert received.get("X-Bridge-Hop")
    assert received.get("Content-Length") == "1"


@pytest.mark.parametrize("field", ["TE: trailers", "TE: gzip;q=0.5, trailers"])
def test_te_trailers_is_said_again(bridge: Bridge, backend: Backend, field: str) -> None:
    """And nothing else of TE."""
    bridge.ask("GET", "/", field)
    assert backend.only().all("TE") == ["trailers"]


def test_everything_else_goes_through_unchanged(bridge: Bridge, backend: Backend) -> None:
    lines = [
        "Accept: text/html;q=0.9",
        "X-Custom: a  b",
        'If-None-Match: W/"x"',
        "Authorization: Basic dTpw",
    ]
    backend.when("/", plain("200 OK", 'ETag: "x"', "x-lower: a  b", "WWW-Authenticate: Basic"))
    got = bridge.ask("GET", "/", *lines)
    received = backend.only()
    assert all(
        (name, value) in received.headers for name, _, value in (x.partition(": ") for x in lines)
    )
    assert [
        pair for pair in got.headers if pair[0] not in ("Date", "Connection", "Content-Length")
    ] == [
        ("ETag", '"x"'),
        ("x-lower", "a  b"),
        ("WWW-Authenticate", "Basic"),
    ]
