"""Which site a host belongs to, and what is none."""

from __future__ import annotations

import tracemalloc
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.request.hosts import Hosts, as_ascii, host_of, split_host
from bridge.proxy.tools.explain import head_for
from bridge.proxy.tools.redirects import start_of
from tests.proxy.site import TOP, table

LONGEST = "a" * 250 + ".test"


@pytest.mark.parametrize("host", [LONGEST, f"{LONGEST}:65535"])
def test_a_name_may_have_255_characters(host: str) -> None:
    assert split_host(host) == (LONGEST, host[256:])
    assert Hosts({"any": ["*.test:*"]}).owner(host) == "any"


@pytest.mark.parametrize("host", [f"a{LONGEST}", f"a{LONGEST}:1", "a" * 1_000_000])
def test_a_longer_name_is_malformed_and_nobodys(host: str) -> None:
    assert split_host(host) is None
    assert Hosts({"any": ["*:*"]}).owner(host) is None


@pytest.mark.parametrize("host", ["a.test", "a.test:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_a_star_alone_takes_any_host_with_any_port(host: str) -> None:
    assert Hosts({"any": ["*"]}).owner(host) == "any"


@pytest.mark.parametrize("host", ["a.test", "a.test:", "a.test:80", "a.test:443"])
@pytest.mark.parametrize("pattern", ["a.test:443", "a.test:80", "*.test:443", "a.test"])
def test_a_default_port_is_none_in_the_file_too(pattern: str, host: str) -> None:
    hosts = Hosts({"any": [pattern]})
    assert hosts.owner(host) == "any"
    assert hosts.owner("a.test:8443") is None


@pytest.mark.parametrize("host", ["BÜCHER.Example", "WWW.example"])
def test_a_name_in_ascii_stays_as_it_is_written(host: str) -> None:
    """Its letters are made small where it is compared."""
    assert (as_ascii(host) == host) is host.isascii()


def test_hosts_of_up_to_64_characters_are_remembered() -> None:
    """The owner is asked for with every request."""
    with mock.patch.object(Hosts, "_find", autospec=True, side_effect=Hosts._find) as found:
        hosts = Hosts({"any": ["*.test"]})
        for length, looks in ((64, 1), (65, 2)):
            found.reset_mock()
            host = "a" * (length - 5) + ".test"
            assert [hosts.owner(host) for _ in range(2)] == ["any", "any"]
            assert found.call_count == looks


def test_a_star_with_a_port_takes_any_name_there_and_no_name_elsewhere() -> None:
    hosts = Hosts({"any": ["*:9000"]})
    for host in ("a.test:9000", "localhost:9000", "[::1]:9000"):
        assert hosts.owner(host) == "any"
    assert hosts.owner("a.test") is None


HOSTS = {
    "exact": ["www.a.test", "port.a.test:8080", "any.a.test:*", "[::1]", "[::2]:81"],
    "wild": ["*.a.test", "*.b.test:8080", "*.c.test:*"],
    "deep": ["*.deep.a.test"],
    "ports": ["*:9000"],
}


@pytest.mark.parametrize(
    ("host", "owner"),
    [
        ("www.a.test", "exact"),
        ("WWW.A.test", "exact"),
        ("www.a.test:8080", None),
        ("port.a.test:8080", "exact"),
        ("port.a.test", "wild"),
        ("port.a.test:8081", None),
        ("any.a.test", "exact"),
        ("any.a.test:443", "exact"),
        ("any.a.test:8081", "exact"),
        ("[::1]", "exact"),
        ("[::1]:80", "exact"),
        ("[::1]:81", None),
        ("[::2]:81", "exact"),
        ("[::2]", None),
        ("x.a.test", "wild"),
        ("x.y.a.test:443", "wild"),
        ("x.a.test:8080", None),
        ("x.a.test.evil.test", None),
        ("xa.test", None),
        ("a.test", None),
        (".a.test", None),
        ("x.b.test:8080", "wild"),
        ("x.b.test", None),
        ("x.c.test", "wild"),
        ("x.c.test:1", "wild"),
        ("x.deep.a.test", "deep"),
        ("deep.a.test", "wild"),
        ("anything:9000", "ports"),
        ("www.a.test:9000", "ports"),
        ("anything", None),
        ("", None),
        ("a b", None),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_host_belongs_to_the_most_specific_pattern(
    host: str, owner: str | None, turned: bool
) -> None:
    """Whatever their order: the name itself first, then the longest of those with a star."""
    patterns = {name: HOSTS[name] for name in (reversed(HOSTS) if turned else HOSTS)}
    assert Hosts(patterns).owner(host) == owner


def test_of_two_sites_with_one_host_the_first_has_it() -> None:
    assert Hosts({"a": ["x.test"], "b": ["x.test"]}).owner("x.test") == "a"


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("a.test", ("a.test", "")),
        ("A.Test:80", ("a.test", "80")),
        ("a.test:", ("a.test", "")),
        ("[2001:DB8::1]:80", ("[2001:db8::1]", "80")),
        ("a_b-c.test:65535", ("a_b-c.test", "65535")),
        ("a.test:123456", None),
        ("a.test:80:80", None),
        ("a.test:x", None),
        ("2001:db8::1", None),
        ("a/b", None),
        ("a\x00", None),
        (":80", None),
        ("", None),
    ],
)
def test_a_host_is_a_name_and_a_port(host: str, parts: tuple[str, str] | None) -> None:
    assert split_host(host) == parts


@pytest.mark.parametrize("name", ["ﷺﷺ‎.test", "ü" * 64, "-ü.test", "ü\u200d.test"])
def test_what_no_browser_asks_for_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no part of a host name"):
        as_ascii(name)


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


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["", ":", ":80", ":443"]))
def test_a_last_dot_and_an_empty_port_change_nothing(labels: list[str], port: str) -> None:
    """Neither in the file nor in what visitors send; nginx and Apache see it so too."""
    name = ".".join(labels)
    for hosts in (Hosts({"ours": [name]}), Hosts({"ours": [f"{name}."]})):
        for given_name in (name, f"{name}.", name.upper()):
            assert hosts.owner(given_name + port) == "ours"
        assert hosts.owner(f"{name}..{port}") is None
        assert hosts.owner(f"x{name}{port}") is None


IDN = [
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example:8080", "xn--bcher-kva.example:8080"),
    ("*.straße.example:*", "*.xn--strae-oqa.example:*"),
    ("почта.example", "xn--80a1acny.example"),
    ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
    ("a_b.example", "a_b.example"),
    ("[2001:db8::1]:80", "[2001:db8::1]:80"),
]


@pytest.mark.parametrize(("written", "asked"), IDN)
def test_a_name_in_other_letters_is_written_as_browsers_ask_for_it(
    written: str, asked: str
) -> None:
    assert as_ascii(written).lower() == asked


def test_hosts_in_other_letters_may_be_written_everywhere() -> None:
    """In the file, to `explain`, to `check --follow`."""
    ours = table(top=TOP.replace("forge.example", "Bücher.example"))
    assert ours.hosts.owner("xn--bcher-kva.example") == "forge"
    assert head_for(ours, "GET", "http://bücher.example/ä", [], "").host == "xn--bcher-kva.example"
    assert head_for(ours, "GET", "/", [("Host", "bücher.example")], "").host.startswith("xn--")
    start = start_of(ours, "http://BÜCHER.example/ä")
    assert start.lower() == "http://xn--bcher-kva.example/%c3%a4"


PATTERNS = st.tuples(
    st.one_of(st.just("*"), st.sampled_from(["", "*."]).flatmap(lambda s: NAMES.map(s.__add__))),
    st.sampled_from(["", ":*", ":8080", ":18080"]),
).map("".join)


@given(st.lists(PATTERNS, min_size=1, max_size=4))
def test_a_path_is_on_a_host_of_the_site(patterns: list[str]) -> None:
    """Whatever stands in `hosts:`, stars too: for `explain`, for `check --follow`."""
    ours = table(top=TOP.replace("forge.example", ", ".join(f"'{one}'" for one in patterns)))
    host = host_of(ours.file.hosts, "forge")
    assert ours.hosts.owner(host) == "forge"
    if not patterns[0].startswith("*"):
        assert host == patterns[0].removesuffix(":*")
    assert head_for(ours, "GET", "/x", [], "").host == host
    assert start_of(ours, "/x") == f"http://{host}/x"


@pytest.mark.parametrize(
    ("hosts", "asked"),
    [
        ("'*'", "localhost"),
        ("'*:18080'", "localhost:18080"),
        ("'*', www.example.org", "www.example.org"),
        ("'*:*', '*.example.org:81'", "www.example.org:81"),
    ],
)
def test_a_star_alone_is_asked_for_last(hosts: str, asked: str) -> None:
    assert host_of(table(top=TOP.replace("forge.example", hosts)).file.hosts, "forge") == asked


def test_a_host_of_a_site_is_not_another_sites() -> None:
    more = "  other: {hosts: [localhost, www.example.org], legacy: php}\nbackends:"
    for hosts in ("'*'", "'*.example.org'"):
        text = TOP.replace("forge.example", hosts).replace("backends:", more)
        ours = table(top=text)
        assert ours.hosts.owner(host_of(ours.file.hosts, "forge")) == "forge"
