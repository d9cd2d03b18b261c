"""What MongoDB keeps of the log is written by two, and neither takes away what the other says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from bridge.sync.log.kept import Dirty, Halted, KeptLog, Tally
from bridge.sync.log.position import Gtid, Position
from bridge.sync.state import Owner

Db = Database[dict[str, Any]]
NAMES = ["project", "release"]


def at(sequence: int, epoch: int = 1) -> Position:
    return Position(epoch, Gtid("0", 7, sequence), "bin.000001", 0, 4 * sequence)


@pytest.fixture
def kept(clean_mongodb: Db) -> KeptLog:
    return KeptLog(clean_mongodb)


@pytest.fixture
def owner(kept: KeptLog) -> Iterator[Owner]:
    """Who reads the log, from a place on."""
    owner = Owner.me()
    kept.begin(at(5), NAMES)
    kept.take(owner, 10)
    yield owner
    kept.release(owner)


def test_of_two_who_begin_at_once_the_first_one_says_where(kept: KeptLog) -> None:
    assert kept.begin(at(5), NAMES)
    assert not kept.begin(at(9), NAMES)

    assert kept.read().position == at(5)


def test_a_later_epoch_takes_the_place_of_an_earlier_one(kept: KeptLog, owner: Owner) -> None:
    kept.loaded("project", 9)
    assert kept.begin(at(2, epoch=2), NAMES)

    found = kept.read()
    assert found.position == at(2, epoch=2)
    assert set(found.halted) == set(NAMES)
    assert not kept.begin(at(3, epoch=1), NAMES)
    # Whoever still reads the old one must not put it back.
    assert not kept.keep(owner, at(8))
    assert kept.keep(owner, at(3, epoch=2))


def test_entities_are_halted_until_they_are_loaded(kept: KeptLog) -> None:
    kept.begin(at(5), NAMES)
    assert kept.read().halted["project"].do == "bridgectl snapshot project"

    assert kept.loaded("project", 5)
    assert set(kept.read().halted) == {"release"}


def test_what_is_newer_than_a_load_stays(kept: KeptLog, owner: Owner) -> None:
    dirty = {"project": Dirty("0-7-9", 9, "TRUNCATE")}
    halted = {"project": Halted("0-7-9", 9, "another table", "do")}
    assert kept.keep(owner, at(9), dirty, halted)

    kept.loaded("project", 8)
    assert kept.read().dirty == dirty
    assert kept.read().halted["project"] == halted["project"]
    kept.loaded("project", 9)
    assert not kept.read().dirty
    assert "project" not in kept.read().halted


def test_what_a_load_has_covered_is_not_said_any_more(kept: KeptLog, owner: Owner) -> None:
    kept.loaded("project", 9)

    for sequence, said in ((9, False), (10, True)):
        kept.keep(
            owner,
            None,
            {"project": Dirty("", sequence, "TRUNCATE")},
            {"project": Halted("", sequence, "another table", "do")},
        )
        found = kept.read()
        assert ("project" in found.dirty) == ("project" in found.halted) == said


def test_an_earlier_load_that_ends_late_takes_nothing_back(kept: KeptLog, owner: Owner) -> None:
    kept.loaded("project", 9)
    kept.loaded("project", 7)

    kept.keep(owner, None, {"project": Dirty("", 8, "TRUNCATE")})
    assert not kept.read().dirty


def test_a_load_needs_a_reader_that_knows_the_entity(kept: KeptLog, owner: Owner) -> None:
    kept.follow(owner, ["project"])

    assert kept.load("project")
    assert not kept.load("release")
    kept.release(owner)
    assert kept.load("release")
    assert kept.read().follows == {"project", "release"}


def test_a_reader_that_does_not_know_it_makes_a_load_void(kept: KeptLog, owner: Owner) -> None:
    kept.follow(owner, ["project"])

    assert not kept.loaded("release", 9)
    assert kept.follow(owner, NAMES) == ["release"]
    assert kept.read().halted["release"].sequence == 5
    assert kept.loaded("release", 9)


def test_an_entity_is_left_when_nobody_follows_it(kept: KeptLog, owner: Owner) -> None:
    assert not kept.leave("release")
    kept.follow(owner, ["project"])
    assert kept.leave("release")
    assert "release" not in kept.read().halted


def test_an_entity_that_nobody_ever_followed_can_be_left(kept: KeptLog) -> None:
    assert kept.leave("release")


def test_what_is_wrong_with_an_entity_of_another_is_forgotten(kept: KeptLog, owner: Owner) -> None:
    """Its marks would be healed with versions of the log's, and visitors would wait for it."""
    dirty = {name: Dirty("0-7-9", 9, "TRUNCATE") for name in NAMES}
    kept.keep(owner, at(9), dirty)

    kept.follow(owner, ["release"])

    found = kept.read()
    assert (set(found.dirty), set(found.halted)) == ({"release"}, {"release"})


def test_a_problem_of_a_place_that_a_load_has_left_is_none(kept: KeptLog, owner: Owner) -> None:
    kept.cannot(owner, "another log", "bridgectl snapshot", epoch=1)
    assert kept.read().problem == "another log"
    kept.begin(at(2, epoch=2), NAMES)

    kept.cannot(owner, "another log", "bridgectl snapshot", epoch=1)

    assert kept.read().problem == ""


def test_one_that_writes_nothing_may_begin_anew(kept: KeptLog, owner: Owner) -> None:
    kept.cannot(owner, "another log", "bridgectl snapshot")

    kept.begin_anew(owner, at(2))
    kept.begin_anew(Owner.me(), at(1))

    assert (kept.read().position, kept.read().problem) == (at(2), "")


def test_what_was_compared_is_added_up(kept: KeptLog, owner: Owner) -> None:
    kept.compared("project", Tally(3))
    assert kept.read().tallies == {"project": Tally(3)}
    kept.compared("project", Tally(4, 1, 2, "vim differs"))
    kept.compared("project", Tally(1))
    kept.compared("release", Tally(1))

    found = kept.read().tallies
    at_ = found["project"].at
    assert at_ is not None
    assert found == {"project": Tally(8, 1, 2, "vim differs", at_), "release": Tally(1)}


def test_of_several_marks_the_first_one_says_since_when() -> None:
    first, later = Dirty("0-7-1", 1, "TRUNCATE", None, 5.0), Dirty("0-7-2", 2, "DROP", None, 9.0)

    assert first.and_(later) == Dirty("0-7-2", 2, "TRUNCATE; DROP", None, 5.0)
