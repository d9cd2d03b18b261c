"""The checker of the kill loop sees what it must see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stack.kill import KillLoop, Watcher
from stack.mongod import Mongod


def change(key: str, version: int, kind: str = "update") -> dict[str, Any]:
    found: dict[str, Any] = {"documentKey": {"_id": key}, "operationType": kind}
    if kind == "update":
        return found | {"updateDescription": {"updatedFields": {"_v": version}}}
    return found | {"fullDocument": {"_v": version}}


def test_a_version_that_goes_backwards_or_comes_twice_is_counted(tmp_path: Path) -> None:
    watcher = Watcher(Mongod(tmp_path))
    for found in (change("a", 1, "insert"), change("a", 3), change("a", 2), change("a", 3)):
        watcher._note(found)

    assert (watcher.seen, watcher.backwards) == (4, 2)
    assert (watcher.last, watcher.highest) == ({"a": 3}, {"a": 3})


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ({"_v": 3, "value": 7, "text": "x3"}, 0),
        ({"_v": 2, "value": 7, "text": "x3"}, 1),
        ({"_v": 3, "value": 6, "text": "x3"}, 1),
        ({"_v": 3, "value": 7, "text": "x2"}, 1),
        ({"_v": 3, "_del": True}, 1),
        ({}, 1),
    ],
)
def test_a_document_that_is_not_what_the_row_says_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], wrong: int
) -> None:
    loop = KillLoop(tmp_path)
    monkeypatch.setattr(loop, "_sql", lambda *words: [("a", 7, 0, 3)])

    assert loop._different({"a": document} if document else {}) == wrong


def test_a_document_of_which_there_is_no_row_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = KillLoop(tmp_path)
    monkeypatch.setattr(loop, "_sql", lambda *words: [])

    assert loop._different({"a": {"_v": 1}}) == 1
