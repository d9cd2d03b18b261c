"""Answers that have no body, whatever their headers say (RFC 9110, 6.4.1)."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request


def test_the_answer_to_head_keeps_its_length(bridge: Bridge, backend: Backend) -> None:
    """The length is that of the GET; nothing of it comes, and the connections stay usable."""
    backend.when("/h", plain("200 OK", "Content-Length: 12345", length=False, body=b""))
    with bridge.visitor() as visitor:
        visitor.send(request("HEAD", "/h") + request("GET", "/next"))
        got = visitor.answer("HEAD")
        assert (got.status, got.get("Content-Length")) == (200, "12345")
        assert visitor.answer().body == b"ok"
    first, second = backend.received
    assert first.connection == second.connection


def test_the_answer_to_head_may_name_a_transfer_coding(bridge: Bridge, backend: Backend) -> None:
    backend.when("/h", plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b""))
    with bridge.visitor() as visitor:
        visitor.send(request("HEAD", "/h") + request("GET", "/next"))
        assert visitor.answer("HEAD").status == 200
        assert visitor.answer().body == b"ok"


def test_a_body_sent_with_the_answer_to_head_reaches_nobody(
    bridge: Bridge, backend: Backend
) -> None:
    """Some scripts print their page all the same."""
    backend.when("/h", plain("200 OK", body=b"HTTP/1.1 200 OK\r\n\r\n"))
    with bridge.visitor() as visitor:
        visitor.send(request("HEAD", "/h") + request("GET", "/next"))
        assert visitor.answer("HEAD").status == 200
        assert visitor.answer().body == b"ok"
    first, second = backend.received
    assert first.connection != second.connection


def test_a_304_keeps_its_length_and_its_validators(bridge: Bridge, backend: Backend) -> None:
    headers = ["Content-Length: 777", 'ETag: "v1"', "Cache-Control: max-age=9"]
    backend.when("/c", plain("304 Not Modified", *headers, length=False, body=b""))
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/c", 'If-None-Match: "v1"') + request("GET", "/next"))
        got = visitor.answer()
        assert (got.status, got.get("Content-Length"), got.get("ETag")) == (304, "777", '"v1"')
        assert visitor.answer().body == b"ok"


@pytest.mark.parametrize("headers", [[], ["Content-Length: 0"], ["Content-Length: 5"]])
def test_a_204_has_neither_body_nor_length(
    bridge: Bridge, backend: Backend, headers: list[str]
) -> None:
    """RFC 9110, 8.6, forbids the length; gunicorn takes it away."""
    backend.when("/n", plain("204 No Content", *headers, length=False, body=b""))
    with bridge.visitor() as visitor:
        visitor.send(request("DELETE", "/n") + request("GET", "/next"))
        got = visitor.answer()
        assert (got.status, got.get("Content-Length")) == (204, None)
        assert visitor.answer().body == b"ok"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 0\r\n\r\n",
        b"Content-Length: 5\r\n\r\nreset",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nreset\r\n0\r\n\r\n",
    ],
)
def test_a_205_is_empty_whatever_came_with_it(
    bridge: Bridge, backend: Backend, rest: bytes
) -> None:
    backend.when("/r", b"HTTP/1.1 205 Reset Content\r\n" + rest)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/r") + request("GET", "/next"))
        got = visitor.answer()
        assert (got.status, got.get("Content-Length"), got.body) == (205, "0", b"")
        assert visitor.answer().body == b"ok"
