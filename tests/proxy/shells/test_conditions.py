"""Cookies can decide which route it is; then caches are told so."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge

PATH = "/py/guests"


@pytest.mark.parametrize(
    ("cookies", "side"),
    [
        ([], b"python"),
        (["Cookie: a=1"], b"python"),
        (["Cookie: a=1; member_x=1"], b"legacy"),
        (["Cookie: a=1", "Cookie: member.x=1"], b"legacy"),
        (["Cookie: member_[]=1"], b"legacy"),
    ],
)
def test_a_route_for_guests_is_not_for_members_and_both_answers_say_so(
    bridge: Bridge, backend: Backend, cookies: list[str], side: bytes
) -> None:
    backend.when(PATH, plain("200 OK", "Vary: Accept", body=b"legacy"))
    for _ in range(3):
        got = bridge.ask("GET", PATH, *cookies, host="python.test")
        assert got.body == side
        assert "Cookie" in got.all("Vary")
        assert not got.all("Cache-Control")  # a shared cache may keep it, for guests


@pytest.mark.parametrize(
    ("vary", "complete"),
    [
        ("Cookie", ["Cookie"]),
        ("accept, COOKIE", ["accept, COOKIE"]),
        ("*", ["*"]),
        ("X-Cookie-Group", ["X-Cookie-Group", "Cookie"]),
    ],
)
def test_vary_is_added_to_where_it_does_not_name_the_cookie(
    bridge: Bridge, backend: Backend, vary: str, complete: list[str]
) -> None:
    backend.when(PATH, plain("200 OK", f"Vary: {vary}", body=b"legacy"))
    got = bridge.ask("GET", PATH, "Cookie: member_1=1", host="python.test")
    assert got.all("Vary") == complete
