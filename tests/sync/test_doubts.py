"""A difference is one when lag cannot explain it, and none when it can."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.sync.doubts import (
    KINDS,
    TOLD,
    Doubt,
    KeyState,
    Kind,
    Pair,
    look,
    look_at_log,
    outlasts,
    verdict,
)

ALIVE, DEAD = KeyState(5), KeyState(5, False)


@pytest.mark.parametrize(
    ("mongodb", "sql", "kind"),
    [
        (ALIVE, ALIVE, None),
        (DEAD, DEAD, None),
        (None, None, None),
        (None, DEAD, None),
        (DEAD, None, None),
        (KeyState(9, False), DEAD, None),
        (None, ALIVE, "missing"),
        (KeyState(4, False), ALIVE, "missing"),
        (KeyState(4), ALIVE, "behind"),
        (ALIVE, None, "orphan"),
        (ALIVE, DEAD, "orphan"),
        (KeyState(4), DEAD, "orphan"),
        (KeyState(6), ALIVE, "ahead"),
        (KeyState(6), DEAD, "ahead"),
        (DEAD, ALIVE, "ahead"),
        (KeyState(6, False), ALIVE, "ahead"),
        (None, KeyState(-2, True, "no version"), "unusable"),
    ],
)
def test_every_pair_has_its_verdict(
    mongodb: KeyState | None, sql: KeyState | None, kind: str | None
) -> None:
    assert verdict(Pair(mongodb, sql)) == kind


def test_contents_only_count_at_equal_versions() -> None:
    assert verdict(Pair(ALIVE, ALIVE, False)) == "different"
    assert verdict(Pair(ALIVE, ALIVE, True)) is None
    assert verdict(Pair(KeyState(4), ALIVE, False)) == "behind"


def test_a_key_that_is_edited_all_the_time_is_settled_by_progress() -> None:
    doubt = look(None, Pair(KeyState(1), KeyState(3)), 0.0)
    assert doubt
    doubt = look(doubt, Pair(KeyState(2), KeyState(6)), 1.0)
    assert doubt
    assert doubt.since == 0.0
    assert look(doubt, Pair(KeyState(3), KeyState(9)), 2.0) is None


def test_a_key_that_is_ahead_is_not_settled_by_progress() -> None:
    doubt = look(None, Pair(KeyState(9), KeyState(3)), 0.0)
    doubt = look(doubt, Pair(KeyState(9), KeyState(5)), 1.0)
    assert doubt
    assert (doubt.kind, doubt.since) == ("ahead", 0.0)
    assert look(doubt, Pair(KeyState(9), KeyState(9)), 2.0) is None


def test_content_ahead_of_a_version_beside_the_table_is_settled_by_the_next_version() -> None:
    """The site has written, and the relay has not come yet: again and again."""
    ahead = Pair(KeyState(3), KeyState(3), same=False)
    doubt = look(None, ahead, 0.0, beside=True)
    assert doubt
    doubt = look(doubt, ahead, 1.0, beside=True)
    assert doubt
    assert (doubt.kind, doubt.since) == ("different", 0.0)
    assert look(doubt, Pair(KeyState(4), KeyState(4), same=False), 2.0, beside=True) is None


def test_content_that_differs_beside_a_version_of_the_row_is_not_settled_by_progress() -> None:
    """A producer that writes the same wrong content with every version is wrong."""
    doubt = look(None, Pair(KeyState(3), KeyState(3), same=False), 0.0)
    doubt = look(doubt, Pair(KeyState(4), KeyState(4), same=False), 1.0)
    assert doubt
    assert (doubt.kind, doubt.since) == ("different", 0.0)


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        (Pair(ALIVE, ALIVE, unlookable="x"), "unlookable"),
        (Pair(DEAD, ALIVE, unlookable="x"), None),
        (Pair(None, ALIVE, unlookable="x"), None),
        (Pair(ALIVE, ALIVE, rows=2), "duplicate"),
        (Pair(None, KeyState(5, wrong="x"), rows=2), "duplicate"),
        (Pair(ALIVE, KeyState(5, wrong="x")), "unusable"),
        (Pair(DEAD, KeyState(5, False, wrong="x")), "unusable"),
        (Pair(DEAD, DEAD, fault="x"), "tombstone"),
        (Pair(DEAD, None, fault="x"), "tombstone"),
        (Pair(None, None, fault="x"), "tombstone"),
        (Pair(ALIVE, ALIVE, fault="x"), None),
        (Pair(KeyState(7), KeyState(5, False, most=7)), "orphan"),
        (Pair(KeyState(8), KeyState(5, False, most=7)), "ahead"),
        (Pair(KeyState(5), KeyState(5, False, most=5)), "orphan"),
    ],
)
def test_what_is_wrong_with_a_key_itself_counts_before_versions(
    pair: Pair, kind: Kind | None
) -> None:
    assert verdict(pair) == kind


def test_what_can_be_sent_again_or_buried_is_not_only_told() -> None:
    assert all(KINDS.values())
    sent = {"missing", "behind", "different", "orphan", "tombstone", "ahead", "unexplained"}
    assert set(TOLD) == set(KINDS) - sent


def test_a_row_is_alive_and_alone_where_nothing_else_is_said() -> None:
    assert (KeyState(1).alive, KeyState(1).row, KeyState(1).highest) == (True, True, 1)
    assert (Pair(None, None).rows, Pair(None, None).same) == (1, None)


PAIRS: dict[Kind, Pair] = {
    "missing": Pair(None, KeyState(5)),
    "behind": Pair(KeyState(4), KeyState(5)),
    "orphan": Pair(KeyState(4), None),
    "different": Pair(KeyState(5), KeyState(5), same=False),
    "ahead": Pair(KeyState(6), KeyState(5)),
    "duplicate": Pair(KeyState(5), KeyState(5), rows=2),
    "unusable": Pair(KeyState(5), KeyState(5, wrong="x")),
    "tombstone": Pair(KeyState(5, False), KeyState(5, False), fault="x"),
}


@pytest.mark.parametrize("first", PAIRS)
@pytest.mark.parametrize("then", PAIRS)
def test_another_difference_than_before_gets_its_own_time(first: Kind, then: Kind) -> None:
    """Where it is not lag that has moved on: MongoDB has no more than at the first look."""
    doubt = look(None, PAIRS[first], 1.0)
    assert doubt == Doubt(first, PAIRS[first], 1.0, PAIRS[first])
    later = look(doubt, PAIRS[then], 2.0)
    if first == then:
        assert later == Doubt(first, PAIRS[first], 1.0, PAIRS[then])
    elif later is not None:
        assert later == Doubt(then, PAIRS[then], 2.0, PAIRS[then])


MOVES = [
    # the first look, the next one, and whether it settles the doubt
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(5), KeyState(6)), True),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(6), KeyState(7)), True),
    (Pair(KeyState(4), KeyState(6)), Pair(KeyState(5), KeyState(7)), False),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(5, False), KeyState(7)), False),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(6, False), KeyState(7)), True),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(5), None), True),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(4), None), False),
    (Pair(None, KeyState(5)), Pair(KeyState(5), KeyState(6)), True),
    (Pair(None, KeyState(5)), Pair(KeyState(4), KeyState(6)), False),
    (Pair(None, KeyState(5)), Pair(None, KeyState(6)), False),
    (Pair(KeyState(4), None), Pair(KeyState(4), KeyState(6)), False),
    (Pair(KeyState(4), None), Pair(KeyState(5), KeyState(6)), True),
    (Pair(KeyState(4), None), Pair(KeyState(5), None), True),
    (Pair(KeyState(4), None), Pair(None, KeyState(6)), False),
    (Pair(KeyState(4), KeyState(5, False)), Pair(KeyState(4), KeyState(6)), False),
    (Pair(KeyState(4), KeyState(5, False)), Pair(KeyState(5), KeyState(6)), True),
    (Pair(KeyState(6), KeyState(5)), Pair(KeyState(7), KeyState(8)), False),
    (Pair(KeyState(4), KeyState(5)), Pair(KeyState(9), KeyState(8)), False),
]


@pytest.mark.parametrize(("first", "then", "settled"), MOVES)
@pytest.mark.parametrize("beside", [False, True])
def test_lag_that_has_moved_on_settles_a_doubt(
    first: Pair, then: Pair, settled: bool, beside: bool
) -> None:
    """MongoDB holds what SQL had at the first look, or something newer."""
    doubt = look(None, first, 0.0, beside=beside)
    assert doubt
    assert (look(doubt, then, 1.0, beside=beside) is None) is settled


@pytest.mark.parametrize(
    ("then", "settled"),
    [
        (Pair(KeyState(3), KeyState(4)), False),
        (Pair(KeyState(4), KeyState(5)), True),
        (Pair(KeyState(4), KeyState(4), same=False), True),
        (Pair(None, KeyState(4)), False),
    ],
)
def test_content_ahead_of_its_version_needs_the_next_one(then: Pair, settled: bool) -> None:
    doubt = look(None, Pair(KeyState(3), KeyState(3), same=False), 0.0, beside=True)
    assert (look(doubt, then, 1.0, beside=True) is None) is settled
    assert look(doubt, then, 1.0) is not None


def test_lag_becomes_content_ahead_of_its_version_only_beside_the_table() -> None:
    doubt = look(None, Pair(KeyState(2), KeyState(3)), 0.0)
    then = Pair(KeyState(3), KeyState(3), same=False)
    assert look(doubt, then, 1.0, beside=True) is None
    assert look(doubt, then, 1.0) == Doubt("different", then, 1.0, then)


def test_no_version_below_0_is_asked_of_a_key_that_mongodb_did_not_have() -> None:
    """MongoDB had nothing, and neither had SQL, alive: whatever comes is newer."""
    first = Pair(None, KeyState(5, False))
    doubt = Doubt("missing", first, 0.0, first)
    assert look(doubt, Pair(KeyState(0), KeyState(9)), 1.0) is None


HISTORIES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["edit", "delete", "mark"])), max_size=60
)
"""Steps until the next change, and the change: an edit, a row deleted, a row marked as deleted."""


@example(history=[(1, "edit")] * 60, lags=[5], spacing=1)
@example(history=[(1, "edit"), (1, "delete"), (1, "edit"), (1, "mark")] * 15, lags=[6], spacing=3)
@example(history=[(1, "edit"), (1, "delete")] * 30, lags=[5], spacing=2)
@given(history=HISTORIES, lags=st.lists(st.integers(0, 10), min_size=1), spacing=st.integers(1, 5))
def test_lag_is_never_taken_for_a_difference(
    history: list[tuple[int, str]], lags: list[int], spacing: int
) -> None:
    moments = list(accumulate(step for step, _ in history))
    end = (moments[-1] if moments else 0) + 40
    in_sql: list[KeyState | None] = []
    told: list[KeyState | None] = []  # what the event of the last change says
    for now in range(end):
        done = [how for moment, (_, how) in zip(moments, history, strict=True) if moment <= now]
        event = KeyState(len(done), done[-1] == "edit") if done else None
        told.append(event)
        in_sql.append(None if not done or done[-1] == "delete" else event)
    in_mongodb: list[KeyState | None] = []
    reached = 0
    for now in range(end):
        reached = max(reached, now - lags[now % len(lags)])
        in_mongodb.append(told[reached])

    doubt: Doubt | None = None
    for now in range(0, end - 1, spacing):
        doubt = look(doubt, Pair(in_mongodb[now], in_sql[now + 1]), now)
        if doubt is not None:
            assert doubt.kind != "ahead"
            assert now - doubt.since <= 12 + spacing
    assert doubt is None


@given(
    mongodb=st.one_of(st.none(), st.builds(KeyState, st.integers(0, 5), st.booleans())),
    sql=st.one_of(st.none(), st.builds(KeyState, st.integers(0, 5), st.booleans())),
    looks=st.integers(1, 5),
)
def test_what_stays_different_stays_a_doubt(
    mongodb: KeyState | None, sql: KeyState | None, looks: int
) -> None:
    pair = Pair(mongodb, sql)
    doubt: Doubt | None = None
    for now in range(looks):
        doubt = look(doubt, pair, now)
    assert (doubt.kind if doubt else None) == verdict(pair)
    assert doubt is None or doubt.since == 0


# Entities of the log.

_V = 1000
"""Versions of one transaction, of which the last one is that of what was read after it."""


def in_sql(sequence: int, alive: bool = True) -> KeyState:
    """What SQL has at the end of this transaction."""
    return KeyState(sequence * _V + _V - 1, alive, row=alive, least=0)


@pytest.mark.parametrize(
    ("mongodb", "sql", "same", "kind"),
    [
        (KeyState(3 * _V), in_sql(9), True, None),
        (KeyState(5), in_sql(9), None, None),
        (KeyState(3 * _V), in_sql(9), False, "different"),
        (KeyState(-1), in_sql(9), None, "behind"),
        (KeyState(10 * _V), in_sql(9), None, "ahead"),
        (None, in_sql(9), None, "missing"),
        (KeyState(3 * _V, False), in_sql(9), None, "missing"),
        (KeyState(3 * _V), in_sql(9, False), None, "orphan"),
        (KeyState(3 * _V, False), in_sql(9, False), None, None),
        (KeyState(10 * _V), in_sql(9, False), None, "ahead"),
    ],
)
def test_a_row_of_the_log_has_any_version_up_to_that_of_the_look(
    mongodb: KeyState | None, sql: KeyState, same: bool | None, kind: str | None
) -> None:
    assert verdict(Pair(mongodb, sql, same)) == kind


@given(data=st.data())
def test_lag_behind_the_log_is_never_certain_to_be_a_difference(data: st.DataObject) -> None:
    """One key is changed, deleted and made again, and MongoDB follows late."""
    end = 12
    changes: dict[int, str | None] = {0: "loaded"}
    changes |= data.draw(
        st.dictionaries(st.integers(1, end), st.sampled_from(["a", "b", None]), max_size=8)
    )

    def at(sequence: int) -> tuple[int, str | None]:
        last = max(one for one in changes if one <= sequence)
        return last, changes[last]

    doubt: Doubt | None = None
    reached = held = sequence = 0
    for now in range(8):
        # What each side has seen never goes back, and MongoDB is read before SQL.
        reached = data.draw(st.integers(held, end), label="reached")
        held = data.draw(st.integers(reached, end), label="held")
        sequence = data.draw(st.integers(max(held, sequence), end), label="sequence")
        (change, document), (_, row) = at(held), at(sequence)
        pair = Pair(
            KeyState(change * _V, document is not None),
            in_sql(sequence, row is not None),
            None if document is None or row is None else document == row,
        )
        doubt = look_at_log(doubt, pair, float(now), reached * _V + _V - 1)
        assert doubt is None or not doubt.is_certain


@pytest.mark.parametrize(
    "pair",
    [
        Pair(None, in_sql(5)),
        Pair(KeyState(2 * _V), in_sql(5), False),
        Pair(KeyState(2 * _V), in_sql(5, False)),
        Pair(KeyState(9 * _V), in_sql(5)),
        Pair(KeyState(2 * _V, False), in_sql(5)),
    ],
)
def test_a_difference_is_certain_when_mongodb_has_come_to_where_sql_was(pair: Pair) -> None:
    doubt = look_at_log(None, pair, 0.0, 5 * _V + _V - 1)
    assert doubt
    assert not doubt.is_certain

    before = look_at_log(doubt, pair, 1.0, 4 * _V + _V - 1)
    assert before
    assert not before.is_certain
    after = look_at_log(before, pair, 2.0, 5 * _V + _V - 1)
    assert after
    assert after.is_certain


def test_a_key_of_the_log_that_is_edited_all_the_time_is_settled() -> None:
    doubt = look_at_log(None, Pair(KeyState(1 * _V), in_sql(3), False), 0.0, 0)
    doubt = look_at_log(doubt, Pair(KeyState(2 * _V), in_sql(6), False), 1.0, 2 * _V)
    assert doubt
    assert look_at_log(doubt, Pair(KeyState(4 * _V), in_sql(9), False), 2.0, 4 * _V) is None


@given(
    kind=st.sampled_from(sorted(PAIRS)),
    since=st.floats(0, 1e6),
    age=st.floats(0, 1e4),
    wait=st.floats(0, 100),
    lag=st.floats(0, 1e4),
)
@example(kind="missing", since=0.0, age=5.0, wait=5.0, lag=5.0)
@example(kind="missing", since=0.0, age=5.0, wait=5.0, lag=5.1)
@example(kind="missing", since=0.0, age=4.9, wait=5.0, lag=0.0)
def test_only_what_came_before_the_doubt_can_explain_it(
    kind: Kind, since: float, age: float, wait: float, lag: float
) -> None:
    doubt = Doubt(kind, PAIRS[kind], since, PAIRS[kind])

    found = outlasts(doubt, since + age, wait, lag)

    lasted = since + age - since
    assert found.is_certain == (kind in TOLD or (lasted >= wait and lag <= lasted))
    assert (found.kind, found.since, found.first) == (kind, since, doubt.first)
