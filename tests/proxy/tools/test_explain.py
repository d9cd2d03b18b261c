"""`bridgectl explain`: the decision of production, and every other route's no."""

from bridge.proxy.tools.explain import explain, head_for
from tests.proxy.site import route, table

OURS = table(
    route("new", "/p/new", "100%"),
    route("named", "/p/<name>", "0%", "query: {x: true}"),
    route("rest", "/<path:rest>", "50%"),
)


def why(url: str, method: str = "GET") -> dict[str, str]:
    found = explain(OURS, head_for(OURS, method, url, [], "192.0.2.1"), 0.0, "fresh-key")
    return {verdict.route: verdict.why or "taken" for verdict in found.verdicts}


def test_says_why_each_other_route_did_not_take_it() -> None:
    assert why("/p/new") == {
        "new": "taken",
        "named": "query parameter x is absent",
        "rest": "fits too, but new has the more specific path",
    }
    assert why("/elsewhere", "POST") == {
        "new": "the path does not match",
        "named": "the path does not match",
        "rest": "method POST is not in GET, HEAD",
    }


def test_takes_a_whole_url_and_refuses_a_foreign_host() -> None:
    head = head_for(OURS, "GET", "https://evil.example/p/new?x=1", [], "192.0.2.1")
    assert (head.host, head.scheme, head.target.raw) == ("evil.example", "https", "/p/new?x=1")
    found = explain(OURS, head, 0.0, "fresh-key")
    assert found.decision is None
    assert found.status == 421


def test_says_why_an_odd_path_goes_to_legacy() -> None:
    assert set(why("/a//b").values()) == {"// in the path"}


def test_says_which_cookie_is_in_the_way() -> None:
    ours = table(
        route("guest", "/p/<name>", "100%", "cookies: {wordpress_logged_in_*: false}"),
        route("lang", "/p/<name>", "100%", "cookies: {lang: de}"),
        route("slash", "/p/<name>/"),
    )
    cookies = [("Cookie", "a=1; wordpress_logged_in_5f=x; lang=en")]
    found = explain(ours, head_for(ours, "GET", "/p/x", cookies, ""), 0.0, "fresh-key")
    assert [verdict.why for verdict in found.verdicts] == [
        "cookie wordpress_logged_in_* is present: wordpress_logged_in_5f",
        "cookie lang is not de",
        "the trailing slash differs",
    ]
