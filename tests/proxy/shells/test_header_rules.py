"""Headers that routes.yaml removes and sets: of requests to a backend, of answers of a route."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.proxy.routing.load import load_text
from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge


def test_requests_to_a_backend_lose_and_get_headers(bridge: Bridge, backend: Backend) -> None:
    """Those that the bridge itself adds too."""
    bridge.ask(
        "GET", "/", "Accept-Encoding: gzip", "X-Key: visitor", "X-Own: 1", host="dressed.test"
    )
    sent = backend.only()
    assert sent.get("Accept-Encoding") is None
    assert sent.all("X-Forwarded-Proto") == ["https"]
    assert sent.all("X-Key") == ["secret"]
    assert sent.get("X-Own") == "1"


def test_requests_to_other_backends_stay(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("GET", "/", "Accept-Encoding: gzip")
    sent = backend.only()
    assert sent.get("Accept-Encoding") == "gzip"
    assert sent.get("X-Key") is None


def test_the_rules_of_a_route_come_after_those_of_its_site(
    bridge: Bridge, backend: Backend
) -> None:
    """Where they speak of the same header, the route's count."""
    got = bridge.ask("GET", "/py/ruled", host="python.test")
    assert got.body == b"python"
    assert got.all("X-Site") == []
    assert got.all("X-Mine") == []
    assert got.all("Cache-Control") == ["no-cache"]
    assert got.all("X-Also") == ["site"]


def test_the_rules_of_a_route_are_for_both_sides(bridge: Bridge, backend: Backend) -> None:
    """One head of legacy is answered by the rules of the route that it is for."""
    head = plain("200 OK", "X-Mine: 1", "Cache-Control: max-age=9")
    for path in ("/py/declines", "/py/text/none", "/elsewhere"):
        backend.when(path, head)
    backend.when("/py/ruled", head)
    for _ in range(2):
        plainly = bridge.ask("GET", "/elsewhere", host="python.test")
        assert (plainly.get("X-Mine"), plainly.get("X-Site")) == ("1", "forge")
        ruled = bridge.ask("DELETE", "/py/ruled", host="python.test")
        assert (ruled.get("X-Mine"), ruled.get("X-Site")) == ("1", "forge")


def test_a_backend_with_a_name_of_its_own_finds_it_where_addresses_are_compared(
    bridge: Bridge, backend: Backend
) -> None:
    """WebDAV moves to where it is told, and a check of Origin compares it with Host."""
    bridge.ask(
        "MOVE",
        "/a",
        "Origin: http://both.test",
        "Destination: http://BOTH.test/b?c",
        host="both.test",
    )
    sent = backend.only()
    assert sent.get("Host") == "legacy.internal"
    assert sent.get("Origin") == "http://legacy.internal"
    assert sent.get("Destination") == "http://legacy.internal/app/b?c"


@pytest.mark.parametrize(
    "value",
    [
        "http://other.test/b",
        "http://both.test.evil.test/b",
        "http://both.test:8080/b",
        "https://both.test/b",
        "/b",
        "null",
    ],
)
def test_other_addresses_stay(bridge: Bridge, backend: Backend, value: str) -> None:
    bridge.ask("MOVE", "/a", f"Origin: {value}", f"Destination: {value}", host="both.test")
    sent = backend.only()
    assert (sent.get("Origin"), sent.get("Destination")) == (value, value)


def test_a_backend_that_has_the_visitors_name_gets_what_they_sent(
    bridge: Bridge, backend: Backend
) -> None:
    bridge.ask("MOVE", "/a", "Destination: http://MAIN.test/b")
    assert backend.only().get("Destination") == "http://MAIN.test/b"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("<http://legacy.internal/a?p=2>; rel=next", "<http://named.test/a?p=2>; rel=next"),
        (
            "</b>; rel=x, <http://legacy.internal/c>; rel=y",
            "</b>; rel=x, <http://named.test/c>; rel=y",
        ),
        (
            '</b>; title="<http://legacy.internal/a>"',
            '</b>; title="<http://legacy.internal/a>"',
        ),
        ("<https://other.test/a>; rel=next", "<https://other.test/a>; rel=next"),
    ],
)
def test_a_link_of_legacy_names_the_visitors_address(
    bridge: Bridge, backend: Backend, value: str, seen: str
) -> None:
    backend.when("/", plain("200 OK", f"Link: {value}"))
    assert bridge.ask("GET", "/", host="named.test").get("Link") == seen


PATH = Path("routes.yaml")
FILE = """\
version: 1
sites: {{s: {{hosts: ["*"], legacy: b{site}}}}}
backends: {{b: {{url: "http://127.0.0.1:1"{backend}}}}}
routes:
  - {{name: r, path: /{route}}}
"""


@pytest.mark.parametrize(
    "name", ["Content-Length", "transfer-ENCODING", "Connection", "X-Bridge-Hop"]
)
@pytest.mark.parametrize("how", ["remove: [{}]", "set: {{{}: x}}"])
@pytest.mark.parametrize("where", ["site", "backend", "route"])
def test_what_is_the_bridges_own_is_refused(name: str, how: str, where: str) -> None:
    """It says how a message ends, or what its connection is."""
    rules = how.format(name)
    key = "request_headers" if where == "backend" else "response_headers"
    filled = dict.fromkeys(("site", "backend", "route"), "") | {where: f", {key}: {{{rules}}}"}
    with pytest.raises(ConfigError, match="the bridge's own"):
        load_text(FILE.format(**filled), PATH)


@pytest.mark.parametrize(
    ("name", "says"), [("Host", "`host:` of the backend"), ("x-request-id", "in every log")]
)
def test_what_every_request_needs_is_refused(name: str, says: str) -> None:
    rules = f", request_headers: {{set: {{{name}: x}}}}"
    with pytest.raises(ConfigError, match=says):
        load_text(FILE.format(site="", backend=rules, route=""), PATH)
