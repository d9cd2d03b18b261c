"""What makes a run fail."""

from __future__ import annotations

from typing import Any

import pytest

from bench.kill_log.editor import Made
from bench.kill_log.judge import HEALED_WITHIN, Verdict, gaps
from bench.kill_log.site import ENTITIES

MIXED = ENTITIES["mixed"]


def document(**others: Any) -> dict[str, Any]:
    return {"_id": "k/1", "a": "k", "b": 1, "note": "so", "n": 3} | others


@pytest.mark.parametrize(
    ("documents", "count"),
    [
        ([document()], 0),
        ([document(n=2)], 1),
        ([document(note=None)], 1),
        ([document(b=2)], 2),
        ([document(), document(b=2)], 1),
        ([], 1),
    ],
    ids=["equal", "older", "another text", "another key", "one too many", "missing"],
)
def test_what_both_sides_do_not_have_alike_is_counted(
    documents: list[dict[str, Any]], count: int
) -> None:
    assert len(gaps(MIXED, [("k", 1, "so", 3)], documents)) == count


@pytest.mark.parametrize(
    "wrong",
    [
        {"lost": 1},
        {"backwards": 1},
        {"different": 1},
        {"dead": 1},
        {"waiting": 1},
        {"differs": 1},
        {"unmarked": [Made(1, "truncate", "bulk")]},
        {"unhealed": ["bulk"]},
        {"healed_after": HEALED_WITHIN + 1},
    ],
    ids=str,
)
def test_each_fault_alone_fails_a_run(wrong: dict[str, Any]) -> None:
    assert Verdict(marks=9, healed=9, healed_after=2.0).faults == []
    assert len(Verdict(marks=9, healed=9, **wrong).faults) == 1
