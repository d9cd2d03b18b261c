"""Queries and cookies are read as PHP reads them, held against a real PHP."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.proxy.request.superglobals import Values, php_name, read_cookies, read_query
from stack.php import PhpServer

Asked = Callable[[str, str], tuple[Values, Values]]

PAGE = """<?php
foreach (array($_GET, $_COOKIE) as $all) {
    foreach ($all as $name => $value) {
        echo bin2hex((string) $name), '=', is_array($value) ? '[]' : bin2hex($value), '&';
    }
    echo "\\n";
}
"""


@pytest.fixture(scope="module")
def php(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """`php(query, cookie)`: what PHP has in `$_GET` and `$_COOKIE`."""
    docroot = tmp_path_factory.mktemp("php")
    (docroot / "index.php").write_text(PAGE)
    quiet = {"display_errors": "0", "log_errors": "0"}  # of too many variables
    with PhpServer(docroot / "server", docroot, settings=quiet) as server:

        def ask(query: str, cookie: str) -> tuple[Values, Values]:
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
                head = f"GET /?{query} HTTP/1.0\r\nCookie: {cookie}\r\n\r\n"
                line.sendall(head.encode("latin-1"))
                answer = b""
                while part := line.recv(65536):
                    answer += part
            queries, cookies = answer.partition(b"\r\n\r\n")[2].decode().splitlines()
            return _listed(queries), _listed(cookies)

        yield ask


def _listed(line: str) -> Values:
    pairs = [pair.partition("=") for pair in line.split("&") if pair]
    return {_bytes(name): None if value == "[]" else _bytes(value) for name, _, value in pairs}


def _bytes(digits: str) -> str:
    return bytes.fromhex(digits).decode("utf-8", "surrogateescape")


TEXT = (
    "a|b|page|0|=|=|&|&|[|]|[]|[x]|%5B|%5b|%5D|.|_|+|%20|%00|%2e|%zz|%|%26|%3D|%C3%A9|%E9|\xe9|;|"
    "__Host-|..Host-|%09|%0b|1|project|__Secure-|._Secure-|[[[|]["
)
PIECES = st.sampled_from(TEXT.split("|"))
QUERIES = (
    st.lists(PIECES, max_size=14)
    .map("".join)
    .filter(
        lambda text: " " not in text and text.isascii()  # PHP's own server wants it so
    )
)
COOKIES = (
    st.lists(PIECES | st.sampled_from([" ", "; ", ";", "\t"]), max_size=14)
    .map("".join)
    .map(lambda text: text.strip(" \t"))  # as a header list has it
)
SLOW = settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SLOW
@given(QUERIES, COOKIES)
@example("page[]=2&b[x][y=1&c[=1&d[.e+f=1&[x]=1", "a[]=1; b=2")
@example("page%00=2&a%00b=3&%00=4", "a=1; a=2; b; =c; a.b=1; a_b=2; a+b=+%20")
@example("page=project&page[]=x&b[]=1&b=2", "a=1; a[]=2; a=3")
@example("a+b=c+d&c.d=1&+a=1&%20=2&a%20=4", "a=1;b =2;  \tc= 3 ;d= 4")
@example("a[" * 3 + "=1&b[%20]=1&c[%20=2", "a%5b=1; %61=2; x=%41")
@example("__Host-a=1&..Host-a=2&.%5FHost-a=3", "__Host-a=1; ..Host-a=2; _[Host-a=3")
def test_a_query_and_cookies_are_read_as_php_reads_them(
    php: Asked, query: str, cookie: str
) -> None:
    gets, cookies = php(query, cookie)
    assert read_query(query) == gets
    assert read_cookies(cookie) == cookies


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 66, 200])
def test_arrays_of_any_depth(php: Asked, depth: int) -> None:
    """PHP drops what is deeper than 64 levels, and what it had under the name."""
    deep = "a" + "[x]" * depth
    gets, cookies = php(f"a=1&{deep}=2&b=3", f"a=1; {deep}=2; b=3")
    assert read_query(f"a=1&{deep}=2&b=3") == gets
    assert read_cookies(f"a=1; {deep}=2; b=3") == cookies


@pytest.mark.parametrize("before", [997, 998, 999, 1000, 1001])
def test_php_reads_a_thousand_variables_and_no_more(php: Asked, before: int) -> None:
    query = "&=x&".join("p" for _ in range(before // 2)) + "&q=1" * (before % 2) + "&a=1&b=2&c=3"
    cookie = "; ".join(["p=1"] * before) + "; ;=;a=1; b=2; c=3"
    gets, cookies = php(query, cookie)
    assert read_query(query) == gets
    assert read_cookies(cookie) == cookies
    assert "a" in gets or before >= 1000


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_any_text_can_be_read(text: str) -> None:
    read_query(text)
    read_cookies(text)


@pytest.mark.parametrize(
    ("name", "key"), [("a.b", "a_b"), (" a b", "a_b"), ("a[", "a_"), ("a[]", None), ("", None)]
)
def test_the_name_of_a_condition_is_the_key_that_php_has(name: str, key: str | None) -> None:
    assert php_name(name) == key


@pytest.mark.parametrize(("levels", "kept"), [(1, True), (64, True), (65, False)])
@pytest.mark.parametrize("index", ["[]", "[a]", "[ab]"])
def test_arrays_of_up_to_64_levels_are_kept(levels: int, kept: bool, index: str) -> None:
    """Each in its brackets, whatever its index is."""
    name = "a" + index * levels
    assert read_query(f"{name}=1") == ({"a": None} if kept else {})
    assert read_query(f"{name}x=1") == read_query(f"{name}=1")
    assert read_cookies(f"{name}=1") == read_query(f"{name}=1")
