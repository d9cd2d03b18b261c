"""A visitor's own edit: the token, what it asks for, and the gate; no server is needed."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError, ServerAway
from bridge.settings import Settings
from bridge.sync import freshness, tokens
from bridge.sync.freshness import MAX_BYTES, MAX_ENTRIES, Entry, Gate, Keys, Wanted, wanted
from bridge.sync.gtid import Gtid
from bridge.sync.reached import Applied
from bridge.sync.tokens import LogEnd

NOW = 1_767_225_600
PAIR = ("a1", "0123456789abcdef")
KEYS = Keys([PAIR])

keys = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda key: len(key.encode()) <= 1024
)
entries = st.builds(
    Entry,
    st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True),
    keys | st.just("x" * 1024),
    st.integers(0, 2**63 - 1),
    st.integers(NOW - 60, NOW + 30),
)


# The token


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=20))
def test_what_was_signed_is_read_again(given_entries: list[Entry]) -> None:
    token = KEYS.sign(given_entries)
    found = KEYS.verify(token, NOW)
    assert len(token) <= MAX_BYTES
    assert all(c.isascii() and (c.isalnum() or c in "-._~") for c in token)
    assert 1 <= len(found) <= MAX_ENTRIES
    assert set(found) <= set(given_entries)
    assert KEYS.sign(found) == token
    # Newest first, and none that was left out is newer.
    times = [entry.time for entry in found]
    assert times == sorted(times, reverse=True)


@settings(deadline=None)
@given(st.lists(entries, min_size=1, max_size=3), st.data())
def test_a_token_that_was_changed_asks_for_nothing(some: list[Entry], data: st.DataObject) -> None:
    token = KEYS.sign(some)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda c: c != token[at]))
    for changed in (token[:at] + other + token[at + 1 :], token[:at], token[at + 1 :]):
        assert KEYS.verify(changed, NOW) == ()


anything = st.one_of(
    st.text(),
    st.binary(),
    st.integers(),
    st.none(),
    st.lists(st.text()),
    st.from_regex(r"1~a1~[A-Za-z0-9._~-]{0,200}~[A-Za-z0-9_-]{43}", fullmatch=True),
)


@settings(deadline=None)
@given(anything)
def test_anything_else_asks_for_nothing_and_is_no_error(value: object) -> None:
    assert KEYS.verify(value, NOW) == ()


@settings(deadline=None)
@given(st.from_regex(r"[A-Za-z0-9._~-]{1,300}", fullmatch=True))
def test_nonsense_that_is_signed_is_no_error(text: str) -> None:
    signed = f"1~a1~{text}"
    KEYS.verify(f"{signed}~{tokens._signature(PAIR[1].encode(), signed)}", NOW)


def test_a_huge_token_asks_for_nothing() -> None:
    assert KEYS.verify("1~a1~" + "x" * 10_000_000, NOW) == ()


@pytest.mark.parametrize(("age", "counts"), [(-31, 0), (-30, 1), (0, 1), (60, 1), (61, 0)])
def test_clocks_may_differ_by_thirty_seconds(age: int, counts: int) -> None:
    token = KEYS.sign([Entry("project", "vim", 1, NOW - age)])
    assert len(KEYS.verify(token, NOW)) == counts


def test_a_new_key_is_added_then_php_is_switched_then_the_old_one_is_removed() -> None:
    entry = Entry("project", "vim", 1, NOW)
    old, new = ("old", "an old secret of it"), ("new", "a new secret of it!")
    by_old, by_new = Keys([old]).sign([entry]), Keys([new]).sign([entry])

    during, after = Keys([new, old]), Keys([new])

    assert during.verify(by_old, NOW) == during.verify(by_new, NOW) == (entry,)
    assert (after.verify(by_old, NOW), after.verify(by_new, NOW)) == ((), (entry,))
    assert during.sign([entry]) == by_new


def test_without_keys_nothing_is_signed_or_believed() -> None:
    assert Keys([]).sign([Entry("project", "vim", 1, NOW)]) == ""
    assert Keys([]).verify(KEYS.sign([Entry("project", "vim", 1, NOW)]), NOW) == ()


def test_no_repr_shows_a_secret() -> None:
    settings = Settings.from_environ({"BRIDGE_FRESHNESS_KEYS": "a1:0123456789abcdef"})
    assert "0123456789abcdef" not in repr(Keys(settings.freshness_keys)) + repr(settings)


# The setting


def test_several_keys_are_separated_by_white_space_or_lines(tmp_path: Any) -> None:
    file = tmp_path / "keys"
    file.write_text("new:0123456789abcdef\n\n  old:fedcba9876543210:\u00e9 \n", encoding="utf-8")
    settings = Settings.from_environ({"BRIDGE_FRESHNESS_KEYS_FILE": str(file)})
    assert settings.freshness_keys == (
        ("new", "0123456789abcdef"),
        ("old", "fedcba9876543210:\u00e9"),
    )


def test_no_keys_are_no_error() -> None:
    assert Settings.from_environ({}).freshness_keys == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("thisisthesecretitself", "key 1 is not written as id:secret"),
        ("good:0123456789abcdef A1:thisisthesecretitself", "key 2 is not written"),
        ("seventeenletters1:thisisthesecretitself", "key 1 is not written"),
        ("a1:tooshortsecret", "has 14 characters; it needs 16"),
        ("a1:0123456789abcdef a1:thisisthesecretitself", "key 2 has the id of an earlier one"),
    ],
)
def test_a_wrong_key_is_named_by_its_place_and_never_shown(text: str, words: str) -> None:
    with pytest.raises(BridgeError) as caught:
        Settings.from_environ({"BRIDGE_FRESHNESS_KEYS": text})
    assert words in str(caught.value)
    assert "secretitself" not in str(caught.value)
    assert "tooshort" not in str(caught.value)


# What is wanted


def test_what_is_wanted_can_be_asked_by_key_and_by_entity() -> None:
    it = Wanted([Entry("project", "vim", 7, NOW), Entry("release", "vim/1/all", 2, NOW)])
    assert (it.version("project", "vim"), it.version("project", "bash")) == (7, None)
    assert (dict(it.of("release")), dict(it.of("user"))) == ({"vim/1/all": 2}, {})


def test_the_first_way_in_which_something_was_had_counts_and_the_worst_of_all() -> None:
    it = Wanted([Entry("project", "vim", 7, NOW), Entry("project", "bash", 1, NOW)])
    for how in ("waited", "at_once"):
        it.note("project", "vim", how)  # type: ignore[arg-type]
    assert (it.outcome, it.refused) == ("waited", False)
    it.note("project", "bash", "at_once")
    assert (it.outcome, it.refused) == ("waited", False)
    it.note("project", "bash", "legacy")
    assert (it.outcome, it.refused) == ("legacy", True)


def test_the_cookie_is_settled_when_all_was_had_and_all_processes_have_heard_of_it() -> None:
    it = Wanted([Entry("project", "vim", 7, NOW), Entry("project", "bash", 1, NOW - 9)])
    later = NOW + freshness.SETTLING
    it.note("project", "vim", "at_once")
    assert not it.settled(later)
    it.note("project", "bash", "primary")
    assert it.settled(later)
    assert not it.settled(later - 0.1)
    it.note("project", "bash", "legacy")
    assert not it.settled(later)


def test_only_the_handlers_context_knows_what_is_wanted() -> None:
    it = Wanted([Entry("project", "vim", 7, NOW)])
    assert it.context().run(wanted.get) is it
    assert wanted.get() is None
    assert contextvars.Context().run(wanted.get) is None


# The gate


class Mirror:
    """What MongoDB holds: `found[n]` at the n-th look, the last one for ever."""

    def __init__(self, *found: Collection[Entry]) -> None:
        self.found = list(found)
        self.looks: list[Sequence[Entry]] = []

    def __call__(self, asked: Sequence[Entry]) -> Collection[Entry]:
        self.looks.append(asked)
        return self.found[min(len(self.looks), len(self.found)) - 1]


class Stream:
    """A watch that knows versions of `project`, and hears of more when it is waited for."""

    def __init__(self, known: dict[str, int], heard: dict[str, int] | None = None) -> None:
        self.known, self.heard = known, heard or {}
        self.waited = 0

    def knows(self, entity: str, key: str) -> int | None:
        return self.known.get(key)

    def wait(self, entity: str, key: str, version: int, seconds: float) -> bool:
        assert 0 < seconds <= freshness.PATIENCE
        self.waited += 1
        return self.heard.get(key, -1) >= version


VIM, BASH = Entry("project", "vim", 7, NOW), Entry("project", "bash", 1, NOW)
ENTITIES = {"project": {"release"}, "user": frozenset[str]()}


def gate(look: Any, stream: Stream | None = None, patience: float = freshness.PATIENCE) -> Gate:
    return Gate(
        KEYS, look, ENTITIES, watch=lambda: stream, patience=patience, clock=lambda: float(NOW)
    )


def ensured(
    found: Gate, *asked: Entry, reads: Collection[str] = ("project",)
) -> tuple[bool, str | None]:
    it = Wanted(asked)
    return found.ensure(it, reads), it.outcome


def test_the_gate_reads_every_sound_cookie_and_only_what_is_mirrored() -> None:
    tokens = [
        "forged",
        KEYS.sign([VIM, Entry("cart", "9", 1, NOW)]),
        KEYS.sign([Entry("project", "vim", 8, NOW), BASH]),
    ]
    it = gate(Mirror()).wanted(tokens)
    assert it is not None
    assert {(e.key, e.version) for e in it.entries} == {("vim", 8), ("bash", 1)}
    assert gate(Mirror()).wanted(["forged"]) is None
    assert gate(Mirror()).wanted([KEYS.sign([Entry("cart", "9", 1, NOW)])]) is None


def test_a_visitor_with_a_hundred_cookies_costs_no_more_than_four() -> None:
    tokens = ["forged"] * 4 + [KEYS.sign([VIM])]
    assert gate(Mirror()).wanted(tokens) is None


def test_what_the_route_does_not_read_is_not_looked_for() -> None:
    mirror = Mirror([])
    assert ensured(gate(mirror), VIM, reads=("user",)) == (True, None)
    assert ensured(gate(mirror), VIM, reads=()) == (True, None)
    assert mirror.looks == []


def test_what_is_there_is_had_at_once_with_one_look() -> None:
    mirror = Mirror([VIM, BASH])
    assert ensured(gate(mirror), VIM, BASH) == (True, "at_once")
    assert len(mirror.looks) == 1


def test_what_comes_is_waited_for_and_what_is_there_is_not_asked_again() -> None:
    mirror = Mirror([BASH], [], [VIM])
    assert ensured(gate(mirror, patience=30), VIM, BASH) == (True, "waited")
    assert [list(asked) for asked in mirror.looks] == [[VIM, BASH], [VIM], [VIM]]


def test_what_does_not_come_is_legacys() -> None:
    assert ensured(gate(Mirror([BASH], []), patience=0.02), VIM, BASH) == (
        False,
        "legacy",
    )


def test_a_mongodb_that_is_away_is_legacys() -> None:
    def away(asked: Sequence[Entry]) -> Collection[Entry]:
        raise ServerAway("no")

    assert ensured(gate(away), VIM) == (False, "legacy")
    assert ensured(gate(away, Stream({})), VIM) == (False, "legacy")


def test_what_the_stream_has_told_needs_no_look() -> None:
    mirror = Mirror([])
    assert ensured(gate(mirror, Stream({"vim": 9})), VIM) == (True, "at_once")
    assert mirror.looks == []


def test_what_the_stream_never_told_is_found_on_the_primary_without_waiting() -> None:
    stream = Stream({"vim": 6})
    assert ensured(gate(Mirror([VIM]), stream), VIM) == (True, "primary")
    assert stream.waited == 0


def test_what_is_nowhere_yet_is_waited_for_by_the_stream() -> None:
    mirror = Mirror([])
    assert ensured(gate(mirror, Stream({}, {"vim": 7})), VIM) == (True, "waited")
    assert len(mirror.looks) == 1


def test_a_stream_that_says_nothing_is_not_the_last_word() -> None:
    assert ensured(gate(Mirror([], [VIM]), Stream({})), VIM) == (True, "primary")
    assert ensured(gate(Mirror([]), Stream({})), VIM) == (False, "legacy")


def test_children_are_looked_at_even_when_the_stream_knows_the_parent() -> None:
    """Of one transaction the stream tells the parent first."""
    mirror = Mirror([VIM])
    assert ensured(gate(mirror, Stream({"vim": 7})), VIM, reads=("release",)) == (
        True,
        "at_once",
    )
    assert mirror.looks == [[VIM]]


def test_the_watch_of_a_process_is_the_one_that_was_offered_and_still_lives() -> None:
    stream = Stream({})
    freshness.offer(stream)
    assert freshness.offered() is stream
    del stream
    assert freshness.offered() is None


def test_one_wanted_is_safe_for_two_threads() -> None:
    it = Wanted([Entry("project", str(n), 1, NOW) for n in range(8)])

    def note() -> None:
        for n in range(8):
            it.note("project", str(n), "at_once")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert it.outcome in (None, "at_once")
        it.settled(time.time())
    assert it.settled(NOW + 60)


# The end of the log

END = LogEnd(Gtid("0", 1, 42), NOW)
DIRTY, STOPPED = {"dirty": frozenset({"page"})}, {"stopped": frozenset({"page"})}


def applied(sequence: int, **more: Any) -> Applied:
    return Applied(Gtid("0", 1, sequence), 1, **more)


class Capture:
    """How far the mirror is: `found[n]` at the n-th look, the last one for ever."""

    def __init__(self, *found: Applied) -> None:
        self.found, self.looks = list(found), 0

    def __call__(self) -> Applied:
        self.looks += 1
        return self.found[min(self.looks, len(self.found)) - 1]


def log_gate(capture: Any, look: Any = None, patience: float = 0.02) -> Gate:
    return Gate(
        KEYS,
        look or Mirror([]),
        {"page": (), "post": (), "project": ()},
        log=["page", "post"],
        look_at_log=capture,
        watch=lambda: None,
        patience=patience,
        clock=lambda: float(NOW),
    )


def test_the_end_is_wanted_only_where_something_comes_from_the_log() -> None:
    token = KEYS.sign([VIM], END)
    it = log_gate(Capture()).wanted(["forged", token])
    assert it is not None
    assert (it.entries, it.end) == ((VIM,), END)
    assert gate(Mirror()).wanted([KEYS.sign([], END)]) is None
    other = gate(Mirror()).wanted([token])
    assert other is not None
    assert other.end is None


def test_a_mirror_that_has_come_so_far_lets_the_handler_run_at_once() -> None:
    for sequence in (42, 43):
        it, capture = Wanted([], END), Capture(applied(sequence))
        before = time.monotonic()
        assert log_gate(capture).ensure(it, ["page", "project"])
        assert (it.outcome, capture.looks) == ("at_once", 1)
        assert before <= (it.since("page") or 0) <= time.monotonic()
        assert it.since("post") is it.since("project") is None


def test_a_mirror_that_is_behind_is_waited_for() -> None:
    it, capture = Wanted([], END), Capture(applied(40), applied(41), applied(42))
    assert log_gate(capture, patience=30).ensure(it, ["page"])
    assert (it.outcome, capture.looks) == ("waited", 3)


@pytest.mark.parametrize(
    "found",
    [
        applied(41),
        Applied(),
        Applied(Gtid("1", 1, 99), 1),
        applied(99, **DIRTY),
        applied(99, **STOPPED),
    ],
    ids=["behind", "not begun", "another log", "dirty", "stopped"],
)
def test_otherwise_legacy_answers(found: Applied) -> None:
    it = Wanted([], END)
    assert not log_gate(Capture(found)).ensure(it, ["page"])
    assert (it.outcome, it.refused, it.since("page")) == ("legacy", True, None)


def test_an_end_that_nobody_knows_is_legacys_without_a_look() -> None:
    it, capture = Wanted([], LogEnd(None, NOW)), Capture(applied(99))
    assert not log_gate(capture).ensure(it, ["page"])
    assert (it.outcome, capture.looks) == ("legacy", 0)
    assert log_gate(capture).ensure(Wanted([], LogEnd(None, NOW)), ["project"])


def test_a_mongodb_that_is_away_is_legacys_for_the_log_too() -> None:
    def away() -> Applied:
        raise ServerAway("no")

    it = Wanted([], END)
    assert not log_gate(away).ensure(it, ["page"])
    assert it.outcome == "legacy"


def test_what_is_healed_in_time_is_waited_for_and_what_is_stopped_is_not() -> None:
    healed = Capture(applied(42, **DIRTY), applied(42))
    assert log_gate(healed, patience=30).ensure(Wanted([], END), ["page"])
    stopped = Capture(applied(42, **STOPPED), applied(42))
    assert not log_gate(stopped, patience=30).ensure(Wanted([], END), ["page"])
    assert stopped.looks == 1


def test_entities_that_are_not_the_logs_are_not_held_up() -> None:
    it, capture = Wanted([], END), Capture(applied(1))
    assert log_gate(capture).ensure(it, ["project"])
    assert log_gate(capture).ensure(it, [])
    assert (it.outcome, capture.looks) == (None, 0)


def test_another_entity_may_lack_something() -> None:
    assert log_gate(Capture(applied(42, **DIRTY))).ensure(Wanted([], END), ["post"])


def test_versions_and_the_end_are_both_waited_for() -> None:
    both = Wanted([VIM], END)
    assert not log_gate(Capture(applied(41)), Mirror([VIM])).ensure(both, ["project", "page"])
    both, capture = Wanted([VIM], END), Capture(applied(42))
    assert not log_gate(capture, Mirror([])).ensure(both, ["project", "page"])
    assert capture.looks == 0  # legacy answers anyway
    both = Wanted([VIM], END)
    assert log_gate(capture, Mirror([], [VIM]), 30).ensure(both, ["project", "page"])
    assert both.outcome == "waited"


def test_what_was_read_before_the_mirror_had_come_so_far_may_be_too_old() -> None:
    """The moment is that of the first look that found it, whoever looked."""
    it = log_gate(Capture(applied(41), applied(42)), patience=30)
    first, second = Wanted([], END), Wanted([], LogEnd(Gtid("0", 1, 41), NOW))
    assert it.ensure(first, ["page"])
    assert it.ensure(second, ["post"])
    later, earlier = first.since("page"), second.since("post")
    assert later is not None
    assert earlier is not None
    assert earlier < later


def test_the_cookie_is_settled_when_every_process_has_heard_of_all_up_to_the_end() -> None:
    for had_for, settled in ((freshness.SETTLING - 0.1, False), (freshness.SETTLING, True)):
        it = Wanted([], END)
        it.note_end(["page"], "at_once", 1.0, had_for)
        assert it.settled(NOW) == settled
    it.note("page", "other", "legacy")
    assert not it.settled(NOW)


def test_the_cookie_stays_while_the_end_was_not_looked_at_or_something_lacks() -> None:
    """A page of another entity must not end it for the page that was written."""
    it = Wanted([VIM], END)
    it.note("project", "vim", "at_once")
    assert not it.settled(NOW + 60)
    it = Wanted([], END)
    assert log_gate(Capture(applied(42, **DIRTY))).ensure(it, ["post"])
    assert not it.settled(NOW + 60)
