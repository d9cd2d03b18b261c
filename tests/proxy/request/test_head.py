"""A head gives its headers and cookies by name, and its host is found where it may stand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.request.head import Head, host_of
from bridge.proxy.request.target import parse_target

ROOT = parse_target("GET", "/")
FAR = parse_target("GET", "http://Far.example:8080/p")
COOKIE_TEXT = st.text("abc-_.", max_size=3)


def head(*headers: tuple[str, str]) -> Head:
    return Head("GET", ROOT, "forge.example", headers)


def test_a_header_is_found_in_any_case_and_several_lines_are_one_list() -> None:
    request = head(("Accept", "a"), ("X-Y", "1"), ("ACCEPT", "b"))
    assert request.get("accept") == request.get("Accept") == "a,b"
    assert request.get("x-y") == "1"
    assert request.get("x") is None


def test_an_index_that_is_there_is_asked_instead() -> None:
    request = Head("GET", ROOT, "forge.example", (("A", "1"),), index={"a": "2"})
    assert request.get("A") == "2"
    assert request.get("B") is None


@given(st.lists(st.lists(st.tuples(COOKIE_TEXT, COOKIE_TEXT), min_size=1), max_size=3))
def test_cookies_come_in_their_order_and_the_first_of_a_name_counts(
    lines: list[list[tuple[str, str]]],
) -> None:
    headers = [("Cookie", " ; ".join(f"{name} = {value}" for name, value in one)) for one in lines]
    sent = [pair for one in lines for pair in one]
    request = head(("Accept", "x=y"), *headers)
    assert list(request.cookies()) == sent
    for name, _ in sent:
        assert request.cookie(name) == next(value for key, value in sent if key == name)
    assert request.cookie("none") is None


def test_a_value_of_a_cookie_may_hold_what_parts_it_from_its_name() -> None:
    assert head(("cookie", "a=b=c; d")).cookie("a") == "b=c"
    assert head(("COOKIE", "a=b=c; d")).cookie("d") == ""


def test_a_jar_that_is_there_is_asked_instead() -> None:
    request = Head("GET", ROOT, "forge.example", (("Cookie", "a=1"),), jar={"b": "2"})
    assert (request.cookie("a"), request.cookie("b")) == (None, "2")


def test_what_has_been_read_already_makes_no_other_request() -> None:
    plain = head(("Cookie", "a=1"))
    read = Head("GET", ROOT, "forge.example", (("Cookie", "a=1"),), jar={}, index={})
    assert plain == read
    assert repr(plain) == repr(read)


@pytest.mark.parametrize(
    ("given_", "version", "target", "server", "host"),
    [
        ("Forge.Example:80", "1.1", ROOT, ("s", "80"), "forge.example:80"),
        ("Forge.Example", "1.0", FAR, ("s", "80"), "forge.example"),
        ("", "1.0", FAR, ("s", "80"), "far.example:8080"),
        ("", "1.0", ROOT, ("s", "80"), "s"),
        ("", "1.0", ROOT, ("s", "443"), "s"),
        ("", "1.0", ROOT, ("s", ""), "s"),
        ("", "1.0", ROOT, ("s", "8080"), "s:8080"),
    ],
)
def test_the_host_is_that_of_the_header_or_of_the_target_or_the_servers(
    given_: str, version: str, target: object, server: tuple[str, str], host: str
) -> None:
    assert host_of(given_, version, target, server) == host  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "version"), [("", "1.1"), ("", "2"), ("a b", "1.1"), ("a/b", "1.0"), ("a:x", "1.1")]
)
def test_no_host_and_a_malformed_one_are_a_400(given_: str, version: str) -> None:
    with pytest.raises(VisitorError) as refused:
        host_of(given_, version, ROOT, ("s", "80"))
    assert refused.value.status == 400
