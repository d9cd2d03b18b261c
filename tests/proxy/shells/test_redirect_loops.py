"""A visitor who is sent round and round between pages gets a page that says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.proxy.telemetry import scrape
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer

PY = "/py/moves_round"  # a handler that sends visitors to /old
CACHED = "/py/moves_by_cache"
HOME = "/py/moves_home"  # likewise, and no visitor goes round


class Visitor:
    """Keeps the one cookie that matters here, as browsers do."""

    def __init__(self, bridge: Bridge, *lines: str) -> None:
        self.bridge, self.lines, self.jar = bridge, lines, ""

    def ask(self, path: str) -> Answer:
        cookie = [f"Cookie: {self.jar}"] if self.jar else []
        got = self.bridge.ask("GET", path, *self.lines, *cookie, host="python.test")
        for value in got.all("Set-Cookie"):
            if value.startswith("bridge_trail="):
                assert "HttpOnly" in value
                self.jar = value.partition(";")[0] if "Max-Age=0;" not in value else ""
        return got


def test_a_redirect_loop_is_stopped_in_its_fifth_round(bridge: Bridge, backend: Backend) -> None:
    backend.when("/old", plain("302 Found", f"Location: HTTP://PYTHON.test{PY}#top"))
    visitor, path, statuses = Visitor(bridge, "User-Agent: goes round"), PY, []
    for _ in range(20):
        got = visitor.ask(path)
        statuses.append(got.status)
        if got.status != 302:
            break
        path = "/old" if path == PY else PY
    assert statuses == [302] * 10 + [508]  # the fifth time that they were sent to the first page
    assert b"refers back to itself" in got.body
    (stopped,) = (record for record in bridge.outcomes() if record["status"] == 508)
    assert stopped["loop"] == "- (main) → moves-round (python)"


def test_a_loop_of_legacy_alone_is_told_and_not_touched(bridge: Bridge, backend: Backend) -> None:
    """Also the most usual one: https is forced, and the TLS in front is nobody whom we trust."""
    backend.when("/forced", plain("301 Moved", "Location: https://python.test/forced"))
    visitor = Visitor(bridge, "User-Agent: comes by TLS")
    answers = [visitor.ask("/forced") for _ in range(20)]
    assert {got.status for got in answers} == {301}
    assert not [got for got in answers if got.all("Set-Cookie")]
    told = [record["loop"] for record in bridge.outcomes("/forced") if record.get("loop")]
    assert told == ["- (main)"]  # once


def test_a_loop_that_is_told_is_counted(bridge: Bridge, backend: Backend) -> None:
    backend.when("/forced", plain("301 Moved", "Location: https://python.test/forced"))
    visitor = Visitor(bridge, "User-Agent: comes by TLS again")
    seen = 'bridge_redirect_loops_seen_total{routes="- (main)"}'

    def goes_round() -> bool:
        for _ in range(10):
            visitor.ask("/forced")
        return seen in scrape.scrape(bridge.state).decode()

    wait_for(goes_round, 3 * BOUND, "a loop that was seen")


@pytest.mark.parametrize("visitors", [1, 30])
def test_who_looks_at_the_same_pages_again_and_again_is_in_none(
    bridge: Bridge, backend: Backend, visitors: int
) -> None:
    """One who reloads, or many who look alike: what they are sent to is a page."""
    backend.when("/old", plain("200 OK", body=b"here"))
    for _ in range(60 // visitors):
        many = [Visitor(bridge) for _ in range(visitors)]
        assert {visitor.ask(HOME).status for visitor in many} == {302}
        assert {visitor.ask("/old").status for visitor in many} == {200}
    assert not [record for record in bridge.outcomes() if record.get("loop")]


def test_a_page_that_sends_to_itself_once_is_none_however_often(bridge: Bridge) -> None:
    """It tests whether a cookie is taken: the second time it is there, and the round ends."""
    visitor = Visitor(bridge)
    for _ in range(30):
        assert visitor.ask("/py/tests_cookies?").status == 302
        assert visitor.jar
        visitor.jar += "; takes=1"
        assert visitor.ask("/py/tests_cookies?").status == 200
        assert not visitor.jar


def test_neither_legacy_nor_handlers_see_the_trail(bridge: Bridge, backend: Backend) -> None:
    visitor = Visitor(bridge)
    visitor.ask(HOME)
    assert visitor.jar
    backend.when("/sees", plain("200 OK"))
    bridge.ask("GET", "/sees", f"Cookie: a=1; {visitor.jar}", host="python.test")
    assert backend.only().get("Cookie") == "a=1"
    shown = bridge.ask("GET", "/py/shows_head", f"Cookie: a=1; {visitor.jar}", host="python.test")
    assert b"bridge_trail" not in shown.body


def test_a_redirect_to_somebody_elses_host_gets_no_cookie(bridge: Bridge) -> None:
    """It does not come back from there without a gap."""
    got = bridge.ask("GET", "/py/moves_away", host="python.test")
    assert (got.status, got.all("Set-Cookie")) == (302, [])


def test_a_redirect_that_shared_caches_may_keep_gets_no_cookie(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/py/moves_cached", host="python.test")
    assert (got.status, got.all("Set-Cookie")) == (301, [])


def test_what_shared_caches_may_keep_gets_no_cookie_after_a_redirect_either(
    bridge: Bridge, backend: Backend
) -> None:
    """Neither a redirect of legacy's, nor the page at the end of what looked like a round."""
    kept = "Cache-Control: public, max-age=60"
    backend.when("/old", plain("301 Moved", "Location: /new", kept))
    visitor = Visitor(bridge)
    visitor.ask(HOME)
    assert visitor.jar
    got = visitor.ask("/old")
    assert (got.status, got.all("Set-Cookie")) == (301, [])
    backend.when("/old", plain("302 Found", f"Location: {HOME}"))
    for path in (HOME, "/old", HOME):
        assert visitor.ask(path).status == 302
    backend.when("/old", plain("200 OK", kept))
    got = visitor.ask("/old")
    assert (got.status, got.all("Set-Cookie")) == (200, [])


def test_a_loop_over_a_redirect_that_shared_caches_may_keep_is_stopped(
    bridge: Bridge, backend: Backend
) -> None:
    moved = plain("301 Moved", f"Location: {CACHED}", "Cache-Control: public, max-age=60")
    backend.when("/old", moved)
    visitor = Visitor(bridge, "User-Agent: goes round by caches")
    paths = [CACHED, "/old"] * 5
    assert [visitor.ask(path).status for path in paths] == [302, 301] * 5
    assert visitor.ask(CACHED).status == 508


@pytest.fixture
def machines(http_home: Path, double: Backend) -> Iterator[list[Bridge]]:
    """Three bridges with one secret, two worker processes each."""
    places = {"DOUBLE": f"http://127.0.0.1:{double.port}"}
    made = [
        Bridge(
            http_home / f"machine-{number}",
            places,
            options=["--workers", "2"],
            env={"BRIDGE_SECRET": "the same on every machine"},
        )
        for number in range(3)
    ]
    for one in made:
        one.start()
    yield made
    for one in made:
        one.stop()


def test_a_loop_over_three_machines_ends_before_browsers_give_up(
    machines: list[Bridge], backend: Backend
) -> None:
    """Each request comes to the next machine, on a connection of its own."""
    backend.when("/old", plain("302 Found", f"Location: {PY}"))
    visitor, path, asked = Visitor(machines[0]), PY, 0
    while visitor.ask(path).status == 302:
        asked += 1
        visitor.bridge = machines[asked % 3]
        path = "/old" if path == PY else PY
    assert asked == 10
