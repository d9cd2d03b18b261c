"""Following redirects with both sides answering: loops are found, and only loops."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from werkzeug.exceptions import NotFound
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from bridge.errors import BridgeError
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools.redirects import Found, Loop, follow, start_of
from stack.ports import free_port
from tests.proxy.shells.double import Backend, Call, Script, plain
from tests.proxy.site import table

HERE = "tests.proxy.tools.test_redirects"
SITE = "http://forge.example"
Sends = Callable[..., None]


def adds_slash(request: Request, name: str = "") -> Response:
    """A page whose address ends with a slash on the Python side."""
    return Response("page") if request.path.endswith("/") else redirect(f"{request.path}/")


def to_login(request: Request) -> Response:
    return redirect("/login")


def page(request: Request, name: str = "") -> Response:
    return Response("page")


def fails(request: Request) -> Response:
    raise RuntimeError("no database")


def counts(request: Request) -> Response:
    """Goes on until the third time."""
    seen = int(request.cookies.get("seen", "0"))
    if seen == 3:
        return Response("page")
    response = redirect("/counts")
    response.set_cookie("seen", str(seen + 1))
    return response


def new_session(request: Request) -> Response:
    """Another session with every answer, and no end."""
    response = redirect("/session")
    response.set_cookie("session", str(int(request.cookies.get("session", "0")) + 1))
    return response


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def legacy(double: Backend) -> Iterator[Backend]:
    """Answers 200 where nothing else is said."""
    double.clear()
    yield double
    double.clear()


def site(legacy: Backend, *routes: str) -> RouteTable:
    top = (
        "version: 1\nsites:\n  forge: {hosts: [forge.example, www.forge.example], legacy: php}\n"
        f'backends: {{php: {{url: "http://127.0.0.1:{legacy.port}"}}}}\n'
        "groups: {pages: {python: 5%}}\nroutes:\n"
    )
    return table(*routes, top=top)


def route(path: str, view: str, more: str = "python: 0%") -> str:
    name = re.sub(r"\W", "-", path).lstrip("-")
    return f'name: "{name}", path: "{path}", handler: "{HERE}:{view}", {more}'


def found(table: RouteTable, *paths: str, hops: int = 20) -> Found:
    return follow(table, [start_of(table, path) for path in paths], hops=hops)


def sends(location: str, status: str = "302 Found", *headers: str) -> bytes:
    return plain(status, f"Location: {location}", *headers)


def shown(loop: Loop) -> list[tuple[str, str]]:
    """Path and sides of each hop."""
    return [(hop.url.removeprefix(SITE), "+".join(hop.sides)) for hop in loop.hops]


def test_two_sides_that_disagree_about_a_slash_are_a_loop(legacy: Backend) -> None:
    legacy.when("/p/vim/", sends("/p/vim", "301 Moved Permanently"))
    ours = site(legacy, route("/p/<name>", "adds_slash"), route("/p/<name>/", "page"))
    got = found(ours, "/p/vim")
    (loop,) = got.loops
    assert shown(loop) == [("/p/vim", "python"), ("/p/vim/", "legacy")]
    assert [hop.route for hop in loop.hops] == ["p--name-", "p--name--"]
    assert not got.good


def test_a_site_whose_sides_agree_is_good(legacy: Backend) -> None:
    legacy.when("/p/vim", sends("/p/vim/"))
    ours = site(legacy, route("/p/<name>", "adds_slash"), route("/p/<name>/", "page"))
    got = found(ours, "/p/vim", "/")
    assert got.good
    # Both sides of /p/vim and /p/vim/, and / which has no route.
    assert got.requests == 5


def test_a_loop_of_three_pages_over_both_sides_names_all_of_them(legacy: Backend) -> None:
    legacy.when("/login", sends("https://www.forge.example/home"))
    legacy.when("/home", sends("http://forge.example/account"))
    got = found(site(legacy, route("/account", "to_login")), "/account")
    (loop,) = got.loops
    assert [hop.url for hop in loop.hops] == [
        "http://forge.example/account",
        "http://forge.example/login",
        "https://www.forge.example/home",
    ]
    assert [hop.sides for hop in loop.hops] == [("python",), ("legacy",), ("legacy",)]
    assert not loop.moved


def test_a_hop_that_both_sides_make_is_shown_once(legacy: Backend) -> None:
    """Every mixture of sides: four, and they are one loop."""
    legacy.when("/a", sends("/b"))
    legacy.when("/b", sends("/a"))
    ours = site(legacy, route("/a", "to_b"), route("/b", "to_a"))
    (loop,) = found(ours, "/a").loops
    assert shown(loop) == [("/a", "python+legacy"), ("/b", "python+legacy")]


def to_a(request: Request) -> Response:
    return redirect("/a")


def to_b(request: Request) -> Response:
    return redirect("/b")


def test_a_loop_behind_the_first_pages_is_found(legacy: Backend) -> None:
    legacy.when("/start", sends("/a"))
    legacy.when("/a", sends("/b"))
    legacy.when("/b", sends("/a"))
    assert [shown(loop) for loop in found(site(legacy), "/start").loops] == [
        [("/a", "legacy"), ("/b", "legacy")]
    ]


def test_a_loop_within_one_group_needs_a_visitor_who_changes_sides(legacy: Backend) -> None:
    legacy.when("/b", sends("/a"))
    ours = site(legacy, route("/a", "to_b", "group: pages"), route("/b", "page", "group: pages"))
    (loop,) = found(ours, "/a").loops
    assert loop.moved


def test_a_page_that_wants_its_cookie_back_is_no_loop(legacy: Backend) -> None:
    def wants(call: Call) -> None:
        has = "seen=1" in (call.received.get("Cookie") or "")
        call.send(plain() if has else sends("/wants", "302 Found", "Set-Cookie: seen=1; Path=/"))

    script: Script = wants
    legacy.when("/wants", script)
    assert found(site(legacy), "/wants").good


def test_pages_that_count_and_come_to_an_end_are_no_loop(legacy: Backend) -> None:
    assert found(site(legacy, route("/counts", "counts")), "/counts").loops == []


def test_a_session_that_changes_with_every_round_is_a_loop(legacy: Backend) -> None:
    (loop,) = found(site(legacy, route("/session", "new_session")), "/session").loops
    assert shown(loop) == [("/session", "python")]


def test_a_chain_that_does_not_end_is_reported(legacy: Backend) -> None:
    for number in range(8):
        legacy.when(f"/{number}", sends(f"/{number + 1}"))
    assert found(site(legacy), "/0", hops=8).good
    got = found(site(legacy), "/0", hops=6)
    assert [url.rpartition("/")[2] for url in got.long[0]] == list("0123456")
    assert not got.good


def test_other_sites_are_named_and_not_followed(legacy: Backend) -> None:
    legacy.when("/out", sends("https://elsewhere.example/in"))
    got = found(site(legacy), "/out")
    assert got.good
    assert got.left == ["https://elsewhere.example/in"]


def test_a_handler_that_fails_is_followed_where_legacy_sends(legacy: Backend) -> None:
    legacy.when("/f", sends("/f"))
    (loop,) = found(site(legacy, route("/f", "fails")), "/f").loops
    assert shown(loop) == [("/f", "legacy")]


def test_a_handler_that_fails_is_named_because_nothing_is_known_of_it(legacy: Backend) -> None:
    got = found(site(legacy, route("/f", "fails"), route("/d", "declines")), "/f", "/d")
    (step,) = got.failed
    assert (step.url, step.fallback) == (f"{SITE}/f", "python-error")
    assert not got.good


def declines(request: Request) -> Response:
    raise NotFound


def test_legacy_that_does_not_answer_is_a_failure(legacy: Backend) -> None:
    ours = table(
        top="version: 1\nsites: {forge: {hosts: [forge.example], legacy: php}}\n"
        f'backends: {{php: {{url: "http://127.0.0.1:{free_port()}"}}}}\nroutes:\n'
    )
    (step,) = found(ours, "/").failed
    assert (step.status, step.side) == (502, "legacy")
    assert "connect" in step.error


def test_too_many_addresses_end_the_search_and_are_said(legacy: Backend) -> None:
    ours = site(legacy)
    got = follow(ours, [f"{SITE}/{number}" for number in range(20)], most=10)
    assert (got.complete, got.good, got.requests) == (False, False, 10)


def test_given_headers_are_sent(legacy: Backend) -> None:
    follow(site(legacy), [f"{SITE}/x"], headers=[("Cookie", "session=1"), ("X-Tester", "yes")])
    asked = legacy.only()
    assert (asked.get("Cookie"), asked.get("X-Tester")) == ("session=1", "yes")


@pytest.mark.parametrize("url", ["ftp://forge.example/", "page", "http://elsewhere.example/"])
def test_what_cannot_be_followed_is_refused(legacy: Backend, url: str) -> None:
    with pytest.raises(BridgeError):
        start_of(site(legacy), url)
