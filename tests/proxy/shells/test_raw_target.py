"""The target of a request reaches legacy byte for byte, however odd it is."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

TARGETS = [
    b"/",
    b"/a/b.html?x=1&y=2",
    b"/a%2Fb",
    b"/a%2fb",
    b"/100%25",
    b"/a%2541",
    b"/nul%00byte",
    b"/a;b=1;c/d;e",
    b"//double//slash//",
    b"//other.example/path",
    b"/a/../b/./c/..",
    b"/a/%2e%2e/b",
    b"/plus+and%20space",
    b"/a?x=1&&y=&=z&",
    b"/a?",
    b"/a??b?c",
    b"/a?x=%zz&y=%&z=%4",
    b"/%zz/%",
    b"/a?b[]=1&b[x]=2&c.d=3",
    b"/a?u=http://other.example/?x=1#",
    b"/a#fragment",
    b"/caf\xc3\xa9?x=\xc3\xa9",
    b"/caf\xe9?x=\xe9",
    b"/\xff\xfe",
    b"/%c3%a9/%C3%A9",
    b"/back\\slash",
    b"/quotes'\"<>{}|^`",
    b"/a:b@c!$&'()*+,=~",
    b"/index.php/admin/x.php",
    b"/:80/",
    b"/?" + b"x" * 4000,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target)[1:40])
def test_a_target_reaches_legacy_byte_for_byte(
    bridge: Bridge, backend: Backend, target: bytes
) -> None:
    assert bridge.ask("GET", target).status == 200
    assert backend.only().target == target


@pytest.mark.parametrize("target", TARGETS[:8], ids=lambda target: repr(target)[1:40])
def test_the_prefix_of_a_backend_is_put_in_front_and_nothing_else_changes(
    bridge: Bridge, backend: Backend, target: bytes
) -> None:
    assert bridge.ask("GET", target, host="prefixed.test").status == 200
    assert backend.only().target == b"/app" + target


def test_options_for_the_whole_server_goes_to_legacy(bridge: Bridge, backend: Backend) -> None:
    backend.when("*", plain("200 OK", "Allow: GET"))
    got = bridge.ask("OPTIONS", "*")
    assert (got.status, got.get("Allow")) == (200, "GET")
    assert backend.only().line == b"OPTIONS * HTTP/1.1"


def test_options_for_the_whole_server_has_no_prefix(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("OPTIONS", "*", host="prefixed.test")
    assert backend.only().target == b"*"


def test_options_for_the_whole_server_in_absolute_form(bridge: Bridge, backend: Backend) -> None:
    """RFC 9112, 3.2.4: the last proxy turns a target without a path into `*`."""
    bridge.ask("OPTIONS", "http://main.test")
    assert backend.only().target == b"*"


@pytest.mark.parametrize("target", ["*", "admin", "admin.php?x=1", "main.test:80", "?x=1", "\\"])
def test_a_target_of_no_form_is_a_400(bridge: Bridge, backend: Backend, target: str) -> None:
    got = bridge.ask("GET", target)
    assert got.status == 400
    assert backend.received == []


@pytest.mark.parametrize("target", ["main.test:443", "other.example:80", "/", "*"])
def test_connect_is_refused(bridge: Bridge, backend: Backend, target: str) -> None:
    """This is no tunnel, and what follows on the connection is not read as a request."""
    with bridge.visitor() as visitor:
        visitor.send(request("CONNECT", target) + request("GET", "/second"))
        assert visitor.answer().status in ((405,) if target != "*" else (400, 405))
        assert visitor.ended()
    assert backend.received == []


@pytest.mark.parametrize(
    ("target", "received"),
    [
        ("http://main.test/a%2Fb?x=1", b"/a%2Fb?x=1"),
        ("HTTP://MAIN.test/", b"/"),
        ("http://main.test", b"/"),
        ("http://main.test?x", b"/?x"),
        ("https://main.test//a", b"//a"),
    ],
)
def test_absolute_form_becomes_origin_form(
    bridge: Bridge, backend: Backend, target: str, received: bytes
) -> None:
    assert bridge.ask("GET", target).status == 200
    assert backend.only().target == received
    assert backend.only().all("Host") == ["main.test"]


@pytest.mark.parametrize(
    "target",
    [
        "http://other.example/",
        "http://named.test/",
        "http://main.test:1/",
        "http://main.test@other.example/",
        "http:///",
        "http://other.example:80\\@main.test/",
        "ftp://main.test/",
        "file:///etc/passwd",
    ],
)
def test_absolute_form_never_changes_where_a_request_goes(
    bridge: Bridge, backend: Backend, target: str
) -> None:
    """Two names for the site in one request: refused, whichever of them is ours."""
    assert bridge.ask("GET", target).status == 400
    assert backend.received == []


def test_a_target_that_is_too_long_is_a_414(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("GET", "/" + "x" * 9000).status == 414
    assert backend.received == []
