"""Which of a backend's servers is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bridge.proxy.backends.servers import Server, Servers
from bridge.proxy.routing.models import Backend

URLS = ["http://a", "http://b", "http://c"]


def test_of_those_that_are_well_the_least_busy_one_is_asked() -> None:
    servers = Servers("php", URLS)
    a, b, c = servers.all
    a.busy, b.busy, c.busy = 3, 1, 2
    assert servers.pick(0.0) is b
    assert servers.pick(0.0, [b]) is c
    servers.refused(b, 0.0)
    assert servers.pick(0.5) is c


def test_of_equals_each_has_its_turn() -> None:
    servers = Servers("php", URLS)
    assert {servers.pick(0.0) for _ in range(3)} == set(servers.all)


def test_one_that_refuses_is_left_alone_longer_each_time_and_tried_again() -> None:
    servers = Servers("php", URLS[:2])
    a, _ = servers.all
    now = 0.0
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        servers.refused(a, now)
        assert not a.is_well(now + seconds - 0.01)
        now += seconds
        assert a.is_well(now)
    servers.answered(a)
    servers.refused(a, now)
    assert a.is_well(now + 1)


def test_one_that_is_silent_is_left_alone_after_three_requests_in_a_row() -> None:
    servers = Servers("php", URLS[:2])
    a, _ = servers.all
    for _ in range(2):
        servers.was_silent(a, 0.0)
    servers.answered(a)
    for _ in range(2):
        servers.was_silent(a, 0.0)
        assert a.is_well(0.0)
    servers.was_silent(a, 0.0)
    assert not a.is_well(0.5)


def test_a_probe_counts_more_than_time() -> None:
    servers = Servers("php", URLS[:2])
    a, b = servers.all
    servers.told(a, False, "away")
    assert servers.pick(1e9) is b
    servers.told(a, True, "")
    assert a.is_well(1e9)


def test_the_only_server_is_always_asked() -> None:
    servers = Servers("php", URLS[:1])
    [a] = servers.all
    for _ in range(9):
        servers.refused(a, 0.0)
        servers.was_silent(a, 0.0)
    assert servers.pick(0.0) is a
    assert a.is_well(0.0)


def test_it_is_known_which_are_left_alone_and_why() -> None:
    servers = Servers("php", URLS)
    a, b, c = servers.all
    assert servers.alone(0.0) == {}
    servers.refused(a, 0.0)
    for _ in range(3):
        servers.was_silent(b, 0.0)
    servers.told(c, False, "the probe was answered with 503")
    assert servers.alone(0.5) == {
        "http://a": "takes no connection",
        "http://b": "gave no answer to 3 requests",
        "http://c": "the probe was answered with 503",
    }
    servers.told(c, True, "")
    servers.answered(b)
    assert list(servers.alone(0.5)) == ["http://a"]
    assert servers.alone(1.5) == {}


def test_the_only_server_is_never_left_alone() -> None:
    servers = Servers("php", URLS[:1])
    servers.refused(servers.all[0], 0.0)
    servers.told(servers.all[0], False, "away")
    assert servers.alone(0.0) == {}


def test_equals_have_their_turns_one_after_the_other() -> None:
    """As in the file, beginning with the second; so it is with two of three, too."""
    servers = Servers("php", URLS)
    a, b, c = servers.all
    assert [servers.pick(0.0) for _ in range(6)] == [b, c, a, b, c, a]
    b.busy = 1
    assert [servers.pick(0.0) for _ in range(6)] == [c, c, a, c, c, a]


def test_when_none_is_left_the_one_whose_time_is_over_first_is_asked() -> None:
    servers = Servers("php", URLS)
    a, b, c = servers.all
    for server, at in ((a, 0.3), (b, 0.1), (c, 0.2)):
        servers.refused(server, at)
    assert servers.pick(0.5) is b
    assert servers.pick(0.5, [b]) is c
    assert servers.pick(0.5, servers.all) is b
    assert servers.pick(1.15) is b


def test_one_that_was_tried_is_asked_again_rather_than_none() -> None:
    servers = Servers("php", URLS[:2])
    assert servers.pick(0.0, servers.all) in servers.all


def test_another_one_is_well_and_was_not_tried() -> None:
    servers = Servers("php", URLS[:2])
    a, b = servers.all
    assert servers.another(0.0, [a])
    assert not servers.another(0.0, [a, b])
    servers.refused(b, 0.0)
    assert not servers.another(0.5, [a])
    assert servers.another(1.0, [a])


def test_what_several_requests_find_out_at_once_counts_once() -> None:
    servers = Servers("php", URLS[:2])
    a, _ = servers.all
    for now in (0.0, 0.0, 0.9):
        servers.refused(a, now)
    assert (a.until, a.times) == (1.0, 1)


def test_being_left_alone_begins_the_row_of_silence_anew() -> None:
    servers = Servers("php", URLS[:2])
    a, _ = servers.all
    for _ in range(3):
        servers.was_silent(a, 0.0)
    for _ in range(2):
        servers.was_silent(a, 5.0)
        assert a.is_well(5.0)
    servers.was_silent(a, 5.0)
    assert not a.is_well(6.9)
    servers.answered(a)
    assert a.is_well(5.0)


def test_a_server_that_is_new_is_well_and_nothing_is_wrong_with_it() -> None:
    server = Server("http://a")
    assert server.is_well(0.0)
    assert (server.why, server.sick, server.busy, server.silent, server.times) == ("", "", 0, 0, 0)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([True], []),
        ([True, True], []),
        ([False], ["left alone"]),
        ([False, False], ["left alone"]),
        ([True, False], ["left alone"]),
        ([False, True], ["left alone", "asked again"]),
        ([False, True, True, False], ["left alone", "asked again", "left alone"]),
    ],
)
def test_the_log_says_what_probes_change_and_nothing_twice(
    told: list[bool], said: list[str]
) -> None:
    servers = Servers("php", URLS[:2])
    with capture_logs() as logs:
        for well in told:
            servers.told(servers.all[0], well, "503")
    assert [one["event"].partition("is ")[2] for one in logs] == said
    assert all((one["backend"], one["server"]) == ("php", "http://a") for one in logs)
    assert servers.all[0].sick == ("" if told[-1] else "503")


def test_the_log_says_who_is_left_alone_and_for_how_long() -> None:
    servers = Servers("php", URLS[:2])
    with capture_logs() as logs:
        servers.refused(servers.all[1], 0.0)
        servers.refused(servers.all[1], 0.5)
    [said] = logs
    assert said["event"] == "a server is left alone"
    assert (said["server"], said["why"], said["seconds"]) == ("http://b", "takes no connection", 1)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["refused", "silent", "answered", "probe", "later"]), st.integers(0, 2)
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_somebody_is_asked_and_who_is_well_before_who_is_not(
    steps: list[tuple[str, int]],
) -> None:
    servers, now = Servers("php", URLS), 0.0
    for what, number in steps:
        server = servers.all[number]
        if what == "refused":
            servers.refused(server, now)
        elif what == "silent":
            servers.was_silent(server, now)
        elif what == "answered":
            servers.answered(server)
        elif what == "probe":
            servers.told(server, bool(number), "")
        else:
            now += 7.0
        picked = servers.pick(now)
        assert picked.is_well(now) or not any(one.is_well(now) for one in servers.all)
        assert servers.another(now, []) == any(one.is_well(now) for one in servers.all)


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        ([], "no URL"),
        (["http://a/x", "http://b/y"], "different paths"),
        (["http://a", "https://b"], "with and without TLS"),
        (["http://a", "unix:/run/x"], "keep to one kind"),
        (["http://a", "http://a"], "twice"),
        (["http://a", "nonsense"], "no URL of a backend"),
    ],
)
def test_servers_that_cannot_stand_for_each_other_are_refused(urls: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Backend(url=urls)


def test_probes_need_an_address() -> None:
    with pytest.raises(ValueError, match="remove health"):
        Backend(url="unix:/run/x", health={"path": "/"})
