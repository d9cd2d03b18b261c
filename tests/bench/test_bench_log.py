"""`python -m bench log` runs, compares what both ways read, and ends with one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CPU = ("over_none", "over_unread", "of_the_log_itself", "of_triggers")


@pytest.mark.slow
def test_a_quick_run_reads_the_same_in_both_ways_and_mirrors_it() -> None:
    command = [sys.executable, "-m", "bench", "log", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bench"] == "log"
    cases = {f"{change}_{width}" for change in ("insert", "update", "delete") for width in (6, 23)}
    assert set(found["ratios"]) == {
        "decode_over_library",
        *(f"{case}_over_library" for case in cases),
        *(f"{case}_over_relay" for case in cases),
        *(f"db_cpu_{name}{end}" for name in CPU for end in ("", "_writes_only")),
    }
    assert set(found["figures"]) == {
        "rows_per_s",
        *(f"{case}_rows_per_s" for case in cases),
        *(f"{case}_mirrored_per_s" for case in cases),
        *(f"{one}_visible_{p}_ms" for one in ("log", "triggers") for p in ("p50", "p99")),
        *(f"own_edit_added_{p}_ms" for p in ("p50", "p99")),
    }
    assert min(found["figures"]["rows_per_s"], found["figures"]["log_visible_p99_ms"]) > 0
