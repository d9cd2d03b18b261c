"""What --bind may say, and what is said to what it may not."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError, WrongUsage
from bridge.operator import check_address
from bridge.proxy.serve.binding import check_addresses


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:99999", "there are ports up to 65535 only"),
        ("foo", r"is no address; write host:port \(127.0.0.1:8080, "),
        ("21085", r"is no address; write host:port \(127.0.0.1:21085, "),
        ("::1:8080", r"is no address; .*\[::1\]:8080"),
        ("127.0.0.1:", "is no address"),
        ("127.0.0.1:http", "is no address"),
        ("", "is no address"),
        ("fd://x", "is no address"),
        ("no-such-host.invalid:8080", "cannot listen on .*; write an address of this machine"),
        ("192.0.2.1:8080", "no interface of this machine has this address"),
        ("unix:", "the path is missing"),
        ("unix:/no/such/folder/s", "there is no folder /no/such/folder"),
        ("unix:/etc/passwd", "something that is no socket"),
        ("unix:/tmp/" + "s" * 103, "more than 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused_with_a_way_out(text: str, says: str) -> None:
    with pytest.raises(BridgeError, match=says):
        check_addresses((text,))


HOSTS = st.sampled_from(["127.0.0.1", "localhost", "", "::1", "[::1]", "unix", "fd", "tcp://x"])


@given(
    st.one_of(
        st.text(st.characters(codec="ascii"), max_size=12).filter(lambda text: ":" not in text),
        st.tuples(HOSTS, st.integers(65536, 10**12).map(str)).map(":".join),
        st.tuples(HOSTS, st.text("-+_.x ", min_size=1, max_size=4)).map(":".join),
        HOSTS,
    ).filter(lambda text: not text.startswith("unix:"))
)
def test_what_could_be_an_address_nowhere_is_wrong_usage(text: str) -> None:
    """On whatever machine: so programs can tell it from a port that is taken."""
    with pytest.raises(WrongUsage):
        check_addresses((text,))
    with pytest.raises(WrongUsage):
        check_address(text.replace("://", ""), "token")


def test_a_port_that_is_taken_is_said_with_the_command_that_shows_by_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(BridgeError, match=r"Address already in use; stop what .*`ss -ltnp`"):
            check_addresses((address,))


def test_addresses_that_can_be_listened_on_are_good(tmp_path: Path) -> None:
    left_behind = tmp_path / "old"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(left_behind))
    check_addresses(
        (
            *("127.0.0.1:0", "localhost:0", ":0", "tcp://127.0.0.1:0", "0.0.0.0:0"),
            *(f"unix:{tmp_path / 'new'}", f"unix://{tmp_path / 'new'}", f"unix:{left_behind}"),
            "fd://3",
        )
    )
    if socket.has_dualstack_ipv6():
        check_addresses(("[::1]:0",))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_folder_that_this_user_may_not_write_to_holds_no_socket() -> None:
    try:
        os.seteuid(65534)
        with pytest.raises(BridgeError, match="this user may not write to /etc"):
            check_addresses(("unix:/etc/s",))
    finally:
        os.seteuid(0)


def test_sockets_that_were_handed_over_are_used_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    check_addresses(("foo",))
