"""The guarded write as MongoDB reads it: what replaces what, and which children vanish."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from bridge.queue.events import Event, Rejected
from bridge.sync.guard import BatchResult, Encoded, guarded, make_ready, newer, sweep
from tests.minimal_sync import mirror_of

MISSING = type("missing", (), {})  # a class: its name is the same in every process
DOCUMENT = {"_id": "bash", "_v": 5, "name": "bash", "path": "$PATH", "_at": None}
HELD = [MISSING, None, -1, 0, 4, 4.5, 5, 5.0, 5.5, 6, 2**63 - 1, True, False, "5", b"5", [5], {}]
"""What `_v` of a document may be: also what somebody else has written there."""


def write(version: int = 5, rewrite: bool = False, key: str = "bash") -> Encoded:
    raw = bson.encode({**DOCUMENT, "_id": key, "_v": version})
    return Encoded("projects", key, version, rewrite, RawBSONDocument(raw))


def rank(value: Any) -> tuple[int, Any]:
    """The order of BSON between types, as far as it is needed here."""
    if value is None or value is MISSING:
        return 0, 0
    if isinstance(value, bool):
        return 8, value
    kinds: list[Any] = [int | float, str, dict, list, bytes]
    number = next(n for n, kind in enumerate(kinds) if isinstance(value, kind))
    return number + 1, value if number < 2 else 0


def evaluated(expression: Any, root: Mapping[str, Any]) -> Any:
    """What MongoDB makes of an expression of the pipeline."""
    if isinstance(expression, str) and expression.startswith("$"):
        named = {"$$ROOT": root, "$$NOW": "now"}
        return named[expression] if expression in named else root.get(expression[1:], MISSING)
    if not isinstance(expression, Mapping):
        return expression
    if not any(name.startswith("$") for name in expression):
        return {name: evaluated(value, root) for name, value in expression.items()}
    [(operator, operand)] = expression.items()
    if operator == "$literal":
        return dict(operand) if isinstance(operand, Mapping) else operand
    parts = [evaluated(one, root) for one in operand]
    if operator == "$ifNull":
        return parts[1] if parts[0] in (None, MISSING) else parts[0]
    if operator == "$cond":
        return parts[1] if parts[0] else parts[2]
    if operator == "$mergeObjects":
        return {name: value for one in parts for name, value in one.items()}
    if operator in ("$and", "$or"):
        return all(parts) if operator == "$and" else any(parts)
    left, right = map(rank, parts)
    return {"$lt": left < right, "$eq": left == right, "$ne": left != right}[operator]


def stored(write: Encoded, held: Mapping[str, Any], twin: bool = False) -> Any:
    """The document after the guarded write to one that is there."""
    update = guarded(write, twin=twin)
    assert update._filter == {"_id": write.key}
    assert update._upsert
    [stage] = update._doc
    return evaluated(stage["$replaceWith"], held)


@pytest.mark.parametrize("version", HELD, ids=str)
@pytest.mark.parametrize("deleted", [MISSING, True, False, None], ids=str)
@pytest.mark.parametrize("rewrite", [False, True])
def test_what_the_guard_lets_through_is_what_newer_says(
    version: Any, deleted: Any, rewrite: bool
) -> None:
    """Over everything that may be held, and with what is held compared as MongoDB does."""
    held = {"_id": "bash", "_v": version, "_del": deleted}
    held = {name: value for name, value in held.items() if value is not MISSING}
    one = write(rewrite=rewrite)
    after = stored(one, held)
    assert newer(one, held) == (after != held)
    assert after in (held, {**DOCUMENT, "_at": "now"})


@pytest.mark.parametrize(
    ("version", "deleted", "plain", "rewritten"),
    [
        (MISSING, None, True, True),
        (4, None, True, True),
        (4, True, True, True),
        (5, None, False, True),
        (5, True, False, False),
        (6, None, False, False),
        (True, None, False, False),
        ("4", None, False, False),
    ],
    ids=str,
)
def test_a_newer_version_replaces_and_a_rewrite_the_same_one_too(
    version: Any, deleted: Any, plain: bool, rewritten: bool
) -> None:
    """But never a tombstone, and never what is somebody else's."""
    held = {"_v": version, "_del": deleted} if version is not MISSING else {"_del": deleted}
    assert newer(write(), held) is plain
    assert newer(write(rewrite=True), held) is rewritten


def test_version_0_is_put_where_nothing_is() -> None:
    assert newer(write(0), None)
    assert newer(write(0), {})
    assert stored(write(0), {"_id": "bash"})["_v"] == 0


def test_the_mark_of_a_twin_is_the_key_and_only_there_where_it_is_asked_for() -> None:
    one = write(key="$bash")
    assert stored(one, {}, twin=True)["_twin"] == "$bash"
    assert "_twin" not in stored(one, {})
    assert guarded(one)._doc == guarded(one, twin=False)._doc != guarded(one, twin=True)._doc


CHILDREN = st.lists(st.sampled_from("abcd"), unique=True)


@given(CHILDREN, CHILDREN, st.booleans())
def test_a_sweep_ends_the_children_that_their_parent_no_more_has(
    now: list[str], before: list[str], rewrite: bool
) -> None:
    """What it does not name, is older and is no tombstone yet; and what a rewrite does not name."""
    children = [write(key=key) for key in now]
    update = sweep(write(5, rewrite), children)
    for key in before:
        for version, deleted in ((4, None), (5, None), (6, None), (4, True)):
            held = {"_id": key, "_v": version, "_parent": "bash", "_del": deleted}
            gone = version < 5 or (rewrite and version == 5 and key not in now)
            if rewrite and key in now:
                gone = False
            assert chosen(update._filter, held) == (gone and deleted is not True)
        assert not chosen(update._filter, {"_id": key, "_v": 4, "_parent": "other", "_del": None})


def chosen(query: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """Whether the filter finds the document."""
    for name, wanted in query.items():
        value = held.get(name)
        if not isinstance(wanted, Mapping):
            found = value == wanted
        else:
            [(operator, operand)] = wanted.items()
            found = {
                "$lt": lambda value, operand: value < operand,
                "$lte": lambda value, operand: value <= operand,
                "$ne": lambda value, operand: value is not operand,
                "$nin": lambda value, operand: value not in operand,
            }[operator](value, operand)
        if not found:
            return False
    return True


def test_a_tombstone_of_a_sweep_has_the_version_of_the_parent_and_nothing_of_the_child() -> None:
    [stage] = sweep(write(5), [])._doc
    held = {"_id": "bash/1", "_v": 4, "_parent": "bash", "name": "old"}
    assert evaluated(stage["$replaceWith"], held) == {
        "_id": "bash/1",
        "_v": 5,
        "_del": True,
        "_parent": "bash",
        "_at": "now",
    }


SPLIT = """\
version: 1
max_document: {limit}
entities:
  project:
    collection: projects
    children: {{releases: {{entity: release, key: [version]}}}}
  release: {{collection: releases}}
"""


def event(key: str, **data: Any) -> Event:
    return Event("project", "changed", key, 7, data, rewrite=True)


def test_events_become_encoded_writes_and_the_others_are_told_why(tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, SPLIT.format(limit="64KiB"))
    good = event("bash", name="$PATH", releases=[{"version": 1}, {"version": 2}])
    lost, large = event("vim"), event("emacs", releases=[], text="x" * 65536)
    deep = event("x" * 100, releases=[{"version": 1, "text": "x" * 65536}])
    before = datetime.now(UTC).replace(microsecond=0)

    ready, failed = make_ready(mirror, [lost, good, large, deep])

    [one] = ready
    assert (one.event, one.child_collections) == (good, ("releases",))
    assert (one.own.collection, one.own.key, one.own.version) == ("projects", "bash", 7)
    assert one.own.rewrite
    document = bson.decode(one.own.document.raw)
    assert document.pop("_at").replace(tzinfo=UTC) >= before
    assert document == {"_id": "bash", "_v": 7, "name": "$PATH"}
    assert [child.key for child in one.children] == ["bash/1", "bash/2"]
    assert {child.collection for child in one.children} == {"releases"}
    assert one.own.size == len(bson.encode({**document, "_at": before}))
    assert [found.event for found in failed] == [lost, large, deep]
    assert "data.releases is missing" in failed[0].error
    assert "the document 'emacs' of projects has " in failed[1].error
    assert "bytes, more than 65536" in failed[1].error
    shown = f"the document '{'x' * 76}... of releases has "
    assert failed[2].error.startswith(shown)


@pytest.mark.parametrize("length", [78, 79])
def test_the_name_of_a_document_shows_80_characters_of_a_key(length: int, tmp_path: Path) -> None:
    mirror = mirror_of(tmp_path, SPLIT.format(limit="64KiB"))
    _, [failed] = make_ready(mirror, [event("x" * length, releases=[], text="x" * 65536)])
    shown = repr("x" * 78) if length == 78 else f"'{'x' * 76}..."
    assert failed.error.startswith(f"the document {shown} of projects has ")


def test_a_document_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    plain = event("bash", releases=[], text="")
    [[one], _] = make_ready(mirror_of(tmp_path, SPLIT.format(limit="64KiB")), [plain])
    room = 65536 - one.own.size
    for more, rejected in ((room, 0), (room + 1, 1)):
        filled = event("bash", releases=[], text="x" * more)
        _, failed = make_ready(mirror_of(tmp_path, SPLIT.format(limit="64KiB")), [filled])
        assert len(failed) == rejected


def test_what_bson_cannot_hold_cannot_be_stored(tmp_path: Path) -> None:
    """A hook may give anything."""
    hook = '    hook: "tests.sync.test_guard:odd"\n'
    text = SPLIT.format(limit="64KiB").partition("    children")[0] + hook
    _, [failed] = make_ready(mirror_of(tmp_path, text), [event("bash")])
    assert failed.error.startswith("the document 'bash' of projects cannot be stored: ")


def odd(data: dict[str, Any], event: Event) -> dict[str, Any]:
    """A hook whose document holds what BSON has not."""
    return {"odd": {1, 2}}


COUNTS = st.integers(0, 9)
APPLIED = st.builds(
    BatchResult,
    st.lists(st.sampled_from([event("a"), event("b")]), max_size=2).map(tuple),
    st.lists(st.just(Rejected(event("c"), "why")), max_size=2).map(tuple),
    COUNTS,
    COUNTS,
    COUNTS,
)


@given(APPLIED, APPLIED)
def test_two_batches_come_to_what_both_did(one: BatchResult, other: BatchResult) -> None:
    both = one + other
    for name in BatchResult.__slots__:
        assert getattr(both, name) == getattr(one, name) + getattr(other, name)
    assert one + BatchResult() == one
