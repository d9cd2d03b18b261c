"""Headers arrive in the order, count, spelling and value in which they were sent, as far as a
WSGI server shows them."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge

OURS = ("Date", "Connection", "Content-Length", "Transfer-Encoding")


def test_headers_of_an_answer_keep_order_count_and_spelling(
    bridge: Bridge, backend: Backend
) -> None:
    lines = [
        "X-b: 2",
        "x-a: 1",
        "Link: </a>; rel=next",
        "X-b: 1",
        "LINK: </b>; rel=prev",
        'Warning: 199 - "a, b"',
        "Vary: Accept",
        "Vary: Cookie",
        "X-Empty:",
        "X-Latin: caf\xe9",
        "X-Tab: a\tb",
    ]
    backend.when("/", plain("200 OK", *lines))
    got = bridge.ask("GET", "/")
    seen = [f"{name}: {value}".rstrip(" ") for name, value in got.headers if name not in OURS]
    assert seen == lines


def test_set_cookie_is_never_merged(bridge: Bridge, backend: Backend) -> None:
    lines = [
        "Set-Cookie: a=1; Expires=Wed, 21 Oct 2037 07:28:00 GMT",
        "set-cookie: b=2, 3",
        "Set-Cookie: a=1; Path=/",
        "Set-Cookie: empty=",
    ]
    backend.when("/", plain("200 OK", *lines))
    assert bridge.ask("GET", "/").all("Set-Cookie") == [line.partition(": ")[2] for line in lines]


def test_server_and_date_are_legacys_own(bridge: Bridge, backend: Backend) -> None:
    """Or visitors could tell that something stands in front of it."""
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    backend.when("/", plain("200 OK", "Server: Apache/1.3 (Unix)", f"Date: {date}"))
    got = bridge.ask("GET", "/")
    assert (got.all("Server"), got.all("Date")) == (["Apache/1.3 (Unix)"], [date])


def test_the_bridge_adds_no_server_and_one_date(bridge: Bridge, backend: Backend) -> None:
    """RFC 9110, 6.6.1: who forwards an answer without a date gives it one."""
    got = bridge.ask("GET", "/")
    assert got.all("Server") == []
    assert len(got.all("Date")) == 1


def test_the_rules_of_the_site_are_applied(bridge: Bridge, backend: Backend) -> None:
    backend.when("/", plain("200 OK", "X-Powered-By: PHP/5.2", "x-powered-by: b", "X-Site: old"))
    got = bridge.ask("GET", "/", host="rules.test")
    assert (got.all("X-Powered-By"), got.all("X-Site")) == ([], ["forge"])


def test_headers_of_a_request_keep_order_and_values(bridge: Bridge, backend: Backend) -> None:
    """Their spelling is lost in the environment of WSGI, which is no difference in HTTP."""
    lines = ["X-Zeta: 1", "x-alpha: caf\xe9", "X-Empty: ", "ACCEPT: a, b;q=0.1", "X-Tab: a\tb"]
    bridge.ask("GET", "/", *lines)
    names = [line.partition(":")[0].lower() for line in lines]
    seen = [(n.lower(), v) for n, v in backend.only().headers if n.lower() in names]
    assert seen == [(n, line.partition(": ")[2]) for n, line in zip(names, lines, strict=True)]


def test_repeated_headers_of_a_request_keep_their_order(bridge: Bridge, backend: Backend) -> None:
    """A WSGI environment has one value for a name, so there their count is lost; the list means
    the same (RFC 9110, 5.3), and only fields that are lists may be repeated."""
    bridge.ask("GET", "/", "X-List: a, b", "Accept: x", "X-List: c", "x-list: ")
    wanted = ["a, b", "c", ""] if bridge.engine == "event" else ["a, b,c,"]
    assert backend.only().all("X-List") == wanted


@pytest.mark.parametrize("field", ["Content-Type: a/b", "Host: main.test"])
def test_a_field_that_is_no_list_may_not_be_repeated(
    bridge: Bridge, backend: Backend, field: str
) -> None:
    assert bridge.ask("POST", "/", field, field, body=b"x").status == 400
    assert backend.received == []


def test_a_type_without_a_body_and_a_body_without_a_type_stay_so(
    bridge: Bridge, backend: Backend
) -> None:
    bridge.ask("GET", "/one", 'Content-Type: text/odd; x="y"')
    bridge.ask("POST", "/two", body=b"x")
    one, two = backend.received
    assert one.all("Content-Type") == ['text/odd; x="y"']
    assert two.all("Content-Type") == []


def test_a_request_gets_no_header_that_its_visitor_did_not_send(
    bridge: Bridge, backend: Backend
) -> None:
    """No Accept-Encoding, no User-Agent: legacy would answer differently."""
    bridge.ask("GET", "/")
    assert [name for name, _ in backend.only().headers] == [
        "Host",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Request-Id",
        "X-Bridge-Hop",
    ]


def test_the_request_id_is_ours_and_in_the_log(bridge: Bridge, backend: Backend) -> None:
    """A visitor cannot choose it."""
    bridge.ask("GET", "/id", "X-Request-Id: chosen-by-the-visitor")
    request_id = backend.only().get("X-Request-Id")
    assert request_id != "chosen-by-the-visitor"
    assert bridge.outcome("/id")["request_id"] == request_id
