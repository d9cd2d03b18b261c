"""A route that is split among visitors: each stays on their side, and no cache mixes the two."""

from __future__ import annotations

import re

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer

PATH = "/py/split"
KEY = re.compile(r"bridge_share=([A-Za-z0-9_-]{8,64});")
CACHED = ["Cache-Control: public, max-age=60", "Vary: Accept", "Set-Cookie: php=1"]


def ask(bridge: Bridge, backend: Backend, *lines: str) -> Answer:
    backend.when(PATH, plain("200 OK", *CACHED, body=b"legacy"))
    return bridge.ask("GET", PATH, *lines, host="python.test")


def test_a_new_visitor_gets_a_key_and_stays_on_their_side(bridge: Bridge, backend: Backend) -> None:
    for _ in range(5):
        first = ask(bridge, backend)
        keys = [
            re.match(r"bridge_share=([A-Za-z0-9_-]{8,64});", c) for c in first.all("Set-Cookie")
        ]
        (key,) = [match[1] for match in keys if match]
        again = [ask(bridge, backend, f"Cookie: bridge_share={key}") for _ in range(3)]
        assert {answer.body for answer in again} == {first.body}
        assert all("bridge_share" not in c for a in again for c in a.all("Set-Cookie"))


@pytest.mark.parametrize("side", [b"legacy", b"python"])
def test_no_shared_cache_may_keep_either_side(
    bridge: Bridge, backend: Backend, side: bytes
) -> None:
    answers = (ask(bridge, backend, f"Cookie: bridge_share=visitor-{n}") for n in range(64))
    got = next(answer for answer in answers if answer.body == side)
    assert "private" in (got.get("Cache-Control") or "")
    assert "public" not in (got.get("Cache-Control") or "")
    assert "Cookie" in ", ".join(got.all("Vary"))


def test_a_route_that_is_not_split_keeps_its_cache_headers(
    bridge: Bridge, backend: Backend
) -> None:
    backend.when("/", plain("200 OK", *CACHED))
    got = bridge.ask("GET", "/", host="python.test")
    assert (got.get("Cache-Control"), got.all("Vary")) == ("public, max-age=60", ["Accept"])
    assert got.all("Set-Cookie") == ["php=1"]


@pytest.mark.parametrize("value", ["short", "with space", "x" * 65, "", "<script>"])
def test_a_key_that_is_not_ours_is_replaced(bridge: Bridge, backend: Backend, value: str) -> None:
    got = ask(bridge, backend, f"Cookie: bridge_share={value}")
    assert any(cookie.startswith("bridge_share=") for cookie in got.all("Set-Cookie"))
