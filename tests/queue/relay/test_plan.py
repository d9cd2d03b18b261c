"""What a relay does with a row: freed only when MongoDB holds it, published only when needed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.queue.relay.plan import DoubtfulRow, Plan, Timing, first, second
from bridge.queue.sql.outbox import Row

NOW = 1_800_000_000_000
TIMING = Timing()


def row(
    id: int = 1,
    *,
    key: str = "vim",
    version: int = 5,
    ago: float | None = None,
    attempts: int | None = None,
) -> Row:
    """A row that was published `ago` seconds ago; None: never."""
    published = None if ago is None else NOW - int(ago * 1000)
    attempts = (0 if ago is None else 1) if attempts is None else attempts
    return Row(id, "project", key, "project.changed", "{}", version, NOW, published, attempts)


def decide(
    one: Row,
    held: int | None = None,
    *,
    oldest: float | None = float("inf"),
    dead: bool = False,
) -> str | float:
    """free, publish, bury, or the seconds by which the row is put off."""
    begun = first([one], {} if held is None else {one.identity: held}, NOW, TIMING)
    made = second(begun.doubtful, oldest=oldest, dead={one.id} if dead else (), timing=TIMING)
    fates: list[str | float] = [seconds for _, seconds in made.postpone]
    fates += ["free" for _ in begun.free] + ["bury" for _ in made.bury]
    fates += ["publish" for _ in (*begun.publish, *made.publish)]
    [fate] = fates
    return fate


@pytest.mark.parametrize(
    ("held", "what"), [(None, "publish"), (4, "publish"), (5, "free"), (6, "free")]
)
def test_a_row_is_free_when_mongodb_holds_its_version_or_a_newer_one(
    held: int | None, what: str
) -> None:
    assert decide(row(), held) == what


@pytest.mark.parametrize("held", [None, 4, 2**57])
def test_a_row_whose_event_is_only_compared_is_published_once(held: int | None) -> None:
    """Whatever MongoDB holds: its versions are another source's."""
    versions = {} if held is None else {("project", "vim"): held}
    new, old = row(1), row(2, ago=3)

    made = first([new, old], versions, NOW, TIMING, compared={"project"})
    assert (made.publish, made.free, made.doubtful) == ([new], [old], [])
    assert first([old], {}, NOW, TIMING, compared={"release"}).free == []


@pytest.mark.parametrize("version", [-1, -(2**63)])
def test_a_version_below_zero_is_not_free_where_mongodb_holds_nothing(version: int) -> None:
    assert decide(row(version=version)) == "publish"


def test_another_entity_of_the_same_key_frees_nothing() -> None:
    made = first([row()], {("release", "vim"): 9}, NOW, TIMING)
    assert made == Plan(publish=[row()])


def test_what_was_just_published_is_looked_at_soon_and_then_less_often() -> None:
    looks = [decide(row(ago=ago)) for ago in (0.0, 1.0, 2.0, 4.0, 8.0)]
    assert looks[:4] == [1.0, 1.0, 2.0, 4.0]
    assert 7.0 < float(looks[4]) <= 8.6


def test_the_queue_is_not_asked_for_what_was_just_published() -> None:
    [doubt] = first([row(ago=3)], {}, NOW, TIMING).doubtful
    assert not doubt.is_due
    looks = [
        second([doubt], oldest=oldest, dead=(), timing=TIMING).postpone
        for oldest in (None, 0.0, float("inf"))
    ]
    assert looks[0] == looks[1] == looks[2] == [(doubt.row, 3.0)]


def test_what_got_lost_is_published_again() -> None:
    assert decide(row(ago=20)) == "publish"


@pytest.mark.parametrize(("attempts", "least"), [(1, 15), (2, 31), (3, 96), (9, 3600)])
def test_and_each_time_later(attempts: int, least: float) -> None:
    assert decide(row(ago=least - 1, attempts=attempts)) not in ("publish", "free")
    assert decide(row(ago=least * 1.1 + 1, attempts=attempts)) == "publish"


def test_a_row_whose_message_may_still_be_queued_is_not_published_again() -> None:
    published = NOW / 1000 - 100
    assert decide(row(ago=100), oldest=published - 1) == 25.0
    assert decide(row(ago=100), oldest=published + 60) == "publish"


@pytest.mark.parametrize(("newer", "fate"), [(0, 25.0), (3, 25.0), (5, 25.0), (5.1, "publish")])
def test_clocks_of_relays_may_differ_by_five_seconds(newer: float, fate: str | float) -> None:
    """An older message may seem to be newer by so much."""
    assert decide(row(ago=100), oldest=NOW / 1000 - 100 + newer) == fate


def test_the_longer_the_workers_are_down_the_less_often_a_row_is_looked_at() -> None:
    looks = [decide(row(ago=ago), oldest=0.0) for ago in (20, 400, 86_400)]
    assert looks == [15.0, 100.0, 300.0]


def test_a_broker_that_cannot_say_gets_it_again() -> None:
    assert decide(row(ago=20), oldest=None) == "publish"


def test_a_dead_letter_is_left_to_a_person() -> None:
    for ago in (0.1, 3, 20, 10**6, -10, -(10**6)):
        assert decide(row(ago=ago), dead=True) == "bury"
        assert decide(row(ago=ago), 9, dead=True) == "free"


@pytest.mark.parametrize("oldest", [0.0, float("inf"), None])
def test_what_was_published_in_the_future_was_not(oldest: float | None) -> None:
    assert decide(row(ago=-365 * 24 * 3600.0), oldest=oldest) == "publish"


@pytest.mark.parametrize(("ago", "fate"), [(-10, 1.0), (-59.9, 1.0), (-60, "publish")])
def test_a_clock_that_went_back_by_less_than_a_minute_only_costs_a_look(
    ago: float, fate: str | float
) -> None:
    assert decide(row(ago=ago)) == fate


def look(since: float, wait: float, timing: Timing = TIMING) -> float | None:
    """Seconds until the next look at a row that was published so long ago; None: it is
    published again, as its message got lost."""
    doubt = DoubtfulRow(row(ago=since), NOW / 1000 - since, since, wait)
    made = second([doubt], oldest=None, dead=(), timing=timing)
    assert len(made.publish) + len(made.postpone) == 1
    return made.postpone[0][1] if made.postpone else None


@pytest.mark.parametrize(
    ("since", "seconds"), [(9.0, 6.1), (14.0, 1.1), (14.75, 0.35), (15.0, None), (16.0, None)]
)
def test_the_last_look_is_just_after_the_row_may_be_published_again(
    since: float, seconds: float | None
) -> None:
    assert look(since, 15.0) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(("since", "seconds"), [(-5.0, 0.2), (0.0, 0.2), (0.5, 0.5), (2.0, 2.0)])
def test_the_first_look_is_after_the_time_of_the_first_look(since: float, seconds: float) -> None:
    assert look(since, 15.0, Timing(first_look=0.2)) == seconds


@pytest.mark.parametrize("again", [15.0, 0.3, 60.0])
@pytest.mark.parametrize(("attempts", "times"), [(0, 1.0), (1, 1.0), (2, 31 / 15), (9, 240.0)])
def test_the_wait_is_in_proportion_to_that_of_the_first_time_and_up_to_a_tenth_longer(
    again: float, attempts: int, times: float
) -> None:
    """So that many rows do not come back as one."""
    rows = [row(id, ago=1, attempts=attempts) for id in range(300)]
    doubtful = first(rows, {}, NOW, Timing(again=again)).doubtful
    waits = [one.wait / (again * times) for one in doubtful]
    assert 0.9999 < min(waits) < 1.02 < 1.08 < max(waits) < 1.1001
    assert {(one.since, one.published) for one in doubtful} == {(1.0, NOW / 1000 - 1)}


def test_rows_are_postponed_together_by_whole_seconds_or_by_tenths_where_it_is_soon() -> None:
    """What is soon is looked at on time; what is late, in one statement with many others."""
    about = {0.04: 0, 0.96: 1, 1.04: 1, 4.44: 4.4, 5.0: 5, 5.44: 5, 5.6: 6, 300.4: 300}
    rows = {seconds: row(id) for id, seconds in enumerate(about)}
    grouped = Plan(postpone=[(one, seconds) for seconds, one in rows.items()]).by_seconds()
    assert grouped == {
        rounded: [rows[seconds] for seconds in about if about[seconds] == rounded]
        for rounded in about.values()
    }


def test_the_times_are_those_that_the_docs_promise_and_whoever_reads_the_log_expects() -> None:
    """A dead relay's rows are others' after 30 seconds, and an event that got lost is sent again
    after 15; rows of dead letters are looked at every ten minutes, the same trouble is logged
    once a minute, and sources that are empty are looked at five times a second."""
    assert (TIMING.lease, TIMING.again) == (30, 15)
    assert (TIMING.dead_look, TIMING.quiet, TIMING.idle) == (600, 60, 0.2)


ROWS = st.builds(
    row,
    st.integers(1, 10**6),
    key=st.sampled_from("abc"),
    version=st.integers(-(2**63), 2**63 - 1),
    ago=st.none() | st.floats(-1e9, 1e9),
    attempts=st.integers(0, 2**31 - 1),
)


@given(
    rows=st.lists(ROWS, unique_by=lambda one: one.id),
    held=st.dictionaries(
        st.tuples(st.just("project"), st.sampled_from("abc")), st.integers(0, 2**63 - 1)
    ),
    oldest=st.none() | st.floats(0, 1e10) | st.just(float("inf")),
    dead=st.booleans(),
)
def test_every_row_has_one_fate_and_no_row_is_freed_that_mongodb_does_not_hold(
    rows: list[Row], held: dict[tuple[str, str], int], oldest: float | None, dead: bool
) -> None:
    begun = first(rows, held, NOW, TIMING)
    letters = {one.id for one in rows} if dead else set[int]()
    made = second(begun.doubtful, oldest=oldest, dead=letters, timing=TIMING)
    fates = Counter(one.id for one in (*begun.free, *begun.publish, *made.publish, *made.bury))
    fates.update(one.id for one, _ in made.postpone)
    assert fates == Counter(one.id for one in rows)
    for one in rows:
        assert (one in begun.free) == (one.identity in held and held[one.identity] >= one.version)
    assert dead or not made.bury
    for one, seconds in made.postpone:
        assert 0 < seconds <= 2 * 3600  # what is further is taken for a wrong clock
        assert one.published_at is not None
