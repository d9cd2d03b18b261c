"""Who answers, and why: shares, keys, previews, and legacy whenever in doubt."""

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.decision import preview
from bridge.proxy.decision.decide import PYTHON, Decider
from bridge.proxy.request.cookies import PREVIEW_COOKIE, SHARE_COOKIE
from bridge.proxy.request.head import Head
from bridge.proxy.routing.load import Handlers, load_text
from tests.proxy.site import TOP, decided, head, route, table

HALF = table(route("page", "/p", "50%"))


def test_no_route_means_legacy() -> None:
    decision = decided(table(), head("/anything"))
    assert (decision.backend, decision.reason, decision.route) == ("php", "no-route", None)


@pytest.mark.parametrize(("share", "backend"), [("0%", "php"), ("100%", PYTHON)])
def test_0_and_100_percent_need_no_key_and_set_no_cookie(share: str, backend: str) -> None:
    decision = decided(table(route("page", "/p", share)), head("/p"))
    assert decision.backend == backend
    assert decision.set_key is None
    assert not decision.split


def test_a_split_route_gives_a_new_visitor_a_key_and_decides_by_it() -> None:
    split = table(route("page", "/p", "50%"))
    first = decided(split, head("/p"), fresh_key="abcdefgh1234")
    assert first.set_key == "abcdefgh1234"
    assert first.split
    again = decided(split, head("/p", Cookie=f"x=1; {SHARE_COOKIE}=abcdefgh1234"))
    assert (again.backend, again.bucket) == (first.backend, first.bucket)
    assert again.set_key is None


def test_a_malformed_key_is_replaced() -> None:
    decision = decided(table(route("page", "/p", "50%")), head("/p", Cookie=f"{SHARE_COOKIE}=<>"))
    assert decision.set_key == "fresh-key"


@given(
    st.lists(st.text('<>abc-_1="', max_size=70), max_size=3),
    st.from_regex(r"[A-Za-z0-9_-]{8,64}", fullmatch=True),
)
def test_an_unusable_key_does_not_hide_a_usable_one(unusable: list[str], usable: str) -> None:
    """Whatever sets a cookie of our name for a longer path is sent first, on every request."""
    alone = decided(HALF, head("/p", Cookie=f"{SHARE_COOKIE}={usable}"))
    unusable = [one for one in unusable if not re.fullmatch("[A-Za-z0-9_-]{8,64}", one)]
    cookies = "; ".join(f"{SHARE_COOKIE}={one}" for one in [*unusable, usable, "x" * 9])
    decision = decided(HALF, head("/p", Cookie=cookies), fresh_key="another-key")
    assert (decision.bucket, decision.set_key) == (alone.bucket, None)


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=2).map(sorted), st.uuids())
def test_a_visitor_never_leaves_python_while_the_share_grows(
    shares: list[int], visitor: object
) -> None:
    cookie = f"{SHARE_COOKIE}={visitor}"
    sides = [
        decided(table(route("page", "/p", f"{share / 1000:g}%")), head("/p", Cookie=cookie)).python
        for share in shares
    ]
    assert sides != [True, False]


def test_routes_of_a_group_flip_together() -> None:
    grouped = table(
        route("form", "/form", None, "group: pages"), route("post", "/post", None, "group: pages")
    )
    for number in range(200):
        cookie = f"{SHARE_COOKIE}=visitor-{number}"
        sides = {decided(grouped, head(path, Cookie=cookie)).python for path in ("/form", "/post")}
        assert len(sides) == 1


@pytest.mark.parametrize(
    ("sticky", "headers", "vary"),
    [
        ("{cookie: uid}", {"Cookie": "uid=seven"}, "Cookie"),
        ("{header: X-Account}", {"X_Account": "seven"}, "X-Account"),
        ("{address: true}", {}, None),
    ],
)
def test_the_sites_own_key_decides_and_sets_no_cookie(
    sticky: str, headers: dict[str, str], vary: str | None
) -> None:
    top = TOP.replace("legacy: php}", f"legacy: php, sticky: {sticky}}}")
    split = table(route("page", "/p", "50%"), top=top)
    decisions = [decided(split, head("/p", **headers), fresh_key=str(n)) for n in range(5)]
    assert len({decision.backend for decision in decisions}) == 1
    assert decisions[0].set_key is None
    assert decisions[0].vary == vary


def test_without_the_sites_own_key_legacy_answers() -> None:
    top = TOP.replace("legacy: php}", "legacy: php, sticky: {cookie: uid}}")
    decision = decided(table(route("page", "/p", "99%"), top=top), head("/p"))
    assert (decision.backend, decision.reason) == ("php", "no-sticky-key")
    assert decision.split  # another visitor may get Python for this very URL


@pytest.mark.parametrize("target", ["//p", "/a/../p", "/%2Fp", "/p%00", "/p%zz", "/%ff", "/./p"])
def test_a_path_that_could_be_read_in_two_ways_is_legacys(target: str) -> None:
    decision = decided(table(route("all", "/<path:rest>", "100%")), head(target))
    assert (decision.backend, decision.reason) == ("php", "odd-target")


def test_an_escaped_letter_is_the_letter() -> None:
    assert decided(table(route("page", "/page", "100%")), head("/p%61ge")).python


def test_a_route_without_a_handler_is_legacys_whatever_others_say() -> None:
    ours = table(
        'name: edit, path: "/p/edit", legacy: old', route("page", "/p/<path:rest>", "100%")
    )
    decision = decided(ours, head("/p/edit"))
    assert (decision.backend, decision.reason) == ("old", "legacy-route")
    assert decided(ours, head("/p/view")).python


def test_a_host_off_the_list_is_refused_with_421() -> None:
    with pytest.raises(VisitorError) as refused:
        decided(table(), head("/", host="evil.example"))
    assert refused.value.status == 421


class TestPreview:
    """A tester's signed cookie."""

    secret = "s3cret"
    ours = table(route("page", "/p", "0%"), route("other", "/o", "100%"))

    def side(self, cookie: str, path: str = "/p", secret: str = secret) -> str:
        request = head(path, Cookie=f"{PREVIEW_COOKIE}={cookie}")
        return decided(self.ours, request, now=1000.0, secret=secret).reason

    def test_picks_python_on_a_0_percent_route_and_keeps_it_out_of_caches(self) -> None:
        cookie = preview.make(self.secret, "python", "route:page", 2000)
        request = head("/p", Cookie=f"{PREVIEW_COOKIE}={cookie}")
        decision = decided(self.ours, request, now=1000.0, secret=self.secret)
        assert decision.python
        assert decision.split
        assert decision.vary == "Cookie"

    def test_picks_legacy_on_a_100_percent_route(self) -> None:
        cookie = preview.make(self.secret, "legacy", preview.EVERY_ROUTE, 2000)
        request = head("/o", Cookie=f"{PREVIEW_COOKIE}={cookie}")
        assert decided(self.ours, request, now=1000.0, secret=self.secret).backend == "php"

    def test_is_for_its_route_only(self) -> None:
        cookie = preview.make(self.secret, "legacy", "route:page", 2000)
        assert self.side(cookie, "/o") == "share"

    def test_an_unusable_one_does_not_hide_a_good_one(self) -> None:
        good = preview.make(self.secret, "python", "route:page", 2000)
        for first in ("x", "", preview.make(self.secret, "python", "route:other", 2000)):
            cookies = "; ".join(f"{PREVIEW_COOKIE}={one}" for one in (first, good))
            decision = decided(self.ours, head("/p", Cookie=cookies), 1000.0, secret=self.secret)
            assert decision.reason == "preview"

    def test_counts_for_nothing_when_expired_forged_or_broken(self) -> None:
        good = preview.make(self.secret, "python", "route:page", 2000)
        expired = preview.make(self.secret, "python", "route:page", 999)
        foreign = preview.make("other", "python", "route:page", 2000)
        for cookie in (expired, foreign, good[:-1] + ("A" if good[-1] != "A" else "B"), "x", ""):
            assert self.side(cookie) == "share"
        assert self.side(good, secret="") == "share"


def test_a_decision_names_the_headers_that_took_part() -> None:
    ours = table(
        route("guest", "/p", "100%", "cookies: {wp_*: false}"),
        route("ajax", "/p", "100%", "headers: {X-Requested-With: XMLHttpRequest}"),
        route("other", "/other", "100%", "query: {a: b}"),
    )
    assert decided(ours, head("/p")).conditions == ("Cookie",)
    assert decided(ours, head("/p", Cookie="wp_x=1")).conditions == ("Cookie", "X-Requested-With")
    assert decided(ours, head("/other?a=b")).conditions == ()


def test_a_cookie_condition_is_asked_anew_for_each_visitor() -> None:
    """Decisions are remembered by path; these are not."""
    ours = table(route("guest", "/p", "100%", "cookies: {wp_*: false}"))
    for _ in range(3):
        assert decided(ours, head("/p")).python
        assert not decided(ours, head("/p", Cookie="wp_x=1")).python


MANY = (
    route("read", "/p", "100%", "methods: [GET, HEAD]"),
    route("write", "/p", "0%", "methods: [POST]"),
    route("paged", "/q", "100%", "query: {page: a}"),
    route("guest", "/c", "100%", "cookies: {wp_*: false}"),
    route("ajax", "/h", "100%", "headers: {X-Requested-With: XMLHttpRequest}"),
    route("split", "/s", "50%", "legacy: old"),
    route("named", "/n/<name>", "100%"),
    'name: php, path: "/l", legacy: old',
)
ANSWERS: list[tuple[Head, str | None, str, dict[str, str]]] = [
    (head("/p"), "read", PYTHON, {}),
    (head("/p?page=a", "HEAD"), "read", PYTHON, {}),
    (head("/p", "POST"), "write", "php", {}),
    (head("/p", "PUT"), None, "php", {}),
    (head("/q?page=a"), "paged", PYTHON, {}),
    (head("/q?page=b"), None, "php", {}),
    (head("/q"), None, "php", {}),
    (head("/c"), "guest", PYTHON, {}),
    (head("/c", Cookie="wp_x=1"), None, "php", {}),
    (head("/h"), None, "php", {}),
    (head("/h", X_Requested_With="XMLHttpRequest"), "ajax", PYTHON, {}),
    (head("/s", Cookie=f"{SHARE_COOKIE}=visitor-1"), "split", "old", {}),
    (head("/s", Cookie=f"{SHARE_COOKIE}=visitor-2"), "split", PYTHON, {}),
    (head("/n/x"), "named", PYTHON, {"name": "x"}),
    (head("/n/y"), "named", PYTHON, {"name": "y"}),
    (head("/l"), "php", "old", {}),
    (head("/"), None, "php", {}),
    (head("//"), None, "php", {}),
]


@settings(max_examples=10)
@given(st.randoms(use_true_random=False))
def test_what_was_asked_before_changes_no_decision(random: Random) -> None:
    """Whatever is remembered of a path: other methods, queries, cookies and headers differ."""
    ours = Decider(table(*MANY))
    for request, name, backend, params in random.sample(ANSWERS * 2, len(ANSWERS) * 2):
        decision = decided(ours, request)
        assert (decision.route.name if decision.route else None) == name
        assert (decision.backend, decision.params) == (backend, params)


def test_what_is_asked_for_most_is_decided_once() -> None:
    """For 4096 paths of up to 256 characters: visitors can send any number of them."""
    ours = Decider(table(route("all", "/<path:rest>", "100%")))
    for length, remembered in ((256, True), (257, False)):
        long = head("/" + "x" * (length - 1))
        assert (decided(ours, long) is decided(ours, long)) is remembered
    ours = Decider(table(route("all", "/<path:rest>", "100%")))
    first = decided(ours, head("/0"))
    for number in range(1, 4096):
        decided(ours, head(f"/{number}"))
    assert decided(ours, head("/0")) is first
    decided(ours, head("/4096"))
    assert decided(ours, head("/0")) is not first


def test_an_odd_target_is_decided_anew_for_each_oddity() -> None:
    ours = Decider(table())
    for _ in range(2):
        assert "//" in decided(ours, head("//")).detail
        assert "dot" in decided(ours, head("/./")).detail


@pytest.mark.parametrize("share", ["0%", "50%", "100%"])
def test_a_routes_own_legacy_answers_where_python_does_not(share: str) -> None:
    ours = table(route("page", "/p", share, "legacy: old"))
    sides = {decided(ours, head("/p"), fresh_key=f"visitor-{n}").backend for n in range(20)}
    assert sides == {"0%": {"old"}, "50%": {"old", PYTHON}, "100%": {PYTHON}}[share]
    assert decided(ours, head("/p")).legacy == "old"


def test_a_decision_by_share_says_the_bucket_and_the_share() -> None:
    ours = table(route("page", "/p", "12.5%"))
    for number in range(40):
        decision = decided(ours, head("/p"), fresh_key=f"visitor-{number}")
        assert decision.bucket is not None
        side = "in" if decision.python else "not in"
        assert decision.detail == f"bucket {decision.bucket / 1000:g}% is {side} 12.5%"
        assert decision.python == (decision.bucket < 12_500)


def test_a_split_route_has_its_conditions_and_its_rules_like_any_other() -> None:
    more = "cookies: {wp_*: false}, response_headers: {set: {X-Side: new}}"
    decision = decided(table(route("page", "/p", "50%", more)), head("/p"))
    assert decision.conditions == ("Cookie",)
    assert decision.rules.set == {"X-Side": "new"}


@pytest.mark.parametrize("share", ["50%", "0%", "100%"])
def test_a_preview_has_the_conditions_and_the_rules_of_its_route(share: str) -> None:
    more = "cookies: {wp_*: false}, response_headers: {set: {X-Side: new}}"
    ours = table(route("page", "/p", share, more))
    cookie = preview.make("s3cret", "legacy", preview.EVERY_ROUTE, 2000)
    request = head("/p", Cookie=f"{PREVIEW_COOKIE}={cookie}")
    decision = decided(ours, request, 1000.0, secret="s3cret")
    assert (decision.reason, decision.backend) == ("preview", "php")
    assert decision.detail == "preview cookie: legacy"
    assert decision.conditions == ("Cookie",)
    assert decision.rules.set == {"X-Side": "new"}


@pytest.mark.parametrize("path", ["/l", "/nothing", "//"])
def test_a_preview_cookie_changes_nothing_where_there_is_no_python_side(path: str) -> None:
    ours = table('name: old, path: "/l", legacy: old', route("page", "/p", "50%"))
    cookie = preview.make("s3cret", "python", preview.EVERY_ROUTE, 2000)
    request = head(path, Cookie=f"{PREVIEW_COOKIE}={cookie}")
    decision = decided(ours, request, 1000.0, secret="s3cret")
    assert decision == decided(ours, head(path))
    assert not decision.python
    assert not decision.split


@pytest.mark.parametrize("share", ["0%", "100%"])
def test_a_preview_cookie_that_counts_for_nothing_leaves_the_decision_as_it_is(share: str) -> None:
    ours = table(route("page", "/p", share))
    request = head("/p", Cookie=f"{PREVIEW_COOKIE}=x")
    assert decided(ours, request, secret="s3cret") == decided(ours, head("/p"))


def test_a_handler_that_cannot_be_imported_is_not_the_same_as_none() -> None:
    text = TOP + '  - {name: gone, path: "/p", handler: "no.module:view", python: 100%}\n'
    ours = load_text(text, Path("routes.yaml"), handlers=Handlers.WANTED)
    decision = decided(ours, head("/p"))
    assert (decision.backend, decision.reason) == ("php", "no-handler")


@pytest.mark.parametrize(
    ("sticky", "headers", "missing"),
    [
        ("{cookie: uid}", {}, "cookie uid"),
        ("{cookie: uid}", {"Cookie": "uid="}, "cookie uid"),
        ("{header: X-Account}", {}, "header X-Account"),
        ("{header: X-Account}", {"X_Account": ""}, "header X-Account"),
        ("{address: true}", {}, "address"),
    ],
)
def test_who_has_no_key_of_the_sites_own_gets_legacy_and_the_reason(
    sticky: str, headers: dict[str, str], missing: str
) -> None:
    top = TOP.replace("legacy: php}", f"legacy: php, sticky: {sticky}}}")
    request = replace(head("/p", **headers), peer="")
    decision = decided(table(route("page", "/p", "99%"), top=top), request)
    assert (decision.backend, decision.reason) == ("php", "no-sticky-key")
    assert decision.detail == f"99%, and the request has no {missing}"
    assert decision.vary == {"c": "Cookie", "h": "X-Account", "a": None}[missing[0]]


@pytest.mark.parametrize(
    ("sticky", "headers"),
    [
        ("{cookie: uid}", {"Cookie": "uid={}"}),
        ("{header: X-Account}", {"X_Account": "{}"}),
        ("{address: true}", {}),
    ],
)
def test_the_sites_own_key_gives_visitors_different_sides(
    sticky: str, headers: dict[str, str]
) -> None:
    top = TOP.replace("legacy: php}", f"legacy: php, sticky: {sticky}}}")
    ours = table(route("page", "/p", "50%"), top=top)
    buckets = set()
    for number in range(1, 30):
        sent = {name: value.format(number) for name, value in headers.items()}
        request = replace(head("/p", **sent), peer=f"192.0.2.{number}")
        buckets.add(decided(ours, request).bucket)
    assert len(buckets) == 29


@pytest.mark.parametrize("key", ["x" * 7, "x" * 65, "visitor-1<", "<visitor-1", "visitor 12"])
def test_a_key_that_is_not_as_ours_are_is_replaced(key: str) -> None:
    ours = table(route("page", "/p", "50%"))
    cookie = f"other=visitor-9; {SHARE_COOKIE}={key}; another=visitor-8"
    assert decided(ours, head("/p", Cookie=cookie)).set_key == "fresh-key"
