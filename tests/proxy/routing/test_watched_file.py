"""routes.yaml edited while it is watched: any bytes, any order of saves, any permissions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.watched_file import Fuzz


def run(folder: Path, seed: int, rounds: int) -> None:
    fuzz = Fuzz(folder, seed)
    try:
        for _ in range(rounds):
            fuzz.round()
    finally:
        fuzz.close()


@pytest.mark.parametrize("seed", range(3))
def test_after_any_harm_a_good_file_is_live(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, 12)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(100, 110))
def test_after_much_harm_a_good_file_is_live(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, 150)
