"""A request that comes back to us is stopped; Via and Max-Forwards say how far one went."""

from __future__ import annotations

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.serving import Bridge


def test_a_backend_that_is_the_bridge_itself_is_a_508(bridge: Bridge) -> None:
    """A real loop: routes.yaml names the bridge's own address as a backend. The second time
    around the request is stopped, and the first time passes that answer on."""
    got = bridge.ask("GET", "/round", host="loop.test")
    assert got.status == 508
    assert b"refers back to itself" in got.body
    wait_for(lambda: len(bridge.outcomes("/round")) == 2, BOUND, "both lines of the access log")
    inner, outer = sorted(bridge.outcomes("/round"), key=lambda record: record["backend"])
    assert (inner["status"], inner["backend"]) == (508, "bridge")
    assert (outer["status"], outer["backend"]) == (508, "loop")


def test_a_loop_of_an_upload_is_a_508_too(bridge: Bridge) -> None:
    assert bridge.ask("POST", "/round", host="loop.test", body=b"x" * 100_000).status == 508


def test_another_bridge_on_the_way_is_no_loop(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("GET", "/", "X-Bridge-Hop: 01234567").status == 200
    first, own = (backend.only().get("X-Bridge-Hop") or "").split(",")
    assert first == "01234567"
    assert len(own) == 8


def test_too_many_bridges_are_a_loop(bridge: Bridge, backend: Backend) -> None:
    """Without a common secret each process has a name of its own; the count ends it."""
    hops = ",".join(f"{n:08x}" for n in range(8))
    assert bridge.ask("GET", "/", f"X-Bridge-Hop: {hops}").status == 508
    assert backend.received == []


@pytest.mark.parametrize("value", ["nonsense", "01234567,", "0123456", "01234567, 01234567"])
def test_a_hop_header_of_somebody_else_counts_for_nothing(
    bridge: Bridge, backend: Backend, value: str
) -> None:
    assert bridge.ask("GET", "/", f"X-Bridge-Hop: {value}").status == 200
    assert len(backend.only().get("X-Bridge-Hop") or "") == 8


def test_via_is_not_added(bridge: Bridge, backend: Backend) -> None:
    """A default nginx in front of PHP stops compressing when it sees one: visitors would
    notice. One that is there already stays."""
    bridge.ask("GET", "/")
    bridge.ask("GET", "/", "Via: 1.0 fred")
    assert [received.all("Via") for received in backend.received] == [[], ["1.0 fred"]]


def test_via_is_added_where_the_backend_asks_for_it(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("GET", "/", "Via: 1.0 fred", host="via.test")
    bridge.ask("GET", "/", host="via.test", version="1.0")
    assert [received.all("Via") for received in backend.received] == [
        ["1.0 fred", "1.1 bridge"],
        ["1.0 bridge"],
    ]


def test_options_with_no_forwards_left_is_answered_here(bridge: Bridge, backend: Backend) -> None:
    """RFC 9110, 7.6.2."""
    got = bridge.ask("OPTIONS", "/", "Max-Forwards: 0")
    assert got.status == 200
    assert got.get("Allow")
    assert backend.received == []


def test_trace_with_no_forwards_left_is_refused(bridge: Bridge, backend: Backend) -> None:
    """Answering it would send back the visitor's cookies."""
    got = bridge.ask("TRACE", "/", "Max-Forwards: 0", "Cookie: secret=1")
    assert got.status == 405
    assert b"secret" not in got.body
    assert backend.received == []


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
def test_max_forwards_is_counted_down(bridge: Bridge, backend: Backend, method: str) -> None:
    backend.when("/", plain())
    bridge.ask(method, "/", "Max-Forwards: 10")
    assert backend.only().all("Max-Forwards") == ["9"]


def test_max_forwards_means_nothing_for_other_methods(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("GET", "/", "Max-Forwards: 0").status == 200
    assert backend.only().all("Max-Forwards") == ["0"]


@pytest.mark.parametrize("value", ["-1", "one", "1.5", "", "9" * 5000])
def test_max_forwards_must_be_a_number(bridge: Bridge, backend: Backend, value: str) -> None:
    assert bridge.ask("OPTIONS", "/", f"Max-Forwards: {value}").status == 400
    assert backend.received == []
