"""Which site a host belongs to, and what is none."""

from __future__ import annotations

import tracemalloc

import pytest

from bridge.proxy.hosts import Hosts, split_host

LONGEST = "a" * 250 + ".test"


@pytest.mark.parametrize("host", [LONGEST, f"{LONGEST}:65535"])
def test_a_name_may_have_255_characters(host: str) -> None:
    assert split_host(host) == (LONGEST, host[256:])
    assert Hosts({"any": ["*.test:*"]}).owner(host) == "any"


@pytest.mark.parametrize("host", [f"a{LONGEST}", f"a{LONGEST}:1", "a" * 1_000_000])
def test_a_longer_name_is_malformed_and_nobodys(host: str) -> None:
    assert split_host(host) is None
    assert Hosts({"any": ["*:*"]}).owner(host) is None


def test_long_hosts_are_not_remembered() -> None:
    """Visitors may send any number of them."""
    hosts = Hosts({"any": ["*.test"]})
    tracemalloc.start()
    try:
        for n in range(1000):
            hosts.owner(f"{n}{'a' * 16_000}.test")
            hosts.owner(f"{n:05}{LONGEST[5:]}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 200_000
