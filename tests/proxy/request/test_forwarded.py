"""Who the visitor is, as trusted proxies say it and as legacy is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.request.forwarded import (
    Client,
    TrustedProxies,
    forwarded_headers,
    household,
    plain_address,
    stranger,
)
from tests.proxy.site import head

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
PEER = "192.0.2.7"
ADDRESSES = st.ip_addresses().map(str)


def client(peer: str = PEER, host: str = "forge.example", **headers: str) -> Client:
    """The visitor behind a request that came from `peer` with these headers."""
    return PROXIES.client(replace(head("/", host=host, **headers), peer=peer))


@pytest.mark.parametrize(
    ("address", "networks", "trusted"),
    [
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("11.1.2.3", ["10.0.0.0/8"], False),
        ("10.1.2.3", ["10.9.9.9/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:11.1.2.3", ["10.0.0.0/8"], False),
        ("2001:db8::1", ["10.0.0.0/8", "2001:db8::/32"], True),
        ("2001:db9::1", ["10.0.0.0/8", "2001:db8::/32"], False),
        ("", ["unix"], True),
        ("", ["unix", "10.0.0.0/8"], True),
        ("", ["10.0.0.0/8"], False),
        ("", [], False),
        ("10.1.2.3", ["unix"], False),
        ("10.1.2.3", [], False),
        ("unix", ["unix"], False),
        ("nobody", ["0.0.0.0/0"], False),
        (None, ["unix", "0.0.0.0/0"], False),
        ([], ["unix", "0.0.0.0/0"], False),
    ],
)
def test_who_is_trusted(address: object, networks: list[str], trusted: bool) -> None:
    """`unix` stands for peers without an address; IPv4 may be written as IPv6."""
    assert (address in TrustedProxies(networks)) is trusted


@given(ADDRESSES)
def test_everybody_is_in_the_whole_of_the_internet_and_in_no_empty_list(address: str) -> None:
    assert address in TrustedProxies(["0.0.0.0/0", "::/0"])
    assert address not in TrustedProxies([])


@given(ADDRESSES, ADDRESSES)
def test_what_a_stranger_says_does_not_count(peer: str, invented: str) -> None:
    if peer in PROXIES:
        return
    found = client(
        peer,
        X_Forwarded_For=invented,
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example",
        Forwarded="for=6.6.6.6;proto=https;host=evil.example",
    )
    assert found == Client(peer, "http", (), "forge.example")


@pytest.mark.parametrize(
    ("said", "address", "chain"),
    [
        ("203.0.113.9", "203.0.113.9", ("203.0.113.9",)),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9", ("203.0.113.9",)),
        ("203.0.113.9, 10.0.0.1", "203.0.113.9", ("203.0.113.9", "10.0.0.1")),
        ("6.6.6.6, 8.8.8.8,10.0.0.1, 10.0.0.2", "8.8.8.8", ("8.8.8.8", "10.0.0.1", "10.0.0.2")),
        ("10.0.0.1", "10.0.0.1", ("10.0.0.1",)),
        ("203.0.113.9, ,10.0.0.1", "203.0.113.9", ("203.0.113.9", "10.0.0.1")),
        ("10.0.0.3, 10.0.0.1", "10.0.0.3", ("10.0.0.3", "10.0.0.1")),
        ("203.0.113.9, nonsense, 10.0.0.1", "10.0.0.1", ("10.0.0.1",)),
        ("nonsense", PEER, ()),
        ("", PEER, ()),
        (" , ,", PEER, ()),
        ("203.0.113.9:4711", "203.0.113.9", ("203.0.113.9",)),
        ("[2001:db9::1]:4711", "2001:db9::1", ("2001:db9::1",)),
    ],
)
def test_the_visitor_is_the_last_one_who_is_no_trusted_proxy(
    said: str, address: str, chain: tuple[str, ...]
) -> None:
    """What stands before is what the visitor claims."""
    found = client(X_Forwarded_For=said)
    assert (found.address, found.chain) == (address, chain)


@pytest.mark.parametrize(
    ("headers", "scheme", "host"),
    [
        ({}, "http", "forge.example"),
        ({"X_Forwarded_Proto": "https"}, "https", "forge.example"),
        ({"X_Forwarded_Proto": "HTTPS "}, "https", "forge.example"),
        ({"X_Forwarded_Proto": "http, https"}, "https", "forge.example"),
        ({"X_Forwarded_Proto": "http, https, ,"}, "https", "forge.example"),
        ({"X_Forwarded_Proto": "gopher"}, "http", "forge.example"),
        ({"X_Forwarded_Ssl": "on"}, "https", "forge.example"),
        ({"X_Forwarded_Ssl": "off, On"}, "https", "forge.example"),
        ({"X_Forwarded_Ssl": "off"}, "http", "forge.example"),
        ({"Front_End_Https": "on"}, "https", "forge.example"),
        ({"Front_End_Https": "on", "X_Forwarded_Proto": "http"}, "http", "forge.example"),
        ({"X_Forwarded_Host": "Shown.example"}, "http", "shown.example"),
        ({"X_Forwarded_Host": "other.example, shown.example:8080"}, "http", "shown.example:8080"),
        ({"X_Forwarded_Host": "not/a host"}, "http", "forge.example"),
        ({"X_Forwarded_Host": ""}, "http", "forge.example"),
    ],
)
def test_the_nearest_proxy_says_which_scheme_and_host_the_visitor_used(
    headers: dict[str, str], scheme: str, host: str
) -> None:
    found = client(**headers)
    assert (found.scheme, found.host) == (scheme, host)


def test_a_request_that_came_by_tls_is_https_where_nobody_says_more() -> None:
    request = replace(head("/"), peer=PEER, scheme="https")
    assert PROXIES.client(request).scheme == "https"
    said = replace(request, headers=(("X-Forwarded-Proto", "http"),))
    assert PROXIES.client(said).scheme == "http"


def test_an_empty_port_is_none() -> None:
    assert client(host="forge.example:").host == "forge.example"
    assert client("203.0.113.1", host="forge.example:").host == "forge.example"


FAR = "203.0.113.9"


def seen(address: str = PEER, scheme: str = "http", host: str = "forge.example") -> Client:
    """A visitor at this address, with no more proxies between."""
    return Client(address, scheme, () if address == PEER else (address,), host)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (f"for={FAR}", seen(FAR)),
        (f"for={FAR};proto=https;host=shown.example", seen(FAR, "https", "shown.example")),
        (
            'For="[2001:db9::1]:80" ; Proto=HTTPS; HOST="Shown.example:81"',
            seen("2001:db9::1", "https", "shown.example:81"),
        ),
        (
            f"for=6.6.6.6;proto=http, for={FAR};host=far.example , for=10.0.0.1;proto=https",
            Client(FAR, "https", (FAR, "10.0.0.1"), "forge.example"),
        ),
        ('for="203.0.113.\\9"', seen(FAR)),
        (f"for={FAR};for=6.6.6.6", seen(FAR)),
        (f",, for={FAR} ,", seen(FAR)),
        ("proto=https", seen(scheme="https")),
        ("for=_hidden;proto=https", seen(scheme="https")),
        (f"for={FAR};proto=https x", seen()),
        (f'for="{FAR}', seen()),
        (f"!, for={FAR}", seen()),
        (" ", seen()),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value: str, found: Client) -> None:
    """A malformed one says nothing; of several elements the last one is the nearest proxy's."""
    assert client(Forwarded=value) == found


@pytest.mark.parametrize(
    "said",
    [{"X_Forwarded_For": ""}, {"X_Forwarded_Proto": "http"}, {"X_Forwarded_Host": "a.example"}],
)
def test_forwarded_is_the_visitors_where_the_proxy_writes_the_other_names(
    said: dict[str, str],
) -> None:
    found = client(Forwarded="for=6.6.6.6;proto=https;host=evil.example", **said)
    assert (found.address, found.scheme) == (PEER, "http")
    assert found.host != "evil.example"


@given(ADDRESSES, st.integers(0, 65535), st.sampled_from(["", " ", "\t"]))
def test_an_address_is_plain_without_port_zone_and_space(
    address: str, port: int, space: str
) -> None:
    written = [address, f"[{address}]", f"[{address}]:{port}"]
    written += [f"{address}%eth0", f"[{address}%25]"] if ":" in address else [f"{address}:{port}"]
    for one in written:
        assert plain_address(f"{space}{one}{space}") == address


@pytest.mark.parametrize(
    "text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "1.2.3.4:x", "[", "1.2.3.4:123456"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert plain_address(text) is None
    assert household(text) == ""
    assert stranger(text) == ""


@pytest.mark.parametrize(
    ("address", "home"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db9:1:2:3::4", "2001:db9:1:2::/64"),
        ("2001:db9:1:2:ffff::", "2001:db9:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_a_household_is_an_ipv4_address_or_a_network_of_64_bits(address: str, home: str) -> None:
    assert household(address) == home


@pytest.mark.parametrize(
    ("address", "known_as"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("8.8.8.8:53", ""),
        ("2a00:1450::1", "2a00:1450::/64"),
        ("10.0.0.1", ""),
        ("127.0.0.1", ""),
        ("fd00::1", ""),
    ],
)
def test_a_stranger_is_on_the_internet(address: str, known_as: str) -> None:
    """In the own networks a proxy may stand for everybody."""
    assert stranger(address) == known_as


@pytest.mark.parametrize(
    ("visitor", "peer", "addresses", "forwarded"),
    [
        (seen(), PEER, PEER, f"for={PEER};proto=http;host=forge.example"),
        (
            seen(scheme="https", host="a.example:81"),
            PEER,
            PEER,
            f'for={PEER};proto=https;host="a.example:81"',
        ),
        (
            Client(FAR, "http", (FAR, "10.0.0.1"), "a.example"),
            "10.0.0.2",
            f"{FAR}, 10.0.0.1, 10.0.0.2",
            f"for={FAR}, for=10.0.0.1, for=10.0.0.2;proto=http;host=a.example",
        ),
        (
            Client("", "http", (), "a.example"),
            "",
            "unknown",
            "for=unknown;proto=http;host=a.example",
        ),
        (seen(FAR), "", FAR, f"for={FAR};proto=http;host=forge.example"),
        (
            Client("::1", "http", (), "[::1]"),
            "::1%lo",
            "::1",
            'for="[::1]";proto=http;host="[::1]"',
        ),
    ],
)
def test_legacy_is_told_the_way_that_is_believed_and_the_peer_last(
    visitor: Client, peer: str, addresses: str, forwarded: str
) -> None:
    assert forwarded_headers(visitor, peer) == (
        ("X-Forwarded-For", addresses),
        ("X-Forwarded-Proto", visitor.scheme),
        ("X-Forwarded-Host", visitor.host),
        ("Forwarded", forwarded),
    )
