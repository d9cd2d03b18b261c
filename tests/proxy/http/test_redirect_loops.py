"""A visitor who is sent round and round between pages gets a page that says so."""

from __future__ import annotations

from tests.proxy.http.double import Backend, plain
from tests.proxy.http.serving import Bridge


def test_a_redirect_loop_is_stopped_in_its_fifth_round(bridge: Bridge, backend: Backend) -> None:
    backend.when("/there", plain("302 Found", "Location: /back"))
    backend.when("/back", plain("302 Found", "Location: http://main.test/there"))
    path, statuses = "/there", []
    for _ in range(30):
        got = bridge.ask("GET", path, "User-Agent: goes round")
        statuses.append(got.status)
        if got.status != 302:
            break
        path = "/back" if path == "/there" else "/there"
    assert statuses == [302] * 9 + [508]  # the fifth time that the first page sent them there
    assert b"refers back to itself" in got.body
    (stopped,) = (record for record in bridge.outcomes() if record["status"] == 508)
    assert stopped["loop"] == "- (main) → - (main)"


def test_another_visitor_is_not_stopped(bridge: Bridge, backend: Backend) -> None:
    backend.when("/own", plain("302 Found", "Location: /own"))
    for number in range(20):
        assert bridge.ask("GET", "/own", f"User-Agent: visitor {number}").status == 302
