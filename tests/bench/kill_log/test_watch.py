"""What is concluded from the change stream."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bench.kill_log.editor import Made
from bench.kill_log.watch import Seen


def document(key: str, kind: str = "update", /, **values: Any) -> dict[str, Any]:
    """A change of an account."""
    found: dict[str, Any] = {
        "ns": {"coll": "accounts"},
        "documentKey": {"_id": key},
        "operationType": kind,
    }
    if kind == "update":
        return found | {"updateDescription": {"updatedFields": values}}
    return found | {"fullDocument": values}


def log(at: float, sequence: int, **fields: Any) -> dict[str, Any]:
    """The document `log` after a change."""
    return {
        "ns": {"coll": "bridge_state"},
        "documentKey": {"_id": "log"},
        "operationType": "update",
        "wallTime": datetime.fromtimestamp(at, UTC),
        "fullDocument": {"position": {"gtid": f"0-7-{sequence}"}, **fields},
    }


def mark(sequence: int, keys: dict[str, list[Any]] | None = None) -> dict[str, Any]:
    return {"since": f"0-7-{sequence}", "sequence": sequence, "why": "it is so", "keys": keys}


def seen(*changes: dict[str, Any]) -> Seen:
    found = Seen()
    for one in changes:
        found.note(one)
    return found


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ([document("a", "insert", _v=1, n=1), document("a", _v=2, n=2)], 0),
        ([document("a", "insert", _v=2, n=1), document("a", _v=1, n=2)], 1),
        ([document("a", "insert", _v=1, n=2), document("a", _v=2, n=1)], 1),
        ([document("a", "insert", _v=1, n=2), document("a", "replace", _v=2, n=1)], 1),
        ([document("a", "insert", _v=2, n=2), document("b", "insert", _v=1, n=1)], 0),
        ([document("a", "insert", _v=3), document("a", _v=1), document("a", _v=2)], 2),
        ([document("a", "insert", _v=1, n=2), document("a", _v=2), document("a", _v=3, n=1)], 1),
        ([document("a", "insert", _v=1), document("a", "delete")], 1),
        ([log(1, 5), log(2, 4)], 1),
    ],
    ids=[
        "both go up", "the version goes down", "the counter goes down", "it is replaced by less",
        "another key", "one that stays below counts each time", "the counter was away meanwhile",
        "it is removed", "the place in the log goes down",
    ],
)  # fmt: skip
def test_what_goes_backwards_is_counted(changes: list[dict[str, Any]], count: int) -> None:
    assert seen(*changes).backwards == count


WHOLE = Made(5, "truncate", "bulk")
ONE = Made(5, "cascade: delete", "bulk", "owner", "7")


@pytest.mark.parametrize(
    ("made", "moments"),
    [
        (WHOLE, [log(1, 4), log(2, 5, dirty={"bulk": mark(5)})]),
        (WHOLE, [log(1, 4), log(2, 9, dirty={"bulk": mark(8)}), log(3, 9)]),
        (WHOLE, [log(1, 9, loads={"bulk": {"sequence": 5}})]),
        (WHOLE, [log(1, 9, stopped={"bulk": mark(2)})]),
        (ONE, [log(1, 5, dirty={"bulk": mark(5)})]),
        (ONE, [log(1, 5, dirty={"bulk": mark(5, {"owner": [1, 7]})})]),
    ],
)
def test_an_edit_is_marked_when_its_place_is_reached(
    made: Made, moments: list[dict[str, Any]]
) -> None:
    assert seen(*moments).unmarked([made]) == []


@pytest.mark.parametrize(
    ("made", "moments"),
    [
        (WHOLE, []),
        (WHOLE, [log(1, 4, dirty={"bulk": mark(4)})]),
        (WHOLE, [log(1, 5), log(2, 6, dirty={"bulk": mark(6)})]),
        (WHOLE, [log(1, 6, dirty={"bulk": mark(4)})]),
        (WHOLE, [log(1, 6, dirty={"part": mark(6)})]),
        (WHOLE, [log(1, 6, dirty={"bulk": None})]),
        (WHOLE, [log(1, 6, dirty={"bulk": mark(6, {"owner": [7]})})]),
        (WHOLE, [log(1, 6, loads={"bulk": {"sequence": 4}})]),
        (ONE, [log(1, 5, dirty={"bulk": mark(5, {"owner": [1]})})]),
        (ONE, [log(1, 5, dirty={"bulk": mark(5, {"zone": [7]})})]),
    ],
    ids=[
        "nothing was read", "it was never reached", "it came later", "an earlier mark",
        "another entity", "nothing", "some rows for all", "an earlier load", "another value",
        "another field",
    ],
)  # fmt: skip
def test_an_edit_is_not_marked_by_anything_else(made: Made, moments: list[dict[str, Any]]) -> None:
    assert seen(*moments).unmarked([made]) == [made]


def test_a_mark_stands_from_its_first_moment_to_the_one_in_which_it_is_gone() -> None:
    marks = [{"bulk": mark(1)}, {"bulk": mark(2), "part": mark(2)}, {"part": mark(2)}, {}]
    found = seen(*(log(at, at, dirty=one) for at, one in zip((1, 3, 7, 20), marks, strict=True)))

    assert found.healed_after(0) == 17
    assert found.healed_after(18) == 2
    assert found.healed_after(30) == 0
    assert found.unhealed() == []


def test_a_mark_that_stays_stands_to_the_end() -> None:
    found = seen(log(1, 1, dirty={"bulk": mark(1)}), log(9, 2, dirty={"bulk": mark(1)}))

    assert (found.healed_after(0), found.unhealed()) == (8, ["bulk"])
