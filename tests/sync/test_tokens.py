"""The cookie that says what a visitor wrote: versions, and how far the database's log went."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.sync import tokens
from bridge.sync.gtid import Gtid
from bridge.sync.tokens import MAX_BYTES, MAX_ENTRIES, Entry, Keys, LogEnd, Token, latest

NOW = 1_767_225_600
KEYS = Keys([("a1", "0123456789abcdef")])
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

entries = st.builds(
    Entry,
    st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.just("x" * 1024),
    st.integers(0, 2**63 - 1),
    st.integers(NOW - 60, NOW + 30),
)
sequences = st.integers(1, 2**64 - 1)
gtids = st.builds(Gtid, st.integers(0, 2**32 - 1).map(str), st.integers(0, 2**32 - 1), sequences)
gtids |= st.builds(Gtid, st.uuids().map(str), st.just(0), sequences)
ends = st.builds(LogEnd, gtids | st.none(), st.integers(NOW - 60, NOW + 30))


@given(st.lists(entries, max_size=20), ends)
def test_the_end_of_the_log_is_always_read_again_and_leaves_the_newest_entries(
    some: list[Entry], end: LogEnd
) -> None:
    token = KEYS.sign(some, end)
    found = KEYS.read(token, NOW)
    assert found.end == end
    assert found.entries == KEYS.verify(KEYS.sign(some), NOW)[: len(found.entries)]
    assert len(token) <= MAX_BYTES
    assert len(found.entries) < MAX_ENTRIES
    assert all(c.isascii() and (c.isalnum() or c in "-._~") for c in token)
    fits = len(KEYS.sign(some)) + len(f"{end}~") <= MAX_BYTES
    if len(found.entries) < min(len(KEYS.verify(KEYS.sign(some), NOW)), MAX_ENTRIES - 1):
        assert not fits


@given(ends)
def test_who_knows_no_ends_leaves_them_out(end: LogEnd) -> None:
    """Workers that run an older version, and PHP, read entries alone, and pass over the rest."""
    assert tokens._entry(str(end)) is None
    assert tokens._TOKEN.fullmatch(KEYS.sign([], end))


@given(st.text("0123456789abcdef-_.", max_size=70), st.integers(0, 10**12))
def test_an_end_that_is_none_is_no_error_and_hides_no_entry(text: str, moment: int) -> None:
    entry = Entry("project", "vim", 7, NOW)
    signed = f"1~a1~_.{text}.{moment}~{entry}"
    signature = tokens._signature(b"0123456789abcdef", signed)
    assert KEYS.verify(f"{signed}~{signature}", NOW) == (entry,)


@pytest.mark.parametrize(
    "text",
    [
        "X",
        "xx",
        "0-1-42,1-1-7",
        f"{UUID}_1-5_7-9",
        "0-1",
        "0-1-",
        "0-1-42-7",
        "",
        "0_1_42",
        "-0-1-42",
        f"0-1-42.{NOW}",
    ],
)
def test_several_logs_or_holes_in_one_are_no_end(text: str) -> None:
    signed = f"1~a1~_.{text}.{NOW}~project.dmlt.7.{NOW}"
    signature = tokens._signature(b"0123456789abcdef", signed)
    assert KEYS.read(f"{signed}~{signature}", NOW).end is None


@pytest.mark.parametrize(("age", "counts"), [(-31, 0), (-30, 1), (0, 1), (60, 1), (61, 0)])
def test_an_end_counts_as_long_as_an_entry(age: int, counts: int) -> None:
    token = KEYS.sign([], LogEnd(Gtid("0", 1, 42), NOW - age))
    assert (KEYS.read(token, NOW).end is not None) == counts


def test_a_new_key_signs_ends_and_an_old_one_still_verifies_them() -> None:
    end = LogEnd(Gtid("0", 1, 42), NOW)
    old, new = ("old", "an old secret of it"), ("new", "a new secret of it!")
    during = Keys([new, old])
    assert during.read(Keys([old]).sign([], end), NOW).end == end
    assert Keys([new]).read(during.sign([], end), NOW).end == end
    assert Keys([new]).read(Keys([old]).sign([], end), NOW) == Token()
    assert Keys([]).sign([], end) == ""


@given(st.lists(ends, min_size=1))
def test_of_several_ends_of_one_log_the_one_that_includes_the_others_counts(
    some: list[LogEnd],
) -> None:
    found = latest(some)
    assert found in some
    known = [one.gtid for one in some if one.gtid is not None]
    if len(known) < len(some):
        assert found.gtid is None
    else:
        assert found.gtid is not None
        assert all(found.gtid.covers(one) for one in known if one.domain == found.gtid.domain)


def signed(*texts: object) -> str:
    """A token of these entries, sound or not."""
    text = "~".join(["1", "a1", *map(str, texts)])
    return f"{text}~{tokens._signature(b'0123456789abcdef', text)}"


def test_what_is_older_than_an_entry_counts_is_no_entry() -> None:
    some = [Entry("project", f"p{age}", 7, NOW - age) for age in (-31, -30, 0, 60, 61)]
    assert KEYS.verify(signed(*some), NOW) == (some[1], some[2], some[3])


def test_a_token_has_the_eight_newest_entries_or_seven_and_an_end() -> None:
    some = [Entry("project", f"p{age}", 7, NOW - age) for age in (3, 9, 1, 5, 2, 8, 4, 7, 6)]
    end = LogEnd(Gtid("0", 1, 42), NOW)
    ages = [NOW - one.time for one in KEYS.verify(KEYS.sign(some), NOW)]
    assert ages == [1, 2, 3, 4, 5, 6, 7, 8]
    found = KEYS.read(KEYS.sign(some, end), NOW)
    assert [NOW - one.time for one in found.entries] == [1, 2, 3, 4, 5, 6, 7]
    assert found.end == end


def test_of_one_row_the_highest_version_counts_and_of_that_the_latest_time() -> None:
    old, new, late = (Entry("a", "k", v, NOW - age) for v, age in ((7, 0), (8, 9), (8, 5)))
    for some in ([old, new, late], [late, new, old]):
        assert KEYS.verify(KEYS.sign(some), NOW) == (late,)
        assert KEYS.verify(signed(*some), NOW) == (late,)


def test_a_token_with_more_than_eight_entries_is_none_of_ours() -> None:
    some = [Entry("project", f"p{n}", 7, NOW - n) for n in range(9)]
    assert KEYS.verify(signed(*some[:8]), NOW) == tuple(some[:8])
    assert KEYS.read(signed(*some), NOW) == Token()


def test_a_token_has_3500_bytes_at_most() -> None:
    for more, entries_ in ((0, 3), (1, 2)):
        some = [
            Entry("a", "x" * 1024, 10**17, NOW),
            Entry("b", "x" * 1024, 10**17, NOW - 1),
            Entry("c", "x" * 468, 10 ** (14 + more), NOW - 2),
        ]
        token = KEYS.sign(some)
        assert len(signed(*some)) == 3500 + more
        assert len(KEYS.verify(token, NOW)) == entries_
        assert len(KEYS.verify(signed(*some), NOW)) == (3 if not more else 0)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        (f"project.dmlt.{2**63 - 1}.{NOW}", True),
        (f"project.dmlt.{2**63}.{NOW}", False),
        (f"project..7.{NOW}", True),
        (f"project.dmlu.7.{NOW}", True),
        (f"project.dm.7.{NOW}", False),
        (f"project.dmltd.7.{NOW}", False),
        (f"project._w.7.{NOW}", False),
        (f"project.dmlt.7.{NOW}.{NOW}", False),
        (f"project.{'eHh4' * 341}eA.7.{NOW}", True),
        (f"project.{'eHh4' * 341}eHg.7.{NOW}", False),
    ],
)
def test_an_entry_is_written_in_one_way_only(text: str, sound: bool) -> None:
    """And has a key of 1,024 bytes at most."""
    found = KEYS.verify(signed(text), NOW)
    assert [str(one) for one in found] == ([text] if sound else [])


def test_nothing_to_say_is_no_token() -> None:
    assert KEYS.sign([]) == ""


@given(st.data())
def test_a_token_counts_only_as_it_was_signed(data: st.DataObject) -> None:
    """No character of it is another one, and none is missing or too much."""
    token = KEYS.sign([Entry("project", "vim", 7, NOW)], LogEnd(Gtid("0", 1, 42), NOW))
    at = data.draw(st.integers(0, len(token)))
    other = data.draw(st.sampled_from("a0~._-A\n") | st.characters() | st.just(""))
    changed = token[:at] + other + token[at + data.draw(st.integers(0, 1)) :]
    assume(changed != token)
    assert KEYS.read(changed, NOW) == Token()


@pytest.mark.parametrize("more", ["\n", "x", "~", "~x"])
def test_what_stands_behind_the_signature_makes_a_token_none(more: str) -> None:
    assert KEYS.read(signed(Entry("project", "vim", 7, NOW)) + more, NOW) == Token()


def test_who_does_not_know_the_key_signs_nothing() -> None:
    """Whichever name they give their own key."""
    some, end = [Entry("project", "vim", 7, NOW)], LogEnd(None, NOW)
    for name in ("a1", "a2"):
        forged = Keys([(name, "another secret!!")]).sign(some, end)
        assert forged
        assert KEYS.read(forged, NOW) == Token()


@pytest.mark.parametrize("token", [None, 7, b"1~a1~x", ["x"]])
def test_what_is_no_text_is_no_token(token: object) -> None:
    assert KEYS.read(token, NOW) == Token()


def test_of_ends_at_one_transaction_the_later_counts_and_of_logs_at_one_time_always_the_same() -> (
    None
):
    gtid = Gtid("0", 1, 42)
    early, late = LogEnd(gtid, NOW - 9), LogEnd(gtid, NOW)
    assert latest([early, late]) == latest([late, early]) == late
    other = LogEnd(Gtid("1", 1, 3), NOW)
    assert latest([late, other]) == latest([other, late]) == other


def test_the_names_of_keys_are_shown_and_not_the_keys() -> None:
    assert repr(Keys([("a", "secret 1"), ("b", "secret 2")])) == "<Keys: a, b>"
    assert repr(Keys([])) == "<Keys: none>"


def test_the_order_of_the_log_counts_and_not_that_of_clocks() -> None:
    """Two machines of the bridge, one of them with a clock that is behind."""
    first, second = LogEnd(Gtid("0", 1, 41), NOW), LogEnd(Gtid("0", 1, 42), NOW - 9)
    assert latest([first, second]) == latest([second, first]) == second


def test_of_two_logs_the_one_that_was_written_to_later_counts() -> None:
    one, other = LogEnd(Gtid("0", 1, 900), NOW - 9), LogEnd(Gtid("1", 1, 3), NOW)
    assert latest([one, other]) == latest([other, one]) == other
    assert latest([]) is None


def test_several_cookies_of_the_name_count_together_and_a_hundred_cost_no_more_than_four() -> None:
    vim, end = Entry("project", "vim", 7, NOW), LogEnd(Gtid("0", 1, 42), NOW)
    found = KEYS.read_all(["forged", KEYS.sign([vim]), KEYS.sign([], end)], NOW)
    assert found == Token((vim,), end)
    assert KEYS.read_all(["forged"] * 4 + [KEYS.sign([vim])], NOW) == Token()
    assert KEYS.read_all(["forged"] * 3 + [KEYS.sign([vim])], NOW) == Token((vim,))


@pytest.mark.parametrize(
    "text", ["0-1-42", f"{UUID}:42", "4294967295-4294967295-18446744073709551615"]
)
def test_a_name_of_a_transaction_is_read_as_it_is_written(text: str) -> None:
    gtid = Gtid.parse(text)
    assert str(gtid) == text
    assert KEYS.read(KEYS.sign([], LogEnd(gtid, NOW)), NOW).end == LogEnd(gtid, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        ("0-1-5", "0-2-4", True),
        ("0-1-5", "0-1-5", True),
        ("0-1-5", "0-1-6", False),
        ("1-1-5", "0-1-4", False),
        (f"{UUID}:1-9", f"{UUID}:8", True),
    ],
)
def test_a_transaction_covers_those_before_it_in_its_own_log(
    one: str, other: str, covers: bool
) -> None:
    assert Gtid.parse(one).covers(Gtid.parse(other)) == covers  # type: ignore[union-attr,arg-type]
