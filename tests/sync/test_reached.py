"""Since when a process knows that the mirror has come so far with the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.gtid import Gtid
from bridge.sync.reached import Applied, Reached, nothing_applied


def at(sequence: int, history: int = 1, domain: str = "0") -> Applied:
    return Applied(Gtid(domain, 1, sequence), history)


def gtid(sequence: int, domain: str = "0") -> Gtid:
    return Gtid(domain, 1, sequence)


def test_a_mirror_has_reached_what_comes_no_later_than_its_last_transaction() -> None:
    assert [at(5).reaches(gtid(n)) for n in (4, 5, 6)] == [True, True, False]
    assert not at(5).reaches(gtid(4, domain="1"))
    assert not nothing_applied().reaches(gtid(0))
    assert nothing_applied() == Applied(None, 0, frozenset(), frozenset())


def test_what_was_reached_is_known_since_it_was_first_seen() -> None:
    it = Reached()
    it.see(at(5), 9.9, 10)
    it.see(at(8), 19.9, 20)
    assert [it.since(gtid(n), 30) for n in (3, 5, 6, 8)] == [10, 10, 20, 20]


def test_what_is_not_remembered_is_known_since_now() -> None:
    it = Reached()
    assert it.since(gtid(3), 30) == 30
    it.see(at(5), 9.9, 10)
    assert it.since(gtid(6), 30) == 30
    assert it.since(gtid(3, domain="1"), 30) == 30


def test_what_was_lacking_is_known_since_it_was_seen_to_be_healed() -> None:
    """What was read between is without the change that the log could not tell."""
    for lacks in (
        Applied(gtid(6), 1, dirty=frozenset({"release"})),
        Applied(gtid(6), 1, stopped=frozenset({"release"})),
        Applied(None),
    ):
        it = Reached()
        it.see(at(5), 9.9, 10)
        it.see(lacks, 14.9, 15)
        it.see(at(6), 19.9, 20)
        assert [it.since(gtid(n), 30) for n in (5, 6)] == [20, 20]


def test_another_history_or_a_restored_mirror_begins_anew() -> None:
    for later in (at(3, history=2), at(3), at(3, domain="1")):
        it = Reached()
        it.see(at(5), 9.9, 10)
        it.see(later, 19.9, 20)
        assert it.since(gtid(3, later.gtid.domain), 30) == 20  # type: ignore[union-attr]


def test_a_look_that_another_one_has_overtaken_says_nothing() -> None:
    it = Reached()
    it.see(at(8), 9.9, 10)
    it.see(at(5), 9.8, 10.1)
    assert it.since(gtid(8), 30) == 10


def test_a_look_that_has_overtaken_another_one_counts() -> None:
    """It began earlier, and found more, or another history."""
    for later, domain in ((at(9), "0"), (at(3, history=2), "0"), (at(3, domain="1"), "1")):
        it = Reached()
        it.see(at(8), 9.9, 10)
        it.see(later, 9.8, 10.5)
        assert it.since(later.gtid, 30) == 10.5  # type: ignore[arg-type]
        assert it.since(gtid(3, domain), 30) == (10 if later == at(9) else 10.5)


def test_a_look_that_began_when_the_last_one_had_ended_finds_a_mirror_that_was_restored() -> None:
    it = Reached()
    it.see(at(8), 9.9, 10)
    it.see(at(5), 10, 10.5)
    assert it.since(gtid(5), 30) == 10.5
    assert it.since(gtid(8), 30) == 30


def test_a_moment_is_no_later_than_that_of_who_asks() -> None:
    it = Reached()
    it.see(at(5), 9.9, 10)
    assert it.since(gtid(5), 9.95) == 9.95


def test_moments_closer_than_a_tenth_of_a_second_are_not_told_apart() -> None:
    for first, between, last in ((0.0, 0.05, 0.1), (9.0, 9.05, 9.2)):
        it = Reached()
        for sequence, moment in ((5, first), (6, between), (7, last)):
            it.see(at(sequence), moment, moment)
        it.see(at(8), last + 0.05, last + 0.05)
        assert [it.since(gtid(n), 30) for n in (5, 6, 7, 8)] == [first, last, last, 30]


def test_the_last_128_moments_are_remembered() -> None:
    it = Reached()
    for sequence in range(1, 129):
        it.see(at(sequence), sequence, sequence)
    assert [it.since(gtid(n), 500) for n in (0, 1, 2, 128)] == [1, 1, 2, 128]
    it.see(at(129), 129, 129)
    assert [it.since(gtid(n), 500) for n in (0, 1, 2, 129)] == [2, 2, 2, 129]


def test_a_mirror_at_rest_has_been_there_since_it_came() -> None:
    """However often it is looked at; also before its first transaction has a number."""
    for sequence in (0, 5):
        it = Reached()
        for moment in range(10, 300):
            it.see(at(sequence), moment, moment)
        assert it.since(gtid(sequence), 500) == 10


looks = st.lists(
    st.tuples(st.integers(0, 3), st.floats(0.001, 0.5), st.booleans()), min_size=1, max_size=300
)


@given(looks, st.data())
def test_it_is_never_said_to_be_known_earlier_than_it_was(
    steps: list[tuple[int, float, bool]], data: st.DataObject
) -> None:
    """A mirror that goes on, and lacks something now and then."""
    it = Reached()
    now, sequence = 0.0, 1
    known: dict[int, float] = {}  # since when all up to there was there without a lack
    for more, seconds, lacks in steps:
        now += seconds
        sequence += more
        if lacks:
            known.clear()
            it.see(Applied(gtid(sequence), 1, dirty=frozenset({"a"})), now, now)
            continue
        it.see(at(sequence), now, now)
        for reached in range(sequence + 1):
            known.setdefault(reached, now)
    asked = data.draw(st.integers(0, sequence))
    found = it.since(gtid(asked), now)
    assert known.get(asked, now) <= found <= now
