"""Everything is killed while PHP edits, and nothing is lost: `python -m bench kill` as a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.kill import KillLoop, Result

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]


def check(result: Result, kills: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{result}")
    assert result.kills.total() == kills
    assert len(result.kills) == 4
    assert (result.stops, result.wipes) == (1, 1)
    assert result.cuts > 0
    assert result.committed > 100
    # Otherwise the comparison below would be of nothing.
    assert result.watched > 100
    assert (result.lost, result.backwards, result.different, result.dead) == (0, 0, 0, 0)


@pytest.mark.slow
def test_nothing_is_lost_over_eight_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(KillLoop(tmp_path, kills=8, silence=2.0).run(), 8, capsys)


@pytest.mark.long
def test_nothing_is_lost_over_sixty_kills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(KillLoop(tmp_path, kills=60).run(), 60, capsys)
