"""Who answers, and why: shares, keys, previews, and legacy whenever in doubt."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.decision import preview
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.request.cookies import PREVIEW_COOKIE, SHARE_COOKIE
from tests.proxy.site import TOP, decided, head, route, table


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
    split = table(route("page", "/p", "50%"))
    alone = decided(split, head("/p", Cookie=f"{SHARE_COOKIE}={usable}"))
    unusable = [one for one in unusable if not re.fullmatch("[A-Za-z0-9_-]{8,64}", one)]
    cookies = "; ".join(f"{SHARE_COOKIE}={one}" for one in [*unusable, usable, "x" * 9])
    decision = decided(split, head("/p", Cookie=cookies), fresh_key="another-key")
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
