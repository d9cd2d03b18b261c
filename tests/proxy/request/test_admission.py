"""What is refused before any route is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.http.headers import HOP_HEADER
from bridge.proxy.request.admission import Admission, admit
from tests.proxy.site import head

OWN = "0a1b2c3d"
HOP = st.from_regex(r"[0-9a-f]{8}", fullmatch=True).filter(lambda one: one != OWN)


def status(method: str = "GET", target: str = "/", tunnels: bool = False, **headers: str) -> int:
    """The status of the refusal; 0 where there is none."""
    try:
        admit(head(target, method, **headers), OWN, tunnels=tunnels)
    except VisitorError as refused:
        return refused.status
    return 0


def test_a_plain_request_goes_on_as_it_is() -> None:
    request = head("/p", Cookie="a=b")
    assert admit(request, OWN) == Admission(request, (OWN,))


@pytest.mark.parametrize(
    ("authority", "expected"), [("forge.example", 0), ("FORGE.example", 0), ("evil.example", 400)]
)
def test_the_target_and_host_name_one_host(authority: str, expected: int) -> None:
    assert status(target=f"http://{authority}/p") == expected


@pytest.mark.parametrize(
    ("upgrade", "expected"),
    [
        ("websocket", 501),
        ("WebSocket", 501),
        ("h2c , websocket", 501),
        ("h2c", 0),
        ("websockets", 0),
        ("", 0),
    ],
)
def test_a_websocket_needs_a_shell_that_tunnels(upgrade: str, expected: int) -> None:
    assert status(Upgrade=upgrade) == expected
    assert status(Upgrade=upgrade, tunnels=True) == 0


def test_a_shell_tunnels_only_where_it_says_so() -> None:
    with pytest.raises(VisitorError):
        admit(head("/", Upgrade="websocket"), OWN)


@given(st.lists(HOP, max_size=10))
def test_up_to_eight_bridges_are_passed_and_ours_comes_last(hops: list[str]) -> None:
    request = head("/", **{HOP_HEADER: ",".join(hops)}) if hops else head("/")
    if len(hops) < 8:
        assert admit(request, OWN).hops == (*hops, OWN)
    else:
        with pytest.raises(VisitorError) as refused:
            admit(request, OWN)
        assert refused.value.status == 508


@given(st.lists(HOP, max_size=6), st.integers(0, 6))
def test_whoever_was_here_before_is_in_a_loop(hops: list[str], at: int) -> None:
    hops.insert(at, OWN)
    assert status(**{HOP_HEADER: ",".join(hops)}) == 508


@pytest.mark.parametrize("invented", [f"{OWN},x", f"x{OWN}", f"{OWN.upper()}", ",", f"{OWN}0"])
def test_what_a_visitor_invents_as_the_way_does_not_count(invented: str) -> None:
    assert admit(head("/", **{HOP_HEADER: invented}), OWN).hops == (OWN,)


class TestMaxForwards:
    """RFC 9110, section 7.6.2."""

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    @given(left=st.integers(1, 999_999_999))
    def test_it_is_counted_down_where_the_rfc_asks_for_it(self, method: str, left: int) -> None:
        request = head("/", method, Max_Forwards=str(left), Accept=str(left))
        request = replace(request, index={"max-forwards": str(left)})
        admitted = admit(request, OWN)
        assert not admitted.final
        assert admitted.head.get("Max-Forwards") == str(left - 1)
        assert admitted.head.get("Accept") == str(left)

    def test_the_last_recipient_of_options_is_this_one(self) -> None:
        assert admit(head("/", "OPTIONS", Max_Forwards="0"), OWN).final
        assert not admit(head("/", "OPTIONS"), OWN).final

    def test_the_last_recipient_of_trace_does_not_send_it_back(self) -> None:
        assert status("TRACE", Max_Forwards="0") == 405
        assert status("TRACE") == 0

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    @pytest.mark.parametrize("left", ["", "x", "-1", "1.0", "1, 2", "²", "٣", "1000000000"])
    def test_what_is_no_number_is_refused(self, method: str, left: str) -> None:
        assert status(method, Max_Forwards=left) == 400

    @pytest.mark.parametrize("left", ["0", "5", "x"])
    def test_other_methods_do_not_know_it(self, left: str) -> None:
        request = head("/", Max_Forwards=left)
        assert admit(request, OWN) == Admission(request, (OWN,))
