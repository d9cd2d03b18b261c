"""Error pages: the site's own where it has one, always with the request's id, never a leak."""

from __future__ import annotations

import re

import pytest

from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request


def test_the_page_for_a_status_is_the_sites_own(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/", host="pages.test")
    assert got.status == 502
    assert got.body == b"<p>no gateway, Bad Gateway, costs 5$</p>"
    assert got.get("Content-Type") == "text/html; charset=utf-8"
    assert got.get("Cache-Control") == "no-store"


def test_any_other_status_gets_the_sites_default(bridge: Bridge) -> None:
    got = bridge.ask("TRACE", "/", "Max-Forwards: 0", host="pages.test")
    # Refused before the site was known: a site's page cannot be chosen yet.
    assert got.status == 405
    got = bridge.ask("POST", "/p", "Transfer-Encoding: gzip", host="pages.test")
    assert got.status == 400


def test_a_site_without_pages_gets_a_plain_one(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/plain", host="refused.test")
    text = got.body.decode()
    assert "<h1>Bad Gateway</h1>" in text
    shown = re.search(r"Request ([0-9a-f]{16})", text)
    assert shown
    assert shown[1] == bridge.outcome("/plain")["request_id"]


@pytest.mark.parametrize("host", ["refused.test", "pages.test", "full.test"])
def test_a_page_says_nothing_about_what_is_behind(
    bridge: Bridge, backend: Backend, host: str
) -> None:
    got = bridge.ask("GET", "/", host=host)
    for word in (b"127.0.0.1", b"refused", b"legacy", b"bridge", b"python", b"Python", b"Errno"):
        assert word not in got.body
        assert word not in got.raw


def test_the_answer_to_head_has_the_length_of_the_page_and_no_page(bridge: Bridge) -> None:
    page = bridge.ask("GET", "/", host="pages.test")
    with bridge.visitor() as visitor:
        visitor.send(request("HEAD", "/", host="pages.test"))
        got = visitor.answer("HEAD")
        assert (got.status, got.get("Content-Length")) == (502, str(len(page.body)))
        visitor.send(request("GET", "/", host="pages.test"))
        assert visitor.answer().body == page.body


def test_a_connection_is_usable_after_an_error_page(bridge: Bridge, backend: Backend) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/", host="refused.test") + request("GET", "/"))
        assert visitor.answer().status == 502
        assert visitor.answer().status == 200


def test_nothing_of_a_request_is_in_its_error_page(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/<script>alert(1)</script>?x=<b>", host="refused.test")
    assert got.status == 502
    assert b"script" not in got.body
