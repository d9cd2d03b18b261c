"""`python -m bench engine` runs and ends with one JSON object; its speed is not tested."""

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.engine_fronts import FRONTS


@pytest.fixture(scope="module")
def quick() -> subprocess.CompletedProcess[str]:
    """One quick run for all tests here."""
    command = [sys.executable, "-m", "bench", "engine", "--quick"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.fixture
def result(quick: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of its last line."""
    assert quick.returncode == 0, quick.stderr
    found: dict[str, Any] = json.loads(quick.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_ratios_that_have_a_target_are_there(result: dict[str, Any]) -> None:
    assert result["bench"] == "engine"
    assert {
        "engine_over_nginx",
        "engine_over_proxymiddleware",
        "engine_over_aiohttp",
        "engine_500_over_engine",
        "handler_over_gthread",
    } <= set(result["ratios"])
    assert all(ratio > 0 for ratio in result["ratios"].values())


@pytest.mark.slow
def test_heads_that_were_never_seen_before_are_compared_too(result: dict[str, Any]) -> None:
    assert result["ratios"]["engine_unseen_over_nginx_unseen"] > 0


@pytest.mark.slow
def test_each_front_has_its_figures(result: dict[str, Any]) -> None:
    kinds = ("c32_rps", "c32_cpu_us", "c256_rps", "c256_cpu_us", "added_p50_us")
    of_fronts = {f"{front}_{kind}" for front in FRONTS for kind in kinds}
    assert set(result["figures"]) == of_fronts | {"added_p50_us"}


@pytest.mark.slow
def test_the_table_is_above_the_json(quick: subprocess.CompletedProcess[str]) -> None:
    assert "requests/s" in quick.stdout.splitlines()[0]
