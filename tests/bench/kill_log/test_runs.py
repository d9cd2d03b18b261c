"""The kill loop with the log as the source: nothing is lost, and it would be seen if it were."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.kill_log.damage import DAMAGES, damaged
from bench.kill_log.judge import Verdict
from bench.kill_log.loop import LogKillLoop

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_nothing_is_lost_over_five_kills(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    loop = LogKillLoop(tmp_path, 5, seed, calm=8.0, huge=5_000)
    found = loop.run()

    assert not found.faults, (seed, found.faults, found.told)
    assert len(loop.killed) == 5
    # Otherwise the comparison would be of nothing.
    assert loop.editors.tally.edits.total() > 500
    assert loop.watcher.seen.writes > 500
    assert found.marks == found.healed > 20


def names(found: Verdict) -> set[str]:
    """What is not as it must be."""
    wrong = {
        "lost": found.lost,
        "backwards": found.backwards,
        "different": found.different,
        "dead": found.dead,
        "unmarked": found.unmarked,
        "unhealed": found.unhealed,
    }
    return {name for name, one in wrong.items() if one}


SEEN = {
    "no healing": {"unhealed", "different", "lost"},
    "marks taken away": {"different", "lost"},
    "no marks": {"unmarked", "different", "lost"},
    "no foreign keys": {"unmarked", "different", "lost"},
    "changes lost": {"different", "lost"},
    "place before the writing": {"different", "lost"},
    "no guard": {"backwards"},
    "dead letters": {"dead"},
    "a document": {"different", "lost"},
    "a counter": {"backwards"},
    "a row": {"different", "lost"},
}
"""What must be seen of each damage, at least."""


def test_it_is_said_of_each_damage_what_must_be_seen() -> None:
    assert SEEN.keys() == set(DAMAGES)


IN_SHORT = ("marks taken away", "place before the writing")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(one, marks=pytest.mark.slow if one in IN_SHORT else pytest.mark.long)
        for one in DAMAGES
    ],
)
def test_a_damage_is_found(tmp_path: Path, damage: str) -> None:
    loop = LogKillLoop(tmp_path, 0, 1, calm=10.0, huge=2_000, patience=10.0, **damaged(damage))
    found = loop.run()

    assert SEEN[damage] <= names(found), found
    assert found.faults
