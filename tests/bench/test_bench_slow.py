"""`python -m bench slow` runs with few visitors; nobody is cut off. Its speed is not tested."""

import json
import resource
import subprocess
import sys
from typing import Any

import pytest

from bench.report import BenchmarkFailed
from bench.slow import Numbers


@pytest.fixture(scope="module")
def quick() -> dict[str, Any]:
    """The JSON object of one quick run."""
    command = [sys.executable, "-m", "bench", "slow", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_nobody_who_keeps_reading_is_cut_off(quick: dict[str, Any]) -> None:
    assert quick["figures"]["cut_off"] == 0


@pytest.mark.slow
def test_everybody_was_there_at_once(quick: dict[str, Any]) -> None:
    """Nobody's page was through before the quick requests were."""
    figures = quick["figures"]
    assert figures["reading"] > 0
    assert figures["waiting"] > figures["waiting_for_php"] > 0
    assert figures["descriptors"] > figures["reading"] + 2 * figures["waiting"]
    assert figures["early"] == 0


@pytest.mark.slow
def test_the_promised_figures_are_there(quick: dict[str, Any]) -> None:
    names = {"rss_mb", "quick_p99_ms", "cut_off", "free_p99_ms", "stuck_p99_ms", "fallback_ms"}
    assert names <= set(quick["figures"])
    assert set(quick["ratios"]) == {"stuck_p99_over_free"}


def test_too_few_descriptors_for_large_pages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (20_000, 20_000))
    numbers = Numbers.fitting(5700, 5700)
    assert numbers.small + numbers.large == 5700
    assert "`ulimit -Hn` is 20000" in numbers.shortage


def test_too_few_descriptors_at_all_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (4096, 4096))
    with pytest.raises(BenchmarkFailed, match=r"4096 descriptors.*raise the limit"):
        Numbers.fitting(5700, 5700)
