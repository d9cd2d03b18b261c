"""Visitors who are sent round and round are noticed, and nobody else is."""

from __future__ import annotations

import base64
from hashlib import shake_256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import Client
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from bridge.proxy.decision.loopguard import (
    LoopGuard,
    Sender,
    Signed,
    Step,
    Trail,
    asked_for,
    domain_for,
    loop_name,
    senders,
    sent_to,
)
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.request.hosts import Hosts
from bridge.proxy.wsgi.dispatcher import Dispatcher
from tests.proxy.site import TOP, table

HOST = "forge.example"
GIVES_UP = 20  # redirects after which a browser shows a page of its own

Hop = tuple[str, str]  # what is asked for, and the Location of the answer


def go_round(
    *hops: Hop, method: str = "GET", status: int = 302, rounds: int = 5, times: int = 20
) -> int | None:
    """How many redirects a visitor follows until it is a loop; None where it is none."""
    trail, now = Trail(""), 0.0
    for number in range(times * len(hops)):
        asked, location = hops[number % len(hops)]
        request = asked_for(method, "http", HOST, asked)
        expected = sent_to(method, "http", HOST, asked, status, location)
        assert request
        assert expected
        if trail.expected != request:
            trail = Trail(request)
        if trail.cycle(now, rounds, 10.0):
            return number
        trail = trail.then(Step(now, request, Sender(asked, "php").code), expected)
    return None


def test_the_fifth_round_between_two_pages_is_a_loop() -> None:
    assert go_round(("/a", "/b"), ("/b", "/a")) == 10


@pytest.mark.parametrize("rounds", [2, 5, 18])
def test_how_many_rounds_it_takes_is_a_setting(rounds: int) -> None:
    assert go_round(("/a", "/a"), rounds=rounds) == rounds


@pytest.mark.parametrize("length", range(1, 10))
@pytest.mark.parametrize("rounds", [2, 5, 20])
def test_every_cycle_that_a_browser_could_go_round_twice_is_found_before_it_gives_up(
    length: int, rounds: int
) -> None:
    hops = [(f"/{number}", f"/{(number + 1) % length}") for number in range(length)]
    found = go_round(*hops, rounds=rounds)
    assert found is not None
    assert 2 * length <= found < GIVES_UP


@pytest.mark.parametrize(
    "location",
    [
        "/a#top",
        f"http://{HOST}/a",
        f"http://{HOST.upper()}:80/a",
        f"https://{HOST}/a",  # behind a TLS terminator that is not known
        " /a ",
        "/b/../a",
        "\\a",
    ],
)
def test_the_address_is_compared_as_a_browser_reads_it(location: str) -> None:
    assert go_round(("/a", location)) == 5


@pytest.mark.parametrize(
    ("asked", "location"),
    [("/%C3%A9", "/\xc3\xa9"), ("/a?%27%20%22", "/a?' \""), ("/", "//" + HOST)],
)
def test_what_a_browser_escapes_is_the_same_address(asked: str, location: str) -> None:
    assert go_round((asked, location)) == 5


def test_a_form_that_shows_itself_again_is_none() -> None:
    """POST, 303 to the same address, GET: however often it is sent."""
    assert go_round(("/form", "/form"), method="POST", status=303) is None


def test_a_redirect_that_keeps_the_method_can_be_one() -> None:
    assert go_round(("/form", "/form"), method="POST", status=307) == 5


def test_many_visits_to_a_page_that_redirects_are_none() -> None:
    """`/` sends to `/login` every time, and nothing sends back."""
    assert go_round(("/", "/login")) is None


def test_rounds_that_take_long_are_none() -> None:
    trail = Trail("a")
    for number in range(20):
        assert not trail.cycle(number * 3.0, 5, 10.0)
        trail = trail.then(Step(number * 3.0, "a", "code"), "a")


def test_a_round_has_the_same_redirects_in_the_same_order() -> None:
    """Sent on by another side, or by another way, it is another round."""
    trail = Trail("a")
    for number in range(20):
        assert not trail.cycle(0.0, 3, 10.0)
        trail = trail.then(Step(0.0, "a", f"side {number}"), "a")


def test_a_loop_has_one_name_wherever_it_was_entered() -> None:
    cycle = [Sender(name, "php") for name in ("a", "b", "c")]
    named = {loop_name(cycle[at:] + cycle[:at]) for at in range(3)}
    assert named == {"a (php) → b (php) → c (php)"}


def test_the_name_of_a_long_loop_is_short() -> None:
    cycle = [Sender(str(number), "php") for number in range(12)]
    assert loop_name(cycle).endswith("5 (php) → …")


def test_senders_are_known_again_by_their_codes() -> None:
    """Also where another machine has a table without one of them."""
    given_ = [Sender("page", "python"), Sender("", "php"), Sender("gone", "away")]
    codes = [one.code for one in given_]
    found = senders(codes, ["page", "other"], ["python", "php"])
    assert found == (*given_[:2], Sender("?", "?"))
    assert not any(one.route and one.route in code for one, code in zip(given_, codes, strict=True))


def test_a_trail_leads_back_to_where_the_visitor_was_or_is() -> None:
    trail = Trail("c", (Step(0.0, "a", "s"), Step(1.0, "b", "s")))
    for expected, back in (("a", True), ("b", True), ("c", False), ("d", False)):
        assert trail.leads_back(expected) is back
        assert trail.leads_back(expected, "d") is (back or expected == "d")


def test_a_trail_has_twenty_redirects_at_most() -> None:
    trail = Trail("0")
    for number in range(25):
        trail = trail.then(Step(number, str(number), "s"), str(number + 1))
    assert [step.asked for step in trail.steps] == [str(number) for number in range(5, 25)]
    assert Trail("a", (), True).then(Step(0, "a", "s"), "b").told


@pytest.mark.parametrize(("age", "found"), [(10.0, True), (10.5, False)])
def test_redirects_of_just_the_time_that_is_looked_at_count(age: float, found: bool) -> None:
    trail = Trail("a", (Step(0.0, "a", "s"), Step(5.0, "a", "s")))
    assert trail.cycle(age, 2, 10.0) == (("s",) if found else ())


def test_a_cycle_begins_where_the_visitor_is() -> None:
    """Round and round, and then elsewhere: what was is no cycle any more."""
    steps = tuple(Step(0.0, asked, "s") for asked in "abab")
    assert Trail("a", steps).cycle(0.0, 2, 10.0) == ("s", "s")
    assert Trail("b", steps).cycle(0.0, 2, 10.0) == ()
    assert Trail("a", (Step(0.0, "b", "s"), Step(0.0, "a", "s"))).cycle(0.0, 2, 10.0) == ()
    assert Trail("a", (Step(0.0, "a", "s"),)).cycle(0.0, 1, 10.0) == ()


@pytest.mark.parametrize(("length", "rounds"), [(1, 18), (2, 9), (3, 6), (9, 2)])
def test_a_long_cycle_counts_after_18_redirects(length: int, rounds: int) -> None:
    hops = [(f"/{number}", f"/{(number + 1) % length}") for number in range(length)]
    assert go_round(*hops, rounds=99) == length * rounds == 18


@pytest.mark.parametrize(
    ("asked", "status", "then"),
    [
        ("POST", 302, "GET"),
        ("POST", 303, "GET"),
        ("POST", 307, "POST"),
        ("POST", 308, "POST"),
        ("PUT", 301, "GET"),
        ("HEAD", 302, "HEAD"),
        ("GET", 302, "GET"),
    ],
)
def test_browsers_keep_the_method_where_the_status_says_so(
    asked: str, status: int, then: str
) -> None:
    found = sent_to(asked, "http", HOST, "/a", status, "/b")
    assert found == asked_for(then, "http", HOST, "/b")
    assert found != asked_for("OTHER", "http", HOST, "/b")


@pytest.mark.parametrize(
    ("location", "counts"),
    [
        ("/b", True),
        ("//ours.test/b", True),
        ("//other.test/b", False),
        ("//[::1]/b", True),
        ("//127.0.0.1/b", False),
        ("mailto:a@b", False),
    ],
)
def test_a_way_that_leads_elsewhere_is_none(location: str, counts: bool) -> None:
    """An address of IPv6 is written otherwise in the form that is compared."""
    hosts = Hosts({"site": [HOST, "ours.test"]})
    assert (sent_to("GET", "http", HOST, "/a", 302, location, hosts) is not None) is counts


def test_a_request_whose_address_is_none_stands_for_nothing() -> None:
    assert asked_for("GET", "http", "a b", "/") is None
    assert sent_to("GET", "http", HOST, "/", 302, "mailto:a@b") is None


@pytest.mark.parametrize(("length", "shown"), [(5, ""), (6, ""), (7, " → …")])
def test_the_name_of_a_loop_has_six_redirects(length: int, shown: str) -> None:
    cycle = [Sender(str(number), "php") for number in range(length)]
    named = loop_name(cycle)
    assert named == " → ".join(f"{number} (php)" for number in range(min(length, 6))) + shown
    assert loop_name([]) == ""
    assert loop_name([Sender("", "php")]) == "- (php)"


@pytest.mark.parametrize(
    ("patterns", "host", "domain"),
    [
        (("a.test",), "a.test", ""),
        (("a.test", "www.a.test"), "a.test", "a.test"),
        (("a.test", "www.a.test"), "www.a.test:8080", "a.test"),
        (("*.a.test",), "www.a.test", "a.test"),
        (("*.a.test:*", "*.b.a.test"), "www.b.a.test", "a.test"),
        (("*.a.test",), "b.test", ""),
        (("a.test", "www.a.test"), "xa.test", ""),
        (("*.test", "a.test"), "a.test", ""),
        (("*",), "a.test", ""),
        (("[::1]", "[::1].a.test"), "[::1]", ""),
        (("a.test", "b.test"), "a.test", ""),
    ],
)
def test_the_domain_of_a_cookie_is_one_that_the_site_has_listed(
    patterns: tuple[str, ...], host: str, domain: str
) -> None:
    assert domain_for(patterns, host) == domain


def test_a_cookie_of_more_than_2048_characters_is_not_looked_at() -> None:
    """Whatever it holds; and one that counts for nothing does not hide another one."""
    signed = Signed("s3cret")
    good = signed.write(Trail("a", (Step(1.0, "x" * 8, "s"),)))
    sizes: dict[int, bool] = {}
    for number in range(1500, 2100):
        noise = RANDOM[:number]
        value = signed.write(Trail("a", (Step(1.0, "x" * 8, noise),)))
        sizes[len(value)] = signed.read([value], "a") is not None
    assert {2047, 2048, 2049} <= set(sizes)
    assert all(read == (length <= 2048) for length, read in sizes.items())
    for bad in ("x" * 3000, "x", ""):
        assert signed.read([bad, good], "a") == signed.read([good], "a") is not None


RANDOM = base64.b64encode(shake_256(b"this can hardly be packed").digest(1600)).decode()


class TestCookie:
    """What a visitor carries from a redirect to the next request."""

    trails = st.builds(
        Trail,
        st.just("expected"),
        st.lists(
            st.builds(
                Step,
                st.integers(1_000_000_000_000, 1_000_000_060_000).map(lambda ms: ms / 1000),
                st.text("abc", min_size=8, max_size=8),
                st.text("abc", min_size=8, max_size=8),
            ),
            min_size=1,
            max_size=20,
        ).map(tuple),
        st.booleans(),
    )

    @given(trails)
    def test_is_read_as_it_was_written_and_is_short(self, trail: Trail) -> None:
        value = Signed("secret").write(trail)
        read = Signed("secret").read(["x", "", value], "expected")
        assert read
        assert (read.expected, read.told) == (trail.expected, trail.told)
        assert [step[1:] for step in read.steps] == [step[1:] for step in trail.steps]
        pairs = zip(read.steps, trail.steps, strict=True)
        assert all(abs(one.when - other.when) < 0.002 for one, other in pairs)
        assert len(value) < 1200

    @given(trails, st.integers(0), st.characters(codec="ascii"))
    @example(Trail("expected", (Step(0.0, "a" * 8, "b" * 8),)), 3, "=")
    def test_counts_for_nothing_when_forged_or_not_for_this_request(
        self, trail: Trail, place: int, letter: str
    ) -> None:
        good = Signed("secret").write(trail)
        at = place % (len(good) - 1)
        bad = good[:at] + letter + good[at + 1 :]
        assert Signed("secret").read([good], "another") is None
        assert Signed("other").read([good], "expected") is None
        if bad != good:
            assert Signed("secret").read([bad], "expected") is None

    @given(st.text(max_size=50))
    def test_any_text_can_be_read(self, text: str) -> None:
        assert Signed("secret").read([text, text * 100], "expected") is None

    @pytest.mark.parametrize(
        ("hosts", "host", "domain"),
        [
            (["www.example.org", "example.org"], "www.example.org", "example.org"),
            (["www.example.org", "example.org"], "example.org", "example.org"),
            (["www.example.org", "example.org:8080"], "www.example.org:8080", "example.org"),
            (["*.example.org"], "a.example.org", "example.org"),
            (["www.example.org"], "www.example.org", ""),
            (["www.example.org", "www.example.net"], "www.example.org", ""),
            (["*", "example.org"], "www.other.org", ""),
            (["localhost", "127.0.0.1:8080", "[::1]"], "127.0.0.1:8080", ""),
        ],
    )
    def test_is_for_all_hosts_of_a_site_that_share_a_name_of_its_own(
        self, hosts: list[str], host: str, domain: str
    ) -> None:
        assert domain_for(tuple(hosts), host) == domain


class TestMemory:
    """Of visitors who bring no trail."""

    def test_a_trail_is_had_once_and_by_who_asks_for_its_end(self) -> None:
        guard, trail = LoopGuard(), Trail("b", (Step(0.0, "a", "code"),))
        guard.keep("here", "visitor", trail)
        assert guard.take("here", "visitor", "a") is None
        assert guard.take("here", "other", "b") is None
        assert guard.take("there", "visitor", "b") is None
        assert guard.take("here", "visitor", "b") == trail
        assert guard.take("here", "visitor", "b") is None
        assert guard.places == {}

    def test_it_has_a_bound(self) -> None:
        guard = LoopGuard()
        for number in range(20_000):
            guard.keep(f"place {number}", "visitor", Trail("b"))
        assert len(guard) == len(guard.places) == 10_000

    def test_who_is_looked_at_is_who_was_redirected(self) -> None:
        guard = LoopGuard()
        for browser in ("one", "other", "one"):
            guard.keep("here", browser, Trail("b"))
        assert guard.places == {"here": 2}
        for browser in ("one", "other"):
            assert guard.take("here", browser, "b")
        assert guard.places == {}


# --- several visitors at several workers, with the WSGI shell as it is


class Seen(Hooks):
    """The loops that were seen or stopped."""

    def __init__(self) -> None:
        self.loops: list[tuple[str, int]] = []

    def after_response(self, outcome: Outcome) -> None:
        if outcome.loop:
            self.loops.append((outcome.loop, outcome.status))


def view(request: Request) -> Response:
    """Members are sent from /in to /out, guests back; /a and /b send to each other."""
    if request.path == "/in":
        return redirect("/out") if "session" in request.cookies else Response("log in")
    if request.path == "/out":
        return redirect("/in") if "session" not in request.cookies else Response("welcome")
    return redirect("/b" if request.path == "/a" else "/a")


ROUTES = [
    f"name: {name}, path: /{name}, handler: tests.proxy.decision.test_loopguard:view, python: 100%"
    for name in ("a", "b", "in", "out")
]


def workers(count: int, **options: str) -> tuple[list[Dispatcher], Seen]:
    seen = Seen()
    ours = table(*ROUTES, top=TOP.replace("forge.example", "localhost"))
    return [Dispatcher(Front(lambda: ours, hooks=[seen], **options)) for _ in range(count)], seen


def follow(made: list[Dispatcher], *, cookies: bool = True) -> tuple[int, int]:
    """One visitor, whose every request comes to another worker: how many requests they make, up
    to those that browsers make, and the status of the last answer."""
    jar, path = "", "/a"
    for number in range(GIVES_UP + 1):
        client = Client(made[number % len(made)], use_cookies=False)
        answer = client.get(path, headers={"Cookie": jar} if jar else {})
        answer.close()
        if answer.status_code != 302:
            return number + 1, answer.status_code
        if cookies:
            jar = answer.headers["Set-Cookie"].partition(";")[0]
        path = answer.headers["Location"]
    return number + 1, answer.status_code


@pytest.mark.parametrize("count", [1, 2, 6, 12])
@pytest.mark.parametrize("option", ["secret", "loop_secret"])
def test_a_loop_over_many_workers_and_machines_is_stopped_in_its_fifth_round(
    count: int, option: str
) -> None:
    made, seen = workers(count, **{option: "the same everywhere"})
    assert follow(made) == (11, 508)
    assert seen.loops == [("a (python) → b (python)", 508)]


def test_who_takes_no_cookies_is_counted_and_not_stopped() -> None:
    made, seen = workers(1)
    assert follow(made, cookies=False) == (GIVES_UP + 1, 302)
    assert seen.loops == [("a (python) → b (python)", 302)]


def test_a_trail_of_another_machine_without_the_secret_counts_for_nothing() -> None:
    made, _ = workers(2)
    assert follow(made) == (GIVES_UP + 1, 302)


def test_strangers_at_one_address_who_look_alike_are_not_stopped() -> None:
    """A class behind one address: one browser, the same cookies' names, all at once. Who is logged
    in is told by a value, so `/in` sends some on, and `/out` sends others back."""
    (office,), seen = workers(1)
    client = Client(office, use_cookies=False)
    for _ in range(20):
        for path in ("/in", "/out"):
            for cookie in ("session=1", "x=1"):
                answer = client.get(path, headers={"Cookie": cookie})
                assert answer.status_code in (200, 302)
                if answer.status_code == 302:
                    carried = answer.headers["Set-Cookie"].partition(";")[0]
                    headers = {"Cookie": f"{cookie}; {carried}"}
                    assert (
                        client.get(answer.headers["Location"], headers=headers).status_code == 200
                    )
    assert not [loop for loop in seen.loops if loop[1] == 508]
