"""A comparison that was stopped goes on where it was, and only if it is the same one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bridge.evidence.answers import Kind
from bridge.evidence.compare.resumed import Resumed


def through(state_dir: Path, parts: Sequence[str], *, afresh: bool = False) -> dict[int, Kind]:
    """What the next run finds."""
    resumed = Resumed.of(state_dir, parts, afresh=afresh)
    resumed.close(whole=False)
    return resumed.through


def test_what_is_through_is_known_to_the_next_run(tmp_path: Path) -> None:
    first = Resumed.of(tmp_path, ["a", "b"])
    first.note(0, Kind.SAME)
    first.note(5, Kind.DIFFERENT)
    first.close(whole=False)
    assert through(tmp_path, ["a", "b"]) == {0: Kind.SAME, 5: Kind.DIFFERENT}


def test_another_comparison_and_a_fresh_one_begin_anew(tmp_path: Path) -> None:
    first = Resumed.of(tmp_path, ["a", "b"])
    first.note(0, Kind.SAME)
    first.close(whole=False)
    assert through(tmp_path, ["a", "c"]) == {}
    assert through(tmp_path, ["a", "b"], afresh=True) == {}


def test_one_that_is_through_leaves_nothing(tmp_path: Path) -> None:
    first = Resumed.of(tmp_path, ["a"])
    first.note(0, Kind.SAME)
    first.close(whole=True)
    assert not any((tmp_path / "compare").iterdir())


def test_a_line_that_was_cut_short_by_a_kill_is_forgotten(tmp_path: Path) -> None:
    first = Resumed.of(tmp_path, ["a"])
    first.note(0, Kind.SAME)
    first.note(1, Kind.NOISE)
    first.close(whole=False)
    for length in range(len(first.path.read_bytes())):
        text = b"0 same\n1 noise\n"[:length]
        first.path.write_bytes(text)
        again = Resumed.of(tmp_path, ["a"])
        assert len(again.through) == text.count(b"\n")
        again.note(2, Kind.LAG)
        again.close(whole=False)
        assert through(tmp_path, ["a"]) == {**again.through, 2: Kind.LAG}


def test_it_is_the_owners_alone(tmp_path: Path) -> None:
    resumed = Resumed.of(tmp_path, ["a"])
    resumed.close(whole=False)
    path = resumed.path
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
