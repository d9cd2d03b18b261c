"""A flip that needs evidence: refused with what is missing, done and noted when it is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.evidence.differences.store import Evidence
from tests.cli.test_cli import bridge
from tests.evidence.differences.notes import note
from tests.proxy.site import TOP, VIEW

RULE = "flips: {require: different<1%}\n"
ROUTES = f'  - {{name: project, path: "/p", handler: "{VIEW}", python: 5%}}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(TOP + ROUTES)
    return path


def compared(file: Path, same: int, different: int = 0, release: str = "r1") -> None:
    evidence = Evidence(file.parent / ".bridge")
    for number in range(same + different):
        kind = "same" if number < same else "different"
        evidence.note(note(kind, release=release, rules=""))
    evidence.close()


def flip(file: Path, share: str, *more: str, expect: int = 0) -> str:
    words = ("flip", "project", share, "--why", "x", "--watch", "0s", *more)
    done = bridge(*words, file=file, expect=expect, BRIDGE_RELEASE="r1")
    return done.stdout + done.stderr


def test_a_flip_is_refused_without_the_evidence_and_says_how_much_is_missing(file: Path) -> None:
    compared(file, 120)
    before = file.read_text()
    said = flip(file, "20%", "--require", "different<0.1%", expect=5)

    assert "0 of 120 compared were different: under 2.5% at 95%; 2,875 more" in said
    assert file.read_text() == before
    assert not (file.parent / "routes.history.jsonl").exists()


def test_with_the_evidence_it_is_done_and_noted(file: Path) -> None:
    compared(file, 300)
    said = flip(file, "20%", "--require", "different<1%")

    noted = "project 0 of 300 compared were different: under 1% at 95% (release r1)"
    assert f"evidence: {noted}" in said
    assert "python: 20%" in file.read_text()
    (entry,) = json.loads(bridge("history", "-o", "json", file=file).stdout)
    assert entry["evidence"] == noted
    assert "Evidence" in bridge("history", file=file).stdout


def test_a_rule_of_routes_yaml_holds_for_every_flip(file: Path) -> None:
    file.write_text(RULE + TOP + ROUTES)
    assert "nothing was compared; 299 that are the same are needed" in flip(file, "6%", expect=5)
    compared(file, 300, release="r0")
    assert "nothing was compared" in flip(file, "6%", expect=5)
    compared(file, 298, 1)
    assert "1 of 299 compared were different" in flip(file, "6%", expect=5)
    compared(file, 1000)

    assert "5% → 6%" in flip(file, "6%")


def test_to_lower_a_share_never_needs_it(file: Path) -> None:
    file.write_text(RULE + TOP + ROUTES)

    assert "5% → 0%" in flip(file, "0%")
    (entry,) = json.loads(bridge("history", "-o", "json", file=file).stdout)
    assert entry["evidence"] == ""


def test_nor_does_it_need_what_was_found_to_be_readable(file: Path) -> None:
    file.write_text(RULE + TOP + ROUTES)
    (file.parent / ".bridge" / "evidence.db").mkdir(parents=True)

    assert "whether there is evidence is not known" in flip(file, "6%", expect=5)
    assert "5% → 0%" in flip(file, "0%")
    done = bridge("flip", "ALL", "0%", "--why", "x", file=file)
    assert "undo: bridgectl flip pages 20%" in done.stdout


def test_the_brave_are_noted(file: Path) -> None:
    file.write_text(RULE + TOP + ROUTES)

    assert "evidence: without" in flip(file, "6%", "--without-evidence")
    (entry,) = json.loads(bridge("history", "-o", "json", file=file).stdout)
    assert entry["evidence"] == "without"


def test_a_rule_that_is_none_is_wrong_usage(file: Path) -> None:
    said = flip(file, "6%", "--require", "different=0", expect=2)

    assert "write for example different<0.1%" in said


def test_a_history_of_an_older_version_is_read(file: Path) -> None:
    old = {"at": "2026-01-01T00:00:00+00:00", "who": "ann", "name": "project", "old": "0%"}
    old |= {"new": "5%", "why": "first", "line": 10, "digest": "abc", "changed": True}
    (file.parent / "routes.history.jsonl").write_text(json.dumps(old) + "\n")
    flip(file, "0%")

    found = json.loads(bridge("history", "-o", "json", file=file).stdout)
    assert [(one["who"], one["evidence"]) for one in found[:1]] == [("ann", "")]
    assert len(found) == 2


def test_routes_shows_what_was_compared_only_where_something_was(file: Path) -> None:
    assert "Compared" not in bridge("routes", file=file).stdout
    compared(file, 299, 1)
    done = bridge("routes", file=file, BRIDGE_RELEASE="r1").stdout

    assert "Under (95%)" in done
    (row,) = [line.split() for line in done.splitlines() if line.startswith("project")]
    assert row[-3:] == ["300", "1", "1.6%"]
    data = json.loads(bridge("routes", "-o", "json", file=file, BRIDGE_RELEASE="r1").stdout)
    assert data["evidence"]["release"] == "r1"
    assert data["evidence"]["routes"]["project"]["same"] == 299
    assert "Compared" not in bridge("routes", file=file, BRIDGE_RELEASE="r2").stdout
