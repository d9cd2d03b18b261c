"""routes.yaml: what it may say, which route takes a request, and every error with its place."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import ConfigError
from bridge.proxy.routing.load import Handlers, load, load_text
from bridge.proxy.routing.models import parse_percent
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools import schema
from tests.proxy.site import TOP, VIEW, decided, head, route, table


def taken(table: RouteTable, request: object) -> str | None:
    found, _ = table.look_up(request, "forge")  # type: ignore[arg-type]
    return found[0].name if found else None


class TestMatching:
    def test_the_more_specific_path_wins_wherever_it_stands(self) -> None:
        ours = table(route("any", "/p/<name>"), route("new", "/p/new"))
        assert taken(ours, head("/p/new")) == "new"
        assert taken(ours, head("/p/bash")) == "any"

    def test_among_equal_paths_the_first_whose_conditions_hold(self) -> None:
        ours = table(
            route("old", "/index.php", more="query: {page: project}"),
            route("older", "/index.php", more="query: {page: true}"),
        )
        assert taken(ours, head("/index.php?page=project")) == "old"
        assert taken(ours, head("/index.php?page=x")) == "older"
        assert taken(ours, head("/index.php")) is None

    def test_a_failed_condition_lets_the_next_best_path_have_it(self) -> None:
        ours = table(
            route("new", "/p/new", more="query: {x: '1'}"),
            route("named", "/p/<name>", more="headers: {X-Y: 'z'}"),
            route("rest", "/<path:rest>"),
        )
        assert taken(ours, head("/p/new?x=1")) == "new"
        assert taken(ours, head("/p/new", X_Y="z")) == "named"
        assert taken(ours, head("/p/new")) == "rest"

    @pytest.mark.parametrize(
        ("query", "matches"),
        [
            ("page=project", True),
            ("a=1&page=project", True),
            ("page=x&page=project", True),  # PHP takes the last
            ("page=project&page=x", False),
            ("p%61ge=pro%6Aect", True),
            ("page[]=project", False),
            ("page=Project", False),
        ],
    )
    def test_query_conditions_read_the_query_as_php_does(self, query: str, matches: bool) -> None:
        ours = table(route("old", "/index.php", more="query: {page: project}"))
        assert (taken(ours, head(f"/index.php?{query}")) == "old") is matches

    @pytest.mark.parametrize(
        ("query", "absent"),
        [
            ("", True),
            ("page[]=2", False),
            ("page%00=2", False),
            ("page%5Bx%5D=2", False),
            ("pag=2", True),
            ("+page", False),
        ],
    )
    def test_an_array_is_present(self, query: str, absent: bool) -> None:
        ours = table(
            route("none", "/p", more="query: {page: false}"),
            route("one", "/p", more="query: {page: true}"),
        )
        assert taken(ours, head(f"/p?{query}")) == ("none" if absent else "one")

    def test_an_array_after_a_value_is_what_php_has(self) -> None:
        ours = table(route("old", "/p", more="query: {page: project}"))
        assert taken(ours, head("/p?page=project&page[]=x")) is None
        assert taken(ours, head("/p?page[]=x&page=project")) == "old"

    def test_a_name_is_written_as_it_is_sent_or_as_php_has_it(self) -> None:
        for name in ("a.b", "a_b"):
            ours = table(route("old", "/p", more=f"query: {{{name}: true}}"))
            for query in ("a.b=1", "a_b=1", "a+b=1"):
                assert taken(ours, head(f"/p?{query}")) == "old"

    @pytest.mark.parametrize(
        ("cookie", "route_taken"),
        [
            ("", "guest"),
            ("a=1; wordpress_logged_in_x=1", "member"),
            ("wordpress.logged in_x=1", "member"),  # PHP has _ for both
            ("wordpress_logged_in_[]=1", "member"),
            ("WordPress_logged_in_x=1", "guest"),
            ("=wordpress_logged_in_x", "guest"),
            ("lang=de; wordpress_logged_in_x=1", "german"),
            ("lang=%64e; lang=en; wordpress_logged_in_x=1", "german"),  # PHP keeps the first
            ("lang=en; lang=de; wordpress_logged_in_x=1", "member"),
        ],
    )
    def test_cookie_conditions_read_cookies_as_php_does(
        self, cookie: str, route_taken: str
    ) -> None:
        ours = table(
            route("guest", "/p", more="cookies: {wordpress_logged_in_*: false}"),
            route("german", "/p", more="cookies: {lang: de}"),
            route("member", "/p", more="cookies: {wordpress_logged_in_*: true}"),
        )
        given = {"Cookie": cookie} if cookie else {}
        assert taken(ours, head("/p", **given)) == route_taken

    def test_a_trailing_slash_is_part_of_the_path(self) -> None:
        ours = table(route("page", "/p/<name>"), route("folder", "/f/"))
        assert taken(ours, head("/p/x/")) is None
        assert taken(ours, head("/f")) is None
        assert taken(ours, head("/f/")) == "folder"

    def test_methods_are_get_and_head_unless_said(self) -> None:
        ours = table(route("page", "/p"), route("post", "/q", more="methods: [post]"))
        assert taken(ours, head("/p", "HEAD")) == "page"
        assert taken(ours, head("/p", "POST")) is None
        assert taken(ours, head("/q", "POST")) == "post"
        assert taken(ours, head("/q", "GET")) is None

    def test_a_host_condition_narrows_the_site(self) -> None:
        top = TOP.replace("[forge.example]", "['*.forge.example', forge.example]")
        ours = table(route("page", "/p", more="host: m.forge.example"), top=top)
        assert taken(ours, head("/p", host="m.forge.example")) == "page"
        assert taken(ours, head("/p", host="www.forge.example")) is None

    def test_2000_routes_still_find_the_right_one(self) -> None:
        ours = table(*(route(f"r{n}", f"/a{n}/<int:id>") for n in range(2000)))
        assert taken(ours, head("/a1234/7")) == "r1234"
        assert taken(ours, head("/a1234/x")) is None


BROKEN = """\
version: 2
sites:
  s:
    hosts: [example.org, "bad host"]
    legacy: phq
backends:
  php: {url: "ftp://x", timeouts: {conect: 1s, send: 5}}
routes:
  - name: a
    path: project/<name>
    handler: tests.proxy.site:vieww
    python: 10
  - name: a
    path: /x/<nope:y>
    handler: no_such_module:y
    group: g
    methds: [GET]
  - path: /y
    wsgi: json:nothing
    python: 120%
"""


class TestErrors:
    def problems(self, text: str) -> list[tuple[int, int, str, str]]:
        with pytest.raises(ConfigError) as broken:
            load_text(text, Path("routes.yaml"))
        return [(p.line, p.column, p.message, p.hint) for p in broken.value.problems]

    def test_every_error_of_a_file_is_found_at_once_with_its_place(self) -> None:
        places = {(line, column) for line, column, _, _ in self.problems(BROKEN)}
        assert places == {
            (1, 10),  # version
            (4, 26),  # host
            (5, 13),  # no such backend
            (7, 14),  # url
            (7, 36),  # unknown key
            (7, 54),  # duration
            (10, 11),  # path without /
            (11, 14),  # no such view
            (12, 13),  # share without %
            (13, 11),  # name twice
            (14, 11),  # unknown converter
            (15, 14),  # no such module
            (16, 12),  # no such group
            (17, 5),  # unknown key
            (18, 5),  # name missing
            (19, 11),  # nothing there
            (20, 13),  # more than 100%
        }

    def test_every_error_says_what_to_write_instead(self) -> None:
        found = self.problems(BROKEN)
        assert all(hint or "must be" in message for _, _, message, hint in found)
        hints = " ".join(hint for _, _, _, hint in found)
        for expected in ("`php`", "`connect`", "`methods`", "`view`", "500ms", "0% to 100%"):
            assert expected in hints

    @pytest.mark.parametrize(
        ("text", "line", "says"),
        [
            ("version: 1\nversion: 1\n", 2, "duplicate key"),
            ("a: [1\nb: 2\n", 2, "expected"),
            ("- a\n", 1, "mapping"),
            ("a: &x [*x", 1, ""),
            ("", 1, "mapping"),
        ],
    )
    def test_what_is_no_yaml_is_named_with_its_line(self, text: str, line: int, says: str) -> None:
        (problem,) = self.problems(text)[:1]
        assert problem[0] == line
        assert says in problem[2]

    @pytest.mark.parametrize("kind", ["query", "cookies", "headers"])
    @pytest.mark.parametrize("value", ["1", "0", "1.0", "1.5", "null", "[]", "{}"])
    def test_a_condition_is_a_text_or_true_or_false(self, kind: str, value: str) -> None:
        text = f"{TOP}  - {{name: x, path: /x, {kind}: {{Page: {value}}}}}\n"
        (problem, *_) = self.problems(text)
        assert problem[0] == 10
        assert "neither a text nor true or false" in problem[2] + problem[3]

    @pytest.mark.parametrize("name", ["'a[]'", "'a[b]'", "'[x'", "' '", "''"])
    @pytest.mark.parametrize("kind", ["query", "cookies"])
    def test_a_name_under_which_php_has_no_value_is_an_error(self, kind: str, name: str) -> None:
        text = f"{TOP}  - {{name: x, path: /x, {kind}: {{{name}: x}}}}\n"
        (problem, *_) = self.problems(text)
        assert problem[0] == 10
        assert "write the name alone" in problem[2] + problem[3]

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            (f'name: x, path: /x, handler: "{VIEW}"', "no share"),
            ("name: x, path: /x, python: 1%", "no handler"),
            (f'name: x, path: /x, handler: "{VIEW}", python: 1%, group: pages', "remove python"),
            (f'name: x, path: /x, handler: "{VIEW}", wsgi: "{VIEW}", python: 1%', "keep one"),
            (f'name: pages, path: /x, handler: "{VIEW}", python: 1%', "name of a group"),
            (f'name: x, path: /x, wsgi: "{VIEW}", mount: /y, python: 1%', "does not begin with"),
        ],
    )
    def test_contradictions_within_a_route_are_named(self, line: str, says: str) -> None:
        problems = self.problems(f"{TOP}  - {{{line}}}\n")
        assert any(says in f"{message} {hint}" for _, _, message, hint in problems)

    def test_a_missing_file_and_a_file_that_is_not_utf_8_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path / "nowhere.yaml")
        (tmp_path / "latin.yaml").write_bytes(b"version: 1\n# caf\xe9\n")
        with pytest.raises(ConfigError, match=r":2:1: is not UTF-8"):
            load(tmp_path / "latin.yaml")

    def test_a_missing_error_page_is_an_error_at_load(self, tmp_path: Path) -> None:
        top = TOP.replace("legacy: php}", "legacy: php, error_pages: {502: gone.html}}")
        (problem,) = self.problems(f"{top}  []\n")
        assert "gone.html" in problem[2]

    @pytest.mark.parametrize("value", ['"a\\nb"', '"a\\0b"', '"\\u20ac"'])
    def test_a_header_value_that_cannot_be_sent_is_an_error_at_load(self, value: str) -> None:
        rules = f"response_headers: {{set: {{X-A: {value}}}}}"
        top = TOP.replace("legacy: php}", f"legacy: php, {rules}}}")
        (problem,) = self.problems(f"{top}  - {{name: x, path: /x}}\n")
        assert problem[0] == 3
        assert "header value" in problem[2]

    def test_a_handler_that_fails_while_importing_is_named_with_its_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "broken_handler.py").write_text("x = 1\nraise RuntimeError('no database')\n")
        monkeypatch.syspath_prepend(tmp_path)
        (problem,) = self.problems(
            f'{TOP}  - {{name: x, path: /x, handler: "broken_handler:x", python: 0%}}\n'
        )
        assert "no database" in problem[2]
        assert "broken_handler.py:2" in problem[2]


def test_the_schema_for_editors_is_in_step() -> None:
    """If this fails: `bridgectl schema > bridge/proxy/tools/routes.schema.json`."""
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()


def test_the_example_in_the_repository_is_good() -> None:
    assert len(load(Path("routes.yaml")).routes) >= 5


def test_the_digest_changes_with_the_text_and_with_an_error_page(tmp_path: Path) -> None:
    page = tmp_path / "502.html"
    page.write_text("one")
    text = TOP.replace("legacy: php}", "legacy: php, error_pages: {502: 502.html}}") + "  []\n"
    file = tmp_path / "routes.yaml"
    first = load_text(text, file)
    page.write_text("two")
    assert load_text(text, file).digest != first.digest
    assert first.page("forge", 502) == "one"
    assert first.page("forge", 404) is None


MISSING = 'name: missing, path: /missing, handler: "tests.proxy.site:no_such_view", python: 100%'


def test_a_handler_that_is_missing_is_a_problem_of_the_file() -> None:
    with pytest.raises(ConfigError, match="no_such_view"):
        table(MISSING)


def test_where_handlers_are_wanted_a_missing_one_concerns_its_route_only() -> None:
    text = TOP + f"  - {{{MISSING}}}\n  - {{{route('page', '/page', '100%')}}}\n"
    loaded = load_text(text, Path("routes.yaml"), handlers=Handlers.WANTED)
    (problem,) = loaded.problems
    assert "no_such_view" in problem.message
    assert problem.line == text[: text.index("no_such_view")].count("\n") + 1
    left, other = (decided(loaded, head(path)) for path in ("/missing", "/page"))
    assert (left.backend, left.reason) == ("php", "no-handler")
    assert other.python


def test_a_route_keeps_the_handler_that_it_had() -> None:
    before = table('name: missing, path: /missing, handler: "tests.proxy.site:view", python: 100%')
    text = TOP + f"  - {{{MISSING.replace('100%', '30%')}}}\n"
    after = load_text(text, Path("routes.yaml"), handlers=Handlers.WANTED, before=before)
    (now,) = after.routes
    assert now.app is before.routes[0].app
    assert now.share == 30_000
    assert after.problems


def test_where_handlers_are_named_none_is_imported() -> None:
    text = TOP + f"  - {{{MISSING}}}\n"
    loaded = load_text(text, Path("routes.yaml"), handlers=Handlers.NAMED)
    assert not loaded.problems
    assert decided(loaded, head("/missing")).python


CONTROL = st.sampled_from([chr(code) for code in (*range(0x20), 0x7F)])


class TestWhatGoesToABackend:
    """Host and path of a backend are in each request that it gets."""

    def said(self, key: str, value: str) -> list[str]:
        """The errors with `key: value` in the backend `php`."""
        url = "" if key == "url" else 'url: "http://127.0.0.1:8090", '
        own = f"{{{url}{key}: {json.dumps(value)}}}"
        try:
            table(top=TOP.replace('{url: "http://127.0.0.1:8090"}', own))
        except ConfigError as error:
            return [problem.message for problem in error.problems]
        return []

    @given(
        before=st.sampled_from(["", "a", "old.example"]), sign=CONTROL, after=st.text(max_size=5)
    )
    def test_no_line_can_be_broken(self, before: str, sign: str, after: str) -> None:
        assert self.said("host", before + sign + after)
        for url in ("http://h/", "https://h", "unix:/run/"):
            assert self.said("url", url + before + sign + after)

    @pytest.mark.parametrize(
        "host", ["preserve", "old.example", "Old.Example:8080", "[::1]:80", "127.0.0.1", "x_y"]
    )
    def test_a_host_may_be_a_name_an_address_and_a_port(self, host: str) -> None:
        assert self.said("host", host) == []

    @pytest.mark.parametrize("host", ["*", "a b", "a/b", "http://a", "a:b", "ä.example", ""])
    def test_nothing_else_is_a_host(self, host: str) -> None:
        assert self.said("host", host)

    @pytest.mark.parametrize("url", ["http://h/a b", "http://h/ä", "http://h o/"])
    def test_a_path_is_written_as_in_a_request_line(self, url: str) -> None:
        assert self.said("url", url)


class TestShares:
    @pytest.mark.parametrize(
        ("written", "says"),
        [
            ("5", "5 is no share without its %"),
            ("'5'", "'5' is no share without its %"),
            ("0.05", "0.05 is no share without its %"),
            ("0", "0 is no share without its %"),
            ("1", "1 is no share without its %"),
        ],
    )
    def test_a_number_without_its_sign_is_none(self, written: str, says: str) -> None:
        with pytest.raises(ConfigError) as error:
            table(route("a", "/", python=written))
        assert says in error.value.problems[0].message

    @settings(max_examples=30, deadline=None)
    @given(st.one_of(st.integers(0, 100), st.decimals(0, 100, places=3)))
    def test_the_file_and_a_flip_read_the_same(self, number: object) -> None:
        """What routes.yaml refuses, `bridgectl flip` refuses in the same words, and the same for
        what they take."""
        for text in (f"{number}", f"{number}%", f"{number} %"):
            try:
                taken: object = table(route("a", "/", python=f"'{text}'")).routes[0].share
            except ConfigError as error:
                taken = error.problems[0].message.removeprefix("`routes[0].python`: ")
            try:
                read: object = parse_percent(text)
            except ValueError as error:
                read = str(error).partition("; ")[0]
            assert taken == read
