"""NTLM and Negotiate authenticate a connection and not a request: nobody else may use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Visitor, request

SCHEMES = ["NTLM", "Negotiate", "nTlM"]


class Office:
    """A server that knows who a connection belongs to, as IIS does."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet  # who is known is not challenged, so no header shows it
        self.users: dict[int, str] = {}

    def __call__(self, call: Call) -> None:
        call.body()
        number = call.received.connection
        scheme, _, token = (call.received.get("Authorization") or "").partition(" ")
        if token == "begin":
            call.send(plain("401 No", f"WWW-Authenticate: {scheme} challenge", body=b"go on"))
            self.users[number] = ""
        elif token.startswith("i-am-") and (self.quiet or number in self.users):
            self.users[number] = token.removeprefix("i-am-")
            call.send(plain(body=f"hello {self.users[number]}".encode()))
        elif user := self.users.get(number):
            call.send(plain(body=f"hello {user}".encode()))
        else:
            lines = ("WWW-Authenticate: Negotiate", "WWW-Authenticate: NTLM")
            call.send(plain("401 No", *lines, body=b"who?"))


@pytest.fixture(params=[False, True], ids=["in two steps", "in one step"])
def quiet(request: pytest.FixtureRequest) -> bool:
    one_step: bool = request.param
    return one_step


@pytest.fixture
def office(bridge: Bridge, backend: Backend, quiet: bool) -> Iterator[Office]:
    backend.hang_up()
    office = Office(quiet=quiet)
    for path in ("/", "/mine"):
        backend.when(path, office)
    yield office
    backend.hang_up()


def ask(visitor: Visitor, *lines: str, method: str = "GET", body: bytes | None = None) -> bytes:
    visitor.send(request(method, "/mine", *lines, body=body))
    return visitor.answer(method).body


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_stranger_is_never_answered_as_somebody_else(
    bridge: Bridge, office: Office, scheme: str
) -> None:
    """Whatever connection theirs comes over, and however that was authenticated."""
    with bridge.visitor() as alice:
        if not office.quiet:
            ask(alice, f"Authorization: {scheme} begin")
        ask(alice, f"Authorization: {scheme} i-am-alice")
        for _ in range(5):
            assert bridge.ask("GET", "/").body == b"who?"
        ask(alice)
        for _ in range(5):
            assert bridge.ask("GET", "/").body == b"who?"
    for _ in range(5):
        assert bridge.ask("GET", "/").body == b"who?"


def test_who_is_challenged_and_leaves_leaves_no_connection_to_others(
    bridge: Bridge, office: Office, backend: Backend
) -> None:
    with bridge.visitor() as alice:
        ask(alice)
        [received] = backend.of("/mine")
    wait_for(lambda: backend.open == 0, BOUND, "the connection to be closed")
    bridge.ask("GET", "/")
    assert backend.of("/")[0].connection != received.connection


def test_a_visitor_keeps_their_own_connection(
    bridge: Bridge, office: Office, backend: Backend
) -> None:
    """Else they could never come through; the WSGI shell does not know which visitor asks."""
    if bridge.engine != "event":
        pytest.skip("only the event-loop shell knows the visitor's connection")
    with bridge.visitor() as alice:
        assert ask(alice) == b"who?"
        if not office.quiet:
            assert ask(alice, "Authorization: NTLM begin") == b"go on"
        assert ask(alice, "Authorization: NTLM i-am-alice") == b"hello alice"
        assert ask(alice) == b"hello alice"
        assert ask(alice, method="POST", body=b"x" * 70_000) == b"hello alice"
        with bridge.visitor() as bob:
            assert ask(bob, "Authorization: NTLM begin") != b"hello alice"
            assert ask(bob, "Authorization: NTLM i-am-bob") == b"hello bob"
            assert ask(alice) == b"hello alice"
            assert ask(bob) == b"hello bob"
    assert len({received.connection for received in backend.of("/mine")}) == 2


def test_a_connection_of_ones_own_that_legacy_has_closed_is_replaced(
    bridge: Bridge, office: Office, backend: Backend
) -> None:
    with bridge.visitor() as alice:
        ask(alice)
        backend.hang_up()
        wait_for(lambda: backend.open == 0, BOUND, "the connection to be closed")
        assert ask(alice) == b"who?"


@pytest.mark.parametrize("scheme", ["Basic", "Bearer", "Digest"])
def test_other_schemes_share_connections(bridge: Bridge, backend: Backend, scheme: str) -> None:
    """They name the user in every request."""
    backend.hang_up()
    backend.when("/", plain("401 No", f'WWW-Authenticate: {scheme} realm="x"'))
    for _ in range(4):
        bridge.ask("GET", "/", f"Authorization: {scheme} abc")
    assert len({received.connection for received in backend.received}) == 1
