"""`python -m bench triggers` runs, counts notes and errors, and ends with one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_quick_run_finds_no_error_that_triggers_make() -> None:
    command = [sys.executable, "-m", "bench", "triggers", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bench"] == "triggers"
    assert found["figures"]["new_errors"] == 0
    assert found["figures"]["cases"] == 4
    assert set(found["ratios"]) == {
        "insert_p50_over_bare",
        "insert_p50_over_bare_worst",
        "insert_p50_over_bare_with_relay",
    }
