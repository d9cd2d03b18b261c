"""`python -m bench log` runs, compares what both ways read, and ends with one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_quick_run_reads_the_same_in_both_ways() -> None:
    command = [sys.executable, "-m", "bench", "log", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bench"] == "log"
    cases = {f"{change}_{width}" for change in ("insert", "update", "delete") for width in (6, 23)}
    assert set(found["ratios"]) == {
        "decode_over_library",
        *(f"{case}_over_library" for case in cases),
    }
    assert set(found["figures"]) == {f"{case}_rows_per_s" for case in cases}
    assert min(found["figures"].values()) > 0
