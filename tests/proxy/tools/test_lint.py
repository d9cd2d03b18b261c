"""What `bridgectl check` warns of: shadowed, unreachable and tied routes, missing start pages."""

import pytest

from bridge.proxy.tools.lint import lint
from tests.proxy.site import TOP, VIEW, head, route, table


@pytest.mark.parametrize(
    ("routes", "line", "says"),
    [
        ([route("a", "/p/<x>"), route("b", "/p/<y>")], 11, "`b` is shadowed: route `a` in line 10"),
        ([route("a", "/p"), route("b", "/p", more="query: {x: '1'}")], 11, "`b` is shadowed"),
        (
            [route("a", "/p", more="query: {x: true}"), route("b", "/p", more="query: {x: '1'}")],
            11,
            "`b` is shadowed",
        ),
        (
            [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {y: '1'}")],
            11,
            "equal rank",
        ),
        ([route("a", "/p//q")], 10, "nothing can reach it"),
        ([route("a", "/p?x=1")], 10, "nothing can reach it"),
        ([route("a", "/p", more="host: other.example")], 10, "no site has the host"),
        ([route("a", "/p/<y>-<m>.html")], 10, "'-' stands between <y> and <m>"),
        ([route("a", "/p/<y><int:m>")], 10, "nothing stands between <y> and <m>"),
        ([route("a", "/p/<path:y>/e/<path:m>")], 10, "<y> takes as little as it can"),
        (
            [
                route("a", "/p", more="cookies: {x_*: false}"),
                route("b", "/p", more="cookies: {x_*: true}"),
                route("c", "/p", more="cookies: {x_*: 'y'}"),
            ],
            12,
            "`c` is shadowed",
        ),
    ],
)
def test_what_is_hardly_meant_is_named_with_its_line(
    routes: list[str], line: int, says: str
) -> None:
    (finding,) = lint(table(*routes), "routes.yaml")
    assert finding.line == line
    assert says in finding.message
    assert finding.hint


@pytest.mark.parametrize(
    "routes",
    [
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {x: '2'}")],
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {x: false}")],
        [route("a", "/p", more="methods: [GET]"), route("b", "/p", more="methods: [POST]")],
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/q")],
        [route("a", "/<int:x>"), route("b", "/<x>")],
        [route("a", "/p"), route("b", "/p/")],
    ],
)
def test_routes_that_exclude_each_other_are_fine(routes: list[str]) -> None:
    assert lint(table(*routes), "routes.yaml") == []


def mounted(path: str, mount: str = "/shop", name: str = "shop", more: str = "") -> str:
    given = f"mount: {mount}, " if mount else ""
    return f'name: {name}, path: "{path}", wsgi: "{VIEW}", {given}python: 0%{more}'


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        ([mounted("/shop/<path:rest>")], "neither /shop nor /shop/"),
        ([mounted("/<path:rest>", mount="")], "does not take /,"),
        ([mounted("/u/<name>/<path:rest>", mount="/u")], "neither /u/<name> nor /u/<name>/"),
        ([mounted("/shop/<path:rest>"), route("shops", "/shops/")], "neither /shop nor /shop/"),
        (
            [
                mounted("/shop/<path:rest>"),
                mounted("/shop/", name="form", more=", methods: [POST]"),
            ],
            "neither /shop nor /shop/",
        ),
    ],
)
def test_an_application_without_its_start_page_is_named(routes: list[str], says: str) -> None:
    (finding,) = lint(table(*routes), "routes.yaml")
    assert finding.line == 10
    assert says in finding.message
    assert "path: " in finding.hint


@pytest.mark.parametrize(
    "routes",
    [
        [mounted("/shop/<path:rest>"), mounted("/shop/", name="start")],
        [mounted("/shop/<path:rest>"), mounted("/shop", name="start")],
        [mounted("/shop/<path:rest>"), "name: start, path: /shop/"],
        [mounted("/shop/<path:rest>"), route("start", "/<name>")],
        [
            mounted("/u/<name>/<path:rest>", mount="/u"),
            mounted("/u/<user>/", mount="/u", name="start"),
        ],
        [mounted("/shop/page")],
        [route("files", "/files/<path:rest>")],
    ],
)
def test_a_start_page_that_some_route_takes_is_fine(routes: list[str]) -> None:
    assert lint(table(*routes), "routes.yaml") == []


@pytest.mark.parametrize(
    "path",
    [
        "/<slug>-<int:id>",
        "/<int:y>-<int:m>",
        "/<path:a>/<b>",
        "/<string(length=2):a><b>",
        "/<a>/<b>",
    ],
)
def test_variables_that_cannot_share_a_text_out_in_two_ways_are_fine(path: str) -> None:
    assert lint(table(route("a", path)), "routes.yaml") == []


def test_a_crowd_of_patterns_in_one_segment_is_named() -> None:
    crowd = [route(f"r{number}", f"/x/<name>-{number}") for number in range(501)]
    (finding,) = lint(table(*crowd, route("other", "/x/y/<name>")), "routes.yaml")
    assert "501 paths differ" in finding.message
    assert lint(table(*crowd[1:]), "routes.yaml") == []


def test_a_site_for_every_host_is_named() -> None:
    (finding,) = lint(table(top=TOP.replace("[forge.example]", "['*']")), "routes.yaml")
    assert "every host" in finding.message


@pytest.mark.parametrize(
    ("path", "part", "instead"),
    [
        ("/post/*", "'*'", "<path:rest>"),
        ("/post*", "'*'", "<path:rest>"),
        ("/*", "'*'", "<path:rest>"),
        ("/a/**/b", "'**'", "<path:rest>"),
        ("/post/:id", "':id'", "<name>"),
        ("/post/{id}/edit", "'{id}'", "<name>"),
        ("/post/{id:int}", "'{id:int}'", "<name>"),
        ("/post/[0-9]+$", "'[0-9]+'", "<name>"),
        ("/post/(?:a|b)", "'(?'", "<name>"),
        ("/post/.*", "'.*'", "<name>"),
        ("/post$", "'$'", "<name>"),
    ],
)
def test_a_path_in_another_programs_notation_is_named(path: str, part: str, instead: str) -> None:
    (finding,) = lint(table(route("a", path)), "routes.yaml")
    assert f"{part} in its path is no " in finding.message
    assert instead in finding.hint


@pytest.mark.parametrize(
    "path",
    ["/a*b", "/a:b", "/wiki/Special:Search", "/c++/a.b", "/<path:x>", "/(a)/[b]", "/x/{}/y"],
)
def test_signs_within_a_name_are_fine(path: str) -> None:
    assert lint(table(route("a", path)), "routes.yaml") == []


TWO_SITES = TOP.replace("backends:", "  shop: {hosts: [shop.example], legacy: old}\nbackends:")


def test_a_route_of_every_site_is_named_where_there_are_several() -> None:
    (finding,) = lint(table(route("a", "/"), top=TWO_SITES), "routes.yaml")
    assert (finding.line, finding.message) == (11, "route `a` is for every site: forge, shop")
    assert "site: '*'" in finding.hint


@pytest.mark.parametrize("more", ["site: shop", "site: '*'", "host: forge.example"])
def test_who_says_which_site_is_not_asked(more: str) -> None:
    assert lint(table(route("a", "/", more=more), top=TWO_SITES), "routes.yaml") == []


def test_the_star_is_every_site() -> None:
    for host in ("forge.example", "shop.example"):
        found, _ = table(route("a", "/p", more="site: '*'"), top=TWO_SITES).look_up(
            head("/p", host=host), host.partition(".")[0]
        )
        assert found is not None


def test_legacys_own_route_may_be_of_every_site() -> None:
    assert lint(table("name: a, path: /", top=TWO_SITES), "routes.yaml") == []
