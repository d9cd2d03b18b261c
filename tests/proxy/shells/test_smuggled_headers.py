"""Headers that would pretend something to the other side go no further."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge

INTERNAL = ["X-Accel-Redirect: /secret", "X-Accel-Buffering: no", "X-Sendfile: /etc/passwd"]


@pytest.mark.parametrize(
    "line",
    [
        "X_Forwarded_For: 6.6.6.6",
        "X_Name: evil",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "_: evil",
        "Proxy: http://evil.example",
        "PROXY: http://evil.example",
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "x-rewrite-url: /admin",
        "X-Bridge-Decision: python",
        "X-Bridge-Anything: 1",
        "X-Bridge-Use-Legacy: 1",
    ],
)
def test_a_visitor_cannot_smuggle_it_to_legacy(bridge: Bridge, backend: Backend, line: str) -> None:
    """`X_A` shadows `X-A` in PHP and in many servers; `Proxy` becomes HTTP_PROXY."""
    assert bridge.ask("GET", "/", line, "X-Kept: yes").status == 200
    received = backend.only()
    assert received.get("X-Kept") == "yes"
    name, _, value = line.partition(": ")
    assert name.encode().lower() not in received.raw.lower().replace(b"x-bridge-hop", b"")
    assert value not in received.all(name.replace("_", "-"))


def test_a_visitor_cannot_smuggle_it_to_a_handler(bridge: Bridge, backend: Backend) -> None:
    lines = ["X_Name: evil", "Proxy: http://evil.example", "X-Original-URL: /admin", "X-Name: good"]
    got = bridge.ask("GET", "/py/shows_head", *lines, host="python.test")
    seen = got.body.decode().splitlines()
    assert "HTTP_X_NAME=good" in seen
    assert b"evil" not in got.body
    assert b"/admin" not in got.body


@pytest.mark.parametrize("line", [*INTERNAL, "X-Lighttpd-Send-File: /etc/passwd"])
def test_an_internal_header_of_legacy_does_not_reach_the_visitor(
    bridge: Bridge, backend: Backend, line: str
) -> None:
    """Nor a front end behind us, which would send the file."""
    backend.when("/", plain("200 OK", line, line.upper()))
    got = bridge.ask("GET", "/")
    assert got.body == b"ok"
    assert got.get(line.partition(":")[0]) is None


@pytest.mark.parametrize("line", INTERNAL)
def test_an_internal_header_passes_where_the_backend_is_configured_for_it(
    bridge: Bridge, backend: Backend, line: str
) -> None:
    backend.when("/", plain("200 OK", line))
    name, _, value = line.partition(": ")
    assert bridge.ask("GET", "/", host="accel.test").all(name) == [value]


def test_our_own_headers_do_not_reach_the_visitor(bridge: Bridge, backend: Backend) -> None:
    backend.when("/", plain("200 OK", "X-Bridge-Hop: 1", "x-bridge-decision: 2", "X-Kept: yes"))
    got = bridge.ask("GET", "/")
    assert [name for name, _ in got.headers if name.lower().startswith("x-bridge")] == []
    assert got.get("X-Kept") == "yes"


def test_our_own_headers_of_a_handler_do_not_either(bridge: Bridge, backend: Backend) -> None:
    got = bridge.ask("GET", "/py/tells", host="python.test")
    assert (got.body, got.get("X-Mine"), got.get("X-Bridge-Anything")) == (b"told", "kept", None)
