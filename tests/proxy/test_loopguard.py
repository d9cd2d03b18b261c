"""Visitors who are sent round and round are noticed, and nobody else is."""

from __future__ import annotations

import tracemalloc

import pytest
from werkzeug.test import Client
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from bridge.proxy import loopguard
from bridge.proxy.dispatcher import Dispatcher
from bridge.proxy.loopguard import LoopGuard, Round, loop_name
from tests.proxy.site import TOP, table

SITE = "http://forge.example"


def step(
    asked: str, location: str, method: str = "GET", status: int = 302, route: str = "route"
) -> Round:
    return Round.of(route, "php", method, SITE + asked, status, location)


def go_round(guard: LoopGuard, *steps: Round, now: float = 0.0) -> tuple[Round, ...]:
    """A visitor follows redirects; what the guard says when they ask for the last address."""
    found: tuple[Round, ...] = ()
    for one in steps:
        found = guard.loop("here", "visitor", one.asked, now, 5, 10.0)
        if found:
            return found
        guard.redirected("here", "visitor", one, now)
    return guard.loop("here", "visitor", steps[-1].named, now, 5, 10.0)


def test_the_fifth_round_between_two_pages_is_a_loop() -> None:
    there, back = step("/a", "/b", route="a"), step("/b", "/a", route="b")
    assert go_round(LoopGuard(), *[there, back] * 4) == ()
    found = go_round(LoopGuard(), *[there, back] * 5)
    assert [str(one) for one in found] == ["b (php)", "a (php)"]


def test_a_loop_has_one_name_wherever_it_was_entered() -> None:
    cycle = [step("/a", "/b", route=name) for name in ("a", "b", "c")]
    named = {loop_name(cycle[at:] + cycle[:at]) for at in range(3)}
    assert named == {"a (php) → b (php) → c (php)"}


def test_the_name_of_a_long_loop_is_short() -> None:
    cycle = [step("/a", "/b", route=str(number)) for number in range(12)]
    assert loop_name(cycle).endswith("5 (php) → …")


@pytest.mark.parametrize("rounds", [2, 5, 20])
def test_how_many_rounds_it_takes_is_a_setting(rounds: int) -> None:
    guard = LoopGuard()
    own = step("/a", "/a")
    asked = 0
    while not guard.loop("here", "visitor", own.asked, 0.0, rounds, 10.0):
        guard.redirected("here", "visitor", own, 0.0)
        asked += 1
    assert asked == rounds


def test_a_page_that_names_itself_is_a_loop() -> None:
    own = step("/a", f"{SITE}/a#top")
    assert len(go_round(LoopGuard(), *[own] * 5)) == 1


def test_a_form_that_shows_itself_again_is_none() -> None:
    """POST, 303 to the same address, GET: however often it is sent."""
    guard = LoopGuard()
    assert go_round(guard, *[step("/form", "/form", method="POST", status=303)] * 20) == ()


def test_a_redirect_that_keeps_the_method_can_be_one() -> None:
    own = step("/form", "/form", method="POST", status=307)
    assert len(go_round(LoopGuard(), *[own] * 5)) == 1


def test_many_visits_to_a_page_that_redirects_are_none() -> None:
    """`/` sends to `/login` every time, and nothing sends back."""
    assert go_round(LoopGuard(), *[step("/", "/login")] * 20) == ()


def test_rounds_that_take_long_are_none() -> None:
    guard = LoopGuard()
    for number in range(20):
        assert guard.loop("here", "visitor", f"GET {SITE}/a", number * 3.0, 5, 10.0) == ()
        guard.redirected("here", "visitor", step("/a", "/a"), number * 3.0)


def test_visitors_do_not_count_for_each_other() -> None:
    guard = LoopGuard()
    for number in range(50):
        guard.redirected("here", f"visitor {number}", step("/a", "/a"), 0.0)
    assert guard.loop("here", "visitor 1", f"GET {SITE}/a", 0.0, 5, 10.0) == ()


def test_the_memory_has_a_bound() -> None:
    guard = LoopGuard()
    for number in range(20_000):
        guard.redirected(f"place {number}", "visitor", step("/a", "/b"), 0.0)
    assert len(guard) == len(guard.places) == 10_000


def test_who_is_looked_at_is_who_was_redirected_lately() -> None:
    guard = LoopGuard()
    for browser in ("one", "other"):
        guard.redirected("here", browser, step("/a", "/b"), 0.0)
    assert set(guard.places) == {"here"}
    for browser in ("one", "other"):
        assert set(guard.places) == {"here"}
        guard.loop("here", browser, f"GET {SITE}/", 11.0, 5, 10.0)
    assert guard.places == {}


def test_long_addresses_take_no_more_memory_than_short_ones() -> None:
    """Visitors choose their addresses: 2,000 redirects of 8 KB each would be 32 MB."""
    guard = LoopGuard()
    tracemalloc.start()
    for number in range(2000):
        long = f"/{number}?{'x' * 8000}"
        guard.redirected("here", f"{number}{'y' * 8000}", step(long, long), 0.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2**22  # urllib keeps some of the last ones


def test_steps_of_all_visitors_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopguard, "_ALL_STEPS", 640)
    guard = LoopGuard()
    for number in range(30):
        for _ in range(64):
            guard.redirected("here", f"visitor {number}", step("/a", "/b"), 0.0)
    assert len(guard) == 640 // 64


def test_browsers_behind_one_address_that_have_other_cookies_do_not_count_for_each_other() -> None:
    """`/in` sends those on who are logged in, `/out` those who are not: from a large office that
    looks like one browser going round."""
    ours = table(
        'name: in, path: /in, handler: "tests.proxy.test_loopguard:page", python: 100%',
        'name: out, path: /out, handler: "tests.proxy.test_loopguard:page", python: 100%',
        top=TOP.replace("forge.example", "localhost"),
    )
    office = Client(Dispatcher(lambda: ours), use_cookies=False)
    member = {"Cookie": "session=1"}
    for _ in range(10):
        assert office.get("/in", headers=member).status_code == 302
        assert office.get("/out").status_code == 302


def page(request: Request) -> Response:
    """Members are sent from /in to /out, guests back."""
    return redirect("/out" if request.path == "/in" else "/in")
