"""What a real nginx with php-fpm answers arrives as if the visitor had asked it directly."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from stack.nginx import NginxPhp
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer, Visitor, request

STYLE = Path(__file__).with_name("docroot") / "style.css"
VARYING = ("Date", "X-Connection")

REQUESTS = {
    "whole": ("GET", "/style.css", []),
    "head": ("HEAD", "/style.css", []),
    "first bytes": ("GET", "/style.css", ["Range: bytes=0-9"]),
    "last bytes": ("GET", "/style.css", ["Range: bytes=-10"]),
    "several ranges": ("GET", "/style.css", ["Range: bytes=0-1,5-6"]),
    "range beyond the end": ("GET", "/style.css", ["Range: bytes=99999999-"]),
    "nonsense range": ("GET", "/style.css", ["Range: lines=1-2"]),
    "compressed": ("GET", "/style.css", ["Accept-Encoding: gzip"]),
    "unknown page": ("GET", "/none/style.css?x=1", []),
    "post": ("POST", "/index.php?a=1", ["Content-Length: 5"]),
    "directory": ("GET", "/", []),
    "method": ("DELETE", "/style.css", []),
}


def directly(nginx: NginxPhp, raw: bytes, method: str) -> Answer:
    """The answer without the bridge."""
    with Visitor(("127.0.0.1", nginx.port)) as visitor:
        visitor.send(raw)
        return visitor.answer(method)


def comparable(got: Answer) -> tuple[str, list[tuple[str, str]], bytes]:
    """What must be the same; the boundary of a multipart answer is a new one each time."""
    boundary = (got.get("Content-Type") or "").partition("boundary=")[2]
    headers = sorted((n, v.replace(boundary, "*")) for n, v in got.headers if n not in VARYING)
    body = got.body.replace(boundary.encode(), b"*") if boundary else got.body
    return got.line, [pair for pair in headers if boundary or pair], body


@pytest.mark.parametrize("what", REQUESTS)
def test_an_answer_is_that_of_nginx(bridge: Bridge, nginx: NginxPhp, what: str) -> None:
    """Status, headers and body, byte for byte."""
    method, target, lines = REQUESTS[what]
    raw = request(method, target, *lines, host="nginx.test")
    raw += b"hello" if method == "POST" else b""
    with bridge.visitor() as visitor:
        visitor.send(raw)
        got = visitor.answer(method)
    assert comparable(got) == comparable(directly(nginx, raw, method))


def test_a_range_is_answered_with_a_206(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/style.css", "Range: bytes=3-7", host="nginx.test")
    assert (got.status, got.body) == (206, STYLE.read_bytes()[3:8])
    assert got.get("Content-Range") == f"bytes 3-7/{STYLE.stat().st_size}"


def test_a_range_that_cannot_be_is_answered_with_a_416(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/style.css", "Range: bytes=999999-", host="nginx.test")
    assert (got.status, got.get("Content-Range")) == (416, f"bytes */{STYLE.stat().st_size}")


def test_a_validator_works(bridge: Bridge) -> None:
    """ETag and Last-Modified lead to a 304 without a body."""
    first = bridge.ask("GET", "/style.css", host="nginx.test")
    for line in (
        f"If-None-Match: {first.get('ETag')}",
        f"If-Modified-Since: {first.get('Last-Modified')}",
    ):
        again = bridge.ask("GET", "/style.css", line, host="nginx.test")
        assert (again.status, again.body, again.get("ETag")) == (304, b"", first.get("ETag"))


def test_if_range_decides_between_a_part_and_the_whole(bridge: Bridge) -> None:
    etag = bridge.ask("GET", "/style.css", host="nginx.test").get("ETag")
    part = bridge.ask(
        "GET", "/style.css", "Range: bytes=0-4", f"If-Range: {etag}", host="nginx.test"
    )
    whole = bridge.ask("GET", "/style.css", "Range: bytes=0-4", 'If-Range: "x"', host="nginx.test")
    assert (part.status, len(part.body)) == (206, 5)
    assert (whole.status, whole.body) == (200, STYLE.read_bytes())


def test_a_compressed_body_stays_compressed(bridge: Bridge) -> None:
    """Only for who asked for it, and never with a Via that would switch it off."""
    packed = bridge.ask("GET", "/style.css", "Accept-Encoding: gzip", host="nginx.test")
    plainly = bridge.ask("GET", "/style.css", host="nginx.test")
    assert packed.get("Content-Encoding") == "gzip"
    assert gzip.decompress(packed.body) == plainly.body == STYLE.read_bytes()
    assert plainly.get("Content-Encoding") is None


def test_php_gets_body_and_query_untouched(bridge: Bridge) -> None:
    target = "/index.php?a=%2F&b=%zz&c[]=1"
    body = bytes(range(256))
    got = bridge.ask("POST", target, host="nginx.test", body=body)
    assert got.body == b"POST " + target.encode() + b"\n" + body


def test_php_gets_a_chunked_body(bridge: Bridge) -> None:
    raw = request("POST", "/index.php", "Transfer-Encoding: chunked", host="nginx.test")
    got = bridge.send(raw + b"5\r\nhello\r\n0\r\n\r\n")
    assert got.body == b"POST /index.php\nhello"
