"""What the engine remembers never shows: each request is answered as if it were the first.

Header blocks, decisions, answers' heads and parsed targets are kept to be quick. Any sequence of
requests over a few connections must give the same bytes as each of them alone on a new engine.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.proxy.engine.exchange import read_answer
from bridge.proxy.routing.load import load_text
from bridge.proxy.routing.table import RouteTable
from tests.proxy.engine.oracle import requests_in
from tests.proxy.engine.wired import Wired

ROUTES = """\
version: 1
sites:
  a: {hosts: [a.example], legacy: php}
  b: {hosts: [b.example, "b.example:*"], legacy: old, response_headers: {remove: [X-Powered-By]}}
  c: {hosts: ["*.c.example"], legacy: named, response_headers: {set: {X-Site: c}}}
backends:
  php: {url: "http://127.0.0.1:8090"}
  old: {url: "http://127.0.0.1:8091/app", via: true}
  named: {url: "http://127.0.0.1:8090", host: legacy.internal, accel: true}
trusted_proxies: ["192.0.2.9"]
routes: []
"""

HOSTS = ["a.example", "b.example", "b.example:8080", "x.c.example", "y.c.example", "evil.example"]
LINES = [
    "Cookie: a=1",
    "Cookie: b=2; bridge_share=abc",
    "Accept: */*",
    "X-Forwarded-For: 198.51.100.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: b.example",
    "Connection: close",
    "Connection: keep-alive, Accept",
    "TE: trailers",
    "X_A: 1",
    "Max-Forwards: 2",
    "User-Agent: one",
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Powered-By: PHP\r\nX-Accel-Redirect: /x\r\n\r\nok",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:8090/app/a\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=legacy.internal; Path=/app\r\n"
    b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Location: http://127.0.0.1:8090/x\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Location: http://127.0.0.1:8091/app/x\r\n"
    b"Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nX-Powered-By: PHP\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok",
]
CHANGING = re.compile(rb"(X-Request-Id: |X-Bridge-Hop: |Date: |<small>Request )[0-9A-Za-z, :]+")

Asked = tuple[str, str, str, tuple[str, ...], int, str]

headers = st.sampled_from(
    [(), ("Connection: keep-alive",), ("Connection: keep-alive", LINES[4])]
) | st.lists(st.sampled_from(LINES), max_size=3, unique=True).map(tuple)
who = st.tuples(st.sampled_from(["192.0.2.7", "192.0.2.9"]), st.sampled_from(HOSTS), headers)
what = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["GET", "GET", "HEAD", "POST", "OPTIONS"]),
    st.sampled_from(["/a", "/a", "/a?b=c", "//a", "/%61", "*", "http://a.example/a"]),
    st.sampled_from([*range(len(ANSWERS)), 3, 4, 4, 4]),
    st.sampled_from(["1.0", "1.1"]),
)


@st.composite
def sequences(draw: st.DrawFn) -> list[tuple[str, Asked]]:
    """Two visitors, who change little from one request to the next: memory is for them."""
    visitors = draw(st.tuples(who, who))
    made = []
    for number, method, target, answer, version in draw(st.lists(what, min_size=2, max_size=12)):
        peer, host, lines = visitors[number]
        made.append((peer, (method, target, host, lines, answer, version)))
    return made


@pytest.fixture(scope="module")
def routes() -> RouteTable:
    return load_text(ROUTES, Path("routes.yaml"))


def raw_of(request: Asked) -> bytes:
    method, target, host, lines, _, version = request
    head = [f"{method} {target} HTTP/{version}", f"Host: {host}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def exchange(
    wired: Wired, visitors: dict[str, object], peer: str, request: Asked
) -> tuple[bytes, bytes]:
    """What legacy gets, and what the visitor at `peer` gets, for one request."""
    visitor, wire = visitors.get(peer, (None, None))  # type: ignore[misc]
    if wire is None or wire.closed or wire.ended:
        visitors[peer] = visitor, wire = wired.visit(peer)
    for legacy in wired.legacy:
        legacy.wire.out.clear()
    wire.out.clear()
    visitor.data_received(raw_of(request))
    sent = [legacy for legacy in wired.legacy if legacy.wire.out]
    assert len(sent) <= 1
    head = b""
    for legacy in sent:
        head = bytes(legacy.wire.out)
        (_,), rest = requests_in(head)
        assert not rest
        legacy.send(ANSWERS[request[4]])
    return CHANGING.sub(rb"\1*", head), CHANGING.sub(rb"\1*", bytes(wire.out))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests=sequences())
def test_a_sequence_is_answered_as_each_alone(
    routes: RouteTable, requests: list[tuple[str, Asked]]
) -> None:
    busy, visitors = Wired(routes), dict[str, object]()
    read_answer.cache_clear()
    twice = [*requests, *requests]
    together = [exchange(busy, visitors, peer, request) for peer, request in twice]
    for (peer, request), got in zip(twice, together, strict=True):
        read_answer.cache_clear()
        if b" 508 " not in got[1]:  # five times round in circles is no matter of memory
            assert got == exchange(Wired(routes), {}, peer, request), (peer, request)


@pytest.mark.parametrize("answer", range(len(ANSWERS)))
def test_every_host_in_turn_gets_the_same_answer_as_alone(routes: RouteTable, answer: int) -> None:
    busy, visitors = Wired(routes), dict[str, object]()
    read_answer.cache_clear()
    asked = [("GET", "/a", host, (), answer, "1.1") for host in HOSTS]
    together = [exchange(busy, visitors, "192.0.2.7", one) for one in asked]
    for one, got in zip(asked, together, strict=True):
        read_answer.cache_clear()
        assert got == exchange(Wired(routes), {}, "192.0.2.7", one)
